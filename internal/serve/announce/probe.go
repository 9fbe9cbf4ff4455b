package announce

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/wire"
)

// Wire is where a question about an address is put.
type Wire struct {
	wire.Place
	VLAN int // of the device; 0 is what has no tag
	// Named: neighbours are asked from the device's own link-local address, not
	// from none: a network that judges what a container sends lets that pass.
	Named bool
	// Has: the device has the address already, and what its own hardware address says
	// of it is no news.
	Has bool
	// Ours, if not empty, begins the names of the ports of a bridge behind which
	// nobody is who is not known to the caller.
	Ours string
}

// Timing of a probe. RFC 5227 has a user wait for up to seven seconds; a holder
// that is there answers within a millisecond, and three questions are for one
// that has to wake up.
const (
	probes        = 3
	probeInterval = 200 * time.Millisecond
	probePatience = time.Second // for a device that has just been made
)

// Probe asks a wire whether somebody has an address: an ARP probe (RFC 5227,
// section 2.1.1), or duplicate address detection (RFC 4862, section 5.4). It
// returns the holder's hardware address, or nil, after 0.6 seconds, when nobody
// answered. Somebody who asks the same just now counts as a holder.
func Probe(ctx context.Context, w Wire, a netip.Addr) (net.HardwareAddr, error) {
	a = a.Unmap().WithZone("")
	if w.NS.IsHost() {
		if own := local(a); own != nil {
			return own, nil
		}
		if w.Lonely() {
			return nil, nil
		}
	}
	s, err := wire.Open(ctx, w.Place, probePatience, probeFilter(a.Is6()))
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", a, err)
	}
	defer s.Close()
	question := tagged(probe(s.MAC, a, w.Named), w.VLAN)
	for range probes {
		if err := s.Send(question); err != nil {
			return nil, fmt.Errorf("probe %s: %w", a, err)
		}
		holder, err := w.hear(ctx, s, a)
		if holder != nil || err != nil {
			return holder, err
		}
	}
	return nil, nil
}

// Prober returns Probe for a host with bridges that carry frames while they are down
// themselves, as those of Open vSwitch. Their neighbours are asked by each device by which
// what is in a VLAN leaves such a bridge: ways returns them, with the tags that it has there.
func Prober(ways func(device string, vlan int) map[string]int) func(context.Context, Wire, netip.Addr) (net.HardwareAddr, error) {
	return func(ctx context.Context, w Wire, a netip.Addr) (net.HardwareAddr, error) {
		dev, err := net.InterfaceByName(w.Device)
		if !w.NS.IsHost() || err != nil || dev.Flags&net.FlagUp != 0 {
			return Probe(ctx, w, a)
		}
		if own := local(a.Unmap().WithZone("")); own != nil {
			return own, nil
		}
		return probeAll(ctx, ways(w.Device, w.VLAN), a)
	}
}

// probeAll asks by several devices at the same time, by each with a tag.
func probeAll(ctx context.Context, tags map[string]int, a netip.Addr) (net.HardwareAddr, error) {
	type answer struct {
		holder net.HardwareAddr
		err    error
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	answers := make(chan answer, len(tags))
	for dev, tag := range tags {
		go func() {
			holder, err := Probe(ctx, Wire{Place: wire.Place{Device: dev}, VLAN: tag}, a)
			answers <- answer{holder, err}
		}()
	}
	var errs []error
	for range tags {
		got := <-answers
		if got.holder != nil {
			return got.holder, nil
		}
		errs = append(errs, got.err)
	}
	return nil, errors.Join(errs...)
}

// local returns the hardware address of the device of this host that has an
// address: Linux answers for it on every wire.
func local(a netip.Addr) net.HardwareAddr {
	is := func(one net.Addr) bool {
		p, err := netip.ParsePrefix(one.String())
		return err == nil && p.Addr().Unmap() == a
	}
	if foreign(a) {
		return nil // which is the usual
	}
	devices, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, dev := range devices {
		if addrs, err := dev.Addrs(); err == nil && slices.ContainsFunc(addrs, is) {
			return dev.HardwareAddr
		}
	}
	return nil
}

// foreign reports whether no socket of this host can have an address. One that can may
// still be nobody's (ip_nonlocal_bind); an IPv6 address that the host is about to have
// counts as foreign, and is asked about on the wire as any other.
func foreign(a netip.Addr) bool {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: a.As16()})
	if a.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: a.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return errors.Is(unix.Bind(fd, to), unix.EADDRNOTAVAIL)
}

// Lonely reports whether the wire is a bridge of the host's with nobody behind it who
// could have an address of his own.
func (w Wire) Lonely() bool {
	dir, err := os.Open("/sys/class/net/" + w.Device + "/brif")
	if err != nil {
		return false
	}
	defer dir.Close()
	ports, err := dir.Readdirnames(-1)
	return err == nil && w.Ours != "" && !slices.ContainsFunc(ports, func(p string) bool { return !strings.HasPrefix(p, w.Ours) })
}

// hear waits an interval for somebody who claims a.
func (w Wire) hear(ctx context.Context, s *wire.Socket, a netip.Addr) (net.HardwareAddr, error) {
	b := make([]byte, 256)
	for until := time.Now().Add(probeInterval); ; {
		f, err := s.Receive(ctx, until, b)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("probe %s: %w", a, err)
		case f.Outgoing || f.VLAN != w.VLAN:
			continue
		}
		if holder, asks := claim(f.Data, a); holder != nil && !((asks || w.Has) && bytes.Equal(holder, s.MAC)) {
			return holder, nil
		}
	}
}

