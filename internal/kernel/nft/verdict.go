package nft

import (
	"fmt"
	"strings"
)

// verdict is what ends a rule or is the value of a verdict map.
type verdict struct {
	code  int32
	chain string // of a jump or goto
}

// Verdict codes: NF_DROP and NF_ACCEPT from include/uapi/linux/netfilter.h,
// the others from enum nft_verdicts.
const (
	codeDrop   = 0
	codeAccept = 1
	codeJump   = -3
	codeGoto   = -4
	codeReturn = -5
)

var verdicts = []struct {
	word  string
	code  int32
	chain bool
}{
	{"accept", codeAccept, false}, {"drop", codeDrop, false}, {"return", codeReturn, false},
	{"jump", codeJump, true}, {"goto", codeGoto, true},
}

func parseVerdict(text string) (verdict, error) {
	word, chain, named := strings.Cut(text, " ")
	for _, v := range verdicts {
		if v.word != word || v.chain != named {
			continue
		}
		if named {
			if err := checkName(chain); err != nil {
				return verdict{}, fmt.Errorf("chain: %w", err)
			}
		}
		return verdict{v.code, chain}, nil
	}
	return verdict{}, fmt.Errorf("%q is not a verdict", text)
}

// String is the verdict in nft's syntax.
func (v verdict) String() string {
	for _, w := range verdicts {
		switch {
		case w.code != v.code:
		case w.chain:
			return w.word + " " + v.chain
		default:
			return w.word
		}
	}
	return fmt.Sprintf("verdict %d", v.code)
}
