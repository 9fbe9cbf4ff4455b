package kerneltest

import (
	"fmt"
	"net/netip"
	"path"

	"github.com/sealane/sealane/internal/kstate"
)

// Short words for objects.

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func (s *suite) ns(name string) kstate.NS { return kstate.NS{Path: path.Join(s.RunDir, "netns", name)} }

func bridge(name string, mac byte) kstate.Link {
	return kstate.Link{Name: name, Type: kstate.TypeBridge, MTU: 1500, MAC: hw(0xb, mac), Up: true}
}

func veth(name string, ns kstate.NS, peer string, mac byte) kstate.Link {
	return kstate.Link{
		Name: name, Type: kstate.TypeVeth, MTU: 1500, MAC: hw(0xe, mac), Up: true,
		Peer: kstate.Peer{NS: ns, Name: peer, MAC: hw(0xc, mac)},
	}
}

func port(l kstate.Link, master string) kstate.Link { l.Master = master; return l }

// cord is a veth between two bridges of the host.
func cord(name, peer, from, to string, mac byte) kstate.Link {
	l := port(veth(name, host, peer, mac), from)
	l.Peer.Master = to
	return l
}

// shard is a bridge that answers no ARP.
func shard(name string, mac byte) kstate.Link { b := bridge(name, mac); b.NoARP = true; return b }

func hw(kind, n byte) string { return fmt.Sprintf("02:5e:a1:00:%02x:%02x", kind, n) }

func addr(ns kstate.NS, dev, p string) kstate.Addr {
	return kstate.Addr{NS: ns, Dev: dev, Prefix: prefix(p)}
}

func route(ns kstate.NS, dst, via, dev string) kstate.Route {
	r := kstate.Route{NS: ns, Dst: prefix(dst), Dev: dev}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	return r
}

var host kstate.NS

