package nft

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

var (
	service4 = newSet("service4", "ipv4_addr . inet_proto . inet_service", "mark", false)
	picks    = newSet("pick", "mark", "verdict", false)
	backend4 = newSet("backend4", "ipv4_addr . inet_proto . inet_service . mark", "ipv4_addr . inet_service", false)
)

// serviceCorpus is what chooses a service's backend, written out as corpus is.
func serviceCorpus() []kstate.Object {
	objs := []kstate.Object{tableObj, *bridges, *picks, *newSet("trunks", "inet_service", "", false)}
	for _, f := range []struct{ digit, addr string }{{"4", "ipv4_addr"}, {"6", "ipv6_addr"}} {
		objs = append(objs,
			*newSet("vip"+f.digit, f.addr, "", false),
			*newSet("service"+f.digit, f.addr+" . inet_proto . inet_service", "mark", false),
			*newSet("backend"+f.digit, f.addr+" . inet_proto . inet_service . mark", f.addr+" . inet_service", false),
			*newSet("hairpin"+f.digit, f.addr+" . "+f.addr, "", false))
	}
	return append(objs,
		chain("pick1", "meta mark set 0", "goto rewrite"),
		chain("pick3", "meta mark set numgen random mod 3", "goto rewrite"),
		chain("turn3", "meta mark set numgen inc mod 3", "goto rewrite"),
		chain("hash3", "meta mark set jhash ip saddr mod 3 seed 0x5ea1", "meta mark set jhash ip6 saddr mod 3 seed 0x5ea1", "goto rewrite"),
		chain("rewrite",
			"dnat ip addr . port to ip daddr . meta l4proto . th dport . meta mark map @backend4",
			"dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport . meta mark map @backend6"),
		chain("service4", "meta mark set ip daddr . meta l4proto . th dport map @service4 meta mark vmap @pick", "icmp type echo-request redirect"),
		chain("service6", "meta mark set ip6 daddr . meta l4proto . th dport map @service6 meta mark vmap @pick", "icmpv6 type echo-request redirect"),
		base("service", "nat", "prerouting", -100, "ip daddr @vip4 goto service4", "ip6 daddr @vip6 goto service6"),
		base("chosen", "filter", "prerouting", -90,
			"ct state new ct status dnat meta mark set 0", "ct state new ct original ip daddr @vip4 meta mark set 0",
			"ct state new ct original ip6 daddr @vip6 meta mark set 0", "ip daddr @vip4 goto refuse", "ip6 daddr @vip6 goto refuse"),
		chain("refuse", "meta l4proto tcp reject with tcp reset", "reject"),
		base("untracked", "filter", "prerouting", -300, "udp dport @trunks notrack"),
		base("unsent", "filter", "output", 0, "icmp type redirect oifname @bridges drop", "icmpv6 type nd-redirect oifname @bridges drop"),
		base("hairpin", "nat", "postrouting", 100, "ip saddr . ip daddr @hairpin4 masquerade", "ip6 saddr . ip6 daddr @hairpin6 masquerade"),
		elem(picks, "0x00000001", "goto pick1"), elem(picks, "0x00000003", "goto pick3"), elem(picks, "0x00020003", "goto hash3"),
		elem(service4, "10.0.0.200 . tcp . 80", "0x00000003"), elem(service4, "10.0.0.201 . udp . 53", "0x00000001"),
		elem(backend4, "10.0.0.200 . tcp . 80 . 0x00000002", "10.0.0.7 . 8080"),
		elem(newSet("service6", "ipv6_addr . inet_proto . inet_service", "mark", false), "2001:db8::200 . sctp . 80", "0x00020003"),
		elem(newSet("backend6", "ipv6_addr . inet_proto . inet_service . mark", "ipv6_addr . inet_service", false),
			"2001:db8::200 . sctp . 80 . 0x00000000", "2001:db8::7 . 8080"),
		elem(newSet("hairpin4", "ipv4_addr . ipv4_addr", "", false), "10.0.0.7 . 10.0.0.7", ""),
		elem(newSet("trunks", "inet_service", "", false), "4789", ""))
}

