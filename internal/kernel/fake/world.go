package fake

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// world is all state. Namespaces in its keys are known by path alone; their
// inodes are kept apart.
type world struct {
	objs    kstate.Set                // all but nftables and settings
	far     map[kstate.Key]kstate.Key // the far end of a veth → the veth
	nft     kstate.Set
	others  kstate.Set         // tables and chains of nftables that are not ours
	sysctls map[string]string  // those not at their default
	inodes  map[string]uint64  // of namespaces, by path
	lent    map[string]lending // NICs, by their names at home
	queues  map[string]bool    // of others, at the roots of the host's devices
	sockets []socket
	ovs     ovs
	serial  int // of links and namespaces
}

// socket is a port that another program has bound.
type socket struct {
	proto   string
	at      netip.AddrPort
	program string
}

func (s socket) String() string { return fmt.Sprintf("socket %s %s by %s", s.proto, s.at, s.program) }

// boot returns the world after a boot: one namespace with a loopback device.
func boot() world {
	w := world{
		objs: kstate.Set{}, far: map[kstate.Key]kstate.Key{}, nft: kstate.Set{}, others: kstate.Set{},
		sysctls: map[string]string{}, inodes: map[string]uint64{}, queues: map[string]bool{}, lent: map[string]lending{}, ovs: newOVS(),
	}
	w.loopback(kstate.NS{})
	return w
}

func (w *world) set(o kstate.Object) {
	if l, ok := o.(kstate.Link); ok && l.Type == kstate.TypeVeth {
		w.far[l.PeerKey()] = l.Key()
	}
	w.objs[o.Key()] = o
}

func (w *world) next() int { w.serial++; return w.serial }

func (w *world) loopback(ns kstate.NS) {
	w.set(kstate.Link{NS: ns, Name: "lo", Type: kstate.TypeLoopback, MTU: 65536, Up: true, Other: true, Index: w.next()})
}

// namespace makes one.
func (w *world) namespace(o kstate.NetNS) {
	w.inodes[o.NS.Path] = cmp.Or(o.NS.Inode, 4026530000+uint64(w.next()))
	o.NS.Inode = 0
	w.set(o)
	w.loopback(o.NS)
}

// has reports whether ns is there, and is the one meant.
func (w *world) has(ns kstate.NS) bool {
	inode, ok := w.inodes[ns.Path]
	return ns.IsHost() || ok && (ns.Inode == 0 || ns.Inode == inode)
}

// device finds a link by the name of either of its ends.
func (w *world) device(ns kstate.NS, name string) (kstate.Link, bool) {
	k := kstate.Link{NS: ns, Name: name}.Key()
	if near, ok := w.far[k]; ok {
		k = near
	}
	l, ok := w.objs[k].(kstate.Link)
	return l, ok
}

// drop takes an object away with all that stands on it.
func (w *world) drop(k kstate.Key) {
	o, ok := w.objs[k]
	if !ok {
		return
	}
	delete(w.objs, k)
	switch o := o.(type) {
	case kstate.NetNS:
		delete(w.inodes, o.NS.Path)
	case kstate.Link:
		w.release(o)
	}
	w.fall(k)
	if l, ok := o.(kstate.Link); ok && l.Type == kstate.TypeNIC && w.falls(l) {
		w.throwBack(l)
	}
	if a, ok := o.(kstate.Addr); ok && a.Prefix.Addr().Is4() && !w.hasIPv4(a.NS, a.Dev) {
		w.fallRoutes(a.NS, a.Dev)
	}
}

// fall drops what stands on k.
func (w *world) fall(k kstate.Key) {
	for key, o := range w.objs {
		if (key.Kind > k.Kind || key.Kind == kstate.KindLink) && slices.Contains(o.On(), k) {
			w.drop(key)
		}
	}
}

