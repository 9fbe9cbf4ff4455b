package announce

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// announcement returns the Ethernet frame that says that mac has a.
func announcement(mac net.HardwareAddr, a netip.Addr) []byte {
	if a = a.Unmap().WithZone(""); a.Is4() {
		return arp(mac, a)
	}
	return advertisement(mac, a)
}

// Numbers of RFC 826, RFC 8200 and RFC 4861.
const (
	etherARP   = 0x0806
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	hwEthernet = 1
	arpRequest = 1

	nextICMPv6         = 58
	hopLimit           = 255 // less would have crossed a router
	typeAdvertisement  = 136
	flagOverride       = 0x20
	optionTarget       = 2
	advertisementBytes = 32
)

func ethernet(to, from net.HardwareAddr, typ uint16) []byte {
	b := append(append([]byte{}, to...), from...)
	return binary.BigEndian.AppendUint16(b, typ)
}

// arp returns an ARP announcement: a request, as RFC 5227 has it, from an
// address for itself.
//
//	 0               2               4       5       6               8
//	┌───────────────┬───────────────┬───────┬───────┬───────────────┐
//	│ Ethernet      │ IPv4          │   6   │   4   │ request       │
//	├───────────────┴───────────────┴───────┴───────┴───────────────┤
//	│ sender: mac (6), address (4)   target: zero (6), address (4)  │
//	└───────────────────────────────────────────────────────────────┘
func arp(mac net.HardwareAddr, a netip.Addr) []byte {
	b := ethernet(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, etherARP)
	b = binary.BigEndian.AppendUint16(b, hwEthernet)
	b = binary.BigEndian.AppendUint16(b, etherIPv4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, arpRequest)
	b = append(append(b, mac...), a.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(b, a.AsSlice()...)
}

// advertisement returns an unsolicited neighbour advertisement to all nodes,
// which overrides what they know.
//
//	 0       1       2               4                               8
//	┌───────┬───────┬───────────────┬───────────────────────────────┐
//	│  136  │   0   │ checksum      │ R S O: override only          │
//	├───────┴───────┴───────────────┴───────────────────────────────┤
//	│ target: the address (16)                                      │
//	├───────┬───────┬───────────────────────────────────────────────┤
//	│   2   │ 1 (×8)│ mac (6)                                       │
//	└───────┴───────┴───────────────────────────────────────────────┘
func advertisement(mac net.HardwareAddr, a netip.Addr) []byte {
	all := netip.IPv6LinkLocalAllNodes()
	icmp := make([]byte, 0, advertisementBytes)
	icmp = append(icmp, typeAdvertisement, 0, 0, 0, flagOverride, 0, 0, 0)
	icmp = append(icmp, a.AsSlice()...)
	icmp = append(append(icmp, optionTarget, 1), mac...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(a, all, icmp))

	b := ethernet(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, etherIPv6) // RFC 2464, section 7
	b = append(b, 0x60, 0, 0, 0, 0, advertisementBytes, nextICMPv6, hopLimit)
	b = append(append(b, a.AsSlice()...), all.AsSlice()...)
	return append(b, icmp...)
}

// checksum is ICMPv6's, over the pseudo header too (RFC 8200, section 8.1).
func checksum(from, to netip.Addr, body []byte) uint16 {
	pseudo := append(append([]byte{}, from.AsSlice()...), to.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	pseudo = append(pseudo, 0, 0, 0, nextICMPv6)
	var sum uint32
	for _, part := range [][]byte{pseudo, body} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
