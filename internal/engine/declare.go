package engine

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Declaration is what a file says should be there. What it does not mention
// is left alone.
type Declaration struct {
	Networks  []NetworkSpec
	Endpoints []EndpointDeclaration
}

// EndpointDeclaration is an endpoint of a sandbox that runs, or of a container of
// a runtime. One that is named by its runtime, as docker:web, is awaited.
type EndpointDeclaration struct {
	Sandbox string
	EndpointSpec
	Ports []model.PortMapping

	who answer // what the runtimes say about Sandbox
}

// Apply makes what a declaration says and is not there yet, all or nothing,
// and returns the ops that did it.
func (e *Engine) Apply(ctx context.Context, decl Declaration) (_ []kstate.Op, err error) {
	defer e.timed("apply")(&err)
	decl, err = e.askDeclared(ctx, decl)
	if err != nil {
		return nil, err
	}
	decl, done, err := e.settleDeclared(ctx, decl)
	if err != nil {
		return nil, err
	}
	defer done()
	e.work.Lock()
	defer e.work.Unlock()
	var ops []kstate.Op
	err = e.retryPorts(func(skip skipPorts) (err error) {
		var d *draft
		if d, ops, err = e.declare(ctx, decl, skip); err != nil {
			return err
		}
		return d.commit(ctx)
	})
	return ops, err
}

// Plan returns the ops that Apply would carry out, and changes nothing.
func (e *Engine) Plan(ctx context.Context, decl Declaration) ([]kstate.Op, error) {
	decl, err := e.askDeclared(ctx, decl)
	if err != nil {
		return nil, err
	}
	e.work.Lock()
	defer e.work.Unlock()
	d, ops, err := e.declare(ctx, decl, nil)
	if err != nil {
		return nil, err
	}
	d.discard()
	return ops, nil
}

// declare drafts a declaration and compiles its effect.
func (e *Engine) declare(ctx context.Context, decl Declaration, skip skipPorts) (*draft, []kstate.Op, error) {
	d := e.draft("apply", "")
	err := d.declare(ctx, decl, skip)
	if err == nil {
		before, after, cerr := d.compile()
		if cerr == nil {
			return d, kstate.Diff(before, after), nil
		}
		err = internal("apply", "compile", cerr)
	}
	d.discard()
	return nil, nil, err
}

func (d *draft) declare(ctx context.Context, decl Declaration, skip skipPorts) error {
	d.whole = true
	for _, spec := range decl.Networks {
		d.ref, d.op = "network "+spec.Name, "apply"
		if n := d.find(spec.Name); n != nil {
			if err := d.same(n, spec); err != nil {
				return err
			}
			continue
		}
		if _, err := d.addNetwork(ctx, spec); err != nil {
			return err
		}
	}
	d.aside = map[netip.Addr]bool{}
	for _, ed := range decl.Endpoints {
		for _, a := range ed.Addrs {
			d.aside[a] = true
		}
	}
	for _, ed := range decl.Endpoints {
		d.ref, d.op = "endpoint of "+ed.Sandbox+" on "+ed.Network, "apply"
		if err := d.declareEndpoint(ctx, ed, skip); err != nil {
			return err
		}
	}
	return nil
}

// same reports in what a network that is there differs from its declaration.
// What that leaves out may be anything.
func (d *draft) same(n *model.Network, spec NetworkSpec) error {
	differs := func(what string, have, want any) error {
		return d.errorf(model.Conflict, "is there with %s %v, not %v", what, have, want).WithHint("remove it first")
	}
	if spec.Driver != "" && spec.Driver != n.Driver {
		return differs("driver", n.Driver, spec.Driver)
	}
	if spec.Internal && !n.Internal {
		return differs("internal", n.Internal, spec.Internal)
	}
	if _, ok := n.Subnet(true); spec.IPv6 && !ok {
		return differs("ipv6", false, true)
	}
	for _, s := range spec.Subnets {
		have, ok := n.SubnetWith(s.Prefix.Addr())
		if !ok || have.Prefix != s.Prefix && !sized(s.Prefix, have.Prefix) {
			return differs("subnet", have.Prefix, s.Prefix)
		}
		if s.Gateway.IsValid() && s.Gateway != have.Gateway {
			return differs("gateway", have.Gateway, s.Gateway)
		}
		if s.Range.IsValid() && s.Range != have.Range {
			return differs("ip-range", have.Range, s.Range)
		}
	}
	want, err := model.ParseOptions(n.Driver, spec.Options)
	if err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	for _, k := range slices.Sorted(maps.Keys(spec.Options)) {
		name := model.OptionName(n.Driver, k)
		if want, have := want.Map()[name], n.Options.Map()[name]; have != want {
			return differs("option "+name, have, want)
		}
	}
	return nil
}

// declareEndpoint connects a sandbox unless it is connected as declared, and
// publishes the ports that are not.
func (d *draft) declareEndpoint(ctx context.Context, ed EndpointDeclaration, skip skipPorts) error {
	old, err := d.subject(ctx, ed.who, ed.Await)
	if err != nil {
		return err
	}
	n, err := d.network(ed.Network)
	if err != nil {
		return err
	}
	sb := d.edit(old)
	if err := d.connectable(sb); err != nil {
		return err
	}
	if ep := sb.Endpoint(n.ID); ep == nil {
		if err := d.notTheirs(sb, ed.Network); err != nil {
			return err
		}
		if err := d.addEndpoint(ctx, sb, ed.EndpointSpec); err != nil {
			return err
		}
	} else if !as(ep, ed.EndpointSpec) {
		return d.errorf(model.Conflict, "is connected otherwise: interface %s, addresses %v, mac-address %s", ep.IfName, ep.Addrs, ep.MAC).WithHint("disconnect it first")
	}
	var missing []model.PortMapping
	for _, m := range ed.Ports {
		if !slices.ContainsFunc(sb.Ports, func(p model.PortMapping) bool { return m.Matches(p) }) {
			missing = append(missing, m)
		}
	}
	return d.addPorts(ctx, sb, missing, skip)
}

// as reports whether an endpoint is as its declaration says.
func as(ep *model.Endpoint, spec EndpointSpec) bool {
	if mac, _ := model.CheckMAC(spec.MAC); spec.MAC != "" && mac != ep.MAC || spec.IfName != "" && spec.IfName != ep.IfName {
		return false
	}
	if spec.Priority != 0 && spec.Priority != ep.Priority || !ep.Limits.Has(spec.Limits) ||
		slices.ContainsFunc(spec.Aliases, func(a string) bool { return !slices.Contains(ep.Aliases, a) }) {
		return false
	}
	if slices.ContainsFunc(spec.Sysctls, func(s string) bool { return !slices.Contains(ep.Sysctls, s) }) ||
		slices.ContainsFunc(spec.LinkLocal, func(a netip.Addr) bool {
			return !slices.ContainsFunc(ep.LinkLocal, func(p netip.Prefix) bool { return p.Addr() == a })
		}) {
		return false
	}
	if !hasWays(ep, spec) || slices.ContainsFunc(spec.Services, func(m model.Membership) bool { return !slices.Contains(ep.Services, m) }) {
		return false
	}
	return !slices.ContainsFunc(spec.Addrs, func(a netip.Addr) bool {
		p, ok := ep.Addr(a.Is6())
		return !ok || p.Addr() != a
	})
}