// release undoes what a device was to others: its settings and the far end of a
// veth go with it, the ports of a bridge are on their own.
func (w *world) release(l kstate.Link) {
	for name := range w.sysctls {
		if _, ok := w.sysctl(name); !ok {
			delete(w.sysctls, name)
		}
	}
	if l.NS.IsHost() {
		delete(w.queues, l.Name)
	}
	switch l.Type {
	case kstate.TypeVeth:
		delete(w.far, l.PeerKey())
		w.fall(l.PeerKey())
	case kstate.TypeIFB:
		w.strand(l.Name)
	case kstate.TypeBridge:
		for k, o := range w.objs {
			if p, ok := o.(kstate.Link); ok {
				w.objs[k] = leave(p, l)
				w.unplugged(p, leave(p, l))
			}
		}
	}
}

// leave returns a link without those of its ends in a bridge that are.
func leave(l, bridge kstate.Link) kstate.Link {
	if l.NS == bridge.NS && l.Master == bridge.Name {
		l.Master, l.Isolated, l.Hairpin, l.GroupForward, l.Known, l.Pinned = "", false, false, false, false, false
		l.Tag, l.Tags = 0, ""
	}
	if l.Peer.NS == bridge.NS && l.Peer.Master == bridge.Name {
		l.Peer.Master, l.Peer.Isolated = "", false
	}
	return l
}

// countPorts counts the ports of a bridge of the host.
func (w *world) countPorts(bridge kstate.Link) int {
	n := 0
	for _, o := range w.objs {
		if l, ok := o.(kstate.Link); ok {
			if l.NS == bridge.NS && l.Master == bridge.Name {
				n++
			}
			if l.Peer.Master == bridge.Name {
				n++
			}
		}
	}
	return n
}

// down takes away what a device loses when it is set down: its routes and its
// IPv6 addresses.
func (w *world) down(l kstate.Link) {
	for k, o := range w.objs {
		switch o := o.(type) {
		case kstate.Addr:
			if o.NS == l.NS && o.Dev == l.Name && o.Prefix.Addr().Is6() {
				w.drop(k)
			}
		case kstate.Route:
			if o.NS == l.NS && o.Dev == l.Name {
				w.drop(k)
			}
		}
	}
	w.lonely(l.NS, l.Name, func(netip.Addr) bool { return true })
}

func (w *world) hasIPv4(ns kstate.NS, dev string) bool {
	for a := range w.addrs(ns, dev) {
		if a.Addr().Is4() {
			return true
		}
	}
	return false
}

// fallRoutes drops the IPv4 routes of a device without IPv4 addresses.
func (w *world) fallRoutes(ns kstate.NS, dev string) {
	for k, o := range w.objs {
		if r, ok := o.(kstate.Route); ok && r.NS == ns && r.Dev == dev && r.Dst.Addr().Is4() {
			delete(w.objs, k)
		}
	}
	w.lonely(ns, dev, netip.Addr.Is4)
}

// addrs returns the prefixes on a device.
func (w *world) addrs(ns kstate.NS, dev string) map[netip.Prefix]bool {
	out := map[netip.Prefix]bool{}
	for _, o := range w.objs {
		if a, ok := o.(kstate.Addr); ok && a.NS == ns && a.Dev == dev {
			out[a.Prefix] = true
		}
	}
	return out
}

