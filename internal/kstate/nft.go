package kstate

import (
	"strconv"
	"strings"
)

// Table is an nftables table of ours. Everything in it is ours.
type Table struct {
	Family string // "inet" or "bridge"
	Name   string
}

// Key is the family and name.
func (o Table) Key() Key { return Key{KindTable, o.Family + " " + o.Name} }

// On is empty.
func (o Table) On() []Key { return nil }

// String is "table FAMILY NAME".
func (o Table) String() string { return "table " + o.Family + " " + o.Name }

// NftSet is an nftables set, or a map when Data is not empty. Types are nft's
// own names joined with " . ": "inet_proto . inet_service".
type NftSet struct {
	Table    Table
	Name     string
	Type     string // of the key
	Data     string // of the value: a type, "verdict", or "" for a set
	Interval bool   // keys may be prefixes and ranges
}

// Key is the table and name.
func (o NftSet) Key() Key { return Key{KindSet, o.Table.Family + " " + o.Table.Name + " " + o.Name} }

// On is the table.
func (o NftSet) On() []Key { return []Key{o.Table.Key()} }

// String is close to `nft add set`.
func (o NftSet) String() string {
	word, typ := "set", o.Type
	if o.Data != "" {
		word, typ = "map", o.Type+" : "+o.Data
	}
	s := word + " " + o.Table.Family + " " + o.Table.Name + " " + o.Name + " { type " + typ + "; }"
	if o.Interval {
		s = strings.TrimSuffix(s, "}") + "flags interval; }"
	}
	return s
}

// Chain is an nftables chain with all of its rules: we own whole chains, so a
// rule is never told apart by its looks.
type Chain struct {
	Table    Table
	Name     string
	Type     string   // "filter", "nat" or "route" for a base chain, "" for a regular one
	Hook     string   // "prerouting", "input", "forward", "output" or "postrouting"
	Priority int      // nft's number: dstnat is -100, srcnat 100
	Rules    []string // in nft's syntax, as package kernel/nft understands it
}

// Key is the table and name.
func (o Chain) Key() Key { return Key{KindChain, o.Table.Family + " " + o.Table.Name + " " + o.Name} }

// On is the table.
func (o Chain) On() []Key { return []Key{o.Table.Key()} }

// String is the chain as one line of nft's syntax.
func (o Chain) String() string {
	var b strings.Builder
	b.WriteString("chain " + o.Table.Family + " " + o.Table.Name + " " + o.Name + " {")
	if o.Hook != "" {
		b.WriteString(" type " + o.Type + " hook " + o.Hook + " priority " + strconv.Itoa(o.Priority) + ";")
	}
	for _, r := range o.Rules {
		b.WriteString(" " + r + ";")
	}
	b.WriteString(" }")
	return b.String()
}

// Elem is one element of an nftables set or map, in nft's syntax.
type Elem struct {
	Set   *NftSet // where it belongs; shared, never changed
	At    string  // the key: "tcp . 8080"
	Value string  // "10.0.0.2 . 80", "jump to_nat", or "" in a set
}

// Key is the set and the element's own key.
func (o Elem) Key() Key {
	return Key{KindElem, o.Set.Table.Family + " " + o.Set.Table.Name + " " + o.Set.Name + " " + o.At}
}

// On is the set.
func (o Elem) On() []Key { return []Key{o.Set.Key()} }

// String is "element FAMILY TABLE SET { KEY : VALUE }".
func (o Elem) String() string {
	s := "element " + o.Set.Table.Family + " " + o.Set.Table.Name + " " + o.Set.Name + " { " + o.At
	if o.Value != "" {
		s += " : " + o.Value
	}
	return s + " }"
}
