package model

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// What one command of ip or tc made, another takes away without repeating all its
// words: `ip route del 10.0.0.0/8` is enough for what `ip route add 10.0.0.0/8 via
// 192.0.2.1 dev eth1` made. Which of several things the kernel takes is its own
// choice in places, so only what is plain is recognised; a command that is not
// stays noted, and is repeated after those before it, with the same result.

// thing is what a command is about.
type thing struct {
	object string            // route, rule, qdisc or class
	called string            // what no two things of a namespace share; "" for a rule, which has no name
	words  map[string]string // what else is said of it, by keyword
}

// without returns chores without those that made what c takes away, and whether
// there were such.
func (c Chore) without(chores []Chore) (left []Chore, undone bool) {
	if !c.Removes() {
		return chores, false
	}
	gone, is := c.thing()
	plain := is && gone.plainIn(chores)
	left = slices.DeleteFunc(slices.Clone(chores), func(made Chore) bool {
		return plain && gone.tookWith(made) || !plain && c.inverts(made)
	})
	return left, len(left) < len(chores)
}

// inverts reports whether c is the inverse of one that makes something, word by word.
func (c Chore) inverts(made Chore) bool {
	_, i := c.verb()
	same := slices.Clone(c)
	same[i] = "del"
	inverse, ok := made.Inverse()
	return ok && slices.Equal(same, inverse)
}

// plainIn reports whether chores made one thing that t's words mean. Of what has a
// name the last command says how it is.
func (t thing) plainIn(chores []Chore) bool {
	var last thing
	count := 0
	for _, c := range chores {
		if object, _ := c.object(); object != t.object || !c.makes() {
			continue
		}
		made, ok := c.thing()
		switch {
		case !ok:
			return false // who knows what it made
		case !t.means(made):
			continue
		case c.besides():
			return false
		}
		last = made
		count++
	}
	return count > 0 && t.saidOf(last) && (t.called != "" || count == 1)
}

// means reports whether another thing is the one that t's words mean.
func (t thing) means(other thing) bool {
	return other.object == t.object && other.called == t.called && (t.called != "" || t.saidOf(other))
}

// saidOf reports whether all that t says is said of another.
func (t thing) saidOf(other thing) bool {
	for k, v := range t.words {
		if other.words[k] != v {
			return false
		}
	}
	return true
}

// tookWith reports whether what a command made goes with t: t itself, and all that
// hangs below a queueing discipline at the root, or for what comes in.
func (t thing) tookWith(c Chore) bool {
	if !c.makes() {
		return false
	}
	made, ok := c.thing()
	if ok && t.means(made) {
		return true
	}
	dev, place, _ := strings.Cut(t.called, " ")
	object, _ := c.object()
	below := object != t.object || strings.Contains(made.called, " parent ")
	if t.object != "qdisc" || c[0] != "tc" || !below || strings.HasPrefix(place, "parent ") {
		return false
	}
	i := slices.Index(c, "dev")
	return i > 0 && i+1 < len(c) && c[i+1] == dev && c.incoming() == (place != "root")
}

// incoming reports whether a class, a filter or the like is not below a device's root.
func (c Chore) incoming() bool {
	if slices.Contains(c, "ingress") || slices.Contains(c, "egress") {
		return true
	}
	i := slices.Index(c, "parent")
	return i > 0 && i+1 < len(c) && strings.HasPrefix(c[i+1], "ffff:")
}

func (c Chore) makes() bool {
	v, _ := c.verb()
	return begins(v, makes)
}

// besides reports whether a command makes a second thing of the same name: of two
// routes to one destination either may be meant.
func (c Chore) besides() bool {
	v, _ := c.verb()
	return strings.HasPrefix(v, "ap") || strings.HasPrefix(v, "p")
}

// thing reads what a command is about.
func (c Chore) thing() (thing, bool) {
	_, i := c.verb()
	if i < 0 {
		return thing{}, false
	}
	words := c[i+1:]
	switch object, _ := c.object(); object {
	case "route":
		return readRoute(words, slices.Contains(c, "-6"))
	case "rule":
		return readRule(words, slices.Contains(c, "-6"))
	case "qdisc", "class":
		return readQueue(object, words)
	}
	return thing{}, false
}

