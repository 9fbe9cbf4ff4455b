package cli_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// driverOptions are the options of networks, by driver and what else it needs,
// with what of the hostile values each takes.
func driverOptions() map[string]map[string][]string {
	addr := []string{"10.9.9.9", "127.0.0.1"}
	count := []string{"0"}
	return map[string]map[string][]string{
		"bridge": {
			"advertise-count": count, "advertise-interval": none, "antispoof": asBool, "dad": asBool, "gateway-mode": none, "gateway-mode-ipv4": none, "gateway-mode-ipv6": none,
			"host-access": asBool, "host-binding": append([]string{"::", "0.0.0.0", "fd00::9"}, addr...), "icc": asBool, "ifname-prefix": asPrefix,
			"inhibit-ipv4": asBool, "ipam": none, "masquerade": asBool, "mtu": none, "name": asDevice, "parent": none, "source-ip": none,
			"trunks":             none,
			"trusted-interfaces": append([]string{"", "ff:ff:ff:ff:ff:ff", "02:42:0a:01:00:02:03", "8080:0"}, asDevice...),
			"vlan":               none,
		},
		"macvlan --opt parent=up0": {
			"advertise-count": count, "advertise-interval": none, "dad": asBool, "host-leg": none, "ifname-prefix": asPrefix, "ipam": none, "mode": none, "mtu": none, "parent": none, "vlan": none,
		},
		"ipvlan --opt parent=up0": {
			"advertise-count": count, "advertise-interval": none, "dad": asBool, "host-leg": none, "ifname-prefix": asPrefix, "ipam": none, "ipvlan-flag": none, "mode": none, "mtu": none, "parent": none, "vlan": none,
		},
		"ovs": {
			"advertise-count": count, "advertise-interval": none, "dad": asBool, "datapath": none, "ifname-prefix": asPrefix, "ipam": none, "mtu": none, "name": asDevice, "trunks": none, "vlan": none,
		},
		"phys --opt parent=up0": {
			"advertise-count": count, "advertise-interval": none, "dad": asBool, "ifname-prefix": asPrefix, "ipam": none, "mtu": none, "parent": none, "vlan": none,
		},
	}
}

// endpointOptions are those of endpoints.
func endpointOptions() map[string][]string {
	return map[string][]string{
		"dad": asBool, "dhcp-client-id": none, "dhcp-duid": none, "dhcp-hostname": none, "dhcp-option": none, "dhcp-request": none, "dhcp-timeout": none, "dhcp-vendor-class": none, "dhcp6-option": none,
		"egress-burst": {"0"}, "egress-rate": {"0", "65536"}, "gateway": {"10.9.9.9"}, "hostif": asDevice, "ifname": asDevice, "ingress-burst": {"0"}, "ingress-rate": {"0", "65536"}, "mtu": none, "route": {"10.9.9.9", "224.0.0.1"}, "service": none, "sysctls": none, "trunks": none, "vlan": none,
		"com.docker.network.endpoint.ifname": asDevice, "com.docker.network.endpoint.sysctls": none,
	}
}

func hostileOptions() []hostileCase {
	var cases []hostileCase
	for driver, options := range driverOptions() {
		for key, takes := range options {
			cases = append(cases, hostileCase{"network create --driver " + driver + " --opt " + key + "=@ n", takes})
			if driver != "bridge" {
				continue
			}
			if slices.Contains([]string{"ipam", "name", "parent", "vlan"}, key) {
				takes = none
			} else {
				takes = append([]string{""}, takes...) // back to the default
			}
			cases = append(cases, hostileCase{"network update --opt " + key + "=@ app", takes})
		}
	}
	for key, takes := range endpointOptions() {
		cases = append(cases, hostileCase{"network connect --opt " + key + "=@ app web", takes})
	}
	return cases
}

// TestHostileOptionsAreWhole checks that no option is without a case: an unknown
// one is answered with those that are known.
func TestHostileOptionsAreWhole(t *testing.T) {
	stage(t)
	for driver, options := range driverOptions() {
		got := sealane("", strings.Fields("network create --driver "+driver+" --opt unknown=1 n")...)
		sameOptions(t, driver, known(t, `which knows (.*)\n$`, got.err), options)
	}
	got := sealane("", strings.Fields("network connect --opt unknown=1 app web")...)
	sameOptions(t, "endpoint", known(t, `\(known: (.*)\)\n$`, got.err), endpointOptions())
}

// known takes the list out of a refusal.
func known(t *testing.T, pattern, refusal string) []string {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(refusal)
	if m == nil {
		t.Fatalf("no list: %s", refusal)
	}
	return strings.Split(m[1], ", ")
}

func sameOptions(t *testing.T, of string, known []string, cases map[string][]string) {
	t.Helper()
	for _, key := range known {
		if _, ok := cases[key]; !ok {
			t.Errorf("%s: option %s: no case", of, key)
		}
	}
	for key := range cases {
		if !slices.Contains(known, key) {
			t.Errorf("%s: option %s: has a case, but is not known", of, key)
		}
	}
}
