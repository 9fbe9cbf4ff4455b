package flannel

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	vxlan = `{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`
	four  = `{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.13.0","Backend":{"Type":"vxlan"}}`
	one   = `{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.10.0","Backend":{"Type":"vxlan"}}`
	two   = `{"Network":"10.5.0.0/16","SubnetMin":"10.5.10.0","SubnetMax":"10.5.11.0","Backend":{"Type":"vxlan"}}`
)

func TestALeaseAsFlanneldHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, one)
		h := start(t, m, 2, nil)
		h.want("10.5.10.0/24")
		want := `{"PublicIP":"192.168.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"},"Sealane":{"Node":"n-2","Name":"host2","Since":"2000-01-01T00:00:00Z"}}`
		if got := content(t, m)["10.5.10.0-24"]; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		_, views, puts := h.now()
		if puts != 1 {
			t.Errorf("%d puts", puts)
		}
		pass(22 * time.Hour)
		if _, v, p := h.now(); v != views || p != 1 {
			t.Errorf("nothing happened in 22 hours, but %d views and %d puts", v-views, p-1)
		}
		pass(time.Hour + time.Minute)
		if _, v, p := h.now(); v != views || p != 2 {
			t.Errorf("renewed: %d more views, %d puts in 23 hours", v-views, p)
		}
		pass(10 * 24 * time.Hour)
		h.want("10.5.10.0/24")
		if _, v, p := h.now(); v != views || p < 12 || p > 14 {
			t.Errorf("%d views and %d puts in eleven days", v, p)
		}
	})
}

func TestAHostComesBackToItsSubnet(t *testing.T) {
	flanneld := `{"PublicIP":"192.168.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"76:8a:00:46:cd:33"},"Extra":7}`
	for _, c := range []struct {
		name, key, value string
		ttl              time.Duration
		change           func(*Options, *slow)
		want             string
	}{
		{"its own ID", "10.5.99.0-24", `{"PublicIP":"10.9.9.9","PublicIPv6":null,"Sealane":{"Node":"n-2"}}`, TTL, nil, "10.5.99.0/24"},
		{"the flanneld that it replaces", "10.5.99.0-24", flanneld, TTL, nil, "10.5.99.0/24"},
		{"a reservation", "10.5.99.0-24", `{"PublicIP":"192.168.0.2"}`, 0, nil, "10.5.99.0/24"},
		{"subnet.env", "10.5.98.0-24", flanneld[:15] + "9" + flanneld[16:], TTL,
			func(o *Options, _ *slow) { o.Former = subnet("10.5.99.0/24", "") }, "10.5.99.0/24"},
		{"its records", "10.5.98.0-24", flanneld, TTL,
			func(o *Options, _ *slow) { o.Held = subnet("10.5.99.0/24", "") }, "10.5.99.0/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newStore(t, vxlan)
				put(t, m, "subnets/"+c.key, c.value, c.ttl)
				h := start(t, m, 2, c.change)
				h.want(c.want)
				h.stop()
				start(t, m, 2, nil).want(c.want)
			})
		})
	}
}

func TestWhatOthersAddedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, one)
		put(t, m, "subnets/10.5.10.0-24", `{"PublicIP":"192.168.0.2","Rack":{"row":1.50},"Sealane":{"Node":"n-2","Name":"old","later":[1]}}`, TTL)
		start(t, m, 2, nil).want("10.5.10.0/24")
		want := `{"PublicIP":"192.168.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"},"Sealane":{"Node":"n-2","Name":"host2","later":[1]},"Rack":{"row":1.50}}`
		if got := content(t, m)["10.5.10.0-24"]; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
}

func TestAReservationStaysOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, four)
		put(t, m, "subnets/10.5.12.0-24", `{"PublicIP":"192.168.0.2"}`, 0)
		other := start(t, m, 3, nil)
		equal(t, "nobody there yet", other.problems())
		h := start(t, m, 2, nil)
		h.want("10.5.12.0/24")
		equal(t, "peers", other.peers(), "10.5.12.0/24 192.168.0.2")
		pass(72 * time.Hour)
		h.want("10.5.12.0/24")
		want := `{"PublicIP":"192.168.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"},"Sealane":{"Node":"n-2","Name":"host2","Since":"2000-01-01T00:00:02Z"}} lasting`
		if got := content(t, m)["10.5.12.0-24"]; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		if _, _, puts := h.now(); puts != 1 {
			t.Errorf("%d puts: a reservation needs no renewal", puts)
		}
		if err := h.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		settle()
		h.want("")
		if got := content(t, m)["10.5.12.0-24"]; got != `{"PublicIP":"192.168.0.2","PublicIPv6":null} lasting` {
			t.Errorf("released: %s", got)
		}
		equal(t, "peers", other.peers())
	})
}

