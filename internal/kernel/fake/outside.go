package fake

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Foreign lets somebody else make or change objects that are not ours: links,
// addresses, routes, namespaces, settings. What they stand on is not checked.
// Tables and chains of nftables that are not in a table named sealane are
// somebody else's too; a chain's policy is told as Observe tells it, by the type
// "filter policy drop".
func (k *Kernel) Foreign(objs ...kstate.Object) {
	for _, o := range objs {
		switch v := o.(type) {
		case kstate.NetNS:
			v.Other = true
			o = v
		case kstate.Link:
			v.Other = true
			o = v
		case kstate.Route:
			v.Other = true
			o = v
		case kstate.Addr:
			v.Other = true
			o = v
		case kstate.OVSBridge:
			v.Other = true
			o = v
		}
		k.Tamper(o)
	}
}

// Tamper lets somebody else make or change objects as they are given, also
// ours: a link set down, a chain with another rule. What they stand on is not
// checked.
func (k *Kernel) Tamper(objs ...kstate.Object) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := &k.world
	for _, o := range objs {
		inode := home(o).Inode
		switch v := rename(o, pathOnly).(type) {
		case kstate.NetNS:
			v.NS.Inode = inode
			w.namespace(v)
		case kstate.Sysctl:
			w.sysctls[v.Name] = v.Value
		case kstate.Table, kstate.NftSet, kstate.Chain, kstate.Elem:
			w.ruleset(v)[v.Key()] = v
		case kstate.OVSBridge, kstate.OVSPort:
			w.ovs.db[v.Key()] = v
			w.switchOn()
		case kstate.Link:
			w.tamperLink(v)
		case kstate.Neigh:
			if l, _ := w.device(v.NS, v.Dev); !l.Other && v.NS.IsHost() {
				w.set(v) // elsewhere it has not our mark, and nobody is told
			}
		default:
			w.set(v)
		}
		k.hint("+ %s", o)
	}
}

func (w *world) tamperLink(l kstate.Link) {
	have, ok := w.objs[l.Key()].(kstate.Link)
	if l.Index = have.Index; !ok {
		l.Index = w.next()
	}
	w.set(l)
	if ok {
		w.strangeMAC(have, l)
		w.unplugged(have, l)
	}
	if have.Up && !l.Up {
		w.down(l)
	}
}

// Remove lets somebody else take an object away with all that stands on it.
// A setting goes back to its default.
func (k *Kernel) Remove(keys ...kstate.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range keys {
		_, theirs := k.world.others[key]
		switch {
		case k.world.ovs.db[key] != nil:
			k.world.dropOVS(key)
		case theirs:
			ruleset{k.world.others}.drop(key)
			k.world.fall(key)
		case isNft(key.Kind):
			ruleset{k.world.nft}.drop(key)
		case key.Kind == kstate.KindSysctl:
			delete(k.world.sysctls, key.ID)
		default:
			path, _, _ := strings.Cut(key.ID, "#") // the world knows no inodes in keys
			if key.Kind == kstate.KindNetNS {
				key.ID = path
			}
			if near, ok := k.world.far[key]; ok {
				key = near
			}
			k.world.drop(key)
		}
		k.hint("- %s", key.ID)
	}
}

// Unplug lets somebody else take a device out of its bridge.
func (k *Kernel) Unplug(dev string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.world.device(kstate.NS{}, dev)
	if !ok {
		return
	}
	if l.Name == dev {
		out := leave(l, kstate.Link{Name: l.Master})
		k.world.set(out)
		k.world.unplugged(l, out)
	} else {
		k.world.set(leave(l, kstate.Link{Name: l.Peer.Master}))
	}
	k.hint("~ %s", dev)
}

// DropFDB lets somebody else take a forwarding entry out of a vxlan's table or, with
// bridge, out of its bridge's.
func (k *Kernel) DropFDB(o kstate.FDB, bridge bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	have, _ := k.world.objs[o.Key()].(kstate.FDB)
	if bridge {
		have.Bridged = false
	} else {
		have.Dst = netip.Addr{}
	}
	if have.Bridged || have.Dst.IsValid() {
		k.world.set(have)
	} else {
		k.world.drop(o.Key())
	}
	k.hint("- %s", o.Key().ID)
}

