package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/model"
)

func subnet(prefix, gateway string) model.Subnet {
	return model.Subnet{Prefix: netip.MustParsePrefix(prefix), Gateway: netip.MustParseAddr(gateway)}
}

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func TestPoolGivesOneAfterTheOther(t *testing.T) {
	p := NewPool(subnet("10.0.0.0/29", "10.0.0.1"))
	var got []string
	for range 5 {
		a, err := p.Allocate("x", t0)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.String())
	}
	if want := "[10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if _, err := p.Allocate("x", t0); !errors.Is(err, ErrExhausted) {
		t.Errorf("sixth address of a /29: %v, want ErrExhausted", err)
	}
}

func TestPoolQuarantine(t *testing.T) {
	p := NewPool(subnet("10.0.0.0/29", "10.0.0.1"))
	for range 4 {
		p.Allocate("x", t0)
	}
	p.Release(netip.MustParseAddr("10.0.0.3"), t0)
	p.Release(netip.MustParseAddr("10.0.0.2"), t0.Add(time.Second))
	a, _ := p.Allocate("x", t0.Add(2*time.Second))
	if a.String() != "10.0.0.6" {
		t.Errorf("with a never used address left: got %s, want 10.0.0.6", a)
	}
	a, _ = p.Allocate("x", t0.Add(3*time.Second))
	if a.String() != "10.0.0.3" {
		t.Errorf("with only resting addresses: got %s, want the longest free, 10.0.0.3", a)
	}
}

func TestPoolRangeAndAux(t *testing.T) {
	s := subnet("10.0.0.0/24", "10.0.0.1")
	s.Range = netip.MustParsePrefix("10.0.0.128/30")
	s.Aux = map[string]netip.Addr{"router": netip.MustParseAddr("10.0.0.129")}
	p := NewPool(s)
	var got []string
	for {
		a, err := p.Allocate("x", t0)
		if err != nil {
			break
		}
		got = append(got, a.String())
	}
	if want := "[10.0.0.128 10.0.0.130 10.0.0.131]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if err := p.Claim(netip.MustParseAddr("10.0.0.7"), "y"); err != nil {
		t.Errorf("a static address outside the range: %v", err)
	}
	for addr, want := range map[string]string{
		"10.0.0.7":   "taken by y",
		"10.0.0.129": "aux-address router",
		"10.0.0.1":   "the gateway",
		"10.0.0.255": "broadcast",
		"10.0.1.1":   "outside subnet 10.0.0.0/24",
	} {
		if err := p.Claim(netip.MustParseAddr(addr), "z"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("claim %s: %v, want %q", addr, err, want)
		}
	}
}

func TestPoolIPv6(t *testing.T) {
	p := NewPool(subnet("fd00::/64", "fd00::1"))
	a, err := p.Allocate("x", t0)
	if err != nil || a.String() != "fd00::2" {
		t.Fatalf("got %s %v, want fd00::2", a, err)
	}
}

// TestPoolAgainstPlainMap walks a pool at random beside the obvious model: a
// map of every address of a /26.
func TestPoolAgainstPlainMap(t *testing.T) {
	s := subnet("10.0.0.0/26", "10.0.0.1")
	r := rand.New(rand.NewPCG(1, 2))
	p, taken := NewPool(s), map[netip.Addr]bool{s.Gateway: true}
	now := t0
	for step := range 20000 {
		now = now.Add(time.Duration(r.IntN(10)) * time.Second)
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(64))})
		switch r.IntN(4) {
		case 0:
			p.Release(a, now)
			if a != s.Gateway {
				delete(taken, a)
			} else {
				p.Claim(a, "gateway")
			}
		case 1:
			want := !taken[a] && !s.Reserved(a)
			if got := p.Claim(a, "x") == nil; got != want {
				t.Fatalf("step %d: claim %s = %v, want %v", step, a, got, want)
			}
			if want {
				taken[a] = true
			}
		default:
			got, err := p.Allocate("x", now)
			if full := len(taken) == 62; full != (err != nil) {
				t.Fatalf("step %d: allocate with %d of 62 taken: %v", step, len(taken), err)
			}
			if err == nil && (taken[got] || s.Reserved(got) || !s.Prefix.Contains(got)) {
				t.Fatalf("step %d: gave %s, which is taken or no host", step, got)
			}
			if err == nil {
				taken[got] = true
			}
		}
		if p.Used() != len(taken) {
			t.Fatalf("step %d: %d used, want %d", step, p.Used(), len(taken))
		}
	}
}

