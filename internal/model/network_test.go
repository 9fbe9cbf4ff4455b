package model

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func addrOf(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func prefixOf(s string) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(s)
}

func TestSubnetValidate(t *testing.T) {
	for _, c := range []struct {
		prefix, gateway, ipRange, aux string
		want                          string // "" is valid
	}{
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.128/25", "10.0.0.9", ""},
		{"10.0.0.0/24", "", "", "", ""},
		{"10.0.0.0/31", "10.0.0.0", "", "", ""},
		{"fd00::/127", "fd00::", "", "", ""},
		{"fd00::/64", "fd00::1", "fd00::1:0/112", "", ""},
		{"169.254.0.0/16", "", "", "", ""},
		{"", "", "", "", "subnet: missing"},
		{"10.0.0.1/24", "", "", "", "host bits are set, should be 10.0.0.0/24"},
		{"::ffff:10.0.0.0/120", "", "", "", "write an IPv4 subnet as IPv4"},
		{"10.0.0.0/32", "", "", "", "no room for a gateway and a container"},
		{"fd00::1/128", "", "", "", "no room"},
		{"0.0.0.0/0", "", "", "", "not a subnet for hosts"},
		{"::/0", "", "", "", "not a subnet for hosts"},
		{"127.1.0.0/16", "", "", "", "not a subnet for hosts"},
		{"126.0.0.0/7", "", "", "", "not a subnet for hosts"},
		{"224.0.0.0/24", "", "", "", "not a subnet for hosts"},
		{"192.0.0.0/2", "", "", "", "not a subnet for hosts"},
		{"ff00::/16", "", "", "", "not a subnet for hosts"},
		{"fe80::/64", "", "", "", "link-local addresses are the same on every network"},
		{"10.0.0.0/24", "10.0.1.1", "", "", "gateway 10.0.1.1: outside subnet 10.0.0.0/24"},
		{"10.0.0.0/24", "10.0.0.0", "", "", "gateway 10.0.0.0: is the network or broadcast address"},
		{"10.0.0.0/24", "10.0.0.255", "", "", "gateway 10.0.0.255: is the network or broadcast"},
		{"10.0.0.0/24", "::ffff:10.0.0.1", "", "", "outside subnet"},
		{"fd00::/64", "fd00::", "", "", "gateway fd00::: is the network"},
		{"10.0.0.0/31", "10.0.0.2", "", "", "gateway 10.0.0.2: outside subnet 10.0.0.0/31"},
		{"fd00::/64", "fd00::1%eth0", "", "", "outside subnet"},
		{"10.0.0.0/24", "fd00::1", "", "", "gateway fd00::1: outside subnet 10.0.0.0/24"},
		{"fd00::/48", "", "fd00:0:0:8000::/49", "", ""},
		{"fd00::/48", "", "fd00:0:0:ffff::/48", "", "ip-range fd00:0:0:ffff::/48: host bits are set, should be fd00::/48"},
		{"fd00::/64", "", "fd00:0:0:1::/65", "", "ip-range fd00:0:0:1::/65: not inside subnet fd00::/64"},
		{"10.0.0.0/24", "10.0.0.1", "10.0.0.1/32", "", ""}, // static addresses only
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.0.255", "aux-address a=10.0.0.255: is the network or broadcast address"},
		{"10.0.0.0/24", "", "", "10.0.0.0", "aux-address a=10.0.0.0: is the network or broadcast address"},
		{"10.0.0.0/24", "", "", "fd00::9", "aux-address a=fd00::9: outside subnet"},
		{"10.0.0.0/24", "", "", "10.0.0.9", ""},
		{"10.0.0.0/24", "", "10.0.0.1/25", "", "ip-range 10.0.0.1/25: host bits are set, should be 10.0.0.0/25"},
		{"10.0.0.0/24", "", "10.0.1.0/25", "", "ip-range 10.0.1.0/25: not inside subnet 10.0.0.0/24"},
		{"10.0.0.0/24", "", "10.0.0.0/16", "", "ip-range 10.0.0.0/16: not inside"},
		{"10.0.0.0/24", "", "fd00::/64", "", "ip-range fd00::/64: not inside"},
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.0.1", "aux-address a=10.0.0.1: is the gateway already"},
		{"10.0.0.0/24", "10.0.0.1", "", "10.0.9.9", "aux-address a=10.0.9.9: outside subnet"},
	} {
		s := Subnet{Prefix: prefixOf(c.prefix), Gateway: addrOf(c.gateway), Range: prefixOf(c.ipRange)}
		if c.aux != "" {
			s.Aux = map[string]netip.Addr{"a": addrOf(c.aux)}
		}
		err := s.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", s, err, c.want)
		}
	}
	twice := Subnet{Prefix: prefixOf("10.0.0.0/24"), Aux: map[string]netip.Addr{"a": addrOf("10.0.0.9"), "b": addrOf("10.0.0.9")}}
	if err := twice.Validate(); err == nil || !strings.Contains(err.Error(), "aux-address b=10.0.0.9: is aux-address a already") {
		t.Error(err)
	}
}

