package rtnl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// Observe returns the namespaces of scope that are there and, without
// scope.Only, all of ours; the links, addresses and routes in them; and those
// in the host's namespace.
//
// The far end of a veth of ours is part of its link and not an object of its
// own. If it is in none of the namespaces looked at, the link's Peer is zero,
// so that it differs from whatever is wanted. Doomed devices are not there. A
// device of ours on one of the host's is a link of the namespace that it is in.
//
// An address on a device of ours is ours; in a namespace other than the host's only with
// our mark, where the kernel keeps that: inside, its owner is free to add more. So it
// is with permanent neighbours, but those without our mark are left out there, as
// they are on all devices that are not ours.
//
// Left out are addresses and routes that the kernel made itself on devices of
// ours, on loopback devices, or link-local.
func (c *Conn) Observe(ctx context.Context, scope kernel.Scope) (objs []kstate.Object, err error) {
	v, err := c.newView(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { c.giveBack(v.host.sock, err) }()
	if !scope.Only {
		if err := v.lookAtHost(); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	var spaces []kstate.NS
	for _, ns := range scope.NS {
		if ns.IsHost() || seen[ns.String()] {
			continue
		}
		seen[ns.String()], seen[ns.Path] = true, true
		spaces = append(spaces, ns)
	}
	v.alone = scope.Only && len(spaces) == 1
	if err := v.lookAtEach(spaces); err != nil {
		return nil, err
	}
	if scope.Only {
		return v.objs, nil
	}
	v.asideElsewhere(seen)
	c.hear(len(scope.NS))
	c.forget(v.inodes)
	return v.objs, v.finish(seen)
}

// Many namespaces are looked at side by side: who wants to change something waits for
// a pass. So many are for one goroutine, and there are at most so many of these.
const (
	each    = 64
	abreast = 4
)

// lookAtEach reads other namespaces.
func (v *view) lookAtEach(spaces []kstate.NS) error {
	n := 1
	if v.all { // devs do not change any more
		n = min(runtime.GOMAXPROCS(0), abreast, 1+len(spaces)/each)
	}
	parts, errs := make([]view, n), make([]error, n)
	look := func(i int) {
		part := &parts[i]
		*part = *v
		part.objs, part.far, part.inodes = nil, map[int]end{}, map[uint64]bool{}
		for k := i; k < len(spaces) && errs[i] == nil; k += n {
			errs[i] = part.lookAt(spaces[k], true)
		}
	}
	var others sync.WaitGroup
	for i := 1; i < n; i++ {
		others.Go(func() { look(i) })
	}
	look(0)
	others.Wait()
	for _, part := range parts {
		v.objs = append(v.objs, part.objs...)
		maps.Copy(v.far, part.far)
		maps.Copy(v.inodes, part.inodes)
	}
	return errors.Join(errs...)
}

// view is one Observe.
type view struct {
	ctx    context.Context
	c      *Conn
	host   *space
	noted  map[string]string // the journal
	all    bool              // devs are all the host's devices
	alone  bool              // of one namespace, which is likely to be changed next
	devs   map[int]device    // the host's devices by index, as far as known
	far    map[int]end       // by the index of the near end
	inHost map[int]bool      // far ends in the host's namespace
	inodes map[uint64]bool   // of the namespaces that were looked at
	objs   []kstate.Object
}

func (c *Conn) newView(ctx context.Context) (*view, error) {
	entries, err := c.journal.Entries()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	sock, err := c.borrow()
	if err != nil {
		return nil, err
	}
	return &view{
		ctx: ctx, c: c, host: newSpace(kstate.NS{}, c.host, sock), noted: entries,
		devs: map[int]device{}, far: map[int]end{}, inHost: map[int]bool{}, inodes: map[uint64]bool{c.host.Inode(): true},
	}, nil
}

// lookAtHost reads the host's namespace. Its links become objects in the end,
// when the far ends are known.
func (v *view) lookAtHost() error {
	devs, err := v.host.sock.devices(v.ctx)
	if err != nil {
		return err
	}
	v.all = true
	for _, d := range devs {
		v.devs[d.index] = d
	}
	v.c.parents.see(v.devs)
	for _, d := range devs {
		near := v.near(v.host, d)
		if near != nil && near.ours() {
			v.far[near.index] = end{device: d, master: v.devs[d.master].asMaster()}
		}
		if near != nil {
			v.inHost[d.index] = true
		}
	}
	if err := v.sorted(); err != nil {
		return err
	}
	if err := v.shaping(); err != nil {
		return err
	}
	if err := v.forwarding(); err != nil {
		return err
	}
	if err := v.policy(); err != nil {
		return err
	}
	return v.addrsAndRoutes(v.host, v.devs)
}

// near returns the near end of which d is the far end, if that is a veth of
// ours, doomed or not. Devices have one index each in the host's namespace, so
// the near end is the one that d names there; of two ends that are there, both of
// our group, the near one has the lower index.
func (v *view) near(s *space, d device) *device {
	if d.kind != string(kstate.TypeVeth) || d.far == 0 || s == v.host && d.nearer() {
		return nil
	}
	near, ok := v.devs[d.far]
	if !ok && !v.all {
		got, err := v.host.sock.get(getDevice("", d.far))
		if err != nil {
			return nil
		}
		near = parseDevice(got)
		v.devs[d.far] = near
	}
	if (near.ours() || near.doomed()) && near.far == d.index && s.fromHost(d, v.host) {
		return &near
	}
	return nil
}

// lookAt reads another namespace: all of it, or only its far ends of ours.
func (v *view) lookAt(ns kstate.NS, whole bool) error {
	if err := v.ctx.Err(); err != nil {
		return err
	}
	h, err := netns.Open(ns)
	if errors.Is(err, kernel.ErrNoNamespace) {
		return nil
	}
	if err != nil {
		return err
	}
	v.inodes[h.Inode()] = true
	sock, err := v.c.ports.open(h)
	if err != nil {
		h.Close()
		return fmt.Errorf("%s: %w", ns, err)
	}
	if err = v.read(newSpace(ns, h, sock), whole); err == nil && v.alone {
		v.c.looked.keep(ns, h, sock)
		return nil
	}
	sock.close()
	h.Close()
	return err
}

// read is lookAt once the namespace is open.
func (v *view) read(s *space, whole bool) error {
	ns := s.ns
	found := v.c.dir.Object(ns)
	if found.Other {
		found.NS.Inode = s.handle.Inode() // whoever did not know it asks for this
	}
	found.Cookie, _ = unix.GetsockoptUint64(s.sock.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	v.objs = append(v.objs, found)
	devs, err := s.sock.devices(v.ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", ns, err)
	}
	byIndex := make(map[int]device, len(devs))
	for _, d := range devs {
		byIndex[d.index] = d
	}
	for _, d := range devs {
		near := v.near(s, d)
		switch {
		case d.lent():
			v.objs = append(v.objs, v.nic(ns, d))
		case near == nil && whole && s.lowered(d, v.host):
			v.objs = append(v.objs, d.lower(ns, v.parent(d), byIndex[d.master].name))
		case near == nil && whole:
			v.objs = append(v.objs, d.link(ns, byIndex[d.master].name, nil))
		case near != nil && near.ours():
			v.far[near.index] = end{device: d, ns: ns}
		}
	}
	if !whole {
		return nil
	}
	return v.addrsAndRoutes(s, byIndex)
}

// addrsAndRoutes reads the addresses and routes of a namespace.
func (v *view) addrsAndRoutes(s *space, devs map[int]device) error {
	addrs, err := s.sock.addrs(v.ctx)
	if err != nil {
		return err
	}
	routes, err := s.sock.routes(v.ctx)
	if err == nil && s.ns.IsHost() {
		var more []route
		more, err = s.sock.tables(v.ctx)
		routes = append(routes, more...)
		if err == nil {
			more, err = s.sock.detours(v.ctx)
			routes = append(routes, more...)
		}
	}
	if err != nil {
		return err
	}
	ours := map[int]bool{}
	hidden := map[int]bool{}
	for i, d := range devs {
		near := v.near(s, d)
		ours[i] = near != nil || d.ours() && s == v.host || s.lowered(d, v.host) || d.lent() && s != v.host
		hidden[i] = near != nil && near.doomed() || d.doomed() && s == v.host
	}
	if marked(addrs) {
		v.c.marks.Store(true)
	}
	marks := !s.ns.IsHost() && v.c.marks.Load()
	joined := connected(routes)
	for _, a := range addrs {
		d, known := devs[a.index]
		o := kstate.Addr{NS: s.ns, Dev: d.name, Prefix: a.prefix}
		if !ours[a.index] {
			_, noted := v.noted[entry(o)]
			o.Other = !noted
		}
		kernels := a.kernels(o.Other)
		if ours[a.index] && marks {
			o.Other = a.origin != protocol
		}
		o.Second = o.Other && a.second
		o.Cut = ours[a.index] && !o.Other && d.up && d.master == 0 && a.routed() && !joined[subnet{a.index, a.prefix.Masked()}]
		if known && !hidden[a.index] && !kernels {
			v.objs = append(v.objs, o)
		}
	}
	v.aside(s, routes)
	for _, r := range slices.Backward(routes) { // of several by one way the kernel lists the best first, and the last counts
		o := kstate.Route{NS: s.ns, Dst: r.dst, Via: r.via, Dev: devs[r.index].name, Other: r.protocol != protocol, Table: r.table}
		if o.Other {
			o.Metric = r.metric
		}
		if !o.Other {
			o.Src = r.src
		}
		if !o.Other {
			o.Onlink, o.Blackhole, o.MTU = r.onlink, r.blackhole, r.mtu
		}
		o.First = !o.Other && o.Dst.Bits() == 0 && o.Dst.Addr().Is6() && r.metric == firstMetric
		if r.aside() || r.blackhole && o.Other {
			continue
		}
		if !hidden[r.index] && !r.kernels(ours[r.index]) {
			v.objs = append(v.objs, o)
		}
	}
	return v.neighbours(s, devs, func(i int) bool { return ours[i] && !hidden[i] })
}

// kernels reports whether the kernel made an address itself. Kernels before
// 5.18 do not say so; what looks like theirs on a device that is not ours is.
func (a address) kernels(other bool) bool {
	if a.origin == ifaProtoLo || a.origin == ifaProtoLL {
		return true
	}
	ip := a.prefix.Addr()
	return other && (ip.IsLoopback() || ip.Is6() && ip.IsLinkLocalUnicast())
}

// kernels reports whether the kernel made a route itself, for an address of
// ours or for link-local traffic. The routes it made for the addresses of
// others tell which subnets are taken.
func (r route) kernels(ours bool) bool {
	dst := r.dst.Addr()
	if dst.Is6() && (dst.IsLinkLocalUnicast() || dst.IsMulticast()) {
		return r.protocol != protocol
	}
	return ours && r.protocol == unix.RTPROT_KERNEL
}

// finish adds namespaces of ours that are not in the scope and the host's links.
func (v *view) finish(seen map[string]bool) error {
	paths, err := v.c.dir.List()
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for _, path := range paths {
		if seen[path] {
			continue
		}
		if err := v.lookAt(kstate.NS{Path: path}, false); err != nil {
			return err
		}
	}
	v.raised()
	for i, d := range v.devs {
		if d.doomed() || v.inHost[i] {
			continue
		}
		if d.lent() {
			v.objs = append(v.objs, v.nic(kstate.NS{}, d))
			continue
		}
		if v.host.lowered(d, v.host) {
			v.objs = append(v.objs, d.lower(kstate.NS{}, v.parent(d), v.devs[d.master].name))
			continue
		}
		var other *end
		if f, ok := v.far[i]; ok {
			other = &f
		}
		l := d.link(kstate.NS{}, v.devs[d.master].asMaster(), other)
		if d.onParent() && d.nsid == noNSID {
			l.Parent = v.devs[d.far].name
		}
		if d.under != 0 && d.ours() {
			l.Parent = v.devs[d.under].name
			v.c.parents.add(l.Parent)
		}
		if d.ours() && l.Type == kstate.TypeVXLAN {
			v.c.tunnels.add(d.index)
		}
		v.objs = append(v.objs, l)
	}
	return nil
}
