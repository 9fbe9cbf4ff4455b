package engine

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// SandboxSpec is a sandbox to be made.
type SandboxSpec struct {
	Name       string // "" takes the ID
	Mode       model.Mode
	Donor      string // ModeShared: whose namespace
	NetNS      string // ModeOther: path
	Origin     string // see [model.Sandbox]
	Networks   []EndpointSpec
	Ports      []model.PortMapping
	PublishAll bool // publish Expose on free ports
	Expose     []model.PortMapping
	Hostname   string
	Domain     string
	DNS        model.DNS
	Hosts      []model.HostEntry
	Links      []model.Link
	Sysctls    map[string]string
	Command    []string
	AutoRemove bool
	Process    *model.Process // who will run the command

	donor answer // what the runtimes say about Donor
}

// EndpointSpec is an endpoint to be made.
type EndpointSpec struct {
	ID      model.ID // "" is a new one
	Network string   // name or ID
	Addrs   []netip.Addr
	// Outside are addresses with a length of their own, of no subnet of the
	// network's. Routers, Routes and MTU are as in [model.Endpoint].
	Outside []netip.Prefix
	Routers []netip.Addr
	Routes  []model.Route
	MTU     int
	VLAN    int
	Trunks  model.Trunks
	Alias   string // of the host's end
	Plug    *model.Plug
	// DHCP4 and DHCP6: a server gives it its address of that family, asked as DHCP
	// says.
	DHCP4, DHCP6 bool
	DHCP         model.DHCPOptions
	NoDAD        bool // the wire is not asked who has the addresses
	MAC          string
	IfName       string
	Aliases      []string
	Priority     int
	// LinkLocal are more addresses, of no subnet.
	LinkLocal []netip.Addr
	// Sysctls are settings of the interface, see [model.Endpoint].
	Sysctls []string
	Limits  model.Limits // rates that it keeps to
	Links   []model.Link // that go with the endpoint
	// Services are those that it is a backend of, see [model.Endpoint].
	Services []model.Membership

	// Await: what is to be connected may be a container that does not exist yet.
	Await bool

	several   bool      // it may be there several times
	chosen    []*choice // automatic addresses that nobody on the wire has
	unknown   bool      // the network was not there when its wire was asked
	container string    // see [Attachment]: it may have several on one network
}

