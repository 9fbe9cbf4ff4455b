package kstate

import (
	"errors"
	"fmt"
	"math"
)

// Rule is a policy rule of ours in the host's namespace, as of ip-rule(8): whose
// mark or port matches looks into Table, or goes on at the rules of priority Goto. One
// with neither does nothing, and is there for others to go on at. Rules of others
// are not told.
type Rule struct {
	Is6      bool
	Priority int // lower ones are asked first; those of the kernel are 0, 32766 and 32767
	// Mark and Mask: of a packet whose mark has these bits. Without Mask it is of
	// all packets.
	Mark, Mask uint32
	Not        bool // of all packets but these
	Port       int  // of packets to this UDP port; 0: to any
	Table      int  // see [Route.Table]
	Goto       int  // a priority, higher than Priority
}

// Key is the family, the priority and whose packets it is for.
func (o Rule) Key() Key { return Key{KindRule, o.match()} }

// On is empty: a table may have no routes.
func (o Rule) On() []Key { return nil }

// String is "rule PRIORITY not fwmark MARK/MASK udp port PORT lookup TABLE", "… goto PRIORITY" or
// "… nop", and "rule6 …" for IPv6.
func (o Rule) String() string {
	switch {
	case o.Goto != 0:
		return fmt.Sprintf("%s goto %d", o.match(), o.Goto)
	case o.Table != 0:
		return fmt.Sprintf("%s lookup %d", o.match(), o.Table)
	}
	return o.match() + " nop"
}

// match is the text of the packets that a rule is for.
func (o Rule) match() string {
	s := "rule"
	if o.Is6 {
		s = "rule6"
	}
	s += fmt.Sprintf(" %d", o.Priority)
	if o.Not {
		s += " not"
	}
	if o.Mask != 0 {
		s += fmt.Sprintf(" fwmark %#x/%#x", o.Mark, o.Mask)
	}
	if o.Port != 0 {
		s += fmt.Sprintf(" udp port %d", o.Port)
	}
	return s
}

// Check says what no kernel can make of it, or what would be another rule.
func (o Rule) Check() error {
	switch {
	case o.Priority < 1 || o.Priority > math.MaxInt32:
		return fmt.Errorf("priority %d: out of range", o.Priority)
	case o.Mark&^o.Mask != 0:
		return fmt.Errorf("mark %#x: has bits that are not in the mask", o.Mark)
	case o.Not && o.Mask == 0:
		return errors.New("not: there is no mark")
	case o.Port < 0 || o.Port > math.MaxUint16:
		return fmt.Errorf("port %d: out of range", o.Port)
	case o.Table != 0 && o.Goto != 0:
		return errors.New("it goes to a table or to a priority, not to both")
	case o.Table < 0 || o.Table > math.MaxInt32:
		return fmt.Errorf("table %d: out of range", o.Table)
	case o.Goto != 0 && (o.Goto <= o.Priority || o.Goto > math.MaxInt32):
		return fmt.Errorf("goto %d: only a higher priority can be gone on at", o.Goto)
	}
	return nil
}
