package engine

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/serve/pathmtu"
)

// surveyor knows paths by whom they lead to.
type surveyor struct {
	mu      sync.Mutex // protects the following
	changed func()
	want    []pathmtu.Path
	found   map[netip.Addr]int
}

func (s *surveyor) Start(changed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = changed
}

func (s *surveyor) Want(list []pathmtu.Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want = list
}

func (s *surveyor) MTU(p pathmtu.Path) (int, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.found[p.Remote]
	return n, ok
}

// find tells of a path, 0 that nothing is known of it.
func (s *surveyor) find(to string, mtu int) {
	s.mu.Lock()
	if s.found[netip.MustParseAddr(to)] = mtu; mtu == 0 {
		delete(s.found, netip.MustParseAddr(to))
	}
	changed := s.changed
	s.mu.Unlock()
	changed()
}

func (r *rig) waitRoute(dst, want string) {
	r.Helper()
	got := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		set, err := r.k.Observe(r.ctx, kernel.Scope{})
		if err != nil {
			r.Fatal(err)
		}
		if o := set[kstate.Route{Dst: netip.MustParsePrefix(dst)}.Key()]; o != nil {
			if got = fmt.Sprint(o); got == want {
				return
			}
		}
	}
	r.Errorf("%q, want %q", got, want)
}

// A route says what fits its path, also that of a daemon that starts anew, until something
// else is found.
func TestPaths(t *testing.T) {
	r, s := bare(t), &surveyor{found: map[netip.Addr]int{}}
	r.quiet = true
	r.prepare()
	m := cluster.NewMemory(nil)
	for i, public := range []string{"198.51.100.2", "192.0.2.3"} {
		put := cluster.Put{Key: fmt.Sprintf("/net/subnets/10.5.%d.0-24", i+2), Value: fmt.Appendf(nil, `{"PublicIP":%q}`, public)}
		if _, _, err := m.Commit(r.ctx, cluster.Txn{Put: []cluster.Put{put}}); err != nil {
			t.Fatal(err)
		}
	}
	r.cfg.Tunnels, r.cfg.Cluster, r.cfg.Paths = &diggers{}, Cluster{Store: m, Prefix: "/net", Node: flannel.Node{Name: "a"}}, s
	r.e = New(r.cfg)
	if err := r.e.Start(r.ctx); err != nil {
		t.Fatal(err)
	}
	n, err := r.fabric("pods", map[string]string{"backend": "udp"}, "10.5.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	dev := n.Tunnel(false)
	local := netip.MustParseAddr("198.51.100.9")
	want := []pathmtu.Path{
		{Local: local, Remote: netip.MustParseAddr("198.51.100.2"), Size: 1450, Near: true},
		{Local: local, Remote: netip.MustParseAddr("192.0.2.3"), Size: 1450},
	}
	s.mu.Lock()
	if fmt.Sprint(s.want) != fmt.Sprint(want) {
		t.Errorf("wanted %v", s.want)
	}
	s.mu.Unlock()
	r.waitRoute("10.5.3.0/24", "route 10.5.3.0/24 dev "+dev)
	s.find("192.0.2.3", 1400)
	s.find("198.51.100.2", 1450)
	r.waitRoute("10.5.3.0/24", "route 10.5.3.0/24 dev "+dev+" mtu 1372")
	r.waitRoute("10.5.2.0/24", "route 10.5.2.0/24 dev "+dev)
	f := r.e.seen("/net").Fabric
	if got := fmt.Sprint(NarrowPaths(f, &f.Peers[0]), NarrowPaths(f, &f.Peers[1])); got != "[] [{192.0.2.3 1400 1372}]" {
		t.Errorf("narrow: %s", got)
	}

	// The next daemon knows nothing yet.
	r.e.Close()
	s.mu.Lock()
	s.found = map[netip.Addr]int{}
	s.mu.Unlock()
	r.e = New(r.cfg)
	if err := r.e.Start(r.ctx); err != nil {
		t.Fatal(err)
	}
	s.find("198.51.100.2", 1300)
	r.waitRoute("10.5.2.0/24", "route 10.5.2.0/24 dev "+dev+" mtu 1272")
	r.waitRoute("10.5.3.0/24", "route 10.5.3.0/24 dev "+dev+" mtu 1372")
	s.find("192.0.2.3", 1450)
	r.waitRoute("10.5.3.0/24", "route 10.5.3.0/24 dev "+dev)
}
