package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestWayOptions(t *testing.T) {
	for _, c := range []struct{ key, value, want, err string }{
		{"gateway", "192.0.2.1", "[192.0.2.1]", ""},
		{"gateway", "192.0.2.1,2001:db8::1", "[192.0.2.1 2001:db8::1]", ""},
		{"gateway", "fe80::1", "[fe80::1]", ""},
		{"gateway", "192.0.2.1,192.0.2.2", "", "second of its family"},
		{"gateway", "0.0.0.0", "", "want the address of a router"},
		{"gateway", "", "", "want the address of a router"},
		{"gateway", "fe80::1%eth0", "", "want the address of a router"},
		{"route", "198.51.100.0/24=192.0.2.1,203.0.113.7", "[{198.51.100.0/24 192.0.2.1} {203.0.113.7/32 invalid IP}]", ""},
		{"route", "198.51.100.1/24", "", "host bits are set, should be 198.51.100.0/24"},
		{"route", "::/0=2001:db8::1", "", "is option gateway"},
		{"route", "198.51.100.0/24=2001:db8::1", "", "two address families"},
		{"route", "198.51.100.0/24,198.51.100.0/24", "", "is there twice"},
		{"route", "x", "", "want ADDRESS/BITS"},
		{"route", "0.0.0.0/1,128.0.0.0/1", "[{0.0.0.0/1 invalid IP} {128.0.0.0/1 invalid IP}]", ""},
		{"route", "0.0.0.0", "", "is nobody"},
		{"route", "::", "", "is nobody"},
		{"route", "127.0.0.0/8=192.0.2.1", "", "is nobody"},
		{"route", "255.255.255.255", "", "is nobody"},
		{"mtu", "1400", "1400", ""},
		{"mtu", "67", "", "want 68 to 65535"},
		{"hostif", "web-on-br1", "web-on-br1", ""},
		{"hostif", "a/b", "", "not allowed"},
		{"hostif", "a\tb", "", "not allowed"},
		{"hostif", strings.Repeat("x", 16), "", "at most 15"},
	} {
		o, err := ParseEndpointOptions(map[string]string{c.key: c.value})
		got := map[string]any{"gateway": o.Routers, "route": o.Routes, "mtu": o.MTU, "hostif": o.Alias}[c.key]
		if c.err == "" && (err != nil || fmt.Sprint(got) != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s=%s: %v, %v", c.key, c.value, got, err)
		}
	}
}

func TestWays(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	e := Endpoint{Addrs: []netip.Prefix{p("10.0.0.2/24")}, Outside: []netip.Prefix{p("192.0.2.2/28")}, Routes: []Route{
		{Dst: p("198.51.100.0/24"), Via: a("192.0.2.9")}, {Dst: p("203.0.113.0/24"), Via: a("192.0.2.99")}, {Dst: p("198.18.0.0/15"), Via: a("192.0.2.99")},
		{Dst: p("2001:db8::/32"), Via: a("fe80::9")},
	}}
	want := append([]Route{{Dst: p("192.0.2.99/32")}}, e.Routes...)
	if got := e.Ways(); !slices.Equal(got, want) {
		t.Errorf("ways: %v", got)
	}
}

