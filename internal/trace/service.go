package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Services are followed as compile/service.go makes them: the client asks for the name,
// the bridge's own tunnel device answers for the address, the host rewrites it to that of
// a backend, and what that answers comes up to the host again. Where sockets choose that is
// before all of it: choice.go.

// service returns the service of an overlay network that has an address, or nil.
func (s *sight) service(n *model.Network, a netip.Addr) *model.Service {
	if n.Overlay == nil {
		return nil
	}
	i := slices.IndexFunc(n.Overlay.Services, func(s *model.Service) bool { return slices.Contains(s.VIPs, a) })
	if i < 0 {
		return nil
	}
	return n.Overlay.Services[i]
}

// served returns the service that has an address on a network that is on this host, or nil.
func (s *sight) served(a netip.Addr) *model.Service {
	for _, n := range s.Intent.Networks {
		if found := s.service(n, a); found != nil && !n.Absent() {
			return found
		}
	}
	return nil
}

// networkOf returns the network of a service, or nil.
func (s *sight) networkOf(service *model.Service) *model.Network {
	for _, n := range s.Intent.Networks {
		if n.Overlay != nil && slices.ContainsFunc(n.Overlay.Services, func(o *model.Service) bool { return o.ID == service.ID }) {
			return n
		}
	}
	return nil
}

// vip chooses the address of a service that a sandbox, or the host, asks for it at.
func vip(from *model.Sandbox, s *model.Service) netip.Addr {
	for _, is6 := range []bool{false, true} {
		for _, a := range s.VIPs {
			if a.Is6() == is6 && speaks(from, is6) {
				return a
			}
		}
	}
	return netip.Addr{}
}

// resolve asks for a service by its name. It reports whether there is an answer with an
// address to go to. The host, which has no such resolver, is taken to know it.
func (w *walk) resolve(from *model.Sandbox, s *model.Service) bool {
	n := w.networkOf(s)
	switch {
	case n == nil || from == nil || from.Mode == model.ModeHost:
		return true
	case from.Endpoint(n.ID) == nil:
		w.stop(from.Ref(), "", "nobody on its networks is called %s: %s is of %s", s.Name, s.Ref(), n.Ref())
		return false
	}
	by := "its resolver"
	if from.Mode == model.ModeOwn || from.Resolver {
		by = compile.Resolver.String()
	}
	if !s.DNSRR {
		w.step(from.Ref(), "", 0, "asks %s for %s: %s", by, s.Name, addrList(s.VIPs))
		return true
	}
	var ready []netip.Addr
	for i := range s.Backends {
		if m := &s.Backends[i]; m.State == model.MemberReady {
			ready = append(ready, m.Addrs...)
		}
	}
	if len(ready) == 0 {
		w.resting(from.Ref(), s, false)
		w.stop(from.Ref(), "", "asks %s for %s: no backend is ready: the answer is empty", by, s.Name)
		return false
	}
	w.step(from.Ref(), "", 0, "asks %s for %s: the addresses of the backends that are ready: %s", by, s.Name, addrList(ready))
	return true
}

// straight goes to a backend of a service whose name means its backends.
func (w *walk) straight(from *model.Sandbox, s *model.Service) {
	if w.dport == 0 {
		w.proto, w.dport = s.Ports[0].Proto, s.Ports[0].Port
	}
	var list []seat
	for i := range s.Backends {
		m := &s.Backends[i]
		a := m.Addr(false)
		if !a.IsValid() || !speaks(from, false) {
			a = m.Addr(true)
		}
		if m.State == model.MemberReady && a.IsValid() && speaks(from, a.Is6()) {
			list = append(list, seat{member: m, to: netip.AddrPortFrom(a, at(m, w.dport))})
		}
	}
	w.resting(placeName(from), s, false)
	w.sit(placeName(from), s, list, func(f *walk, c seat) {
		f.dst, f.dport, f.way.Dst = c.to.Addr(), c.to.Port(), c.to.Addr()
		f.begin(from)
	})
}

// at is the port where a backend serves what is asked for at another.
func at(m *model.Member, port uint16) uint16 {
	if m.Port != 0 {
		return m.Port
	}
	return port
}

// asks sends what is for a service's address from a network's bridge up to the host: the
// device to the other hosts answers for it, with the bridge's hardware address.
func (w *walk) asks(n *model.Network, s *model.Service, from kstate.Link, a netip.Addr) {
	dev := n.Device()
	l := w.is.links[place{name: dev}]
	parted := from.Isolated && w.isolated(n, nil)
	switch {
	case parted && (!l.ProxyARP || a.Is6()): // which is for IPv4 only
		w.stop(hostName, dev, "the ports are isolated: icc=false of %s keeps its containers apart", n.Ref())
		return
	case parted:
		w.step(hostName, dev, l.MTU, "the ports are isolated (icc=false of %s): the bridge answers for %s, so that the host judges", n.Ref(), a)
		w.received(dev)
		return
	}
	w.step(hostName, dev, l.MTU, "the bridge of %s: %s is %s's", n.Ref(), a, s.Ref())
	trunk, ok := w.trunk(n)
	if !ok {
		return
	}
	mac, ok := w.answers(trunk, a)
	switch {
	case !ok:
		return
	case mac != l.MAC:
		w.stop(hostName, dev, "is %s, and not %s: what is for %s does not come up to the host", l.MAC, mac, a)
		return
	}
	w.step(hostName, dev, 0, "%s is its own hardware address: up to the host", mac)
	w.received(dev)
}

