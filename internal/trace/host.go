package trace

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// fromHost sends what the host itself does.
func (w *walk) fromHost() {
	host := kstate.NS{}
	if dev, ok := w.is.local(host, w.dst); ok {
		w.setSource(w.dst)
		if w.publish("") {
			return
		}
		w.step(hostName, dev, 0, "%s is its own address: arrived", w.dst)
		w.arrive()
		return
	}
	r, ok := w.choose(hostName, host)
	if !ok {
		return
	}
	if r.Blackhole {
		w.setSource(netip.Addr{})
		w.swallow(r)
		return
	}
	w.setSource(w.is.source(r, w.dst))
	w.routed(r, w.sender()+", ")
	if s := w.served(w.dst); s != nil {
		if _, ok := w.element("inet", "vip"+digit(w.dst.Is6()), w.dst.String()); ok {
			w.stop(hostName, "", "output: chain unsent: %s is %s's, of which the host itself is no client: refused at once", w.dst, s.Ref())
			return
		}
	}
	w.leaveHost(r)
}

// received takes what came to the host by a device.
func (w *walk) received(in string) {
	w.unhide(in)
	if s := w.served(w.dst); s != nil && !w.reply {
		w.call(s, in)
		return
	}
	if !w.publish(in) {
		w.pass(in)
	}
}

// pass takes what came to the host by a device, or "" for what is its own, and whose
// destination is settled.
func (w *walk) pass(in string) {
	host := kstate.NS{}
	if dev, ok := w.is.local(host, w.dst); ok {
		w.input(in, dev)
		return
	}
	if o, lacking := w.lacks(kstate.Sysctl{Name: forwarding(w.dst.Is6())}.Key()); lacking && in != "" {
		w.stop(hostName, "", "missing: %s: the host passes nothing on", o)
		return
	}
	r, marked := w.steered()
	if !marked {
		var ok bool
		if r, ok = w.choose(hostName, host); !ok {
			return
		}
		if r.Blackhole {
			w.swallow(r)
			return
		}
		w.routed(r, "")
	}
	p := w.packet(in, r.Dev)
	if in == "" || w.judge("forward", func(f filter) judgement { return f.forward(p) }) {
		w.rewrite(r, p)
		w.leaveHost(r)
	}
}

// packet is what the firewall is asked about.
func (w *walk) packet(in, out string) packet {
	return packet{in: in, out: out, src: w.src, dst: w.dst, proto: w.proto, dport: w.dport, asked: w.asked, reply: w.reply}
}

func forwarding(is6 bool) string {
	if is6 {
		return "net.ipv6.conf.all.forwarding"
	}
	return "net.ipv4.ip_forward"
}

// unhide gives an answer the address that was rewritten on the way there.
func (w *walk) unhide(in string) {
	if !w.hidden.IsValid() {
		return
	}
	w.step(hostName, in, 0, "connection tracking knows the flow: %s becomes %s again", w.dst, w.hidden)
	w.dst, w.hidden = w.hidden, netip.Addr{}
}

// input is what the firewall says of what is for the host itself.
func (w *walk) input(in, dev string) {
	if w.judge("input", func(f filter) judgement { return f.input(in, w.dst.Is6(), w.reply) }) {
		w.unask()
		w.step(hostName, dev, 0, "%s is the host's own address: arrived", w.dst)
		w.arrive()
	}
}

// judge says what the firewall of ours decides, and where it is not as intended. It
// reports whether the packet may go on.
func (w *walk) judge(hook string, ask func(filter) judgement) bool {
	if o := w.broken; o != nil {
		w.problem(hostName, "", "missing: %s: sealane diff says more", strings.SplitN(o.String(), " {", 2)[0])
	}
	got, want := ask(w.is.rules), ask(w.should.rules)
	if got != want {
		w.problem(hostName, "", "%s is to find: %s", hook, want.said)
	}
	if got.drop {
		w.stop(hostName, "", "%s: %s: dropped", hook, got.said)
		if hint := w.published(); hint != "" && hook == "forward" {
			w.problem(hostName, "", "%s", hint)
		}
		return false
	}
	w.step(hostName, "", 0, "%s: %s%s", hook, got.said, w.others(hook))
	return true
}

