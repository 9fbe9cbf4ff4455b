package stack

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/model"
)

// What aliases and merge keys can expand a file to.
const (
	maxValues = 1 << 17
	maxMerges = 16 // merge keys inside each other
)

// reader is what all values of a file share.
type reader struct {
	file string
	vars map[string]string
	left int // how many values may be looked at still
}

// value is a node of the file, with the path that errors call it by.
type value struct {
	r  *reader
	n  *yaml.Node
	at string
}

// pair is an entry of a mapping.
type pair struct {
	key  string
	name value // the key's node
	value
}

// where is "FILE:LINE: PATH".
func (v value) where() string {
	text := fmt.Sprintf("%s:%d", v.r.file, v.n.Line)
	if v.at != "" {
		text += ": " + v.at
	}
	return text
}

// fail says what is wrong with the value.
func (v value) fail(format string, args ...any) error {
	return model.Errorf(model.Invalid, v.where(), "", format, args...)
}

// want says what the value should be.
func (v value) want(what string) error {
	n := v.node()
	if n.Kind == yaml.ScalarNode {
		return v.fail("%q: want %s", n.Value, what)
	}
	return v.fail("want %s", what)
}

// node is the value's node itself, where an alias stands for it.
func (v value) node() *yaml.Node {
	if v.n.Kind == yaml.AliasNode {
		return v.n.Alias
	}
	return v.n
}

// empty reports whether nothing is there.
func (v value) empty() bool {
	n := v.node()
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// look counts one value.
func (v value) look() error {
	if v.r.left--; v.r.left < 0 {
		return v.fail("more than %d values", maxValues)
	}
	return nil
}

// text reads a scalar as it is written, with what its variables stand for.
func (v value) text() (string, error) {
	n := v.node()
	if err := v.look(); err != nil {
		return "", err
	}
	if n.Kind != yaml.ScalarNode || v.empty() {
		return "", v.want("a text")
	}
	text, err := expand(n.Value, v.r.vars)
	if err != nil {
		return "", v.fail("%q: %w", n.Value, err)
	}
	return text, nil
}

// truth reads true or false.
func (v value) truth() (bool, error) {
	text, err := v.text()
	if err != nil {
		return false, err
	}
	b, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return false, v.want("true or false")
	}
	return b, nil
}

// choice reads one of a few words.
func (v value) choice(words ...string) (string, error) {
	text, err := v.text()
	if err == nil && !slices.Contains(words, text) {
		err = v.want(strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1])
	}
	return text, err
}

// list reads a sequence. Nothing is an empty one.
func (v value) list() ([]value, error) {
	n := v.node()
	if err := v.look(); err != nil || v.empty() {
		return nil, err
	}
	if n.Kind != yaml.SequenceNode {
		return nil, v.want("a list")
	}
	var out []value
	for i, item := range n.Content {
		x := value{v.r, item, fmt.Sprintf("%s[%d]", v.at, i)}
		if err := x.look(); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// pairs reads a mapping with what it merges. Nothing is an empty one.
func (v value) pairs() ([]pair, error) { return v.merged(0) }

func (v value) merged(depth int) ([]pair, error) {
	n := v.node()
	if err := v.look(); err != nil || v.empty() {
		return nil, err
	}
	switch {
	case n.Kind != yaml.MappingNode:
		return nil, v.want("a mapping")
	case depth > maxMerges:
		return nil, v.fail("more than %d merge keys inside each other", maxMerges)
	}
	var own []pair
	var from []value
	there := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		p, err := v.pair(n.Content[i], n.Content[i+1])
		switch {
		case err != nil:
			return nil, err
		case n.Content[i].ShortTag() == "!!merge":
			from = append(from, p.value)
			continue
		case there[p.key]:
			return nil, p.name.fail("is there twice")
		}
		own, there[p.key] = append(own, p), true
	}
	for _, m := range from {
		more, err := v.merge(m, depth)
		if err != nil {
			return nil, err
		}
		for _, p := range more {
			if !there[p.key] {
				own, there[p.key] = append(own, p), true
			}
		}
	}
	return own, nil
}

// pair makes an entry of two nodes.
func (v value) pair(key, n *yaml.Node) (pair, error) {
	at := key.Value
	if v.at != "" {
		at = v.at + "." + at
	}
	p := pair{key.Value, value{v.r, key, at}, value{v.r, n, at}}
	if key.Kind != yaml.ScalarNode {
		return p, p.name.fail("want a plain key")
	}
	return p, p.look()
}

// merge reads what a merge key brings: a mapping, or a list of them.
func (v value) merge(m value, depth int) (all []pair, err error) {
	sources := []value{m}
	if m.node().Kind == yaml.SequenceNode {
		if sources, err = m.list(); err != nil {
			return nil, err
		}
	}
	for _, s := range sources {
		s.at = v.at
		more, err := s.merged(depth + 1)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// words reads a mapping of texts, or a list of KEY=VALUE.
func (v value) words() (map[string]string, error) {
	out := map[string]string{}
	if v.node().Kind == yaml.SequenceNode {
		items, err := v.list()
		for _, item := range items {
			var text string
			if text, err = item.text(); err != nil {
				break
			}
			k, word, _ := strings.Cut(text, "=")
			if _, twice := out[k]; twice {
				return nil, item.fail("%s: is there twice", k)
			}
			out[k] = word
		}
		return out, err
	}
	all, err := v.pairs()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if out[p.key] = ""; p.empty() {
			continue
		}
		if out[p.key], err = p.text(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
