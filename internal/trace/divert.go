package trace

import (
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// diverted sends a frame up to the host if that is to see the connection: what a backend
// answers to a container here, and what one here sends straight to where a backend serves,
// unless sockets choose that one. It reports whether it did, or ended the way.
func (w *walk) diverted(n *model.Network, next netip.Addr) bool {
	if n.Overlay == nil || w.proto == "" {
		return false
	}
	d, dev := digit(w.dst.Is6()), n.Device()
	by := w.diverter(d)
	answer := w.sport != 0 && w.marked(d, w.src, w.sport)
	switch {
	case answer && w.turned(n, next) && w.sound("bridge", "divert", "divert"+d, by, "to_client"):
		w.step(hostName, dev, 0, "chain %s: %s port %d/%s is where a backend answers: up to the host", by, w.src, w.sport, w.proto)
	case w.way.Why != "":
		return true
	case w.reply && w.asked.IsValid():
		w.stop(hostName, dev, "%s goes straight to %s, past the connection here that knows of the service: who asked %s takes no answer from %s", w.src, next, w.asked.Addr(), w.src)
		return true
	case !answer && w.dport != 0 && w.marked(d, w.dst, w.dport) && w.turned(n, w.src) && w.sound("bridge", "divert", "divert"+d, by, "from_client"):
		w.step(hostName, dev, 0, "chain %s: %s port %d/%s is where a backend answers: up to the host, which is to see both directions", by, w.dst, w.dport, w.proto)
	default:
		return w.way.Why != ""
	}
	w.received(dev)
	return true
}

// diverter is the chain that looks at what a flow sends: TCP has its own where sockets choose.
func (w *walk) diverter(d string) string {
	if _, wanted := w.Want[chainKey("bridge", "tcp"+d)]; wanted && w.proto == "tcp" {
		return "tcp" + d
	}
	return "divert" + d
}

// marked reports whether backends are known to answer at a port. Where sockets choose them
// only flows that the host rewrote are looked at: a packet that is not of one has a port
// that the kernel chose.
func (w *walk) marked(d string, a netip.Addr, port uint16) bool {
	_, ok := w.element("bridge", "answers"+d, flowKey(a, w.proto, port))
	if !ok && w.stray {
		_, ok = w.element("bridge", "direct"+d, hostPort(netip.AddrPortFrom(a, port)))
	}
	return ok
}

// turned reports whether frames to or from a container of this host are given the hardware
// address of its bridge.
func (w *walk) turned(n *model.Network, a netip.Addr) bool {
	_, ep := w.holder(n, a)
	if ep == nil {
		return false
	}
	_, ok := w.element("bridge", "here", ep.MAC)
	return ok
}

// tableName is that of our tables, of each family.
const tableName = "sealane"

// elemKey is the key of an element of ours.
func elemKey(family, set, at string) kstate.Key {
	return kstate.Elem{Set: &kstate.NftSet{Table: kstate.Table{Family: family, Name: tableName}, Name: set}, At: at}.Key()
}

// chainKey is the key of a chain of ours.
func chainKey(family, name string) kstate.Key {
	return kstate.Chain{Table: kstate.Table{Family: family, Name: tableName}, Name: name}.Key()
}

// element looks a key up in a set or map of the kernel's that has no intervals, and says if
// it is not as intended.
func (w *walk) element(family, set, at string) (value string, ok bool) {
	key := elemKey(family, set, at)
	if o, lacking := w.lacks(key); lacking {
		w.problem(hostName, "", "missing: %s", o)
	}
	e, ok := w.Have[key].(kstate.Elem)
	return e.Value, ok
}

// sound reports whether chains are as intended, and ends the way if one is not: what it
// does then is not known.
func (w *walk) sound(family string, chains ...string) bool {
	for _, name := range chains {
		if _, lacking := w.lacks(chainKey(family, name)); lacking {
			w.stop(hostName, "", "missing: chain %s %s %s as it is to be: sealane diff says more", family, tableName, name)
			return false
		}
	}
	return true
}