// divertCorpus is what sends answers of backends up to the host.
func divertCorpus() []kstate.Object {
	b := kstate.Table{Family: "bridge", Name: "sealane"}
	set := func(name, key, data string) *kstate.NftSet {
		return &kstate.NftSet{Table: b, Name: name, Type: key, Data: data}
	}
	in := func(name string, rules ...string) kstate.Chain {
		return kstate.Chain{Table: b, Name: name, Rules: rules}
	}
	here, at := set("here", "ether_addr", "ether_addr"), set("here_at", "ifname . ether_addr", "ether_addr")
	answers4, answers6 := set("answers4", "ipv4_addr . inet_proto . inet_service", ""), set("answers6", "ipv6_addr . inet_proto . inet_service", "")
	servants4, servants6 := set("servants4", "ipv4_addr", ""), set("servants6", "ipv6_addr", "")
	return []kstate.Object{b, *here, *at, *answers4, *answers6, *servants4, *servants6,
		kstate.Chain{Table: b, Name: "divert", Type: "filter", Hook: "prerouting", Priority: -250, Rules: []string{
			"ether type ip goto divert4", "ether type ip6 goto divert6",
		}},
		in("divert4", "ip frag-off and 0x3fff != 0 goto parts4",
			"ip saddr . meta l4proto . th sport @answers4 goto to_client", "ip daddr . meta l4proto . th dport @answers4 goto from_client",
			"icmp type destination-unreachable goto to_client", "icmp type time-exceeded goto to_client", "icmp type parameter-problem goto to_client"),
		in("parts4", "ip saddr @servants4 goto to_client", "ip daddr @servants4 goto from_client"),
		in("divert6", "exthdr frag exists goto parts6",
			"ip6 saddr . meta l4proto . th sport @answers6 goto to_client", "ip6 daddr . meta l4proto . th dport @answers6 goto from_client",
			"icmpv6 type destination-unreachable goto to_client", "icmpv6 type packet-too-big goto to_client",
			"icmpv6 type time-exceeded goto to_client", "icmpv6 type parameter-problem goto to_client"),
		in("parts6", "ip6 saddr @servants6 goto to_client", "ip6 daddr @servants6 goto from_client"),
		in("to_client", "ether daddr set ether daddr map @here meta pkttype set host"),
		in("from_client", "ether daddr set iifname . ether saddr map @here_at meta pkttype set host"),
		elem(here, "02:42:0a:00:00:02", "02:42:0a:00:00:fe"), elem(at, "vb . 02:42:0a:00:00:02", "02:42:0a:00:00:fe"),
		elem(answers4, "192.0.2.7 . udp . 53", ""), elem(answers6, "2001:db8::7 . udp . 53", ""),
		elem(servants4, "192.0.2.7", ""), elem(servants6, "2001:db8::7", ""),
	}
}

func TestServices(t *testing.T) {
	for name, objs := range map[string][]kstate.Object{"inet": serviceCorpus(), "bridge": divertCorpus(), "mesh": meshCorpus()} {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			apply(t, c, kerneltest.Adds(objs...)...)
			holds(t, c, objs...)
			apply(t, c, kerneltest.Adds(objs...)...) // again, in silence
			holds(t, c, objs...)
		})
	}
}

// TestPicksApart: all numbers that a chain can choose from.
func TestPicksApart(t *testing.T) {
	c := open(t)
	var rules []string
	for _, n := range []string{"1", "2", "4096"} {
		rules = append(rules, "meta mark set numgen random mod "+n, "meta mark set numgen inc mod "+n, "ct mark set jhash ip saddr mod "+n+" seed 1")
	}
	all := []kstate.Object{tableObj, base("c", "filter", "input", 0, rules...)}
	apply(t, c, kerneltest.Adds(all...)...)
	holds(t, c, all...)
}

