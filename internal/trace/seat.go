package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// seat is one of those that a flow may go to: a backend, and the numbers that it has in
// a choice.
type seat struct {
	first, last int
	numbered    bool
	theirs      bool           // the client gets it, and no other
	to          netip.AddrPort // zero: the kernel does not say
	member      *model.Member  // nil: nobody that is known
	missing     kstate.Object  // what the kernel should have of it, and has not; nil: nothing
}

// String is a seat in words.
func (c seat) String() string {
	var parts []string
	switch {
	case c.numbered && c.first == c.last:
		parts = append(parts, fmt.Sprintf("number %d: ", c.first))
	case c.numbered:
		parts = append(parts, fmt.Sprintf("numbers %d to %d: ", c.first, c.last))
	}
	if !c.to.IsValid() {
		return strings.Join(append(parts, "no backend"), "")
	}
	parts = append(parts, fmt.Sprintf("%s port %d", c.to.Addr(), c.to.Port()))
	if c.member != nil {
		parts = append(parts, ", "+memberName(c.member))
	}
	return strings.Join(parts, "")
}

// has reports whether a seat has a number.
func (c seat) has(i int) bool { return c.first <= i && i <= c.last }

// memberName is a backend in words.
func memberName(m *model.Member) string {
	name := "sandbox " + m.Sandbox
	if m.Sandbox == "" {
		name = "endpoint " + string(m.Endpoint)
	}
	return name + " on host " + m.Host
}

// seats reads which backends have the numbers below n. Numbers side by side that have
// the same are one.
func (w *walk) seats(s *model.Service, p pool, n int) []seat {
	var list []seat
	for i := range n {
		k := elemKey("inet", p.set, fmt.Sprintf("%s . 0x%08x", p.key, p.mark|uint32(i)))
		c := seat{first: i, last: i, numbered: true}
		if o, lacking := w.lacks(k); lacking {
			c.missing = o
		}
		if e, ok := w.Have[k].(kstate.Elem); ok {
			c.to = target(e.Value)
			c.member = memberAt(s, c.to, p.port)
		}
		if last := len(list) - 1; last >= 0 && list[last].to == c.to && list[last].missing == nil && c.missing == nil {
			list[last].last = i
			continue
		}
		list = append(list, c)
	}
	return list
}

// target reads "10.1.0.3 . 80"; zero if it is something else.
func target(value string) netip.AddrPort {
	addr, port, _ := strings.Cut(value, " . ")
	a, err := netip.ParseAddr(addr)
	p, err2 := model.ParseServicePort(port)
	if err != nil || err2 != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, p.Port)
}

// memberAt returns the backend that serves at an address what is asked for at a port, or
// nil.
func memberAt(s *model.Service, to netip.AddrPort, port uint16) *model.Member {
	for i := range s.Backends {
		if m := &s.Backends[i]; slices.Contains(m.Addrs, to.Addr()) && at(m, port) == to.Port() {
			return m
		}
	}
	return nil
}

// resting tells of the backends that no new flow goes to, and why.
func (w *walk) resting(where string, s *model.Service, is6 bool) {
	told := 0
	for i := range s.Backends {
		m := &s.Backends[i]
		switch {
		case told == maxSeats:
			return
		case m.State == model.MemberDraining:
			w.step(where, "", 0, "%s drains: nothing new goes to it", memberName(m))
		case m.State == model.MemberStopped:
			w.problem(where, "", "%s does not run: nothing goes to it", memberName(m))
		case m.State == model.MemberAway:
			w.problem(where, "", "%s: its host was not heard of lately: nothing new goes to it", memberName(m))
		case m.State == model.MemberStarting:
			w.problem(where, "", "%s has not served yet, its checks say: nothing goes to it", memberName(m))
		case m.State == model.MemberUnhealthy:
			w.problem(where, "", "%s does not serve, its checks say: nothing new goes to it", memberName(m))
		case !m.Addr(is6).IsValid() && !s.DNSRR:
			w.step(where, "", 0, "%s has no %s address: nothing of that family goes to it", memberName(m), family(is6))
		default:
			continue
		}
		told++
	}
}

// maxSeats is how many backends are followed. Each costs a way there and one back.
const maxSeats = 32

// sit follows each way that a flow may go on, tells how they end, and goes on by one: that
// of the backend that was asked about, the client's own if it has one, the first that does
// not come through, or the first.
func (w *walk) sit(where string, s *model.Service, list []seat, try func(*walk, seat)) {
	if w.backend != "" && !w.wanted(where, s, list) {
		return
	}
	var best *walk
	rank := 0
	for i, c := range list {
		own := w.backend != "" && c.member != nil && c.member.Endpoint == w.backend
		if i >= maxSeats && !own && !c.theirs {
			continue
		}
		f := *w
		f.way.Steps = nil
		try(&f, c)
		fate := f.fate()
		w.way.Steps = append(w.way.Steps, Step{Where: where, What: c.String() + fate, Problem: fate != ""})
		if r := worth(own, c.theirs, fate != ""); best == nil || r > rank {
			best, rank = &f, r
		}
	}
	if more := len(list) - maxSeats; more > 0 {
		w.step(where, "", 0, "%d more are not followed", more)
	}
	if best == nil {
		w.stop(where, "", "no backend of %s is to be had by %s", s.Ref(), w.sender())
		return
	}
	best.way.Steps = append(w.way.Steps, best.way.Steps...)
	*w = *best
}

// worth is how much there is to say of a backend.
func worth(own, theirs, fails bool) int {
	switch {
	case own:
		return 3
	case theirs:
		return 2
	case fails:
		return 1
	}
	return 0
}

// wanted reports whether the backend that was asked about is among some, and ends the way
// if not.
func (w *walk) wanted(where string, s *model.Service, list []seat) bool {
	if slices.ContainsFunc(list, func(c seat) bool { return c.member != nil && c.member.Endpoint == w.backend }) {
		return true
	}
	for i := range s.Backends {
		if m := &s.Backends[i]; m.Endpoint == w.backend {
			w.stop(where, "", "%s is not chosen: it is %s", memberName(m), m.State)
			return false
		}
	}
	w.stop(where, "", "%s has no such backend", s.Ref())
	return false
}

// fate is what goes wrong on a way that was walked, or on the answer's; "": nothing.
func (w *walk) fate() string {
	a := w.both()
	switch {
	case !a.There.Arrives:
		return ": does not arrive: " + a.There.Why
	case a.Back != nil && !a.Back.Arrives:
		return ": its answer does not arrive: " + a.Back.Why
	}
	steps := a.There.Steps
	if a.Back != nil {
		steps = slices.Concat(steps, a.Back.Steps)
	}
	if i := slices.IndexFunc(steps, func(s Step) bool { return s.Problem }); i >= 0 {
		return ": arrives, but: " + steps[i].What
	}
	return ""
}
