package engine

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// switchable is a store that can be away.
type switchable struct {
	cluster.Store
	away func() bool
}

func (s switchable) List(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	if s.away() {
		return cluster.Snapshot{}, cluster.ErrAway
	}
	return s.Store.List(ctx, prefix)
}

func (s switchable) Commit(ctx context.Context, t cluster.Txn) (int64, bool, error) {
	if s.away() {
		return 0, false, cluster.ErrAway
	}
	return s.Store.Commit(ctx, t)
}

// member is a host of a cluster that has a store.
func member(t *testing.T, s cluster.Store, name, addr string) *rig {
	r := bare(t)
	r.quiet = true
	r.prepare()
	r.cfg.Cluster = Cluster{Store: s, Prefix: "/net", Node: flannel.Node{Name: name}, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	return r
}

// checks does check once no news of the cluster comes any more.
func (r *rig) checks() {
	r.Helper()
	text := func() string {
		return strings.Join(storedText(r.e.networks(), nil), "\n")
	}
	end := time.Now().Add(30 * time.Second)
	for was, since := text(), time.Now(); time.Since(since) < 300*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		if now := text(); now != was || len(r.left()) > 0 && time.Now().Before(end) {
			was, since = now, time.Now()
		}
	}
	r.check()
}

// again is a new daemon on a host that had one.
func (r *rig) again() {
	r.Helper()
	c := r.cfg.Cluster
	r.die()
	r.prepare()
	r.cfg.Cluster = c
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
}

// knows waits until a host has a network, or has it no more.
func (r *rig) knows(name string, there bool) *model.Network {
	r.Helper()
	var n *model.Network
	eventually(r.T, "network "+name, func() bool {
		var err error
		n, err = r.e.Network(name)
		return (err == nil) == there
	})
	return n
}

// dumps waits until a host's kernel has lines with all of the texts, or none.
func (r *rig) dumps(there bool, texts ...string) {
	r.Helper()
	eventually(r.T, strings.Join(texts, ", "), func() bool {
		dump := r.k.Dump()
		for _, text := range texts {
			if strings.Contains(dump, text) != there {
				return false
			}
		}
		return true
	})
}

func (r *rig) overlay(name string, options map[string]string, prefixes ...string) (*model.Network, error) {
	spec := NetworkSpec{Name: name, Driver: model.DriverOverlay, Options: options}
	for _, p := range prefixes {
		spec.Subnets = append(spec.Subnets, model.Subnet{Prefix: netip.MustParsePrefix(p)})
	}
	return r.e.CreateNetwork(r.ctx, spec)
}

// A network is known on every host; it has devices where somebody is on it, with the
// way to all that are elsewhere; and goes from everywhere.
func TestOverlay(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	n, err := a.overlay("app", nil, "10.1.0.0/24", "fd01::/64")
	a.ok(err)
	if got := b.knows("app", true); got.ID != n.ID || got.Overlay.VNI != 4096 || got.Options.MTU != 1400 || !got.Absent() {
		t.Errorf("b has %+v %+v", got, got.Overlay)
	}
	trunk := "slx" + string(n.ID)
	for _, r := range []*rig{a, b} {
		r.dumps(false, trunk)
	}
	a.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.2", "fd01::2")}}})
	b.sandbox("db", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.3", "fd01::3")}}})
	way := []string{"link " + trunk + " type vxlan vni 4096 port 8473 local 198.51.100.9 parent eth0 nolearning proxy",
		"neigh 10.1.0.3 lladdr 02:42:0a:01:00:03 dev " + trunk, "neigh fd01::3 lladdr 02:42:0a:01:00:03 dev " + trunk,
		"fdb 02:42:0a:01:00:03 dev " + trunk + " dst 198.51.100.8 bridged", "fdb 00:00:00:00:00:00 dev " + trunk + " dst 198.51.100.8", "hosts4 { 198.51.100.8 }"}
	a.dumps(true, way...)
	b.dumps(true, "fdb 02:42:0a:01:00:02 dev "+trunk+" dst 198.51.100.9 bridged")
	a.checks()
	b.checks()
	eventually(t, "its name is known", func() bool { return a.knows("app", true).Overlay.Far[0].Sandbox == "db" }) // after its address

	// An address that one has, no other gets; nor the hardware address; nothing stays of the attempt.
	for _, spec := range []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.3")}, {Network: "app", MAC: "02:42:0a:01:00:03"}} {
		_, err = a.e.CreateSandbox(a.ctx, SandboxSpec{Name: "thief", Networks: []EndpointSpec{spec}})
		if model.KindOf(err) != model.Conflict || !strings.Contains(err.Error(), "taken by db of host b") {
			t.Errorf("thief: %v", err)
		}
	}
	a.checks()

	// A daemon that starts again needs nobody; what happened meanwhile, it hears of.
	a.again()
	a.dumps(true, way...)
	b.ok(b.e.RemoveSandbox(b.ctx, "db", true))
	b.dumps(false, trunk)
	a.dumps(false, way[1:]...)
	a.dumps(true, way[0])
	a.checks()
	b.checks()

	err = b.e.RemoveNetwork(b.ctx, "app")
	if model.KindOf(err) != model.InUse || !strings.Contains(err.Error(), "web") {
		t.Errorf("remove: %v", err)
	}
	a.ok(a.e.RemoveSandbox(a.ctx, "web", true))
	eventually(t, "it can be removed", func() bool { return b.e.RemoveNetwork(b.ctx, "app") == nil })
	a.knows("app", false)
	b.knows("app", false)
	a.dumps(false, trunk)
	a.checks()
}

