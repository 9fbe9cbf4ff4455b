package kstate_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

func vxlan(parent string) kstate.Link {
	return kstate.Link{Name: "slx1", Type: kstate.TypeVXLAN, MTU: 1450, MAC: "02:00:00:00:00:05", Up: true, Parent: parent,
		VXLAN: kstate.VXLAN{VNI: 7, Port: 8472, Local: netip.MustParseAddr("192.0.2.1"), NoLearning: true}}
}

func neigh(ns kstate.NS, dev, ip, mac string) kstate.Neigh {
	return kstate.Neigh{NS: ns, Dev: dev, Addr: netip.MustParseAddr(ip), MAC: mac}
}

func fdb(dev, mac, dst string) kstate.FDB {
	return kstate.FDB{Dev: dev, MAC: mac, Dst: netip.MustParseAddr(dst)}
}

func TestTunnelTexts(t *testing.T) {
	marks := kstate.Link{Name: "slx2", Type: kstate.TypeVXLAN, VXLAN: kstate.VXLAN{VNI: 1, Port: 4789, Local: netip.MustParseAddr("2001:db8::1"), GBP: true}}
	on := route(host, "10.5.2.0/24", "10.5.2.0", "slx1")
	on.Onlink, on.MTU, on.Src = true, 1400, netip.MustParseAddr("10.5.1.0")
	port := vxlan("")
	port.Master, port.Known, port.VXLAN.Proxy = "slb1", true, true
	both := fdb("slx1", "02:00:00:00:00:06", "198.51.100.2")
	both.Bridged = true
	first := route(host, "::/0", "fe80::1", "slx1")
	first.First = true
	for want, o := range map[string]kstate.Object{
		"link slx1 type vxlan vni 7 port 8472 local 192.0.2.1 parent eth1 nolearning mtu 1450 address 02:00:00:00:00:05 up": vxlan("eth1"),
		"link slx2 type vxlan vni 1 port 4789 local 2001:db8::1 gbp":                                                        marks,
		"link slt1 type tun mtu 1472 up":                                                   kstate.Link{Name: "slt1", Type: kstate.TypeTUN, MTU: 1472, Up: true},
		"link slg1 type wireguard up":                                                      kstate.Link{Name: "slg1", Type: kstate.TypeWireGuard, Up: true},
		"neigh 10.5.2.0 lladdr 02:00:00:00:00:06 dev slx1":                                 neigh(host, "slx1", "10.5.2.0", "02:00:00:00:00:06"),
		"netns /run/sealane/netns/web neigh 2001:db8::9 lladdr 02:00:00:00:00:06 dev eth0": neigh(web, "eth0", "2001:db8::9", "02:00:00:00:00:06"),
		"fdb 02:00:00:00:00:06 dev slx1 dst 198.51.100.2":                                  fdb("slx1", "02:00:00:00:00:06", "198.51.100.2"),
		"link slx1 type vxlan vni 7 port 8472 local 192.0.2.1 nolearning proxy mtu 1450 address 02:00:00:00:00:05 master slb1 known up": port,
		"fdb 02:00:00:00:00:06 dev slx1 dst 198.51.100.2 bridged":                                                                       both,
		"fdb 02:00:00:00:00:06 dev slx1 bridged":                                                                                        kstate.FDB{Dev: "slx1", MAC: "02:00:00:00:00:06", Bridged: true},
		"fdb 00:00:00:00:00:00 dev slx1 dst 2001:db8::2":                                                                                fdb("slx1", kstate.Everyone, "2001:db8::2"),
		"route 10.5.2.0/24 via 10.5.2.0 dev slx1 onlink src 10.5.1.0 mtu 1400":                                                          on,
		"route default6 via fe80::1 dev slx1 first":                                                                                     first,
		"netns /run/sealane/netns/web route default blackhole":                                                                          kstate.Route{NS: web, Dst: netip.MustParsePrefix("0.0.0.0/0"), Blackhole: true},
	} {
		if got := o.String(); got != want {
			t.Errorf("text is\n%q, want\n%q", got, want)
		}
	}
}

