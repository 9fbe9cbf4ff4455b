package engine

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// What container engines do with sandboxes of ModeRuntime. They name an endpoint
// (Announce), put it into a container (Join), and take it away (Part).

// Join puts an endpoint into the sandbox of a container engine, by the path that
// its namespace has or will have, made if there is none. An endpoint that is
// there already is returned as it is; one that was announced waits no longer.
func (e *Engine) Join(ctx context.Context, netns, origin string, spec EndpointSpec) (_ *model.Sandbox, _ *model.Endpoint, err error) {
	defer e.timed("connect")(&err)
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("network "+spec.Network, "join")
	if n, err := d.network(spec.Network); err == nil {
		e.unreserve(n.ID, d.stopWaiting(n, spec.ID)) // for the sandbox to have, or discard gives it back
	}
	sb, err := d.joined(ctx, netns, origin, spec)
	if err != nil {
		d.discard()
		return nil, nil, err
	}
	if len(d.sandboxes) > 0 {
		if err = d.commit(ctx); err != nil {
			return sb, endpointByID(sb, spec.ID), err
		}
	}
	sb, err = e.hand(ctx, sb, spec.ID)
	return sb, endpointByID(sb, spec.ID), err
}

// hand notes that the container engine is about to hear of an endpoint's device, if
// all of that is its to take: from then on nobody can say where it is, and a pass
// leaves it alone. Until then a pass makes it. An engine that asks again has not
// heard the answer, or has brought the device back: it is made if it is not there.
func (e *Engine) hand(ctx context.Context, sb *model.Sandbox, id model.ID) (*model.Sandbox, error) {
	ep := endpointByID(sb, id)
	n := e.intent.Networks[ep.Network]
	if !n.OnParent() {
		return sb, nil
	}
	d := e.draft(n.Ref(), "join")
	if ep.Taken {
		return sb, d.remakeHanded(ctx, sb, ep)
	}
	c := d.edit(sb)
	endpointByID(c, id).Taken = true
	return c, d.commit(ctx)
}

// remakeHanded makes the device of a handed endpoint, unless it is in the host's
// namespace.
func (d *draft) remakeHanded(ctx context.Context, sb *model.Sandbox, ep *model.Endpoint) error {
	part, err := compile.Sandbox(sb, d.e.intent, d.e.facts)
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	l, _ := part[kstate.Link{Name: ep.FarDevice()}.Key()].(kstate.Link)
	l.Taken = false
	return explain(d.ref, d.op, d.e.cfg.Kernel.Apply(ctx, []kstate.Op{{New: l}}))
}

func (d *draft) joined(ctx context.Context, netns, origin string, spec EndpointSpec) (*model.Sandbox, error) {
	for sb := range d.marked(atPath(netns)) {
		if sb.Mode != model.ModeRuntime || sb.NetNS != netns {
			continue
		}
		if endpointByID(sb, spec.ID) != nil {
			return sb, nil
		}
		c := d.edit(sb)
		return c, d.addEndpoint(ctx, c, spec)
	}
	name := origin + "-" + string(spec.ID)
	return d.addSandbox(ctx, SandboxSpec{Name: name, Mode: model.ModeRuntime, NetNS: netns, Origin: origin, Networks: []EndpointSpec{spec}}, nil)
}

func endpointByID(sb *model.Sandbox, id model.ID) *model.Endpoint {
	for i := range sb.Endpoints {
		if sb.Endpoints[i].ID == id {
			return &sb.Endpoints[i]
		}
	}
	return nil
}

// ByEndpoint returns the sandbox that has an endpoint, or nil.
func (e *Engine) ByEndpoint(id model.ID) *model.Sandbox {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.sandboxWith(id)
}

// sandboxWith is ByEndpoint for who holds work or mu.
func (e *Engine) sandboxWith(id model.ID) *model.Sandbox {
	for _, sb := range e.intent.Sandboxes {
		if endpointByID(sb, id) != nil {
			return sb
		}
	}
	return nil
}

