package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Times of asking gateways. One that is there answers in a millisecond.
const (
	askedBefore = time.Second            // how long one may take before the move
	again       = 100 * time.Millisecond // between two questions
	maxAsked    = 8                      // neighbours, if there is no gateway
)

// targets returns whom to ask whether the network is there: the next hops of
// default routes, or if there is none the neighbours that were heard of lately.
func targets(it items, index int) []netip.Addr {
	var out []netip.Addr
	for _, r := range it.Routes {
		if r.dst().Bits() == 0 {
			out = append(out, r.via(index)...)
		}
	}
	for _, h := range it.NextHops {
		const nhaGateway = 6 // NHA_GATEWAY of include/uapi/linux/nexthop.h
		if gw := address(find(split(h[sizeofNhMsg:]), nhaGateway)); gw.IsValid() {
			out = append(out, gw)
		}
	}
	if len(out) == 0 {
		for _, n := range it.Neighbours {
			if !n.permanent() && len(out) < maxAsked {
				out = append(out, n.neighbourAddr())
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// source returns which of the addresses to ask a neighbour from: one of its subnet,
// or else any.
func source(it items, to netip.Addr) netip.Addr {
	var other netip.Addr
	for _, a := range it.Addresses {
		p := a.prefix()
		if p.Addr().Is4() != to.Is4() {
			continue
		}
		if p.Contains(to) {
			return p.Addr()
		}
		if !other.IsValid() {
			other = p.Addr()
		}
	}
	return other
}

// answering asks neighbours on a device, by ARP and neighbour solicitations, and
// returns those that answer in time.
func answering(on device, it items, whom []netip.Addr, timeout time.Duration) ([]netip.Addr, error) {
	if len(whom) == 0 || !on.ether {
		return nil, nil
	}
	a, err := newAsker(on)
	if err != nil {
		return nil, err
	}
	defer a.close()
	heard := map[netip.Addr]bool{}
	for end := time.Now().Add(timeout); len(heard) < len(whom) && time.Now().Before(end); {
		for _, to := range whom {
			if from := source(it, to); !heard[to] && from.IsValid() {
				a.ask(from, to) // what is not sent is not answered
			}
		}
		a.listen(min(again, time.Until(end)), func(who netip.Addr) bool {
			if slices.Contains(whom, who) {
				heard[who] = true
			}
			return len(heard) == len(whom)
		})
	}
	return slices.DeleteFunc(slices.Clone(whom), func(w netip.Addr) bool { return !heard[w] }), nil
}

// asker has a socket for frames of each family on one device.
type asker struct {
	on    device
	socks [2]int // for ARP and IPv6
}

func newAsker(on device) (*asker, error) {
	a := &asker{on: on, socks: [2]int{-1, -1}}
	for i, proto := range []uint16{unix.ETH_P_ARP, unix.ETH_P_IPV6} {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err == nil {
			a.socks[i] = fd
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap(proto), Ifindex: on.index})
		}
		if err != nil {
			a.close()
			return nil, fmt.Errorf("packet socket: %w", err)
		}
	}
	return a, nil
}

func swap(v uint16) uint16 { return v<<8 | v>>8&0xff }

func (a *asker) close() {
	for _, fd := range a.socks {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (a *asker) ask(from, to netip.Addr) {
	sock, frame := a.socks[0], arpRequest(a.on.mac, from, to)
	if to.Is6() {
		sock, frame = a.socks[1], solicitation(a.on.mac, from, to)
	}
	_ = unix.Sendto(sock, frame, 0, &unix.SockaddrLinklayer{Ifindex: a.on.index})
}

// listen tells who answered, until enough or the time is over.
func (a *asker) listen(d time.Duration, enough func(netip.Addr) bool) {
	buf := make([]byte, 2048)
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		polled := []unix.PollFd{{Fd: int32(a.socks[0]), Events: unix.POLLIN}, {Fd: int32(a.socks[1]), Events: unix.POLLIN}}
		if _, err := unix.Poll(polled, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		for _, fd := range a.socks {
			for {
				n, _, err := unix.Recvfrom(fd, buf, 0)
				if err != nil {
					break
				}
				if who := answer(buf[:n]); who.IsValid() && enough(who) {
					return
				}
			}
		}
	}
}

// Numbers of RFC 826, RFC 8200 and RFC 4861.
const (
	etherHeader    = 14
	arpBytes       = 28
	arpAsk         = 1
	arpReply       = 2
	nextICMPv6     = 58
	ip6Header      = 40
	solicit        = 135
	advertise      = 136
	optionSource   = 1
	advertiseBytes = 24
)

func frame(to, from net.HardwareAddr, proto uint16) []byte {
	return binary.BigEndian.AppendUint16(append(slices.Clone(to), from...), proto)
}

// arpRequest asks who has an address. From an address for itself it says who has.
func arpRequest(mac net.HardwareAddr, from, to netip.Addr) []byte {
	b := frame(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, unix.ETH_P_ARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, arpAsk)
	b = append(append(b, mac...), from.AsSlice()...)
	return append(append(b, make([]byte, 6)...), to.AsSlice()...)
}

// solicitation asks who has an IPv6 address: to its solicited-node multicast
// address (RFC 4291, section 2.7.1).
func solicitation(mac net.HardwareAddr, from, to netip.Addr) []byte {
	a := to.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]})
	icmp := append([]byte{solicit, 0, 0, 0, 0, 0, 0, 0}, a[:]...)
	icmp = append(append(icmp, optionSource, 1), mac...)
	return icmp6(net.HardwareAddr{0x33, 0x33, 0xff, a[13], a[14], a[15]}, mac, from, group, icmp)
}

// icmp6 is the frame of a message of neighbour discovery, with its checksum.
func icmp6(to, mac net.HardwareAddr, from, group netip.Addr, icmp []byte) []byte {
	binary.BigEndian.PutUint16(icmp[2:], checksum(from, group, icmp))
	b := frame(to, mac, unix.ETH_P_IPV6)
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(icmp)), nextICMPv6, 255)
	b = append(append(b, from.AsSlice()...), group.AsSlice()...)
	return append(b, icmp...)
}

