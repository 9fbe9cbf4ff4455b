package model

import (
	"net/netip"
	"strings"
	"testing"
)

func TestLabels(t *testing.T) {
	n := Network{Name: "app", Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}}
	for _, c := range []struct {
		key, value string
		ok         bool
	}{
		{"a", "", true}, {"com.example/a b", "x=y\t{}", true}, {strings.Repeat("k", 255), strings.Repeat("v", 64<<10), true},
		{"", "x", false}, {" a", "", false}, {"a\n", "", false}, {"a\x1b", "", false}, {"\u202ea", "", false}, {"a\xff", "", false},
		{strings.Repeat("k", 256), "", false}, {"a", "x\ny", false}, {"a", "\x00", false}, {"a", strings.Repeat("v", 64<<10+1), false},
	} {
		n.Labels = map[string]string{c.key: c.value}
		if err := n.Validate(); (err == nil) != c.ok {
			t.Errorf("%.20q=%.20q: %v", c.key, c.value, err)
		}
	}
}

func TestResolvSettings(t *testing.T) {
	for _, o := range []string{"ndots:2", "edns0", "use-vc", "single-request-reopen", "timeout:1", "ndots:0", "attempts:30", "no-such:x"} {
		if err := (DNS{Options: []string{o}}).validate(); err != nil {
			t.Errorf("%s: %v", o, err)
		}
	}
	for _, o := range []string{"", " ", "a b", "ndots:2#", ";", "a\nnameserver 192.0.2.1", "٣", "a:", ":1", "a:1:2", "ndots", "ndots:a", "ndots:-1", "ndots:1000", "timeout:1.5", "attempts:x", strings.Repeat("x", 65)} {
		if err := (DNS{Options: []string{o}}).validate(); err == nil {
			t.Errorf("%q passes", o)
		}
	}
	for _, a := range []string{"0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"} {
		if err := (DNS{Servers: []netip.Addr{netip.MustParseAddr(a)}}).validate(); err == nil {
			t.Errorf("%s passes as a server", a)
		}
	}
}

// FuzzSettings looks for what would become more than one line, or a path
// outside of the network's settings.
func FuzzSettings(f *testing.F) {
	f.Add("net.ipv4.conf.IFNAME.log_martians", "1")
	f.Add("net.core.somaxconn", "4096\n")
	f.Add("net.../../kernel", "web:db")
	f.Fuzz(func(t *testing.T, key, value string) {
		lines := func(s string) bool { return strings.ContainsAny(s, "\n\r\x00") }
		if checkSysctl(key, value) == nil && (lines(key+value) || strings.Contains(key, "..") || strings.Contains(key, "//") || !strings.HasPrefix(key, "net.")) {
			t.Errorf("%q=%q passes as a setting", key, value)
		}
		if CheckEndpointSysctls([]string{key + "=" + value}) == nil && (lines(key+value) || !strings.Contains(key, placeholder)) {
			t.Errorf("%q=%q passes as an endpoint's", key, value)
		}
		if o, err := ParseEndpointOptions(map[string]string{key: value}); err == nil && o.IfName != "" && CheckIfName(o.IfName) != nil {
			t.Errorf("%q=%q: interface %q", key, value, o.IfName)
		}
		if l, err := ParseLink(value); err == nil && (CheckName(l.Target) != nil || CheckHostname(l.Alias) != nil) {
			t.Errorf("%q: %+v", value, l)
		}
		if (DNS{Search: []string{key}, Options: []string{value}}).validate() == nil && strings.ContainsAny(key+value, " \t\n#;") {
			t.Errorf("%q, %q pass into resolv.conf", key, value)
		}
	})
}
