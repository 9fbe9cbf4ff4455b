package model

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseEndpointOptions(t *testing.T) {
	const docker = "com.docker.network.endpoint."
	for _, c := range []struct {
		kv      map[string]string
		ifname  string
		sysctls []string
		err     string
	}{
		{map[string]string{"egress-rate": "10mbps"}, "", nil, "endpoint option egress-rate: \"10mbps\": want a number of bits"},
		{map[string]string{"egress-rate": "1m", docker + "egress-rate": "1m"}, "", nil, "given twice"},
		{nil, "", nil, ""},
		{map[string]string{"ifname": "Lan0"}, "Lan0", nil, ""},
		{map[string]string{docker + "ifname": "lan0", docker + "sysctls": "net.ipv4.conf.IFNAME.a=1,net.mpls.conf.IFNAME.input=1"}, "lan0",
			[]string{"net.ipv4.conf.IFNAME.a=1", "net.mpls.conf.IFNAME.input=1"}, ""},
		{map[string]string{"ifname": "a", docker + "ifname": "a"}, "", nil, "given twice"},
		{map[string]string{"ifname": ""}, "", nil, "empty"},
		{map[string]string{"sysctls": ""}, "", nil, "with the word IFNAME"},
		{map[string]string{"sysctls": "net.ipv4.conf.IFNAME.a=1,"}, "", nil, "with the word IFNAME"},
		{map[string]string{"colour": "red"}, "", nil, `"colour": not known (known: ifname, sysctls`},
	} {
		got, err := ParseEndpointOptions(c.kv)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %v, want %q", c.kv, err, c.err)
		}
		if err == nil && (got.IfName != c.ifname || !slices.Equal(got.Sysctls, c.sysctls)) {
			t.Errorf("%v: %+v", c.kv, got)
		}
	}
}

func TestParseEndpointLimits(t *testing.T) {
	got, err := ParseEndpointOptions(map[string]string{"ingress-rate": "10mbit", "ingress-burst": "1m", "egress-rate": "20000000", "egress-burst": "2m"})
	if want := (Limits{Limit{1e7, 1e6}, Limit{2e7, 2e6}}); err != nil || got.Limits != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCheckEndpointSysctls(t *testing.T) {
	for _, good := range []string{"net.ipv4.conf.IFNAME.log_martians=1", "net.ipv6.neigh.IFNAME.retrans_time_ms=5", "net.mpls.conf.IFNAME.input=1"} {
		if err := CheckEndpointSysctls([]string{good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "net.ipv4.conf.IFNAME.a", "net.ipv4.conf.IFNAME.a=", "net.ipv4.conf.eth0.a=1", "net.ipv4.conf.all.a=1", "net.core.IFNAME.a=1",
		"kernel.conf.IFNAME.a=1", "net.ipv4.conf.IFNAME.a.b=1", "net.ipv4.IFNAME.a=1", "net.ipv4.conf.IFNAME.a=1\n2", "net.ipv4.co/nf.IFNAME.a=1", "net.ipv4.conf.IFNAME.a =1"} {
		if err := CheckEndpointSysctls([]string{bad}); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := CheckEndpointSysctls([]string{"net.ipv4.conf.IFNAME.a=1", "net.ipv4.conf.IFNAME.a=2"}); err == nil {
		t.Error("one setting twice")
	}
	ep := Endpoint{IfName: "eth0.1", Sysctls: []string{"net.ipv4.conf.IFNAME.a=IFNAME", "net.ipv6.conf.IFNAME.b=2"}}
	if got, want := ep.InterfaceSysctls(), "net.ipv4.conf.eth0/1.a=IFNAME\nnet.ipv6.conf.eth0/1.b=2"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLinkLocalPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"169.254.1.2": "169.254.1.2/16", "fe80::2": "fe80::2/64", "169.254.0.0": "", "169.254.255.255": "", "10.0.0.1": "", "::1": "",
		"fe80::1": "", "fe80::2%eth0": "", "::ffff:169.254.1.2": "",
	} {
		p, err := LinkLocalPrefix(netip.MustParseAddr(text))
		if (err == nil) != (want != "") || err == nil && p.String() != want {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}

func TestParseLink(t *testing.T) {
	for text, want := range map[string]Link{
		"db": {Target: "db", Alias: "db"}, "db:Cache": {Target: "db", Alias: "Cache"}, "": {}, ":x": {}, "db:": {}, "db:a b": {}, "a b": {}, "db:a:b": {}, "db:a\nb": {},
	} {
		got, err := ParseLink(text)
		if (err == nil) != (want != Link{}) || err == nil && got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	sb := Sandbox{Links: []Link{{Target: "a", Alias: "x"}, {Target: "a", Alias: "X"}, {Target: "b", Alias: "y"}}}
	if err := sb.CheckLinks(); err != nil {
		t.Error(err)
	}
	sb.Links[2].Alias = "X"
	if err := sb.CheckLinks(); err == nil {
		t.Error("one alias of two")
	}
}

func TestNoIPv6(t *testing.T) {
	const all, one = "net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.IFNAME.disable_ipv6"
	for _, c := range []struct {
		key, value, endpoint string
		want                 bool
	}{
		{all, "1", "", true}, {all, "0", "", false}, {all, "00", "", false}, {"net.ipv6.conf.default.disable_ipv6", "1", "", true},
		{"net.ipv6.conf.lo.disable_ipv6", "1", "", false}, {"", "", one + "=1", true}, {"", "", one + "=0", false},
		{"", "", "net.ipv6.conf.IFNAME.disable_policy=1", false}, {all, "0", one + "=2", true},
	} {
		sb := Sandbox{Sysctls: map[string]string{c.key: c.value}}
		if got := sb.NoIPv6([]string{c.endpoint}); got != c.want {
			t.Errorf("%s=%s, %s: %t", c.key, c.value, c.endpoint, got)
		}
	}
}

// TestSysctlsOfInterfaces: what cannot be there yet when the namespace is made
// is refused with what would do.
func TestSysctlsOfInterfaces(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.conf.all.rp_filter": "", "net.ipv6.conf.default.accept_ra": "", "net.ipv4.conf.lo.rp_filter": "", "net.ipv4.neigh.default.gc_thresh1": "",
		"net.ipv4.conf.eth0.rp_filter": "sysctl=net.ipv4.conf.IFNAME.rp_filter=1", "net.ipv6.neigh.eth0/1.x": "sysctl=net.ipv6.neigh.IFNAME.x=1",
		"net": "as net.core.somaxconn", "net.a..b": "as net.core.somaxconn", "net.a/../b": "as net.core.somaxconn", "vm.x": "as net.core.somaxconn",
	} {
		err := checkSysctl(key, "1")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", key, err, want)
		}
	}
}