// createSandbox is CreateSandbox without what takes its time.
func (e *Engine) createSandbox(ctx context.Context, spec SandboxSpec) (*model.Sandbox, error) {
	if err := e.askDonor(ctx, &spec); err != nil {
		return nil, err
	}
	name := cmp.Or(spec.Name, "(new)")
	var made *model.Sandbox
	err := e.again(ctx, func() error {
		e.work.Lock()
		defer e.work.Unlock()
		err := e.retryPorts(func(skip skipPorts) (err error) {
			d := e.draft("sandbox "+name, "create")
			if made, err = d.addSandbox(ctx, spec, skip); err != nil {
				d.discard()
				return err
			}
			return d.commit(ctx)
		})
		if err == nil {
			e.watch(made)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// addSandbox puts a new sandbox into the draft.
func (d *draft) addSandbox(ctx context.Context, spec SandboxSpec, skip skipPorts) (*model.Sandbox, error) {
	id := newID()
	sb := &model.Sandbox{ID: id, Name: cmp.Or(spec.Name, string(id)), Mode: cmp.Or(spec.Mode, model.ModeOwn), Origin: spec.Origin,
		Hostname: spec.Hostname, Domain: spec.Domain, DNS: spec.DNS, Hosts: spec.Hosts, Links: spec.Links, Sysctls: spec.Sysctls, Expose: spec.Expose,
		Endpoints: []model.Endpoint{}, Ports: []model.PortMapping{},
		Command: spec.Command, AutoRemove: spec.AutoRemove, Process: spec.Process, Created: d.e.cfg.Now().UTC()}
	if old := d.findSandbox(sb.Name); old != nil {
		return nil, d.errorf(model.Conflict, "the name is taken by sandbox %s", old.ID)
	}
	if err := d.settleMode(ctx, sb, spec); err != nil {
		return nil, err
	}
	if sb.Hostname == "" && sb.Mode == model.ModeOwn {
		sb.Hostname = sb.Name
		if model.CheckHostname(sb.Hostname) != nil || len(sb.Hostname) > 63 {
			sb.Hostname = string(id)
		}
	}
	if err := sb.Validate(); err != nil && spec.Name == "" { // what would have been its ID tells nobody anything
		return nil, d.errorf(model.Invalid, "%w", cause(err))
	} else if err != nil {
		return nil, err
	}
	d.sandboxes[id] = sb
	for i, es := range spec.Networks {
		if err := d.addEndpoint(ctx, sb, es, spec.Networks[i+1:]...); err != nil {
			return nil, err
		}
	}
	if err := d.checkTargets(spec.Links, sb.Endpoints...); err != nil {
		return nil, err
	}
	ports := spec.Ports
	if spec.PublishAll {
		ports = append(slices.Clone(ports), unpublished(spec.Expose, ports)...)
	}
	return sb, d.addPorts(ctx, sb, ports, skip)
}

// addEndpoint puts a new endpoint of sb into the draft. The interface names that
// later ones ask for are left to them.
func (d *draft) addEndpoint(ctx context.Context, sb *model.Sandbox, spec EndpointSpec, later ...EndpointSpec) error {
	n, err := d.network(spec.Network)
	if err != nil {
		return err
	}
	if n.Driver == model.DriverPool {
		return d.errorf(model.Invalid, "network %s: is only a pool of addresses, of a container engine's", n.Name)
	}
	if spec.container == "" && !spec.several && sb.Endpoint(n.ID) != nil {
		return d.errorf(model.Conflict, "network %s: is connected already", n.Name)
	}
	if err := notOurs(n); err != nil {
		return err
	}
	for _, check := range []func() error{
		func() error { return d.checkSubnets(ctx, sb, n) }, func() error { return d.checkMeeting(sb, n) },
		func() error { return d.checkDevice(sb, n, spec) }, func() error { return d.checkSwitched(n, spec) },
		func() error { return d.checkServices(n, spec) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	ep := model.Endpoint{ID: cmp.Or(spec.ID, newID()), Network: n.ID, Handed: sb.Mode == model.ModeRuntime, Aliases: spec.Aliases, Priority: spec.Priority, Sysctls: spec.Sysctls, Services: spec.Services, Container: spec.container}
	if ep.Container != "" {
		ep.Since = d.e.cfg.Now().UTC()
	}
	if ep.IfName, err = d.ifName(ctx, sb, cmp.Or(n.Options.IfPrefix, defaultPrefix), spec.IfName, later); err != nil {
		return err
	}
	for _, a := range spec.Aliases {
		if err := model.CheckHostname(a); err != nil {
			return d.errorf(model.Invalid, "alias: %w", err)
		}
	}
	if spec.MAC != "" {
		if ep.MAC, err = d.hardwareAddress(n, spec.MAC); err != nil {
			return err
		}
	}
	if err := model.CheckEndpointSysctls(spec.Sysctls); err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	if err := d.limits(&ep, spec.Limits); err != nil {
		return err
	}
	if ep.LinkLocal, err = d.linkLocal(sb, n, spec); err != nil {
		return err
	}
	if err := d.addLinks(sb, &ep, spec.Links); err != nil {
		return err
	}
	if err := d.settleDHCP(sb, &ep, n, &spec); err != nil {
		return err
	}
	if err := d.settleOutside(ctx, sb, &ep, n, &spec); err != nil {
		return err
	}
	if err := d.settleHostIf(ctx, &ep, n); err != nil {
		return err
	}
	if err := d.settleShard(&ep, n); err != nil {
		return err
	}
	if err := d.settleTags(ctx, &ep, n); err != nil {
		return err
	}
	if err := d.lendNIC(ctx, &ep, n); err != nil {
		return err
	}
	sb.Endpoints = append(sb.Endpoints, ep) // before addresses: discard looks here
	return d.addAddresses(sb, &sb.Endpoints[len(sb.Endpoints)-1], n, spec)
}

// findSandbox returns a sandbox of the draft by name, or nil.
func (d *draft) findSandbox(name string) *model.Sandbox {
	for _, sb := range d.sandboxes {
		if sb != nil && sb.Name == name {
			return sb
		}
	}
	if id, ok := d.e.sandboxID[name]; ok {
		if sb, touched := d.sandboxes[id]; !touched || sb != nil {
			return d.e.intent.Sandboxes[id]
		}
	}
	return nil
}

// sandbox resolves a reference: an ID, a name, or the beginning of one ID.
func (d *draft) sandbox(ref string) (*model.Sandbox, error) {
	if sb := d.sandboxNow(model.ID(ref)); sb != nil {
		return sb, nil
	}
	if sb := d.findSandbox(ref); sb != nil {
		return sb, nil
	}
	if !d.whole {
		if sb, err := begun(d.allSandboxes(), ref, d.op, isSandbox); sb != nil || err != nil {
			return sb, err
		}
	}
	return nil, noSandbox(ref, d.op)
}

func noSandbox(ref, op string) error {
	return model.Errorf(model.NotFound, "sandbox "+ref, op, "no such sandbox").WithHint("sealane ps -a shows those there are")
}

// connect is Connect without what takes its time.
func (e *Engine) connect(ctx context.Context, ref string, spec EndpointSpec, ports []model.PortMapping) (*model.Sandbox, *model.Endpoint, error) {
	who, err := e.ask(ctx, "network "+spec.Network, "connect "+ref, ref)
	if err != nil {
		return nil, nil, err
	}
	e.work.Lock()
	defer e.work.Unlock()
	var sb *model.Sandbox
	err = e.retryPorts(func(skip skipPorts) error {
		d := e.draft("network "+spec.Network, "connect "+ref)
		old, err := d.subject(ctx, who, spec.Await)
		if err == nil {
			sb = d.edit(old)
			err = d.connectable(sb)
		}
		if err == nil {
			err = d.notRuntimes(sb)
		}
		if err == nil {
			err = d.notTheirs(sb, spec.Network)
		}
		if err == nil {
			err = d.addEndpoint(ctx, sb, spec)
		}
		if err == nil {
			err = d.settlePorts(ctx, sb, skip)
		}
		if err == nil {
			err = d.addPorts(ctx, sb, ports, skip)
		}
		if err != nil {
			d.discard()
			return err
		}
		return d.commit(ctx)
	})
	if err != nil {
		return nil, nil, err
	}
	return sb, &sb.Endpoints[len(sb.Endpoints)-1], nil
}

func (d *draft) connectable(sb *model.Sandbox) error {
	switch {
	case sb.Exit != nil:
		return d.errorf(model.Gone, "sandbox %s: has ended", sb.Name)
	case sb.Mode == model.ModeHost:
		return d.errorf(model.Invalid, "sandbox %s: lives in the host's namespace", sb.Name)
	case sb.Mode == model.ModeShared:
		return d.errorf(model.Invalid, "sandbox %s: shares another's namespace", sb.Name).WithHint("connect that one")
	}
	return nil
}

// notTheirs refuses to put a container on a network that its own runtime made.
func (d *draft) notTheirs(sb *model.Sandbox, network string) error {
	n, err := d.network(network)
	if err != nil || sb.Guest == nil || n.Whose() == "" || n.Whose() != string(sb.Guest.Runtime) {
		return err
	}
	return d.errorf(model.Denied, "sandbox %s: the network is one of %s, as its container", sb.Name, n.Whose()).WithHint("do it there")
}

// notRuntimes refuses what a container engine has to do itself: it furnishes the
// namespace, and would not know.
func (d *draft) notRuntimes(sb *model.Sandbox) error {
	if sb.Mode != model.ModeRuntime {
		return nil
	}
	return d.errorf(model.Denied, "sandbox %s: is a container of %s", sb.Name, sb.Origin).WithHint("do it there")
}

// Disconnect takes a sandbox off a network. A sandbox that only stood for a
// foreign namespace goes with its last endpoint.
func (e *Engine) Disconnect(ctx context.Context, ref, network string) (err error) {
	defer e.timed("disconnect")(&err)
	known, err := e.named(ctx, ref, "disconnect")
	if err != nil {
		return err
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("network "+network, "disconnect "+ref)
	sb, err := d.existing(known)
	if err != nil {
		return err
	}
	n, err := d.network(network)
	if err != nil {
		return err
	}
	if twin := d.twin(sb); twin != nil && sb.Endpoint(n.ID) == nil {
		sb = twin
	}
	if sb.Endpoint(n.ID) == nil {
		return d.errorf(model.NotFound, "sandbox %s is not on it", sb.Name)
	}
	if err := d.notRuntimes(sb); err != nil {
		return err
	}
	c := d.edit(sb)
	for ep := range sb.On(n.ID) {
		dropEndpoint(c, ep.ID)
	}
	if len(c.Endpoints) == 0 && c.Mode == model.ModeOther && (c.Guest == nil || d.idle(c)) {
		d.sandboxes[c.ID] = nil
	} else if err := d.settlePorts(ctx, c, nil); err != nil {
		d.discard()
		if e, ok := errors.AsType[*model.Error](err); ok {
			return e.WithHint("its ports take the host's on the networks that are left: sealane port rm %s takes them off before", sb.Name)
		}
		return err
	}
	return d.commit(ctx)
}

// RemoveSandbox removes a sandbox. One whose command still runs needs force,
// which ends it. Of a runtime's container it removes what Sealane gave it.
func (e *Engine) RemoveSandbox(ctx context.Context, ref string, force bool) (err error) {
	defer e.timed("sandbox_remove")(&err)
	known, err := e.named(ctx, ref, "remove")
	if err != nil {
		return err
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("sandbox "+ref, "remove")
	sb, err := d.existing(known)
	if err != nil {
		return err
	}
	if guest := d.twin(sb); guest != nil && sb.Mode == model.ModeRuntime {
		if !force {
			sb = guest
		} else {
			d.sandboxes[guest.ID] = nil
		}
	}
	if sb.Process != nil && sb.Exit == nil && e.cfg.Processes.Alive(*sb.Process) && !force {
		return d.errorf(model.InUse, "its command is running").WithHint("rm -f ends it")
	}
	if sb.Mode == model.ModeRuntime && !force {
		return d.errorf(model.Denied, "is a container of %s", sb.Origin).WithHint("remove it there")
	}
	for _, o := range e.intent.Sandboxes {
		if o.Donor == sb.ID && o.Exit == nil && !force {
			return d.errorf(model.InUse, "sandbox %s shares its namespace", o.Name)
		}
	}
	return e.remove(ctx, d, sb)
}

// remove ends what runs in a sandbox and commits its removal.
func (e *Engine) remove(ctx context.Context, d *draft, sb *model.Sandbox) error {
	if sb.Exit == nil {
		netns := ""
		if sb.Mode == model.ModeOwn {
			netns = sb.NetNS
		}
		if len(sb.Command) > 0 && sb.Process != nil {
			d.codes[sb.ID] = killed
		}
		if err := e.cfg.Processes.Kill(sb.Process, netns); err != nil {
			return internal(d.ref, d.op, err)
		}
	}
	d.sandboxes[sb.ID] = nil
	if donor := d.sandboxNow(sb.Donor); donor != nil && d.idle(donor) {
		d.sandboxes[donor.ID] = nil
	}
	if err := d.commit(ctx); err != nil {
		return err
	}
	return internalOrNil(d, e.forget(sb.ID))
}

func internalOrNil(d *draft, err error) error {
	if err == nil {
		return nil
	}
	return internal(d.ref, d.op, err)
}

// Sandbox returns one sandbox by name, ID, the beginning of an ID, or by the
// container or the namespace it stands for.
func (e *Engine) Sandbox(ref string) (*model.Sandbox, error) { return e.existing(ref) }