// A small firewall in the manner of package compile.
var (
	table    = kstate.Table{Family: "inet", Name: "sealane"}
	bridges  = &kstate.NftSet{Table: table, Name: "bridges", Type: "ifname"}
	inside   = &kstate.NftSet{Table: table, Name: "inside", Type: "ifname . ifname"}
	ingress  = &kstate.NftSet{Table: table, Name: "ingress", Type: "ifname", Data: "verdict"}
	home4    = &kstate.NftSet{Table: table, Name: "home4", Type: "ipv4_addr . ifname", Interval: true}
	home6    = &kstate.NftSet{Table: table, Name: "home6", Type: "ipv6_addr . ifname", Interval: true}
	masq4    = &kstate.NftSet{Table: table, Name: "masq4", Type: "ipv4_addr", Interval: true}
	ports4   = &kstate.NftSet{Table: table, Name: "ports4", Type: "inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	ports6   = &kstate.NftSet{Table: table, Name: "ports6", Type: "inet_proto . inet_service", Data: "ipv6_addr . inet_service"}
	portsAt4 = &kstate.NftSet{Table: table, Name: "ports_at4", Type: "ipv4_addr . inet_proto . inet_service", Data: "ipv4_addr . inet_service"}
	ranges4  = &kstate.NftSet{Table: table, Name: "ranges4", Type: "inet_proto . inet_service", Data: "ipv4_addr", Interval: true}
	open4    = &kstate.NftSet{Table: table, Name: "open4", Type: "ipv4_addr . inet_proto . inet_service"}
	opens6   = &kstate.NftSet{Table: table, Name: "open_ranges6", Type: "ipv6_addr . inet_proto . inet_service", Interval: true}
)

func base(name, typ, hook string, priority int, rules ...string) kstate.Chain {
	return kstate.Chain{Table: table, Name: name, Type: typ, Hook: hook, Priority: priority, Rules: rules}
}

func chain(name string, rules ...string) kstate.Chain {
	return kstate.Chain{Table: table, Name: name, Rules: rules}
}

func elem(set *kstate.NftSet, at, value string) kstate.Elem {
	return kstate.Elem{Set: set, At: at, Value: value}
}

// firewall is the table with its sets and chains, without elements. What is
// jumped to comes first, so that the other order is good for removal.
func firewall() []kstate.Object {
	return []kstate.Object{
		table, *bridges, *inside, *ingress, *home4, *home6, *masq4, *ports4, *ports6, *portsAt4, *ranges4, *open4, *opens6,
		chain("published",
			"ip daddr . meta l4proto . th dport @open4 accept",
			"ip6 daddr . meta l4proto . th dport @open_ranges6 accept", "drop"),
		chain("to_nat",
			"ct state related accept", "ct direction original ct status dnat goto published",
			"ct state established accept", "drop"),
		base("forward", "filter", "forward", 0,
			"iifname . oifname @inside accept", "oifname vmap @ingress"),
		chain("publish",
			"dnat ip addr . port to ip daddr . meta l4proto . th dport map @ports_at4",
			"dnat ip addr . port to meta l4proto . th dport map @ports4",
			"dnat ip to meta l4proto . th dport map @ranges4",
			"dnat ip6 addr . port to meta l4proto . th dport map @ports6"),
		base("prerouting", "nat", "prerouting", -100,
			"ip daddr 127.0.0.0/8 return", "fib daddr type local goto publish"),
		base("postrouting", "nat", "postrouting", 100,
			"oifname @bridges ip saddr 127.0.0.0/8 masquerade",
			"ip saddr . oifname @home4 return", "ip6 saddr . oifname @home6 return",
			"ip saddr @masq4 masquerade"),
	}
}

// twoNetworks is a host like many: two networks, one of them with IPv6; a
// sandbox on both and one on the second, with published ports.
func (s *suite) twoNetworks() kstate.Set {
	web, db := s.ns("web"), s.ns("db")
	front, back := bridge("slbfront", 1), bridge("slbback", 2)
	front.Localnet, back.MTU = true, 1400
	web0, web1 := port(veth("slvweb0", web, "eth0", 1), "slbfront"), port(veth("slvweb1", web, "eth1", 2), "slbback")
	db0 := port(veth("slvdb0", db, "eth0", 3), "slbback")
	web1.MTU, db0.MTU, db0.Isolated, web0.Hairpin = 1400, 1400, true, true
	all := set(firewall()...)
	for _, o := range []kstate.Object{
		kstate.NetNS{NS: web, Sysctls: []string{"net.ipv4.ip_unprivileged_port_start=0"}}, kstate.NetNS{NS: db},
		front, back, web0, web1, db0,
		addr(host, "slbfront", "192.0.2.1/24"), addr(host, "slbfront", "2001:db8:1::1/64"), addr(host, "slbfront", "fe80::1/64"),
		addr(host, "slbback", "198.51.100.1/25"),
		addr(web, "eth0", "192.0.2.2/24"), addr(web, "eth0", "2001:db8:1::2/64"), addr(web, "eth0", "fe80::5e:a1ff:fe00:c01/64"),
		addr(web, "eth1", "198.51.100.2/25"), addr(db, "eth0", "198.51.100.3/25"),
		route(web, "0.0.0.0/0", "192.0.2.1", "eth0"), route(web, "::/0", "2001:db8:1::1", "eth0"),
		route(db, "0.0.0.0/0", "198.51.100.1", "eth0"), route(host, "203.0.113.0/24", "198.51.100.9", "slbback"),
		elem(bridges, "slbfront", ""), elem(bridges, "slbback", ""),
		elem(inside, "slbfront . slbfront", ""), elem(ingress, "slbfront", "jump to_nat"), elem(ingress, "slbback", "drop"),
		elem(home4, "192.0.2.0/24 . slbfront", ""), elem(home4, "198.51.100.0/25 . slbback", ""),
		elem(home6, "2001:db8:1::/64 . slbfront", ""), elem(masq4, "192.0.2.0/24", ""),
		elem(ports4, "tcp . 8080", "192.0.2.2 . 80"), elem(ports6, "tcp . 8080", "2001:db8:1::2 . 80"),
		elem(portsAt4, "127.0.0.1 . udp . 5353", "192.0.2.2 . 53"), elem(ranges4, "tcp . 7000-7100", "192.0.2.2"),
		elem(open4, "192.0.2.2 . tcp . 80", ""), elem(open4, "192.0.2.2 . udp . 53", ""),
		elem(opens6, "2001:db8:1::2 . tcp . 80-90", ""),
		kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"},
		kstate.File{Path: path.Join(s.RunDir, "sandboxes/web/hosts"), Content: "127.0.0.1\tlocalhost\n192.0.2.2\tweb\n"},
		kstate.File{Path: path.Join(s.RunDir, "sandboxes/web/hostname"), Content: "web\n"},
	} {
		all[o.Key()] = o
	}
	return all
}

// frames is a table of the bridge family: who may send what into a bridge.
func frames() []kstate.Object {
	t := kstate.Table{Family: "bridge", Name: "sealane"}
	guarded := &kstate.NftSet{Table: t, Name: "guarded", Type: "ifname"}
	own4 := &kstate.NftSet{Table: t, Name: "own4", Type: "ifname . ether_addr . ipv4_addr"}
	own6 := &kstate.NftSet{Table: t, Name: "own6", Type: "ifname . ether_addr . ipv6_addr"}
	return []kstate.Object{
		t, *guarded, *own4, *own6,
		kstate.Chain{Table: t, Name: "claim", Rules: []string{"iifname . ether saddr . icmpv6 taddr @own6 accept", "drop"}},
		kstate.Chain{Table: t, Name: "guard", Type: "filter", Hook: "prerouting", Priority: -300, Rules: []string{
			"iifname != @guarded accept", "udp sport 67 drop",
			"iifname . ether saddr . ip saddr @own4 accept", "iifname . arp saddr ether . arp saddr ip @own4 accept",
			"icmpv6 type nd-neighbor-advert goto claim", "iifname . ether saddr . ip6 saddr @own6 accept", "drop",
		}},
		elem(guarded, "slv1", ""), elem(own4, "slv1 . 02:5e:a1:00:00:01 . 192.0.2.2", ""), elem(own6, "slv1 . 02:5e:a1:00:00:01 . 2001:db8::2", ""),
	}
}
