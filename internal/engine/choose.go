package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
)

// The pool of a network whose wire is shared with others is ours by agreement only:
// somebody may have given a machine an address of it. So the wire is asked about an
// automatic address before it is used, which takes its time and is not done under
// work. A choice holds the address meanwhile.

// choice is an automatic address that nobody on the wire has.
type choice struct {
	key   poolKey
	addr  netip.Addr
	taken bool // a draft has it: it is for that to give back. Guarded by poolsMu
}

// maxChosen is how many addresses are tried. One that somebody has costs a
// millisecond.
const maxChosen = 256

// choosing is the owner of an address that the wire is asked about, in errors.
const choosing = "an endpoint that is about to be made"

// settleWire asks the wire of a network about the addresses of an endpoint to be
// made, and chooses those that are automatic. done gives back what came to nothing.
func (e *Engine) settleWire(ctx context.Context, ref, op string, spec EndpointSpec) (_ EndpointSpec, done func(), err error) {
	n, missing := e.Network(spec.Network)
	if missing == nil && n.Overlay != nil {
		return e.claimAddresses(ctx, ref, op, n, spec)
	}
	spec.unknown = missing != nil
	if missing == nil && slices.ContainsFunc(spec.Addrs, func(a netip.Addr) bool {
		s, _ := n.SubnetWith(a)
		return !s.Prefix.Contains(a)
	}) {
		return spec, func() {}, nil // it is refused, without asking who has it
	}
	var asked error
	var group sync.WaitGroup
	group.Go(func() { asked = e.probeAddresses(ctx, ref, op, spec) })
	chosen, err := e.chooseAddresses(ctx, ref, op, spec)
	group.Wait()
	spec.chosen = chosen
	done = func() { e.unchoose(chosen) }
	if asked != nil {
		err = asked
	}
	if err != nil {
		done()
		return spec, func() {}, err
	}
	return spec, done, nil
}

// settleDeclared does the same for the endpoints of a declaration that are not there
// yet. A network that is made by the same declaration has no wire to ask.
func (e *Engine) settleDeclared(ctx context.Context, decl Declaration) (Declaration, func(), error) {
	decl.Endpoints = slices.Clone(decl.Endpoints)
	dones := make([]func(), len(decl.Endpoints))
	failed := make([]error, len(decl.Endpoints))
	var group sync.WaitGroup
	for i := range decl.Endpoints {
		ed := &decl.Endpoints[i]
		dones[i] = func() {}
		if e.connected(ed.Sandbox, ed.Network) {
			continue
		}
		group.Go(func() {
			ed.EndpointSpec, dones[i], failed[i] = e.settleWire(ctx, "endpoint of "+ed.Sandbox+" on "+ed.Network, "apply", ed.EndpointSpec)
		})
	}
	group.Wait()
	done := func() {
		for _, f := range dones {
			f()
		}
	}
	if err := errors.Join(failed...); err != nil {
		done()
		return decl, nil, err
	}
	return decl, done, nil
}

// chooseLent chooses an address that a container engine asks for of a network that
// is there already. done gives back what came to nothing.
func (e *Engine) chooseLent(ctx context.Context, prefix netip.Prefix, want netip.Addr) (chosen []*choice, done func(), err error) {
	if n := e.dockedOverlay(prefix); n != nil {
		if s, _ := n.Subnet(prefix.Addr().Is6()); want.IsValid() && want == s.Gateway {
			return nil, func() {}, nil
		}
		return e.claimLent(ctx, n, prefix, want)
	}
	chosen, err = e.chooseProbed(ctx, prefix, want)
	return chosen, func() { e.unchoose(chosen) }, err
}

// chooseProbed chooses one that nobody on the network's wire has, if others may be there.
func (e *Engine) chooseProbed(ctx context.Context, prefix netip.Prefix, want netip.Addr) ([]*choice, error) {
	e.mu.RLock()
	var n *model.Network
	for _, o := range e.intent.Networks {
		if slices.ContainsFunc(o.Subnets, func(s model.Subnet) bool { return s.Prefix == prefix }) && (n == nil || lends(o) > lends(n)) {
			n = o
		}
	}
	e.mu.RUnlock()
	if want.IsValid() || n == nil {
		return nil, nil
	}
	at, ok := e.shared(n, EndpointSpec{})
	if !ok {
		return nil, nil
	}
	c, err := e.choose(ctx, "pool "+prefix.String(), "request an address", n, prefix.Addr().Is6(), at)
	if c == nil {
		return nil, err
	}
	return []*choice{c}, nil
}

// connected reports whether a sandbox is on a network, as far as their names say.
func (e *Engine) connected(sandbox, network string) bool {
	sb, err := e.Sandbox(sandbox)
	if err != nil {
		return false
	}
	n, err := e.Network(network)
	return err == nil && sb.Endpoint(n.ID) != nil
}

// chooseAddresses returns an address for each family of a network that an endpoint
// wants any address of, if others may be on the wire.
func (e *Engine) chooseAddresses(ctx context.Context, ref, op string, spec EndpointSpec) ([]*choice, error) {
	n, err := e.Network(spec.Network)
	if err != nil || spec.NoDAD {
		return nil, nil // which who needs it will say
	}
	at, ok := e.shared(n, spec)
	if !ok {
		return nil, nil
	}
	families := slices.DeleteFunc([]bool{false, true}, func(is6 bool) bool { return !spec.automatic(n, is6) })
	chosen, failed := make([]*choice, len(families)), make([]error, len(families))
	atOnce(len(families), func(i int) { chosen[i], failed[i] = e.choose(ctx, ref, op, n, families[i], at) })
	chosen = slices.DeleteFunc(chosen, func(c *choice) bool { return c == nil })
	return chosen, errors.Join(failed...)
}

