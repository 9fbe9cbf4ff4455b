package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/store"
)

// draft is a change that is not committed: the new state of each object it
// touches, nil for one that goes away. Addresses and ports in it are allocated
// already; discard gives them back. A draft belongs to the holder of Engine.work.
type draft struct {
	e         *Engine
	ref, op   string // for errors
	networks  map[model.ID]*model.Network
	sandboxes map[model.ID]*model.Sandbox
	codes     map[model.ID]int // exit codes of commands that end with their sandboxes
	cursors   map[string]string
	rewind    map[poolKey]string // cursors as they were
	meta      map[string]string
	view      *hostView           // the host as observed for this draft
	spaces    map[string]*space   // foreign namespaces as observed for this draft, by path
	crowd     map[bridgeKey]int   // endpoints the draft adds
	aside     map[netip.Addr]bool // not to be chosen: somebody in the draft will ask for them
	whole     bool                // no beginning of an ID is meant: who says so is a file, which outlives what it was written for
}

func (e *Engine) draft(ref, op string) *draft {
	return &draft{e: e, ref: ref, op: op, networks: map[model.ID]*model.Network{}, sandboxes: map[model.ID]*model.Sandbox{},
		codes: map[model.ID]int{}, cursors: map[string]string{}, rewind: map[poolKey]string{}, meta: map[string]string{}, crowd: map[bridgeKey]int{}}
}

// allNetworks returns the networks as they are after the draft.
func (d *draft) allNetworks() map[model.ID]*model.Network {
	if len(d.networks) == 0 {
		return d.e.intent.Networks
	}
	return laid(d.e.intent.Networks, d.networks)
}

// allSandboxes yields the sandboxes as they are after the draft.
func (d *draft) allSandboxes() iter.Seq[*model.Sandbox] {
	return func(yield func(*model.Sandbox) bool) {
		for _, sb := range d.sandboxes {
			if sb != nil && !yield(sb) {
				return
			}
		}
		for id, sb := range d.e.intent.Sandboxes {
			if _, touched := d.sandboxes[id]; !touched && !yield(sb) {
				return
			}
		}
	}
}

// sandboxNow returns a sandbox as it is after the draft, or nil.
func (d *draft) sandboxNow(id model.ID) *model.Sandbox {
	if sb, touched := d.sandboxes[id]; touched {
		return sb
	}
	return d.e.intent.Sandboxes[id]
}

// laid returns base with the changes of top; nil values remove.
func laid[V any](base, top map[model.ID]*V) map[model.ID]*V {
	m := maps.Clone(base)
	for id, v := range top {
		if v == nil {
			delete(m, id)
		} else {
			m[id] = v
		}
	}
	return m
}

// edit returns the draft's own copy of a sandbox, to be changed.
func (d *draft) edit(sb *model.Sandbox) *model.Sandbox {
	if d.sandboxes[sb.ID] != nil {
		return d.sandboxes[sb.ID]
	}
	c := sb.Clone()
	d.sandboxes[sb.ID] = c
	return c
}

// before returns the sandboxes that the draft touches as they are in intent.
func (d *draft) before() map[model.ID]*model.Sandbox {
	m := make(map[model.ID]*model.Sandbox, len(d.sandboxes))
	for id := range d.sandboxes {
		m[id] = d.e.intent.Sandboxes[id]
	}
	return m
}

// change is what the store gets.
func (d *draft) change() store.Change {
	c := store.Change{Cursors: d.cursors, Meta: d.meta}
	for id, n := range d.networks {
		if old := d.e.intent.Networks[id]; old != nil || n != nil {
			c.Networks = append(c.Networks, store.Revision{Old: old, New: n})
		}
	}
	for id, sb := range d.sandboxes {
		if sb != nil {
			c.Sandboxes = append(c.Sandboxes, sb)
		} else {
			c.DelSandbox = append(c.DelSandbox, id)
		}
	}
	return c
}

// inverse is the change that takes change back.
func (d *draft) inverse() store.Change {
	old := draft{e: d.e, sandboxes: d.before()}
	c := old.change()
	for _, r := range d.change().Networks {
		c.Networks = append(c.Networks, store.Revision{Old: r.New, New: r.Old})
	}
	return c
}