// tagged puts a VLAN tag (IEEE 802.1Q) behind a frame's addresses.
func tagged(frame []byte, vlan int) []byte {
	if vlan == 0 {
		return frame
	}
	b := append([]byte{}, frame[:12]...)
	b = binary.BigEndian.AppendUint16(b, 0x8100)
	b = binary.BigEndian.AppendUint16(b, uint16(vlan))
	return append(b, frame[12:]...)
}

// Types of ICMPv6 and offsets in an Ethernet frame.
const (
	typeSolicitation = 135
	optionSource     = 1

	atEtherType = 12
	atPacket    = 14
	atICMPv6    = atPacket + 40
	arpBytes    = 28
)

// probe returns the frame that asks who has a.
func probe(mac net.HardwareAddr, a netip.Addr, named bool) []byte {
	if a.Is4() {
		b := arp(mac, a)
		copy(b[atPacket+14:], []byte{0, 0, 0, 0}) // the sender has no address
		return b
	}
	return solicitation(mac, a, named)
}

// solicitation returns a neighbour solicitation for a (RFC 4861, section 4.3):
// from the device's link-local address, or from none.
//
//	 0       1       2               4                               8
//	┌───────┬───────┬───────────────┬───────────────────────────────┐
//	│  135  │   0   │ checksum      │ reserved                      │
//	├───────┴───────┴───────────────┴───────────────────────────────┤
//	│ target: the address (16)                                      │
//	├───────┬───────┬───────────────────────────────────────────────┤
//	│   1   │ 1 (×8)│ mac (6): only from an address                 │
//	└───────┴───────┴───────────────────────────────────────────────┘
func solicitation(mac net.HardwareAddr, a netip.Addr, named bool) []byte {
	t := a.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]}) // RFC 4291, section 2.7.1
	from := netip.IPv6Unspecified()
	icmp := append([]byte{typeSolicitation, 0, 0, 0, 0, 0, 0, 0}, t[:]...)
	if named {
		from = linkLocal(mac)
		icmp = append(append(icmp, optionSource, 1), mac...)
	}
	binary.BigEndian.PutUint16(icmp[2:], checksum(from, group, icmp))
	b := ethernet(net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}, mac, etherIPv6)
	b = append(b, 0x60, 0, 0, 0, 0, byte(len(icmp)), nextICMPv6, hopLimit)
	b = append(append(b, from.AsSlice()...), group.AsSlice()...)
	return append(b, icmp...)
}

// linkLocal is the address that is made of a hardware address (RFC 4291,
// appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// claim returns who says in a frame that it has a, or wants to have it and asks
// as we do; nil if the frame is about something else.
func claim(frame []byte, a netip.Addr) (who net.HardwareAddr, asks bool) {
	if len(frame) < atPacket {
		return nil, false
	}
	from := net.HardwareAddr(append([]byte(nil), frame[6:12]...))
	switch binary.BigEndian.Uint16(frame[atEtherType:]) {
	case etherARP:
		return claimARP(frame[atPacket:], from, a)
	case etherIPv6:
		return claimND(frame, from, a)
	}
	return nil, false
}

func claimARP(b []byte, from net.HardwareAddr, a netip.Addr) (net.HardwareAddr, bool) {
	if len(b) < arpBytes || !a.Is4() {
		return nil, false
	}
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	switch {
	case sender == a:
		return net.HardwareAddr(append([]byte(nil), b[8:14]...)), false
	case sender.IsUnspecified() && target == a:
		return from, true
	}
	return nil, false
}

func claimND(b []byte, from net.HardwareAddr, a netip.Addr) (net.HardwareAddr, bool) {
	if len(b) < atICMPv6+24 || b[atPacket+6] != nextICMPv6 || b[atPacket+7] != hopLimit || !a.Is6() {
		return nil, false
	}
	icmp := b[atICMPv6:]
	if netip.AddrFrom16([16]byte(icmp[8:24])) != a {
		return nil, false
	}
	switch source := netip.AddrFrom16([16]byte(b[atPacket+8 : atPacket+24])); {
	case icmp[0] == typeAdvertisement:
		return from, false
	case icmp[0] == typeSolicitation && source.IsUnspecified():
		return from, true
	}
	return nil, false
}

// probeFilter lets pass ARP, or neighbour discovery's solicitations and
// advertisements.
func probeFilter(is6 bool) []bpf.Instruction {
	if !is6 {
		return []bpf.Instruction{
			bpf.LoadAbsolute{Off: atEtherType, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipFalse: 1},
			bpf.RetConstant{Val: 256},
			bpf.RetConstant{},
		}
	}
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: atEtherType, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherIPv6, SkipFalse: 6},
		bpf.LoadAbsolute{Off: atPacket + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: nextICMPv6, SkipFalse: 4},
		bpf.LoadAbsolute{Off: atICMPv6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeSolicitation, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeAdvertisement, SkipFalse: 1},
		bpf.RetConstant{Val: 256},
		bpf.RetConstant{},
	}
}
