package nft

import (
	"slices"
	"testing"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// meshCorpus is what passes on, from host to host, what comes to a published port of a
// service: written out as corpus is.
func meshCorpus() []kstate.Object {
	vtep := newSet("vtep", "ether_addr", "mark", false)
	objs := []kstate.Object{tableObj, *vtep}
	elems := []kstate.Object{elem(vtep, "02:42:0a:00:00:02", "0x5ea10002")}
	var prerouting, ways, publish, reach, leaving []string
	for _, f := range []struct{ digit, addr, ip, proto, loopback, host, backend string }{
		{"4", "ipv4_addr", "ip", "ipv4", "127.0.0.0/8", "192.0.2.1", "10.0.0.7"}, {"6", "ipv6_addr", "ip6", "ipv6", "fe80::/10", "2001:db8::1", "2001:db8:2::7"},
	} {
		node, exposed := newSet("node"+f.digit, f.addr, "mark", false), newSet("exposed"+f.digit, f.addr+" . inet_proto . inet_service", "", false)
		published := newSet("published"+f.digit, "inet_proto . inet_service", "verdict", false)
		at := newSet("published_at"+f.digit, f.addr+" . inet_proto . inet_service", "verdict", false)
		target := newSet("target"+f.digit, "inet_proto . inet_service . mark", f.addr+" . inet_service", false)
		masq := newSet("masq"+f.digit, f.addr, "", true)
		objs = append(objs, *node, *exposed, *published, *at, *target, *masq)
		elems = append(elems,
			elem(node, f.backend, "0x5ea10002"), elem(exposed, f.backend+" . tcp . 80", ""), elem(published, "tcp . 8080", "goto pick2"),
			elem(at, f.host+" . udp . 53", "jump pick2"), elem(target, "tcp . 8080 . 0x00000001", f.backend+" . 80"), elem(masq, f.backend, ""))
		prerouting = append(prerouting, f.ip+" daddr . meta l4proto . th dport @exposed"+f.digit+" meta mark set 0")
		ways = append(ways, "meta mark set "+f.ip+" daddr map @node"+f.digit+" ct mark set meta mark accept")
		publish = append(publish, f.ip+" daddr . meta l4proto . th dport vmap @published_at"+f.digit,
			"meta nfproto "+f.proto+" meta l4proto . th dport vmap @published"+f.digit)
		reach = append(reach, "dnat "+f.ip+" addr . port to meta l4proto . th dport . meta mark map @target"+f.digit)
		leaving = append(leaving, "oifname slm* "+f.ip+" saddr "+f.loopback+" snat "+f.ip+" to "+f.host,
			"oifname slm* "+f.ip+" saddr @masq"+f.digit+" snat "+f.ip+" to "+f.host)
	}
	answers := []string{
		"ct mark and 0xfffff000 != 0x5ea10000 accept", "ct direction original ct status dnat meta mark set ct mark accept",
		"ct direction reply iifname != slm* meta mark set ct mark",
	}
	return slices.Concat(objs, []kstate.Object{
		chain("reach", reach...), chain("pick2", "meta mark set numgen random mod 2", "goto reach"), chain("ways", ways...),
		base("noted", "filter", "prerouting", -150, append([]string{"iifname slm0 ct state new ct mark set ether saddr map @vtep"}, prerouting...)...),
		base("arrive", "nat", "prerouting", -100, publish...),
		base("way_in", "filter", "prerouting", -80, append([]string{"iifname slm* return"}, append(answers, "goto ways")...)...),
		base("way_out", "route", "output", -80, append([]string{"oifname slm* return"}, append(answers, "goto ways")...)...),
		base("unmark", "filter", "postrouting", -150, "meta mark != 0x00000000 oifname slm* meta mark set 0"),
		base("leave", "nat", "postrouting", 90, leaving...),
	}, elems)
}

// TestRouteChain: what the host sends takes another way, by the mark that a chain of type
// route gives it, and the kernel looks again only then.
func TestRouteChain(t *testing.T) {
	c := open(t)
	shell(t, `ip link set lo up && ip link add va type veth peer name vb && ip link set va addrgenmode none up && ip link set vb addrgenmode none up &&
		ip route add default dev lo && ip route add default dev va table 2422 && ip rule add pref 100 fwmark 0x5ea10002/0xffffffff lookup 2422 &&
		ip addr add 192.0.2.1/32 dev lo`)
	node := newSet("node4", "ipv4_addr", "mark", false)
	way := base("way", "route", "output", -80, "meta mark set ip daddr map @node4 ct mark set meta mark accept")
	seen := base("seen", "filter", "postrouting", 0, "oifname va ip daddr 198.51.100.7 counter", "oifname va counter")
	all := []kstate.Object{tableObj, *node, way, elem(node, "198.51.100.7", "0x5ea10002"), seen}
	apply(t, c, kerneltest.Adds(all...)...)
	shell(t, "bash -c 'for i in 7 8; do echo > /dev/udp/198.51.100.$i/9; done'")
	if n := counters(t, 2, "inet", "seen"); n[0] != 1 || n[1] != 1 {
		t.Errorf("by the device go %d packets of the one that is marked, and %d of all", n[0], n[1])
	}
	run(t, "flush chain inet sealane way")
	empty := way
	empty.Rules = nil
	holds(t, c, tableObj, *node, empty, all[3], seen)
	apply(t, c, kstate.Op{Old: empty, New: way})
	holds(t, c, all...)
}
