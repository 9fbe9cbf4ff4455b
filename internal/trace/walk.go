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

// hostName is how steps on this host say where they are.
const hostName = "host"

// walk is a packet on its way. Each of its methods takes it one place further, and
// calls the next one or ends the way.
type walk struct {
	*sight
	src, dst     netip.Addr
	proto        string // "": none in particular
	sport, dport uint16 // 0: none in particular
	reply        bool   // an answer to a packet that arrived
	way          Way

	// What was rewritten on the way there, for the answer: whose address the source was,
	// and where the destination.
	hidden  netip.Addr
	asked   netip.AddrPort
	stray   bool          // the source has a port by which the host knows the answers
	backend model.ID      // of a service, whose way is to be told; "": any
	mark    string        // of the flow, which says to which host it goes by the mesh; "": to none
	member  *model.Member // the backend that was chosen; nil: none, or nobody that is known

	end  *model.Sandbox  // where it arrived; nil: the host, or elsewhere
	lost bool            // it went where nothing is known of, and whence nothing comes through the host
	out  string          // the host's device that it left by; "": it did not leave
	peer *model.Peer     // of network far, to whose host it went
	mate *model.Far      // on network far, to which it went on another host
	host *model.MeshHost // to which it went by the mesh
	far  *model.Network
}

func (w *walk) step(where, dev string, mtu int, format string, args ...any) {
	w.way.Steps = append(w.way.Steps, Step{Where: where, Device: dev, MTU: mtu, What: fmt.Sprintf(format, args...)})
	w.fits(mtu)
}

// fits notes the largest packet that passes.
func (w *walk) fits(mtu int) {
	if mtu > 0 && (w.way.MTU == 0 || mtu < w.way.MTU) {
		w.way.MTU = mtu
	}
}

// problem is a step at which something is wrong.
func (w *walk) problem(where, dev, format string, args ...any) {
	w.way.Steps = append(w.way.Steps, Step{Where: where, Device: dev, What: fmt.Sprintf(format, args...), Problem: true})
}

// stop ends the way short of its destination.
func (w *walk) stop(where, dev, format string, args ...any) {
	w.problem(where, dev, format, args...)
	w.way.Why = fmt.Sprintf(format, args...)
}

// arrive ends the way.
func (w *walk) arrive() { w.way.Arrives = true }

// vanish ends the way where this host has no say, nor of an answer.
func (w *walk) vanish() { w.lost, w.way.Arrives = true, true }

// answer walks back from where w arrived.
func (w *walk) answer() Way {
	b := &walk{sight: w.sight, src: w.dst, dst: w.src, proto: w.proto, sport: w.dport, reply: true, hidden: w.hidden, asked: w.asked, stray: w.stray}
	b.way.Dst = w.src
	switch {
	case w.out == "":
		b.begin(w.end)
	case w.peer != nil:
		b.way.Src = b.src
		b.comeFrom(w.far, w.peer, w.out)
	case w.mate != nil:
		b.way.Src = b.src
		b.comeAcross(w.far, w.mate)
	case w.host != nil:
		b.way.Src = b.src
		b.comeByMesh(w.host, w.out)
	default:
		b.way.Src = b.src
		b.step(hostName, w.out, b.linkMTU(w.out), "the answer of %s to %s comes in by it, if the others' routes lead here", b.src, b.dst)
		b.received(w.out)
	}
	return b.way
}

// begin sends the packet from a sandbox, or from the host.
func (w *walk) begin(sb *model.Sandbox) {
	if sb == nil || sb.Mode == model.ModeHost {
		w.fromHost()
		return
	}
	ns, seen := w.inside(sb)
	where := sb.Ref()
	switch {
	case !seen && sb.Mode == model.ModeRuntime:
		w.fromUnseen(sb)
		return
	case !seen:
		w.stop(where, "", "its network namespace is gone")
		return
	}
	if dev, ok := w.is.local(ns, w.dst); ok {
		w.setSource(w.dst)
		w.step(where, dev, 0, "%s is its own address: arrived", w.dst)
		w.end = sb
		w.arrive()
		return
	}
	r, ok := w.choose(where, ns)
	if !ok {
		return
	}
	w.setSource(w.is.source(r, w.dst))
	l, ok := w.is.links[place{ns, r.Dev}]
	if !ok {
		w.stop(where, r.Dev, "the interface is not there")
		return
	}
	w.step(where, r.Dev, l.MTU, "%s, %s", w.sender(), routeText(r))
	w.fits(r.MTU)
	w.leaveSandbox(sb, r, l)
}

// sender is the source as it is said.
func (w *walk) sender() string {
	if !w.src.IsValid() {
		return "no address"
	}
	return w.src.String()
}

// setSource notes the source where it was not given.
func (w *walk) setSource(a netip.Addr) {
	if !w.src.IsValid() {
		w.src = a
	}
	w.way.Src = w.src
}

