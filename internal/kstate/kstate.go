// Package kstate describes kernel objects as plain values: what should be
// there (desired) and what is there (observed) are both a Set, Diff compares
// two Sets, and every Object and Op prints as one line close to the syntax of
// ip(8) and nft(8). The text is canonical: two objects are equal exactly when
// their texts are.
//
// The package knows names and shapes, never system calls; package kernel turns
// Ops into netlink messages.
package kstate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind says what an object is. Its order is the rank table of the whole
// system: additions go up the list, deletions go down it, so that nothing is
// made before what it stands on and nothing is removed under something else.
type Kind uint8

// The kinds, in rank order.
const (
	KindNetNS     Kind = iota // a network namespace of ours, by the path it is mounted on
	KindRaise                 // that somebody else's device is up, restored from the journal
	KindLink                  // a network device, with the far end of a veth
	KindOVSBridge             // a bridge of Open vSwitch
	KindSysctl                // a host-wide setting, restored from the journal
	KindAddr                  // an address on a device
	KindRoute                 // a route
	KindRule                  // a policy rule, which says whose packets a table of routes is for
	KindNeigh                 // a neighbour that nobody need ask for
	KindFDB                   // where a hardware address is that a tunnel leads to
	KindShaper                // a rate that a device keeps to
	KindRedirect              // another device that what comes in by one goes through
	KindOVSPort               // a device in a bridge of Open vSwitch
	KindTrunk                 // that the ports of others carry all VLANs of a bridge
	KindHold                  // a host port no other program may bind
	KindTable                 // an nftables table
	KindSet                   // an nftables set or map
	KindChain                 // an nftables chain with all its rules
	KindElem                  // an element of an nftables set or map
	KindGuest                 // a rule of ours in somebody else's nftables chain
	KindFile                  // a small file in our run directory
	KindChoice                // that sockets choose among a service's backends
	KindChooser               // whose sockets do
)

// Key identifies an object: two objects with one Key are two states of the
// same thing.
type Key struct {
	Kind Kind
	ID   string
}

// Object is one kernel object. The concrete types are the exported structs of
// this package; they are values and are never changed once in a Set.
type Object interface {
	// Key returns the object's identity.
	Key() Key
	// String returns the canonical text, one line.
	String() string
	// On returns the keys of the objects this one stands on: it goes away
	// when one of them does. A key need not be in any Set.
	On() []Key
}

// Foreign reports whether o was seen but is not ours. Diff never removes or
// changes a foreign object; a wanted object that equals one is satisfied.
func Foreign(o Object) bool {
	f, ok := o.(interface{ foreign() bool })
	return ok && f.foreign()
}

// Set is a state: objects by key. The zero value of the map cannot be added
// to; start from Set{}.
type Set map[Key]Object

// ConflictError is two different wishes for one object.
type ConflictError struct{ A, B Object }

// Error names both wishes.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("conflict: %q and %q", e.A, e.B)
}

// Add puts objects into s. An object that is there already with the same text
// is no conflict; another text is a *ConflictError and leaves s as it was up
// to that object.
func (s Set) Add(objs ...Object) error {
	for _, o := range objs {
		k := o.Key()
		if old, ok := s[k]; ok && old.String() != o.String() {
			return &ConflictError{old, o}
		}
		s[k] = o
	}
	return nil
}

// Merge adds everything in o to s, with the rules of Add.
func (s Set) Merge(o Set) error {
	for k, obj := range o {
		if old, ok := s[k]; ok && old.String() != obj.String() {
			return &ConflictError{old, obj}
		}
		s[k] = obj
	}
	return nil
}

// Sorted returns the objects in rank order, and by text within a rank.
func (s Set) Sorted() []Object {
	out := make([]Object, 0, len(s))
	for _, o := range s {
		out = append(out, o)
	}
	slices.SortFunc(out, compare)
	return out
}

// String returns the canonical text of the set: a line per object, in rank
// order. Foreign objects are left out.
func (s Set) String() string {
	var b strings.Builder
	for _, o := range s.Sorted() {
		if !Foreign(o) {
			b.WriteString(o.String())
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// rank orders objects of one kind that stand on each other.
func rank(o Object) int {
	switch o := o.(type) {
	case Link:
		switch o.Type {
		case TypeBridge:
		case TypeVLAN:
			return 2 // on what may be ours
		case TypeMacvlan, TypeIPvlan:
			return 3 // on what may be a VLAN
		case TypeVXLAN:
			return 4 // on any of them
		default:
			return 1 // ports after bridges
		}
	case Route:
		if o.Via.IsValid() {
			return 1 // after those on the link, which may lead to the router
		}
	case Rule:
		if o.Goto != 0 {
			return 1 // after what it goes on at
		}
	case Aside:
		return -1 // others' routes go aside before ours is there
	case Sysctl:
		if strings.HasSuffix(o.Name, ".forwarding") {
			return 1 // after accept_ra: turning forwarding on drops advertised routes
		}
	}
	return 0
}

// place is where an object stands in the order in which objects are made.
type place struct {
	key  Key
	rank int
}

func placeOf(o Object) place { return place{o.Key(), rank(o)} }

func (a place) compare(b place) int {
	if c := cmp.Or(int(a.key.Kind)-int(b.key.Kind), a.rank-b.rank); c != 0 {
		return c
	}
	return cmp.Compare(a.key.ID, b.key.ID)
}

// compare orders objects as they are made.
func compare(a, b Object) int { return placeOf(a).compare(placeOf(b)) }