// commit stores the draft and applies its effect; the two run at the same
// time. After a crash between them the first pass finds either intent without
// objects, and makes them, or marked objects without intent, and removes them.
// If either fails, the state before is applied and stored again, and the
// draft is discarded. A removal that the kernel refuses does not fail: the
// loop comes back to it.
func (d *draft) commit(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // a caller who hangs up must not leave half a change
	d.dropWires(ctx)
	d.dropLanes()
	d.settleUse()
	d.restHealth()
	if err := d.checkTunnels(ctx); err != nil {
		d.discard()
		return err
	}
	before, after, err := d.compile()
	if err == nil {
		err = d.e.payStore()
	}
	if err != nil {
		d.discard()
		return internal(d.ref, d.op, err)
	}
	d.releaseLeases()
	ops := kstate.Diff(before, after)
	if len(d.shake(ops)) > 0 || d.reseats() {
		defer d.e.Kick("what commands in a container stand on")
		err = d.noteGrounds()
	}
	if err != nil {
		d.discard()
		return internal(d.ref, d.op, err)
	}
	stored := make(chan error, 1)
	change := d.change()
	go func() { stored <- d.e.cfg.Store.Commit(change) }()
	applied := d.e.cfg.Kernel.Apply(ctx, ops)
	errStore := <-stored
	done := onlyRemovals(applied, ops) || flushed(applied)
	if errStore == nil && done {
		if !onlyOthers(applied) {
			d.e.cfg.Log.Warn("left to the next pass", "err", applied)
			d.e.Kick("a removal was refused, or our rules are gone")
		}
		changed, before, handed := d.movesPorts(), d.before(), d.handovers()
		defer d.e.contest(d.returned())
		d.adopt()
		d.serveNames(before)
		d.e.tellOverlays()
		if len(d.networks) > 0 {
			d.e.wantTunnels()
		}
		if unheard(ops) {
			d.e.watchful()
		}
		if changed && d.e.cfg.PortsChanged != nil {
			d.e.cfg.PortsChanged()
		}
		if len(handed) > 0 && d.e.cfg.HandedOver != nil {
			d.e.cfg.HandedOver(handed)
		}
		return nil
	}
	undone := d.e.cfg.Kernel.Apply(ctx, kstate.Diff(after, firm(before, after)))
	if errStore == nil {
		d.e.owed = append(d.e.owed, d.inverse())
		undone = errors.Join(undone, d.e.payStore())
	}
	if undone != nil {
		d.e.cfg.Log.Warn("undoing, left to the next pass", "err", undone)
	}
	d.discard()
	d.e.Kick("a change failed")
	if !done {
		return explain(d.ref, d.op, applied)
	}
	return internal(d.ref, d.op, errStore)
}

// firm returns what was before with the sets and chains that came since. To take them
// out means to replace their table, for which all that is in it has to be known: the
// next pass does it.
func firm(before, after kstate.Set) kstate.Set {
	s := maps.Clone(before)
	for k, o := range after {
		if (k.Kind == kstate.KindSet || k.Kind == kstate.KindChain) && s[k] == nil && s[o.On()[0]] != nil {
			s[k] = o
		}
	}
	return s
}

// payStore takes back what the store has of changes that failed. It is tried
// again before the next change and in each pass: until then a restart would
// bring back what its user was told had failed.
func (e *Engine) payStore() error {
	for len(e.owed) > 0 {
		if err := e.cfg.Store.Commit(e.owed[0]); err != nil {
			return err
		}
		e.owed = e.owed[1:]
	}
	return nil
}

// movesPorts reports whether a sandbox with published ports is touched.
func (d *draft) movesPorts() bool {
	for id := range d.sandboxes {
		if old := d.e.intent.Sandboxes[id]; old != nil && len(old.Ports) > 0 {
			return true
		}
	}
	return false
}

// onlyRemovals reports whether every failure in err is of a removal that took
// no addition with it: nftables ops in a row happen or fail together.
func onlyRemovals(err error, ops []kstate.Op) bool {
	failed := opErrors(err)
	for _, f := range failed {
		i := slices.IndexFunc(ops, func(op kstate.Op) bool { return op.New == nil && op.String() == f.Op.String() })
		if i < 0 {
			return false
		}
		for isNft(ops[i]) && i > 0 && isNft(ops[i-1]) {
			i--
		}
		for ; i < len(ops) && isNft(ops[i]); i++ {
			if ops[i].New != nil {
				return false
			}
		}
	}
	return err == nil || len(failed) > 0
}

// flushed reports whether all that failed is what stands on our tables of nftables, which
// somebody has just taken away with everything in them: the pass that brings them back
// brings that, too.
func flushed(err error) bool {
	failed := opErrors(err)
	return len(failed) > 0 && !slices.ContainsFunc(failed, func(f *kernel.OpError) bool { return !isNft(f.Op) || !errors.Is(f.Err, kernel.ErrMissing) })
}

// onlyOthers reports whether every failure in err is of removing what is
// somebody else's, as an adopted bridge's own address: it was theirs before and
// stays so.
func onlyOthers(err error) bool {
	return !slices.ContainsFunc(opErrors(err), func(f *kernel.OpError) bool { return !errors.Is(f.Err, kernel.ErrInUse) })
}

func isNft(op kstate.Op) bool {
	k := op.Object().Key().Kind
	return k >= kstate.KindTable && k <= kstate.KindElem
}

// adopt makes the draft the engine's intent.
func (d *draft) adopt() {
	e := d.e
	defer e.refreshGuests(d.changesGuests())
	e.events.add(d.events())
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, n := range d.networks {
		e.noteParts(e.intent.Networks[id], n)
		replace(e.intent.Networks, e.networkID, id, n, func(n *model.Network) string { return n.Name })
		if n == nil {
			e.closePools(id)
			e.reserve(id, nil)
		}
	}
	for id, sb := range d.sandboxes {
		old := e.intent.Sandboxes[id]
		e.count(old, -1)
		e.count(sb, +1)
		e.release(old, sb, false)
		e.register.replace(old, sb)
		replace(e.intent.Sandboxes, e.sandboxID, id, sb, func(sb *model.Sandbox) string { return sb.Name })
	}
	maps.Copy(e.meta, d.meta)
}