// choose returns the route that the kernel chooses, and says where intent has another.
func (w *walk) choose(where string, ns kstate.NS) (kstate.Route, bool) {
	r, ok := w.is.route(ns, w.dst)
	if want, wanted := w.should.route(ns, w.dst); wanted && (!ok || want.String() != r.String()) {
		w.missing(where, want)
	}
	if !ok {
		w.stop(where, "", "no route to %s%s", w.dst, w.shutIn(ns))
	}
	return r, ok
}

// shutIn says that a sandbox has no way out because none is wanted, or "".
func (w *walk) shutIn(ns kstate.NS) string {
	var names []string
	for _, sb := range w.Intent.Sandboxes {
		if ns.IsHost() || !sb.Live() || compile.NS(sb) != ns {
			continue
		}
		for i := range sb.Endpoints {
			n := w.Intent.Networks[sb.Endpoints[i].Network]
			if !n.Internal {
				return ""
			}
			names = append(names, n.Ref())
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return ": " + strings.Join(slices.Compact(names), ", ") + ": internal, without a way out"
}

// missing says what the way that is wanted lacks.
func (w *walk) missing(where string, want kstate.Route) {
	if o, lacking := w.lacks(want.Key()); lacking {
		w.problem(where, want.Dev, "missing: %s", bare(o))
		return
	}
	for _, a := range w.should.addrs[want.NS] {
		if o, lacking := w.lacks(a.Key()); lacking && a.Dev == want.Dev && a.Prefix.Masked() == want.Dst {
			w.problem(where, want.Dev, "missing: %s", bare(o))
			return
		}
	}
	w.problem(where, want.Dev, "%s is to be used, and another route is", routeText(want))
}

// bare is an object's text without the namespace, which the step says.
func bare(o kstate.Object) string {
	switch o := o.(type) {
	case kstate.Route:
		o.NS = kstate.NS{}
		return o.String()
	case kstate.Addr:
		o.NS = kstate.NS{}
		return o.String()
	}
	return o.String()
}

// routeText is a route in words.
func routeText(r kstate.Route) string {
	to := r.Dst.String()
	if r.Dst.Bits() == 0 {
		to = "default"
	}
	switch {
	case r.Blackhole:
		return "route " + to + " blackhole"
	case r.Via.IsValid():
		return "route " + to + " via " + r.Via.String()
	}
	return "route " + to + " on the link"
}

// fromUnseen starts at the host's end of a sandbox whose namespace is a container
// engine's, and was not looked into.
func (w *walk) fromUnseen(sb *model.Sandbox) {
	ep := compile.Gateway(sb, w.Intent.Networks, w.dst.Is6())
	for i := range sb.Endpoints {
		if sb.Endpoints[i].Reaches(w.dst) {
			ep = &sb.Endpoints[i]
			break
		}
	}
	if ep == nil {
		w.stop(sb.Ref(), "", "no network of it leads to %s", w.dst)
		return
	}
	if a, ok := ep.Addr(w.dst.Is6()); ok {
		w.setSource(a.Addr())
	}
	n := w.Intent.Networks[ep.Network]
	r := kstate.Route{Dev: ep.IfName}
	if !ep.Reaches(w.dst) {
		r.Via = compile.Router(ep, n, w.dst.Is6())
	}
	w.step(sb.Ref(), ep.IfName, 0, "%s; its namespace is not seen from here", w.sender())
	w.leaveBy(ep, n, r)
}

// leaveSandbox goes through the far end of an interface.
func (w *walk) leaveSandbox(sb *model.Sandbox, r kstate.Route, l kstate.Link) {
	for i := range sb.Endpoints {
		if ep := &sb.Endpoints[i]; ep.IfName == r.Dev {
			w.leaveBy(ep, w.Intent.Networks[ep.Network], r)
			return
		}
	}
	if l.Type == kstate.TypeLoopback {
		w.stop(sb.Ref(), r.Dev, "leads nowhere")
		return
	}
	w.step(sb.Ref(), r.Dev, 0, "not of a network of ours: where it leads is not known here")
	w.vanish()
}

// leaveBy comes out at the host's end of an endpoint.
func (w *walk) leaveBy(ep *model.Endpoint, n *model.Network, r kstate.Route) {
	if !n.Bridged() {
		w.onWire(n, r)
		return
	}
	l, ok := w.port(ep)
	if ok {
		w.bridge(n, l, hop(r, w.dst))
	}
}

// port returns the host's end of an endpoint, and ends the way if it is not in order.
func (w *walk) port(ep *model.Endpoint) (kstate.Link, bool) {
	dev := ep.Device()
	l, ok := w.is.links[place{name: dev}]
	want := w.should.links[place{name: dev}]
	switch {
	case !ok:
		w.stop(hostName, dev, "missing: the host's end of %s", ep.IfName)
		return l, false
	case !l.Up:
		w.stop(hostName, dev, "is down")
		return l, false
	case l.Master != want.Master:
		w.stop(hostName, dev, "is a port of %s, and to be one of %s", orNothing(l.Master), orNothing(want.Master))
		return l, false
	}
	w.step(hostName, dev, l.MTU, "the host's end of %s, a port of %s", ep.IfName, l.Master)
	return l, true
}

func orNothing(dev string) string {
	if dev == "" {
		return "no bridge"
	}
	return dev
}

// linkMTU is that of a device of the host's; 0: it is not there.
func (w *walk) linkMTU(dev string) int { return w.is.links[place{name: dev}].MTU }

// bridge finds who has the next address of those on a bridge.
func (w *walk) bridge(n *model.Network, from kstate.Link, next netip.Addr) {
	dev := n.Device()
	l, ok := w.is.links[place{name: dev}]
	if !ok || !l.Up {
		w.stop(hostName, dev, "the bridge of %s is not there, or down", n.Ref())
		return
	}
	if from.Master != dev {
		w.step(hostName, from.Master, w.linkMTU(from.Master), "a further bridge of %s, behind the first", n.Ref())
	}
	if w.is.on(kstate.NS{}, dev, next) {
		w.step(hostName, dev, l.MTU, "the bridge of %s, where %s is the host's", n.Ref(), next)
		w.received(dev)
		return
	}
	if w.should.on(kstate.NS{}, dev, next) {
		w.stop(hostName, dev, "missing: address %s: nobody answers for it", next)
		return
	}
	if w.diverted(n, next) {
		return
	}
	if s := w.service(n, next); s != nil {
		w.asks(n, s, from, next)
		return
	}
	sb, ep := w.holder(n, next)
	f := w.elsewhere(n, next)
	parted := from.Isolated && w.isolated(n, ep)
	switch {
	case ep == nil && f == nil && (n.Options.Adopted || n.Options.Parent != "" || n.Wired()):
		w.step(hostName, dev, l.MTU, "%s: no container of Sealane's has %s, others on it may", bridgeOf(n), next)
		w.vanish()
	case ep == nil && f == nil:
		w.stop(hostName, dev, "the bridge of %s: %s", n.Ref(), w.nobody(n, next))
	case parted && (!l.ProxyARP || from.Type == kstate.TypeVXLAN):
		w.stop(hostName, dev, "the ports are isolated: icc=false of %s keeps its containers apart", n.Ref())
	case parted:
		w.step(hostName, dev, l.MTU, "the ports are isolated (icc=false of %s): the bridge answers for %s, so that the host judges", n.Ref(), next)
		w.received(dev)
	case ep == nil:
		w.across(n, f, next)
	default:
		w.step(hostName, dev, l.MTU, "the bridge of %s: %s is %s's", n.Ref(), next, sb.Ref())
		w.deliver(sb, ep, next)
	}
}

// isolated reports whether the port of a bridge that leads to an endpoint is kept from
// others; nil: to one on another host.
func (w *walk) isolated(n *model.Network, ep *model.Endpoint) bool {
	dev := n.Trunk()
	if ep != nil {
		dev = ep.Device()
	}
	return w.is.links[place{name: dev}].Isolated
}

// nobody says that an address of a network is not there now.
func (w *walk) nobody(n *model.Network, a netip.Addr) string {
	for _, sb := range w.Intent.Sandboxes {
		for ep := range sb.On(n.ID) {
			if has, ok := ep.Addr(a.Is6()); ok && has.Addr() == a {
				return fmt.Sprintf("%s is %s's, which does not run", a, sb.Ref())
			}
		}
	}
	if s := w.service(n, a); s != nil {
		return fmt.Sprintf("%s is %s's, which only containers on %s ask", a, s.Ref(), n.Ref())
	}
	if n.Overlay != nil {
		return fmt.Sprintf("nobody on it has %s, here or on another host, %s", a, w.heard(n))
	}
	return "nobody on it has " + a.String()
}

// deliver goes into the sandbox that has the next address.
func (w *walk) deliver(sb *model.Sandbox, ep *model.Endpoint, next netip.Addr) {
	l, ok := w.port(ep)
	if !ok {
		return
	}
	if next != w.dst {
		w.step(sb.Ref(), ep.IfName, l.MTU, "is the router to %s: where it sends it is not known here", w.dst)
		w.vanish()
		return
	}
	ns, seen := w.inside(sb)
	if _, has := w.is.local(ns, w.dst); seen && !has {
		w.stop(sb.Ref(), ep.IfName, "has not the address %s", w.dst)
		return
	}
	mtu, text := l.MTU, "%s: arrived"
	if !seen {
		mtu, text = 0, "%s: arrived; its namespace is not seen from here"
	}
	w.step(sb.Ref(), ep.IfName, mtu, text, w.dst)
	w.end = sb
	w.arrive()
}
