package engine

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// PlugSpec asks that a container be connected to a device of the host: to the
// network of that device, made if there is none.
type PlugSpec struct {
	Device string // name, or mac:ADDRESS for the one that has it
	Driver string // "" is what the device is, or its name says
	VLAN   int    // that the container is in; 0 is none
	// Endpoint is the interface in the container, without its network.
	Endpoint EndpointSpec
	Command  string // see [model.Plug]
}

// askRunning asks what a reference means, and refuses a container that does not run,
// unless what its sandbox has is enough.
func (e *Engine) askRunning(ctx context.Context, about, op, ref string, enough func(*model.Sandbox) bool) (answer, error) {
	who, err := e.askPlain(ctx, about, op, ref)
	if sb, failed := e.existing(ref); err == nil && who.guest.Runtime == "" && failed == nil && sb.Guest != nil {
		who, err = e.ask(ctx, about, op, sb.Guest.String())
		who.ref = ref
	}
	if err != nil || who.err != nil || who.found.State != runtime.Stopped {
		return who, err
	}
	sb, failed := e.existing(who.found.Guest.String())
	if failed == nil && enough(sb) || failed != nil && who.guest.Runtime == model.RuntimeNetNS {
		return who, nil // a path of which nothing is known is no namespace, which is said later
	}
	if who.guest.Runtime == model.RuntimeDocker {
		return who, model.Errorf(model.Gone, "", "", "Docker inspect returned invalid PID 0") // the script's words
	}
	return who, model.Errorf(model.Gone, about, op, "%s", why(who.guest, runtime.Stopped))
}

// hasPlug reports whether a command connected a sandbox.
func hasPlug(sb *model.Sandbox, command string) bool {
	return slices.ContainsFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.Plug != nil && ep.Plug.Same(command) })
}

// plugIn is Plug without what takes its time, and says whether it made the endpoint.
func (e *Engine) plugIn(ctx context.Context, who answer, spec PlugSpec) (*model.Sandbox, *model.Endpoint, bool, error) {
	about, op := "device "+spec.Device, "connect "+who.ref
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft(about, op)
	sb, ep, err := d.plug(ctx, who, spec)
	if err != nil {
		d.discard()
		return nil, nil, false, err
	}
	old := e.intent.Sandboxes[sb.ID]
	made := old == nil || endpointByID(old, ep.ID) == nil
	if len(d.sandboxes)+len(d.networks) == 0 {
		return sb, ep, made, nil
	}
	return sb, ep, made, d.commit(ctx)
}

// tryPlug says why a command cannot be done, and does nothing.
func (e *Engine) tryPlug(ctx context.Context, who answer, spec PlugSpec) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("device "+spec.Device, "connect "+who.ref)
	defer d.discard()
	_, _, err := d.plug(ctx, who, spec)
	return err
}

// askPlain is ask, but for a name that both Docker and LXC have: that is Docker's.
func (e *Engine) askPlain(ctx context.Context, about, op, ref string) (answer, error) {
	who, err := e.ask(ctx, about, op, ref)
	if model.KindOf(err) != model.Conflict {
		return who, err
	}
	for _, r := range []model.Runtime{model.RuntimeDocker, model.RuntimeLXC} {
		if a, failed := e.ask(ctx, about, op, string(r)+":"+ref); failed == nil && a.err == nil && a.found.State != runtime.Gone {
			return a, nil
		}
	}
	return who, err
}

