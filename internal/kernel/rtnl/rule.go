package rtnl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// What a rule does, enum of linux/fib_rules.h, and that it is for all packets but
// those that match.
const (
	ruleLooksUp   = 1 // FR_ACT_TO_TBL
	ruleGoesOn    = 2 // FR_ACT_GOTO
	ruleDoesNone  = 3 // FR_ACT_NOP
	ruleInvert    = 2 // FIB_RULE_INVERT
	sizeofRuleHdr = 12

	fraPortMask = 29 // FRA_DPORT_MASK, since Linux 6.15
)

// planRule queues an op on a rule. The kernel finds a rule to remove by what is given of
// it, and takes the first that fits. It keeps rules of one priority in the order in which
// they came, and takes one that is there already: so what is there is asked first.
func (p *pass) planRule(op int, change kstate.Op) error {
	r := change.Object().(kstate.Rule)
	if change.New != nil {
		if err := r.Check(); err != nil {
			return err
		}
	}
	if err := p.askRules(); change.New == nil && errors.Is(err, kernel.ErrUnsupported) {
		return nil
	} else if err != nil {
		return err
	}
	var stale []kstate.Rule
	for _, have := range p.rules {
		if selection(have) == selection(r) && (change.New == nil || have != r) {
			stale = append(stale, have)
		}
	}
	if change.New != nil && !slices.Contains(p.rules, r) {
		p.addRule(op, r)
	}
	for _, have := range stale { // only now: packets find one or the other
		p.dropRule(op, have)
	}
	return nil
}

// selection is what two states of one rule have in common, as their keys have.
func selection(r kstate.Rule) kstate.Rule {
	r.Table, r.Goto = 0, 0
	return r
}

// askRules finds out which rules of ours are there, once per round.
func (p *pass) askRules() (err error) {
	if p.rules == nil {
		p.rules, err = p.c.sock.rules(context.Background())
		p.rules = slices.Grow(p.rules, 1) // not nil
	}
	return err
}

// addRule queues the making of a rule, which is the last of its priority.
func (p *pass) addRule(op int, r kstate.Rule) {
	p.host().add(op, ruleMessage(unix.RTM_NEWRULE, unix.NLM_F_CREATE, r))
	p.rules = append(p.rules, r)
}

// dropRule queues the removal of a rule that is there. Others that the kernel takes for
// it go before and are made again.
func (p *pass) dropRule(op int, r kstate.Rule) {
	var wrong []kstate.Rule
	for i := 0; i < len(p.rules); {
		have := p.rules[i]
		if !takenFor(have, r) {
			i++
			continue
		}
		p.host().addForgiving(op, ruleMessage(unix.RTM_DELRULE, 0, r), errAbsent)
		p.rules = slices.Delete(p.rules, i, i+1)
		if have == r {
			break
		}
		wrong = append(wrong, have)
	}
	for _, have := range wrong {
		p.addRule(op, have)
	}
}

// takenFor reports whether the kernel takes a rule for the one to be removed (rule_find in
// net/core/fib_rules.c): it does not look at Not nor Goto, nor at what is zero.
func takenFor(have, r kstate.Rule) bool {
	return have.Is6 == r.Is6 && have.Priority == r.Priority && action(have) == action(r) &&
		(r.Table == 0 || have.Table == r.Table) && (r.Mark == 0 || have.Mark == r.Mark) && (r.Mask == 0 || have.Mask == r.Mask) &&
		(r.Port == 0 || have.Port == r.Port)
}

func action(r kstate.Rule) uint8 {
	switch {
	case r.Goto != 0:
		return ruleGoesOn
	case r.Table != 0:
		return ruleLooksUp
	}
	return ruleDoesNone
}

// ruleMessage is about a rule of ours.
func ruleMessage(typ, flags uint16, r kstate.Rule) *message {
	var how uint32
	if r.Not {
		how = ruleInvert
	}
	m := newMessage(typ, flags).rule(ruleFamily(r), action(r), how)
	m.u32(unix.FRA_PRIORITY, uint32(r.Priority)).u8(unix.FRA_PROTOCOL, protocol)
	if r.Mask != 0 {
		m.u32(unix.FRA_FWMARK, r.Mark).u32(unix.FRA_FWMASK, r.Mask)
	}
	if r.Port != 0 {
		m.u8(unix.FRA_IP_PROTO, unix.IPPROTO_UDP).attr(unix.FRA_DPORT_RANGE, portRange(r.Port))
	}
	switch {
	case r.Goto != 0:
		m.u32(unix.FRA_GOTO, uint32(r.Goto))
	case r.Table != 0:
		m.u32(unix.FRA_TABLE, uint32(r.Table))
	}
	return m
}

// portRange is one port as a struct fib_rule_port_range, which begins and ends with it.
func portRange(port int) []byte {
	return native.AppendUint16(native.AppendUint16(nil, uint16(port)), uint16(port))
}

func ruleFamily(r kstate.Rule) uint8 {
	if r.Is6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// rules lists ours, in the kernel's order.
func (s *socket) rules(ctx context.Context) ([]kstate.Rule, error) {
	request := func() *message { return newMessage(unix.RTM_GETRULE, 0).rule(unix.AF_UNSPEC, 0, 0) }
	all, err := dump(ctx, s, request, parseRule)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return all, nil
}

// policy adds the host's rules. A kernel may know none.
func (v *view) policy() error {
	all, err := v.host.sock.rules(v.ctx)
	if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
		return err
	}
	for _, r := range all {
		v.objs = append(v.objs, r)
	}
	return nil
}

// parseRule reads the body of an RTM_NEWRULE. Ours say so, and have nothing that a
// [kstate.Rule] has not.
func parseRule(b []byte) (kstate.Rule, bool) {
	if len(b) < sizeofRuleHdr || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 || b[1]|b[2]|b[3] != 0 {
		return kstate.Rule{}, false
	}
	r, ours, strange := kstate.Rule{Is6: b[0] == unix.AF_INET6, Not: native.Uint32(b[8:])&ruleInvert != 0}, false, false
	var table, target int
	var proto uint8
	attrs(b[sizeofRuleHdr:], func(typ uint16, v []byte) {
		switch typ {
		case unix.FRA_PRIORITY:
			r.Priority = int(u32(v))
		case unix.FRA_FWMARK:
			r.Mark = u32(v)
		case unix.FRA_FWMASK:
			r.Mask = u32(v)
		case unix.FRA_TABLE:
			table = int(u32(v))
		case unix.FRA_IP_PROTO:
			proto = u8(v)
		case unix.FRA_DPORT_RANGE:
			if len(v) >= 4 && native.Uint16(v) == native.Uint16(v[2:]) {
				r.Port = int(native.Uint16(v))
			} else {
				strange = true
			}
		case fraPortMask:
			strange = strange || len(v) < 2 || native.Uint16(v) != 0xffff // all of it
		case unix.FRA_GOTO:
			target = int(u32(v))
		case unix.FRA_PROTOCOL:
			ours = u8(v) == protocol
		case unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_SUPPRESS_IFGROUP:
			strange = strange || u32(v) != ^uint32(0) // none
		default:
			strange = true
		}
	})
	strange = strange || (proto == unix.IPPROTO_UDP) != (r.Port != 0) || proto != unix.IPPROTO_UDP && proto != 0
	switch b[7] {
	case ruleLooksUp:
		r.Table = table
	case ruleGoesOn:
		r.Goto = target
	case ruleDoesNone:
	default:
		strange = true
	}
	return r, ours && !strange
}