// What of a fabric's host is changed in place, what is made anew, and what of it
// the kernel has lost meanwhile.
func TestTunnelDiff(t *testing.T) {
	const mac, other = "02:00:00:00:00:06", "02:00:00:00:00:07"
	var (
		l    = vxlan("eth1")
		own  = addr(host, "slx1", "10.5.1.0/32")
		way  = route(host, "10.5.2.0/24", "10.5.2.0", "slx1")
		who  = neigh(host, "slx1", "10.5.2.0", mac)
		who6 = neigh(host, "slx1", "2001:db8::2", mac)
		at   = fdb("slx1", mac, "198.51.100.2")
		all2 = fdb("slx1", kstate.Everyone, "198.51.100.2")
		all3 = fdb("slx1", kstate.Everyone, "198.51.100.3")
	)
	way.Onlink = true
	all := set(l, own, way, who, who6, at, all2)
	link := func(alter func(*kstate.Link)) kstate.Set {
		n := l
		alter(&n)
		return change(all, n)
	}
	hole, narrow := kstate.Route{Dst: way.Dst, Blackhole: true}, way
	narrow.MTU = 1400
	const anew = "- slx1, + slx1, + 10.5.1.0/32, + 10.5.2.0/24, + 10.5.2.0, + 2001:db8::2, + " + kstate.Everyone + " 198.51.100.2, + " + mac
	for _, c := range []struct {
		name       string
		have, want kstate.Set
		ops        string
	}{
		{"nothing to do", all, all, ""},
		{"all of it, by rank", nil, all, strings.TrimPrefix(anew, "- slx1, ")},
		{"and back; what goes along gets no op", all, nil, "- slx1"},
		{"another MTU", all, link(func(l *kstate.Link) { l.MTU = 1400 }), "~ slx1"},
		{"another local address", all, link(func(l *kstate.Link) { l.VXLAN.Local = netip.MustParseAddr("192.0.2.2") }), "~ slx1"},
		{"another parent", all, link(func(l *kstate.Link) { l.Parent = "eth2" }), "~ slx1"},
		{"learning", all, link(func(l *kstate.Link) { l.VXLAN.NoLearning = false }), "~ slx1"},
		{"another VNI", all, link(func(l *kstate.Link) { l.VXLAN.VNI = 8 }), anew},
		{"another port", all, link(func(l *kstate.Link) { l.VXLAN.Port = 4789 }), anew},
		{"marks", all, link(func(l *kstate.Link) { l.VXLAN.GBP = true }), anew},
		{"another family", all, link(func(l *kstate.Link) { l.VXLAN.Local = netip.IPv6Loopback() }), anew},
		{"no local address", all, link(func(l *kstate.Link) { l.VXLAN.Local = netip.Addr{} }), anew},
		{"no parent", all, link(func(l *kstate.Link) { l.Parent = "" }), anew},
		{"another hardware address", all, link(func(l *kstate.Link) { l.MAC = other }), "~ slx1, + 10.5.2.0, + 2001:db8::2"},
		{"any hardware address", all, link(func(l *kstate.Link) { l.MAC = "" }), ""},
		{"no ARP", all, link(func(l *kstate.Link) { l.NoARP = true }), "~ slx1, + 10.5.2.0, + 2001:db8::2"},
		{"down", all, set(downed(l), own, at, all2), "~ slx1"},
		{"the last address", all, less(all, own, way, who), "- 10.5.1.0/32"},
		{"a neighbour elsewhere", all, change(all, neigh(host, "slx1", "10.5.2.0", other)), "~ 10.5.2.0"},
		{"a hardware address elsewhere", all, change(all, fdb("slx1", mac, "198.51.100.3")), "~ " + mac},
		{"one more for everyone's", all, change(all, all3), "+ " + kstate.Everyone + " 198.51.100.3"},
		{"one less", change(all, all3), less(all, all2), "- " + kstate.Everyone + " 198.51.100.3, - " + kstate.Everyone + " 198.51.100.2"},
		{"a route's MTU", all, change(all, narrow), "~ 10.5.2.0/24"},
		{"to nowhere", all, change(all, hole), "~ 10.5.2.0/24"},
		{"and back", change(all, hole), all, "~ 10.5.2.0/24"},
		{"to nowhere, as the device goes", all, set(hole), "- slx1, + 10.5.2.0/24"},
		{"a far end's hardware address", set(veth("slv1", "slb1", web, "eth0"), neigh(web, "eth0", "10.5.2.0", mac)),
			set(farMAC(veth("slv1", "slb1", web, "eth0"), other), neigh(web, "eth0", "10.5.2.0", mac)), "~ slv1, + web eth0 10.5.2.0"},
	} {
		var got []string
		for _, op := range kstate.Diff(c.have, c.want) {
			id := strings.ReplaceAll(strings.TrimSpace(op.Object().Key().ID), "/run/sealane/netns/", "")
			if _, rest, ok := strings.Cut(id, "slx1 "); ok {
				id = rest
			}
			got = append(got, op.String()[:2]+id)
		}
		if text := strings.Join(got, ", "); text != c.ops {
			t.Errorf("%s: ops are\n%s, want\n%s", c.name, text, c.ops)
		}
	}
}