func FuzzSubnetValidate(f *testing.F) {
	f.Add("10.0.0.0/24", "10.0.0.1", "10.0.0.128/25")
	f.Add("fd00::/127", "fd00::1", "")
	f.Fuzz(func(t *testing.T, prefix, gateway, ipRange string) {
		var s Subnet
		s.Prefix, _ = netip.ParsePrefix(prefix)
		s.Gateway, _ = netip.ParseAddr(gateway)
		s.Range, _ = netip.ParsePrefix(ipRange)
		if s.Validate() != nil {
			return
		}
		if g := s.Gateway; g.IsValid() && (!s.Prefix.Contains(g) || s.Reserved(g)) {
			t.Errorf("%+v: the gateway is no host of it", s)
		}
		if r := s.Range; r.IsValid() && (!s.Prefix.Contains(r.Addr()) || !s.Prefix.Contains(Last(r))) {
			t.Errorf("%+v: the range leaves it", s)
		}
		if l := Last(s.Prefix); !s.Prefix.Contains(l) || l.IsLoopback() || l.IsMulticast() {
			t.Errorf("%+v: last address %s", s, l)
		}
	})
}

func TestReserved(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.0.0.0/30": "10.0.0.0 10.0.0.3", "10.0.0.0/31": "", "fd00::/126": "fd00::", "fd00::/127": "",
	} {
		s := Subnet{Prefix: prefixOf(prefix)}
		var got []string
		for a := s.Prefix.Addr(); s.Prefix.Contains(a); a = a.Next() {
			if s.Reserved(a) {
				got = append(got, a.String())
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", prefix, got, want)
		}
	}
}

func TestLast(t *testing.T) {
	for _, text := range []string{"10.1.2.3/32", "10.1.2.3/31", "10.1.2.3/25", "10.1.2.3/24", "10.1.2.3/23", "10.1.2.3/9", "10.1.2.3/8", "10.1.2.3/0",
		"fd00::9/128", "fd00::9/127", "fd00::9/120", "fd00::9/65", "fd00::9/64", "fd00::9/63", "fd00::9/1", "fd00::9/0"} {
		p := prefixOf(text)
		if last := Last(p); !p.Contains(last) || p.Contains(last.Next()) || last.Is4() != p.Addr().Is4() {
			t.Errorf("%s: %s", p, last)
		}
	}
}

