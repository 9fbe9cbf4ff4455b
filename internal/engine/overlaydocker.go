package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// An overlay is one of Docker's networks on a host as a fabric is, see TakeFabric: by
// its subnet, as long as Network.Docker says so. Docker asks for an address before it
// says what for, and lends it to containers that come and go. So it is claimed in the
// cluster for Docker, and for the container as long as one has it:
//
//	RequestPool 10.6.0.0/24 ─▶ pool ─▶ TakeOverlay: the overlay with that subnet, or a new one
//	RequestAddress ─▶ claimLent ─▶ store ─▶ Subnet.Lent ─▶ dockersShare ─▶ store
//
// Docker's use of a network is told to the cluster, too: none is removed under it.

// dockersName is whose an address is that no container has, to other hosts.
const dockersName = "Docker"

// TakeOverlay makes the overlay network with the subnets of spec, which Docker holds as
// pools, Docker's network spec.ID on this host. A cluster that has none gets one. What
// spec says has to be so.
func (e *Engine) TakeOverlay(ctx context.Context, spec NetworkSpec) (err error) {
	defer e.timed("network_create")(&err)
	id := spec.ID
	spec.ID, spec.Origin = "", ""
	for i := range spec.Subnets {
		if err := e.checkHeld(model.DriverOverlay, &spec.Subnets[i]); err != nil {
			return err
		}
	}
	n, err := e.overlayFor(ctx, spec)
	if err != nil {
		return err
	}
	if err := unlike(n, spec); err != nil {
		return model.Errorf(model.Conflict, n.Ref(), "use for Docker", "%w", err).WithHint("leave out what is to be as it is")
	}
	return e.dock(ctx, n.ID, id, spec.Subnets)
}

// overlayFor returns the overlay with the subnets of spec, as a network of this host's.
// The cluster gets one if it has none: of hosts that miss it at once one makes it.
func (e *Engine) overlayFor(ctx context.Context, spec NetworkSpec) (*model.Network, error) {
	for _, n := range e.networks() {
		if n.Overlay != nil && samePrefixes(prefixes(n.Subnets), spec.Subnets) {
			return n, nil
		}
	}
	n, err := e.createOverlay(ctx, spec)
	if err == nil || model.KindOf(err) != model.Conflict {
		return n, err
	}
	same := func(o *overlay.Network) bool { return samePrefixes(prefixes(o.Subnets), spec.Subnets) }
	there, listed := e.overlayThere(ctx, same)
	if listed != nil || there == nil {
		return nil, err
	}
	if n, err = e.overlayKnown(ctx, there.ID); err != nil {
		return nil, model.Errorf(model.Conflict, there.Ref(), "use for Docker", "this host cannot join: %w", err)
	}
	return n, nil
}

func prefixes(subnets []model.Subnet) (all []netip.Prefix) {
	for _, s := range subnets {
		all = append(all, s.Prefix)
	}
	return all
}

// overlayThere reads from the store the overlay network that is meant, or nil.
func (e *Engine) overlayThere(ctx context.Context, meant func(*overlay.Network) bool) (*overlay.Network, error) {
	list, err := e.cfg.Cluster.Store.List(ctx, path.Join(e.cfg.Cluster.Prefix, overlaysRoot, "networks")+"/")
	if err != nil {
		return nil, err
	}
	for _, entry := range list.Entries {
		if n, err := overlay.ParseNetwork(entry.Value); err == nil && meant(&n) {
			return &n, nil
		}
	}
	return nil, nil
}

// awaitCalled waits until this host has the network of a name that the cluster has, if
// it has one: who hears that a name is taken may use it.
func (e *Engine) awaitCalled(ctx context.Context, name string) {
	there, err := e.overlayThere(ctx, func(n *overlay.Network) bool { return n.Name == name })
	if err == nil && there != nil {
		_, _ = e.overlayKnown(ctx, there.ID) // who looks for it will be told
	}
}

// unlike says what of an overlay is not as it was asked for.
func unlike(n *model.Network, spec NetworkSpec) error {
	if spec.Internal != n.Internal {
		return fmt.Errorf("internal: that of the network of the cluster is %t", n.Internal)
	}
	for _, s := range spec.Subnets {
		have, _ := n.Subnet(s.Prefix.Addr().Is6())
		switch {
		case s.Gateway.IsValid() && s.Gateway != have.Gateway:
			return fmt.Errorf("gateway %s: the network of the cluster has %s", s.Gateway, have.Gateway)
		case s.Range.IsValid() && s.Range != have.Range:
			return fmt.Errorf("ip-range %s: the network of the cluster has another", s.Range)
		}
		for name, a := range s.Aux {
			if have.Aux[name] != a {
				return fmt.Errorf("aux-address %s: the network of the cluster has another", name)
			}
		}
	}
	made, err := model.ParseOptions(model.DriverOverlay, n.Overlay.Options)
	if err != nil {
		return err
	}
	is, all := n.Options, n.Options.Map()
	is.Backend.VNI, is.Backend.Port = n.Overlay.VNI, n.Overlay.Port
	all["vni"], all["port"] = strconv.Itoa(n.Overlay.VNI), strconv.Itoa(n.Overlay.Port)
	return another(model.DriverOverlay, []model.Options{made, is}, all, spec.Options)
}

