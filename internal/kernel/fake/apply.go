package fake

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Limits of Linux.
const (
	maxName  = 15   // IFNAMSIZ - 1
	maxPorts = 1023 // BR_MAX_PORTS - 1 in net/bridge/br_private.h
)

// put adds o or, with change, alters what is there.
func (k *Kernel) put(o kstate.Object, change bool) error {
	if c, ok := o.(kstate.Chooser); ok && !k.world.has(c.NS) {
		return c.Check()
	}
	if _, ok := o.(kstate.NetNS); !ok && !k.world.has(home(o)) {
		return fmt.Errorf("%s: %w", home(o), kernel.ErrNoNamespace)
	}
	if l, ok := o.(kstate.Link); ok && !k.world.has(l.Peer.NS) {
		return fmt.Errorf("%s: %w", l.Peer.NS, kernel.ErrNoNamespace)
	}
	switch o := rename(o, pathOnly).(type) {
	case kstate.Aside: // not renamed
		return k.putAside(o)
	case kstate.NetNS:
		return k.world.putNetNS(o)
	case kstate.Raise:
		return k.putRaise(o)
	case kstate.Trunk:
		return k.putTrunk(o)
	case kstate.OVSBridge, kstate.OVSPort:
		return k.world.putOVS(o)
	case kstate.Link:
		if o.Type == kstate.TypeNIC {
			return k.putNIC(o, change)
		}
		return k.world.putLink(o, change)
	case kstate.Sysctl:
		return k.putSysctl(o)
	case kstate.Addr:
		return k.putAddr(o)
	case kstate.Route:
		return k.world.putRoute(o, change)
	case kstate.Rule:
		return k.world.putRule(o)
	case kstate.Neigh:
		return k.world.putNeigh(o)
	case kstate.FDB:
		return k.world.putFDB(o)
	case kstate.Shaper:
		return k.world.putShaper(o)
	case kstate.Redirect:
		return k.world.putRedirect(o)
	case kstate.Hold:
		return k.world.putHold(o)
	case kstate.Guest:
		return k.world.putGuest(o)
	case kstate.File:
		return k.world.putFile(o)
	case kstate.Choice:
		return k.world.putChoice(o, o.Check())
	case kstate.Chooser:
		return k.world.putChoice(o, o.Check())
	}
	return kernel.ErrUnsupported
}

// remove takes o away. What is gone already, or is somebody else's by now, is
// left alone; the latter is an error.
func (k *Kernel) remove(o kstate.Object) error {
	if a, ok := o.(kstate.Aside); ok {
		return k.removeAside(a)
	}
	if isOVS(o) {
		return k.world.removeOVS(o)
	}
	if !k.world.has(home(o)) {
		return nil
	}
	o = rename(o, pathOnly)
	switch o := o.(type) {
	case kstate.Sysctl:
		return k.removeSysctl(o)
	case kstate.Raise:
		return k.removeRaise(o)
	case kstate.Trunk:
		return k.removeTrunk(o)
	case kstate.Addr:
		return k.removeAddr(o)
	case kstate.Link:
		if o.Type == kstate.TypeNIC {
			return k.removeNIC(o)
		}
	}
	have, ok := k.world.objs[o.Key()]
	if ok && kstate.Foreign(have) {
		return fmt.Errorf("%s is not ours: %w", have, kernel.ErrInUse)
	}
	k.world.drop(o.Key())
	return nil
}

func (w *world) putNetNS(o kstate.NetNS) error {
	if have, ok := w.objs[o.Key()].(kstate.NetNS); ok {
		if have.Other {
			return fmt.Errorf("%s is not ours: %w", o.NS, kernel.ErrInUse)
		}
		return nil
	}
	if !path.IsAbs(o.NS.Path) {
		return fmt.Errorf("path %q is not absolute", o.NS.Path)
	}
	if err := checkSettings(o.Sysctls, ""); err != nil {
		return err
	}
	w.namespace(o)
	return nil
}

// checkSettings refuses settings that are not of a network namespace or, if
// about is not empty, not about the device of that name.
func checkSettings(settings []string, about string) error {
	for _, s := range settings {
		key, _, ok := strings.Cut(s, "=")
		if !ok || !strings.HasPrefix(key, "net.") || about != "" && !strings.Contains(key, "."+strings.ReplaceAll(about, ".", "/")+".") {
			return fmt.Errorf("setting %q %w", s, kernel.ErrMissing)
		}
	}
	return nil
}

