package server

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// numbered is what the parser says of a line before what is wrong with it.
var numbered = regexp.MustCompile(`^line (\d+): `)

// What the parser says at the line before the one that it means: where a block begins that
// goes on wrong further down, and what is wrong at the line after it.
var (
	blockErrors = []string{"did not find expected key", "did not find expected '-' indicator"}
	lateErrors  = []string{"did not find expected node content", "did not find expected ',' or ']'", "did not find expected ',' or '}'", "did not find expected <document start>"}
)

// malformed is one line about YAML that is none, with the line that is wrong, which the
// parser does not always name: not if it is the first one or has an alias of nothing.
func malformed(text []byte, err error) error {
	reported, what := complaint(err)
	line := max(1, reported)
	switch {
	case slices.Contains(blockErrors, what), strings.HasPrefix(what, "unknown anchor "):
		line = firstWith(text, what)
	case slices.Contains(lateErrors, what):
		line = min(reported+1, len(textLines(text)))
	}
	return fmt.Errorf("not YAML: line %d: %s", line, what)
}

// complaint is what the parser says, and at which line: 0 if it does not say that.
func complaint(err error) (line int, what string) {
	what = strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " ")
	if m := numbered.FindStringSubmatch(what); m != nil {
		line, _ = strconv.Atoi(m[1])
		what = what[len(m[0]):]
	}
	return line, what
}

// firstWith is the line up to which the text has to be read to be wrong in some way.
func firstWith(text []byte, what string) int {
	all := textLines(text)
	return 1 + sort.Search(len(all)-1, func(i int) bool {
		err := yaml.Unmarshal(bytes.Join(all[:i+1], nil), new(yaml.Node))
		if err == nil {
			return false
		}
		_, is := complaint(err)
		return is == what
	})
}

// textLines are those of a text, with their ends. There is one at least.
func textLines(text []byte) [][]byte {
	return slices.Collect(bytes.Lines(append(bytes.TrimRight(text, "\r\n"), '\n')))
}
