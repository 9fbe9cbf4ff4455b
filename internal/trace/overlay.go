package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// elsewhere returns the endpoint on another host that has an address of an overlay
// network, or nil.
func (s *sight) elsewhere(n *model.Network, a netip.Addr) *model.Far {
	if n.Overlay == nil {
		return nil
	}
	i := slices.IndexFunc(n.Overlay.Far, func(f *model.Far) bool { return slices.Contains(f.Addrs, a) })
	if i < 0 {
		return nil
	}
	return n.Overlay.Far[i]
}

// unused says that an address outside is of a network of which nothing is on this host,
// so that the packet leaves past it.
func (w *walk) unused(dev string) {
	for _, n := range w.Intent.Networks {
		if sub, ok := n.Subnet(w.dst.Is6()); ok && n.Absent() && sub.Prefix.Contains(w.dst) {
			w.problem(hostName, dev, "%s is of %s, on which nobody is on this host: it has no way there", w.dst, n.Ref())
		}
	}
}

// across goes from a network's bridge to its endpoint on another host.
func (w *walk) across(n *model.Network, f *model.Far, next netip.Addr) {
	dev := n.Device()
	w.step(hostName, dev, w.linkMTU(dev), "the bridge of %s: %s is %s's on host %s, %s", n.Ref(), next, mateName(f), f.Host, w.heard(n))
	if f.HostGone {
		w.problem(hostName, dev, "host %s was not heard of lately", f.Host)
	}
	switch {
	case f.Stopped:
		w.stop(hostName, dev, "%s on host %s does not run", mateName(f), f.Host)
		return
	case !f.At.IsValid():
		w.stop(hostName, dev, "host %s has no %s, by which this one could reach it", f.Host, known(n))
		return
	}
	l, ok := w.trunk(n)
	if !ok {
		return
	}
	mac, ok := w.answers(l, next)
	if !ok {
		return
	}
	if to, ok := w.forwarded(l, f, mac); ok && w.outer(l, to) {
		w.out, w.mate, w.far = l.Name, f, n
		w.handed(f, to, next)
	}
}

// known is what a host of a network needs so that others send to it.
func known(n *model.Network) string {
	if n.Options.Encrypted {
		return "key"
	}
	return family(n.Overlay.Local.Is6()) + " address"
}

// trunk returns the device that leads to a network's other hosts, and ends the way if it
// is not in order.
func (w *walk) trunk(n *model.Network) (kstate.Link, bool) {
	dev := n.Trunk()
	l, ok := w.is.links[place{name: dev}]
	switch {
	case !ok:
		w.stop(hostName, dev, "missing: the device that leads to the other hosts of %s", n.Ref())
		return l, false
	case !l.Up:
		w.stop(hostName, dev, "is down")
		return l, false
	case l.Master != n.Device():
		w.stop(hostName, dev, "is a port of %s, and to be one of %s", orNothing(l.Master), n.Device())
		return l, false
	}
	w.differs(l)
	return l, true
}

// answers returns the hardware address that a vxlan device says is an address's: who
// asks on the bridge has the answer from it.
func (w *walk) answers(l kstate.Link, a netip.Addr) (mac string, ok bool) {
	key := kstate.Neigh{Dev: l.Name, Addr: a}.Key()
	if o, lacking := w.lacks(key); lacking {
		w.problem(hostName, l.Name, "missing: %s", o)
	}
	question := "ARP"
	if a.Is6() {
		question = "neighbour discovery"
	}
	neigh, ok := w.Have[key].(kstate.Neigh)
	if !ok {
		w.stop(hostName, l.Name, "nobody answers %s for %s", question, a)
		return "", false
	}
	w.step(hostName, l.Name, l.MTU, "answers %s itself: %s is %s", question, a, neigh.MAC)
	return neigh.MAC, true
}