func (d *draft) plug(ctx context.Context, who answer, spec PlugSpec) (*model.Sandbox, *model.Endpoint, error) {
	sb, err := d.subject(ctx, who, false)
	if err != nil {
		return nil, nil, err
	}
	for i := range sb.Endpoints {
		if ep := &sb.Endpoints[i]; ep.Plug != nil && ep.Plug.Same(spec.Command) {
			return sb, ep, nil
		}
	}
	n, err := d.wire(ctx, spec) // first, as the script asks for the device
	if err != nil {
		return nil, nil, err
	}
	for _, ep := range sb.Endpoints {
		if ep.Plug != nil && ep.IfName == spec.Endpoint.IfName {
			return nil, nil, d.errorf(model.Conflict, "interface %s: is there by pipework %s", ep.IfName, ep.Plug.For(sb)).
				WithHint("pipework --undo %s -i %s %s takes it away", ep.Plug.Device, ep.IfName, who.ref)
		}
	}
	sb = d.edit(sb)
	if err := d.connectable(sb); err != nil {
		return nil, nil, err
	}
	if err := d.notRuntimes(sb); err != nil {
		return nil, nil, err
	}
	if err := d.notTheirs(sb, string(n.ID)); err != nil {
		return nil, nil, err
	}
	es := spec.Endpoint
	es.Network, es.several = string(n.ID), true
	es.Plug, es.Priority = &model.Plug{Device: spec.Device, Command: spec.Command}, lastWay(sb, es.Routers)
	if portsOf(n) {
		es.VLAN = spec.VLAN
	}
	if err := d.addEndpoint(ctx, sb, es); err != nil {
		return nil, nil, err
	}
	return sb, &sb.Endpoints[len(sb.Endpoints)-1], d.settlePorts(ctx, sb, nil)
}

// lastWay is the priority with which the routers of a command are used instead of
// those of the commands before: the script replaces the default route.
func lastWay(sb *model.Sandbox, routers []netip.Addr) int {
	priority := 0
	for _, ep := range sb.Endpoints {
		if ep.Plug != nil && slices.ContainsFunc(routers, func(a netip.Addr) bool { return ep.Router(a.Is6()).IsValid() }) {
			priority = max(priority, ep.Priority+1)
		}
	}
	return priority
}

// wire returns the network of a device, made in the draft if there is none.
func (d *draft) wire(ctx context.Context, spec PlugSpec) (*model.Network, error) {
	dev, err := d.hostDevice(ctx, spec.Device)
	if err != nil {
		return nil, err
	}
	n := d.carrier(dev, spec)
	if n != nil && (portsOf(n) || spec.Driver != "") {
		return n, nil
	}
	view, err := d.host(ctx)
	if err != nil {
		return nil, internal(d.ref, d.op, err)
	}
	if _, ovs := view.switches[dev]; n != nil && !ovs && view.links[dev].Type != kstate.TypeBridge {
		return n, nil
	}
	ns, err := d.wireSpec(dev, spec, view)
	if err != nil {
		return nil, err
	}
	return d.addNetwork(ctx, ns)
}

// carrier returns the network of a device, or nil: one of the bridge that it is before
// those on it, and of several in VLANs of one bridge that of the VLAN.
func (d *draft) carrier(dev string, spec PlugSpec) *model.Network {
	all := d.allNetworks()
	var best *model.Network
	far := func(n *model.Network) int {
		switch {
		case !portsOf(n):
			return 2
		case n.Options.VLAN != spec.VLAN:
			return 1
		}
		return 0
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if n := all[id]; n.Driver != model.DriverPool && carries(n, dev, spec) && (best == nil || far(n) < far(best)) {
			best = n
		}
	}
	return best
}

// portsOf reports whether a network's endpoints are ports of its device.
func portsOf(n *model.Network) bool {
	return n.Driver == model.DriverBridge || n.Driver == model.DriverOVS
}

// carries reports whether a network is the one of a device.
func carries(n *model.Network, dev string, spec PlugSpec) bool {
	if n.Labels[model.LabelPipework] == spec.Device && n.Options.Device == "" && n.Options.Parent == "" {
		return true // dummy
	}
	switch n.Driver {
	case model.DriverBridge, model.DriverOVS:
		return n.Base() == dev && cmp.Or(spec.Driver, n.Driver) == n.Driver
	}
	return n.Options.Parent == dev && n.Options.VLAN == spec.VLAN && cmp.Or(spec.Driver, model.DriverMacvlan) == n.Driver
}