func TestIPv6AloneIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd10:10::/56","Backend":{"Type":"vxlan"}}`)
		a, b := start(t, m, 2, nil), start(t, m, 3, nil)
		if a.own() == "" || b.own() == "" || a.own() == b.own() {
			t.Fatalf("%q and %q", a.own(), b.own())
		}
		va, _, _ := a.now()
		if len(va.Peers) != 1 || va.Peers[0].Value.Public6.String() != "fd77::3" || len(va.Problems) != 0 {
			t.Errorf("%+v", va)
		}
		was := a.own()
		a.stop()
		start(t, m, 2, nil).want(was)
	})
}

func TestDualStack(t *testing.T) {
	dual := `{"EnableIPv6":true,"Network":"10.10.0.0/16","IPv6Network":"fd10:10::/48","Backend":{"Type":"vxlan"}}`
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, dual)
		var hosts []*host
		for i := range 20 {
			hosts = append(hosts, start(t, m, 2+i, nil))
		}
		seen := map[Subnet]bool{}
		for _, h := range hosts {
			v, _, _ := h.now()
			if v.Own == nil || len(v.Peers) != 19 || len(v.Problems) != 0 {
				t.Fatalf("%+v", v)
			}
			s := v.Own.Subnet
			if s.V4.Addr().As4()[2] != s.V6.Addr().As16()[7] {
				t.Errorf("%s: not in the same place", s)
			}
			seen[s] = true
		}
		if len(seen) != 20 {
			t.Errorf("%d subnets", len(seen))
		}
	})
	// A flanneld takes half of what a host is about to take: a key of its own, so
	// the transaction does not notice.
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, `{"EnableIPv6":true,"Network":"10.10.0.0/16","SubnetMax":"10.10.2.0","IPv6Network":"fd10:10::/48","Backend":{"Type":"vxlan"}}`)
		h := start(t, m, 2, func(o *Options, s *slow) {
			o.Former = subnet("10.10.1.0/24", "fd10:10:0:1::/64")
			s.first = func() {
				put(t, m, "subnets/10.10.1.0-24&fd10:10:0:77::-64", `{"PublicIP":"192.168.0.9","PublicIPv6":"fd77::9","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:09"},"BackendV6Data":{"VtepMAC":"02:06:00:00:00:09"}}`, TTL)
			}
		})
		h.want("10.10.2.0/24 and fd10:10:0:2::/64")
		if len(content(t, m)) != 2 {
			t.Errorf("%v", content(t, m))
		}
		equal(t, "problems", h.problems())
	})
}

func TestLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, two)
		a, b := start(t, m, 2, nil), start(t, m, 3, nil)
		if len(a.peers()) != 1 || len(b.peers()) != 1 {
			t.Fatalf("%v, %v", a.peers(), b.peers())
		}
		if err := a.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		a.want("")
		equal(t, "peers", b.peers())
		if got := content(t, m); len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, one)
		var who, broken atomic.Int32
		who.Store(2)
		broken.Store(1)
		h := start(t, m, 2, func(o *Options, _ *slow) {
			o.Describe = func(c Config) (Value, error) {
				if broken.Load() != 0 {
					return Value{}, errors.New("no uplink yet")
				}
				return public(int(who.Load()), c)
			}
		})
		if v, _, _ := h.now(); v.LastError != "no uplink yet" || len(content(t, m)) != 0 {
			t.Errorf("%+v", v)
		}
		broken.Store(0)
		pass(time.Minute)
		h.want("10.5.10.0/24")
		who.Store(7)
		h.Refresh()
		settle()
		if got := content(t, m)["10.5.10.0-24"]; !strings.Contains(got, "192.168.0.7") {
			t.Errorf("%s", got)
		}
		if _, _, puts := h.now(); puts != 2 {
			t.Errorf("%d puts", puts)
		}
		h.Refresh()
		settle()
		if _, _, puts := h.now(); puts != 2 {
			t.Errorf("%d puts, of the same", puts)
		}
	})
}

// TestACommitThatHangs has the connection die with the host's old address: what there
// is to say of the new one is said as soon as the store can be reached again.
func TestACommitThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newStore(t, one)
		at := 2
		var mu sync.Mutex
		hangs := false
		h := start(t, m, 2, func(o *Options, s *slow) {
			o.Describe = func(c Config) (Value, error) {
				mu.Lock()
				defer mu.Unlock()
				return public(at, c)
			}
			s.delay = func() time.Duration {
				mu.Lock()
				defer mu.Unlock()
				if hangs {
					return 6 * time.Second
				}
				return 0
			}
			s.fault = func() int {
				mu.Lock()
				defer mu.Unlock()
				if hangs {
					hangs = false
					return lostBefore
				}
				return 0
			}
		})
		h.want("10.5.10.0/24")
		mu.Lock()
		at, hangs = 3, true
		mu.Unlock()
		h.Refresh()
		pass(8 * time.Second)
		if got := content(t, m)["10.5.10.0-24"]; !strings.Contains(got, "192.168.0.3") {
			t.Errorf("after 8 s: %s", got)
		}
	})
}