func TestCheckOutside(t *testing.T) {
	for text, bad := range map[string]bool{
		"192.0.2.1/24": false, "192.0.2.1/32": false, "10.0.0.0/31": false, "2001:db8::1/64": false, "169.254.1.1/16": false,
		"192.0.2.0/24": true, "192.0.2.255/24": true, "127.0.0.1/8": true, "224.0.0.1/4": true, "0.0.0.1/8": true, "255.255.255.255/32": true,
		"::1/128": true, "fe80::1/64": true, "ff02::1/64": true, "10.0.0.1/0": true,
	} {
		if err := CheckOutside(netip.MustParsePrefix(text)); (err != nil) != bad {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestChores(t *testing.T) {
	for line, changes := range map[string]bool{
		"ip route show": false, "ip route": false, "ip route ls": false, "ip -6 route get 2001:db8::1": false, "tc qdisc": false, "tc -s qdisc show dev eth1": false,
		"tc q show dev eth1": false, "tc actions ls action gact": false, "tc act": false, "tc -n x f ls": false, "tc q add dev eth1 root pfifo": true,
		"ip route add 10.0.0.0/8 dev eth1": true, "ip route a 10.0.0.0/8 dev eth1": true, "ip rule del table 7": true, "ip route flush table 7": true,
		"tc qdisc add dev eth1 root pfifo": true, "ip -6 route replace default via fe80::1 dev eth1": true,
	} {
		if got := Chore(strings.Fields(line)).Changes(); got != changes {
			t.Errorf("%s: changes %v", line, got)
		}
	}
	var s Sandbox
	for _, line := range []string{
		"ip route add 10.0.0.0/8 dev eth1", "ip rule add table 7", "ip route add 10.1.0.0/16 dev eth1", "ip route add 10.0.0.0/8 dev eth1",
		"ip route d 10.1.0.0/16 dev eth1", "ip route del default",
	} {
		s.DoChore(strings.Fields(line))
	}
	want := "[[ip rule add table 7] [ip route add 10.0.0.0/8 dev eth1] [ip route del default]]"
	if got := fmt.Sprint(s.Chores); got != want {
		t.Errorf("left: %s", got)
	}
	if inverse, ok := s.Chores[1].Inverse(); !ok || strings.Join(inverse, " ") != "ip route del 10.0.0.0/8 dev eth1" {
		t.Errorf("inverse: %v", inverse)
	}
	if _, ok := s.Chores[2].Inverse(); ok {
		t.Error("a removal has an inverse")
	}
	if err := s.CheckChore(Chore{"ip", "route", "add", "\x1b[2J"}); err == nil {
		t.Error("a control character is taken")
	}
	if err := s.CheckChore(Chore{"tc", strings.Repeat("x", maxChoreBytes)}); err == nil {
		t.Error("too much is taken")
	}
}

// TestDetours: the halves of a subnet are where the bits say, and what the user says goes
// before.
func TestDetours(t *testing.T) {
	for _, c := range []struct {
		subnet, gateway, addr string
		driver                string
		apart                 bool
		own                   []Route
		want                  string
	}{
		{"fd01::/64", "fd01::1", "fd01::2/64", DriverBridge, true, nil, "[{fd01::1/128 invalid IP} {fd01::/65 fd01::1} {fd01::8000:0:0:0/65 fd01::1}]"},
		{"fd01:0:0:8::/61", "fd01:0:0:8::1", "fd01:0:0:8::2/61", DriverBridge, true, nil, "[{fd01:0:0:8::1/128 invalid IP} {fd01:0:0:8::/62 fd01:0:0:8::1} {fd01:0:0:c::/62 fd01:0:0:8::1}]"},
		{"fd01::/126", "fd01::1", "fd01::2/126", DriverBridge, true, nil, "[{fd01::1/128 invalid IP} {fd01::/127 fd01::1} {fd01::2/127 fd01::1}]"},
		{"fd01::/127", "fd01::", "fd01::1/127", DriverBridge, true, nil, "[]"},
		{"fd01::/64", "fd01::1", "fd01::2/64", DriverBridge, true, []Route{{Dst: netip.MustParsePrefix("fd01::/65")}}, "[{fd01::1/128 invalid IP} {fd01::8000:0:0:0/65 fd01::1}]"},
		{"fd01::/64", "fd01::1", "fd01::2/64", DriverBridge, false, nil, "[]"},
		{"fd01::/64", "fd01::1", "fd01::2/64", DriverOVS, true, nil, "[]"},
		{"10.1.0.0/24", "10.1.0.1", "10.1.0.2/24", DriverBridge, true, nil, "[]"},
	} {
		n := &Network{Driver: c.driver, Subnets: []Subnet{{Prefix: netip.MustParsePrefix(c.subnet), Gateway: netip.MustParseAddr(c.gateway)}}}
		n.Options.NoICC = c.apart
		e := &Endpoint{Addrs: []netip.Prefix{netip.MustParsePrefix(c.addr)}, Routes: c.own}
		if got := fmt.Sprint(n.Detours(e)); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.subnet, got, c.want)
		}
	}
}
