package engine

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/model"
)

// A container engine that has us give out addresses (Docker's IpamDriver) asks
// for a subnet before it says what for, and for each address before the
// container. A subnet without a network is a network record of driver pool;
// CreateNetwork takes it over, or it stays what it is, for a network of the
// engine's own drivers. What the engine holds of a subnet is in Subnet.Lent. So
// it is all intent: stored, in nobody's way, and found again after a crash.

// RequestPool holds a subnet, and returns it: the one that is asked for, or any
// of a family if its address is zero. Automatic addresses come from the range, if
// there is one.
func (e *Engine) RequestPool(ctx context.Context, want model.Subnet) (netip.Prefix, error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("pool "+want.Prefix.String(), "request")
	n := &model.Network{ID: newID(), Driver: model.DriverPool, Origin: model.OriginDocker, Subnets: []model.Subnet{want}, Created: e.cfg.Now().UTC()}
	view, err := d.host(ctx)
	if err != nil {
		return netip.Prefix{}, internal(d.ref, d.op, err)
	}
	s := &n.Subnets[0]
	if s.Prefix.Addr().IsUnspecified() {
		if s.Prefix, err = ipam.NextSubnet(ipam.Sized(ipam.Sources(d.ula()), s.Prefix.Bits()), s.Prefix.Addr().Is6(), d.taken(view)); err != nil {
			return netip.Prefix{}, d.errorf(model.Exhausted, "%w", err).WithHint("give one with --subnet")
		}
		n.Chosen = true
	}
	if err := s.Validate(); err != nil {
		return netip.Prefix{}, d.errorf(model.Invalid, "%w", err)
	}
	if err := d.checkPool(n); err != nil {
		return netip.Prefix{}, err
	}
	n.Name = "pool-" + strings.NewReplacer("/", "-", ":", ".").Replace(s.Prefix.String())
	if d.find(n.Name) != nil {
		return netip.Prefix{}, d.errorf(model.Conflict, "the name %s is taken", n.Name)
	}
	e.openPools(n)
	d.networks[n.ID] = n
	return s.Prefix, d.commit(ctx)
}

// ReleasePool ends what RequestPool began. A subnet that a network took over ends
// with that.
func (e *Engine) ReleasePool(ctx context.Context, prefix netip.Prefix) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("pool "+prefix.String(), "release")
	n, _ := d.withSubnet(prefix)
	if n == nil || n.Driver != model.DriverPool {
		return nil
	}
	d.networks[n.ID] = nil
	return d.commit(ctx)
}

// RequestAddress lends an address of a subnet: the one that is asked for, or the
// next, with the length of its subnet. The next may be of another subnet of the network's
// family, for the engine asks no further where one is full. The gateway of a network is
// not lent: it is the network's.
func (e *Engine) RequestAddress(ctx context.Context, prefix netip.Prefix, want netip.Addr) (netip.Prefix, error) {
	chosen, done, err := e.chooseLent(ctx, prefix, want)
	if err != nil {
		return netip.Prefix{}, err
	}
	defer done()
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("pool "+prefix.String(), "request an address")
	n, at := d.withSubnet(prefix)
	if n == nil {
		return netip.Prefix{}, d.errorf(model.NotFound, "no such pool")
	}
	s := n.Subnets[at]
	switch {
	case want.IsValid() && want == s.Gateway:
		return netip.PrefixFrom(want, s.Prefix.Bits()), nil
	case want.IsValid() && n.Fabric != nil && !s.Prefix.Contains(want):
		return netip.Prefix{}, d.errorf(model.Invalid, "address %s: not of %s, which is this host's subnet of network %s", want, s.Prefix, n.Name)
	}
	got, err := d.lend(n, at, want, chosen)
	if err != nil {
		return netip.Prefix{}, err
	}
	if err := d.commit(ctx); err != nil {
		d.takeBack(n, got.Addr())
		return netip.Prefix{}, err
	}
	return got, nil
}

