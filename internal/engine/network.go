package engine

import (
	"cmp"
	"context"
	"crypto/rand"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// NetworkSpec is a network to be made. What is left out is chosen.
type NetworkSpec struct {
	ID       model.ID // "" is a new one
	Origin   string   // see [model.Network]
	Name     string
	Driver   string // "" is bridge
	Subnets  []model.Subnet
	NoIPv4   bool // no automatic IPv4 subnet
	IPv6     bool // an automatic IPv6 subnet if none is given
	Internal bool
	Options  map[string]string
	Labels   map[string]string
	// FromPools: subnets that a container engine holds in pools become the
	// network's, with what it holds of them.
	FromPools bool
}

// CreateNetwork makes a network and returns it.
func (e *Engine) CreateNetwork(ctx context.Context, spec NetworkSpec) (_ *model.Network, err error) {
	defer e.timed("network_create")(&err)
	if spec.Driver == model.DriverFabric {
		return e.createFabric(ctx, spec)
	}
	if spec.Driver == model.DriverOverlay {
		return e.createOverlay(ctx, spec)
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("network "+spec.Name, "create")
	n, err := d.addNetwork(ctx, spec)
	if err != nil {
		d.discard()
		return nil, err
	}
	return n, d.commit(ctx)
}

// addNetwork puts a new network into the draft.
func (d *draft) addNetwork(ctx context.Context, spec NetworkSpec) (*model.Network, error) {
	if spec.Driver == "" {
		spec.Driver = model.DriverBridge
	}
	if err := d.checkNewNetwork(spec); err != nil {
		return nil, err
	}
	if spec.Driver == model.DriverFabric || spec.Driver == model.DriverOverlay { // declared, and of no host
		return nil, d.errorf(model.Unsupported, "driver %s: what all hosts share is not declared on one", spec.Driver).WithHint("sealane network create -d %s makes it", spec.Driver)
	}
	options, err := model.ParseOptions(spec.Driver, spec.Options)
	if err != nil {
		return nil, d.errorf(model.Invalid, "%w", err)
	}
	n := &model.Network{ID: cmp.Or(spec.ID, newID()), Origin: spec.Origin, Name: spec.Name, Driver: spec.Driver, Internal: spec.Internal,
		Subnets: slices.Clone(spec.Subnets), Options: options, Labels: spec.Labels, Created: d.e.cfg.Now().UTC()}
	if spec.FromPools {
		d.takeOver(n)
	}
	view, err := d.host(ctx)
	if err != nil {
		return nil, internal(d.ref, d.op, err)
	}
	settle := d.settleDevice
	if n.OnParent() {
		settle = d.settleParent
	}
	if n.Driver == model.DriverOVS {
		settle = d.settleSwitch
	}
	if n.Driver == model.DriverPhys {
		settle = d.settleNIC
	}
	if err := settle(n, view); err != nil {
		return nil, err
	}
	if err := d.settleSubnets(n, spec, view); err != nil {
		return nil, err
	}
	if err := n.Validate(); err != nil {
		return nil, err
	}
	if err := d.checkOverlap(n, view); err != nil {
		return nil, err
	}
	if err := d.checkSources(ctx, n, model.Options{}); err != nil {
		return nil, err
	}
	d.e.openPools(n)
	d.networks[n.ID] = n
	return n, nil
}

// checkNewNetwork refuses names that are taken and drivers that are not there.
func (d *draft) checkNewNetwork(spec NetworkSpec) error {
	if err := model.CheckName(spec.Name); err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	if model.Builtin(spec.Name) && spec.Name != model.NetworkBridge || spec.Name == model.NetworkBridge && d.find(spec.Name) != nil {
		return d.errorf(model.Conflict, "the name is built in")
	}
	if n := d.allNetworks()[spec.ID]; n != nil {
		return d.errorf(model.Conflict, "the ID is that of network %s", n.Name)
	}
	if n := d.find(spec.Name); n != nil {
		return d.errorf(model.Conflict, "the name is taken").WithHint("by network %s, driver %s", n.ID, n.Driver)
	}
	if !slices.Contains(model.Drivers(), spec.Driver) {
		return d.errorf(model.Invalid, "driver %q: not known", spec.Driver).WithHint("there is %s", strings.Join(model.Drivers(), ", "))
	}
	return nil
}

// settleDevice decides about the bridge: a new one, or one that exists.
func (d *draft) settleDevice(n *model.Network, view *hostView) error {
	dev := n.Device()
	for _, o := range d.allNetworks() {
		if o.Base() == dev && !beside(n, o) {
			return d.errorf(model.Conflict, "device %s: belongs to network %s", dev, o.Name)
		}
	}
	if nic := d.lenderOf(dev); nic != nil {
		return d.isNICOf(nic, "device")
	}
	if err := d.settleVLAN(n, view); err != nil {
		return err
	}
	l, exists := view.links[dev]
	switch {
	case !exists:
	case view.switches[dev].Name != "":
		return d.errorf(model.Conflict, "device %s: is a bridge of Open vSwitch", dev).WithHint("use -d ovs")
	case l.Type != kstate.TypeBridge:
		return d.errorf(model.Conflict, "device %s: exists and is a %s, not a bridge", dev, cmp.Or(string(l.Type), "plain device"))
	default:
		n.Options.Adopted = true
	}
	if n.Options.MTU == 0 {
		n.Options.MTU = view.mtu()
		if n.Options.Adopted {
			n.Options.MTU = l.MTU
		}
	}
	return nil
}

// settleSubnets completes the subnets: those of an adopted bridge and automatic ones.
func (d *draft) settleSubnets(n *model.Network, spec NetworkSpec, view *hostView) error {
	if n.Options.NoIPAM {
		if spec.IPv6 {
			return d.errorf(model.Invalid, "ipv6: option ipam=none: there are no subnets to choose")
		}
		return nil
	}
	for _, is6 := range []bool{false, true} {
		if _, given := n.Subnet(is6); given {
			continue
		}
		if n.Options.Adopted && !n.Wired() {
			if p, ok := view.address(n.Device(), is6); ok && (is6 || !spec.NoIPv4) {
				n.Subnets = append(n.Subnets, model.Subnet{Prefix: p.Masked(), Gateway: p.Addr()})
				continue
			}
		}
		if is6 && !spec.IPv6 || !is6 && spec.NoIPv4 {
			continue
		}
		n.Subnets = append(n.Subnets, model.Subnet{Prefix: anySubnet(is6)})
	}
	return d.fillSubnets(n, view)
}

// fillSubnets chooses subnets where any will do, and gateways.
func (d *draft) fillSubnets(n *model.Network, view *hostView) error {
	for i := range n.Subnets {
		s := &n.Subnets[i]
		if s.Prefix.Addr().IsUnspecified() {
			var err error
			if s.Prefix, err = ipam.NextSubnet(ipam.Sized(ipam.Sources(d.ula()), s.Prefix.Bits()), s.Prefix.Addr().Is6(), append(d.taken(view), prefixes(n.Subnets)...)); err != nil {
				return d.errorf(model.Exhausted, "%w", err).WithHint("give one with --subnet")
			}
		}
		if !s.Gateway.IsValid() && s.Validate() == nil && !n.Wired() && n.TakesGateway(s.Prefix.Addr().Is6()) {
			if err := d.chooseGateway(n, s, view); err != nil {
				return err
			}
		}
	}
	return nil
}

// anySubnet is any subnet, of the usual size. With a length it is one of that
// size, as in Docker.
func anySubnet(is6 bool) netip.Prefix {
	if is6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// sized reports whether what was asked for is any subnet of a size, which have is.
func sized(asked, have netip.Prefix) bool {
	return asked.Addr().IsUnspecified() && (asked.Bits() == 0 || asked.Bits() == have.Bits())
}

// chooseGateway takes an adopted bridge's address, or the first free one.
func (d *draft) chooseGateway(n *model.Network, s *model.Subnet, view *hostView) error {
	if n.Options.Adopted {
		if p, ok := view.address(n.Device(), s.Prefix.Addr().Is6()); ok && s.Prefix.Contains(p.Addr()) {
			s.Gateway = p.Addr()
			return nil
		}
	}
	all := *s
	all.Range = netip.Prefix{}
	a, err := ipam.NewPool(all).Allocate("", d.e.cfg.Now())
	if err != nil {
		return d.errorf(model.Exhausted, "gateway: %w", err)
	}
	s.Gateway = a
	return nil
}

// checkOverlap refuses subnets that meet another network's or the host's own.
func (d *draft) checkOverlap(n *model.Network, view *hostView) error {
	for _, s := range n.Subnets {
		for _, o := range d.allNetworks() {
			for _, t := range occupied(o) {
				switch {
				case o.ID == n.ID: // as it was, and will not be
				case !s.Prefix.Overlaps(t) || n.Apart(o):
				case s.Prefix != t || !n.Beside(o):
					return d.errorf(model.Conflict, "subnet %s: overlaps %s of network %s", s.Prefix, t, o.Name)
				default:
					if err := d.checkShared(n, s, o); err != nil {
						return err
					}
				}
			}
		}
		if what := view.conflict(s.Prefix, uplinks(n)...); what != "" && n.Routed() {
			return d.errorf(model.Conflict, "subnet %s: %s", s.Prefix, what)
		}
	}
	return nil
}

// checkShared refuses to keep addresses from the containers of a new network that those
// of another one on its wire have, or the host. They may have the same router.
func (d *draft) checkShared(n *model.Network, s model.Subnet, o *model.Network) error {
	is6 := s.Prefix.Addr().Is6()
	theirs, _ := o.SubnetWith(s.Prefix.Addr()) // the same: checkOverlap asks
	kept := append(slices.Collect(maps.Values(theirs.Aux)), theirs.Gateway)
	legs := n.Legs()
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	for _, a := range slices.Concat(legs, slices.Collect(maps.Values(s.Aux)), []netip.Addr{s.Gateway}) {
		who, taken := d.e.pools[poolKey{o.ID, is6}].Of(s.Prefix).Owner(a)
		if taken && (slices.Contains(legs, a) || !slices.Contains(kept, a)) {
			return d.errorf(model.Conflict, "subnet %s: address %s: taken by %s on network %s", s.Prefix, a, who, o.Name)
		}
	}
	return nil
}

// occupied is where containers of a network are, here or on other hosts.
func occupied(n *model.Network) []netip.Prefix {
	if n.Fabric != nil {
		return n.Fabric.Whole
	}
	return prefixes(n.Subnets)
}

// taken lists the prefixes automatic subnets stay away from.
func (d *draft) taken(view *hostView) []netip.Prefix {
	out := view.prefixes()
	for _, n := range d.allNetworks() {
		out = append(out, occupied(n)...)
	}
	for _, a := range d.e.facts.Resolv.Servers {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	if d.e.cfg.SideRoutes != nil {
		out = append(out, d.e.cfg.SideRoutes()...)
	}
	return out
}

// metaULA is where the host's own IPv6 prefix is kept.
const metaULA = "ula"

// ula returns the host's /48 of fd00::/8, chosen at random once (RFC 4193,
// section 3.2).
func (d *draft) ula() netip.Prefix {
	text := cmp.Or(d.meta[metaULA], d.e.meta[metaULA])
	if p, err := netip.ParsePrefix(text); err == nil {
		return p
	}
	b := [16]byte{0: 0xfd}
	rand.Read(b[1:6])
	p := netip.PrefixFrom(netip.AddrFrom16(b), 48)
	d.meta[metaULA] = p.String()
	return p
}

// RemoveNetwork removes a network nobody is on. Those that a container engine
// asked for are left to that, see RemoveNetworkOf.
func (e *Engine) RemoveNetwork(ctx context.Context, ref string) error {
	return e.RemoveNetworkOf(ctx, "", ref)
}

// RemoveNetworkOf removes a network of an origin that nobody is on.
func (e *Engine) RemoveNetworkOf(ctx context.Context, origin, ref string) (err error) {
	defer e.timed("network_remove")(&err)
	if origin == model.OriginDocker && e.docked(model.ID(ref)) != nil {
		return e.undock(ctx, model.ID(ref))
	}
	dissolved, err := e.dissolveFabric(ctx, ref)
	if err == nil && !dissolved {
		dissolved, err = e.dissolveOverlay(ctx, ref)
	}
	if err != nil {
		return err
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("network "+ref, "remove")
	if model.Builtin(ref) {
		return d.errorf(model.Denied, "is built in and stays")
	}
	n, err := d.network(ref)
	switch {
	case dissolved && err != nil && model.KindOf(err) == model.NotFound:
		return nil // the news was faster
	case err != nil:
		return err
	}
	if model.Builtin(n.Name) { // by its ID
		return d.errorf(model.Denied, "is built in and stays")
	}
	if n.Docker != "" {
		return d.errorf(model.InUse, "Docker of this host has it too").WithHint("docker network rm, first")
	}
	if n.Origin != origin {
		return d.errorf(model.Denied, "was made by %s", cmp.Or(n.Origin, "Sealane's own API")).WithHint("remove it there")
	}
	if users := e.users(n.ID); len(users) > 0 {
		return d.errorf(model.InUse, "still used by %s", strings.Join(append(users, farUsers(n)...), ", ")).WithHint("disconnect them or remove them first")
	}
	if nic := e.uplinkOf(n.Base()); nic != "" && !n.Options.Adopted {
		return d.errorf(model.InUse, "%s is attached to its bridge", nic).WithHint("sealane uplink detach %s", nic)
	}
	d.networks[n.ID] = nil
	defer e.tellSubnet()
	return d.commit(ctx)
}

// PruneNetworks removes every network without endpoints that matches, nil being
// all, but not the built-in ones, and returns the names of those that went.
func (e *Engine) PruneNetworks(ctx context.Context, match func(*model.Network) bool) (_ []string, err error) {
	defer e.timed("network_prune")(&err)
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("networks", "prune")
	var names []string
	for id, n := range e.intent.Networks {
		if e.endpoints[id] == 0 && n.Origin == "" && !n.Spans() && !model.Builtin(n.Name) && (n.Options.Adopted || e.uplinkOf(n.Base()) == "") && (match == nil || match(n)) {
			d.networks[id] = nil
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	return names, d.commit(ctx)
}

// users lists the sandboxes with an endpoint on a network, by name.
func (e *Engine) users(id model.ID) []string {
	if e.endpoints[id] == 0 {
		return nil
	}
	var names []string
	for _, sb := range e.intent.Sandboxes {
		if sb.Endpoint(id) != nil {
			names = append(names, sb.Name)
		}
	}
	slices.Sort(names)
	return names
}

// find returns a network of the draft by name, or nil.
func (d *draft) find(name string) *model.Network {
	for id, n := range d.networks {
		if n != nil && n.Name == name {
			return d.networks[id]
		}
	}
	if id, ok := d.e.networkID[name]; ok {
		if n, touched := d.networks[id]; !touched || n != nil {
			return d.e.intent.Networks[id]
		}
	}
	return nil
}

// network resolves a reference: an ID, then a name, or the beginning of one ID.
func (d *draft) network(ref string) (*model.Network, error) {
	all := d.allNetworks()
	if n := all[model.ID(ref)]; n != nil {
		return n, nil
	}
	if n := d.find(ref); n != nil {
		return n, nil
	}
	if !d.whole {
		if n, err := begun(maps.Values(all), ref, d.op, isNetwork); n != nil || err != nil {
			return n, err
		}
	}
	switch {
	case (ref == model.NetworkHost || ref == model.NetworkNone) && d.op == "update":
		return nil, d.errorf(model.Denied, "is built in and stays as it is")
	case ref == model.NetworkHost || ref == model.NetworkNone:
		return nil, d.errorf(model.Invalid, "network %s: cannot be joined by a running sandbox", ref)
	}
	return nil, model.Errorf(model.NotFound, "network "+ref, d.op, "no such network").WithHint("sealane network ls shows those there are")
}

// Networks returns all networks, by name.
func (e *Engine) Networks() []*model.Network {
	list := e.networks()
	slices.SortFunc(list, func(a, b *model.Network) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Network returns one network by name, ID or the beginning of an ID.
func (e *Engine) Network(ref string) (*model.Network, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if n := e.intent.Networks[model.ID(ref)]; n != nil {
		return n, nil
	}
	if id, ok := e.networkID[ref]; ok {
		return e.intent.Networks[id], nil
	}
	if n, err := begun(maps.Values(e.intent.Networks), ref, "find", isNetwork); n != nil || err != nil {
		return n, err
	}
	return nil, model.Errorf(model.NotFound, "network "+ref, "find", "no such network").WithHint("sealane network ls shows those there are")
}
