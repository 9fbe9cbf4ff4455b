package engine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// TestLodging: this host's part of a fabric goes to another program's bridge when nobody is
// on its own, and what that has counts until it is right.
func TestLodging(t *testing.T) {
	r := bare(t)
	r.quiet = true
	r.prepare()
	m := cluster.NewMemory(nil)
	puts := []cluster.Put{
		{Key: "/net/subnets/10.5.1.0-24", Value: []byte(`{"PublicIP":"198.51.100.9"}`)},
		{Key: "/net/subnets/10.5.2.0-24", Value: []byte(`{"PublicIP":"198.51.100.2"}`)},
	}
	if _, _, err := m.Commit(r.ctx, cluster.Txn{Put: puts}); err != nil {
		t.Fatal(err)
	}
	var told *flannel.Env
	r.cfg.Tunnels = &diggers{}
	r.cfg.Cluster = Cluster{Store: m, Prefix: "/net", Node: flannel.Node{Name: "a"}, Subnet: func(e *flannel.Env) error { told = e; return nil }}
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	n := must[*model.Network](t)(r.fabric("pods", map[string]string{"backend": "udp"}, "10.5.0.0/16"))
	tunnel := n.Tunnel(false)
	r.sandbox("web", SandboxSpec{Networks: on("pods")})

	says := func(want string) {
		t.Helper()
		r.becomes(func() bool { return r.e.NetworkStatus(r.e.seen("/net")).Message == want })
	}

	r.e.Close()
	r.cfg.Cluster.Bridge = "docker0"
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	says("fabric-bridge docker0: waits until nobody is on the network's own, " + n.Device())
	r.ok(r.e.RemoveSandbox(r.ctx, "web", true))
	r.becomes(func() bool { return r.e.seen("/net").ByOthers() })
	says("")
	if n = must[*model.Network](t)(r.e.Network("pods")); !n.ByOthers() || n.Device() != "docker0" || strings.Contains(r.k.Dump(), "slb"+string(n.ID)) {
		t.Errorf("%+v\n%s", n.Options, r.k.Dump())
	}
	if told == nil || told.Subnet.V4.String() != "10.5.1.0/24" {
		t.Errorf("%+v", told)
	}
	_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "web", Networks: on("pods")})
	r.refused(err, model.Conflict, "network pods: join: is on docker0 here, where another program gives out the addresses")
	r.refused(r.e.Joinable(r.ctx, "pods"), model.Conflict, "network pods: join: is on docker0 here")
	_, err = r.e.CreateNetwork(r.ctx, NetworkSpec{Name: "mine", Options: map[string]string{"name": "docker0"}})
	r.refused(err, model.Conflict, "device docker0: belongs to network pods")

	// It has the subnet of another host, of an earlier time.
	r.waitRoute("10.5.2.0/24", "route 10.5.2.0/24 dev "+tunnel)
	r.k.Foreign(kstate.Link{Name: "docker0", Type: kstate.TypeBridge, Up: true, MTU: 1500, Other: true},
		kstate.Addr{Dev: "docker0", Prefix: netip.MustParsePrefix("10.5.2.1/24"), Other: true})
	r.e.Kick("test")
	says("bridge docker0: has 10.5.2.1/24, and this host's subnet is 10.5.1.0/24: start again who made it, as subnet.env says now")
	r.dumps(false, "route 10.5.2.0/24 dev "+tunnel)
	r.k.Remove(kstate.Addr{Dev: "docker0", Prefix: netip.MustParsePrefix("10.5.2.1/24")}.Key())
	r.k.Foreign(kstate.Addr{Dev: "docker0", Prefix: netip.MustParsePrefix("10.5.1.1/24"), Other: true})
	r.e.Kick("test")
	says("")
	r.waitRoute("10.5.2.0/24", "route 10.5.2.0/24 dev "+tunnel)
}