// wireSpec says what network a device gets: its kind, or that which its name
// begins with when it is not there, decides the driver.
func (d *draft) wireSpec(dev string, spec PlugSpec, view *hostView) (NetworkSpec, error) {
	ns := NetworkSpec{ID: newID(), Driver: spec.Driver, Options: map[string]string{"ipam": "none"}, Labels: map[string]string{model.LabelPipework: spec.Device}}
	ns.Name = d.wireName(dev, 0, ns.ID)
	l, exists := view.links[dev]
	nic := d.lenderOf(dev)
	switch {
	case !exists && nic != nil:
		return ns, d.isNICOf(nic, "")
	case ns.Driver != "":
	case exists && l.Type == kstate.TypeBridge, !exists && strings.HasPrefix(dev, "br"):
		ns.Driver = model.DriverBridge
	case view.switches[dev].Name != "", !exists && strings.HasPrefix(dev, "ovs"):
		ns.Driver = model.DriverOVS
	case exists:
		ns.Driver = model.DriverMacvlan
	case strings.HasPrefix(dev, "dummy"):
		// A port that no other port hears: what is sent there is lost, as by
		// a dummy device, which not every kernel has.
		ns.Driver, ns.Options["icc"] = model.DriverBridge, "false"
		return ns, nil
	default:
		return ns, model.Errorf(model.NotFound, "", "", "I do not know how to setup interface %s.", dev) // the script's words
	}
	switch ns.Driver {
	case model.DriverBridge, model.DriverOVS:
		if ns.Options["name"] = dev; !exists && ns.Driver == model.DriverBridge {
			ns.Options["mtu"] = strconv.Itoa(defaultMTU) // as the script has it
		}
		if ns.Driver == model.DriverOVS {
			ns.Options["trunks"] = string(model.AllVLANs) // as a port that is added without a VLAN
		}
		return ns, nil
	}
	if _, ours := view.own[dev]; ours {
		return ns, d.errorf(model.Invalid, "is a device that Sealane made")
	}
	if !exists {
		return ns, d.errorf(model.NotFound, "no such device")
	}
	ns.Options["parent"] = dev
	if spec.VLAN != 0 {
		ns.Name = d.wireName(dev, spec.VLAN, ns.ID)
		ns.Options["vlan"] = strconv.Itoa(spec.VLAN)
	}
	return ns, nil
}

// wireName is the device's, or one that is free.
func (d *draft) wireName(dev string, vlan int, id model.ID) string {
	name := dev
	if vlan != 0 {
		name += "." + strconv.Itoa(vlan)
	}
	if d.find(name) != nil || model.Builtin(name) || model.CheckName(name) != nil {
		return "pipework-" + string(id)
	}
	return name
}

// hostDevice returns the name of a device that is named, or meant by its hardware
// address. One that is in a container now is known by its network.
func (d *draft) hostDevice(ctx context.Context, text string) (string, error) {
	mac, ok := strings.CutPrefix(text, "mac:")
	if !ok {
		return text, nil
	}
	view, err := d.host(ctx)
	if err != nil {
		return "", internal(d.ref, d.op, err)
	}
	for _, name := range slices.Sorted(maps.Keys(view.links)) {
		if l := view.links[name]; strings.EqualFold(l.MAC, mac) {
			return name, nil
		}
	}
	for _, n := range d.allNetworks() {
		if n.Labels[model.LabelPipework] == text && n.Options.Parent != "" {
			return n.Options.Parent, nil
		}
	}
	return "", model.Errorf(model.NotFound, "", "", "Mac address %s specified for interface but no host interface matched.", mac)
}