// checksum is ICMPv6's, over the pseudo header too (RFC 8200, section 8.1).
func checksum(from, to netip.Addr, body []byte) uint16 {
	all := append(append(from.AsSlice(), to.AsSlice()...), 0, 0, 0, byte(len(body)), 0, 0, 0, nextICMPv6)
	all = append(all, body...)
	var sum uint32
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// answer returns who says, by an ARP reply or a neighbour advertisement, that it is
// there.
func answer(b []byte) netip.Addr {
	if len(b) < etherHeader {
		return netip.Addr{}
	}
	switch proto, b := binary.BigEndian.Uint16(b[12:]), b[etherHeader:]; {
	case proto == unix.ETH_P_ARP && len(b) >= arpBytes && b[7] == arpReply:
		return address(b[14:18])
	case proto == unix.ETH_P_IPV6 && len(b) >= ip6Header+advertiseBytes && b[6] == nextICMPv6 && b[ip6Header] == advertise:
		return address(b[ip6Header+8 : ip6Header+24])
	}
	return netip.Addr{}
}

// announce tells the others on a bridge of addresses whose hardware address changed.
func announce(on device, it items) {
	a, err := newAsker(on)
	if err != nil {
		return // they find out by themselves, later
	}
	defer a.close()
	for _, x := range it.Addresses {
		if ip := x.prefix().Addr(); ip.Is4() {
			a.ask(ip, ip)
		} else {
			_ = unix.Sendto(a.socks[1], advertisement(on.mac, ip), 0, &unix.SockaddrLinklayer{Ifindex: on.index})
		}
	}
}

// advertisement tells all nodes, unasked, who has an IPv6 address, whatever they
// know (RFC 4861, section 7.2.6).
func advertisement(mac net.HardwareAddr, ip netip.Addr) []byte {
	const override, optionTarget = 0x20, 2
	all := netip.IPv6LinkLocalAllNodes()
	icmp := append([]byte{advertise, 0, 0, 0, override, 0, 0, 0}, ip.AsSlice()...)
	icmp = append(append(icmp, optionTarget, 1), mac...)
	return icmp6(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, ip, all, icmp)
}

// clients are programs that keep an address up by DHCP, by the names that the
// kernel has for them (15 bytes).
var clients = []string{"dhclient", "dhcpcd", "udhcpc", "systemd-network", "NetworkManager", "connmand", "dhcp6c", "odhcp6c"}

// client returns the DHCP client that has a socket for frames on a device.
func client(index int) (name string, pid string) {
	b, _ := os.ReadFile("/proc/net/packet")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // sk RefCnt Type Proto Iface R Rmem User Inode
		if len(f) < 9 || f[4] != fmt.Sprint(index) {
			continue
		}
		if name, pid := holder("socket:[" + f[8] + "]"); slices.Contains(clients, name) {
			return name, pid
		}
	}
	return "", ""
}

// holder returns a process that has a file open.
func holder(file string) (name, pid string) {
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		if p.Name()[0] < '0' || p.Name()[0] > '9' {
			continue
		}
		dir := "/proc/" + p.Name() + "/fd"
		fds, _ := os.ReadDir(dir)
		for _, fd := range fds {
			if to, err := os.Readlink(dir + "/" + fd.Name()); err == nil && to == file {
				comm, _ := os.ReadFile("/proc/" + p.Name() + "/comm")
				return strings.TrimSpace(string(comm)), p.Name()
			}
		}
	}
	return "", ""
}
