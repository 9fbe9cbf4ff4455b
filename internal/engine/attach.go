package engine

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// containerRef begins a reference to the sandbox of a runtime's container.
const containerRef = "cni:"

// Attachment is an endpoint that a container runtime asks for, by its own name
// of the container and by the path of a namespace that it made.
type Attachment struct {
	Container string
	Name      string // how its users call it, or ""
	NetNS     string
	Resolver  bool // see [model.Sandbox]
	EndpointSpec
	Ports []model.PortMapping // that go with the endpoint
}

// Attach puts the container of a runtime on a network, and returns its sandbox
// and the new endpoint. The sandbox is the one that stands for the namespace, or
// a new one that has the container's name: that of its users, unless another has it.
// What the container had in another namespace is stale and goes first.
func (e *Engine) Attach(ctx context.Context, a Attachment) (_ *model.Sandbox, _ *model.Endpoint, err error) {
	defer e.timed("connect")(&err)
	spec, done, err := e.settleWire(ctx, "network "+a.Network, "attach "+a.Container, a.EndpointSpec)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	a.EndpointSpec = spec
	var sb *model.Sandbox
	err = e.again(ctx, func() error {
		e.work.Lock()
		defer e.work.Unlock()
		if err := e.dropStale(ctx, a); err != nil {
			return err
		}
		return e.retryPorts(func(skip skipPorts) (err error) {
			d := e.draft("network "+a.Network, "attach "+a.Container)
			if sb, err = d.attach(ctx, a, skip); err != nil {
				d.discard()
				return err
			}
			return d.commit(ctx)
		})
	})
	if err != nil {
		return nil, nil, err
	}
	return sb, &sb.Endpoints[len(sb.Endpoints)-1], nil
}

// attach puts the endpoint into the draft.
func (d *draft) attach(ctx context.Context, a Attachment, skip skipPorts) (*model.Sandbox, error) {
	d.whole = true
	n, err := d.network(a.Network)
	if err != nil {
		return nil, err
	}
	sb, err := d.standsAt(ctx, a.NetNS)
	if err != nil {
		return nil, err
	}
	if sb == nil {
		if sb, err = d.guestAt(ctx, a); err != nil {
			return nil, err
		}
	}
	if sb == nil {
		sb, err = d.addSandbox(ctx, SandboxSpec{Name: d.nameFor(a), Mode: model.ModeOther, NetNS: a.NetNS, Origin: model.OriginCNI}, nil)
	} else {
		sb = d.edit(sb)
		err = d.connectable(sb)
	}
	if err != nil {
		return nil, err
	}
	if a.IfName != "" { // first: what exists already says more than where else the sandbox is
		if _, err := d.ifName(ctx, sb, "", a.IfName, nil); err != nil {
			return nil, err
		}
	}
	a.EndpointSpec = besides(sb, n, a)
	if err := d.addEndpoint(ctx, sb, a.EndpointSpec); err != nil {
		return nil, err
	}
	sb.Resolver = sb.Resolver || a.Resolver
	if err := d.settlePorts(ctx, sb, skip); err != nil {
		return nil, err
	}
	return sb, d.addPorts(ctx, sb, newPorts(sb, a.Ports), skip)
}

// nameFor returns the name of a new sandbox for a container.
func (d *draft) nameFor(a Attachment) string {
	if a.Name == "" {
		return a.Container
	}
	return cmp.Or(d.freeName("", a.Name, model.OriginCNI, func(n string) bool { return d.findSandbox(n) != nil }), a.Container)
}

// followNames calls containers of Podman's as it calls them now. It tells nobody of a
// rename, and has no daemon that could.
func (e *Engine) followNames() {
	if e.cfg.Guests == nil {
		return
	}
	for _, sb := range e.sandboxes() {
		i := slices.IndexFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.Container != "" })
		if sb.Origin != model.OriginCNI || sb.Guest != nil || i < 0 || sb.Name == sb.Endpoints[i].Container {
			continue
		}
		ctx, cancel := context.WithTimeout(e.ctx, askTime)
		c, err := e.cfg.Guests.Find(ctx, model.Guest{Runtime: model.RuntimePodman, ID: sb.Endpoints[i].Container})
		cancel()
		if err == nil && c.State != runtime.Gone {
			err = e.callAs(sb.ID, c.Guest.Name)
		}
		if err != nil {
			e.cfg.Log.Debug("name of a container of Podman's", "sandbox", sb.Name, "err", err)
		}
	}
}

// callAs gives the sandbox of a runtime's container another name, if it is free.
func (e *Engine) callAs(id model.ID, name string) error {
	e.work.Lock()
	defer e.work.Unlock()
	sb := e.intent.Sandboxes[id]
	if sb == nil || model.CheckName(name) != nil {
		return nil
	}
	d := e.draft(sb.Ref(), "name")
	name = d.freeName(sb.Name, name, model.OriginCNI, func(n string) bool { return d.findSandbox(n) != nil })
	if name == "" || name == sb.Name {
		return nil
	}
	d.edit(sb).Name = name
	return d.commit(e.ctx)
}