// Unplug takes away what pipework commands put into a container from a device: all,
// or one interface, or what a command put there.
func (e *Engine) Unplug(ctx context.Context, ref string, what model.Plug, ifName string) (err error) {
	defer e.timed("disconnect")(&err)
	about, op := "device "+what.Device, "undo "+ref
	known, err := e.named(ctx, ref, "undo")
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft(about, op)
	var sb *model.Sandbox
	if err == nil {
		sb, err = d.existing(known)
	}
	if model.KindOf(err) == model.NotFound && err != nil {
		return d.neverPlugged()
	} else if err != nil {
		return err
	}
	if twin := d.twin(sb); twin != nil && sb.Mode == model.ModeRuntime {
		sb = twin
	}
	c := d.edit(sb)
	for _, ep := range sb.Endpoints {
		if ep.Plug == nil || !d.leadsTo(&ep, what.Device) || cmp.Or(ifName, ep.IfName) != ep.IfName {
			continue
		}
		if what.Command != "" && !ep.Plug.Same(what.Command) {
			d.discard()
			return d.errorf(model.Conflict, "interface %s: is there by pipework %s", ep.IfName, ep.Plug.For(sb))
		}
		dropEndpoint(c, ep.ID)
	}
	if len(c.Endpoints) == len(sb.Endpoints) {
		d.discard()
		return d.neverPlugged()
	}
	if c.Mode == model.ModeOther && (c.Guest == nil && len(c.Endpoints) == 0 || d.idle(c)) {
		d.sandboxes[c.ID] = nil
	} else if err := d.settlePorts(ctx, c, nil); err != nil {
		d.discard()
		return err
	}
	return d.commit(ctx)
}

func (d *draft) neverPlugged() error {
	return d.errorf(model.NotFound, "no pipework command connected it").WithHint("pipework --list shows those that did")
}

// leadsTo reports whether an endpoint is a command's with a device, or on a network
// of that device, which the command may have called mac:ADDRESS.
func (d *draft) leadsTo(ep *model.Endpoint, device string) bool {
	n := d.allNetworks()[ep.Network]
	return ep.Plug.Device == device || n != nil && n.Options.Parent == device
}

// dropWires takes the networks that pipework commands made out of the draft's
// future, if it takes their last endpoint. One whose device others use stays: a
// bridge with a port or an address of somebody's.
func (d *draft) dropWires(ctx context.Context) {
	left := map[model.ID]bool{}
	for id := range d.sandboxes {
		old := d.e.intent.Sandboxes[id]
		if old == nil {
			continue
		}
		for _, ep := range old.Endpoints {
			if n := d.e.intent.Networks[ep.Network]; n != nil && n.Labels[model.LabelPipework] != "" {
				left[n.ID] = true
			}
		}
	}
	for id := range left {
		if _, touched := d.networks[id]; !touched && !d.inUse(id) && !d.othersUse(ctx, d.e.intent.Networks[id].Base()) {
			d.networks[id] = nil
		}
	}
}

// dropIdleWires does so with those on a bridge that a NIC has left.
func (e *Engine) dropIdleWires(ctx context.Context, bridge string) error {
	d := e.draft("device "+bridge, "drop")
	for id, n := range e.intent.Networks {
		if n.Base() == bridge && n.Labels[model.LabelPipework] != "" && !d.inUse(id) && !d.othersUse(ctx, bridge) {
			d.networks[id] = nil
		}
	}
	if len(d.networks) == 0 {
		return nil
	}
	return d.commit(ctx)
}

func (d *draft) inUse(network model.ID) bool {
	return firstBy(d.allSandboxes(), func(sb *model.Sandbox) bool { return sb.Endpoint(network) != nil }) != nil
}

// othersUse reports whether somebody has a port or an address on a bridge of ours,
// or that cannot be told.
func (d *draft) othersUse(ctx context.Context, dev string) bool {
	view, err := d.host(ctx)
	if err != nil {
		return true
	}
	if _, theirs := view.links[dev]; theirs {
		return false // it stays anyway
	}
	for _, l := range view.links {
		if l.Master == dev {
			return true
		}
	}
	return slices.ContainsFunc(view.addrs, func(a kstate.Addr) bool { return a.Dev == dev })
}