// observe returns what scope shows, with namespaces named as in scope.
func (w *world) observe(scope kernel.Scope, entries map[string]string) kstate.Set {
	names := map[string]kstate.NS{}
	for _, ns := range scope.NS {
		if !ns.IsHost() && w.has(ns) {
			names[ns.Path] = ns
		}
	}
	out := kstate.Set{}
	w.asides(out, names, entries, scope.Only)
	for _, o := range w.objs {
		if o, ok := seen(o, names, scope.Only); ok && !isAside(o) {
			o = w.owned(rename(o, func(ns kstate.NS) kstate.NS { return w.name(ns, names) }), entries)
			if l, ok := o.(kstate.Link); ok {
				l.Handed = false
				o = l
			}
			if n, ok := o.(kstate.NetNS); ok && n.Other {
				n.NS.Inode = w.inodes[n.NS.Path] // whoever did not know it asks for this
				o = n
			}
			out[o.Key()] = o
		}
	}
	if scope.Only {
		return out
	}
	w.observeOVS(out)
	w.raised(out, entries)
	w.trunks(out, entries)
	if scope.Devices {
		maps.DeleteFunc(out, func(k kstate.Key, _ kstate.Object) bool {
			return k.Kind == kstate.KindHold || k.Kind == kstate.KindFile || k.Kind == kstate.KindChoice || k.Kind == kstate.KindChooser
		})
		return out
	}
	maps.Copy(out, w.nft)
	for key := range entries {
		if name, ok := strings.CutPrefix(key, "sysctl/"); ok {
			if v, ok := w.sysctl(name); ok {
				o := kstate.Sysctl{Name: name, Value: v}
				out[o.Key()] = o
			}
		}
	}
	return out
}

// seen reports whether o is in a namespace that is looked at.
func seen(o kstate.Object, names map[string]kstate.NS, only bool) (kstate.Object, bool) {
	_, in := names[home(o).Path]
	if _, ok := o.(kstate.Chooser); ok {
		return o, !only
	}
	if l, ok := o.(kstate.Link); ok && l.Type == kstate.TypeNIC && !only {
		return o, true // looked for in all namespaces of ours
	}
	if n, ok := o.(kstate.NetNS); ok && !n.Other && !only {
		return o, true
	}
	return o, in || home(o).IsHost() && !only
}

// name is how a namespace is called in an answer.
func (w *world) name(ns kstate.NS, names map[string]kstate.NS) kstate.NS {
	if as, ok := names[ns.Path]; ok {
		return as
	}
	if n, ok := w.objs[kstate.NetNS{NS: ns}.Key()].(kstate.NetNS); ok && n.Other {
		ns.Inode = w.inodes[ns.Path]
	}
	return ns
}

// owned says whether an address is ours: all are on our devices, but in
// sandboxes those that others added, and those in the journal on others.
func (w *world) owned(o kstate.Object, entries map[string]string) kstate.Object {
	a, ok := o.(kstate.Addr)
	if !ok {
		return o
	}
	dev, _ := w.device(kstate.NS{Path: a.NS.Path}, a.Dev)
	_, noted := entries[addrEntry(a)]
	a.Other = !noted && (dev.Other || a.Other && !a.NS.IsHost())
	return a
}

// addrEntry is the journal's key of an address on somebody else's device.
func addrEntry(a kstate.Addr) string {
	in := ""
	if !a.NS.IsHost() {
		in = a.NS.Path + " "
	}
	return "addr/" + in + a.Dev + "/" + a.Prefix.String()
}

// home is the namespace an object is in.
func home(o kstate.Object) kstate.NS {
	switch o := o.(type) {
	case kstate.NetNS:
		return o.NS
	case kstate.Link:
		return o.NS
	case kstate.Addr:
		return o.NS
	case kstate.Route:
		return o.NS
	case kstate.Neigh:
		return o.NS
	case kstate.Aside:
		return o.NS
	case kstate.Chooser:
		return o.NS
	}
	return kstate.NS{}
}

// rename returns o with its namespaces changed by f.
func rename(o kstate.Object, f func(kstate.NS) kstate.NS) kstate.Object {
	switch o := o.(type) {
	case kstate.NetNS:
		o.NS = f(o.NS)
		return o
	case kstate.Link:
		o.NS, o.Peer.NS = f(o.NS), f(o.Peer.NS)
		return o
	case kstate.Addr:
		o.NS = f(o.NS)
		return o
	case kstate.Route:
		o.NS = f(o.NS)
		return o
	case kstate.Neigh:
		o.NS = f(o.NS)
		return o
	case kstate.Chooser:
		o.NS = f(o.NS)
		return o
	}
	return o
}

// pathOnly is how the world knows a namespace.
func pathOnly(ns kstate.NS) kstate.NS { return kstate.NS{Path: ns.Path} }
