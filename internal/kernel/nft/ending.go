package nft

import (
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// sure is a rule without a condition: all packets meet its verdict.
type sure struct {
	at   int    // in its chain
	code int32  // of the verdict; whatever stops packets is a drop
	to   string // the chain of a jump or goto
}

// certain counts a rule, and notes it if it has a verdict and no condition.
func (f *flow) certain(exprs attrs) {
	at := f.n
	f.n++
	for _, e, ok := exprs.next(); ok; _, e, ok = exprs.next() {
		data := attrs(attrs(e).find(unix.NFTA_EXPR_DATA))
		switch text(attrs(e).find(unix.NFTA_EXPR_NAME)) {
		case "counter", "log":
			continue
		case "match":
			if text(data.find(unix.NFTA_MATCH_NAME)) == "comment" {
				continue
			}
		case "reject", "queue":
			f.sure = append(f.sure, sure{at: at, code: codeDrop})
		case "target":
			if slices.Contains(stoppers, text(data.find(unix.NFTA_TARGET_NAME))) {
				f.sure = append(f.sure, sure{at: at, code: codeDrop})
			}
		case "immediate":
			verdict := attrs(attrs(data.find(unix.NFTA_IMMEDIATE_DATA)).find(unix.NFTA_DATA_VERDICT))
			if s, ok := decided(at, verdict); ok {
				f.sure = append(f.sure, s)
			}
		}
		return
	}
}

// decided reads a verdict that ends what a chain does with a packet, or nil.
func decided(at int, verdict attrs) (sure, bool) {
	code := verdict.find(unix.NFTA_VERDICT_CODE)
	if code == nil {
		return sure{}, false
	}
	s := sure{at, int32(number(code)), text(verdict.find(unix.NFTA_VERDICT_CHAIN))}
	if s.code > codeAccept { // NF_STOLEN, NF_QUEUE and what belongs to it
		s.code = codeDrop
	}
	return s, s.code >= 0 || s.code == codeReturn || s.to != ""
}

// endsChain says whether expressions make a rule that returns, drops or
// rejects every packet.
func endsChain(exprs attrs) bool {
	f := flow{}
	f.certain(exprs)
	return len(f.sure) == 1 && (f.sure[0].code == codeReturn || f.sure[0].code == codeDrop)
}

// end finds the rule that decides about the packets that no condition of a
// chain does: one with the code of a drop or an accept, or of a return when
// none decides.
func (f flows) end(chain string, seen []string) sure {
	in := f[chain]
	if in == nil || slices.Contains(seen, chain) {
		return sure{code: codeReturn}
	}
	for _, s := range in.sure {
		if s.to == "" {
			return s
		}
		if far := f.end(s.to, append(seen, chain)); far.code != codeReturn || s.code == codeGoto {
			return sure{-1, far.code, ""}
		}
	}
	return sure{code: codeReturn}
}

// ending finds out what becomes of the packets that a filter does not know.
func (f flows) ending(of kstate.Filter) kstate.Ending {
	switch end := f.end(of.Chain, nil); {
	case end.code == codeDrop && end.at == f[of.Chain].n-1:
		return kstate.EndsLast
	case end.code == codeDrop:
		return kstate.EndsInside
	case end.code == codeReturn && of.Policy != "accept":
		return kstate.EndsPolicy
	}
	return kstate.EndsOpen
}

// reached lists the chains that packets of a chain can come to.
func (f flows) reached(chain string) []string {
	var out []string
	var visit func(string)
	visit = func(name string) {
		if f[name] == nil {
			return
		}
		for _, next := range f[name].next {
			if !slices.Contains(out, next) {
				out = append(out, next)
				visit(next)
			}
		}
	}
	visit(chain)
	slices.Sort(out)
	return out
}
