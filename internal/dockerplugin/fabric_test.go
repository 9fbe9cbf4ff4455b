package dockerplugin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// member is a host of a cluster, and Docker's calls there.
type member struct {
	*testing.T
	engine *engine.Engine
	plugin *Plugin
	store  cluster.Store
}

// newMembers returns hosts 198.51.100.1, .2 and so on of one cluster.
func newMembers(t *testing.T, n int) (out []*member) {
	m := cluster.NewMemory(time.Now)
	for i := range n {
		s := m.Another()
		e, _ := newEngineIn(t, engine.Cluster{Store: s, Prefix: "/net", Uplink: "eth7", Node: flannel.Node{Name: fmt.Sprint("h", i+1)},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})}})
		out = append(out, &member{t, e, New(e), s})
	}
	return out
}

// call makes one, and returns what Docker reads, or the error's text.
func (m *member) call(method, body string) (out map[string]any, refused string) {
	m.Helper()
	_, text := ask(m.plugin, "/"+method, body)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		m.Fatalf("%s: %s", method, text)
	}
	for _, field := range []string{"Err", "Error"} {
		if s, _ := out[field].(string); s != "" {
			refused = s
		}
	}
	return out, refused
}

// must is a call that succeeds.
func (m *member) must(method, body string) map[string]any {
	m.Helper()
	out, refused := m.call(method, body)
	if refused != "" {
		m.Fatalf("%s %s: %s", method, body, refused)
	}
	return out
}

// create does what docker network create has the plugin do, and returns the refusal.
// What Docker held it gives back then.
func (m *member) create(id, pool, request string, generic string) string {
	m.Helper()
	if _, refused := m.call("IpamDriver.RequestPool", request); refused != "" {
		return refused
	}
	gateway := m.must("IpamDriver.RequestAddress", `{"PoolID":"`+pool+`"}`)["Address"]
	_, refused := m.call("NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":"%s","Options":{"com.docker.network.generic":{"driver":"fabric"%s}},"IPv4Data":[{"Pool":"%s","Gateway":"%s"}]}`, id, generic, pool, gateway))
	if refused != "" {
		m.must("IpamDriver.ReleasePool", `{"PoolID":"`+pool+`"}`)
	}
	return refused
}

// pods makes 10.5.0.0/16.
func (m *member) pods(id, generic string) string {
	m.Helper()
	return m.create(id, "10.5.0.0/16", `{"Pool":"10.5.0.0/16"}`, generic)
}

// fabrics are the networks over hosts that this one has.
func (m *member) fabrics() (out []*model.Network) {
	for _, n := range m.engine.Networks() {
		if n.Fabric != nil {
			out = append(out, n)
		}
	}
	return out
}

const podsHere, podsThere = "aaaaaaaaaaaaaaaa", "cccccccccccccccc"

// TestFabric: Docker's network on two hosts is one, each with addresses of its own
// lease, and stays when Docker has it no more.
func TestFabric(t *testing.T) {
	hosts := newMembers(t, 2)
	var made sync.WaitGroup
	for i, id := range []string{podsHere, podsThere} {
		made.Go(func() {
			if refused := hosts[i].pods(id, `,"backend":"host-gw"`); refused != "" {
				t.Error(refused)
			}
		})
	}
	made.Wait()
	leases := map[netip.Prefix]bool{}
	for i, id := range []string{podsHere, podsThere} {
		m := hosts[i]
		if got := m.fabrics(); len(got) != 1 || got[0].Docker != model.ID(id[:model.IDLen]) {
			t.Fatalf("host %d has %+v", i, got)
		}
		m.must("NetworkDriver.CreateNetwork", `{"NetworkID":"`+id+`"}`) // asked twice
		lease := m.fabrics()[0].Subnets[0]
		leases[lease.Prefix] = true
		a := m.must("IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/16"}`)["Address"].(string)
		if p := netip.MustParsePrefix(a); p.Masked() != lease.Prefix {
			t.Errorf("address %s, want one of %s", a, lease.Prefix)
		}
		at := `{"NetworkID":"` + id + `","EndpointID":"` + fuzzEndpoint + `","SandboxKey":"/run/docker/netns/x","Interface":{"Address":"` + a + `"}}`
		m.must("NetworkDriver.CreateEndpoint", at)
		if got := m.must("NetworkDriver.Join", at)["Gateway"]; got != lease.Gateway.String() {
			t.Errorf("gateway %v, want %s", got, lease.Gateway)
		}
		if _, refused := m.call("NetworkDriver.DeleteNetwork", at); !strings.Contains(refused, "still used by") {
			t.Errorf("removed with a container: %s", refused)
		}
		if err := m.engine.RemoveNetwork(t.Context(), m.fabrics()[0].Name); err == nil || !strings.Contains(err.Error(), "docker network rm") {
			t.Errorf("removed by our API: %v", err)
		}
		m.must("NetworkDriver.DeleteEndpoint", at)
		m.must("IpamDriver.ReleaseAddress", `{"PoolID":"10.5.0.0/16","Address":"`+netip.MustParsePrefix(a).Addr().String()+`"}`)
		if u := m.fabrics()[0]; len(u.Waiting) > 0 || len(u.Subnets[0].Lent) > 0 {
			t.Errorf("left: %+v", u)
		}
		m.must("NetworkDriver.DeleteNetwork", at)
		m.must("IpamDriver.ReleasePool", `{"PoolID":"10.5.0.0/16"}`)
		if got := m.fabrics(); len(got) != 1 || got[0].Docker != "" || len(m.engine.Networks()) != 2 {
			t.Errorf("after docker network rm: %+v", got)
		}
		if refused := m.pods(id, ""); refused != "" {
			t.Errorf("once more: %s", refused)
		}
	}
	if len(leases) != 2 {
		t.Errorf("leases %v", leases)
	}
}