// call has the host choose a backend for what came by a device.
func (w *walk) call(s *model.Service, in string) {
	if w.dport == 0 {
		w.proto, w.dport = s.Ports[0].Proto, s.Ports[0].Port
	}
	d := digit(w.dst.Is6())
	key := flowKey(w.dst, w.proto, w.dport)
	if _, ok := w.element("inet", "vip"+d, w.dst.String()); !ok {
		w.stop(hostName, "", "prerouting: nothing rewrites %s: no backend gets it", w.dst)
		return
	}
	number, ok := w.element("inet", "service"+d, key)
	var verdict string
	if ok {
		verdict, ok = w.element("inet", "pick", number)
	}
	if !ok {
		w.resting(hostName, s, w.dst.Is6())
		w.stop(hostName, "", "chain refuse: %s: refused at once", w.unserved(s))
		return
	}
	chain := strings.TrimPrefix(verdict, "goto ")
	w.step(hostName, "", 0, "prerouting: chain service%s: %s port %d/%s: %s", d, w.dst, w.dport, w.proto, verdict)
	if w.sound("inet", "prerouting", "service"+d, chain, "rewrite") {
		w.choice(s, pool{chain: chain, set: "backend" + d, key: key, port: w.dport}, in)
	}
}

// unserved is why nothing is chosen for a packet.
func (w *walk) unserved(s *model.Service) string {
	asked := model.ServicePort{Port: w.dport, Proto: w.proto}
	ready := slices.ContainsFunc(s.Backends, func(m model.Member) bool { return m.State == model.MemberReady && m.Addr(w.dst.Is6()).IsValid() })
	switch n := w.networkOf(s); {
	case n != nil && n.Options.NoICC:
		return fmt.Sprintf("icc=false of %s keeps its containers apart, and %s's backends from them", n.Ref(), s.Ref())
	case !slices.Contains(s.Ports, asked):
		var has []string
		for _, p := range s.Ports {
			has = append(has, p.String())
		}
		return fmt.Sprintf("%s has no port %s, but %s", s.Ref(), asked, strings.Join(has, ", "))
	case !ready:
		return s.Ref() + " has no backend that is ready"
	}
	return fmt.Sprintf("nothing says how many backends port %s of %s has", asked, s.Ref())
}

// pool is where backends are chosen from.
type pool struct {
	chain, set string // which leaves a number, and which says what backend has it
	key        string // in the set, before the number
	mark       uint32 // besides the number
	port       uint16 // of the service
}

// maxChoice is how many a chain chooses from, as compile has it.
const maxChoice = 4096

// choice has a chain leave a number, and a map say which backend has it.
func (w *walk) choice(s *model.Service, p pool, in string) {
	chain := p.chain
	kind := strings.TrimRight(chain, "0123456789")
	n, err := strconv.Atoi(chain[len(kind):])
	if err != nil || n < 1 || n > maxChoice {
		w.stop(hostName, "", "chain %s: how it chooses is not known here", chain)
		return
	}
	list := w.seats(s, p, n)
	if kind == "hash" && n > 1 {
		i := hashed(w.src, n)
		w.step(hostName, "", 0, "chain %s: one of %d by the client's address: %s gets number %d", chain, n, w.src, i)
		for j := range list {
			list[j].theirs = list[j].has(i)
		}
	} else {
		w.step(hostName, "", 0, "chain %s: %s", chain, drawn(kind == "turn", n))
	}
	w.resting(hostName, s, w.dst.Is6())
	w.sit(hostName, s, list, func(f *walk, c seat) { f.rewriteTo(c, in) })
}

// rewriteTo gives a packet the destination of a number, for the rest of its way.
func (w *walk) rewriteTo(c seat, in string) {
	if c.missing != nil {
		w.problem(hostName, "", "missing: %s", c.missing)
	}
	if !c.to.IsValid() {
		by := "chain refuse: "
		if w.served(w.dst) == nil {
			by = "on the host nobody listens: "
		}
		w.stop(hostName, "", "%snothing says which backend has number %d: refused at once", by, c.first)
		return
	}
	w.member = c.member
	w.turn("rewrite", c.to, in)
}

// turn gives a packet another destination, and notes which it had.
func (w *walk) turn(chain string, to netip.AddrPort, in string) {
	w.step(hostName, "", 0, "chain %s: %s port %d becomes %s port %d", chain, w.dst, w.dport, to.Addr(), to.Port())
	w.asked = netip.AddrPortFrom(w.dst, w.dport)
	w.dst, w.dport = to.Addr(), to.Port()
	w.pass(in)
}

// unask gives an answer the address that was asked for.
func (w *walk) unask() {
	if !w.asked.IsValid() {
		return
	}
	w.step(hostName, "", 0, "connection tracking knows the flow: %s port %d becomes %s port %d again", w.src, w.sport, w.asked.Addr(), w.asked.Port())
	w.src, w.sport, w.asked = w.asked.Addr(), w.asked.Port(), netip.AddrPort{}
}

// flowKey is an address, protocol and port as our sets have them.
func flowKey(a netip.Addr, proto string, port uint16) string {
	return fmt.Sprintf("%s . %s . %d", a, proto, port)
}
