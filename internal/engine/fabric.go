package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Cluster is the hosts of which this is one.
type Cluster struct {
	Store  cluster.Store // nil: this host is alone
	Later  bool          // it is alone, until JoinCluster
	Prefix string        // of the keys, as flanneld's --etcd-prefix
	Node   flannel.Node  // this host
	Uplink string        // the device to the others, or an address of it; "" is that of the default route
	Addrs  []netip.Addr  // where the others find this host, one of a family; else the uplink's
	// Subnet, if not nil, tells others on this host of its subnet in the fabric whose
	// config is under Prefix: nil is that it has none any more. It is called again and
	// again, one call after the other.
	Subnet   func(*flannel.Env) error
	Bridge   string         // another program's, for this host's part of that fabric; "": it has one of its own
	Commands Commands       // of configs with backend extension; nil: they are refused
	Former   flannel.Subnet // that a flanneld had here: wanted, where there is no lease yet
}

// A fabric is a network of driver fabric. What all hosts share of it is its config in
// the cluster's store, and their leases; what this host makes of these is a Network.
//
//	CreateNetwork ── config ─▶ store ─▶ Leaser ── View ─▶ settleFabric ─▶ draft, commit
//	                                      ▲  lease │
//	                                    store ◀────┘
//
// So a network that another host made, or that flanneld's users did, comes to be in the
// same way. Without the store all stays as it is.

// fabrics are the leases that this host keeps.
type fabrics struct {
	mu   sync.Mutex         // taken after Engine.mu, never before; protects the following
	runs map[string]*lease  // by key of the fabric; nil: this host is in no cluster
	ctx  context.Context    // while it is in one
	end  context.CancelFunc // of ctx

	// The following belong to the holder of work, see tellSubnet.
	told   bool   // others know of a subnet
	untold string // why they do not know of it
}

// besideRoot is where networks are kept, each under a prefix of its own, besides that
// whose config is flanneld's under the cluster's prefix.
const besideRoot = "sealane/networks"

// startFabrics keeps leases of the cluster's fabrics until Close.
func (e *Engine) startFabrics() {
	if e.cfg.Cluster.Store == nil || e.cfg.Cluster.Later {
		return
	}
	e.JoinCluster()
}

// JoinCluster keeps leases of the fabrics of the cluster whose store there is now,
// until LeaveCluster or Close.
func (e *Engine) JoinCluster() {
	if err := e.nameNode(); err != nil {
		e.cfg.Log.Error("fabric: this host has no ID, and joins none", "err", err)
		return
	}
	ctx, ok := e.openFabrics()
	if !ok {
		return
	}
	e.followOverlays(ctx)
	root := e.cfg.Cluster.Prefix
	e.followFabric(root)
	for _, n := range e.networks() {
		if n.Fabric != nil {
			e.followFabric(n.Fabric.Key)
		}
	}
	more := path.Join(root, besideRoot) + "/"
	cluster.Follow(ctx, e.cfg.Cluster.Store, more, e.cfg.Log, func(u cluster.Update) {
		for _, c := range u.Changes {
			if name, ok := strings.CutSuffix(strings.TrimPrefix(c.Key, more), "/config"); ok && !strings.Contains(name, "/") && !c.Gone {
				e.followFabric(more + name)
			}
		}
	})
}

// metaNode is where this host's ID in the cluster is kept.
const metaNode = "node"

// nameNode gives this host an ID, once and for all.
func (e *Engine) nameNode() error {
	e.work.Lock()
	defer e.work.Unlock()
	if e.cfg.Cluster.Node.ID != "" {
		return nil
	}
	if e.cfg.Cluster.Node.ID = e.meta[metaNode]; e.cfg.Cluster.Node.ID != "" {
		return nil
	}
	d := e.draft("node", "name")
	d.meta[metaNode] = string(newID())
	e.cfg.Cluster.Node.ID = d.meta[metaNode]
	return d.commit(e.ctx)
}

// followFabric keeps a lease of a fabric, if there is one under the key; nil: this host
// is in no cluster.
func (e *Engine) followFabric(key string) *lease {
	held, since := e.heldSubnet(key)
	e.fabrics.mu.Lock()
	defer e.fabrics.mu.Unlock()
	if l := e.fabrics.runs[key]; l != nil || e.fabrics.runs == nil {
		return l
	}
	l := &lease{key: key, news: make(chan struct{}, 1)}
	l.leaser = flannel.New(flannel.Options{
		Store: e.cfg.Cluster.Store, Prefix: key, Node: e.cfg.Cluster.Node, Log: e.cfg.Log, Held: held, HeldSince: since, Former: e.formerSubnet(key),
		Describe: func(c flannel.Config) (flannel.Value, error) { return e.describe(key, c) },
		Agree:    func(flannel.Loss) bool { return !e.fabricUsed(key) },
		Report:   l.report,
	})
	l.ctx, l.end = context.WithCancel(e.fabrics.ctx)
	e.fabrics.runs[key] = l
	e.background.Go(func() { l.leaser.Run(l.ctx) })
	e.background.Go(func() { e.tendFabric(l) })
	e.background.Go(func() { e.tendKey(l) })
	return l
}

