package engine

import (
	"context"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// What brings a container onto a wire that others are on too takes its time: the
// wire is asked first whether somebody has the address, and a DHCP server for one
// afterwards. Neither happens under work.

// Connect puts a sandbox, or what else ref means, on a network and returns its new
// endpoint.
func (e *Engine) Connect(ctx context.Context, ref string, spec EndpointSpec, ports []model.PortMapping) (_ *model.Sandbox, _ *model.Endpoint, err error) {
	defer e.timed("connect")(&err)
	about, op := "network "+spec.Network, "connect "+ref
	if n, err := e.Network(spec.Network); err == nil && n.Overlay != nil && e.connected(ref, spec.Network) {
		return nil, nil, model.Errorf(model.Conflict, about, op, "network %s: is connected already", spec.Network)
	}
	spec, done, err := e.settleWire(ctx, about, op, spec)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	asks := spec.DHCP4 || spec.DHCP6
	first := ports
	if asks {
		first = nil // they would stay when no lease comes
	}
	var sb *model.Sandbox
	var ep *model.Endpoint
	err = e.again(ctx, func() (err error) {
		sb, ep, err = e.connect(ctx, ref, spec, first)
		return err
	})
	if err != nil || !asks {
		return sb, ep, err
	}
	if err := e.leased(ctx, about, op, ep, spec.DHCP.Timeout); err != nil {
		return nil, nil, err
	}
	if len(ports) > 0 {
		if _, err := e.Publish(ctx, string(sb.ID), ports); err != nil {
			_ = e.dropAgain(ep.ID, about, op) // which the next pass would do as well
			return nil, nil, err
		}
	}
	return e.asItIs(sb, ep)
}

// asItIs returns what has changed since it was made.
func (e *Engine) asItIs(sb *model.Sandbox, ep *model.Endpoint) (*model.Sandbox, *model.Endpoint, error) {
	if now := e.ByEndpoint(ep.ID); now != nil {
		return now, endpointByID(now, ep.ID), nil
	}
	return sb, ep, nil
}

// CreateSandbox makes a sandbox with its endpoints and ports, all or nothing.
func (e *Engine) CreateSandbox(ctx context.Context, spec SandboxSpec) (_ *model.Sandbox, err error) {
	defer e.timed("sandbox_create")(&err)
	about := "sandbox " + spec.Name
	spec.Networks = slices.Clone(spec.Networks)
	for i, es := range spec.Networks {
		es, done, err := e.settleWire(ctx, about, "create: network "+es.Network, es)
		if err != nil {
			return nil, err
		}
		defer done()
		spec.Networks[i] = es
	}
	sb, err := e.createSandbox(ctx, spec)
	if err != nil {
		return nil, err
	}
	for i := range sb.Endpoints {
		timeout := spec.Networks[i].DHCP.Timeout
		if err := e.leased(ctx, about, "create: network "+spec.Networks[i].Network, &sb.Endpoints[i], timeout); err != nil {
			_ = e.RemoveSandbox(context.WithoutCancel(ctx), string(sb.ID), true) // who is told has nothing
			return nil, err
		}
	}
	return e.Sandbox(string(sb.ID))
}

// Plug connects a running container and returns its endpoint. One that the same
// command made is returned as it is, once it has its leases.
func (e *Engine) Plug(ctx context.Context, ref string, spec PlugSpec) (_ *model.Sandbox, _ *model.Endpoint, err error) {
	defer e.timed("connect")(&err)
	about, op := "device "+spec.Device, "connect "+ref
	who, err := e.askRunning(ctx, about, op, ref, func(sb *model.Sandbox) bool { return hasPlug(sb, spec.Command) })
	if err != nil {
		return nil, nil, err
	}
	if err := e.probePlug(ctx, about, op, who, spec); err != nil {
		return nil, nil, err
	}
	var sb *model.Sandbox
	var ep *model.Endpoint
	var made bool
	err = e.again(ctx, func() (err error) {
		sb, ep, made, err = e.plugIn(ctx, who, spec)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if made {
		err = e.leased(ctx, about, op, ep, spec.Endpoint.DHCP.Timeout)
	} else if failed := e.awaitLeases(ctx, ep.ID, spec.Endpoint.DHCP.Timeout); failed != nil {
		err = noLease(about, op, failed)
	} else if e.ByEndpoint(ep.ID) == nil {
		err = model.Errorf(model.Conflict, about, op, "interface %s: was taken back meanwhile", ep.IfName)
	}
	if err != nil {
		return nil, nil, err
	}
	return e.asItIs(sb, ep)
}
