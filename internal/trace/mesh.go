package trace

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// What is asked for at a published port of this host and served on another goes there by
// the mesh: compile/mesh.go. The flow's mark has a routing table of its own.

func meshDevice(dev string) bool { return dev == model.MeshDevice || dev == model.SealedMeshDevice }

// steered returns the route to another host that the mark of a flow chooses, if it has one.
func (w *walk) steered() (r kstate.Route, ok bool) {
	if w.reply || !w.asked.IsValid() || w.served(w.asked.Addr()) != nil {
		return r, false
	}
	d := digit(w.dst.Is6())
	text, ok := w.element("inet", "node"+d, flowKey(w.dst, w.proto, w.dport))
	mark, err := strconv.ParseUint(text, 0, 32)
	if !ok || err != nil {
		return r, false
	}
	w.step(hostName, "", 0, "chain mesh_new: %s port %d/%s is on another host: mark %s, for the whole flow", w.dst, w.dport, w.proto, text)
	w.mark = text
	rule, ok := w.ruleOf(uint32(mark))
	if !ok {
		return r, false
	}
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if w.dst.Is6() {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	key := kstate.Route{Dst: all, Table: rule.Table}.Key()
	if o, lacking := w.lacks(key); lacking {
		w.problem(hostName, "", "missing: %s", o)
	}
	if r, ok = w.Have[key].(kstate.Route); ok {
		w.step(hostName, "", r.MTU, "%s: %s dev %s", rule, routeText(r), r.Dev)
	}
	return r, ok
}

// ruleOf returns the policy rule of a mark.
func (w *walk) ruleOf(mark uint32) (kstate.Rule, bool) {
	for k, o := range w.Want {
		r, ok := o.(kstate.Rule)
		if !ok || r.Not || r.Mark != mark || r.Is6 != w.dst.Is6() || r.Mask == 0 {
			continue
		}
		if o, lacking := w.lacks(k); lacking {
			w.problem(hostName, "", "missing: %s", o)
		}
		got, ok := w.Have[k].(kstate.Rule)
		return got, ok
	}
	return kstate.Rule{}, false
}

// overMesh goes to another host of the mesh.
func (w *walk) overMesh(l kstate.Link, next netip.Addr) {
	to, ok := w.carried(l, next)
	if !ok {
		return
	}
	where, h := "host "+to.String(), w.meshHost(to)
	switch {
	case h == nil:
		w.step(where, "", 0, "what it does with it is not known here")
		w.vanish()
	case w.member != nil && w.member.Node != h.Number:
		w.stop(where, "", "is host %s, and %s", h.Name, memberName(w.member))
	default:
		w.step(where, "", 0, "host %s: passes it on to %s port %d, %s; what it does there is for that host to say", h.Name, w.dst, w.dport, w.whose())
		w.out, w.host = l.Name, h
		w.arrive()
	}
}

// whose is the backend that was chosen, in words.
func (w *walk) whose() string {
	if w.member == nil {
		return "which is no backend that is known"
	}
	return memberName(w.member)
}

// meshHost returns the host of the mesh that is found at an address, or nil.
func (s *sight) meshHost(at netip.Addr) *model.MeshHost {
	for _, n := range s.Intent.Networks {
		for i := 0; n.Overlay != nil && n.Overlay.Mesh != nil && i < len(n.Overlay.Mesh.Hosts); i++ {
			if h := &n.Overlay.Mesh.Hosts[i]; h.At == at || h.Inner == at {
				return h
			}
		}
	}
	return nil
}

// comeByMesh takes in the answer of a backend on another host.
func (w *walk) comeByMesh(h *model.MeshHost, dev string) {
	l := w.is.links[place{name: dev}]
	from := h.At
	if dev == model.SealedMeshDevice {
		from = h.Inner
	}
	w.step("host "+from.String(), "", 0, "host %s: the flow has the mark of this host there, and by that the answer comes back", h.Name)
	mtu := w.linkMTU(l.Parent)
	w.way.Steps = append(w.way.Steps, Step{Where: hostName, Device: l.Parent, MTU: mtu, What: fmt.Sprintf("%s -> %s UDP %d, VNI %d", from, l.VXLAN.Local, l.VXLAN.Port, l.VXLAN.VNI)})
	if mtu > 0 {
		w.fits(mtu - l.VXLAN.Overhead())
	}
	if w.judge("input", func(r filter) judgement { return r.outer(l.Parent, l.VXLAN.Port, from) }) {
		w.step(hostName, dev, l.MTU, "the answer of %s to %s comes out of it", w.src, w.dst)
		w.received(dev)
	}
}

// lent gives what a container here asks of another host this host's address, and what the
// other host asked itself; it reports whether it did.
func (w *walk) lent(p packet) bool {
	if !meshDevice(p.out) {
		return false
	}
	why := "the other host knows no way back to a container of this one"
	if _, asked := w.element("inet", "itself"+digit(w.src.Is6()), w.src.String()+" . "+w.mark); asked {
		why = "the other host takes nothing in that has its own address"
	} else if !w.is.rules.has("bridges", p.in) {
		return false
	}
	local := w.lends()
	if !local.IsValid() {
		w.step(hostName, "", 0, "postrouting: %s leaves as an address of this host", w.src)
		return true
	}
	w.step(hostName, "", 0, "postrouting: %s leaves as %s: %s", w.src, local, why)
	w.hidden, w.src = w.src, local
	return true
}

// lends is the address that this host gives to who asks by it, if it is known.
func (w *walk) lends() netip.Addr {
	for _, n := range w.Intent.Networks {
		if n.Overlay != nil && n.Overlay.Mesh != nil {
			return n.Overlay.Mesh.Lends(w.src.Is6())
		}
	}
	return netip.Addr{}
}
