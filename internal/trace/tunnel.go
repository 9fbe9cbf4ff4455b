package trace

import (
	"fmt"
	"net/netip"

	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// tunnel goes into a vxlan device: the next address is a neighbour's, whose hardware
// address the forwarding entries know at a host.
func (w *walk) tunnel(l kstate.Link, next netip.Addr, n *model.Network, p *model.Peer) {
	to, ok := w.carried(l, next)
	switch {
	case !ok:
	case p == nil:
		w.step("host "+to.String(), "", 0, "what it does with it is not known here")
		w.vanish()
	default:
		w.out = l.Name
		w.remote(n, p)
	}
}

// carried puts a packet into the UDP packet that carries it, and returns where that goes.
func (w *walk) carried(l kstate.Link, next netip.Addr) (to netip.Addr, ok bool) {
	if !l.Up {
		w.stop(hostName, l.Name, "is down")
		return to, false
	}
	w.differs(l)
	neigh, ok := w.Have[kstate.Neigh{Dev: l.Name, Addr: next}.Key()].(kstate.Neigh)
	if o, lacking := w.lacks(kstate.Neigh{Dev: l.Name, Addr: next}.Key()); lacking {
		w.problem(hostName, l.Name, "missing: %s", o)
	}
	if !ok {
		w.stop(hostName, l.Name, "nothing says which hardware address %s is", next)
		return to, false
	}
	w.step(hostName, l.Name, l.MTU, "neighbour %s is %s, permanent", next, neigh.MAC)
	key := kstate.FDB{Dev: l.Name, MAC: neigh.MAC}.Key()
	fdb, ok := w.Have[key].(kstate.FDB)
	if o, lacking := w.lacks(key); lacking {
		w.problem(hostName, l.Name, "missing: %s", o)
	}
	if !ok {
		w.stop(hostName, l.Name, "nothing says at which host %s is", neigh.MAC)
		return to, false
	}
	w.step(hostName, l.Name, 0, "FDB: %s is at %s", neigh.MAC, fdb.Dst)
	return fdb.Dst, w.outer(l, fdb.Dst)
}

// differs says how a tunnel device is not as intended.
func (w *walk) differs(l kstate.Link) {
	if o, lacking := w.lacks(l.Key()); lacking {
		w.problem(hostName, l.Name, "is to be: %s", o)
	}
}

// outer sends the UDP packet that carries the frame, and reports whether it can.
func (w *walk) outer(l kstate.Link, to netip.Addr) bool {
	dev := l.Parent
	r, ok := w.is.route(kstate.NS{}, to)
	switch {
	case !ok:
		w.stop(hostName, l.Name, "no route to %s, where the tunnel leads", to)
		return false
	case dev == "":
		dev = r.Dev
	case r.Dev != dev:
		w.problem(hostName, l.Name, "its packets leave by %s, and %s is behind %s", dev, to, r.Dev)
	}
	if own, ok := w.portRoute(to, l.VXLAN.Port); ok {
		r = own
	}
	mtu := w.linkMTU(dev)
	text := fmt.Sprintf("%s -> %s UDP %d, VNI %d", l.VXLAN.Local, to, l.VXLAN.Port, l.VXLAN.VNI)
	if next := hop(r, to); next != to {
		text += ", by the router " + next.String()
	}
	narrow := r.Dev == dev && r.MTU > 0 && r.MTU < mtu
	least := mtu
	if narrow {
		least = r.MTU
		text += ": the path there is narrower than the device"
	}
	w.way.Steps = append(w.way.Steps, Step{Where: hostName, Device: dev, MTU: least, What: text})
	if room := mtu - l.VXLAN.Overhead(); mtu > 0 && room < l.MTU {
		w.problem(hostName, l.Name, "its MTU is %d, and only %d bytes fit through %s: larger packets are lost or cut", l.MTU, room, dev)
	}
	if mtu > 0 {
		w.fits(least - l.VXLAN.Overhead())
	}
	return true
}

// portRoute returns the route to a host that packets to a UDP port have for themselves,
// if there is one: it has the MTU of the path.
func (w *walk) portRoute(to netip.Addr, port int) (r kstate.Route, ok bool) {
	for _, o := range w.Want {
		rule, is := o.(kstate.Rule)
		if !is || rule.Port != port || rule.Is6 != to.Is6() {
			continue
		}
		for _, key := range []kstate.Key{rule.Key(), kstate.Route{Dst: netip.PrefixFrom(to, to.BitLen()), Table: rule.Table}.Key()} {
			if o, lacking := w.lacks(key); lacking {
				w.problem(hostName, "", "missing: %s", o)
				return r, false
			}
			r, ok = w.Have[key].(kstate.Route)
		}
	}
	return r, ok
}

// handOver gives the packet to the program, or the part of the kernel, that has the
// other end of a tunnel device.
func (w *walk) handOver(l kstate.Link, n *model.Network, p *model.Peer) {
	w.differs(l)
	switch {
	case !l.Up:
		w.stop(hostName, l.Name, "is down")
	case l.Type == kstate.TypeTUN && l.NoCarrier:
		w.stop(hostName, l.Name, "no program has its other end: the daemon does not serve it")
	case p == nil || n == nil:
		w.step(hostName, l.Name, l.MTU, "where it leads is not known here")
		w.vanish()
	default:
		at := fabric.Endpoint(n.Fabric, p, w.dst.Is6())
		w.step(hostName, l.Name, l.MTU, "backend %s: to %s UDP %d", n.Fabric.Backend.Type, at.Addr(), at.Port())
		w.step(hostName, n.Fabric.Uplink, w.linkMTU(n.Fabric.Uplink), "%s leaves by it", n.Fabric.Public(at.Addr().Is6()))
		w.out = l.Name
		w.remote(n, p)
	}
}

// remote is the other host, of which only the lease is known.
func (w *walk) remote(n *model.Network, p *model.Peer) {
	is6 := w.dst.Is6()
	sub, _ := p.Subnet(is6)
	text := "its lease says: " + sub.String()
	if p.Name != "" {
		text = "host " + p.Name + ": " + text
	}
	if mac := p.MAC(is6); mac != "" && !fabric.Direct(n.Fabric, p) {
		text += ", " + mac
	}
	w.step("host "+p.Public(is6).String(), "", 0, "%s; what %s does there is for that host to say", text, w.dst)
	w.peer, w.far = p, n
	w.arrive()
}

// comeFrom takes in an answer from another host of a network, by what the leases say.
func (w *walk) comeFrom(n *model.Network, p *model.Peer, in string) {
	is6 := w.dst.Is6()
	from := "host " + p.Public(is6).String()
	own, _ := n.Subnet(is6)
	text := fmt.Sprintf("its way here is by this host's lease: %s is at %s", own.Prefix, n.Fabric.Public(is6))
	if !own.Prefix.Contains(w.dst) {
		text = fmt.Sprintf("its way here is to %s, by its own routes", w.dst)
	} else if n.Fabric.MAC != "" && n.Fabric.Backend.Type == model.BackendVXLAN && !fabric.Direct(n.Fabric, p) {
		text += ", " + n.Fabric.MAC
	}
	w.step(from, "", 0, "%s", text)
	w.step(hostName, in, w.linkMTU(in), "the answer of %s to %s comes in by it", w.src, w.dst)
	w.received(in)
}