// dockedOverlay returns the overlay with a subnet if Docker has it, or nil.
func (e *Engine) dockedOverlay(prefix netip.Prefix) *model.Network {
	for _, n := range e.networks() {
		if n.Overlay != nil && n.Docker != "" && slices.Contains(prefixes(n.Subnets), prefix) {
			return n
		}
	}
	return nil
}

// claimLent claims an address of an overlay in the cluster for Docker: that which it
// wants, or the next that nobody has, which is held here. done gives back what Docker
// has not got by then.
func (e *Engine) claimLent(ctx context.Context, n *model.Network, prefix netip.Prefix, want netip.Addr) (chosen []*choice, done func(), err error) {
	const op = "request an address"
	dir := e.directory()
	if dir == nil {
		return nil, func() {}, notClustered(n.Ref(), op)
	}
	var tried []*choice
	give := func() { e.unchoose(tried) }
	for range maxChosen {
		a := want
		if !want.IsValid() {
			c, ok := e.pickUnclaimed(n, poolKey{n.ID, prefix.Addr().Is6()}, n.Overlay.Has)
			if !ok {
				break
			}
			a, tried = c.addr, append(tried, c)
		}
		hold := dockersHold(n, a)
		_, err = dir.Claim(ctx, hold, func(func(netip.Addr) bool) ([]netip.Addr, error) { return hold.Addrs, nil })
		if err == nil {
			return tried[max(0, len(tried)-1):], func() { give(); dir.Unclaim(n.ID, hold.ID) }, nil
		}
		if want.IsValid() || model.KindOf(err) != model.Conflict {
			give()
			return nil, func() {}, err
		}
	}
	give()
	return nil, func() {}, model.Errorf(model.Exhausted, n.Ref(), op, "subnet %s: no free address", prefix)
}

// dockersHold is an address as other hosts are to know it while Docker has it for no
// container.
func dockersHold(n *model.Network, a netip.Addr) overlay.Endpoint {
	id := model.ID("lent-" + strings.NewReplacer(".", "-", ":", "-").Replace(a.String()))
	return overlay.Endpoint{ID: id, Network: n.ID, Addrs: []netip.Addr{a}, MAC: model.MACFor(a), Sandbox: overlay.Sandbox{Name: dockersName}, Stopped: true}
}

// dockersShare is what the cluster is to know of Docker's part in a network: that it has
// one, and which addresses it holds for no container. The caller holds work.
func (e *Engine) dockersShare(n *model.Network) []overlay.Endpoint {
	has := map[netip.Addr]bool{}
	for _, sb := range e.intent.Sandboxes {
		for ep := range sb.On(n.ID) {
			for _, p := range ep.Addrs {
				has[p.Addr()] = true
			}
		}
	}
	all := []overlay.Endpoint{{ID: n.Docker, Network: n.ID, MAC: model.MACForID(model.MACVeth, n.Docker), Sandbox: overlay.Sandbox{Name: dockersName}, Stopped: true}}
	for _, s := range n.Subnets {
		for _, a := range s.Lent {
			if !has[a] {
				all = append(all, dockersHold(n, a))
			}
		}
	}
	return all
}

// errNamed is that a network has a name of its own already.
var errNamed = errors.New("it has a name")

// nameOverlay gives an overlay that Docker made the name that it has there, for all
// hosts, or one with Docker's before it if the cluster has a network of that name.
// Others keep theirs.
func (e *Engine) nameOverlay(ctx context.Context, n *model.Network, name string) error {
	dir := e.directory()
	if !unnamed(n.Name) || dir == nil || model.CheckName(name) != nil {
		return nil
	}
	var err error
	for _, name := range []string{name, model.OriginDocker + "-" + name} {
		err = dir.Update(ctx, n.ID, func(o *overlay.Network) error {
			if !unnamed(o.Name) {
				return errNamed
			}
			o.Name = name
			return nil
		})
		if model.KindOf(err) != model.Conflict {
			break
		}
	}
	if errors.Is(err, errNamed) {
		return nil
	}
	return err
}