func TestNetworkValidate(t *testing.T) {
	sub := func(prefixes ...string) (out []Subnet) {
		for _, p := range prefixes {
			out = append(out, Subnet{Prefix: prefixOf(p)})
		}
		return out
	}
	for _, c := range []struct {
		n    Network
		want string
	}{
		{Network{Name: "app", Subnets: sub("10.0.0.0/24", "fd00::/64"), Options: Options{MTU: 1280}}, ""},
		{Network{Name: "app", Subnets: sub("10.0.0.0/24"), Options: Options{MTU: 68}}, ""},
		{Network{Name: "-", Subnets: sub("10.0.0.0/24")}, `network -: create: name "-"`},
		{Network{Name: "app"}, "network app: create: no subnet"},
		{Network{Name: "app", Driver: "bridge", Subnets: sub("10.0.0.0/24", "10.1.0.0/24")}, "subnet 10.1.0.0/24: a bridge network takes one subnet of each address family"},
		{Network{Name: "app", Driver: "ovs", Subnets: sub("fd00::/64", "fd01::/64")}, "subnet fd01::/64: a ovs network takes one subnet of each address family"},
		{Network{Name: "app", Driver: "macvlan", Internal: true, Subnets: sub("10.0.0.0/24", "fd00::/64", "10.1.0.0/24", "fd01::/64")}, ""},
		{Network{Name: "app", Driver: "ipvlan", Internal: true, Subnets: sub("10.0.0.0/24", "10.1.0.0/24")}, ""},
		{Network{Name: "app", Driver: "macvlan", Internal: true, Subnets: sub("10.0.0.0/16", "fd00::/64", "10.0.1.0/24")}, "subnet 10.0.1.0/24: overlaps 10.0.0.0/16 of the same network"},
		{Network{Name: "app", Driver: "ipvlan", Internal: true, Subnets: sub("10.0.0.0/24", "10.0.0.0/24")}, "subnet 10.0.0.0/24: overlaps 10.0.0.0/24 of the same network"},
		{Network{Name: "app", Driver: "macvlan", Internal: true, Subnets: sub("10.0.0.0/24", "10.1.0.0/24"), Options: Options{Leg4: netip.MustParseAddr("10.1.0.9")}}, ""},
		{Network{Name: "app", Driver: "macvlan", Internal: true, Subnets: sub("10.0.0.0/24", "10.1.0.0/24"), Options: Options{Leg4: netip.MustParseAddr("10.1.0.255")}}, "option host-leg: 10.1.0.255: is the network or broadcast address of 10.1.0.0/24"},
		{Network{Name: "app", Driver: "macvlan", Internal: true, Subnets: sub("10.0.0.0/24", "10.1.0.0/24"), Options: Options{Leg4: netip.MustParseAddr("10.2.0.1")}}, "option host-leg: 10.2.0.1: outside subnet"},
		{Network{Name: "app", Subnets: sub("10.0.0.1/24")}, "host bits"},
		{Network{Name: "app", Subnets: sub("10.0.0.0/24"), Options: Options{Device: "a/b"}}, "interface name"},
		{Network{Name: "app", Subnets: sub("fd00::/64"), Options: Options{MTU: 1279}}, "mtu 1279: IPv6 needs at least 1280"},
	} {
		err := c.n.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.n, err, c.want)
		}
		if err != nil && KindOf(err) != Invalid {
			t.Errorf("%v is of kind %s", err, KindOf(err))
		}
	}
}