// Part takes an endpoint away, and the sandbox with its last; or one that waits.
// One that is not there is no error.
func (e *Engine) Part(ctx context.Context, id model.ID) (err error) {
	defer e.timed("disconnect")(&err)
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("endpoint "+string(id), "remove")
	sb, n := e.sandboxWith(id), e.waitingIn(id)
	switch {
	case sb == nil && n == nil:
		return nil
	case sb == nil:
		return d.partWaiting(ctx, n, id)
	case len(sb.Endpoints) == 1:
		return d.partLast(ctx, sb)
	}
	c := d.edit(sb)
	dropEndpoint(c, id)
	if err := d.settlePorts(ctx, c, nil); err != nil {
		d.discard()
		return err
	}
	return d.commit(ctx)
}

// partLast drops a sandbox with its last endpoint.
func (d *draft) partLast(ctx context.Context, sb *model.Sandbox) error {
	d.sandboxes[sb.ID] = nil // first: its name is free for the guest
	guest, err := d.keepAdded(sb)
	if err != nil {
		d.discard()
		return err
	}
	err = d.commit(ctx)
	if guest != nil {
		d.e.askSoon(guest.ID, guest.Guest.Runtime) // the container may be about to be removed
	}
	return err
}

// ContainerNames is what a container engine says of a container of its own.
type ContainerNames struct {
	ID             string // in full
	Name, Hostname string
	Aliases        map[model.ID][]string     // other names, by endpoint
	LinkLocal      map[model.ID][]netip.Addr // more addresses, which the engine gave it
	Services       []model.Membership        // that it is a backend of where its endpoints are of none
}

// NameSandbox gives a sandbox of a container engine the name that it has there, and its
// endpoints the other names. If a sandbox has that name, the engine's goes in front.
// Endpoints on overlay networks that are of no service become backends of services. It
// gets back the ports that users published of the container before; if it cannot, the
// error says so, and the names are its own all the same.
func (e *Engine) NameSandbox(ctx context.Context, id model.ID, as ContainerNames) error {
	e.work.Lock()
	defer e.work.Unlock()
	sb := e.intent.Sandboxes[id]
	if sb == nil {
		return nil
	}
	guest := e.keeper(as)
	err := e.nameSandbox(ctx, sb, as, guest)
	if err != nil && guest != nil {
		err = errors.Join(err, e.nameSandbox(ctx, sb, as, nil))
	}
	return err
}

// nameSandbox is NameSandbox with the ports that a guest keeps, if not nil.
func (e *Engine) nameSandbox(ctx context.Context, sb *model.Sandbox, as ContainerNames, guest *model.Sandbox) error {
	d := e.draft(sb.Ref(), "name")
	c := d.edit(sb)
	c.Container, c.Hostname = as.ID, as.Hostname
	if guest != nil {
		if err := d.regain(ctx, c, guest); err != nil {
			d.discard()
			return err
		}
	}
	if c.Name = d.freeName(sb.Name, as.Name, sb.Origin, func(n string) bool { return d.findSandbox(n) != nil }); c.Name == "" {
		d.discard()
		return d.errorf(model.Conflict, "the name is taken")
	}
	for i := range c.Endpoints {
		ep := &c.Endpoints[i]
		ep.Aliases, ep.LinkLocal = as.Aliases[ep.ID], linkLocals(as.LinkLocal[ep.ID])
		if n := e.intent.Networks[ep.Network]; n != nil && n.Overlay != nil && len(ep.Services) == 0 {
			ep.Services = as.Services
		}
	}
	if err := d.seeRuntime(ctx, c); err != nil {
		d.discard()
		return internal(d.ref, d.op, err)
	}
	if sameNames(sb, c) {
		return nil
	}
	if err := c.Validate(); err != nil {
		d.discard()
		return d.errorf(model.Invalid, "%w", err)
	}
	return d.commit(ctx)
}

