package dns

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestTable compares a table with a Go map, and sees that tables made before
// a change stay as they were.
func TestTable(t *testing.T) {
	now, want := newTable[string, int](func(s string) uint64 { return uint64(len(s))*31 + uint64(s[0]) }), map[string]int{}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		before, was := now, maps.Clone(want)
		now = now.edit()
		for range 1 + random.IntN(3) {
			k := fmt.Sprint(random.IntN(300))
			if random.IntN(3) == 0 {
				now.remove(k)
				delete(want, k)
			} else {
				now.set(k, i)
				want[k] = i
			}
		}
		if i%50 == 0 {
			compareTable(t, &before, was)
		}
		compareTable(t, &now, want)
	}
}

func compareTable(t *testing.T, got *table[string, int], want map[string]int) {
	t.Helper()
	if got.n != len(want) {
		t.Fatalf("%d entries, want %d", got.n, len(want))
	}
	for k, v := range want {
		if g, ok := got.get(k); !ok || g != v {
			t.Fatalf("%s: %d %v, want %d", k, g, ok, v)
		}
	}
}

// TestZone walks a zone through random updates and compares each with one that
// is made anew.
func TestZone(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	z, all := NewZone("front", nil), map[string]Host{}
	for range 500 {
		h := Host{ID: fmt.Sprint(random.IntN(20))}
		for range random.IntN(3) {
			h.Names = append(h.Names, fmt.Sprintf("n%d", random.IntN(10)))
			h.Addrs = append(h.Addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(10))}))
		}
		gone := fmt.Sprint(random.IntN(20))
		delete(all, gone)
		all[h.ID] = h
		z.Update([]Host{h}, gone)
		fresh := NewZone("front", nil)
		fresh.Update(slices.Collect(maps.Values(all)))
		for i := range 10 {
			a, b := z.addresses(fmt.Sprintf("n%d", i)), fresh.addresses(fmt.Sprintf("n%d", i))
			if !slices.Equal(a, b) {
				t.Fatalf("n%d: %v, want %v", i, a, b)
			}
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			x, _ := z.now.Load().addrs.get(addr)
			y, _ := fresh.now.Load().addrs.get(addr)
			if len(x) != len(y) {
				t.Fatalf("%s: %d hosts, want %d", addr, len(x), len(y))
			}
		}
	}
}

// addresses are a name's, sorted; a host counts once for each of its names.
func (z *Zone) addresses(name string) []string {
	r, ok := z.now.Load().names.get(name)
	if !ok {
		return nil
	}
	var out []string
	for b := r.a; len(b) > 0; b = b[recordA:] {
		out = append(out, fmt.Sprint(b[recordHead:recordA]))
	}
	slices.Sort(out)
	return append(out, fmt.Sprint(len(r.hosts)))
}

// TestSole: a name that is a service's means nobody else, whoever came first, until it goes.
func TestSole(t *testing.T) {
	z, at := NewZone("front", nil), netip.MustParseAddr
	web := Host{ID: "1", Names: []string{"web"}, Addrs: []netip.Addr{at("10.0.0.2")}}
	db := Host{ID: "2", Names: []string{"db"}, Addrs: []netip.Addr{at("10.0.0.3")}}
	service := Host{ID: "s", Names: []string{"WEB"}, Addrs: []netip.Addr{at("10.0.0.9")}, Sole: true}
	lent := Host{ID: "t", Names: []string{"tasks.web"}, Addrs: web.Addrs, Sole: true, Lent: true}
	for _, order := range [][]Host{{web, db, service, lent}, {lent, service, db, web}} {
		for _, h := range order {
			z.Update([]Host{h})
		}
		if got := z.addresses("web"); !slices.Equal(got, []string{"[10 0 0 9]", "1"}) {
			t.Errorf("web: %v", got)
		}
		if got := z.addresses("tasks.web"); !slices.Equal(got, []string{"[10 0 0 2]", "1"}) {
			t.Errorf("tasks.web: %v", got)
		}
		if back, _ := z.now.Load().addrs.get(at("10.0.0.2")); len(back) != 1 || back[0].id != "1" {
			t.Errorf("10.0.0.2: %v", back)
		}
		service.Addrs = nil
		z.Update([]Host{service})
		if got := z.addresses("web"); !slices.Equal(got, []string{"1"}) {
			t.Errorf("web without addresses: %v", got)
		}
		z.Update(nil, "s", "t")
		if got := z.addresses("web"); !slices.Equal(got, []string{"[10 0 0 2]", "1"}) {
			t.Errorf("web without its service: %v", got)
		}
		z.Update(nil, "1", "2")
		service.Addrs = []netip.Addr{at("10.0.0.9")}
	}
}

func bigZone(n int) *Zone {
	z := NewZone("front", nil)
	var hosts []Host
	for i := range n {
		hosts = append(hosts, bigHost(i))
	}
	z.Update(hosts)
	return z
}

func bigHost(i int) Host {
	return Host{ID: fmt.Sprint(i), Names: []string{fmt.Sprintf("web%d", i), fmt.Sprintf("%012x", i), fmt.Sprintf("host%d", i)},
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}}
}

// TestUpdateIsCheap adds hosts to a network of 3,000: a copy of the whole would
// take a hundred times as long as it may.
func TestUpdateIsCheap(t *testing.T) {
	z, best := bigZone(3000), time.Hour
	for i := range 50 {
		begun := time.Now()
		z.Update([]Host{bigHost(5000 + i)})
		best = min(best, time.Since(begun))
	}
	if best > 200*time.Microsecond {
		t.Errorf("%v at best", best)
	}
}

func BenchmarkUpdate(b *testing.B) {
	z := bigZone(3000)
	h := []Host{bigHost(5000)}
	for b.Loop() {
		z.Update(h)
		z.Update(nil, h[0].ID)
	}
}
