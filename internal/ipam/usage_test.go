package ipam

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/model"
)

func TestUsage(t *testing.T) {
	s := subnet("10.0.0.0/24", "10.0.0.1")
	s.Range = netip.MustParsePrefix("10.0.0.0/29")
	s.Aux = map[string]netip.Addr{"router": netip.MustParseAddr("10.0.0.5"), "far": netip.MustParseAddr("10.0.0.200")}
	p, now := NewPool(s), t0
	check := func(what string, want Usage) {
		t.Helper()
		if got := p.Usage(now); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	check("at first", Usage{5, 5, 5, 0}) // with 10.0.0.0 and 10.0.0.255; 2, 3, 4, 6 and 7 are free
	a, err := p.Allocate("x", now)
	if err != nil {
		t.Fatal(err)
	}
	check("one more", Usage{6, 5, 4, 0})
	far := netip.MustParseAddr("10.0.0.100")
	if err := p.Claim(far, "y"); err != nil {
		t.Fatal(err)
	}
	check("a static one outside the range", Usage{7, 5, 4, 0})
	p.Release(a, now)
	check("in quarantine", Usage{6, 5, 5, 1})
	p.Release(far, now)
	check("the other one is not for automatic choice, resting or not", Usage{5, 5, 5, 1})
	if err := p.Claim(a, "z"); err != nil {
		t.Fatal(err)
	}
	check("asked for by its name", Usage{6, 5, 4, 0})
	p.Undo(a)
	check("which came to nothing", Usage{5, 5, 5, 1})
	now = now.Add(Quarantine)
	check("later", Usage{5, 5, 5, 0})
	all(p, 100)
	check("all", Usage{10, 5, 0, 0})
	if _, err := p.Allocate("x", now); !errors.Is(err, ErrExhausted) {
		t.Errorf("with none free: %v", err)
	}
}

func TestUsageOfHugeSubnets(t *testing.T) {
	const most = math.MaxUint64
	for _, c := range []struct {
		prefix, ipRange string
		want            Usage
	}{
		{"fd00::/65", "", Usage{2, 2, 1<<63 - 2, 0}},
		{"fd00::/64", "", Usage{2, 2, most - 1, 0}}, // 2^64 without two
		{"fd00::/63", "", Usage{2, 2, most, 0}},
		{"fd00::/16", "", Usage{2, 2, most, 0}},
		{"fd00::/48", "fd00:0:0:1::/64", Usage{2, 2, most, 0}}, // 2^64 do not fit
		{"fd00::/48", "fd00:0:0:1::/65", Usage{2, 2, 1 << 63, 0}},
		{"fd00::/48", "fd00::/120", Usage{2, 2, 254, 0}},
		{"10.0.0.0/8", "", Usage{3, 3, 1<<24 - 3, 0}},
	} {
		gateway := "fd00::1"
		if netip.MustParsePrefix(c.prefix).Addr().Is4() {
			gateway = "10.0.0.1"
		}
		s := subnet(c.prefix, gateway)
		s.Range, _ = netip.ParsePrefix(c.ipRange)
		if got := NewPool(s).Usage(t0); got != c.want {
			t.Errorf("%s, range %s: %+v, want %+v", c.prefix, c.ipRange, got, c.want)
		}
	}
}

// Subnets whose two ends are hosts' addresses.
func TestUsageOfPairs(t *testing.T) {
	for _, c := range []struct {
		prefix, gateway string
		want            Usage
	}{
		{"10.0.0.0/31", "", Usage{0, 0, 2, 0}},
		{"10.0.0.0/31", "10.0.0.0", Usage{1, 1, 1, 0}},
		{"10.0.0.0/30", "10.0.0.1", Usage{3, 3, 1, 0}},
		{"fd00::/127", "", Usage{0, 0, 2, 0}},
		{"fd00::/126", "fd00::1", Usage{2, 2, 2, 0}},
		{"255.255.255.254/31", "255.255.255.255", Usage{1, 1, 1, 0}},
	} {
		s := model.Subnet{Prefix: netip.MustParsePrefix(c.prefix)}
		s.Gateway, _ = netip.ParseAddr(c.gateway)
		if got := NewPool(s).Usage(t0); got != c.want {
			t.Errorf("%s, gateway %q: %+v, want %+v", c.prefix, c.gateway, got, c.want)
		}
	}
}

// TestUsageAgainstCounting walks a pool at random, and asks of every address of
// its /26 what it is.
func TestUsageAgainstCounting(t *testing.T) {
	s := subnet("10.0.0.0/26", "10.0.0.17")
	s.Range = netip.MustParsePrefix("10.0.0.16/28")
	s.Aux = map[string]netip.Addr{"in": netip.MustParseAddr("10.0.0.20"), "out": netip.MustParseAddr("10.0.0.40")}
	own := map[netip.Addr]bool{s.Gateway: true, s.Aux["in"]: true, s.Aux["out"]: true, s.Prefix.Addr(): true, model.Last(s.Prefix): true}
	r := rand.New(rand.NewPCG(3, 4))
	p, now := NewPool(s), t0
	taken, freed := map[netip.Addr]bool{}, map[netip.Addr]time.Time{}
	for step := range 20000 {
		now = now.Add(time.Duration(r.IntN(8)) * time.Second)
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(64))})
		switch r.IntN(5) {
		case 0, 1:
			if taken[a] {
				p.Release(a, now)
				delete(taken, a)
				freed[a] = now
			}
		case 2:
			if p.Claim(a, "x") == nil {
				taken[a] = true
			}
		case 3:
			if p.Claim(a, "x") == nil {
				p.Undo(a)
			}
		default:
			if got, err := p.Allocate("x", now); err == nil {
				taken[got] = true
			}
		}
		var want Usage
		for a := s.Prefix.Addr(); s.Prefix.Contains(a); a = a.Next() {
			at, rests := freed[a]
			switch {
			case own[a]:
				want.InUse++
				want.Reserved++
			case taken[a]:
				want.InUse++
			case s.Range.Contains(a):
				want.Free++
				if rests && now.Sub(at) < Quarantine {
					want.Resting++
				}
			}
		}
		if got := p.Usage(now); got != want {
			t.Fatalf("step %d: %+v, want %+v", step, got, want)
		}
	}
}

// BenchmarkUsage tells what a list of networks pays for each full one.
func BenchmarkUsage(b *testing.B) {
	p := NewPool(subnet("10.0.0.0/16", "10.0.0.1"))
	all(p, 5000)
	for b.Loop() {
		p.Usage(t0)
	}
}
