package conntrack

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

func TestAddTakesHostPortsOfUDP(t *testing.T) {
	ports := &kstate.NftSet{Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	at := &kstate.NftSet{Name: "ports_at4", Type: "ipv4_addr . inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	open := &kstate.NftSet{Name: "open4", Type: "ipv4_addr . inet_proto . inet_service"}
	for _, c := range []struct {
		op   kstate.Op
		want string
	}{
		{kstate.Op{New: kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.2 . 5353"}}, "map[53:[10.0.0.2:5353]]"},
		{kstate.Op{Old: kstate.Elem{Set: at, At: "192.0.2.1 . udp . 53", Value: "10.0.0.2 . 53"}}, "map[53:[]]"},
		{kstate.Op{New: kstate.Elem{Set: ports, At: "udp . 65534-65535", Value: "10.0.0.2"}}, "map[65534:[10.0.0.2:65534] 65535:[10.0.0.2:65535]]"},
		{kstate.Op{
			Old: kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.2 . 53"},
			New: kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.3 . 53"},
		}, "map[53:[10.0.0.3:53]]"},
		{kstate.Op{New: kstate.Elem{Set: ports, At: "tcp . 53"}}, "map[]"},
		{kstate.Op{New: kstate.Elem{Set: open, At: "192.0.2.1 . udp . 53"}}, "map[]"},
		{kstate.Op{New: kstate.Addr{}}, "map[]"},
	} {
		got := Ports{}
		got.Add(c.op)
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: got %v, want %s", c.op, got, c.want)
		}
	}
}

// TestAddFollowsAPort sees a port come, go and come again at another place.
func TestAddFollowsAPort(t *testing.T) {
	ports := &kstate.NftSet{Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	a := kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.2 . 53"}
	b := kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.3 . 53"}
	got := Ports{}
	for _, op := range []kstate.Op{{New: a}, {Old: a}, {New: b}} {
		got.Add(op)
	}
	if want := "map[53:[10.0.0.3:53]]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestEnded sees a backend of a service go and come back.
func TestEnded(t *testing.T) {
	set := &kstate.NftSet{Table: kstate.Table{Family: "bridge", Name: "sealane"}, Name: "answers4", Type: "ipv4_addr . inet_proto . inet_service"}
	udp, tcp := kstate.Elem{Set: set, At: "10.1.0.2 . udp . 53"}, kstate.Elem{Set: set, At: "10.1.0.2 . tcp . 80"}
	own := &kstate.NftSet{Table: kstate.Table{Family: "inet", Name: "sealane"}, Name: "open4", Type: "ipv4_addr . inet_proto . inet_service"}
	for _, c := range []struct {
		ops  []kstate.Op
		want string
	}{
		{[]kstate.Op{{Old: udp}, {Old: tcp}}, "map[10.1.0.2:53:true]"},
		{[]kstate.Op{{Old: udp}, {New: udp}}, "map[]"},
		{[]kstate.Op{{Old: kstate.Elem{Set: own, At: "10.1.0.2 . udp . 53"}}}, "map[]"},
		{[]kstate.Op{{Old: kstate.Addr{}}}, "map[]"},
	} {
		got := Ended{}
		for _, op := range c.ops {
			got.Add(op)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v, want %s", c.ops, got, c.want)
		}
	}
	verdicts := &kstate.NftSet{Name: "service4", Type: "ipv4_addr . inet_proto . inet_service", Data: "verdict"}
	ports := Ports{}
	if ports.Add(kstate.Op{New: kstate.Elem{Set: verdicts, At: "10.1.0.200 . udp . 53", Value: "goto pick3"}}); len(ports) != 0 {
		t.Errorf("a service is no port of the host: %v", ports)
	}
}

// TestOpened sees published ports of services come, change and go, and which flows are out of
// date by that: those to the host that lead nowhere yet.
func TestOpened(t *testing.T) {
	every := &kstate.NftSet{Name: "published4", Type: "inet_proto . inet_service", Data: "verdict"}
	every6 := &kstate.NftSet{Name: "published6", Type: "inet_proto . inet_service", Data: "verdict"}
	one := &kstate.NftSet{Name: "published_at4", Type: "ipv4_addr . inet_proto . inet_service", Data: "verdict"}
	other := &kstate.NftSet{Name: "service4", Type: "ipv4_addr . inet_proto . inet_service", Data: "mark"}
	udp, two := kstate.Elem{Set: every, At: "udp . 53", Value: "goto pick1"}, kstate.Elem{Set: every, At: "udp . 53", Value: "goto pick2"}
	for _, c := range []struct {
		ops  []kstate.Op
		want string
	}{
		{[]kstate.Op{{New: udp}, {New: kstate.Elem{Set: every, At: "tcp . 80", Value: "goto pick1"}}}, "map[0.0.0.0:53:true]"},
		{[]kstate.Op{{New: kstate.Elem{Set: every6, At: "udp . 53", Value: "goto pick1"}}, {New: kstate.Elem{Set: one, At: "192.0.2.1 . udp . 54", Value: "goto pick1"}}}, "map[[::]:53:true 192.0.2.1:54:true]"},
		{[]kstate.Op{{New: udp}, {Old: udp}}, "map[]"},
		{[]kstate.Op{{Old: udp}, {New: two}}, "map[0.0.0.0:53:true]"},
		{[]kstate.Op{{New: kstate.Elem{Set: other, At: "10.1.0.200 . udp . 53", Value: "0x00000001"}}, {New: kstate.Addr{}}, {New: kstate.Elem{Set: every, At: "udp . x"}}, {New: kstate.Elem{Set: one, At: "x . udp . 53"}}}, "map[]"},
	} {
		got := Opened{}
		for _, op := range c.ops {
			got.Add(op)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v, want %s", c.ops, got, c.want)
		}
	}
	s := newStale()
	s.opened.Add(kstate.Op{New: udp})
	s.opened.Add(kstate.Op{New: kstate.Elem{Set: one, At: "192.0.2.1 . udp . 54", Value: "goto pick1"}})
	s.local = map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true, netip.MustParseAddr("192.0.2.2"): true, netip.MustParseAddr("2001:db8::1"): true}
	for _, c := range []struct {
		asked, answers string
		proto          uint8
		want           bool
	}{
		{"192.0.2.1:53", "192.0.2.1:53", unix.IPPROTO_UDP, true},
		{"192.0.2.1:53", "10.1.0.2:53", unix.IPPROTO_UDP, false}, // a backend has it
		{"192.0.2.1:53", "192.0.2.1:53", unix.IPPROTO_TCP, false},
		{"192.0.2.9:53", "192.0.2.9:53", unix.IPPROTO_UDP, false}, // another machine's resolver
		{"192.0.2.1:54", "192.0.2.1:54", unix.IPPROTO_UDP, true},
		{"192.0.2.2:54", "192.0.2.2:54", unix.IPPROTO_UDP, false},
		{"[2001:db8::1]:53", "[2001:db8::1]:53", unix.IPPROTO_UDP, false},
	} {
		asked, answers := netip.MustParseAddrPort(c.asked), netip.MustParseAddrPort(c.answers)
		f := &netlink.ConntrackFlow{
			Forward: netlink.IPTuple{DstIP: asked.Addr().AsSlice(), DstPort: asked.Port(), Protocol: c.proto},
			Reverse: netlink.IPTuple{SrcIP: answers.Addr().AsSlice(), SrcPort: answers.Port(), Protocol: c.proto},
		}
		if got := s.MatchConntrackFlow(f); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestClosed: a port that is given back ends what is sent on from it, and nothing else.
func TestClosed(t *testing.T) {
	s := newStale()
	at := netip.MustParseAddr("192.0.2.1")
	s.local = map[netip.Addr]bool{at: true, netip.MustParseAddr("192.0.2.2"): true}
	for _, op := range []kstate.Op{
		{Old: kstate.Hold{Proto: "udp", First: 53, Last: 54}}, {New: kstate.Hold{Proto: "udp", First: 54, Last: 54}},
		{Old: kstate.Hold{Proto: "udp", Addr: at, First: 60, Last: 60}}, {Old: kstate.Hold{Proto: "tcp", First: 80, Last: 80}},
	} {
		s.closed.Add(op)
	}
	for _, c := range []struct {
		asked, answers string
		want           bool
	}{
		{"192.0.2.1:53", "10.1.0.2:53", true},
		{"192.0.2.1:53", "192.0.2.1:53", false}, // a program of the host
		{"192.0.2.9:53", "10.1.0.2:53", false},  // another machine
		{"192.0.2.1:54", "10.1.0.2:53", false},  // taken again
		{"192.0.2.1:60", "10.1.0.2:60", true},
		{"192.0.2.2:60", "10.1.0.2:60", false},
		{"192.0.2.1:80", "10.1.0.2:80", false},
	} {
		if got := s.MatchConntrackFlow(flow(c.asked, c.answers)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// flow is one by UDP, from where it was asked for to who answers.
func flow(asked, answers string) *netlink.ConntrackFlow {
	a, b := netip.MustParseAddrPort(asked), netip.MustParseAddrPort(answers)
	return &netlink.ConntrackFlow{
		Forward: netlink.IPTuple{DstIP: a.Addr().AsSlice(), DstPort: a.Port(), Protocol: unix.IPPROTO_UDP},
		Reverse: netlink.IPTuple{SrcIP: b.Addr().AsSlice(), SrcPort: b.Port(), Protocol: unix.IPPROTO_UDP},
	}
}

// TestPassed: two services pass their ports to each other by UDP, and a backend drains.
func TestPassed(t *testing.T) {
	set := &kstate.NftSet{Name: "target4", Type: "inet_proto . inet_service . mark", Data: "ipv4_addr . inet_service"}
	at := func(port, n int, to string) kstate.Object {
		return kstate.Elem{Set: set, At: fmt.Sprintf("udp . %d . 0x%08x", port, n), Value: to + " . 53"}
	}
	s := newStale()
	s.local = map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}
	s.unchosen.Add([]kstate.Op{
		{Old: at(53, 0, "10.1.0.2"), New: at(53, 0, "10.1.0.3")}, {Old: at(54, 0, "10.1.0.3"), New: at(54, 0, "10.1.0.2")},
		{Old: at(55, 0, "10.1.0.4"), New: at(55, 0, "10.1.0.5")}, {Old: at(55, 1, "10.1.0.5")},
	})
	for _, c := range []struct {
		asked, answers string
		want           bool
	}{
		{"192.0.2.1:53", "10.1.0.2:53", true},
		{"192.0.2.1:53", "10.1.0.3:53", false}, // begun since
		{"192.0.2.1:54", "10.1.0.3:53", true},
		{"192.0.2.1:55", "10.1.0.4:53", false}, // drains
		{"192.0.2.1:55", "10.1.0.5:53", false},
		{"192.0.2.9:53", "10.1.0.2:53", false}, // of another machine
	} {
		if got := s.MatchConntrackFlow(flow(c.asked, c.answers)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestUnchosen sees backends of services go, change places and come back.
func TestUnchosen(t *testing.T) {
	set := &kstate.NftSet{Table: kstate.Table{Family: "inet", Name: "sealane"}, Name: "backend4", Type: "ipv4_addr . inet_proto . inet_service . mark", Data: "ipv4_addr . inet_service"}
	at := func(proto string, n int, to string) kstate.Object {
		return kstate.Elem{Set: set, At: fmt.Sprintf("10.1.0.200 . %s . 80 . 0x%08x", proto, n), Value: to + " . 8080"}
	}
	const gone = "map[{10.1.0.200:80 10.1.0.2:8080 0}:true]"
	first := []kstate.Op{{Old: at("tcp", 0, "10.1.0.2"), New: at("tcp", 0, "10.1.0.3")}, {Old: at("tcp", 1, "10.1.0.3"), New: at("tcp", 1, "10.1.0.4")}, {Old: at("tcp", 2, "10.1.0.4")}}
	for _, c := range []struct {
		name string
		at   [][]kstate.Op
		want string
	}{
		{"the first of three", [][]kstate.Op{first}, gone},
		{"it comes back", [][]kstate.Op{first, {{New: at("tcp", 2, "10.1.0.2")}}}, "map[{10.1.0.200:80 10.1.0.2:8080 0}:false]"},
		{"it comes, and goes", [][]kstate.Op{{{New: at("tcp", 0, "10.1.0.2")}}, {{Old: at("tcp", 0, "10.1.0.2")}}}, gone},
		{"two change places", [][]kstate.Op{{{Old: at("tcp", 0, "10.1.0.2"), New: at("tcp", 0, "10.1.0.3")}, {Old: at("tcp", 1, "10.1.0.3"), New: at("tcp", 1, "10.1.0.2")}}}, "map[]"},
		{"by UDP", [][]kstate.Op{{{Old: at("udp", 0, "10.1.0.2")}}}, "map[]"},
		{"nonsense", [][]kstate.Op{{{Old: kstate.Elem{Set: set, At: "x . tcp . 80 . 0", Value: "y . 80"}}, {Old: kstate.Elem{Set: set}}}}, "map[]"},
	} {
		got := Unchosen{}
		for _, ops := range c.at {
			got.Add(ops)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
}

// TestUnchosenPorts sees published ports of containers move by TCP and SCTP.
func TestUnchosenPorts(t *testing.T) {
	ports := &kstate.NftSet{Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	at6 := &kstate.NftSet{Name: "ports_at6", Type: "ipv6_addr . inet_proto . inet_service", Data: "ipv6_addr . inet_service"}
	ranges := &kstate.NftSet{Name: "ranges6", Type: "inet_proto . inet_service", Data: "ipv6_addr"}
	open := &kstate.NftSet{Name: "open4", Type: "ipv4_addr . inet_proto . inet_service"}
	a, b := kstate.Elem{Set: ports, At: "tcp . 8080", Value: "10.0.0.2 . 80"}, kstate.Elem{Set: ports, At: "tcp . 8080", Value: "10.0.0.3 . 80"}
	const gone = "map[{0.0.0.0:8080 10.0.0.2:80 6}:true {0.0.0.0:8080 10.0.0.3:80 6}:false]"
	for _, c := range []struct {
		name string
		at   [][]kstate.Op
		want string
	}{
		{"it moves", [][]kstate.Op{{{Old: a, New: b}}}, gone},
		{"it goes, and comes elsewhere", [][]kstate.Op{{{Old: a}}, {{New: b}}}, gone},
		{"it comes back", [][]kstate.Op{{{Old: a}}, {{New: a}}}, "map[{0.0.0.0:8080 10.0.0.2:80 6}:false]"},
		{"at one address", [][]kstate.Op{{{Old: kstate.Elem{Set: at6, At: "2001:db8::1 . tcp . 8080", Value: "fd00::2 . 80"}}}}, "map[{[2001:db8::1]:8080 [fd00::2]:80 6}:true]"},
		{"a range", [][]kstate.Op{{{Old: kstate.Elem{Set: ranges, At: "tcp . 65534-65535", Value: "fd00::2"}}}}, "map[{[::]:65534 [fd00::2]:65534 6}:true {[::]:65535 [fd00::2]:65535 6}:true]"},
		{"by SCTP", [][]kstate.Op{{{Old: kstate.Elem{Set: ports, At: "sctp . 53", Value: "10.0.0.2 . 53"}}}}, "map[{0.0.0.0:53 10.0.0.2:53 132}:true]"},
		{"by UDP", [][]kstate.Op{{{Old: kstate.Elem{Set: ports, At: "udp . 53", Value: "10.0.0.2 . 53"}}}}, "map[]"},
		{"what is open", [][]kstate.Op{{{Old: kstate.Elem{Set: open, At: "10.0.0.2 . tcp . 80"}}, {Old: kstate.Addr{}}}}, "map[]"},
	} {
		got := Unchosen{}
		for _, ops := range c.at {
			got.Add(ops)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
}

// TestUnchosenHas: of a port of all addresses that now is one address's, the flows to that one stay.
func TestUnchosenHas(t *testing.T) {
	ports := &kstate.NftSet{Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	at := &kstate.NftSet{Name: "ports_at4", Type: "ipv4_addr . inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	u := Unchosen{}
	u.Add([]kstate.Op{{Old: kstate.Elem{Set: ports, At: "tcp . 8080", Value: "10.0.0.2 . 80"}}, {New: kstate.Elem{Set: at, At: "192.0.2.1 . tcp . 8080", Value: "10.0.0.2 . 80"}}})
	for _, c := range []struct {
		asked, at string
		proto     uint8
		want      bool
	}{
		{"192.0.2.3:8080", "10.0.0.2:80", 6, true},
		{"192.0.2.1:8080", "10.0.0.2:80", 6, false},
		{"192.0.2.3:8080", "10.0.0.2:80", 132, false},
		{"192.0.2.3:8080", "10.0.0.3:80", 6, false}, // somebody else's
		{"192.0.2.3:8081", "10.0.0.2:80", 6, false},
		{"[2001:db8::1]:8080", "10.0.0.2:80", 6, false},
	} {
		if got := u.has(netip.MustParseAddrPort(c.asked), netip.MustParseAddrPort(c.at), c.proto); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestHandedOver: a service came to have a port, and another goes on with its backend elsewhere.
func TestHandedOver(t *testing.T) {
	s := newStale()
	if !s.empty() {
		t.Fatal("not empty")
	}
	s.local = map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true, netip.MustParseAddr("192.0.2.2"): true}
	s.handed[netip.MustParseAddrPort("0.0.0.0:53")] = []netip.AddrPort{netip.MustParseAddrPort("10.1.0.3:53")}
	s.handed[netip.MustParseAddrPort("192.0.2.1:54")] = nil
	if s.empty() {
		t.Error("nothing is pending")
	}
	for _, c := range []struct {
		asked, answers string
		want           bool
	}{
		{"192.0.2.1:53", "10.1.0.2:53", true},
		{"192.0.2.1:53", "10.1.0.3:53", false}, // begun since
		{"192.0.2.1:53", "192.0.2.1:53", false},
		{"192.0.2.9:53", "10.1.0.2:53", false}, // of another machine
		{"192.0.2.1:54", "10.1.0.2:53", true},
		{"192.0.2.2:54", "10.1.0.2:53", false},
	} {
		if got := s.MatchConntrackFlow(flow(c.asked, c.answers)); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