// TestFabricIsNamed: the name that Docker says later is that of all hosts; one that a
// fabric has of its own stays.
func TestFabricIsNamed(t *testing.T) {
	hosts := newMembers(t, 2)
	if refused := hosts[0].pods(podsHere, ""); refused != "" {
		t.Fatal(refused)
	}
	name := func(m *member, as string) {
		if err := m.engine.NameNetwork(t.Context(), m.fabrics()[0].ID, as, model.OriginDocker); err != nil {
			t.Error(err)
		}
	}
	called := func(m *member, want string) {
		t.Helper()
		var got string
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if all := m.fabrics(); len(all) == 1 {
				if got = all[0].Name; got == want {
					return
				}
			}
		}
		t.Errorf("called %s, want %s", got, want)
	}
	called(hosts[1], "docker-"+podsHere[:model.IDLen])
	name(hosts[0], "pods")
	called(hosts[0], "pods")
	called(hosts[1], "pods")
	if refused := hosts[1].pods(podsThere, ""); refused != "" {
		t.Fatal(refused)
	}
	name(hosts[1], "other")
	called(hosts[1], "pods")
}

// TestFabricRefusals: what Docker cannot have of a fabric is said in a sentence, and
// leaves nothing.
func TestFabricRefusals(t *testing.T) {
	alone := &member{T: t, engine: newEngine(t)}
	alone.plugin = New(alone.engine)
	hosts := newMembers(t, 2)
	if refused := hosts[0].pods(podsHere, `,"com.docker.network.bridge.enable_icc":"false"`); refused != "" {
		t.Fatal(refused)
	}
	const sixteen, ask16 = "10.5.0.0/16", `{"Pool":"10.5.0.0/16"}`
	for _, c := range []struct {
		name                   string
		m                      *member
		pool, request, generic string
		want                   string
	}{
		{"no cluster", alone, sixteen, ask16, "", "this host is in no cluster (sealane cluster init, or sealane daemon --etcd URL)"},
		{"no such backend", hosts[1], sixteen, ask16, `,"backend":"ipip"`, `option backend: "ipip": want one of `},
		{"no such option", hosts[1], sixteen, ask16, `,"mtu":"1400"`, `option "mtu": not known to driver fabric`},
		{"another backend", hosts[1], sixteen, ask16, `,"backend":"udp"`, "option backend=udp: the network of the cluster has vxlan (leave out what is to be as it is)"},
		{"another VNI", hosts[1], sixteen, ask16, `,"vni":"7"`, "option vni=7: the network of the cluster has 1"},
		{"another length", hosts[1], sixteen, ask16, `,"subnet-len":"25"`, "option subnet-len=25: the network of the cluster has 24"},
		{"another rule", hosts[1], sixteen, ask16, `,"icc":"true"`, "option icc=true: the network of the cluster has false"},
		{"a part of it", hosts[1], "10.5.0.0/17", `{"Pool":"10.5.0.0/17"}`, "", "subnet 10.5.0.0/17: overlaps "},
		{"too small", hosts[1], "10.6.0.0/30", `{"Pool":"10.6.0.0/30"}`, "", "10.6.0.0/30"},
		{"a range", hosts[1], sixteen, `{"Pool":"10.5.0.0/16","SubPool":"10.5.9.0/24"}`, "", "gateway, range and aux-address are of one host's subnet"},
		{"twice", hosts[0], sixteen, ask16, "", "which Docker of this host has already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.m.T = t
			before := len(c.m.engine.Networks())
			if refused := c.m.create(podsThere, c.pool, c.request, c.generic); !strings.Contains(refused, c.want) || strings.Contains(refused, "\n") {
				t.Errorf("got %q, want %q", refused, c.want)
			}
			if after := len(c.m.engine.Networks()); after != before {
				t.Errorf("%d networks, were %d", after, before)
			}
		})
	}
	m := hosts[1]
	m.T = t
	body := `{"NetworkID":"` + podsThere + `","Options":{"com.docker.network.generic":{"driver":"fabric"}},"IPv4Data":[{"Pool":"%s","Gateway":"%s"%s}]}`
	refusal := func(want, pool, gateway, more string) {
		t.Helper()
		if _, refused := m.call("NetworkDriver.CreateNetwork", fmt.Sprintf(body, pool, gateway, more)); !strings.Contains(refused, want) {
			t.Errorf("got %q, want %q", refused, want)
		}
	}
	refusal("(add --ipam-driver sealane)", "10.7.0.0/16", "10.7.0.1/16", "")
	m.must("IpamDriver.RequestPool", ask16)
	refusal("gateway, range and aux-address", sixteen, "10.5.0.9/16", "")
	refusal("gateway, range and aux-address", sixteen, "10.5.0.1/16", `,"AuxAddresses":{"x":"10.5.0.9"}`)
	m.must("IpamDriver.ReleasePool", `{"PoolID":"10.5.0.0/16"}`)
	chosen := m.must("IpamDriver.RequestPool", `{}`)["Pool"].(string)
	refusal("add it, as --subnet 10.5.0.0/16", chosen, "", "")
	if refused := hosts[1].pods(podsThere, `,"backend":"vxlan","icc":"off","vni":"1"`); refused != "" {
		t.Errorf("as it is: %s", refused)
	}
	if _, refused := m.call("IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/16","Address":"10.5.255.9"}`); !strings.Contains(refused, "which is this host's subnet of network ") {
		t.Errorf("an address of another host: %q", refused)
	}
}

// TestFabricStays: as long as Docker has a fabric it is there, though the cluster has
// it no more; and it goes with Docker's network.
func TestFabricStays(t *testing.T) {
	hosts := newMembers(t, 2)
	if refused := hosts[0].pods(podsHere, ""); refused != "" {
		t.Fatal(refused)
	}
	wait := func(what string, so func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not so: %s", what)
			}
		}
	}
	wait("the other host has it", func() bool { return len(hosts[1].fabrics()) == 1 })
	if err := hosts[1].engine.RemoveNetwork(t.Context(), hosts[1].fabrics()[0].Name); err != nil {
		t.Fatal(err)
	}
	n := hosts[0].fabrics()[0]
	wait("the status says that it was removed", func() bool {
		return strings.Contains(hosts[0].engine.NetworkStatus(n).Message, "was removed from the cluster")
	})
	if err := hosts[0].engine.LeaveCluster(context.Background(), false); err == nil || !strings.Contains(err.Error(), "Docker of this host has it") {
		t.Errorf("leave: %v", err)
	}
	hosts[0].must("NetworkDriver.DeleteNetwork", `{"NetworkID":"`+podsHere+`"}`)
	wait("it is gone", func() bool { return len(hosts[0].fabrics()) == 0 })
}

// TestFabricFollowed: a fabric has Docker's name for it, and what Docker removes while
// it cannot say so is Docker's no more, but the fabric stays.
func TestFabricFollowed(t *testing.T) {
	m := newMembers(t, 1)[0]
	server := newDocker(t)
	t.Setenv("DOCKER_HOST", server.URL)
	d, err := NewDirectory(m.plugin)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	d.now = func() time.Time { return now }
	look := func(later time.Duration) {
		t.Helper()
		now = now.Add(later)
		if _, err := d.look(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if refused := m.pods(podsHere, ""); refused != "" {
		t.Fatal(refused)
	}
	server.change("", server.network("pods", map[string]any{"Subnet": "10.5.0.0/16"}))
	for end := time.Now().Add(20 * time.Second); m.fabrics()[0].Name != "pods"; time.Sleep(10 * time.Millisecond) {
		if look(0); time.Now().After(end) {
			t.Fatalf("called %s", m.fabrics()[0].Name)
		}
	}
	a := m.must("IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/16"}`)["Address"].(string)
	m.must("NetworkDriver.CreateEndpoint", `{"NetworkID":"`+podsHere+`","EndpointID":"`+fuzzEndpoint+`","Interface":{"Address":"`+a+`"}}`)
	server.change("", func() { server.networks = nil })
	for _, later := range []time.Duration{0, grace} {
		if look(later); m.fabrics()[0].Docker == "" {
			t.Errorf("gone before its time")
		}
	}
	look(time.Second)
	if n := m.fabrics(); len(n) != 1 || n[0].Docker != "" || len(n[0].Waiting) > 0 || len(n[0].Subnets[0].Lent) > 0 {
		t.Errorf("left: %+v", n)
	}
}