// brokenFirewall returns a part of our table's structure that is not as intended, or nil.
func (s *sight) brokenFirewall() kstate.Object {
	for _, o := range s.Want.Sorted() {
		switch o.(type) {
		case kstate.Table, kstate.Chain, kstate.NftSet:
			if _, lacking := s.lacks(o.Key()); lacking {
				return o
			}
		}
	}
	return nil
}

// published lists ports by which a destination that is closed can be reached, or "".
func (w *walk) published() string {
	for _, n := range w.Intent.Networks {
		sb, _ := w.holder(n, w.dst)
		if sb == nil || len(sb.Ports) == 0 {
			continue
		}
		var list []string
		at := "at the host's addresses"
		for _, m := range sb.Ports {
			if !n.Mode(w.dst.Is6()).NAT() {
				at, m.HostIP, m.HostPort = "there", netip.Addr{}, 0
			}
			list = append(list, m.String())
		}
		return fmt.Sprintf("%s is reached %s, by its published ports: %s", sb.Ref(), at, strings.Join(list, ", "))
	}
	return ""
}

// routed says which route was chosen, and what is known of where it leads.
func (w *walk) routed(r kstate.Route, prefix string) {
	text := routeText(r) + " dev " + r.Dev
	if n := w.network(r.Dev); n != nil {
		text += ", " + bridgeOf(n)
	}
	if n, p := w.beyond(w.dst); p != nil {
		if sub, _ := p.Subnet(w.dst.Is6()); sub == r.Dst {
			text += ", " + w.lease(n, p)
		}
	}
	w.step(hostName, "", r.MTU, "%s%s", prefix, text)
}

// bridgeOf says of the bridge of a network whose it is.
func bridgeOf(n *model.Network) string {
	if n.ByOthers() {
		return "another program's bridge, for this host's part of " + n.Ref()
	}
	return "the bridge of " + n.Ref()
}

// lease is what is known of another host's subnet.
func (w *walk) lease(n *model.Network, p *model.Peer) string {
	return fmt.Sprintf("the lease of %s in %s, %s", hostOf(p, w.dst.Is6()), n.Ref(), w.heard(n))
}

// heard is how much what is known of a network's other hosts is worth.
func (w *walk) heard(n *model.Network) string {
	l := w.Leases[n.ID]
	switch since := l.Since.UTC().Format("2006-01-02 15:04:05Z"); {
	case l.InTouch:
		return "in touch with the cluster since " + since
	case l.Since.IsZero():
		return "as last heard"
	default:
		return "as last heard before " + since
	}
}

// hostOf is another host in words.
func hostOf(p *model.Peer, is6 bool) string {
	at := "at " + p.Public(is6).String()
	if !p.Public(is6).IsValid() {
		at = "without an " + family(is6) + " address"
	}
	if p.Name == "" {
		return "the host " + at
	}
	return "host " + p.Name + " " + at
}

// swallow says why a blackhole is where a packet ends.
func (w *walk) swallow(r kstate.Route) {
	n, p := w.beyond(w.dst)
	text := routeText(r)
	var own model.Subnet
	if n != nil {
		own, _ = n.Subnet(w.dst.Is6())
	}
	switch {
	case n == nil:
		w.stop(hostName, "", "%s: dropped", text)
	case n.ByOthers() && p == nil && own.Prefix.Contains(w.dst):
		w.stop(hostName, "", "%s of %s: %s is to be on %s, which has not this host's subnet: dropped", text, n.Ref(), w.dst, n.Device())
	case p == nil:
		w.stop(hostName, "", "%s of %s: no host has a lease of %s: dropped", text, n.Ref(), w.dst)
	default:
		why := fabric.Unreached(n.Fabric, p, w.dst.Is6())
		if why == "" {
			why = "the route to its subnet is not there"
		}
		w.stop(hostName, "", "%s of %s: %s has the lease, and is not reached: %s: dropped", text, n.Ref(), hostOf(p, w.dst.Is6()), why)
	}
}