// While the store is away what there is goes on, and one line says what does not.
func TestOverlayAlone(t *testing.T) {
	away := make(chan bool, 1)
	away <- false
	s := switchable{cluster.NewMemory(nil), func() bool { v := <-away; away <- v; return v }}
	a := member(t, s, "a", "198.51.100.9")
	_, err := a.overlay("app", nil, "10.1.0.0/24")
	a.ok(err)
	a.sandbox("web", SandboxSpec{Networks: on("app")})
	<-away
	away <- true
	_, err = a.e.CreateSandbox(a.ctx, SandboxSpec{Name: "db", Networks: on("app")})
	if err == nil || !strings.Contains(err.Error(), cluster.ErrAway.Error()) || strings.Contains(err.Error(), "\n") {
		t.Errorf("db: %v", err)
	}
	a.checks()
	a.again()
	if n := a.knows("app", true); n.Absent() {
		t.Error("web is on app")
	}
	a.dumps(true, "type vxlan")
	<-away
	away <- false
	eventually(t, "the store is back", func() bool {
		_, err := a.e.CreateSandbox(a.ctx, SandboxSpec{Name: "db", Networks: on("app")})
		return err == nil
	})
	a.checks()
}

// What cannot be is refused with a line, and nothing stays of it.
func TestOverlayRefused(t *testing.T) {
	a := member(t, cluster.NewMemory(nil), "a", "198.51.100.9")
	_, err := a.overlay("app", map[string]string{"vni": "7"}, "10.1.0.0/30")
	a.ok(err)
	a.network("local", "10.7.0.0/24")
	for what, c := range map[string]struct {
		spec NetworkSpec
		kind model.Kind
		says string
	}{
		"name":         {NetworkSpec{Name: "app"}, model.Conflict, "the name is taken"},
		"subnet":       {NetworkSpec{Name: "x", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}}, model.Conflict, "overlaps"},
		"local subnet": {NetworkSpec{Name: "x", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.7.0.0/25")}}}, model.Conflict, "overlaps"},
		"vni":          {NetworkSpec{Name: "x", Options: map[string]string{"vni": "7"}}, model.Conflict, "vni 7"},
		"high vni":     {NetworkSpec{Name: "x", Options: map[string]string{"vni": "16777216"}}, model.Invalid, "16777215"},
		"option":       {NetworkSpec{Name: "x", Options: map[string]string{"parent": "eth0"}}, model.Invalid, "parent"},
		"origin":       {NetworkSpec{Name: "x", Origin: model.OriginDocker}, model.Unsupported, "Sealane's own API"},
	} {
		c.spec.Driver = model.DriverOverlay
		_, err := a.e.CreateNetwork(a.ctx, c.spec)
		if model.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v", what, model.KindOf(err), err)
		}
	}
	for _, driver := range []string{model.DriverOverlay, model.DriverFabric} {
		_, err := a.e.Apply(a.ctx, Declaration{Networks: []NetworkSpec{{Name: "declared", Driver: driver, Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.8.0.0/24")}}}}})
		if model.KindOf(err) != model.Unsupported || !strings.Contains(err.Error(), "what all hosts share is not declared on one") {
			t.Errorf("declared %s: %v", driver, err)
		}
	}
	a.sandbox("web", SandboxSpec{Networks: on("app")})
	_, err = a.e.CreateSandbox(a.ctx, SandboxSpec{Name: "db", Networks: on("app")})
	if model.KindOf(err) != model.Exhausted || err.Error() != "sandbox db: create: network app: subnet 10.1.0.0/30: no free address" {
		t.Errorf("exhausted: %v", err)
	}
	a.checks()
	alone := newRig(t)
	if _, err := alone.overlay("app", nil); model.KindOf(err) != model.Unsupported {
		t.Errorf("alone: %v", err)
	}
}

func addrs(texts ...string) (out []netip.Addr) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

// The kernel gets room for the neighbours of a host whose containers are on an overlay
// network, and no other, and has what it had when a daemon starts without one.
func TestNeighbours(t *testing.T) {
	const room = "net.ipv4.neigh.default.gc_thresh3"
	a := member(t, cluster.NewMemory(nil), "a", "198.51.100.9")
	a.k.Tamper(kstate.Sysctl{Name: room, Value: "1024"})
	was := a.cfg.Host
	a.e.work.Lock()
	a.e.cfg.Host = func() Host { h := was(); h.Neighbours = map[string]string{room: "65536"}; return h }
	a.e.work.Unlock()
	must[[]kstate.Op](t)(a.e.Sync(a.ctx, "test"))
	n, err := a.overlay("app", nil, "10.1.0.0/24")
	a.ok(err)
	a.sandbox("other", SandboxSpec{Networks: on("bridge")})
	if v := a.k.Sysctl(room); v != "1024" {
		t.Errorf("nobody is on it: %s", v)
	}
	sb := a.sandbox("web", SandboxSpec{Networks: on("app")})
	if v := a.k.Sysctl(room); v != "65536" {
		t.Errorf("somebody is: %s", v)
	}
	a.ok(a.e.RemoveSandbox(a.ctx, string(sb.ID), true))
	a.ok(a.e.RemoveNetwork(a.ctx, string(n.ID)))
	a.again()
	if v := a.k.Sysctl(room); v != "1024" {
		t.Errorf("without one: %s", v)
	}
}

// A device of somebody else's that has the VNI of a network made on another host is named:
// to who wants to be on the network, and in its status until the device is gone.
func TestVNITaken(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	tunnel := func(name string, vni, port int, local string) kstate.Link {
		return kstate.Link{Name: name, Type: kstate.TypeVXLAN, MTU: 1400, Up: true, VXLAN: kstate.VXLAN{VNI: vni, Port: port, Local: netip.MustParseAddr(local)}}
	}
	b.given = []kstate.Object{tunnel("there", 4200, 8473, "198.51.100.8"), tunnel("six", 4201, 8473, "2001:db8::8"), tunnel("other", 4201, 4789, "198.51.100.8"), tunnel("mesh", 4095, 8473, "198.51.100.8")}
	b.k.Foreign(b.given...)
	for name, o := range map[string]string{"clash": "4200", "free": "4201"} {
		_, err := a.overlay(name, map[string]string{"vni": o})
		a.ok(err)
		b.knows(name, true)
	}
	const taken = "vni 4200: device there of this host has it on UDP port 8473"
	spec := SandboxSpec{Name: "web", Networks: on("clash")}
	_, err := b.e.CreateSandbox(b.ctx, spec)
	if model.KindOf(err) != model.Conflict || !strings.HasPrefix(err.Error(), "sandbox web: create: network clash: "+taken+" (remove that device, or ") {
		t.Errorf("the first endpoint: %v", err)
	}
	b.sandbox("db", SandboxSpec{Networks: on("free")})
	says := func(name, want string) {
		t.Helper()
		must[[]kstate.Op](t)(b.e.Sync(b.ctx, "test"))
		if st := b.e.NetworkStatus(b.knows(name, true)); st.Message != want || (st.State == StateReady) != (want == "") {
			t.Errorf("network %s: %+v, want %q", name, st, want)
		}
	}
	says("clash", taken)
	says("free", "")
	_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: "web", Network: "free", Publish: publishAs(t, "8080:80")})
	a.ok(err)
	eventually(t, "the mesh's own is told", func() bool {
		st := b.e.NetworkStatus(b.knows("free", true))
		return st.Message == "network free: settle: published ports: vni 4095: device mesh of this host has it on UDP port 8473 (remove that device)"
	})
	for _, o := range b.given {
		b.k.Remove(o.Key())
	}
	b.given = nil
	says("clash", "")
	_, err = b.e.CreateSandbox(b.ctx, spec)
	b.ok(err)
	b.e.recallOverlays()
	eventually(t, "the mesh is there", func() bool { return strings.Contains(b.k.Dump(), "link slm0 ") })
}

// Who asked for a network that this host heard of only while it was looked for has no
// address that the cluster does not know of: it was not there, and is had by asking
// again.
func TestHeardOfMeanwhile(t *testing.T) {
	r := member(t, cluster.NewMemory(nil), "a", "192.0.2.1")
	var specs []EndpointSpec
	for _, asked := range [][]netip.Addr{nil, at("10.6.0.9")} {
		spec, done, err := r.e.settleWire(r.ctx, "network app", "connect c1", EndpointSpec{Network: "app", Addrs: asked})
		r.ok(err)
		defer done()
		specs = append(specs, spec)
	}
	_, err := r.overlay("app", nil, "10.6.0.0/24")
	r.ok(err)
	r.sandbox("c1", SandboxSpec{})
	for _, spec := range specs {
		_, _, err := r.e.connect(r.ctx, "c1", spec, nil)
		r.refused(err, model.NotFound, "network app: connect c1: this host has heard of it this moment: try again")
	}
}

// TestNamesOnce: other hosts are told each name of a container once.
func TestNamesOnce(t *testing.T) {
	sb := &model.Sandbox{ID: "0123", Name: "web", Hostname: "Web"}
	got := overlayEndpoint(sb, &model.Endpoint{ID: "4567", Aliases: []string{"db", "web"}}, nil).Names
	if want := []string{"web", "0123", "db"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