// What a bridge knows of a port goes when that leaves it, and what the port itself
// knows does not.
func TestPortDiff(t *testing.T) {
	const mac = "02:00:00:00:00:06"
	l, at, all := vxlan(""), fdb("slx1", mac, "198.51.100.2"), fdb("slx1", kstate.Everyone, "198.51.100.2")
	l.Master, l.Known, l.VXLAN.Proxy, at.Bridged = "slb1", true, true, true
	alone, half, elsewhere, out, silent := at, at, l, l, l
	alone.Bridged, half.Dst = false, netip.Addr{}
	elsewhere.Master, out.Master, out.Known, silent.VXLAN.Proxy = "slb2", "", false, false
	known := func(l kstate.Link) kstate.Link { l.Known = !l.Known; return l }
	have := set(l, at, all)
	for _, c := range []struct {
		name       string
		have, want kstate.Set
		ops        []kstate.Op
	}{
		{"nothing to do", have, have, nil},
		{"no longer known", have, change(have, known(l)), []kstate.Op{{Old: l, New: known(l)}}},
		{"to another bridge", have, change(have, elsewhere), []kstate.Op{{Old: l, New: elsewhere}, {Old: at, New: at}}},
		{"out of it", have, change(have, out, alone), []kstate.Op{{Old: l, New: out}, {Old: at, New: alone}}},
		{"out of it, and the address goes", have, set(out, all), []kstate.Op{{Old: at}, {Old: l, New: out}}},
		{"into it", set(out, alone, all), have, []kstate.Op{{Old: out, New: l}, {Old: alone, New: at}}},
		{"what the bridge lost", change(have, alone), have, []kstate.Op{{Old: alone, New: at}}},
		{"what the device lost", change(have, half), have, []kstate.Op{{Old: half, New: at}}},
		{"the bridge's, which nobody wants", change(have, half), set(l, all), []kstate.Op{{Old: half}}},
		{"answers no longer", have, change(have, silent), []kstate.Op{{Old: l}, {New: silent}, {New: all}, {New: at}}},
		{"down", have, change(have, downed(l)), []kstate.Op{{Old: l, New: downed(l)}}},
		{"gone", have, nil, []kstate.Op{{Old: l}}},
	} {
		if got := kstate.Diff(c.have, c.want); !slices.Equal(got, c.ops) {
			t.Errorf("%s: ops are\n%v, want\n%v", c.name, got, c.ops)
		}
	}
	all.Bridged = true
	if at.Check() != nil || all.Check() == nil {
		t.Errorf("one address: %v, everyone's: %v", at.Check(), all.Check())
	}
}

func farMAC(l kstate.Link, mac string) kstate.Link { l.Peer.MAC = mac; return l }

func downed(l kstate.Link) kstate.Link { l.Up = false; return l }