// rewrite is what postrouting does to the source.
func (w *walk) rewrite(r kstate.Route, p packet) {
	if w.reply {
		w.unask()
		return // the first packet of a flow decided
	}
	if w.lent(p) {
		return
	}
	to, by := w.is.rules.source(p)
	if wantTo, wantBy := w.should.rules.source(p); wantTo != to || wantBy != by {
		w.problem(hostName, "", "postrouting is to find: %s", orUnchanged(wantBy))
	}
	if by == "" {
		w.strays()
		return
	}
	if !to.IsValid() {
		to = w.is.source(kstate.Route{Dst: r.Dst, Via: r.Via, Dev: r.Dev}, w.dst)
	}
	w.step(hostName, "", 0, "postrouting: %s: %s leaves as %s", by, w.src, to)
	w.hidden, w.src = w.src, to
}

func orUnchanged(by string) string {
	if by == "" {
		return "the source stays"
	}
	return by
}

// leaveHost leaves by the device of a route.
func (w *walk) leaveHost(r kstate.Route) {
	l, ok := w.is.links[place{name: r.Dev}]
	if !ok {
		w.stop(hostName, r.Dev, "is not there")
		return
	}
	if n := w.network(r.Dev); n != nil {
		w.ontoBridge(n, l, hop(r, w.dst))
		return
	}
	n, p := w.beyond(w.dst)
	sb, wire := w.child(r.Dev, hop(r, w.dst))
	switch {
	case sb != nil:
		w.stop(hostName, r.Dev, "%s is %s's on %s, driver %s: %s", hop(r, w.dst), sb.Ref(), wire.Ref(), wire.Driver, neverMeet)
	case l.Type == kstate.TypeVXLAN && !l.Other && meshDevice(l.Name):
		w.overMesh(l, hop(r, w.dst))
	case l.Type == kstate.TypeVXLAN && !l.Other:
		w.tunnel(l, hop(r, w.dst), n, p)
	case l.Type.Tunnels() && !l.Other:
		w.handOver(l, n, p)
	default:
		w.unused(r.Dev)
		w.step(hostName, r.Dev, l.MTU, "%s leaves by it to %s", w.src, hop(r, w.dst))
		w.out = r.Dev
		if sub, ok := peerSubnet(p, w.dst.Is6()); ok && sub == r.Dst {
			w.remote(n, p)
			return
		}
		w.arrive()
	}
}

func peerSubnet(p *model.Peer, is6 bool) (netip.Prefix, bool) {
	if p == nil {
		return netip.Prefix{}, false
	}
	return p.Subnet(is6)
}

// ontoBridge goes from the host to what is on a bridge of ours.
func (w *walk) ontoBridge(n *model.Network, l kstate.Link, next netip.Addr) {
	sb, ep := w.holder(n, next)
	f := w.elsewhere(n, next)
	switch {
	case !l.Up:
		w.stop(hostName, l.Name, "is down")
	case ep == nil && f != nil:
		w.across(n, f, next)
	case ep == nil && (n.Options.Adopted || n.Options.Parent != ""):
		w.step(hostName, l.Name, l.MTU, "%s: no container of Sealane's has %s, others on it may", bridgeOf(n), next)
		w.vanish()
	case ep == nil:
		w.stop(hostName, l.Name, "the bridge of %s: %s", n.Ref(), w.nobody(n, next))
	default:
		w.step(hostName, l.Name, l.MTU, "the bridge of %s: %s is %s's", n.Ref(), next, sb.Ref())
		w.deliver(sb, ep, next)
	}
}