// guestAt returns the guest whose container the runtime is about to start in a
// new namespace, put there; or nil.
func (d *draft) guestAt(ctx context.Context, a Attachment) (*model.Sandbox, error) {
	sb := firstBy(d.marked(container(a.Container)), func(sb *model.Sandbox) bool {
		return sb.Away() && sb.Guest.ID != "" && path.Base(sb.Guest.ID) == a.Container
	})
	if sb == nil {
		return nil, nil
	}
	there, err := d.look(ctx, a.NetNS)
	if err != nil || there == nil {
		return nil, err
	}
	is := runtime.Container{Guest: *sb.Guest, State: runtime.Running, NetNS: a.NetNS, Inode: there.inode}
	if err := d.settle(ctx, sb, is); err != nil {
		return nil, d.errorf(model.Conflict, "%w", err)
	}
	return d.sandboxNow(sb.ID), nil
}

// besides returns the endpoint that is asked for. What comes in by the second on a
// network may be answered by the first, to which the kernel's route to that leads:
// the strict check for a way back would drop it.
func besides(sb *model.Sandbox, n *model.Network, a Attachment) EndpointSpec {
	spec := a.EndpointSpec
	spec.container = a.Container
	chosen := func(s string) bool { return strings.HasPrefix(s, wayBack) }
	if sb.Endpoint(n.ID) != nil && !slices.ContainsFunc(spec.Sysctls, chosen) {
		spec.Sysctls = append(slices.Clone(spec.Sysctls), wayBack+"2") // loosely
	}
	return spec
}

// wayBack begins the setting of the check.
const wayBack = "net.ipv4.conf.IFNAME.rp_filter="

// newPorts returns ports as those of a sandbox's newest endpoint, without those
// that it has already: runtimes ask for the same ones with each of its networks, and they
// are there as long as one of these is.
func newPorts(sb *model.Sandbox, ports []model.PortMapping) []model.PortMapping {
	with := sb.Endpoints[len(sb.Endpoints)-1].ID
	var out []model.PortMapping
	for _, m := range ports {
		same := func(p model.PortMapping) bool {
			return m.HostPort != 0 && m.Matches(p) && m.HostIP.IsValid() != p.Bound && m.From == p.From
		}
		if i := slices.IndexFunc(sb.Ports, same); i >= 0 {
			sb.Ports[i] = sb.Ports[i].With(with)
			continue
		}
		m.Endpoint = with
		out = append(out, m)
	}
	return out
}

// standsAt returns the sandbox that stands for the namespace at a path, or nil.
func (d *draft) standsAt(ctx context.Context, netns string) (*model.Sandbox, error) {
	probe := &model.Sandbox{}
	if err := d.settleForeign(ctx, probe, netns); err != nil {
		return nil, err
	}
	return d.standsFor(netns, probe.Inode), nil
}

// dropStale takes away what a container had in a namespace other than the one it
// has now.
func (e *Engine) dropStale(ctx context.Context, a Attachment) error {
	d := e.draft("network "+a.Network, "attach "+a.Container)
	d.whole = true
	if _, err := d.network(a.Network); err != nil {
		return err
	}
	now, err := d.standsAt(ctx, a.NetNS)
	if err != nil {
		return err
	}
	for _, sb := range e.intent.Sandboxes {
		if now != nil && sb.ID == now.ID {
			continue
		}
		if err := d.detach(ctx, sb, func(ep model.Endpoint) bool { return ep.Container == a.Container }); err != nil {
			d.discard()
			return err
		}
	}
	if len(d.sandboxes) == 0 {
		return nil
	}
	return d.commit(ctx)
}

// Detach takes the container of a runtime off a network, where its interface
// has a name, or any with "". A sandbox that came by a runtime goes with the
// last endpoint that one asked for.
func (e *Engine) Detach(ctx context.Context, container, network, ifname string) (err error) {
	defer e.timed("disconnect")(&err)
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("network "+network, "detach "+container)
	d.whole = true
	n, err := d.network(network)
	if err != nil {
		return err
	}
	meant := func(ep model.Endpoint) bool {
		return ep.Network == n.ID && ep.Container == container && (ifname == "" || ep.IfName == ifname)
	}
	for _, sb := range e.intent.Sandboxes {
		if err := d.detach(ctx, sb, meant); err != nil {
			d.discard()
			return err
		}
	}
	if len(d.sandboxes) == 0 {
		return d.errorf(model.NotFound, "no such endpoint")
	}
	return d.commit(ctx)
}

