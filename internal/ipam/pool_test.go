package ipam

import (
	"errors"
	"math"
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// all takes addresses until there are none.
func all(p *Pool, limit int) (got []netip.Addr) {
	for range limit {
		a, err := p.Allocate("x", t0)
		if err != nil {
			return got
		}
		got = append(got, a)
	}
	return got
}

// Where subnets and ranges end, and what is inside them.
func TestEdges(t *testing.T) {
	for _, c := range []struct {
		prefix, ipRange, gateway string
		first, last              string // as they are given
		count                    int    // of all; at least, when it is 100
	}{
		{"10.0.0.0/31", "", "", "10.0.0.0", "10.0.0.1", 2},
		{"10.0.0.0/31", "", "10.0.0.1", "10.0.0.0", "10.0.0.0", 1},
		{"fd00::/127", "", "", "fd00::", "fd00::1", 2},
		{"fd00::/127", "", "fd00::", "fd00::1", "fd00::1", 1},
		{"10.0.0.0/30", "", "", "10.0.0.1", "10.0.0.2", 2},
		{"fd00::/126", "", "", "fd00::1", "fd00::3", 3},
		{"10.0.0.0/24", "10.0.0.0/30", "10.0.0.1", "10.0.0.2", "10.0.0.3", 2},
		{"10.0.0.0/24", "10.0.0.252/30", "10.0.0.1", "10.0.0.252", "10.0.0.254", 3},
		{"10.0.0.0/24", "10.0.0.1/32", "10.0.0.1", "", "", 0},
		{"10.0.0.0/24", "10.0.0.9/32", "10.0.0.1", "10.0.0.9", "10.0.0.9", 1},
		{"255.255.255.0/24", "255.255.255.252/30", "255.255.255.1", "255.255.255.252", "255.255.255.254", 3},
		// More than 64 bits of host, and ranges that end or begin where the lower
		// 64 bits are all ones or zeros.
		{"fd00::/16", "", "fd00::1", "fd00::2", "fd00::65", 100},
		{"fd00::/48", "fd00:0:0:8000::/49", "fd00::1", "fd00:0:0:8000::", "fd00:0:0:8000::63", 100},
		{"fd00::/48", "fd00::ffff:ffff:ffff:fffe/127", "fd00::1", "fd00::ffff:ffff:ffff:fffe", "fd00::ffff:ffff:ffff:ffff", 2},
		{"fd00::/48", "fd00:0:0:1::/127", "fd00::1", "fd00:0:0:1::", "fd00:0:0:1::1", 2},
		{"fd00::/48", "fd00:0:0:ffff:ffff:ffff:ffff:fffc/126", "fd00::1", "fd00::ffff:ffff:ffff:ffff:fffc", "fd00::ffff:ffff:ffff:ffff:ffff", 4},
		{"fdff:ffff:ffff:ffff::/64", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 2},
	} {
		s := model.Subnet{Prefix: netip.MustParsePrefix(c.prefix)}
		s.Range, _ = netip.ParsePrefix(c.ipRange)
		s.Gateway, _ = netip.ParseAddr(c.gateway)
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
		p := NewPool(s)
		free := p.Usage().Free
		got := all(p, 100)
		if len(got) != c.count || len(got) > 0 && (got[0].String() != c.first || got[len(got)-1].String() != c.last) {
			t.Errorf("%s, range %s, gateway %s: %d addresses %v", c.prefix, c.ipRange, c.gateway, len(got), got)
		}
		if c.count < 100 && free != uint64(c.count) {
			t.Errorf("%s, range %s, gateway %s: %d are free, want %d", c.prefix, c.ipRange, c.gateway, free, c.count)
		}
	}
}

// A static address may be anywhere in the subnet, and in the range too.
func TestStaticAddresses(t *testing.T) {
	s := subnet("fd00::/48", "fd00::1")
	s.Range = netip.MustParsePrefix("fd00:0:0:8000::/49")
	p := NewPool(s)
	for _, a := range []string{"fd00::ffff:ffff:ffff:ffff", "fd00:0:0:1::", "fd00:0:0:ffff:ffff:ffff:ffff:ffff", "fd00:0:0:8000::"} {
		if err := p.Claim(netip.MustParseAddr(a), "x"); err != nil {
			t.Error(err)
		}
	}
	if a, err := p.Allocate("x", t0); err != nil || a.String() != "fd00:0:0:8000::1" {
		t.Errorf("got %s %v, want the first that is not static", a, err)
	}
}

func TestUsage(t *testing.T) {
	s := subnet("10.0.0.0/24", "10.0.0.1")
	s.Range = netip.MustParsePrefix("10.0.0.0/29")
	s.Aux = map[string]netip.Addr{"router": netip.MustParseAddr("10.0.0.5"), "far": netip.MustParseAddr("10.0.0.200")}
	p := NewPool(s)
	check := func(what string, want Usage) {
		t.Helper()
		if got := p.Usage(); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	check("at first", Usage{5, 5}) // with 10.0.0.0 and 10.0.0.255; 2, 3, 4, 6 and 7 are free
	a, err := p.Allocate("x", t0)
	if err != nil {
		t.Fatal(err)
	}
	check("one more", Usage{6, 4})
	if err := p.Claim(netip.MustParseAddr("10.0.0.100"), "y"); err != nil {
		t.Fatal(err)
	}
	check("a static one outside the range", Usage{7, 4})
	p.Release(a, t0)
	check("in quarantine", Usage{6, 5})
	all(p, 100)
	check("all", Usage{11, 0})
	if _, err := p.Allocate("x", t0); !errors.Is(err, ErrExhausted) {
		t.Errorf("with none free: %v", err)
	}
}

func TestUsageOfHugeSubnets(t *testing.T) {
	const most = math.MaxUint64
	for _, c := range []struct {
		prefix, ipRange string
		want            Usage
	}{
		{"fd00::/65", "", Usage{2, 1<<63 - 2}},
		{"fd00::/64", "", Usage{2, most - 1}}, // 2^64 without two
		{"fd00::/63", "", Usage{2, most}},
		{"fd00::/16", "", Usage{2, most}},
		{"fd00::/48", "fd00:0:0:1::/64", Usage{2, most}}, // 2^64 do not fit
		{"fd00::/48", "fd00:0:0:1::/65", Usage{2, 1 << 63}},
		{"fd00::/48", "fd00::/120", Usage{2, 254}},
		{"10.0.0.0/8", "", Usage{3, 1<<24 - 3}},
	} {
		gateway := "fd00::1"
		if netip.MustParsePrefix(c.prefix).Addr().Is4() {
			gateway = "10.0.0.1"
		}
		s := subnet(c.prefix, gateway)
		s.Range, _ = netip.ParsePrefix(c.ipRange)
		if got := NewPool(s).Usage(); got != c.want {
			t.Errorf("%s, range %s: %+v, want %+v", c.prefix, c.ipRange, got, c.want)
		}
	}
}
