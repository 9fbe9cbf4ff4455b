package engine

import (
	"context"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// An endpoint that is named and in no container yet is intent of its network: it
// has addresses, and nothing in the kernel. Its pools know it as long as it waits.

// Expect notes an endpoint that a container engine will put into a container.
// Its ID and its addresses are its own until Part, or until its network goes.
func (e *Engine) Expect(ctx context.Context, network string, w model.Waiting) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft(w.Ref(), "create")
	n, err := d.network(network)
	if err != nil {
		return err
	}
	if w.MAC != "" || n.OwnMAC() {
		if w.MAC, err = model.CheckMAC(w.MAC); err != nil {
			return d.errorf(model.Invalid, "%w", err)
		}
	}
	if err := d.checkServices(n, EndpointSpec{Services: w.Services}); err != nil {
		return err
	}
	if have := n.WaitingFor(w.ID); have != nil && have.MAC == w.MAC && slices.Equal(have.Addrs, w.Addrs) && slices.Equal(have.Services, w.Services) {
		return nil // asked twice: the first answer was lost
	}
	if e.sandboxWith(w.ID) != nil || e.waitingIn(w.ID) != nil {
		return d.errorf(model.Conflict, "is there already")
	}
	if err := d.reserve(n, w); err != nil {
		return err
	}
	d.setWaiting(n, append(slices.Clone(n.Waiting), w))
	return d.commit(ctx)
}

// reserve takes what an endpoint will have.
func (d *draft) reserve(n *model.Network, w model.Waiting) error {
	if err := d.checkWanted(n, w.Addrs, false); err != nil {
		return err
	}
	for i, a := range w.Addrs {
		if err := d.reserveAddress(n, a, w.Ref()); err != nil {
			d.e.unreserve(n.ID, w.Addrs[:i])
			return err
		}
	}
	if w.MAC == "" {
		return nil
	}
	if _, err := d.hardwareAddress(n, w.MAC); err != nil { // last: who has the address has the one that is made of it
		d.e.unreserve(n.ID, w.Addrs)
		return err
	}
	return nil
}

// reserveAddress takes an address that a container engine has chosen. One that it
// borrowed is taken already, and may be promised to one endpoint.
func (d *draft) reserveAddress(n *model.Network, a netip.Addr, owner string) error {
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	pool := d.e.pools[poolKey{n.ID, a.Is6()}]
	if pool.Lent(a) {
		return d.notTwice(n, a)
	}
	if err := pool.Claim(a, owner); err != nil {
		return d.errorf(refusal(n, a), "network %s: %w", n.Name, err)
	}
	return nil
}

// unreserve gives addresses back.
func (e *Engine) unreserve(network model.ID, addrs []netip.Addr) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, a := range addrs {
		if pool := e.pools[poolKey{network, a.Is6()}]; pool != nil {
			pool.Undo(a)
		}
	}
}

// setWaiting changes, in the draft, who waits on a network.
func (d *draft) setWaiting(n *model.Network, list []model.Waiting) {
	c := *n
	c.Waiting = list
	d.networks[n.ID] = &c
}

// stopWaiting takes an endpoint off those that wait, and returns its addresses.
func (d *draft) stopWaiting(n *model.Network, id model.ID) []netip.Addr {
	w := n.WaitingFor(id)
	if w == nil {
		return nil
	}
	d.setWaiting(n, slices.DeleteFunc(slices.Clone(n.Waiting), func(w model.Waiting) bool { return w.ID == id }))
	return w.Addrs
}

// keepWaiting gives those who wait on a network what is theirs, at start and after
// a draft that came to nothing.
func (e *Engine) keepWaiting(n *model.Network) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for i := range n.Waiting {
		for _, a := range n.Waiting[i].Addrs {
			if pool := e.pools[poolKey{n.ID, a.Is6()}]; pool != nil && !pool.Lent(a) {
				_ = pool.Claim(a, n.Waiting[i].Ref()) // or it has it still
			}
		}
	}
}

// waitAsBefore undoes what a draft of a network, nil if it removes it, did with
// the addresses of those who wait there.
func (e *Engine) waitAsBefore(draft, old *model.Network) {
	if draft != nil {
		for _, w := range draft.Waiting {
			if old.WaitingFor(w.ID) == nil {
				e.unreserve(old.ID, w.Addrs)
			}
		}
	}
	e.keepWaiting(old)
}

// waitingIn returns the network that an endpoint waits on, or nil. The caller
// holds work.
func (e *Engine) waitingIn(id model.ID) *model.Network {
	for _, n := range e.intent.Networks {
		if n.WaitingFor(id) != nil {
			return n
		}
	}
	return nil
}

// partWaiting takes one away that is in no container yet. Its addresses rest:
// others may have heard of them.
func (d *draft) partWaiting(ctx context.Context, n *model.Network, id model.ID) error {
	addrs := d.stopWaiting(n, id)
	if err := d.commit(ctx); err != nil {
		return err
	}
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	for _, a := range addrs {
		d.e.pools[poolKey{n.ID, a.Is6()}].Release(a, d.e.cfg.Now())
	}
	return nil
}