func replace[V any](m map[model.ID]*V, names map[string]model.ID, id model.ID, v *V, name func(*V) string) {
	if old := m[id]; old != nil {
		if names[name(old)] == id { // or another one of the draft has it by now
			delete(names, name(old))
		}
		delete(m, id)
	}
	if v != nil {
		names[name(v)] = id
		m[id] = v
	}
}

// discard gives back what the draft allocated.
func (d *draft) discard() {
	for id, sb := range d.sandboxes {
		d.e.release(sb, d.e.intent.Sandboxes[id], true)
	}
	d.rewindPools()
	for id, n := range d.networks {
		d.e.reserve(id, d.e.intent.Networks[id])
		if old := d.e.intent.Networks[id]; old != nil {
			d.e.waitAsBefore(n, old)
		} else {
			d.e.closePools(id)
		}
	}
}

func (d *draft) rewindPools() {
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	for key, cursor := range d.rewind {
		d.e.pools[key].SetCursor(cursor)
	}
}

func (e *Engine) count(sb *model.Sandbox, by int) {
	if sb != nil {
		for _, ep := range sb.Endpoints {
			e.endpoints[ep.Network] += by
			e.crowdBy(&ep, by)
			if ep.DHCP4 != nil || ep.DHCP6 != nil {
				e.leases.endpoints += by
			}
		}
		e.links += by * len(sb.Links)
	}
}

// held lists what a sandbox holds: addresses by pool, and ports.
func held(sb *model.Sandbox) (map[netip.Addr]poolKey, []model.PortMapping) {
	if sb == nil {
		return nil, nil
	}
	addrs := map[netip.Addr]poolKey{}
	for _, ep := range sb.Endpoints {
		for _, p := range ep.Addrs {
			addrs[p.Addr()] = poolKey{ep.Network, p.Addr().Is6()}
		}
	}
	ports := make([]model.PortMapping, 0, len(sb.Ports))
	for _, m := range sb.Ports {
		if !m.Idle {
			ports = append(ports, m.Plain())
		}
	}
	return addrs, ports
}

// claim takes what a sandbox from the store holds.
func (e *Engine) claim(sb *model.Sandbox) error {
	addrs, ports := held(sb)
	for a, key := range addrs {
		if pool := e.pools[key]; pool != nil && !pool.Lent(a) {
			if err := pool.Claim(a, sb.Ref()); err != nil {
				return err
			}
		}
	}
	for _, m := range ports {
		if _, err := e.ports.Allocate(m, string(sb.ID), nil); err != nil {
			return err
		}
	}
	return nil
}

// release frees what one state of a sandbox holds and another does not, with
// undo as if it had never been taken.
func (e *Engine) release(from, to *model.Sandbox, undo bool) {
	oldAddrs, oldPorts := held(from)
	newAddrs, newPorts := held(to)
	e.releaseAddrs(oldAddrs, newAddrs, undo)
	e.releasePorts(oldPorts, newPorts, undo)
}

func (e *Engine) releaseAddrs(oldAddrs, newAddrs map[netip.Addr]poolKey, undo bool) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for a, key := range oldAddrs {
		pool := e.pools[key]
		switch {
		case pool == nil || newAddrs[a] == key:
		case undo:
			pool.Undo(a)
		default:
			pool.Release(a, e.cfg.Now())
		}
	}
}

func (e *Engine) releasePorts(oldPorts, newPorts []model.PortMapping, undo bool) {
	e.portsMu.Lock()
	defer e.portsMu.Unlock()
	for _, m := range slices.Backward(oldPorts) {
		switch {
		case slices.Contains(newPorts, m):
		case undo:
			e.ports.Undo(m)
		default:
			e.ports.Release(m)
		}
	}
}

// allocate takes the next address of a pool and notes the pool's cursor: the
// new one for the store, the old one for discard. The caller holds poolsMu.
func (d *draft) allocate(key poolKey, sb *model.Sandbox) (netip.Addr, error) {
	pool := d.e.pools[key]
	if _, noted := d.rewind[key]; !noted {
		d.rewind[key] = pool.Cursor()
	}
	a, err := pool.Allocate(sb.Ref(), d.e.cfg.Now())
	var passed []netip.Addr
	for err == nil && d.aside[a] {
		passed = append(passed, a)
		a, err = pool.Allocate(sb.Ref(), d.e.cfg.Now())
	}
	for _, p := range passed {
		pool.Undo(p)
	}
	d.cursors[cursorKey(key.network, key.is6)] = pool.Cursor()
	return a, err
}

// errorf makes an error about the draft.
func (d *draft) errorf(kind model.Kind, format string, args ...any) *model.Error {
	return &model.Error{Kind: kind, Ref: d.ref, Op: d.op, Err: fmt.Errorf(format, args...)}
}