// forwarded returns the host to which a frame goes, by what the bridge knows of its
// ports and the vxlan device of hosts. What that does not know goes to all.
func (w *walk) forwarded(l kstate.Link, f *model.Far, mac string) (to netip.Addr, ok bool) {
	key := kstate.FDB{Dev: l.Name, MAC: mac}.Key()
	if o, lacking := w.lacks(key); lacking {
		w.problem(hostName, l.Name, "missing: %s", o)
	}
	fdb, ok := w.Have[key].(kstate.FDB)
	if !ok || !fdb.Bridged {
		w.stop(hostName, l.Master, "FDB: knows no port for %s, and what is for nobody known does not leave by %s", mac, l.Name)
		return to, false
	}
	w.step(hostName, l.Master, 0, "FDB: %s is at port %s", mac, l.Name)
	if fdb.Dst.IsValid() {
		w.step(hostName, l.Name, 0, "FDB: %s is at %s", mac, fdb.Dst)
		return fdb.Dst, true
	}
	all := w.everyone(l.Name)
	if !slices.Contains(all, f.At) {
		w.stop(hostName, l.Name, "FDB: knows no host for %s, and what is for all does not go to %s", mac, f.At)
		return to, false
	}
	w.step(hostName, l.Name, 0, "FDB: knows no host for %s: it goes to all, %s", mac, addrList(all))
	return f.At, true
}

// everyone lists the hosts to which a vxlan device sends what is for all, in order.
func (w *walk) everyone(dev string) []netip.Addr {
	var all []netip.Addr
	for _, o := range w.Have {
		if fdb, ok := o.(kstate.FDB); ok && fdb.Dev == dev && fdb.Listed() {
			all = append(all, fdb.Dst)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

func addrList(all []netip.Addr) string {
	var list []string
	for _, a := range all {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// handed is the other host, of which only its record is known.
func (w *walk) handed(f *model.Far, to, next netip.Addr) {
	where := "host " + to.String()
	switch {
	case to != f.At:
		w.stop(where, "", "is not host %s, on which %s is", f.Host, mateName(f))
	case next != w.dst:
		w.step(where, "", 0, "host %s: %s is the router to %s: where it sends it is not known here", f.Host, mateName(f), w.dst)
		w.vanish()
	default:
		w.step(where, "", 0, "host %s: its record says: %s is %s's, %s; what it does there is for that host to say", f.Host, w.dst, mateName(f), f.MAC)
		w.arrive()
	}
}

// comeAcross takes in what an endpoint on another host sends to one here, by what this
// host said of it in the cluster.
func (w *walk) comeAcross(n *model.Network, f *model.Far) {
	where := "host " + f.At.String()
	sub, _ := n.Subnet(w.dst.Is6())
	_, ep := w.holder(n, w.dst)
	switch {
	case f.Stopped:
		w.stop("host "+f.Host, "", "%s does not run", mateName(f))
	case !f.At.IsValid():
		w.stop("host "+f.Host, "", "has no %s, by which it could reach this host", known(n))
	case sub.Gateway == w.dst:
		w.stop(where, "", "%s is every host's own on %s: what is for it stays on host %s", w.dst, n.Ref(), f.Host)
	case ep == nil && sub.Prefix.Contains(w.dst):
		w.stop(where, "", "%s: %s", n.Ref(), w.nobody(n, w.dst))
	case ep == nil:
		w.step(where, "", 0, "%s is not of %s: it leaves by host %s, by its own routes", w.dst, n.Ref(), f.Host)
		w.vanish()
	default:
		w.comeTo(n, f, ep)
	}
}

// comeTo takes in what is for an endpoint here: the UDP packet first, then what it carries.
func (w *walk) comeTo(n *model.Network, f *model.Far, ep *model.Endpoint) {
	o, where := n.Overlay, "host "+f.At.String()
	if f.HostGone {
		w.problem(where, "", "host %s was not heard of lately", f.Host)
	}
	w.step(where, "", 0, "its way here is by this host's record: %s is %s, at %s", w.dst, ep.MAC, o.Local)
	dev := n.Carrier()
	mtu := w.linkMTU(dev)
	w.way.Steps = append(w.way.Steps, Step{Where: hostName, Device: dev, MTU: mtu, What: fmt.Sprintf("%s -> %s UDP %d, VNI %d", f.At, o.Local, o.Port, o.VNI)})
	if mtu > 0 {
		w.fits(mtu - kstate.VXLAN{Local: o.Local}.Overhead())
	}
	if !w.judge("input", func(r filter) judgement { return r.outer(dev, o.Port, f.At) }) {
		return
	}
	if l, ok := w.trunk(n); ok {
		w.step(hostName, l.Name, l.MTU, "the frame for %s comes out of it", ep.MAC)
		w.bridge(n, l, w.dst)
	}
}