// detach takes those endpoints of a sandbox away that a runtime asked for and
// that are meant.
func (d *draft) detach(ctx context.Context, sb *model.Sandbox, meant func(model.Endpoint) bool) error {
	if !slices.ContainsFunc(sb.Endpoints, meant) {
		return nil
	}
	c := d.edit(sb)
	for _, ep := range sb.Endpoints {
		if meant(ep) {
			dropEndpoint(c, ep.ID)
		}
	}
	runtimes := slices.ContainsFunc(c.Endpoints, func(ep model.Endpoint) bool { return ep.Container != "" })
	switch {
	case c.Guest != nil && !d.idle(c):
		if !runtimes {
			c.Origin = ""
		}
	case c.Mode == model.ModeOther && len(c.Endpoints) == 0 || c.Origin == model.OriginCNI && !runtimes:
		d.sandboxes[c.ID] = nil
		return nil
	}
	c.Resolver = c.Resolver && runtimes
	return d.settlePorts(ctx, c, nil)
}

// ofContainer returns the sandbox of a runtime's container.
func (d *draft) ofContainer(id string) (*model.Sandbox, error) {
	for sb := range d.marked(container(id)) {
		if slices.ContainsFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.Container == id }) {
			return sb, nil
		}
	}
	return nil, noSandbox(containerRef+id, d.op)
}

// Drift is how what there is differs from what one sandbox needs.
type Drift struct {
	Ops   []kstate.Op   // that a pass would apply now
	Added []kstate.Addr // that others gave its interfaces
	Deaf  bool          // the resolver did not hear it: its rules were not there, and are now
}

// Drift compares what there is with what one sandbox needs.
func (e *Engine) Drift(ctx context.Context, ref string) (Drift, error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("sandbox "+ref, "compare")
	if sb, err := d.existing(ref); err != nil {
		return Drift{}, err
	} else if sb.Exit != nil {
		return Drift{}, d.errorf(model.Gone, "has ended")
	}
	have, want, err := e.compare(ctx, false)
	if err != nil {
		return Drift{}, internal(d.ref, d.op, err)
	}
	sb, err := d.existing(ref) // as it is by now
	if err != nil {
		return Drift{}, err
	}
	if e.lost(have)[sb.ID] != nil {
		return Drift{}, d.errorf(model.Gone, "its namespace is gone")
	}
	own, err := needed(sb, e.intent, e.facts)
	if err != nil {
		return Drift{}, internal(d.ref, d.op, err)
	}
	ops := slices.DeleteFunc(kstate.Diff(have, want), func(op kstate.Op) bool { return own[op.Object().Key()] == nil })
	if len(ops) > 0 {
		if ops, err = e.broken(have, ops); err != nil {
			return Drift{}, internal(d.ref, d.op, err)
		}
	}
	if len(ops) > 0 {
		e.Kick("what a comparison found") // of settings nothing hints at that
	}
	deaf, err := e.mendNames(sb)
	if err != nil {
		return Drift{}, internal(d.ref, d.op, err)
	}
	return Drift{ops, added(sb, have), deaf}, nil
}

// broken are those of the ops that the last pass would apply too. The others are due
// since the host is another one, as it is with a first rule of somebody else's firewall.
func (e *Engine) broken(have kstate.Set, ops []kstate.Op) ([]kstate.Op, error) {
	was, err := compile.All(e.intent, e.passed)
	if err != nil {
		return nil, err
	}
	due := map[kstate.Key]bool{}
	for _, op := range kstate.Diff(have, was) {
		due[op.Object().Key()] = true
	}
	return slices.DeleteFunc(ops, func(op kstate.Op) bool { return !due[op.Object().Key()] }), nil
}

// needed is the fragment of a sandbox and those without which it reaches nobody: the
// host's and its networks'.
func needed(sb *model.Sandbox, in compile.Intent, f compile.Facts) (kstate.Set, error) {
	all, err := compile.Host(in, f)
	if err != nil {
		return nil, err
	}
	own, err := compile.Sandbox(sb, in, f)
	if err != nil {
		return nil, err
	}
	maps.Copy(all, own)
	for _, ep := range sb.Endpoints { // of which several may be on one network
		shared, err := compile.Network(in.Networks[ep.Network], f)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, shared)
	}
	return all, nil
}

// added lists, in order, the addresses that others gave a sandbox's interfaces.
func added(sb *model.Sandbox, have kstate.Set) []kstate.Addr {
	var list []kstate.Addr
	for _, o := range have {
		a, ok := o.(kstate.Addr)
		if ok && a.Other && a.NS == compile.NS(sb) && slices.ContainsFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.IfName == a.Dev }) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b kstate.Addr) int { return cmp.Compare(a.Key().ID, b.Key().ID) })
	return list
}