func (w *world) putLink(o kstate.Link, change bool) error {
	have, ok := w.device(o.NS, o.Name)
	switch {
	case ok && (have.Other || have.Key() != o.Key()):
		return fmt.Errorf("device %s: %w", o.Name, kernel.ErrInUse)
	case ok && kstate.Satisfies(have, o):
		return nil
	case ok && !change:
		return fmt.Errorf("device %s is there with other settings: %w", o.Name, kernel.ErrInUse)
	case !ok && change:
		return fmt.Errorf("device %s %w", o.Name, kernel.ErrMissing)
	}
	if err := w.checkPort(o, have); err != nil {
		return err
	}
	if err := w.checkTunnel(o); err != nil {
		return err
	}
	if change {
		return w.changeLink(have, o)
	}
	if err := w.checkEnds(o); err != nil {
		return err
	}
	o.Index = w.next()
	o = w.inherit(o)
	o = w.furnish(o)
	if o.Type == kstate.TypeVeth {
		o.Peer.MAC = cmp.Or(o.Peer.MAC, mac(w.next()))
	}
	w.set(o)
	return nil
}

func mac(n int) string { return fmt.Sprintf("02:fa:00:00:%02x:%02x", n>>8&0xff, n&0xff) }

func (w *world) changeLink(have, want kstate.Link) error {
	if have.Type != want.Type || !want.Handed && (have.Peer.NS != want.Peer.NS || have.Peer.Name != want.Peer.Name) {
		return errors.New("type and far end cannot be changed in place")
	}
	want.Index = have.Index
	want.MTU, want.MAC = cmp.Or(want.MTU, have.MTU), cmp.Or(want.MAC, have.MAC)
	want.Peer.MAC = cmp.Or(want.Peer.MAC, have.Peer.MAC)
	want.Detour = want.Detour || have.Detour // nobody puts it back
	w.set(want)
	w.strangeMAC(have, want)
	w.unplugged(have, want)
	if have.Up && !want.Up {
		w.down(want)
	}
	return nil
}

// checkEnds refuses a new link whose names or type cannot be.
func (w *world) checkEnds(o kstate.Link) error {
	if err := checkName(o.Name); err != nil {
		return err
	}
	switch o.Type {
	case kstate.TypeBridge, kstate.TypeIFB, kstate.TypeVXLAN, kstate.TypeTUN, kstate.TypeWireGuard:
		return nil
	case kstate.TypeMacvlan, kstate.TypeIPvlan, kstate.TypeVLAN:
		return w.checkLower(o)
	case kstate.TypeVeth:
	default:
		return fmt.Errorf("type %q: %w", o.Type, kernel.ErrUnsupported)
	}
	if err := checkName(o.Peer.Name); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if _, ok := w.device(o.Peer.NS, o.Peer.Name); ok || o.PeerKey() == o.Key() {
		return fmt.Errorf("peer device %s: %w", o.Peer.Name, kernel.ErrInUse)
	}
	return checkSettings(strings.FieldsFunc(o.Peer.Sysctls, func(r rune) bool { return r == '\n' }), o.Peer.Name)
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/: \t\n") {
		return fmt.Errorf("device name %q: invalid, or longer than %d bytes", name, maxName)
	}
	return nil
}

// checkPort refuses a link whose ends cannot be the bridge ports they want to
// be.
func (w *world) checkPort(o, have kstate.Link) error {
	switch {
	case o.Type == kstate.TypeBridge && o.Master != "":
		return errors.New("a bridge cannot be a port of a bridge")
	case o.Master == "" && (o.Isolated || o.Hairpin || o.GroupForward || o.Known || o.Pinned), o.Peer.Master == "" && o.Peer.Isolated:
		return errors.New("isolated, hairpin, groupforward, known and pinned are for bridge ports")
	case o.Pinned && o.Peer.MAC == "":
		return errors.New("pinned: the far end's hardware address is not given")
	case o.Peer.Master != "" && !o.Peer.NS.IsHost():
		return fmt.Errorf("peer: bridge ports are in the host's namespace: %w", kernel.ErrUnsupported)
	}
	if err := checkSorting(o); err != nil {
		return err
	}
	if err := w.checkMaster(o.Master, have.Master); err != nil {
		return err
	}
	if err := w.checkMaster(o.Peer.Master, have.Peer.Master); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return nil
}

// checkMaster refuses what cannot take one more port.
func (w *world) checkMaster(name, before string) error {
	if name == "" {
		return nil
	}
	m, ok := w.device(kstate.NS{}, name)
	switch {
	case !ok:
		return fmt.Errorf("master %s %w", name, kernel.ErrMissing)
	case m.Type != kstate.TypeBridge:
		return fmt.Errorf("master %s is no bridge", name)
	case name != before && w.countPorts(m) >= maxPorts:
		return fmt.Errorf("master %s: exchange full: a bridge has at most %d ports", name, maxPorts)
	}
	return nil
}