func TestNextSubnet(t *testing.T) {
	src := Sources(netip.MustParsePrefix("fd12:3456:789a::/48"))
	for _, c := range []struct {
		taken string
		is6   bool
		want  string
	}{
		{"", false, "172.17.0.0/16"},
		{"172.17.0.0/16", false, "172.18.0.0/20"},
		{"172.17.5.0/24", false, "172.18.0.0/20"},
		{"172.16.0.0/12", false, "192.168.0.0/24"},
		{"172.16.0.0/12 192.168.0.0/17", false, "192.168.128.0/24"},
		{"172.16.0.0/12 192.168.0.0/16 10.0.0.0/8", false, ""},
		{"0.0.0.0/0", false, "172.17.0.0/16"},
		{"", true, "fd12:3456:789a::/64"},
		{"fd12:3456:789a::/64", true, "fd12:3456:789a:1::/64"},
	} {
		var taken []netip.Prefix
		for _, f := range strings.Fields(c.taken) {
			taken = append(taken, netip.MustParsePrefix(f))
		}
		got, err := NextSubnet(src, c.is6, taken)
		if c.want == "" {
			if !errors.Is(err, ErrExhausted) {
				t.Errorf("taken %s: got %s, want ErrExhausted", c.taken, got)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("taken %q: got %s %v, want %s", c.taken, got, err, c.want)
		}
	}
}

func TestSized(t *testing.T) {
	src := Sources(netip.MustParsePrefix("fd12:3456:789a::/48"))
	for _, c := range []struct {
		bits  int
		is6   bool
		taken string
		want  string
	}{
		{0, false, "10.0.0.0/8", "172.17.0.0/16"},
		{0, true, "10.0.0.0/8", "fd12:3456:789a::/64"},
		{24, false, "10.0.0.0/8", "172.17.0.0/24"},
		{24, false, "172.17.0.0/25", "172.17.1.0/24"},
		{14, false, "10.0.0.0/8", "172.20.0.0/14"},
		{9, false, "172.17.0.0/16", "10.128.0.0/9"},
		{8, false, "172.17.0.0/16", ""},
		{120, true, "10.0.0.0/8", "fd12:3456:789a::/120"},
		{120, true, "fd12:3456:789a::/64", "fd12:3456:789a:1::/120"},
		{47, true, "10.0.0.0/8", ""},
	} {
		got, err := NextSubnet(Sized(src, c.bits), c.is6, []netip.Prefix{netip.MustParsePrefix(c.taken)})
		if c.want == "" && !errors.Is(err, ErrExhausted) || c.want != "" && (err != nil || got.String() != c.want) {
			t.Errorf("/%d, %s taken: got %s %v, want %q", c.bits, c.taken, got, err, c.want)
		}
	}
}

func TestAThousandNetworksFit(t *testing.T) {
	var taken []netip.Prefix
	for i := range 1000 {
		p, err := NextSubnet(Sources(netip.Prefix{}), false, taken)
		if err != nil {
			t.Fatalf("network %d: %v", i, err)
		}
		taken = append(taken, p)
	}
}

func mapping(t *testing.T, s string) model.PortMapping {
	t.Helper()
	m, err := model.ParsePort(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPorts(t *testing.T) {
	p := NewPorts()
	for _, c := range []struct{ in, want, err string }{
		{"8080:80", "8080:80/tcp", ""},
		{"8080:81", "", "port 8080/tcp: published by a"},
		{"8080:80/udp", "8080:80/udp", ""},
		{"127.0.0.1:8080:80", "", "published by a"},
		{"127.0.0.1:9000:80", "127.0.0.1:9000:80/tcp", ""},
		{"127.0.0.2:9000:80", "127.0.0.2:9000:80/tcp", ""},
		{"9000:80", "", "port 9000/tcp"},
		{"8999-9001:1-3", "", "port 9000/tcp"},
		{"8080-8085:80", "8081:80/tcp", ""},
		{"80", "20000:80/tcp", ""},
		{"80", "20001:80/tcp", ""},
		{"80-82", "20002-20004:80-82/tcp", ""},
	} {
		got, err := p.Allocate(mapping(t, c.in), "a", nil)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: error %v, want %q", c.in, err, c.err)
		case c.err == "" && (err != nil || got.String() != c.want):
			t.Errorf("%s: got %s %v, want %s", c.in, got, err, c.want)
		}
	}
	p.Release(mapping(t, "8080:80"))
	if _, err := p.Allocate(mapping(t, "8080:99"), "b", nil); err != nil {
		t.Errorf("after release: %v", err)
	}
	owner, port, ok := p.Lookup("tcp", netip.MustParseAddrPort("127.0.0.2:9000"))
	if owner != "a" || port != 80 || !ok {
		t.Errorf("lookup 127.0.0.2:9000: %q %d %v", owner, port, ok)
	}
	if _, _, ok := p.Lookup("tcp", netip.MustParseAddrPort("127.0.0.3:9000")); ok {
		t.Error("lookup 127.0.0.3:9000 found something")
	}
}

func TestPortsSkipAndExhaustion(t *testing.T) {
	p := NewPorts()
	inUse := func(m model.PortMapping) bool { return m.HostPort < 20008 }
	m, err := p.Allocate(mapping(t, "80"), "a", inUse)
	if err != nil || m.HostPort != 20008 {
		t.Errorf("got %d %v, want the first port not in use elsewhere, 20008", m.HostPort, err)
	}
	if _, err := p.Allocate(mapping(t, "7000-7001:80"), "a", nil); err != nil {
		t.Fatal(err)
	}
	p.Allocate(mapping(t, "7000-7001:80"), "a", nil)
	if _, err := p.Allocate(mapping(t, "7000-7001:80"), "a", nil); !errors.Is(err, ErrExhausted) {
		t.Errorf("third port of two: %v, want ErrExhausted", err)
	}
}

func TestUndoLeavesNoTrace(t *testing.T) {
	p := NewPool(subnet("10.0.0.0/28", "10.0.0.1"))
	for range 2 { // from a fresh pool, and from a used one
		last := p.Last()
		first, _ := p.Allocate("x", t0)
		second, _ := p.Allocate("x", t0)
		p.Undo(second)
		p.Undo(first)
		p.SetLast(last)
		if again, _ := p.Allocate("x", t0); again != first {
			t.Errorf("after an undo: %s, want %s", again, first)
		}
	}
	ports := NewPorts()
	auto := model.PortMapping{Proto: "tcp", Port: 80, Count: 2}
	a, _ := ports.Allocate(auto, "x", nil)
	b, _ := ports.Allocate(auto, "x", nil)
	ports.Undo(b)
	ports.Undo(a)
	if again, _ := ports.Allocate(auto, "x", nil); again != a {
		t.Errorf("after an undo: %s, want %s", again, a)
	}
	fixed := model.PortMapping{Proto: "tcp", HostPort: 1, Port: 80, Count: 1}
	ports.Allocate(fixed, "x", nil)
	ports.Undo(fixed)
	if next, _ := ports.Allocate(auto, "x", nil); next.HostPort != a.HostPort+2 {
		t.Errorf("undoing a port that was asked for moved the search to %d", next.HostPort)
	}
}

func TestWildcardsMeet(t *testing.T) {
	at := func(s string) netip.Addr { a, _ := netip.ParseAddr(s); return a } // "" is every address
	for _, c := range []struct {
		first, second string
		conflict      bool
	}{
		{"", "::", true}, {"::", "", true}, {"::", "2001:db8::1", true}, {"2001:db8::1", "::", true},
		{"::", "192.0.2.1", false}, {"192.0.2.1", "::", false}, {"::1", "2001:db8::1", false},
	} {
		p := NewPorts()
		m := model.PortMapping{Proto: "tcp", HostPort: 80, Port: 80, Count: 1, HostIP: at(c.first)}
		if _, err := p.Allocate(m, "web", nil); err != nil {
			t.Fatal(err)
		}
		m.HostIP = at(c.second)
		if _, err := p.Allocate(m, "db", nil); (err != nil) != c.conflict {
			t.Errorf("%q after %q: %v", c.second, c.first, err)
		}
	}
}