func TestDeviceNamesFit(t *testing.T) {
	id := ID("0123456789ab")
	for _, name := range []string{(&Network{ID: id}).Device(), (&Endpoint{ID: id}).Device()} {
		if err := CheckIfName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		kv   map[string]string
		want Options
	}{
		{nil, Options{}},
		{map[string]string{"icc": "false", "masquerade": "0", "mtu": "1400", "name": "br0"}, Options{NoICC: true, NoMasq: true, MTU: 1400, Device: "br0"}},
		{map[string]string{"icc": "TRUE", "masquerade": "t"}, Options{}},
		{map[string]string{"com.docker.network.bridge.enable_icc": "false", "com.docker.network.driver.mtu": "9000"}, Options{NoICC: true, MTU: 9000}},
	} {
		if got, err := ParseOptions("bridge", c.kv); err != nil || got != c.want {
			t.Errorf("%v: %+v, %v", c.kv, got, err)
		}
	}
	for _, c := range []struct{ driver, key, value, want string }{
		{"bridge", "icc", "maybe", `option icc: "maybe": want true or false`},
		{"bridge", "mtu", "67", `option mtu: "67": want 68 to 65535 bytes`},
		{"bridge", "mtu", "65536", "want 68 to 65535 bytes"},
		{"bridge", "mtu", "1500b", "want 68 to 65535 bytes"},
		{"bridge", "name", "", "option name: interface name"},
		{"bridge", "name", "a b", "option name: interface name"},
		{"bridge", "ICC", "true", `option "ICC": not known to driver bridge, which knows advertise-count, advertise-interval, antispoof, dad, gateway-mode`},
		{"bridge", "host-leg", "192.0.2.9", `not known to driver bridge`},
		{"ghost", "mtu", "1500", `not known to driver ghost`},
	} {
		if o, err := ParseOptions(c.driver, map[string]string{c.key: c.value}); err == nil || !strings.Contains(err.Error(), c.want) || o != (Options{}) {
			t.Errorf("%s=%s: %+v, %v, want %q", c.key, c.value, o, err, c.want)
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add("mtu", "1500")
	f.Add("icc", "0")
	f.Add("name", "br0")
	f.Fuzz(func(t *testing.T, k, v string) {
		o, err := ParseOptions("bridge", map[string]string{k: v})
		if err != nil {
			return
		}
		again, err := ParseOptions("bridge", o.Map())
		if err != nil || again != o || o.Validate() != nil {
			t.Errorf("%s=%s: %+v prints as %v, which reads as %+v, %v", k, v, o, o.Map(), again, err)
		}
	})
}

func TestSandboxValidate(t *testing.T) {
	good := func() *Sandbox {
		return &Sandbox{Name: "web", Hostname: "web", Domain: "example.net", Hosts: []HostEntry{{Name: "db", Addr: addrOf("10.0.0.9")}},
			DNS:     DNS{Servers: []netip.Addr{addrOf("192.0.2.53")}, Search: []string{"example.net.", "."}, Options: []string{"ndots:1"}},
			Sysctls: map[string]string{"net.core.somaxconn": "512"}}
	}
	for _, c := range []struct {
		change func(*Sandbox)
		want   string
	}{
		{func(*Sandbox) {}, ""},
		{func(s *Sandbox) { s.Hostname, s.Domain, s.DNS, s.Hosts, s.Sysctls = "", "", DNS{}, nil, nil }, ""},
		{func(s *Sandbox) { s.Name = "a b" }, `sandbox a b: create: name "a b"`},
		{func(s *Sandbox) { s.Hostname = "a b" }, "host name"},
		{func(s *Sandbox) { s.Domain = "a\nb" }, "host name"},
		{func(s *Sandbox) { s.Hosts[0].Name = "x\n127.0.0.1 y" }, "host name"},
		{func(s *Sandbox) { s.Hosts[0].Name = "" }, "host name"},
		{func(s *Sandbox) { s.Hosts[0].Addr = netip.Addr{} }, "add-host db: want an address"},
		{func(s *Sandbox) { s.DNS.Search = []string{"a b"} }, "host name"},
		{func(s *Sandbox) { s.DNS.Options = []string{"a\nnameserver 192.0.2.1"} }, "want one word"},
		{func(s *Sandbox) { s.Sysctls = map[string]string{"kernel.msgmax": "1"} }, `sysctl "kernel.msgmax": want a setting of the network`},
		{func(s *Sandbox) { s.Sysctls["net.core.somaxconn"] = "1\n" }, "want one line"},
	} {
		s := good()
		c.change(s)
		err := s.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || KindOf(err) != Invalid) {
			t.Errorf("%+v: %v, want %q", s, err, c.want)
		}
	}
}

func TestCloneIsIndependent(t *testing.T) {
	s := &Sandbox{Endpoints: []Endpoint{{ID: "a", Network: "n"}}, Ports: []PortMapping{{Port: 1}}, Process: &Process{PID: 1}, Exit: &Exit{Code: 1}}
	c := s.Clone()
	c.Endpoints[0].ID, c.Ports[0].Port, c.Process.PID, c.Exit.Code = "b", 2, 2, 2
	c.Endpoints = append(c.Endpoints, Endpoint{ID: "c", Network: "m"})
	if s.Endpoints[0].ID != "a" || s.Ports[0].Port != 1 || s.Process.PID != 1 || s.Exit.Code != 1 || s.Endpoint("m") != nil {
		t.Errorf("the original became %+v", s)
	}
	if c.Endpoint("n") != &c.Endpoints[0] || c.Endpoint("x") != nil {
		t.Error("endpoint by network")
	}
}

func TestBuiltin(t *testing.T) {
	names := map[string]bool{"bridge": true, "host": true, "none": true, "default": true, "app": false, "": false}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if Builtin(n) != names[n] {
			t.Errorf("%q: %v", n, Builtin(n))
		}
	}
}

func TestSubnetWith(t *testing.T) {
	n := &Network{Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}, {Prefix: netip.MustParsePrefix("fd00::/64")}, {Prefix: netip.MustParsePrefix("10.1.0.0/24")}}}
	for a, want := range map[string]string{"10.0.0.1": "10.0.0.0/24", "10.1.0.1": "10.1.0.0/24", "10.2.0.1": "10.0.0.0/24", "fd00::1": "fd00::/64", "fd01::1": "fd00::/64"} {
		if s, ok := n.SubnetWith(netip.MustParseAddr(a)); !ok || s.Prefix.String() != want {
			t.Errorf("%s: %s, %t, want %s", a, s.Prefix, ok, want)
		}
	}
	n.Subnets = n.Subnets[:1]
	if s, ok := n.SubnetWith(netip.MustParseAddr("fd00::1")); ok {
		t.Errorf("of a family that is not there: %s", s.Prefix)
	}
}