func (k *Kernel) putAddr(o kstate.Addr) error {
	w := &k.world
	dev, ok := w.device(o.NS, o.Dev)
	if !ok {
		return fmt.Errorf("device %s %w", o.Dev, kernel.ErrMissing)
	}
	if have, ok := w.objs[o.Key()].(kstate.Addr); ok {
		have.Cut = false
		w.set(have)
		return nil
	}
	for p := range w.addrs(o.NS, o.Dev) {
		// IPv4 has one address under several lengths, IPv6 has not.
		if p.Addr() == o.Prefix.Addr() && p.Addr().Is6() {
			return fmt.Errorf("address is there as %s: %w", p, kernel.ErrInUse)
		}
	}
	if !dev.Other {
		w.set(o)
		return nil
	}
	return k.journaled(addrEntry(o), "", func() { w.set(o) })
}

func (k *Kernel) removeAddr(o kstate.Addr) error {
	dev, _ := k.world.device(o.NS, o.Dev)
	entries, err := k.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, noted := entries[addrEntry(o)]
	_, there := k.world.objs[o.Key()]
	switch {
	case noted:
		return k.unjournaled(addrEntry(o), func() { k.world.drop(o.Key()) })
	case there && dev.Other:
		return fmt.Errorf("%s is not ours: %w", o, kernel.ErrInUse)
	}
	k.world.drop(o.Key())
	return nil
}

func (w *world) putRoute(o kstate.Route, change bool) error {
	if err := w.checkRoute(o); err != nil {
		return err
	}
	for _, have := range w.objs {
		r, ok := have.(kstate.Route)
		if !ok || r.NS != o.NS || r.Dst != o.Dst || r.Table != o.Table || isAside(r) || r.Other && o.First || change && !r.Other {
			continue
		}
		if r.String() == o.String() {
			return nil
		}
		return fmt.Errorf("%s is there: %w", r, kernel.ErrInUse)
	}
	if o.Via.IsValid() && !o.Onlink && !w.onLink(o) {
		return fmt.Errorf("a way to gateway %s on device %s %w", o.Via, o.Dev, kernel.ErrMissing)
	}
	w.set(o)
	return nil
}

// checkRoute refuses what can be no route, whatever others there are.
func (w *world) checkRoute(o kstate.Route) error {
	if err := o.Check(); err != nil || o.Blackhole {
		return err
	}
	dev, ok := w.device(o.NS, o.Dev)
	switch {
	case !ok:
		return fmt.Errorf("device %s %w", o.Dev, kernel.ErrMissing)
	case !dev.Up:
		return fmt.Errorf("device %s is down", o.Dev)
	case o.Via.IsValid() && o.Via.Is6() != o.Dst.Addr().Is6():
		return fmt.Errorf("gateway %s is of another address family", o.Via)
	}
	return w.checkOnlink(o)
}

// onLink reports whether a route's gateway is a neighbour on its device.
func (w *world) onLink(o kstate.Route) bool {
	if o.Via.Is6() && o.Via.IsLinkLocalUnicast() {
		return true
	}
	for p := range w.addrs(o.NS, o.Dev) {
		if p.Contains(o.Via) {
			return true
		}
	}
	for _, have := range w.objs {
		if r, ok := have.(kstate.Route); ok && r.NS == o.NS && r.Dev == o.Dev && !r.Via.IsValid() && r.Dst.Contains(o.Via) {
			return true
		}
	}
	return false
}

func (w *world) putHold(o kstate.Hold) error {
	if o.Proto != "tcp" && o.Proto != "udp" || o.First == 0 || o.Last < o.First {
		return errors.New("not a range of tcp or udp ports")
	}
	if _, ok := w.objs[o.Key()]; ok {
		return nil
	}
	for _, s := range w.sockets {
		if s.proto == o.Proto && meet(s.at.Addr(), o.Addr) && o.First <= s.at.Port() && s.at.Port() <= o.Last {
			return fmt.Errorf("port %d: %w by %s", s.at.Port(), kernel.ErrInUse, s.program)
		}
	}
	w.set(o)
	return nil
}

// meet reports whether two sockets bound to these addresses would collide.
func meet(a, b netip.Addr) bool {
	every := func(x, y netip.Addr) bool {
		return !x.IsValid() || x == netip.IPv6Unspecified() || x.IsUnspecified() && (!y.IsValid() || y.Is4())
	}
	return a == b || every(a, b) || every(b, a)
}

// putChoice makes a choice or a chooser, or takes another in its place.
func (w *world) putChoice(o kstate.Object, wrong error) error {
	if wrong == nil {
		w.set(o)
	}
	return wrong
}

func (w *world) putFile(o kstate.File) error {
	if !path.IsAbs(o.Path) {
		return fmt.Errorf("path %q is not absolute", o.Path)
	}
	w.set(o)
	return nil
}
