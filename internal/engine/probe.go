package engine

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/wire"
)

// probeAddresses asks the wire of a network whether somebody has the addresses
// that a user gives an endpoint there, as far as the network's own pools do not
// say: those from outside them, and all where others are on the wire. It is called
// before work is taken, for it takes its time.
func (e *Engine) probeAddresses(ctx context.Context, ref, op string, spec EndpointSpec) error {
	if e.cfg.Probe == nil || spec.NoDAD {
		return nil
	}
	n, err := e.Network(spec.Network)
	if err != nil {
		return nil // which who needs it will say
	}
	at, ok := wireOf(n, spec)
	if !ok || n.Options.NoDAD {
		return nil
	}
	var addrs []netip.Addr
	for _, p := range spec.Outside {
		addrs = append(addrs, p.Addr())
	}
	if e.amongOthers(n) {
		addrs = append(addrs, spec.Addrs...)
	}
	return e.probeAll(ctx, ref, op, at, addrs)
}

// probePlug does the same for a device whose network there may not be yet, unless the
// command cannot be done anyway: to ask takes longer than to see that.
func (e *Engine) probePlug(ctx context.Context, ref, op string, who answer, spec PlugSpec) error {
	if e.cfg.Probe == nil || spec.Endpoint.NoDAD || spec.Driver == model.DriverPhys || len(spec.Endpoint.Outside) == 0 {
		return nil
	}
	if err := e.again(ctx, func() error { return e.tryPlug(ctx, who, spec) }); err != nil {
		return err
	}
	var addrs []netip.Addr
	for _, p := range spec.Endpoint.Outside {
		addrs = append(addrs, p.Addr())
	}
	return e.probeAll(ctx, ref, op, announce.Wire{Place: wire.Place{Device: spec.Device}, VLAN: spec.VLAN, Ours: model.PortPrefix}, addrs)
}

// probeAll asks a wire about addresses that no endpoint of ours has there, all at
// the same time.
func (e *Engine) probeAll(ctx context.Context, ref, op string, at announce.Wire, addrs []netip.Addr) error {
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return e.ours(at, a) })
	failed := make([]error, len(addrs))
	atOnce(len(addrs), func(i int) { failed[i] = e.probeAddress(ctx, ref, op, at, addrs[i]) })
	return errors.Join(failed...)
}

// atOnce does something for each of n at the same time, and waits for all. The last is done
// here: where there is but one, to wake somebody else for it may cost more than it does.
func atOnce(n int, do func(i int)) {
	var group sync.WaitGroup
	for i := range n - 1 {
		group.Go(func() { do(i) })
	}
	if n > 0 {
		do(n - 1)
	}
	group.Wait()
}

// probeAddress says who has an address. A wire that cannot be asked has nobody on
// it: the device is down, or not there.
func (e *Engine) probeAddress(ctx context.Context, ref, op string, at announce.Wire, a netip.Addr) error {
	var holder net.HardwareAddr
	holder, err := e.cfg.Probe(ctx, at, a)
	if err != nil {
		e.cfg.Log.Debug("probe", "address", a, "err", err)
	}
	if holder == nil {
		return nil
	}
	return model.Errorf(model.Conflict, ref, op, "address %s: used by %s", a, holder)
}

// wireOf returns where the neighbours of a network's endpoints hear the host, or
// false if nowhere.
func wireOf(n *model.Network, spec EndpointSpec) (announce.Wire, bool) {
	at := announce.Wire{Ours: model.PortPrefix}
	switch n.Driver {
	case model.DriverBridge, model.DriverFabric:
		at.Place = wire.Place{Device: n.Device()}
		if v := spec.VLAN; v != n.Options.VLAN && v != 0 && len(n.Lanes) > 0 {
			at.Place, at.VLAN = wire.Place{Device: n.Base()}, v // its own bridge may not be there yet
		}
	case model.DriverMacvlan, model.DriverIPvlan:
		at.Place = wire.Place{Device: n.Lower()}
	case model.DriverOVS:
		at.Place, at.VLAN = wire.Place{Device: n.Device()}, n.Options.VLAN
		if spec.VLAN != 0 {
			at.VLAN = spec.VLAN
		}
	case model.DriverPhys:
		at.Place = wire.Place{Device: n.NIC()}
		if n.NIC() == "" {
			at.Place, at.VLAN = wire.Place{Device: n.Options.Parent}, n.Options.VLAN
		}
	}
	return at, at.Device != ""
}

// ours reports whether the host, or an endpoint of ours, has an address on a wire, which
// a draft will say better.
func (e *Engine) ours(at announce.Wire, a netip.Addr) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	device := at.Device
	if e.hosts(device, a) {
		return true
	}
	for _, sb := range e.intent.Sandboxes {
		for _, ep := range sb.Endpoints {
			n := e.intent.Networks[ep.Network]
			if n == nil || device != n.Device() && device != n.Base() && device != n.Lower() && device != n.Options.Parent {
				continue
			}
			if n.Driver == model.DriverOVS && n.VLANOf(&ep) != at.VLAN {
				continue // another wire
			}
			if slices.ContainsFunc(slices.Concat(ep.Addrs, ep.Outside), func(p netip.Prefix) bool { return p.Addr() == a }) {
				return true
			}
		}
	}
	return false
}
