package fake

import (
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// reached returns the chains that packets of somebody else's chain can come
// to, sorted.
func (w *world) reached(from kstate.Chain) []string {
	var out []string
	var visit func(kstate.Chain)
	visit = func(c kstate.Chain) {
		for _, rule := range c.Rules {
			for _, ref := range scan(c.Table, rule) {
				if to, ok := w.others[ref].(kstate.Chain); ok && !slices.Contains(out, to.Name) {
					out = append(out, to.Name)
					visit(to)
				}
			}
		}
	}
	visit(from)
	slices.Sort(out)
	return out
}

// ending says what becomes of packets that no condition of a base chain
// decides.
func (w *world) ending(c kstate.Chain, policy string) kstate.Ending {
	verdict, at := w.end(c, nil)
	switch {
	case verdict == "stop" && at == len(c.Rules)-1:
		return kstate.EndsLast
	case verdict == "stop":
		return kstate.EndsInside
	case verdict == "return" && policy != "accept":
		return kstate.EndsPolicy
	}
	return kstate.EndsOpen
}

// end returns "stop", "accept" or "return", and the rule of c that says so, or -1.
func (w *world) end(c kstate.Chain, seen []string) (string, int) {
	for i, rule := range c.Rules {
		words := strings.Fields(rule)
		for len(words) > 1 && (words[0] == "counter" || words[0] == "log") {
			words = words[1:]
		}
		switch words[0] {
		case "drop", "reject", "queue":
			return "stop", i
		case "accept", "return":
			return words[0], i
		case "jump", "goto":
			to, ok := w.others[kstate.Chain{Table: c.Table, Name: words[1]}.Key()].(kstate.Chain)
			if !ok || slices.Contains(seen, to.Name) {
				continue
			}
			if far, _ := w.end(to, append(seen, c.Name)); far != "return" || words[0] == "goto" {
				return far, -1
			}
		}
	}
	return "return", -1
}
