package engine

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/udptun"
)

// diggers notes which tunnels are wanted, and has trouble.
type diggers struct {
	mu      sync.Mutex // protects the following
	want    []udptun.Want
	told    int
	trouble error
}

func (d *diggers) Want(list []udptun.Want) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.want, d.told = list, d.told+1
}

func (d *diggers) Trouble(string) error { d.mu.Lock(); defer d.mu.Unlock(); return d.trouble }

func (d *diggers) last() (list []udptun.Want, told int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.want, d.told
}

// clustered starts a rig's engine as one of a cluster's, in which another host has a
// lease already.
func clustered(t *testing.T) (*rig, *diggers) {
	r, d := bare(t), &diggers{}
	r.quiet = true
	r.prepare()
	m := cluster.NewMemory(nil)
	put := cluster.Put{Key: "/net/subnets/10.5.2.0-24", Value: []byte(`{"PublicIP":"198.51.100.2"}`)}
	if _, _, err := m.Commit(r.ctx, cluster.Txn{Put: []cluster.Put{put}}); err != nil {
		r.Fatal(err)
	}
	r.cfg.Tunnels, r.cfg.Cluster = d, Cluster{Store: m, Prefix: "/net", Node: flannel.Node{Name: "a"}}
	r.e = New(r.cfg)
	if err := r.e.Start(r.ctx); err != nil {
		r.Fatal(err)
	}
	return r, d
}

func (r *rig) fabric(name string, options map[string]string, prefixes ...string) (*model.Network, error) {
	spec := NetworkSpec{Name: name, Driver: model.DriverFabric, Options: options}
	for _, p := range prefixes {
		spec.Subnets = append(spec.Subnets, model.Subnet{Prefix: netip.MustParsePrefix(p)})
	}
	return r.e.CreateNetwork(r.ctx, spec)
}

// A tunnel is wanted as long as its network is there, and told anew after each pass.
func TestTunnelsAreWanted(t *testing.T) {
	r, d := clustered(t)
	n, err := r.fabric("pods", map[string]string{"backend": "udp"}, "10.5.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	want := []udptun.Want{{Device: "slt" + string(n.ID), Config: udptun.Config{
		Local: []netip.Addr{netip.MustParseAddr("198.51.100.9")}, Port: 8285, Subnets: []netip.Prefix{n.Subnets[0].Prefix},
		Peers: []udptun.Peer{{Prefix: netip.MustParsePrefix("10.5.2.0/24"), Addr: netip.MustParseAddr("198.51.100.2")}},
	}}}
	got, told := d.last()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
	if n.Options.MTU != 1450-28 {
		t.Errorf("MTU %d", n.Options.MTU)
	}
	if _, err := r.e.Sync(r.ctx, "test"); err != nil {
		t.Fatal(err)
	}
	if got, again := d.last(); again != told+1 || len(got) != 1 {
		t.Errorf("after a pass told %d times, %v", again-told, got)
	}

	d.mu.Lock()
	d.trouble = errors.New("udp tunnel: on strike")
	d.mu.Unlock()
	if s, _ := r.e.fabricStatus(n); s.State != StateDegraded || s.Message != "udp tunnel: on strike" {
		t.Errorf("status %+v", s)
	}

	_, err = r.fabric("more", map[string]string{"backend": "udp"}, "10.6.0.0/16")
	if err == nil || !strings.HasSuffix(err.Error(), "backend udp: port 8285: is pods's") {
		t.Errorf("of the same port: %v", err)
	}
	if err := r.e.RemoveNetwork(r.ctx, "pods"); err != nil {
		t.Fatal(err)
	}
	if got, _ := d.last(); len(got) != 0 {
		t.Errorf("of a network that is gone: %v", got)
	}
}

// What goes by which family's addresses; a peer that has none of a family is no peer
// for it.
func TestTunnelOf(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	n := &model.Network{ID: "0123456789ab", Subnets: []model.Subnet{{Prefix: prefix("10.5.1.0/24")}, {Prefix: prefix("fd05:0:0:1::/64")}},
		Fabric: &model.Fabric{
			Backend: model.Backend{Type: model.BackendUDP, Port: 9000}, Public4: addr("192.0.2.1"), Public6: addr("2001:db8::1"),
			Peers: []model.Peer{
				{Subnets: []netip.Prefix{prefix("10.5.2.0/24"), prefix("fd05:0:0:2::/64")}, Public4: addr("192.0.2.2"), Public6: addr("2001:db8::2")},
				{Subnets: []netip.Prefix{prefix("10.5.3.0/24"), prefix("fd05:0:0:3::/64")}, Public4: addr("192.0.2.3")},
			},
		}}
	want := udptun.Want{Device: "slt0123456789ab", Config: udptun.Config{
		Port: 9000, Local: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}, Subnets: []netip.Prefix{prefix("10.5.1.0/24"), prefix("fd05:0:0:1::/64")},
		Peers: []udptun.Peer{
			{Prefix: prefix("10.5.2.0/24"), Addr: addr("192.0.2.2")}, {Prefix: prefix("10.5.3.0/24"), Addr: addr("192.0.2.3")},
			{Prefix: prefix("fd05:0:0:2::/64"), Addr: addr("2001:db8::2")},
		},
	}}
	if diff := cmp.Diff(want, tunnelOf(n), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

func TestAskedBackend(t *testing.T) {
	for _, c := range []struct {
		ask  model.Backend
		want flannel.Backend
		err  string
	}{
		{model.Backend{}, flannel.VXLAN{VNI: 1, Port: 8472}, ""},
		{model.Backend{Type: "vxlan", VNI: 7, Port: 4789, DirectRouting: true}, flannel.VXLAN{VNI: 7, Port: 4789, DirectRouting: true}, ""},
		{model.Backend{Type: "udp"}, flannel.UDP{Port: 8285}, ""},
		{model.Backend{Type: "udp", Port: 9000}, flannel.UDP{Port: 9000}, ""},
		{model.Backend{Type: "udp", VNI: 1}, nil, "backend udp: options vni and direct-routing are of vxlan"},
		{model.Backend{Type: "host-gw"}, flannel.HostGW{}, ""},
		{model.Backend{Type: "host-gw", DirectRouting: true}, nil, "backend host-gw: options vni and direct-routing are of vxlan"},
		{model.Backend{Type: "alloc"}, flannel.Alloc{}, ""},
		{model.Backend{Type: "wireguard"}, flannel.WireGuard{ListenPort: 51820, ListenPortV6: 51821, Mode: "separate"}, ""},
		{model.Backend{Type: "wireguard", Port: 9000, Mode: "auto", Keepalive: 25, KeyLife: time.Hour}, flannel.WireGuard{ListenPort: 9000, ListenPortV6: 9001, Mode: "auto", PersistentKeepaliveInterval: 25}, ""},
		{model.Backend{Type: "wireguard", Port: 65535}, nil, "backend wireguard: option port: 65534 at most: the one after it is for IPv6"},
		{model.Backend{Type: "wireguard", VNI: 2}, nil, "backend wireguard: options vni and direct-routing are of vxlan"},
		{model.Backend{Mode: "auto"}, nil, "backend vxlan: options mode, keepalive and key-lifetime are of wireguard"},
		{model.Backend{Type: "alloc", Port: 1}, nil, "backend alloc: option port is of vxlan, udp and wireguard"},
	} {
		got, err := askedBackend(c.ask)
		if text := errorText(err); got != c.want || text != c.err {
			t.Errorf("%+v: %+v, %q", c.ask, got, text)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