// Keywords of ip-route(8) and ip-rule(8) that have a value, by what they are called
// here, and the words that stand alone.
var (
	routeWords = map[string]string{
		"via": "via", "dev": "dev", "src": "src", "scope": "scope", "proto": "proto", "protocol": "proto",
		"metric": "metric", "preference": "metric", "priority": "metric", "table": "table", "tos": "tos", "dsfield": "tos",
		"mtu": "mtu", "advmss": "advmss", "initcwnd": "initcwnd", "initrwnd": "initrwnd", "hoplimit": "hoplimit",
	}
	routeTypes = []string{"unicast", "local", "broadcast", "multicast", "throw", "unreachable", "prohibit", "blackhole", "anycast"}
	ruleWords  = map[string]string{
		"from": "from", "to": "to", "iif": "iif", "dev": "iif", "oif": "oif", "fwmark": "fwmark", "table": "table", "lookup": "table",
		"pref": "pref", "preference": "pref", "priority": "pref", "order": "pref", "tos": "tos", "dsfield": "tos",
		"ipproto": "ipproto", "sport": "sport", "dport": "dport", "uidrange": "uidrange",
	}
)

// readRoute reads [TYPE] [to] PREFIX and keywords. The kernel tells routes apart by
// destination, table, type of service and metric (fib_table_delete in
// net/ipv4/fib_trie.c).
func readRoute(words []string, is6 bool) (thing, bool) {
	t := thing{object: "route", words: map[string]string{}}
	if len(words) > 0 && slices.Contains(routeTypes, words[0]) {
		t.words["type"], words = words[0], words[1:]
	}
	if len(words) > 0 && words[0] == "to" {
		words = words[1:]
	}
	if len(words) == 0 {
		return t, false
	}
	dst := destination(words[0], is6)
	if words = slices.DeleteFunc(slices.Clone(words[1:]), func(w string) bool { return w == "onlink" }); !t.read(words, routeWords) {
		return t, false
	}
	if t.words["table"] == "main" || t.words["table"] == "254" {
		delete(t.words, "table")
	}
	t.called = strings.Join([]string{dst, t.words["table"], t.words["tos"], t.words["metric"]}, " ")
	return t, true
}

// destination is a prefix in one form for all ways to write it.
func destination(text string, is6 bool) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	switch p, err := netip.ParsePrefix(text); {
	case err == nil:
		return p.String()
	case text != "default" && text != "0/0":
		return text
	case is6:
		return "::/0"
	}
	return "0.0.0.0/0"
}

// readRule reads keywords. Rules have no names: the kernel takes the first that all
// that is said is true of (fib_nl_delrule in net/core/fib_rules.c).
func readRule(words []string, is6 bool) (thing, bool) {
	t := thing{object: "rule", words: map[string]string{}}
	if !t.read(words, ruleWords) {
		return t, false
	}
	maps.DeleteFunc(t.words, func(k, v string) bool { return v == "all" && (k == "from" || k == "to") })
	t.words["family"] = map[bool]string{false: "4", true: "6"}[is6]
	return t, len(t.words) > 1
}

// read reads keywords, each with its value, and reports false for one that is not known.
func (t thing) read(words []string, known map[string]string) bool {
	for i := 0; i < len(words); i += 2 {
		key := known[words[i]]
		if key == "" || i+1 == len(words) || t.words[key] != "" {
			return false
		}
		t.words[key] = words[i+1]
	}
	return true
}

// readQueue reads what tc(8) calls a queueing discipline, which has its place at a
// device, or a class, which has its number; then the kind, and what that takes.
func readQueue(object string, words []string) (thing, bool) {
	t := thing{object: object, words: map[string]string{}}
	place := ""
	for len(words) > 0 && t.words["kind"] == "" {
		w := words[0]
		words = words[1:]
		switch w {
		case "root", "ingress", "clsact":
			place = w
			continue
		case "dev", "parent", "handle", "classid":
			if len(words) == 0 {
				return t, false
			}
			t.words[w], words = words[0], words[1:]
		default:
			t.words["kind"] = w
		}
	}
	switch {
	case object == "class":
		place = t.words["classid"]
	case t.words["parent"] != "" && place == "":
		place = "parent " + t.words["parent"]
	}
	t.called = t.words["dev"] + " " + place
	return t, t.words["dev"] != "" && place != ""
}