// Reboot leaves what survives one: nothing of the kernel's, no file (they are
// under /run). The journal is on disk and stays.
func (k *Kernel) Reboot() {
	k.mu.Lock()
	defer k.mu.Unlock()
	ovs := k.world.ovs
	k.world = boot()
	k.world.ovs = ovs // its database is on disk
	k.world.switchOn()
	k.boots++
	k.hint("reboot")
}

// Listen lets a program bind a port, until stop is called. It cannot bind one
// that is held or bound.
func (k *Kernel) Listen(proto string, at netip.AddrPort, program string) (stop func(), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := socket{proto, at, program}
	for _, o := range k.world.objs {
		if h, ok := o.(kstate.Hold); ok && h.Proto == proto && meet(h.Addr, at.Addr()) && h.First <= at.Port() && at.Port() <= h.Last {
			return nil, fmt.Errorf("%s: %w by %s", s, kernel.ErrInUse, h)
		}
	}
	for _, have := range k.world.sockets {
		if have.proto == proto && have.at.Port() == at.Port() && meet(have.at.Addr(), at.Addr()) {
			return nil, fmt.Errorf("%s: %w by %s", s, kernel.ErrInUse, have.program)
		}
	}
	k.world.sockets = append(k.world.sockets, s)
	return func() { k.unlisten(s) }, nil
}

func (k *Kernel) unlisten(s socket) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.world.sockets = slices.DeleteFunc(k.world.sockets, func(x socket) bool { return x == s })
}

// Sysctl returns the value of a setting, "" if there is none of this name.
func (k *Kernel) Sysctl(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, _ := k.world.sysctl(name)
	return v
}

// Dump returns the whole world, a line per object in rank order, with what is
// not ours marked "# foreign". Settings at their default are left out. A device
// that is up because of us is as it was, and raised.
func (k *Kernel) Dump() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := kstate.Set{}
	for _, part := range []kstate.Set{k.world.objs, k.world.nft, k.world.others, k.world.ovs.db} {
		for key, o := range part {
			all[key] = o
		}
	}
	k.lowered(all)
	for name, v := range k.world.sysctls {
		if def, _ := k.world.defaultValue(name); v != def {
			o := kstate.Sysctl{Name: name, Value: v}
			all[o.Key()] = o
		}
	}
	var b strings.Builder
	for _, o := range all.Sorted() {
		fmt.Fprint(&b, o)
		if _, theirs := k.world.others[o.Key()]; theirs || kstate.Foreign(o) {
			b.WriteString(" # foreign")
		}
		b.WriteByte('\n')
	}
	for _, s := range k.world.sockets {
		fmt.Fprintln(&b, s)
	}
	return b.String()
}

// Take lets somebody else move the far end of a veth, or a handed device, from the
// host into another namespace, under another name.
func (k *Kernel) Take(dev string, ns kstate.NS, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.world.device(kstate.NS{}, dev)
	if ok && l.Name == dev && l.Handed {
		delete(k.world.objs, l.Key())
		l.NS, l.Name, l.Up, l.Other = pathOnly(ns), name, true, true
		k.world.set(l)
		k.hint("- link %s", dev)
		return
	}
	if !ok || l.Peer.Name != dev {
		return
	}
	delete(k.world.far, l.PeerKey())
	l.Peer.NS, l.Peer.Name = pathOnly(ns), name
	k.world.set(l)
	k.hint("- link %s", dev)
}

// Bring lets somebody else move a handed device that was taken back to the host,
// under the name that it was made with.
func (k *Kernel) Bring(ns kstate.NS, name, dev string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, ok := k.world.device(pathOnly(ns), name)
	if !ok || !l.Handed {
		return
	}
	k.world.drop(l.Key()) // with its addresses
	l.NS, l.Name, l.Up, l.Other = kstate.NS{}, dev, false, false
	k.world.set(l)
	k.hint("+ link %s", dev)
}