// shared returns the wire on which somebody else may have an address of a network's
// subnets, or false if nobody can: what goes there goes through the host, or to its
// own containers only.
func (e *Engine) shared(n *model.Network, spec EndpointSpec) (announce.Wire, bool) {
	at, ok := wireOf(n, spec)
	alone := n.OnParent() && n.Options.Parent == ""
	return at, ok && e.cfg.Probe != nil && !n.Options.NoDAD && e.amongOthers(n) && !alone && !n.Pointed()
}

// amongOthers reports whether machines that are not ours may be neighbours of a network's
// endpoints: it is a wire, or the bridge was there before it, or has a NIC of the host's.
func (e *Engine) amongOthers(n *model.Network) bool {
	if !n.ByHost() {
		return true
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return n.Driver == model.DriverBridge && (n.Options.Adopted || e.uplinkOf(n.Base()) != "")
}

// automatic reports whether an endpoint gets any address of a network's family.
func (s EndpointSpec) automatic(n *model.Network, is6 bool) bool {
	if _, has := n.Subnet(is6); !has || is6 && s.DHCP6 || !is6 && s.DHCP4 {
		return false
	}
	return !slices.ContainsFunc(s.Addrs, func(a netip.Addr) bool { return a.Is6() == is6 }) &&
		!slices.ContainsFunc(s.Outside, func(p netip.Prefix) bool {
			return p.Addr().Is6() == is6 && slices.Contains(prefixes(n.Subnets), p.Masked())
		})
}

// choose takes the next address of a family that nobody on the wire has. Those that
// somebody has rest as if they had just been given back.
func (e *Engine) choose(ctx context.Context, ref, op string, n *model.Network, is6 bool, at announce.Wire) (*choice, error) {
	key := poolKey{n.ID, is6}
	holders := map[netip.Addr]net.HardwareAddr{}
	for len(holders) < maxChosen {
		a, ok := e.pick(n, key)
		if !ok {
			return nil, nil // which the draft will say
		}
		holder, err := e.cfg.Probe(ctx, at, a)
		if err != nil {
			e.cfg.Log.Debug("probe", "address", a, "err", err)
		}
		if holder == nil {
			return &choice{key: key, addr: a}, nil
		}
		e.cfg.Log.Info("an automatic address is used by somebody else, the next one is taken", "network", n.Name, "address", a, "by", holder.String())
		e.putAside(key, a)
		if holders[a] != nil {
			break // once around
		}
		holders[a] = holder
	}
	return nil, (&model.Error{Kind: model.Exhausted, Ref: ref, Op: op, Err: fmt.Errorf("subnet %s: none is free: others have all %d addresses that were tried", subnetsOf(n, is6), len(holders))}).
		WithHint("--ip-range of the network says which are Sealane's")
}

// subnetsOf names the subnets of a network's family.
func subnetsOf(n *model.Network, is6 bool) string {
	var words []string
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is6() == is6 {
			words = append(words, s.Prefix.String())
		}
	}
	return strings.Join(words, " and ")
}

// pick holds the next address of a network's pool, but none that the host or a
// router is known to have on its wire; false if there is none.
func (e *Engine) pick(n *model.Network, key poolKey) (netip.Addr, bool) {
	aside := e.known(n)
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	pool := e.pools[key]
	if pool == nil {
		return netip.Addr{}, false
	}
	a, err := pool.Allocate(choosing, e.cfg.Now())
	var passed []netip.Addr
	for err == nil && slices.Contains(aside, a) {
		passed = append(passed, a)
		a, err = pool.Allocate(choosing, e.cfg.Now())
	}
	for _, p := range passed {
		pool.Undo(p)
	}
	return a, err == nil
}

// known lists the addresses that the host has on a network's wire, and those of the
// routers that it knows there.
func (e *Engine) known(n *model.Network) (out []netip.Addr) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, dev := range uplinks(n) {
		out = slices.Concat(out, e.neighbours[dev].own, e.neighbours[dev].routers)
	}
	return out
}

// putAside has an address rest that somebody else has.
func (e *Engine) putAside(key poolKey, a netip.Addr) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	if pool := e.pools[key]; pool != nil {
		pool.Release(a, e.cfg.Now())
	}
}

// unchoose gives back the choices that no draft has taken.
func (e *Engine) unchoose(chosen []*choice) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, c := range chosen {
		if pool := e.pools[c.key]; pool != nil && !c.taken {
			pool.Undo(c.addr)
		}
	}
}

// chosenOf takes the choice of a pool's address, if there is one: it is free for the
// draft to claim. The caller holds poolsMu.
func (d *draft) chosenOf(chosen []*choice, key poolKey) netip.Addr {
	for _, c := range chosen {
		if c.key != key {
			continue
		}
		if !c.taken {
			c.taken = true
			d.e.pools[key].Undo(c.addr)
		}
		d.cursors[cursorKey(key.network, key.is6)] = d.e.pools[key].Cursor()
		return c.addr
	}
	return netip.Addr{}
}