// lend takes from its pool the wanted address of n's subnet at, or any of that family,
// and returns it with its subnet's length.
func (d *draft) lend(n *model.Network, at int, want netip.Addr, chosen []*choice) (netip.Prefix, error) {
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	prefix := n.Subnets[at].Prefix
	key := poolKey{n.ID, prefix.Addr().Is6()}
	pools := d.e.pools[key]
	if want.IsValid() {
		pools = ipam.Pools{pools.Of(prefix)}
	} else {
		want = d.chosenOf(chosen, key)
	}
	a, err := want, error(nil)
	switch {
	case !want.IsValid():
		a, err = d.next(n, pools)
	case pools.Lent(want):
		return netip.Prefix{}, d.errorf(model.Conflict, "address %s: taken by %s", want, d.holder(n, want))
	default:
		err = pools.Claim(want, lender)
	}
	if err != nil {
		return netip.Prefix{}, d.errorf(model.Exhausted, "%w", err)
	}
	pools.Lend(a)
	s, _ := n.SubnetWith(a)
	at = slices.IndexFunc(n.Subnets, func(o model.Subnet) bool { return o.Prefix == s.Prefix })
	d.lending(n, at, func(lent []netip.Addr) []netip.Addr { return append(lent, a) })
	return netip.PrefixFrom(a, s.Prefix.Bits()), nil
}

// next takes the next address of pools that is none of the host's, nor of a router
// that it knows, on the network's wire.
func (d *draft) next(n *model.Network, pools ipam.Pools) (netip.Addr, error) {
	if err := d.checkNeighbours(n, nil); err != nil {
		return netip.Addr{}, err
	}
	a, err := pools.Allocate(lender, d.e.cfg.Now())
	var passed []netip.Addr
	for err == nil && d.aside[a] {
		passed = append(passed, a)
		a, err = pools.Allocate(lender, d.e.cfg.Now())
	}
	for _, p := range passed {
		pools.Undo(p)
	}
	return a, err
}

// holder says who has a lent address: a sandbox, an endpoint that waits for one, or
// only the container engine.
func (d *draft) holder(n *model.Network, a netip.Addr) string {
	for i := range n.Waiting {
		if slices.Contains(n.Waiting[i].Addrs, a) {
			return n.Waiting[i].Ref()
		}
	}
	for sb := range d.allSandboxes() {
		for ep := range sb.On(n.ID) {
			if slices.ContainsFunc(ep.Addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
				return sb.Ref()
			}
		}
	}
	return lender
}

// lender is who a lent address belongs to, in errors.
const lender = "a container engine"

// lending changes, in the draft, what is lent of n's subnet i.
func (d *draft) lending(n *model.Network, i int, change func([]netip.Addr) []netip.Addr) {
	c := *n
	c.Subnets = slices.Clone(n.Subnets)
	c.Subnets[i].Lent = change(slices.Clone(n.Subnets[i].Lent))
	d.networks[n.ID] = &c
}

// takeBack ends that a is lent. An endpoint that has it has it still: the container
// engine may forget one, and tell us afterwards of another that had it.
func (d *draft) takeBack(n *model.Network, a netip.Addr) {
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	pool := d.e.pools[poolKey{n.ID, a.Is6()}]
	if pool == nil {
		return
	}
	pool.TakeBack(a, d.e.cfg.Now())
	if who := d.holder(n, a); who != lender {
		_ = pool.Claim(a, who) // nobody else can have it
	}
}