// fabricNetwork returns the network of a fabric on this host, or nil. The caller holds
// work or mu.
func (e *Engine) fabricNetwork(key string) *model.Network {
	for _, n := range e.intent.Networks {
		if n.Fabric != nil && n.Fabric.Key == key {
			return n
		}
	}
	return nil
}

// heldSubnet is what containers of this host live in, and since when.
func (e *Engine) heldSubnet(key string) (s flannel.Subnet, since time.Time) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if n := e.fabricNetwork(key); n != nil {
		since = n.Fabric.Since
		if sub, ok := n.Subnet(false); ok {
			s.V4 = sub.Prefix
		}
		if sub, ok := n.Subnet(true); ok {
			s.V6 = sub.Prefix
		}
	}
	return s, since
}

// describe is what this host says of itself in a lease.
func (e *Engine) describe(key string, c flannel.Config) (v flannel.Value, err error) {
	if v.BackendData, err = e.extensionData(key, c); err != nil {
		return v, err
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("fabric "+key, "describe")
	view, err := d.host(e.ctx)
	if err != nil {
		return v, err
	}
	at, err := e.here(view, key, c)
	if err != nil {
		return v, err
	}
	if err := d.checkApart(view, key, at.Uplink, c); err != nil {
		return v, err
	}
	v.Public4, v.Public6 = at.Public4, at.Public6
	b := c.Backend
	if v.BackendType = b.Type(); slices.Contains([]string{"udp", "alloc"}, b.Type()) {
		v.BackendType = ""
	}
	if w, ok := b.(flannel.WireGuard); ok {
		return v, e.describeKey(key, c, w, &v)
	}
	x, ok := b.(flannel.VXLAN)
	if !ok {
		return v, nil
	}
	mac, err := net.ParseMAC(e.vtep(key))
	if err != nil {
		return v, err
	}
	data, err := flannel.VXLANData{VNI: x.VNI, VtepMAC: mac}.Marshal()
	if c.EnableIPv4 {
		v.BackendData = data
	}
	if c.EnableIPv6 {
		v.BackendV6Data = data
	}
	return v, err
}

// vtep is the hardware address of this host's vxlan devices of a fabric: always the
// same, whatever the device goes through.
func (e *Engine) vtep(key string) string {
	return model.MACForID(model.MACTunnel, model.ID(e.cfg.Cluster.Node.ID+" "+key))
}

// here says where this host is among a fabric's: its device, addresses and MTU. It stays
// at an address as long as the device has it, whichever come beside. The caller holds work.
func (e *Engine) here(view *hostView, key string, c flannel.Config) (f model.Fabric, err error) {
	var was model.Fabric
	if n := e.fabricNetwork(key); n != nil {
		was = *n.Fabric
	}
	f.Uplink = cmp.Or(e.uplink(view), view.uplink(!c.EnableIPv4), view.uplink(c.EnableIPv4))
	if f.Uplink == "" {
		return f, errors.New("no default route: which device leads to the other hosts? sealane daemon --uplink IFACE says so")
	}
	f.MTU = view.linkMTU(f.Uplink)
	if f.MTU == 0 {
		return f, fmt.Errorf("uplink %s: no such device", f.Uplink)
	}
	for _, family := range []struct {
		wanted, is6 bool
		public      *netip.Addr
	}{{c.EnableIPv4, false, &f.Public4}, {c.EnableIPv6, true, &f.Public6}} {
		if !family.wanted {
			continue
		}
		if i := slices.IndexFunc(e.cfg.Cluster.Addrs, func(a netip.Addr) bool { return a.Is6() == family.is6 }); i >= 0 {
			*family.public = e.cfg.Cluster.Addrs[i]
			continue
		}
		if a := was.Public(family.is6); view.hasAddr(f.Uplink, a) {
			*family.public = a
			continue
		}
		p, ok := view.address(f.Uplink, family.is6)
		if !ok && spares(c.Backend, family.is6) {
			continue
		}
		if !ok {
			return f, fmt.Errorf("uplink %s: has no %s address", f.Uplink, map[bool]string{false: "IPv4", true: "IPv6"}[family.is6])
		}
		*family.public = p.Addr()
	}
	return f, nil
}

// uplink is the device that the settings say leads to the others, or "".
func (e *Engine) uplink(view *hostView) string {
	said := e.cfg.Cluster.Uplink
	if a, err := netip.ParseAddr(said); err == nil {
		if i := slices.IndexFunc(view.addrs, func(at kstate.Addr) bool { return at.Prefix.Addr() == a }); i >= 0 {
			return view.addrs[i].Dev
		}
	}
	return said
}

// shared is what Sealane adds to a fabric's config.
type shared struct {
	ID      model.ID          `json:"ID"`
	Name    string            `json:"Name"`
	Options map[string]string `json:"Options,omitempty"` // that each host is to have
	Labels  map[string]string `json:"Labels,omitempty"`
}

// sharedField is its name there.
const sharedField = "Sealane"

// sharedOf reads it. A config that flanneld's users wrote has none: the network is
// known by its key then, the same on all hosts.
func sharedOf(key string, c flannel.Config) (s shared, err error) {
	for _, f := range c.Others {
		if f.Name == sharedField {
			if json.Unmarshal(f.Value, &s) != nil { // it is JSON
				return s, fmt.Errorf("%s: an object with ID, Name, Options and Labels belongs there", sharedField)
			}
		}
	}
	sum := sha256.Sum256([]byte(key))
	if len(s.ID) != model.IDLen || strings.Trim(string(s.ID), "0123456789abcdef") != "" { // devices are called by it
		s.ID = model.ID(hex.EncodeToString(sum[:])[:model.IDLen])
	}
	s.Name = cmp.Or(s.Name, "flannel")
	return s, model.CheckName(s.Name)
}

// settleFabric makes the network of what is known of a fabric, or makes it so. What
// the host has stays while nothing is known.
func (e *Engine) settleFabric(ctx context.Context, key string, v flannel.View) error {
	if v.Config == nil || v.Own == nil && !v.Removed {
		return nil
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("fabric "+key, "settle")
	old := e.fabricNetwork(key)
	if v.Removed {
		return d.forsake(ctx, old)
	}
	n, err := d.fabric(ctx, key, v, old)
	if err != nil {
		d.discard()
		return err
	}
	if old != nil && reflect.DeepEqual(n, old) && len(d.meta) == 0 {
		return nil
	}
	d.networks[n.ID] = n
	if old == nil || !reflect.DeepEqual(n.Subnets, old.Subnets) {
		e.closePools(n.ID)
		e.openPools(n)
	}
	if err := d.commit(ctx); err != nil {
		if refused, ok := errors.AsType[*model.Error](err); ok {
			return &model.Error{Kind: refused.Kind, Err: refused.Err, Hint: refused.Hint} // who tells of it says of which fabric
		}
		return err
	}
	e.tellSubnet()
	if old == nil {
		e.cfg.Log.Info("fabric joined", "network", n.Name, "subnet", v.Own.Subnet, "backend", n.Fabric.Backend.Type, "hosts", len(v.Peers)+1)
	}
	return nil
}

// forsake removes this host's part of a fabric that the cluster has no more, unless
// somebody is on it: then it stays until nobody is.
func (d *draft) forsake(ctx context.Context, n *model.Network) error {
	if n == nil || n.Docker != "" || len(d.e.users(n.ID)) > 0 {
		return nil
	}
	d.networks[n.ID] = nil
	d.forgetSecret(n)
	if err := d.commit(ctx); err != nil {
		return err
	}
	d.e.tellSubnet()
	d.e.cfg.Log.Info("fabric left: it was removed from the cluster", "network", n.Name)
	return nil
}

// fabric returns the network of a fabric as it is to be on this host.
func (d *draft) fabric(ctx context.Context, key string, v flannel.View, old *model.Network) (*model.Network, error) {
	view, err := d.host(ctx)
	if err != nil {
		return nil, err
	}
	s, err := sharedOf(key, *v.Config)
	if err != nil {
		return nil, err
	}
	f, err := d.e.here(view, key, *v.Config)
	if err != nil {
		return nil, err
	}
	f.Key, f.MAC, f.Since = key, d.e.vtep(key), v.Own.Value.Node.Since
	if f.Backend, err = backendOf(v.Config.Backend); err != nil {
		return nil, err
	}
	if err := d.e.allowCommands(*v.Config, &f); err != nil {
		return nil, err
	}
	f.Whole = leasable(*v.Config)
	for _, l := range v.Peers {
		f.Peers = append(f.Peers, peerOf(l, f, view))
	}
	if err := d.encrypt(ctx, key, *v.Config, &f); err != nil {
		return nil, err
	}
	n := &model.Network{ID: s.ID, Name: s.Name, Driver: model.DriverFabric, Labels: s.Labels, Fabric: &f, Created: d.e.cfg.Now().UTC()}
	if old != nil {
		n.ID, n.Created, n.Shards = old.ID, old.Created, old.Shards // whoever wrote the config anew
	}
	n.Name = d.fabricName(n, old)
	d.e.measure(&f, old)
	if n.Options, err = model.ParseOptions(model.DriverFabric, s.Options); err != nil {
		return nil, err
	}
	if err := cmp.Or(d.checkApart(view, key, f.Uplink, *v.Config), d.checkTunnel(n, view)); err != nil {
		return nil, err
	}
	n.Options.MTU = fabric.MTU(&f)
	if err := d.lodge(n, old, view); err != nil {
		return nil, err
	}
	for _, p := range v.Own.Subnet.Prefixes() {
		n.Subnets = append(n.Subnets, model.Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	keepDocked(n, old)
	return n, n.Validate()
}

// checkApart refuses a fabric that has addresses of another network of this host, or of its
// link to the others: packets to hosts would be taken for some to containers.
func (d *draft) checkApart(view *hostView, key, uplink string, c flannel.Config) error {
	for _, p := range leasable(c) {
		for _, a := range view.addrs {
			if a.Dev == uplink && a.Prefix.Masked().Overlaps(p) {
				return fmt.Errorf("%s: overlaps %s of uplink %s, which leads to the other hosts: containers need a prefix of their own", p, a.Prefix, uplink)
			}
		}
		for _, o := range d.allNetworks() {
			if o.Fabric != nil && o.Fabric.Key == key || o.Driver == model.DriverPool || !o.Spans() && !o.Routed() {
				continue
			}
			if at := slices.IndexFunc(occupied(o), p.Overlaps); at >= 0 {
				return fmt.Errorf("%s: overlaps %s of network %s", p, occupied(o)[at], o.Name)
			}
		}
	}
	return nil
}

// leasable lists the prefixes that the leases of a fabric are of.
func leasable(c flannel.Config) (out []netip.Prefix) {
	for _, r := range []flannel.Range{c.V4, c.V6} {
		if r.Network.IsValid() {
			out = append(out, r.Network)
		}
	}
	return out
}

// backendOf is a config's backend in our words.
func backendOf(b flannel.Backend) (model.Backend, error) {
	switch b := b.(type) {
	case flannel.VXLAN:
		return model.Backend{Type: model.BackendVXLAN, VNI: b.VNI, Port: b.Port, GBP: b.GBP, DirectRouting: b.DirectRouting, MTU: b.MTU}, nil
	case flannel.HostGW:
		return model.Backend{Type: model.BackendHostGW}, nil
	case flannel.UDP:
		return model.Backend{Type: model.BackendUDP, Port: b.Port}, nil
	case flannel.WireGuard:
		return backendOfWireGuard(b), nil
	case flannel.Extension:
		return model.Backend{Type: model.BackendExtension}, nil
	case flannel.Alloc:
		return model.Backend{Type: model.BackendAlloc}, nil
	}
	return model.Backend{}, fmt.Errorf("backend %s: not known to this version, which has vxlan, host-gw, udp, wireguard, extension and alloc", b.Type())
}

// peerOf is another host's lease in our words. What it says of its device was checked.
func peerOf(l flannel.Lease, f model.Fabric, view *hostView) model.Peer {
	p := model.Peer{Subnets: l.Subnet.Prefixes(), Public4: l.Value.Public4, Public6: l.Value.Public6}
	if f.Backend.Type == model.BackendVXLAN {
		if d, err := flannel.ParseVXLAN(l.Value.BackendData); err == nil {
			p.MAC4 = d.VtepMAC.String()
		}
		if d, err := flannel.ParseVXLAN(l.Value.BackendV6Data); err == nil {
			p.MAC6 = d.VtepMAC.String()
		}
	}
	if f.Backend.Type == model.BackendWireGuard {
		keysOf(&p, l, &f)
	}
	if node := l.Value.Node; node != nil && model.CheckName(node.Name) == nil {
		p.Name = node.Name
	}
	p.OnLink = onLink(&p, f.Uplink, view)
	if f.Backend.Type == model.BackendExtension {
		extend(&p, l, &f, view)
	}
	return p
}
