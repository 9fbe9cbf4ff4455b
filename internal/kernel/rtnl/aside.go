package rtnl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Others' default routes that are aside bear our mark, and their metric tells
// what they were. The journal has the namespaces in which there may be some: one
// that nobody wants anything in is looked at for nothing else.

// asideEntry is the journal's key of a namespace with routes aside.
func asideEntry(ns kstate.NS) string { return asidePrefix + ns.String() }

const asidePrefix = "aside/"

// parseAsideEntry reads such a key.
func parseAsideEntry(key string) (kstate.NS, bool) {
	text, ok := strings.CutPrefix(key, asidePrefix)
	if !ok {
		return kstate.NS{}, false
	}
	if i := strings.LastIndexByte(text, '#'); i >= 0 {
		if inode, err := strconv.ParseUint(text[i+1:], 10, 64); err == nil {
			return kstate.NS{Path: text[:i], Inode: inode}, true
		}
	}
	return kstate.NS{Path: text}, true
}

// aside reports whether a route of ours is somebody's that is aside.
func (r route) aside() bool {
	return r.protocol == protocol && r.table == 0 && r.dst == kstate.Aside{}.Dst() && r.metric&^0xff == kstate.AsideMetric && !r.blackhole
}

// first reports whether a route of somebody's is in the way of ours.
func (r route) first() bool {
	return r.protocol != protocol && r.table == 0 && r.dst == kstate.Aside{}.Dst() && r.metric == 0 && !r.blackhole
}

// instead reports whether a route is the one of ours that others gave way to.
func (r route) instead() bool {
	return r.protocol == protocol && r.table == 0 && r.dst == kstate.Aside{}.Dst() && r.metric == 0 && !r.blackhole
}

// again appends the route as the kernel reported it, with another mark and
// metric. What the kernel adds for those who ask goes.
func (r route) again(m *message, proto uint8, metric uint32) *message {
	head := []byte(r.raw[:unix.SizeofRtMsg])
	head[5] = proto
	native.PutUint32(head[8:], native.Uint32(head[8:])&unix.RTNH_F_ONLINK)
	m.buf = append(m.buf, head...)
	attrs([]byte(r.raw[unix.SizeofRtMsg:]), func(typ uint16, v []byte) {
		if typ != unix.RTA_PRIORITY && typ != unix.RTA_CACHEINFO {
			m.attr(typ, v)
		}
	})
	if metric != 0 {
		m.u32(unix.RTA_PRIORITY, metric)
	}
	return m
}

// planAside queues what sets others' routes aside, or puts them back. There is a
// way at each moment: the new form of a route is made before the old one goes.
func (p *pass) planAside(op int, change kstate.Op) error {
	o := change.Object().(kstate.Aside)
	if change.New == nil {
		p.undone[op] = asideEntry(o.NS)
	}
	s, err := p.space(o.NS)
	if change.New == nil && errors.Is(err, kernel.ErrNoNamespace) {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := s.sock.routes(context.Background())
	if err != nil {
		return err
	}
	back := change.New == nil && slices.ContainsFunc(all, route.aside)
	for _, r := range all {
		if back && r.instead() { // it may be about to go with its device, which takes a while
			s.addForgiving(op, r.again(newMessage(unix.RTM_DELROUTE, 0), protocol, 0), kernel.ErrMissing)
		}
	}
	for _, r := range all {
		switch {
		case change.New == nil && r.aside():
			s.addForgiving(op, r.again(newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL), uint8(r.metric), 0), kernel.ErrInUse)
			s.addForgiving(op, r.again(newMessage(unix.RTM_DELROUTE, 0), protocol, r.metric), kernel.ErrMissing)
		case change.New != nil && r.first():
			if err := p.c.journal.Put(asideEntry(o.NS), ""); err != nil {
				return fmt.Errorf("journal: %w", err)
			}
			s.addForgiving(op, r.again(newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL), protocol, kstate.AsideMetric|uint32(r.protocol)), kernel.ErrInUse)
			s.addForgiving(op, r.again(newMessage(unix.RTM_DELROUTE, 0), r.protocol, 0), kernel.ErrMissing)
		}
	}
	return nil
}

// aside tells of a namespace whether others' default routes are aside. One of
// somebody else's without such routes is as if they were.
func (v *view) aside(s *space, routes []route) {
	if s.ns.IsHost() {
		return
	}
	_, noted := v.noted[asideEntry(s.ns)]
	aside := noted || slices.ContainsFunc(routes, route.aside)
	first := slices.ContainsFunc(routes, route.first)
	switch {
	case aside:
		v.objs = append(v.objs, kstate.Aside{NS: s.ns, Partly: first})
	case !first && !v.c.dir.Ours(s.ns.Path):
		v.objs = append(v.objs, kstate.Aside{NS: s.ns, Other: true})
	}
}

// asideElsewhere tells of the other namespaces of the journal, also of those that
// are gone: who removes that erases the entry.
func (v *view) asideElsewhere(seen map[string]bool) {
	for key := range v.noted {
		if ns, ok := parseAsideEntry(key); ok && !seen[ns.String()] {
			v.objs = append(v.objs, kstate.Aside{NS: ns})
		}
	}
}
