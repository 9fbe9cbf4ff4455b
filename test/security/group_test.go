package security

import (
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// small is a world of IPv4 networks alone: the host routes no IPv6, so it
// believes routers.
func small(t *testing.T) *world {
	l := lab.New(t)
	w := &world{T: t, lab: l, h: l.Host("h"), attacker: l.Host("attacker")}
	lan := l.Switch("lan")
	w.h.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	w.attacker.Plug(lan, "eth0", "192.0.2.3/24", "2001:db8::3/64")
	w.h.Daemon()
	for _, n := range []network{modes[0], modes[3], modes[4], shut, loose} {
		w.h.Must("sealane", append([]string{"network", "create", "-o", "name=" + n.bridge(), "--subnet", n.addr(0, false) + "/24", n.name}, n.flags...)...)
		w.h.Must("sealane", "run", "--name", n.web(), "--network", "name="+n.name+",ip="+n.addr(web, false))
	}
	return w
}

// TestGroupAddresses: what is sent to the group addresses of IEEE 802.1D,
// 01:80:c2:00:00:0x, a bridge would hand to the host as if the port were no
// bridge's: past the guard, and past all rules about bridges. Here it is one
// more group address, and no way round what else a container may do.
func TestGroupAddresses(t *testing.T) {
	w := small(t)
	names := w.start(w.h, []string{"lab-echo", "nameserver"})
	for _, n := range []network{modes[0], modes[3], modes[4], shut, loose} {
		mac, frames := w.mac(n.web(), "eth0"), []string{}
		for last := range byte(16) {
			if n.name == loose.name && last == 0 {
				continue // a bridge without STP takes it for any group, and loose may send as it likes by its bridge
			}
			in := strayFrom{n.web(), mac, net.HardwareAddr{1, 0x80, 0xc2, 0, 0, last}}
			own := n.addr(web, false)
			if n.name == "nat" || n.name == "internal" {
				own = n.addr(peer, false) // they may ask the host, as themselves
			}
			router := ip6(local(mac), allNodes, icmp6, router(local(mac)))
			for _, s := range []stray{
				in.v4("", own, "192.0.2.1", 53, ""), in.v4("", "192.0.2.99", "192.0.2.1", 53, ""), in.v4("", own, "255.255.255.255", 53, ""),
				in.v6("", "2001:db8::99", "2001:db8::1", 53, ""), in.v6("", "2001:db8::99", "ff02::1", 53, ""),
			} {
				frames = append(frames, hex.EncodeToString(s.make("group")))
			}
			frames = append(frames, hex.EncodeToString(ether(in.via, mac, typeIPv6, router)),
				hex.EncodeToString(ether(in.via, mac, typeARP, arp(arpRequest, mac, addr4("192.0.2.98"), addr4("192.0.2.1")))))
		}
		w.must(n.web(), append([]string{"lab-echo", "send", "eth0"}, frames...)...)
	}
	from := strayFrom{"attacker", w.mac0(w.attacker), w.mac("", "eth0")}
	w.from("attacker", []string{"lab-echo", "send", "eth0", hex.EncodeToString(from.v4("", "192.0.2.3", "192.0.2.1", 53, "").make("control")),
		hex.EncodeToString(ether(broadcast, from.mac, typeIPv6, ip6(local(from.mac), allNodes, icmp6, router(local(from.mac)))))})
	w.eventually("the control arrives", func() bool { return strings.Contains(names.Output(), "control") })
	w.eventually("the host believes the router on its segment", func() bool {
		return strings.Contains(w.must("", "ip", "-6", "route", "show", "default"), " dev eth0 ")
	})
	if got := names.Output(); strings.Contains(got, "group") {
		t.Errorf("containers reach the host:\n%s", got)
	}
	if got := w.must("", "ip", "-6", "route", "show", "default"); strings.Contains(got, " slv") {
		t.Errorf("a container has become the host's router:\n%s", got)
	}
	if got := w.must("", "ip", "neigh"); strings.Contains(got, " slv") {
		t.Errorf("containers have become the host's neighbours:\n%s", got)
	}
}

// TestHostIsNoNode: with antispoof=off a container may be the router of its
// network's containers. The host's it is not.
func TestHostIsNoNode(t *testing.T) {
	w := small(t)
	mac := w.mac(loose.web(), "eth0")
	from := strayFrom{"attacker", w.mac0(w.attacker), w.mac("", "eth0")}
	w.must(loose.web(), "lab-echo", "send", "eth0", hex.EncodeToString(ether(broadcast, mac, typeIPv6, ip6(local(mac), allNodes, icmp6, router(local(mac))))))
	w.from("attacker", []string{"lab-echo", "send", "eth0", hex.EncodeToString(ether(broadcast, from.mac, typeIPv6, ip6(local(from.mac), allNodes, icmp6, router(local(from.mac)))))})
	w.eventually("the host believes the router on its segment", func() bool {
		return strings.Contains(w.must("", "ip", "-6", "route", "show", "default"), " dev eth0 ")
	})
	if got := w.must("", "ip", "-6", "route", "show", "default"); strings.Contains(got, loose.bridge()) {
		t.Errorf("a container has become the host's router:\n%s", got)
	}
}

// router is an advertisement with its checksum, RFC 4861 4.2.
func router(src []byte) []byte {
	m := join([]byte{raType, 0, 0, 0, 64, 0, 7, 8}, make([]byte, 8))
	c := sum(join(src, allNodes, []byte{0, 0, 0, byte(len(m)), 0, 0, 0, icmp6}, m))
	m[2], m[3] = byte(c>>8), byte(c)
	return m
}

// TestIsolatedBridge: the host is no part of an isolated network, so it does
// not say there which addresses it has.
func TestIsolatedBridge(t *testing.T) {
	w := small(t)
	for _, n := range []network{modes[0], modes[4]} {
		mac := w.mac(n.web(), "eth0")
		sniffer := w.start(w.h, in(n.web(), "lab-echo", "sniff", "eth0"))
		w.must(n.web(), "lab-echo", "send", "eth0", hex.EncodeToString(ether(broadcast, mac, typeARP, arp(arpRequest, mac, addr4(n.addr(web, false)), addr4("192.0.2.1")))))
		answer := func() bool {
			return strings.Contains(sniffer.Output(), hex.EncodeToString(join(mac, w.mac("", n.bridge()), u16(typeARP))))
		}
		if n.name == "nat" { // it is here to show that the test can tell
			w.eventually("the host answers", answer)
		} else if time.Sleep(100 * time.Millisecond); answer() {
			t.Error("the host answers on an isolated network for its address elsewhere")
		}
	}
}

// TestOnlyAsTheHost: from a network that is masqueraded nothing leaves with a
// container's own address, also what belongs to no connection.
func TestOnlyAsTheHost(t *testing.T) {
	w := small(t)
	n := modes[0]
	in := w.leads(n, n.web())
	sniffer := w.start(w.attacker, []string{"lab-echo", "sniff", "eth0"})
	var frames []string
	for _, flags := range []byte{0x02, 0x00, 0x04, 0x11, 0x3f, 0x12} { // SYN; none; RST; FIN ACK; all; SYN ACK
		frames = append(frames, hex.EncodeToString(ether(in.via, in.mac, typeIPv4, tcp(addr4(n.addr(web, false)), addr4("192.0.2.3"), 1000+uint16(flags), 80, flags))))
	}
	w.must(n.web(), append([]string{"lab-echo", "send", "eth0"}, frames...)...)
	masqueraded := hex.EncodeToString(join(addr4("192.0.2.1"), addr4("192.0.2.3"), u16(1002), u16(80)))
	w.eventually("the first arrives", func() bool { return strings.Contains(sniffer.Output(), masqueraded) })
	time.Sleep(50 * time.Millisecond)
	if strings.Contains(sniffer.Output(), hex.EncodeToString(join(addr4(n.addr(web, false)), addr4("192.0.2.3")))) {
		t.Errorf("packets of %s with its own address:\n%s", n.web(), sniffer.Output())
	}
}

// tcp is a segment of RFC 9293 in a packet, without data.
func tcp(src, dst []byte, from, to uint16, flags byte) []byte {
	s := join(u16(from), u16(to), make([]byte, 8), []byte{0x50, flags}, u16(1024), make([]byte, 4))
	c := sum(join(src, dst, u16(tcpProto), u16(uint16(len(s))), s))
	s[16], s[17] = byte(c>>8), byte(c)
	return of(tcpProto, ip4(src, dst, 0, s))
}

// mac0 is the hardware address of a host's eth0.
func (w *world) mac0(h *lab.Host) net.HardwareAddr {
	a, err := net.ParseMAC(strings.TrimSpace(h.Must("cat", "/sys/class/net/eth0/address")))
	if err != nil {
		w.Fatal(err)
	}
	return a
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(3 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not so: %s", what)
		}
	}
}
