package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/ipam"
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
	cursors   map[string]string
	meta      map[string]string
	view      *hostView // the host as observed for this draft
}

func (e *Engine) draft(ref, op string) *draft {
	return &draft{e: e, ref: ref, op: op, networks: map[model.ID]*model.Network{}, sandboxes: map[model.ID]*model.Sandbox{},
		cursors: map[string]string{}, meta: map[string]string{}}
}

// allNetworks returns the networks as they are after the draft.
func (d *draft) allNetworks() map[model.ID]*model.Network {
	if len(d.networks) == 0 {
		return d.e.intent.Networks
	}
	return overlay(d.e.intent.Networks, d.networks)
}

// allSandboxes returns the sandboxes as they are after the draft.
func (d *draft) allSandboxes() map[model.ID]*model.Sandbox {
	if len(d.sandboxes) == 0 {
		return d.e.intent.Sandboxes
	}
	return overlay(d.e.intent.Sandboxes, d.sandboxes)
}

// overlay returns base with the changes of top; nil values remove.
func overlay[V any](base, top map[model.ID]*V) map[model.ID]*V {
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

// fragments compiles what the draft touches, as it was or as it will be.
func (d *draft) fragments(networks map[model.ID]*model.Network, network map[model.ID]*model.Network, sandbox map[model.ID]*model.Sandbox) (kstate.Set, error) {
	s := kstate.Set{}
	if len(d.networks) > 0 {
		host, err := compile.Host(compile.Intent{Networks: networks}, d.e.facts)
		if err != nil {
			return nil, err
		}
		s = host
	}
	for id := range d.networks {
		if n := network[id]; n != nil {
			part, err := compile.Network(n, d.e.facts)
			if err != nil {
				return nil, err
			}
			if err := s.Merge(part); err != nil {
				return nil, err
			}
		}
	}
	for id := range d.sandboxes {
		if sb := sandbox[id]; sb != nil {
			part, err := compile.Sandbox(sb, networks, d.e.facts)
			if err != nil {
				return nil, err
			}
			if err := s.Merge(part); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// compile returns the state of what the draft touches, before and after.
func (d *draft) compile() (before, after kstate.Set, err error) {
	before, err = d.fragments(d.e.intent.Networks, d.e.intent.Networks, d.e.intent.Sandboxes)
	if err != nil {
		return nil, nil, err
	}
	after, err = d.fragments(d.allNetworks(), d.networks, d.sandboxes)
	return before, after, err
}

// change is what the store gets.
func (d *draft) change() store.Change {
	c := store.Change{Cursors: d.cursors, Meta: d.meta}
	for id, n := range d.networks {
		if n != nil {
			c.Networks = append(c.Networks, n)
		} else {
			c.DelNetwork = append(c.DelNetwork, id)
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
	old := draft{networks: map[model.ID]*model.Network{}, sandboxes: map[model.ID]*model.Sandbox{}}
	for id := range d.networks {
		old.networks[id] = d.e.intent.Networks[id]
	}
	for id := range d.sandboxes {
		old.sandboxes[id] = d.e.intent.Sandboxes[id]
	}
	return old.change()
}

// commit stores the draft and applies its effect; the two run at the same
// time. After a crash between them the first pass finds either intent without
// objects, and makes them, or marked objects without intent, and removes them.
// If either fails, the state before is applied and stored again, and the
// draft is discarded. A removal that the kernel refuses does not fail: the
// loop comes back to it.
func (d *draft) commit(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // a caller who hangs up must not leave half a change
	before, after, err := d.compile()
	if err != nil {
		d.discard()
		return internal(d.ref, d.op, err)
	}
	ops := kstate.Diff(before, after)
	stored := make(chan error, 1)
	change := d.change()
	go func() { stored <- d.e.cfg.Store.Commit(change) }()
	applied := d.e.cfg.Kernel.Apply(ctx, ops)
	errStore := <-stored
	if errStore == nil && onlyRemovals(applied) {
		if applied != nil {
			d.e.cfg.Log.Warn("left to the next pass", "err", applied)
			d.e.Kick("a removal was refused")
		}
		changed := d.movesPorts()
		d.adopt()
		if changed && d.e.cfg.PortsChanged != nil {
			d.e.cfg.PortsChanged()
		}
		return nil
	}
	undone := d.e.cfg.Kernel.Apply(ctx, kstate.Diff(after, before))
	if errStore == nil {
		errStore = d.e.cfg.Store.Commit(d.inverse())
		undone = errors.Join(undone, errStore)
	}
	if undone != nil {
		d.e.cfg.Log.Warn("undoing, left to the next pass", "err", undone)
	}
	d.discard()
	d.e.Kick("a change failed")
	if applied != nil {
		return explain(d.ref, d.op, applied)
	}
	return internal(d.ref, d.op, errStore)
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

// onlyRemovals reports whether every failure in err is of a removal.
func onlyRemovals(err error) bool {
	if err == nil {
		return true
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(many.Unwrap(), func(e error) bool { return !onlyRemovals(e) })
	}
	op, ok := errors.AsType[*kernel.OpError](err)
	return ok && op.Op.New == nil
}

// adopt makes the draft the engine's intent.
func (d *draft) adopt() {
	e := d.e
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, n := range d.networks {
		replace(e.intent.Networks, e.networkID, id, n, func(n *model.Network) string { return n.Name })
		if n == nil {
			e.closePools(id)
		}
	}
	for id, sb := range d.sandboxes {
		old := e.intent.Sandboxes[id]
		e.count(old, -1)
		e.count(sb, +1)
		e.release(old, sb)
		replace(e.intent.Sandboxes, e.sandboxID, id, sb, func(sb *model.Sandbox) string { return sb.Name })
	}
	maps.Copy(e.meta, d.meta)
}

func replace[V any](m map[model.ID]*V, names map[string]model.ID, id model.ID, v *V, name func(*V) string) {
	if old := m[id]; old != nil {
		delete(names, name(old))
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
		if err := d.e.account(sb, d.e.intent.Sandboxes[id], true); err != nil {
			d.e.cfg.Log.Error("give back what a draft had", "err", err)
		}
	}
	for id := range d.networks {
		if d.e.intent.Networks[id] == nil {
			d.e.closePools(id)
		}
	}
}

func (e *Engine) count(sb *model.Sandbox, by int) {
	if sb != nil {
		for _, ep := range sb.Endpoints {
			e.endpoints[ep.Network] += by
		}
	}
}

// openPools makes the address pools of a network.
func (e *Engine) openPools(n *model.Network) {
	for _, s := range n.Subnets {
		e.pools[poolKey{n.ID, s.Prefix.Addr().Is6()}] = ipam.NewPool(s)
	}
}

func (e *Engine) closePools(id model.ID) {
	delete(e.pools, poolKey{id, false})
	delete(e.pools, poolKey{id, true})
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
	return addrs, sb.Ports
}

// account moves the claims of a sandbox from one of its states to another.
// With undo, what from had is free at once.
func (e *Engine) account(from, to *model.Sandbox, undo bool) error {
	oldAddrs, oldPorts := held(from)
	newAddrs, newPorts := held(to)
	for a, key := range oldAddrs {
		if pool := e.pools[key]; pool != nil && newAddrs[a] != key {
			if undo {
				pool.Undo(a)
			} else {
				pool.Release(a, e.cfg.Now())
			}
		}
	}
	e.portsMu.Lock()
	defer e.portsMu.Unlock()
	for _, m := range oldPorts {
		if !slices.Contains(newPorts, m) {
			e.ports.Release(m)
		}
	}
	for a, key := range newAddrs {
		pool := e.pools[key]
		if pool == nil || oldAddrs[a] == key {
			continue
		}
		if err := pool.Claim(a, to.Name); err != nil {
			return err
		}
	}
	for _, m := range newPorts {
		if slices.Contains(oldPorts, m) {
			continue
		}
		if _, err := e.ports.Allocate(m, to.Name, nil); err != nil {
			return err
		}
	}
	return nil
}

// release frees what a committed change let go of. What it took is taken.
func (e *Engine) release(old, sb *model.Sandbox) {
	oldAddrs, oldPorts := held(old)
	newAddrs, newPorts := held(sb)
	for a, key := range oldAddrs {
		if pool := e.pools[key]; pool != nil && newAddrs[a] != key {
			pool.Release(a, e.cfg.Now())
		}
	}
	e.portsMu.Lock()
	defer e.portsMu.Unlock()
	for _, m := range oldPorts {
		if !slices.Contains(newPorts, m) {
			e.ports.Release(m)
		}
	}
}

// cursor notes a pool's cursor for the store.
func (d *draft) cursor(key poolKey) {
	d.cursors[cursorKey(key.network, key.is6)] = d.e.pools[key].Last().String()
}

// errorf makes an error about the draft.
func (d *draft) errorf(kind model.Kind, format string, args ...any) *model.Error {
	return &model.Error{Kind: kind, Ref: d.ref, Op: d.op, Err: fmt.Errorf(format, args...)}
}
