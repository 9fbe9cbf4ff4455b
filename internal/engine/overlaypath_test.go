package engine

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/pathmtu"
)

// surveyed is a host whose paths are what its surveyor says.
func surveyed(t *testing.T, s cluster.Store, name, addr string, p Paths) *rig {
	r := member(t, s, name, addr)
	r.die()
	c := r.cfg.Cluster
	r.prepare()
	r.cfg.Cluster, r.cfg.Paths = c, p
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	return r
}

func (s *surveyor) wanted() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.want)
}

// The path to another host is measured while somebody here is on a network with somebody
// there; what is found has the tunnel's packets have a route, also while the store is
// away and a daemon starts anew, until something else is found.
func TestOverlayPaths(t *testing.T) {
	away := make(chan bool, 1)
	away <- false
	m := switchable{cluster.NewMemory(nil), func() bool { v := <-away; away <- v; return v }}
	s := &surveyor{found: map[netip.Addr]int{}}
	a, b := surveyed(t, m, "a", "198.51.100.9", s), member(t, m, "b", "192.0.2.3")
	n, err := a.overlay("app", nil, "10.1.0.0/24", "fd01::/64")
	a.ok(err)
	b.knows("app", true)
	b.sandbox("db", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.3", "fd01::3")}}})
	eventually(t, "db is known", func() bool { return len(a.knows("app", true).Overlay.Far) == 1 })
	if got := s.wanted(); got != "[]" {
		t.Errorf("nobody is on it here, and wanted is %s", got)
	}
	a.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.2", "fd01::2")}}})
	want := fmt.Sprint([]pathmtu.Path{{Local: netip.MustParseAddr("198.51.100.9"), Remote: netip.MustParseAddr("192.0.2.3"), Size: 1450}})
	eventually(t, "its path is measured", func() bool { return s.wanted() == want })
	a.dumps(false, "table 242249999", "element bridge sealane cut4")

	dev := "slb" + string(n.ID)
	narrow := func(path, fits int) []string {
		return []string{fmt.Sprintf("route 192.0.2.3/32 via 198.51.100.1 dev eth0 onlink mtu %d table 242249999", path), "rule 24223 udp port 8473 lookup 242249999",
			fmt.Sprintf("route 10.1.0.3/32 dev %s mtu %d", dev, fits), fmt.Sprintf("route fd01::3/128 dev %s mtu %d", dev, fits), "element bridge sealane cut4 { 10.1.0.3 : "}
	}
	s.find("192.0.2.3", 1400)
	a.dumps(true, narrow(1400, 1350)...)
	a.checks()
	n = a.knows("app", true)
	if got, ok := NarrowPathTo(n, netip.MustParseAddr("192.0.2.3")); !ok || fmt.Sprint(got) != "{192.0.2.3 1400 1350}" {
		t.Errorf("narrow: %v, %v", got, ok)
	}

	// The next daemon knows nothing of paths, and nobody of the store.
	<-away
	away <- true
	c, p := a.cfg.Cluster, a.cfg.Paths
	a.die()
	a.prepare()
	s.mu.Lock()
	s.found = map[netip.Addr]int{}
	s.mu.Unlock()
	a.cfg.Cluster, a.cfg.Paths = c, p
	a.e = New(a.cfg)
	a.ok(a.e.Start(a.ctx))
	a.dumps(true, narrow(1400, 1350)...)
	s.find("192.0.2.3", 1380)
	a.dumps(true, narrow(1380, 1330)...)
	s.find("192.0.2.3", 1450)
	a.dumps(false, "table 242249999", "element bridge sealane cut4", "mtu 1330")
	a.checks()
	<-away
	away <- false
	s.find("192.0.2.3", 1400)
	a.dumps(true, narrow(1400, 1350)...)
	a.ok(a.e.RemoveSandbox(a.ctx, "web", true))
	a.dumps(false, "table 242249999", "element bridge sealane cut4")
	eventually(t, "nothing is measured", func() bool { return s.wanted() == "[]" })
	a.checks()
}

// An encrypted network's path is that of what the tunnel sends; several networks share it,
// and the mesh has paths to hosts that nobody is on.
func TestSealedPaths(t *testing.T) {
	m, s := cluster.NewMemory(nil), &surveyor{found: map[netip.Addr]int{}}
	a, b := surveyed(t, m, "a", "198.51.100.9", s), member(t, m, "b", "192.0.2.3")
	for i, name := range []string{"one", "two"} {
		_, err := a.overlay(name, encryptedOption, fmt.Sprintf("10.%d.0.0/24", i+1))
		a.ok(err)
		b.knows(name, true)
		a.sandbox("web"+name, SandboxSpec{Networks: on(name)})
		b.sandbox("db"+name, SandboxSpec{Networks: on(name)})
	}
	want := fmt.Sprint([]pathmtu.Path{{Local: netip.MustParseAddr("198.51.100.9"), Remote: netip.MustParseAddr("192.0.2.3"), Size: 1450}})
	eventually(t, "its path is measured", func() bool { return s.wanted() == want })
	s.find("192.0.2.3", 1440)
	a.dumps(true, "dev slw0 mtu 1360", "route 192.0.2.3/32 via 198.51.100.1 dev eth0 onlink mtu 1440 table 242249999", "rule 24223 udp port 51822")
	a.checks()
	for _, f := range a.knows("two", true).Overlay.Far {
		if got, ok := NarrowPathTo(a.knows("two", true), f.At); !ok || fmt.Sprint(got) != "{192.0.2.3 1440 1290}" {
			t.Errorf("narrow: %v, %v", got, ok)
		}
	}
	a.ok(a.e.RemoveSandbox(a.ctx, "webone", true))
	a.dumps(true, "dev slw0 mtu 1360")
	s.find("192.0.2.3", 1450)
	a.dumps(false, "slw0 mtu 1360", "table 242249999")
	a.checks()

	_, err := a.overlay("open", nil, "10.3.0.0/24")
	a.ok(err)
	_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: "web", Network: "open", Ports: []model.ServicePort{{Proto: "tcp", Port: 80}}, Publish: []model.Publish{{Proto: "tcp", Port: 8080, Target: 80}}})
	a.ok(err)
	s.find("192.0.2.3", 1400)
	a.dumps(true, "dev slm0 onlink mtu 1350 table 24225000")
	s.find("192.0.2.3", 1450)
	a.dumps(false, "dev slm0 onlink mtu 1350 table 24225000")
	a.checks()
}