// linkLocals are the prefixes of link-local addresses that a container engine gave an
// interface, without those that nobody can have there.
func linkLocals(list []netip.Addr) (out []netip.Prefix) {
	for _, a := range list {
		if p, err := model.LinkLocalPrefix(a); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// seeRuntime notes which namespace a container engine's sandbox has, if its sockets are to
// choose there and it is there yet.
func (d *draft) seeRuntime(ctx context.Context, sb *model.Sandbox) error {
	onOverlay := slices.ContainsFunc(sb.Endpoints, func(ep model.Endpoint) bool {
		n := d.e.intent.Networks[ep.Network]
		return n != nil && n.Overlay != nil
	})
	if !onOverlay || !d.e.cfg.SocketsChoose {
		return nil
	}
	there, err := d.look(ctx, sb.NetNS)
	if err == nil && there != nil {
		sb.Inode = there.inode
	}
	return err
}

// Inhabited returns the sandboxes of container engines whose namespaces are there.
func (e *Engine) Inhabited(ctx context.Context) (out []*model.Sandbox, err error) {
	scope := kernel.Scope{Only: true}
	var all []*model.Sandbox
	for _, sb := range e.Sandboxes() {
		if sb.Mode == model.ModeRuntime {
			all = append(all, sb)
			scope.NS = append(scope.NS, kstate.NS{Path: sb.NetNS})
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	seen, err := e.cfg.Kernel.Observe(ctx, scope)
	if err != nil {
		return nil, internal("sandboxes", "look for", err)
	}
	there := spacesIn(seen)
	return slices.DeleteFunc(all, func(sb *model.Sandbox) bool { return there[sb.NetNS] == nil }), nil
}

// dropChoosers takes out of want who is to choose in a container engine's namespace that is
// not there, as after a reboot, until the engine says that it runs nothing: it is nobody's
// undoing, and cannot be repaired.
func (e *Engine) dropChoosers(ctx context.Context, have, want kstate.Set) error {
	missing := map[kstate.Key]kstate.NS{}
	scope := kernel.Scope{Only: true}
	for key, o := range want {
		if c, ok := o.(kstate.Chooser); ok && have[key] == nil && want[kstate.NetNS{NS: c.NS}.Key()] == nil {
			missing[key] = c.NS
			scope.NS = append(scope.NS, kstate.NS{Path: c.NS.Path})
		}
	}
	if len(missing) == 0 {
		return nil
	}
	seen, err := e.cfg.Kernel.Observe(ctx, scope)
	if err != nil {
		return err
	}
	there := spacesIn(seen)
	for key, ns := range missing {
		if s := there[ns.Path]; s == nil || s.inode != ns.Inode && ns.Inode != 0 {
			delete(want, key)
		}
	}
	return nil
}

func sameNames(a, b *model.Sandbox) bool {
	return a.Name == b.Name && a.Hostname == b.Hostname && a.Container == b.Container && a.Inode == b.Inode && len(a.Ports) == len(b.Ports) && slices.EqualFunc(a.Endpoints, b.Endpoints, func(a, b model.Endpoint) bool {
		return slices.Equal(a.Aliases, b.Aliases) && slices.Equal(a.LinkLocal, b.LinkLocal) && slices.Equal(a.Services, b.Services)
	})
}

// NameNetwork gives a network the name that it has in a container engine, as
// NameSandbox does. Docker takes names that no network here can have: with one of
// those it keeps that of its ID.
func (e *Engine) NameNetwork(ctx context.Context, id model.ID, name, origin string) error {
	if n := e.overHosts(id); n != nil && n.Overlay != nil {
		return e.nameOverlay(ctx, n, name)
	} else if n != nil {
		return e.nameFabric(ctx, n, name)
	}
	e.work.Lock()
	defer e.work.Unlock()
	n := e.intent.Networks[id]
	if n == nil || model.CheckName(name) != nil {
		return nil
	}
	d := e.draft(n.Ref(), "name")
	name = d.freeName(n.Name, name, origin, func(s string) bool { return model.Builtin(s) || d.find(s) != nil })
	if name == "" || model.CheckName(name) != nil {
		return d.errorf(model.Conflict, "the name is taken")
	}
	if name == n.Name {
		return nil
	}
	c := *n
	c.Name = name
	d.networks[id] = &c
	return d.commit(ctx)
}

// freeName returns the first of name and origin-name that nobody has, or the one
// that have is already; "" if both are taken.
func (d *draft) freeName(have, name, origin string, taken func(string) bool) string {
	for _, s := range []string{name, origin + "-" + strings.TrimPrefix(name, origin+"-")} {
		if s == have || !taken(s) {
			return s
		}
	}
	return ""
}
