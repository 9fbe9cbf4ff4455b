package engine

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// DefaultNetwork is what the daemon's settings say of the network `bridge`. They may
// say another thing with each start: the network follows, when nobody has an address of
// what changes.
type DefaultNetwork struct {
	Subnets []model.Subnet // with gateways, at most one of each family. Without one of IPv4 it is as it was, or chosen
	IPv6    bool           // a subnet of IPv6: as it was, or chosen, if none is given
}

// subnet returns what the settings say of a family.
func (c DefaultNetwork) subnet(is6 bool) (model.Subnet, bool) {
	n := model.Network{Subnets: c.Subnets}
	return n.Subnet(is6)
}

// ensureDefault makes the network `bridge` on device sealane0, or has it follow its
// settings. That it cannot yet is no error but its status, and said once.
func (e *Engine) ensureDefault(ctx context.Context) error {
	n, err := e.Network(model.NetworkBridge)
	if err != nil {
		_, err = e.CreateNetwork(ctx, NetworkSpec{
			Name: model.NetworkBridge, Subnets: e.cfg.Default.Subnets, IPv6: e.cfg.Default.IPv6, Options: map[string]string{"name": "sealane0"},
		})
		return err
	}
	text := ""
	if err := e.followDefault(ctx, n.ID, e.cfg.Default); err != nil {
		text = err.Error()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if text == e.astray.text {
		return nil
	}
	e.astray = problem{text, e.cfg.Now().UTC()}
	if text != "" {
		e.cfg.Log.Warn("default network", "err", text, "again", interval)
	}
	return nil
}

// followDefault gives the default network the subnets that settings say, in one commit.
func (e *Engine) followDefault(ctx context.Context, id model.ID, c DefaultNetwork) error {
	e.work.Lock()
	defer e.work.Unlock()
	old := e.intent.Networks[id]
	subnets := c.of(old)
	if slices.EqualFunc(subnets, old.Subnets, sameSubnet) {
		return nil
	}
	err := e.retryPorts(func(skip skipPorts) error {
		d := e.draft(old.Ref(), "settings")
		n, err := d.renumbered(ctx, old, subnets)
		if err == nil {
			err = d.putNetwork(ctx, n, skip)
		}
		if err != nil {
			d.discard()
			return err
		}
		return d.commit(ctx)
	})
	if err == nil {
		e.reopenPools(e.intent.Networks[id])
	}
	return err
}

// of returns the subnets that the default network is to have; the zero address is any.
func (c DefaultNetwork) of(n *model.Network) (out []model.Subnet) {
	for _, is6 := range []bool{false, true} {
		want, given := c.subnet(is6)
		have, has := n.Subnet(is6)
		switch {
		case given && has && want.Prefix == have.Prefix: // with all that else is known of it
			have.Gateway, have.Range = want.Gateway, want.Range
			out = append(out, have)
		case given:
			out = append(out, want)
		case has && n.Options.Adopted: // as somebody's own bridge has it
			out = append(out, have)
		case has && (!is6 || c.IPv6):
			have.Range = netip.Prefix{}
			out = append(out, have)
		case !is6 || c.IPv6:
			out = append(out, model.Subnet{Prefix: anySubnet(is6)})
		}
	}
	return out
}

// sameSubnet reports whether two subnets are one to their network's users.
func sameSubnet(a, b model.Subnet) bool {
	return a.Prefix == b.Prefix && a.Gateway == b.Gateway && a.Range == b.Range
}

// renumbered returns a network with other subnets. Containers keep what they have: it is
// refused where one has an address of a subnet that goes or whose gateway becomes
// another.
func (d *draft) renumbered(ctx context.Context, old *model.Network, subnets []model.Subnet) (*model.Network, error) {
	stays := func(s model.Subnet) func(model.Subnet) bool {
		return func(o model.Subnet) bool { return o.Prefix == s.Prefix && o.Gateway == s.Gateway }
	}
	for _, s := range old.Subnets {
		if users := d.e.holders(old.ID, s.Prefix); len(users) > 0 && !slices.ContainsFunc(subnets, stays(s)) {
			return nil, d.errorf(model.InUse, "subnet %s: stays while it is used by %s", s.Prefix, strings.Join(users, ", ")).WithHint("disconnect them or remove them")
		}
	}
	view, err := d.host(ctx)
	if err != nil {
		return nil, internal(d.ref, d.op, err)
	}
	n := *old
	n.Subnets = subnets
	if err := d.fillSubnets(&n, view); err != nil {
		return nil, err
	}
	if err := n.Validate(); err != nil {
		return nil, d.errorf(model.Invalid, "%w", errors.Unwrap(err)) // without its words of a creation
	}
	others := n
	others.Subnets = slices.DeleteFunc(slices.Clone(n.Subnets), func(s model.Subnet) bool { return slices.ContainsFunc(old.Subnets, stays(s)) })
	return &n, d.checkOverlap(&others, view)
}

// holders lists the sandboxes with an address of a network's subnet, by name, ended ones
// too.
func (e *Engine) holders(id model.ID, subnet netip.Prefix) (names []string) {
	for _, sb := range e.intent.Sandboxes {
		for ep := range sb.On(id) {
			if slices.ContainsFunc(ep.Addrs, func(p netip.Prefix) bool { return subnet.Contains(p.Addr()) }) {
				names = append(names, sb.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reopenPools makes the pools of a network anew after its subnets changed.
func (e *Engine) reopenPools(n *model.Network) {
	e.closePools(n.ID)
	e.openPools(n)
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, sb := range e.intent.Sandboxes {
		addrs, _ := held(sb)
		for a, key := range addrs {
			if key.network == n.ID && e.pools[key] != nil {
				_ = e.pools[key].Claim(a, sb.Ref()) // it was its own before
			}
		}
	}
}