// TestDivert: what is diverted arrives at the host, with its hardware address
// and as a packet to itself, or else IP would not look at it.
func TestDivert(t *testing.T) {
	c := open(t)
	shell(t, `ip link add br0 address 02:42:0a:00:00:fe type bridge && ip link set br0 addrgenmode none up && ip link add va type veth peer name vb &&
		ip link set vb master br0 && ip link set va addrgenmode none up && ip link set vb addrgenmode none up &&
		for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo 0 > $f; done
		until bridge link show dev vb | grep -q 'state forwarding'; do sleep 0.01; done`)
	apply(t, c, kerneltest.Adds(append(divertCorpus(), tableObj, base("seen", "filter", "prerouting", -300, "iifname br0 counter"))...)...)
	send := wire(t, "va")
	dns := string([]byte{0, 53, 0, 9, 0, 8, 0, 0})
	ask := string([]byte{0, 9, 0, 53, 0, 8, 0, 0})
	seen := counters(t, 1, "inet", "seen")[0]
	for _, f := range []struct {
		name, frame string
		up          int
	}{
		{"answer", ipv4To(mac1, "192.0.2.7", "192.0.2.2", 17, 0, dns), 1},
		{"answer to who is not here", ipv4To(mac2, "192.0.2.7", "192.0.2.2", 17, 0, dns), 0},
		{"answer of another port", ipv4To(mac1, "192.0.2.7", "192.0.2.2", 17, 0, ask), 0},
		{"question of who is here", ipv4From(mac1, "192.0.2.2", "192.0.2.7", 17, 0, ask), 1},
		{"question of another", ipv4From(mac2, "192.0.2.2", "192.0.2.7", 17, 0, ask), 0},
		{"first fragment", ipv4To(mac1, "192.0.2.7", "192.0.2.2", 17, 0x2000, ask), 1},
		{"last fragment", ipv4To(mac1, "192.0.2.7", "192.0.2.2", 17, 3, ask), 1},
		{"fragment of another", ipv4To(mac1, "192.0.2.8", "192.0.2.2", 17, 3, dns), 0},
		{"not to be fragmented", ipv4To(mac1, "192.0.2.7", "192.0.2.2", 17, 0x4000, ask), 0},
		{"unreachable", ipv4To(mac1, "192.0.2.8", "192.0.2.2", 1, 0, "\x03\x03"+strings.Repeat("\x00", 6)), 1},
		{"ping", ipv4To(mac1, "192.0.2.8", "192.0.2.2", 1, 0, "\x08\x00"+strings.Repeat("\x00", 6)), 0},
		{"IPv6 answer", mac1 + ipv6(mac2, "2001:db8::7", 17, dns)[6:], 1},
		{"IPv6 answer of another port", mac1 + ipv6(mac2, "2001:db8::7", 17, ask)[6:], 0},
		{"IPv6 fragment", mac1 + ipv6(mac2, "2001:db8::7", 44, "\x11\x00\x00\x08\x00\x00\x00\x01"+ask)[6:], 1},
		{"IPv6 fragment of another", mac1 + ipv6(mac2, "2001:db8::8", 44, "\x11\x00\x00\x08\x00\x00\x00\x01"+dns)[6:], 0},
		{"packet too big", mac1 + ipv6(mac2, "2001:db8::8", 58, "\x02\x00"+strings.Repeat("\x00", 6))[6:], 1},
	} {
		send(f.frame)
		now := counters(t, 1, "inet", "seen")[0]
		if now-seen != f.up {
			t.Errorf("%s: the host saw %d, want %d", f.name, now-seen, f.up)
		}
		seen = now
	}
}

// ipv4To is a packet of RFC 791 to a hardware address, and ipv4From one from
// it to a third; frag are its flags and fragment offset.
func ipv4To(mac, from, to string, proto byte, frag uint16, data string) string {
	return mac + "\x02\x42\x0a\x00\x00\x09\x08\x00" + ipv4(from, to, proto, frag, data)
}

func ipv4From(mac, from, to string, proto byte, frag uint16, data string) string {
	return "\x02\x42\x0a\x00\x00\x09" + mac + "\x08\x00" + ipv4(from, to, proto, frag, data)
}

func ipv4(from, to string, proto byte, frag uint16, data string) string {
	h := []byte{0x45, 0, 0, byte(20 + len(data)), 0, 0, byte(frag >> 8), byte(frag), 64, proto, 0, 0}
	h = append(append(h, netip.MustParseAddr(from).AsSlice()...), netip.MustParseAddr(to).AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return string(h) + data
}
