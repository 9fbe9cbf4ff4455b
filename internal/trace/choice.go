package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// What compile/choice.go makes is followed here: a socket of a container that asks for a
// service by TCP has its backend when it connects, and its packets go there as any do. For
// who does not choose the host does, and gives the flow a port by which it knows its answers.

// connect has a socket of a sandbox choose among the backends of the service that is asked
// for, and goes on from there. It reports whether one is chosen: else the host is to.
func (w *walk) connect(from *model.Sandbox) bool {
	s := w.served(w.dst)
	if s == nil || from == nil {
		return false
	}
	asked := model.ServicePort{Port: w.dport, Proto: w.proto}
	if asked.Port == 0 {
		asked = s.Ports[0]
	}
	ns, seen := w.inside(from)
	if asked.Proto != "tcp" || ns.IsHost() || !seen && from.Mode != model.ModeRuntime {
		return false
	}
	c, ok := w.ballot(from.Ref(), netip.AddrPortFrom(w.dst, asked.Port), kstate.Chooser{NS: ns, VNI: w.networkOf(s).Overlay.VNI})
	if !ok {
		return false
	}
	w.proto, w.dport = asked.Proto, asked.Port
	w.step(from.Ref(), "", 0, "connect(2): choice %s: %s", c.At, drawn(c.Turns, len(c.Backends)))
	w.resting(from.Ref(), s, w.dst.Is6())
	w.sit(from.Ref(), s, ballotSeats(s, c), func(f *walk, c seat) { f.led(from, c) })
	return true
}

// ballot returns what the sockets of a namespace choose from, as the kernel has it, and says
// what is not as intended. It reports whether they do.
func (w *walk) ballot(where string, at netip.AddrPort, who kstate.Chooser) (c kstate.Choice, ok bool) {
	key := kstate.Choice{At: at}.Key()
	c, there := w.Have[key].(kstate.Choice)
	want, wanted := w.Want[key].(kstate.Choice)
	_, lacking := w.lacks(who.Key())
	_, chooses := w.Have[who.Key()]
	switch {
	case !there && wanted && (chooses || lacking):
		w.problem(where, "", "connect(2): missing: choice %s: it leads to no backend, and the host is to choose", at)
	case there && lacking:
		w.problem(where, "", "connect(2): missing: chooser id %d: it leads to no backend, and the host is to choose", who.VNI)
	case there && chooses && !wanted:
		w.problem(where, "", "connect(2): choice %s is not to be: the host is to choose", at)
	case there && chooses && c.String() != want.String():
		w.problem(where, "", "connect(2): choice %s is not as it is to be: sealane diff says more", at)
		w.unlisted(where, c, want)
	}
	return c, there && chooses
}

// unlisted names the backends that a choice has and is not to have, and those it lacks.
func (w *walk) unlisted(where string, c, want kstate.Choice) {
	for _, list := range []struct {
		all, but []netip.AddrPort
		what     string
	}{{c.Backends, want.Backends, "leads to %s port %d, and is not to"}, {want.Backends, c.Backends, "is to lead to %s port %d too"}} {
		told := map[netip.AddrPort]bool{}
		for _, a := range list.all {
			if a.IsValid() && !told[a] && len(told) < maxSeats && !slices.Contains(list.but, a) {
				told[a] = true
				w.problem(where, "", "connect(2): "+list.what, a.Addr(), a.Port())
			}
		}
	}
}

// ballotSeats are the backends of a choice. Numbers side by side that have the same are one.
func ballotSeats(s *model.Service, c kstate.Choice) (list []seat) {
	for i, to := range c.Backends {
		if last := len(list) - 1; last >= 0 && list[last].to == to {
			list[last].last = i
			continue
		}
		list = append(list, seat{first: i, last: i, numbered: true, to: to, member: memberAt(s, to, c.At.Port())})
	}
	return list
}

// led sends what a socket sends to the backend that it has; without one it is for the host.
func (w *walk) led(from *model.Sandbox, c seat) {
	if !c.to.IsValid() {
		w.problem(from.Ref(), "", "connect(2): nothing says which backend has number %d: the host is to choose", c.first)
		w.begin(from)
		return
	}
	w.step(from.Ref(), "", 0, "connect(2): %s port %d becomes %s port %d; getpeername(2) says what was asked for", w.dst, w.dport, c.to.Addr(), c.to.Port())
	w.dst, w.dport, w.member = c.to.Addr(), c.to.Port(), c.member
	w.begin(from)
}

// drawn is how one of so many is chosen.
func drawn(turns bool, n int) string {
	switch {
	case n == 1:
		return "there is one"
	case turns:
		return fmt.Sprintf("one of %d after the other, for each flow the next", n)
	}
	return fmt.Sprintf("one of %d by chance, for each flow anew", n)
}

// strays gives a flow that was rewritten for who did not choose a port of its own, if the
// host is to know it by that.
func (w *walk) strays() {
	d := digit(w.dst.Is6())
	if w.proto != "tcp" || !w.asked.IsValid() || !w.is.rules.has("vip"+d, w.asked.Addr().String()) || !w.tellsStrays() {
		return
	}
	w.stray = true
	w.step(hostName, "", 0, "postrouting: the flow gets a port of %s, which no socket has of its own accord: by that its answers are known", compile.StrayPorts)
}

// tellsStrays reports whether chain postrouting gives such ports.
func (w *walk) tellsStrays() bool {
	c, _ := w.Have[chainKey("inet", "postrouting")].(kstate.Chain)
	return slices.ContainsFunc(c.Rules, func(rule string) bool { return strings.HasSuffix(rule, ":"+compile.StrayPorts) })
}

// hostPort is an address and a port as our sets have them.
func hostPort(a netip.AddrPort) string { return fmt.Sprintf("%s . %d", a.Addr(), a.Port()) }
