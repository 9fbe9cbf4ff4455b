package nft

import (
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// The firewall of package compile, written out: that package stands above this
// one. Its rules are the least that the language must know.
var (
	tableObj = kstate.Table{Family: "inet", Name: "sealane"}

	bridges  = newSet("bridges", "ifname", "", false)
	ingress  = newSet("ingress", "ifname", "verdict", false)
	home4    = newSet("home4", "ipv4_addr . ifname", "", true)
	masq4    = newSet("masq4", "ipv4_addr", "", true)
	masq6    = newSet("masq6", "ipv6_addr", "", true)
	ports4   = newSet("ports4", "inet_proto . inet_service", "ipv4_addr . inet_service", false)
	portsAt4 = newSet("ports_at4", "ipv4_addr . inet_proto . inet_service", "ipv4_addr . inet_service", false)
	ranges4  = newSet("ranges4", "inet_proto . inet_service", "ipv4_addr", true)
)

func newSet(name, key, data string, interval bool) *kstate.NftSet {
	return &kstate.NftSet{Table: tableObj, Name: name, Type: key, Data: data, Interval: interval}
}

func elem(s *kstate.NftSet, at, value string) kstate.Elem {
	return kstate.Elem{Set: s, At: at, Value: value}
}

func chain(name string, rules ...string) kstate.Chain {
	return kstate.Chain{Table: tableObj, Name: name, Rules: rules}
}

func base(name, typ, hook string, priority int, rules ...string) kstate.Chain {
	return kstate.Chain{Table: tableObj, Name: name, Type: typ, Hook: hook, Priority: priority, Rules: rules}
}

func corpus() []kstate.Object {
	objs := []kstate.Object{tableObj, *bridges, *ingress,
		*newSet("inside", "ifname . ifname", "", false), *newSet("egress", "ifname", "verdict", false)}
	for _, f := range []struct{ digit, addr string }{{"4", "ipv4_addr"}, {"6", "ipv6_addr"}} {
		objs = append(objs,
			*newSet("home"+f.digit, f.addr+" . ifname", "", true),
			*newSet("masq"+f.digit, f.addr, "", true),
			*newSet("ports"+f.digit, "inet_proto . inet_service", f.addr+" . inet_service", false),
			*newSet("ports_at"+f.digit, f.addr+" . inet_proto . inet_service", f.addr+" . inet_service", false),
			*newSet("ranges"+f.digit, "inet_proto . inet_service", f.addr, true),
			*newSet("open"+f.digit, f.addr+" . inet_proto . inet_service", "", false),
			*newSet("open_ranges"+f.digit, f.addr+" . inet_proto . inet_service", "", true),
			*newSet("proxy"+f.digit, "inet_proto . inet_service", "", false),
			*newSet("proxy_ranges"+f.digit, "inet_proto . inet_service", "", true),
			*newSet("proxy_at"+f.digit, f.addr+" . inet_proto . inet_service", "", false))
	}
	return append(objs, corpusChains()...)
}

func corpusChains() []kstate.Object {
	proxy := []string{}
	for _, f := range []struct{ proto, addr, digit string }{{"ipv4", "ip", "4"}, {"ipv6", "ip6", "6"}} {
		proxy = append(proxy,
			f.addr+" daddr . meta l4proto . th dport @proxy_at"+f.digit+" goto to_proxy",
			"meta nfproto "+f.proto+" meta l4proto . th dport @proxy"+f.digit+" goto to_proxy",
			"meta nfproto "+f.proto+" meta l4proto . th dport @proxy_ranges"+f.digit+" goto to_proxy")
	}
	return []kstate.Object{
		base("forward", "filter", "forward", 0,
			"iifname . oifname @inside accept", "iifname vmap @egress", "oifname vmap @ingress"),
		base("guard", "filter", "prerouting", -300,
			"iifname @bridges ip saddr 127.0.0.0/8 drop", "iifname @bridges ip daddr 127.0.0.0/8 drop"),
		base("output", "nat", "output", -100, "fib daddr type local goto publish"),
		base("postrouting", "nat", "postrouting", 100,
			"oifname @bridges ip saddr 127.0.0.0/8 masquerade",
			"ct status dnat ip saddr . oifname @home4 masquerade", "ct status dnat ip6 saddr . oifname @home6 masquerade",
			"ip saddr . oifname @home4 return", "ip6 saddr . oifname @home6 return",
			"ip saddr @masq4 masquerade", "ip6 saddr @masq6 masquerade"),
		base("prerouting", "nat", "prerouting", -100,
			"ip daddr 127.0.0.0/8 return", "fib daddr type local goto publish"),
		chain("proxy", proxy...),
		chain("publish",
			"ip6 daddr ::1 goto proxy", "ip6 saddr fe80::/10 goto proxy",
			"dnat ip addr . port to ip daddr . meta l4proto . th dport map @ports_at4",
			"dnat ip addr . port to meta l4proto . th dport map @ports4",
			"dnat ip to meta l4proto . th dport map @ranges4",
			"dnat ip6 addr . port to ip6 daddr . meta l4proto . th dport map @ports_at6",
			"dnat ip6 addr . port to meta l4proto . th dport map @ports6",
			"dnat ip6 to meta l4proto . th dport map @ranges6", "goto proxy"),
		chain("published",
			"ip daddr . meta l4proto . th dport @open4 accept", "ip daddr . meta l4proto . th dport @open_ranges4 accept",
			"ip6 daddr . meta l4proto . th dport @open6 accept", "ip6 daddr . meta l4proto . th dport @open_ranges6 accept",
			"drop"),
		chain("to_nat",
			"ct state related accept", "ct direction original ct status dnat goto published",
			"ct state established accept", "drop"),
		chain("to_proxy", "meta nfproto ipv4 meta l4proto tcp dnat to :4000", "meta nfproto ipv4 meta l4proto udp dnat to :4000",
			"meta nfproto ipv6 meta l4proto tcp dnat to :4000", "meta nfproto ipv6 meta l4proto udp dnat to :4000"),
	}
}

// corpusElems is what some networks, sandboxes and ports put into the corpus.
func corpusElems() []kstate.Object {
	var out []kstate.Object
	for _, line := range strings.Split(strings.TrimSpace(`
bridges|ifname|||slbfront|
bridges|ifname|||slbback|
inside|ifname . ifname|||slbfront . slbfront|
egress|ifname|verdict||slbback|drop
ingress|ifname|verdict||slbfront|jump to_nat
ingress|ifname|verdict||slbback|drop
home4|ipv4_addr . ifname||i|192.0.2.0/24 . slbfront|
home4|ipv4_addr . ifname||i|198.51.100.0/25 . slbback|
home6|ipv6_addr . ifname||i|2001:db8:1::/64 . slbfront|
masq4|ipv4_addr||i|192.0.2.0/24|
masq4|ipv4_addr||i|192.0.3.0/24|
masq6|ipv6_addr||i|2001:db8:1::/64|
ports4|inet_proto . inet_service|ipv4_addr . inet_service||tcp . 8080|192.0.2.2 . 80
ports6|inet_proto . inet_service|ipv6_addr . inet_service||tcp . 8080|2001:db8:1::2 . 80
ports_at4|ipv4_addr . inet_proto . inet_service|ipv4_addr . inet_service||127.0.0.1 . udp . 5353|192.0.2.2 . 53
ports_at6|ipv6_addr . inet_proto . inet_service|ipv6_addr . inet_service||2001:db8::7 . sctp . 5|2001:db8:1::2 . 5
ranges4|inet_proto . inet_service|ipv4_addr|i|tcp . 7000-7100|192.0.2.2
ranges6|inet_proto . inet_service|ipv6_addr|i|udp . 10000-19999|2001:db8:1::2
open4|ipv4_addr . inet_proto . inet_service|||192.0.2.2 . tcp . 80|
open6|ipv6_addr . inet_proto . inet_service|||2001:db8:1::2 . tcp . 80|
open_ranges4|ipv4_addr . inet_proto . inet_service||i|192.0.2.2 . tcp . 7000-7100|
open_ranges6|ipv6_addr . inet_proto . inet_service||i|2001:db8:1::2 . udp . 10000-19999|
proxy4|inet_proto . inet_service|||tcp . 8080|
proxy_ranges4|inet_proto . inet_service||i|tcp . 7000-7100|
proxy_at6|ipv6_addr . inet_proto . inet_service|||::1 . tcp . 8080|
`), "\n") {
		f := strings.Split(line, "|")
		out = append(out, elem(newSet(f[0], f[1], f[2], f[3] == "i"), f[4], f[5]))
	}
	return out
}

func bridgeCorpus() []kstate.Object {
	b := kstate.Table{Family: "bridge", Name: "sealane"}
	s := func(name, key, data string) kstate.NftSet {
		return kstate.NftSet{Table: b, Name: name, Type: key, Data: data}
	}
	return []kstate.Object{b, s("macs", "ifname . ether_addr", ""), s("addrs", "ifname . ipv4_addr", ""), s("ports", "ifname", "verdict"),
		s("guarded", "ifname", ""), s("source4", "ifname . ether_addr . ipv4_addr", ""), s("source6", "ifname . ether_addr . ipv6_addr", ""),
		kstate.Chain{Table: b, Name: "prerouting", Type: "filter", Hook: "prerouting", Priority: -300, Rules: []string{
			"iifname . ether saddr @macs accept",
			"iifname . ip saddr @addrs accept",
			"ether saddr 02:42:0a:00:00:02 ip6 saddr 2001:db8::/32 accept",
			"ether saddr != 02:42:0a:00:00:02 drop",
			"ip saddr 192.0.2.1 tcp dport 80 accept",
			"udp dport 53 drop",
			"iifname vmap @ports",
		}},
		kstate.Chain{Table: b, Name: "guard", Type: "filter", Hook: "prerouting", Priority: -200, Rules: guardRules},
		kstate.Chain{Table: b, Name: "frames", Type: "filter", Hook: "forward", Rules: frameRules},
		kstate.Chain{Table: b, Name: "input", Type: "filter", Hook: "input", Priority: 1},
		kstate.Chain{Table: b, Name: "output", Type: "filter", Hook: "output", Priority: 2, Rules: []string{"ether type arp accept"}},
		kstate.Chain{Table: b, Name: "postrouting", Type: "filter", Hook: "postrouting", Priority: 3},
	}
}

// guardRules refuse frames whose sender says it is somebody else.
var guardRules = []string{
	"iifname != @guarded accept",
	"iifname . ether saddr != @macs drop",
	"iifname . ether saddr . ip saddr @source4 accept",
	"iifname . ether saddr . ip6 saddr @source6 accept",
	"iifname . arp saddr ether . arp saddr ip @source4 accept",
	"arp saddr ip 0.0.0.0 accept",
	"ether type arp drop",
	"udp sport 67 drop",
	"udp sport 547 drop",
	"ip saddr 0.0.0.0 udp dport 67 accept",
	"icmpv6 type nd-router-advert drop",
	"ip6 saddr :: accept",
}

// frameRules are rules beyond the firewall's that only a bridge table takes, or
// that nft writes otherwise there.
var frameRules = []string{
	"ether type ip accept", "ether type ip6 drop", "ether type 0x88cc drop", "ether type 8021q drop", "ether type != arp accept",
	"meta protocol arp drop", "meta protocol ip udp dport 67 accept", "meta protocol ip6 ip6 saddr ::1 accept",
	"ether type ip ip saddr 192.0.2.1 accept", "ether type ip udp dport 67 accept", "ether type arp arp operation request accept",
	"arp operation reply drop", "arp operation != request drop", "arp daddr ip 192.0.2.1 accept", "arp daddr ether 02:42:0a:00:00:02 accept",
	"arp saddr ether 02:42:0a:00:00:02 accept", "arp operation request iifname . arp saddr ether @macs accept",
	"icmp type echo-request accept", "ip saddr 192.0.2.1 icmp type echo-reply accept", "icmp type echo-reply ip daddr 192.0.2.1 accept",
	"icmpv6 type mld2-listener-report accept", "ip6 saddr :: icmpv6 type nd-neighbor-solicit accept", "icmpv6 type nd-redirect drop",
	"meta l4proto ipv6-icmp icmpv6 type nd-router-solicit accept", "meta l4proto sctp th dport 80 accept",
	"ether type ip ip frag-off & 0x3fff == 0 accept", "ip frag-off 0 ip saddr 192.0.2.1 accept", "exthdr frag missing accept", "ip6 saddr ::1 exthdr frag exists accept", "exthdr frag != exists frag nexthdr udp accept",
	"frag frag-off != 0 accept", "frag frag-off 0 drop", "frag nexthdr udp accept", "ip6 nexthdr tcp accept", "ip6 nexthdr tcp ip6 saddr ::1 accept", "udp dport != 546 accept", "iifname != slv* accept", "iifname != slv* iifgroup != 24229 accept", "oifgroup 7 accept",
}

// moreRules are rules beyond the firewall's, by the kind of chain they need.
var moreRules = map[string][]string{
	"filter input": {
		"ip protocol tcp accept", "ip protocol != udp accept", "ip protocol tcp tcp dport 80 accept", "ip protocol @protos accept",
		"meta mark 7 accept", "meta mark 0x10 counter accept", "meta mark != 3 drop", "meta mark @marks accept",
		"meta mark set 0x7", "meta mark set ct mark", "meta mark set ip saddr map @marked", "meta mark set numgen random mod 4",
		"meta mark set numgen random mod 1", "ct mark set numgen inc mod 4096", "ip saddr 192.0.2.1 meta mark set jhash ip saddr mod 3 seed 7", "ct mark set jhash ip6 daddr mod 1 seed 0xffffffff",
		"meta mark set jhash tcp dport mod 5 seed 1", "meta mark set jhash iifname mod 5 seed 1", "meta mark set jhash ether saddr mod 5 seed 1", "meta mark set jhash meta mark mod 5 seed 1",
		"ct mark 9 accept", "ct mark != 9 accept", "ct mark set 0x7", "ct mark set meta mark", "ct mark set meta mark map @remarked",
		"counter", "tcp dport 80 accept", "tcp sport 80 accept", "udp dport 53 counter accept", "tcp dport != 80 accept", "th dport 99 accept",
		"meta l4proto tcp th dport 99 accept", "meta l4proto tcp tcp dport 80 accept", "meta l4proto != tcp accept",
		"ip saddr 10.0.0.1 tcp dport 80 accept", "tcp dport 80 ip saddr 10.0.0.1 drop", "ip saddr 10.0.0.1 counter ip daddr 10.0.0.2 drop",
		"ip saddr != 10.0.0.0/8 drop", "ip saddr 10.1.0.0/16 drop", "ip saddr 10.1.128.0/17 drop", "ip saddr 0.0.0.0/0 drop", "ip saddr 10.0.0.0/31 drop",
		"ip6 saddr 2001:db8::/64 drop", "ip6 saddr 2001:db8::/61 drop", "ip6 daddr != ::1 drop", "ip6 daddr ::ffff:192.0.2.1 drop",
		"meta nfproto ipv6 tcp dport @services accept", "meta nfproto ipv4 ip saddr 192.0.2.1 accept", "meta nfproto ipv4 meta nfproto ipv4 accept",
		"ether saddr 02:42:0a:00:00:02 accept", "ether saddr @macs ether daddr @macs accept", "ether saddr != @macs drop",
		`iifname "br0" accept`, "iifname br-0 accept", `iifname "br*" accept`, `iifname != "br*" oifname "veth.1" drop`, "meta iifname br0 accept", "meta oifname != br0 accept", "iifname == br0 accept",
		"reject", "ip saddr 192.0.2.1 reject", "tcp dport 80 reject", "ip6 saddr ::1 reject", "meta nfproto ipv4 reject", "tcp dport 80 ip6 saddr ::1 reject",
		"meta l4proto tcp reject with tcp reset", "tcp dport 80 reject with tcp reset", "meta nfproto ipv6 ip6 nexthdr tcp reject with tcp reset", "ip saddr 192.0.2.1 meta l4proto tcp counter reject with tcp reset",
		"ip frag-off and 0x3fff != 0 drop", "ip saddr 192.0.2.1 ip frag-off & 0x1fff == 0x0 accept", "ip frag-off 0x4000 accept", "ip frag-off != 0 accept", "exthdr frag exists drop", "ip6 saddr ::1 exthdr frag missing accept",
		"ct mark & 0xffff0000 == 0x5ea10000 accept",
		`accept comment "hello world"`, `iifname "lo" counter accept comment "a; b {} # $"`,
		"ct state established,related accept", "ct state new accept", "ct state != invalid accept", "ct state untracked,invalid drop",
		"ct status snat accept", "ct status snat,dnat accept", "ct status != dnat accept", "ct status confirmed ct direction reply accept", "ct direction != reply drop",
		"fib daddr type != local return", "fib saddr type broadcast return",
		"jump target", "ip daddr . tcp dport @here accept", "tcp dport . ip daddr @there accept", "ip daddr . ip protocol . th dport vmap @vip",
		"iifname . meta nfproto @kinds accept", "oifname . meta nfproto vmap @judged", "meta nfproto @nfprotos accept", "meta protocol ip accept", "ether type arp drop",
		"icmp type echo-request accept", "icmp type 14 accept", "icmp type != redirect drop", "icmpv6 type echo-request accept", "icmpv6 type nd-neighbor-advert drop",
		"meta nfproto ipv4 icmp type echo-request accept", "meta l4proto icmp icmp type echo-request accept", "ip6 saddr ::1 icmpv6 type packet-too-big accept",
		"udp sport 67 drop", "meta l4proto sctp accept", "meta l4proto sctp th dport 80 accept", "sctp dport 80 accept", "sctp sport 80 drop",
		"meta mark set meta mark or 0x10000000", "meta mark set ct mark and 0xff", "ct mark set ct mark or 1", "ct mark set meta mark and 0x10000000",
		"meta mark and 0x10000000 == 0x10000000 accept", "meta mark and 0x10000000 != 0 accept", "ct mark and 3 == 1 drop",
		"meta l4proto tcp ct original ip daddr . ct original proto-dst . ip daddr . meta l4proto . ip saddr @asked_from4 accept", "meta l4proto sctp ct original ip6 daddr . ct original proto-dst . ip6 daddr . meta l4proto . ip6 saddr @asked_from6 accept",
		"meta l4proto udp ct original proto-dst 80 accept", "ct original ip daddr 192.0.2.1 accept", "ct original ip6 daddr != 2001:db8::/32 drop",
		"iifname . oifname @trusted goto target", "meta nfproto ipv4 oifname vmap @judge", "ct state related accept", "ct status dnat accept", "iifname vmap @judge",
		"iifname . meta mark . ip6 saddr @mixed accept", "iifname . ether saddr @ifmacs accept",
	},
	"filter forward": {
		"tcp flags syn / syn,rst tcp option maxseg size set rt mtu", "tcp option maxseg size set rt mtu", "tcp flags syn,ack / syn,ack,rst,fin counter accept",
		"meta l4proto tcp tcp option maxseg size set rt mtu", "tcp flags syn / syn,rst ip saddr 192.0.2.1 ip daddr 192.0.2.2 tcp option maxseg size set rt mtu",
	},
	"filter prerouting": {"tcp dport and 61440 == 61440 accept", "tcp sport and 32768 == 0 drop", "tcp sport & 61440 != 4096 drop", "notrack", `iifname "br0" notrack`, "ct original zone set @ll,80,16", "ip saddr 192.0.2.1 ct original zone set @ll,80,16 accept", "ip saddr 192.0.2.1 notrack accept"},
	"nat postrouting": {
		"masquerade", "snat ip to 192.0.2.1", "ip saddr 10.1.0.0/24 snat ip to 192.0.2.1", "ip6 saddr 2001:db8::1 snat ip6 to 2001:db8::2",
		"oifname br0 snat ip to ip saddr map @sources", "tcp dport 80 masquerade",
		"meta l4proto tcp ct original ip daddr 10.1.0.9 snat ip to ip saddr :61440-65535", "meta l4proto tcp ip6 daddr fd00::9 snat ip6 to ip6 saddr :1-2",
	},
	"nat prerouting": {
		"tcp dport 80 redirect to :8080", "udp dport 53 redirect to :5353", "ip protocol tcp redirect to :80", "meta l4proto udp redirect to :80", "redirect", "tcp dport 80 redirect",
		"dnat ip to 192.0.2.1", "dnat ip6 to 2001:db8::1", "tcp dport 80 dnat ip to ip daddr map @sources",
		"dnat ip addr . port to ip daddr . tcp dport map @services4", "dnat ip addr . port to ip daddr . ip protocol . th dport . meta mark map @backends",
	},
}

// moreSets are what moreRules need.
func moreSets() []kstate.Object {
	return []kstate.Object{chain("target"),
		*newSet("protos", "inet_proto", "", false), *newSet("marks", "mark", "", false), *newSet("marked", "ipv4_addr", "mark", false),
		*newSet("remarked", "mark", "mark", false), *newSet("services", "inet_service", "", false), *newSet("macs", "ether_addr", "", false),
		*newSet("here", "ipv4_addr . inet_service", "", false), *newSet("there", "inet_service . ipv4_addr", "", false),
		*newSet("vip", "ipv4_addr . inet_proto . inet_service", "verdict", false), *newSet("mixed", "ifname . mark . ipv6_addr", "", false),
		*newSet("kinds", "ifname . nf_proto", "", false), *newSet("judged", "ifname . nf_proto", "verdict", false), *newSet("judge", "ifname", "verdict", false),
		*newSet("nfprotos", "nf_proto", "", false), *newSet("trusted", "ifname . ifname", "", false),
		*newSet("asked_from4", "ipv4_addr . inet_service . ipv4_addr . inet_proto . ipv4_addr", "", true), *newSet("asked_from6", "ipv6_addr . inet_service . ipv6_addr . inet_proto . ipv6_addr", "", true),
		*newSet("ifmacs", "ifname . ether_addr", "", false), *newSet("sources", "ipv4_addr", "ipv4_addr", false),
		*newSet("services4", "ipv4_addr . inet_service", "ipv4_addr . inet_service", false),
		*newSet("backends", "ipv4_addr . inet_proto . inet_service . mark", "ipv4_addr . inet_service", false),
	}
}

// goodElems has an element of each type and form.
func goodElems() []kstate.Elem {
	one := func(typ, data string, interval bool, at, value string) kstate.Elem {
		return elem(newSet("s", typ, data, interval), at, value)
	}
	return []kstate.Elem{
		one("ipv4_addr", "", false, "192.0.2.1", ""),
		one("ipv6_addr", "", false, "2001:db8::1", ""),
		one("ipv6_addr", "", false, "::", ""),
		one("nf_proto", "", false, "ipv6", ""),
		one("ifname . nf_proto", "", false, "br0 . ipv4", ""),
		one("ifname . ether_addr", "", false, "br0 . 02:42:0a:00:00:02", ""),
		one("ifname . ether_addr . ipv4_addr", "", false, "br0 . 02:42:0a:00:00:02 . 192.0.2.2", ""),
		one("ifname . ether_addr . ipv6_addr", "", false, "br0 . 02:42:0a:00:00:02 . 2001:db8::2", ""),
		one("ipv4_addr . inet_proto . inet_service . ipv4_addr", "", true, "192.0.2.2 . tcp . 80 . 198.51.100.0/24", ""),
		one("ipv4_addr . inet_proto . inet_service . ipv4_addr", "", true, "192.0.2.2 . sctp . 80-90 . 0.0.0.0/0", ""),
		one("ipv6_addr . inet_proto . inet_service . ipv6_addr", "", true, "2001:db8::2 . udp . 53 . 2001:db8:9::/48", ""),
		one("ether_addr", "", false, "02:42:0a:00:00:ff", ""),
		one("inet_proto", "", false, "udp", ""),
		one("inet_proto", "", false, "ipv6-icmp", ""),
		one("inet_proto", "", false, "253", ""),
		one("inet_service", "", false, "65535", ""),
		one("mark", "", false, "0xdeadbeef", ""),
		one("ifname", "", false, "sl-0123456789ab", ""),
		one("ifname", "verdict", false, "br0", "jump to_nat"),
		one("ifname", "verdict", false, "br0", "return"),
		one("ether_addr", "ether_addr", false, "02:42:0a:00:00:02", "02:42:0a:00:00:fe"),
		one("ipv4_addr . inet_proto . inet_service", "verdict", false, "10.0.0.200 . tcp . 80", "goto to_nat"),
		one("ipv6_addr . inet_proto . inet_service", "verdict", false, "2001:db8::200 . sctp . 80", "goto to_nat"),
		one("ipv4_addr . inet_proto . inet_service . mark", "ipv4_addr . inet_service", false, "10.0.0.200 . tcp . 80 . 0x00000fff", "10.0.0.7 . 8080"),
		one("ipv6_addr . inet_proto . inet_service . mark", "ipv6_addr . inet_service", false, "2001:db8::200 . udp . 53 . 0x00000000", "2001:db8::7 . 5353"),
		one("ipv4_addr . ipv4_addr", "", false, "10.0.0.7 . 10.0.0.7", ""),
		one("ipv4_addr . mark", "mark", false, "192.0.2.1 . 0x00000001", "0x0000000f"),
		one("ipv4_addr . ifname", "", true, "0.0.0.0/0 . br0", ""),
		one("ipv4_addr . ifname", "", true, "10.0.0.0/31 . br0", ""),
		one("ipv6_addr . ifname", "", true, "2001:db8::/33 . br0", ""),
		one("ipv4_addr . inet_service", "", true, "10.0.0.1-10.0.0.9 . 1-65534", ""),
		one("inet_proto . inet_service", "ipv4_addr", true, "tcp . 0-65535", "192.0.2.1"),
		one("inet_proto . inet_service", "ipv6_addr . inet_service", true, "tcp . 80", "2001:db8::1 . 1"),
		one("ipv4_addr", "ipv4_addr", true, "10.0.0.0/8", "192.0.2.1"),
		one("inet_service", "", true, "1-2", ""),
		one("ipv6_addr", "", true, "ffff::/16", ""),
	}
}