// ReleaseAddress ends what RequestAddress began, which may have lent an address of another
// subnet of the network's. What is not lent, or not there any more, is no error.
func (e *Engine) ReleaseAddress(ctx context.Context, prefix netip.Prefix, a netip.Addr) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("pool "+prefix.String(), "release an address")
	n, _ := d.withSubnet(prefix)
	if n == nil {
		return nil
	}
	at := slices.IndexFunc(n.Subnets, func(s model.Subnet) bool { return slices.Contains(s.Lent, a) })
	if at < 0 {
		return nil
	}
	d.lending(n, at, func(lent []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(lent, func(b netip.Addr) bool { return a == b })
	})
	if err := d.commit(ctx); err != nil {
		return err
	}
	d.takeBack(n, a)
	return nil
}

// withSubnet returns the network or pool that has a subnet, and the subnet's
// index, or nil: subnets do not overlap, but for the pool of one over hosts, which is
// that as long as Docker does not have the network. Of a fabric that Docker has it is
// this host's, for the prefix of all hosts.
func (d *draft) withSubnet(prefix netip.Prefix) (*model.Network, int) {
	var there *model.Network
	at := 0
	for _, n := range d.allNetworks() {
		for i := range n.Subnets {
			if n.Subnets[i].Prefix == prefix && (there == nil || lends(n) > lends(there)) && (n.Overlay == nil || n.Docker != "") {
				there, at = n, i
			}
		}
	}
	if there != nil {
		return there, at
	}
	for _, n := range d.allNetworks() {
		if i := n.SubnetOf(prefix); n.Docker != "" && i >= 0 {
			return n, i
		}
	}
	return nil, 0
}

// lends tells, of networks of one subnet, which of them a container engine means: more,
// if it is only held for one, or was made by one.
func lends(n *model.Network) int {
	switch {
	case n.Driver == model.DriverPool:
		return 2
	case n.Origin == model.OriginDocker:
		return 1
	}
	return 0
}

// takeOver moves to a new network what is held of its subnets. Of others the
// container engine gives out addresses itself, perhaps of a part only: see Yield.
func (d *draft) takeOver(n *model.Network) {
	for i := range n.Subnets {
		s := &n.Subnets[i]
		pool, j := d.withSubnet(s.Prefix)
		if pool == nil || pool.Driver != model.DriverPool {
			s.Theirs = s.Prefix
			continue
		}
		held := pool.Subnets[j]
		s.Range = held.Range
		s.Lent = slices.DeleteFunc(slices.Clone(held.Lent), func(a netip.Addr) bool { return a == s.Gateway || hasAux(*s, a) })
		d.networks[pool.ID] = nil
	}
}

// Yield notes of which parts of a network's subnets a container engine gives out
// addresses itself; without a part it is the whole subnet.
func (e *Engine) Yield(ctx context.Context, id model.ID, parts []netip.Prefix) error {
	e.work.Lock()
	defer e.work.Unlock()
	n := e.intent.Networks[id]
	if n == nil {
		return nil
	}
	c := *n
	c.Subnets = slices.Clone(n.Subnets)
	for i := range c.Subnets {
		if s := &c.Subnets[i]; s.Theirs.IsValid() {
			s.Theirs = partOf(s.Prefix, parts)
		}
	}
	if slices.EqualFunc(c.Subnets, n.Subnets, func(a, b model.Subnet) bool { return a.Theirs == b.Theirs }) {
		return nil
	}
	d := e.draft(n.Ref(), "yield addresses")
	d.networks[id] = &c
	if err := d.commit(ctx); err != nil {
		return err
	}
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, s := range c.Subnets {
		e.pools[poolKey{id, s.Prefix.Addr().Is6()}].Of(s.Prefix).Yield(s.Theirs)
	}
	return nil
}

// partOf returns the first of parts that is in a subnet, or the whole.
func partOf(s netip.Prefix, parts []netip.Prefix) netip.Prefix {
	for _, p := range parts {
		if p.IsValid() && p.Bits() >= s.Bits() && s.Contains(p.Addr()) {
			return p.Masked()
		}
	}
	return s
}

func hasAux(s model.Subnet, a netip.Addr) bool {
	for _, aux := range s.Aux {
		if aux == a {
			return true
		}
	}
	return false
}
