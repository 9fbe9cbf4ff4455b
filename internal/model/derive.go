package model

import (
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
)

// MACFor derives an endpoint's hardware address from its first address, so
// that a reused address never meets a stale neighbour entry: 02:42 and the four
// bytes of an IPv4 address, as Docker's overlays do, or 02:43 and a digest of
// an IPv6 address. It is locally administered and unicast.
func MACFor(a netip.Addr) string {
	if a.Is4() {
		b := a.As4()
		return mac(0x02, 0x42, b[0], b[1], b[2], b[3])
	}
	h := fnv.New32a()
	b16 := a.As16()
	h.Write(b16[:])
	s := h.Sum32()
	return mac(0x02, 0x43, byte(s>>24), byte(s>>16), byte(s>>8), byte(s))
}

// MayBeDerived reports whether MACFor gives a hardware address, in canonical
// form, to some address of the subnets; of IPv6 it may be any.
func MayBeDerived(hw string, subnets []Subnet) bool {
	b, _ := parseMAC(hw)
	return slices.ContainsFunc(subnets, func(s Subnet) bool {
		if s.Prefix.Addr().Is4() {
			return b[0] == 0x02 && b[1] == 0x42 && s.Prefix.Contains(netip.AddrFrom4([4]byte(b[2:])))
		}
		return b[0] == 0x02 && b[1] == 0x43
	})
}

// MACForID derives a hardware address from an ID: of bridges, the host's ends of
// veths, and interfaces without an address. kind keeps devices of one ID apart.
func MACForID(kind byte, id ID) string {
	h := fnv.New64a()
	h.Write([]byte(id))
	s := h.Sum64()
	return mac(kind, byte(s>>32), byte(s>>24), byte(s>>16), byte(s>>8), byte(s))
}

// The kinds of device for MACForID, and the first byte of their addresses. A
// bridge without an address of its own takes the lowest of its ports'
// (br_stp_recalculate_bridge_id in net/bridge/br_stp_if.c): one that we adopt
// must not take ours and lose it again, so a veth's is as high as can be.
const (
	MACBridge byte = 0x16
	MACVeth   byte = 0xfe
	MACSide   byte = 0x1a // no port of a bridge
	MACTunnel byte = 0x0a // of a vxlan device

	MACEndpoint byte = 0x06 // of an interface without an address
)

func mac(b ...byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}

// CheckMAC reads a hardware address for an endpoint and returns it in
// canonical form; a multicast or zero address is refused.
func CheckMAC(s string) (string, error) {
	b, ok := parseMAC(s)
	switch {
	case !ok:
		return "", fmt.Errorf("mac-address %q: want six bytes as 02:42:0a:00:00:02", s)
	case b[0]&1 != 0:
		return "", fmt.Errorf("mac-address %q: is a multicast address", s)
	case b == [6]byte{}:
		return "", fmt.Errorf("mac-address %q: is zero", s)
	}
	return mac(b[:]...), nil
}

// parseMAC reads what net.ParseMAC does: twelve hex digits, or pairs of them with colons
// or dashes between, or groups of four with dots.
func parseMAC(s string) (b [6]byte, ok bool) {
	digits := s
	for separator, size := range map[string]int{":": 2, "-": 2, ".": 4} {
		groups := strings.Split(s, separator)
		if len(groups)*size == 2*len(b) && !slices.ContainsFunc(groups, func(g string) bool { return len(g) != size }) {
			digits = strings.Join(groups, "")
		}
	}
	if len(digits) != 2*len(b) {
		return b, false
	}
	_, err := hex.Decode(b[:], []byte(digits))
	return b, err == nil
}

// InterfaceID derives the lower half of the IPv6 addresses that a device chooses itself,
// from its hardware address, as the kernel would (RFC 4291, appendix A). The upper half is zero.
func InterfaceID(macAddr string) netip.Addr {
	a := LinkLocal(macAddr).Addr().As16()
	a[0], a[1] = 0, 0
	return netip.AddrFrom16(a)
}

// LinkLocal derives the IPv6 link-local address of a device from its hardware
// address (RFC 4291, appendix A), as the kernel would.
func LinkLocal(macAddr string) netip.Prefix {
	b, _ := parseMAC(macAddr)
	a := [16]byte{0xfe, 0x80, 8: b[0] ^ 2, 9: b[1], 10: b[2], 11: 0xff, 12: 0xfe, 13: b[3], 14: b[4], 15: b[5]}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}
