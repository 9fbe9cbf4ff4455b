package ipam

import (
	"net/netip"
	"strings"
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
		free := p.Usage(t0).Free
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

// A container engine counts up; what it does not know of comes from the other
// end, of what it leaves first.
func TestTheirs(t *testing.T) {
	for _, c := range []struct{ prefix, theirs, gateway, want string }{
		{"10.0.0.0/29", "10.0.0.0/29", "10.0.0.1", "6 5 4 3 2"},
		{"10.0.0.0/29", "10.0.0.0/30", "10.0.0.1", "6 5 4 3 2"},
		{"10.0.0.0/29", "10.0.0.4/30", "10.0.0.1", "3 2 6 5 4"},
		{"10.0.0.0/28", "10.0.0.4/30", "10.0.0.14", "13 12 11 10 9 8 3 2 1 7 6 5 4"},
		{"10.0.0.0/29", "10.0.0.6/31", "10.0.0.1", "5 4 3 2 6"},
		{"10.0.0.0/31", "10.0.0.0/31", "10.0.0.0", "1"},
		{"0.0.0.0/29", "0.0.0.0/30", "", "6 5 4 3 2 1"},
		{"255.255.255.248/29", "255.255.255.252/30", "255.255.255.249", "251 250 254 253 252"},
		{"fd00::/125", "fd00::4/126", "fd00::1", "3 2 7 6 5 4"},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "", "fffd ffff fffe"},
	} {
		s := model.Subnet{Prefix: netip.MustParsePrefix(c.prefix), Theirs: netip.MustParsePrefix(c.theirs)}
		s.Gateway, _ = netip.ParseAddr(c.gateway)
		var got []string
		for _, a := range all(NewPool(s), 20) {
			text := a.String()
			got = append(got, text[strings.LastIndexAny(text, ".:")+1:])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s, of it theirs %s: %v, want %s", c.prefix, c.theirs, got, c.want)
		}
	}
}

// A pool that another draws from goes back to its end as soon as it may: it does
// not wander towards the other as those that nobody else draws from do.
func TestTheirsStayApart(t *testing.T) {
	p := NewPool(model.Subnet{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Theirs: netip.MustParsePrefix("10.0.0.0/24")})
	now := t0
	give := func(want string) netip.Addr {
		t.Helper()
		a, err := p.Allocate("x", now)
		if err != nil || a.String() != want {
			t.Errorf("got %s %v, want %s", a, err, want)
		}
		return a
	}
	first := give("10.0.0.254")
	give("10.0.0.253")
	p.Release(first, now)
	give("10.0.0.252")
	now = now.Add(Quarantine)
	give("10.0.0.254")
	p.Yield(netip.MustParsePrefix("10.0.0.128/25"))
	give("10.0.0.127")
	if err := p.Claim(netip.MustParseAddr("10.0.0.126"), "y"); err != nil {
		t.Error(err)
	}
	give("10.0.0.125")
}
