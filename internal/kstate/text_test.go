package kstate_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

// Short words for objects.
var (
	host  kstate.NS
	web   = kstate.NS{Path: "/run/sealane/netns/web"}
	given = kstate.NS{Path: "/proc/7/ns/net", Inode: 4026531}

	table   = kstate.Table{Family: "inet", Name: "sealane"}
	bridges = &kstate.NftSet{Table: table, Name: "bridges", Type: "ifname"}
	ports   = &kstate.NftSet{Table: table, Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
)

func bridge(name string) kstate.Link {
	return kstate.Link{Name: name, Type: kstate.TypeBridge, MTU: 1500, MAC: "02:00:00:00:00:01", Up: true}
}

func veth(name, master string, ns kstate.NS, peer string) kstate.Link {
	return kstate.Link{Name: name, Type: kstate.TypeVeth, MTU: 1500, MAC: "02:00:00:00:00:02", Up: true, Master: master,
		Peer: kstate.Peer{NS: ns, Name: peer, MAC: "02:00:00:00:00:03"}}
}

func addr(ns kstate.NS, dev, p string) kstate.Addr {
	return kstate.Addr{NS: ns, Dev: dev, Prefix: netip.MustParsePrefix(p)}
}

func route(ns kstate.NS, dst, via, dev string) kstate.Route {
	r := kstate.Route{NS: ns, Dst: netip.MustParsePrefix(dst), Dev: dev}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	return r
}

func set(objs ...kstate.Object) kstate.Set {
	s := kstate.Set{}
	if err := s.Add(objs...); err != nil {
		panic(err) // the test's own mistake
	}
	return s
}

func TestTexts(t *testing.T) {
	full := veth("slv1", "slb1", web, "eth0")
	full.Isolated, full.Hairpin, full.Localnet, full.ProxyARP, full.Alias, full.Index = true, true, true, true, "for humans", 7
	bare := kstate.Link{Name: "slv1", Type: kstate.TypeVeth, Peer: kstate.Peer{Name: "slv2"}}
	inner, other := bridge("br0"), route(host, "198.51.100.0/24", "192.0.2.9", "slb1")
	other.Table, other.Onlink, other.MTU = 242250002, true, 1400
	around := kstate.Link{Name: "slm0", Type: kstate.TypeTUN, Localnet: true, Detour: true, Up: true}
	inner.NS = given
	for want, o := range map[string]kstate.Object{
		"netns /run/sealane/netns/web":                                kstate.NetNS{NS: web, Sysctls: []string{"a=b"}},
		"netns /proc/7/ns/net#4026531":                                kstate.NetNS{NS: given, Other: true},
		"link slb1 type bridge mtu 1500 address 02:00:00:00:00:01 up": bridge("slb1"),
		"link slv1 type veth mtu 1500 address 02:00:00:00:00:02 master slb1 isolated hairpin localnet proxyarp up" +
			" peer eth0 address 02:00:00:00:00:03 netns /run/sealane/netns/web": full,
		"link slv1 type veth peer slv2 netns ":                                                    bare,
		"netns /proc/7/ns/net#4026531 link br0 type bridge mtu 1500 address 02:00:00:00:00:01 up": inner,
		"sysctl net.ipv4.ip_forward=1":                                                            kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"},
		"addr 192.0.2.1/24 dev slb1":                                                              addr(host, "slb1", "192.0.2.1/24"),
		"netns /run/sealane/netns/web addr 2001:db8::2/64 dev eth0":                               addr(web, "eth0", "2001:db8::2/64"),
		"netns /run/sealane/netns/web route default via 192.0.2.1 dev eth0":                       route(web, "0.0.0.0/0", "192.0.2.1", "eth0"),
		"netns /run/sealane/netns/web route default6 via 2001:db8::1 dev eth0":                    route(web, "::/0", "2001:db8::1", "eth0"),
		"route 198.51.100.0/24 dev slb1":                                                          route(host, "198.51.100.0/24", "", "slb1"),
		"route 198.51.100.0/24 via 192.0.2.9 dev slb1 onlink mtu 1400 table 242250002":            other, "link slm0 type tun localnet detour up": around,
		"shaper slv1 rate 125 burst 1518 queue 3000": kstate.Shaper{Dev: "slv1", Rate: 125, Burst: 1518, Queue: 3000},
		"redirect slv1 to sli1":                      kstate.Redirect{Dev: "slv1", To: "sli1"},
		"hold tcp *:80":                              kstate.Hold{Proto: "tcp", First: 80, Last: 80},
		"hold udp 127.0.0.1:80-89":                   kstate.Hold{Proto: "udp", Addr: netip.MustParseAddr("127.0.0.1"), First: 80, Last: 89},
		"hold tcp [::1]:80":                          kstate.Hold{Proto: "tcp", Addr: netip.IPv6Loopback(), First: 80, Last: 80},
		"choice 10.1.0.9:80 id 4096 turns 10.1.0.2:80 10.1.0.3:8080": kstate.Choice{VNI: 4096, At: netip.MustParseAddrPort("10.1.0.9:80"), Turns: true,
			Backends: []netip.AddrPort{netip.MustParseAddrPort("10.1.0.2:80"), netip.MustParseAddrPort("10.1.0.3:8080")}},
		"choice [fd00::9]:80 id 4096 random":           kstate.Choice{VNI: 4096, At: netip.MustParseAddrPort("[fd00::9]:80")},
		"netns /proc/7/ns/net#4026531 chooser id 4096": kstate.Chooser{NS: given, VNI: 4096},
		"table inet sealane":                           table,
		"set inet sealane bridges { type ifname; }":    *bridges,
		"map inet sealane ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; }": *ports,
		"set inet sealane masq4 { type ipv4_addr; flags interval; }":                             kstate.NftSet{Table: table, Name: "masq4", Type: "ipv4_addr", Interval: true},
		"chain inet sealane to_nat { ct state related accept; drop; }":                           kstate.Chain{Table: table, Name: "to_nat", Rules: []string{"ct state related accept", "drop"}},
		"chain inet sealane out { type nat hook postrouting priority 100; masquerade; }":         kstate.Chain{Table: table, Name: "out", Type: "nat", Hook: "postrouting", Priority: 100, Rules: []string{"masquerade"}},
		"chain inet sealane proxy { }":                                                           kstate.Chain{Table: table, Name: "proxy"},
		"element inet sealane bridges { slb1 }":                                                  kstate.Elem{Set: bridges, At: "slb1"},
		"element inet sealane ports4 { tcp . 80 : 192.0.2.2 . 80 }":                              kstate.Elem{Set: ports, At: "tcp . 80", Value: "192.0.2.2 . 80"},
		"guest ip filter DOCKER-USER: meta mark 7 accept":                                        kstate.Guest{Table: kstate.Table{Family: "ip", Name: "filter"}, Chain: "DOCKER-USER", At: "first", Rule: "meta mark 7 accept"},
		"file /run/sealane/hosts 1 bytes ca978112ca1b":                                           kstate.File{Path: "/run/sealane/hosts", Content: "a"},
	} {
		if got := o.String(); got != want {
			t.Errorf("text is\n%q, want\n%q", got, want)
		}
	}
}

func TestOpTexts(t *testing.T) {
	a, b := bridge("slb1"), bridge("slb1")
	b.MTU = 1400
	const text = " link slb1 type bridge mtu 1400 address 02:00:00:00:00:01 up"
	for want, op := range map[string]kstate.Op{"+" + text: {New: b}, "-" + text: {Old: b}, "~" + text: {Old: a, New: b}} {
		if got := op.String(); got != want || op.Object() != kstate.Object(b) {
			t.Errorf("op is %q about %s, want %q", got, op.Object(), want)
		}
	}
}

func TestSetTextIsInRankOrderWithoutForeignObjects(t *testing.T) {
	eth := bridge("br9")
	eth.Other = true
	s := set(kstate.File{Path: "/f"}, table, route(web, "0.0.0.0/0", "192.0.2.1", "eth0"), veth("slv1", "slz1", web, "eth0"),
		bridge("slz1"), addr(web, "eth0", "192.0.2.2/24"), kstate.NetNS{NS: web}, *bridges, eth,
		kstate.Elem{Set: bridges, At: "slz1"}, kstate.Sysctl{Name: "a", Value: "b"}, kstate.Hold{Proto: "tcp", First: 1, Last: 1},
		kstate.Chain{Table: table, Name: "c"}, kstate.NetNS{NS: given, Other: true})
	const want = `netns /run/sealane/netns/web
link slz1 type bridge mtu 1500 address 02:00:00:00:00:01 up
link slv1 type veth mtu 1500 address 02:00:00:00:00:02 master slz1 up peer eth0 address 02:00:00:00:00:03 netns /run/sealane/netns/web
sysctl a=b
netns /run/sealane/netns/web addr 192.0.2.2/24 dev eth0
netns /run/sealane/netns/web route default via 192.0.2.1 dev eth0
hold tcp *:1
table inet sealane
set inet sealane bridges { type ifname; }
chain inet sealane c { }
element inet sealane bridges { slz1 }
file /f 0 bytes e3b0c44298fc
`
	if got := s.String(); got != want {
		t.Errorf("text is\n%s\nwant\n%s", got, want)
	}
}

func TestAddAndMergeRefuseContradictions(t *testing.T) {
	a, b := bridge("slb1"), bridge("slb1")
	b.MTU = 1400
	s := set(a)
	if err := s.Add(a); err != nil {
		t.Errorf("the same twice: %v", err)
	}
	b.Alias = "x"
	for name, err := range map[string]error{"add": s.Add(bridge("slb2"), b, bridge("slb3")), "merge": s.Merge(set(b))} {
		var c *kstate.ConflictError
		if !errors.As(err, &c) || c.A.String() != a.String() || c.B.String() != b.String() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s[a.Key()].String() != a.String() || s[bridge("slb2").Key()] == nil || s[bridge("slb3").Key()] != nil {
		t.Errorf("the set is now\n%s", s)
	}
}
