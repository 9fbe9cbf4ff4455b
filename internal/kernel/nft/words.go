package nft

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// etherTypes are nft's words for protocols over ethernet (IEEE).
var etherTypes = map[string]uint16{
	"arp": unix.ETH_P_ARP, "ip": unix.ETH_P_IP, "ip6": unix.ETH_P_IPV6, "8021q": unix.ETH_P_8021Q, "8021ad": unix.ETH_P_8021AD,
}

// parseEtherType takes a word, or a hexadecimal number that has none.
func parseEtherType(dst []byte, text string) error {
	n, ok := etherTypes[text]
	if !ok {
		digits, hex := strings.CutPrefix(text, "0x")
		parsed, err := strconv.ParseUint(digits, 16, 16)
		if err != nil || !hex {
			return badValue("an ethernet protocol", text)
		}
		n = uint16(parsed)
	}
	for word, m := range etherTypes {
		if m == n && word != text {
			return fmt.Errorf("%q must be written %s", text, word)
		}
	}
	binary.BigEndian.PutUint16(dst, n)
	return nil
}

// The networks of packets that are neither IPv4 nor IPv6, besides NFPROTO_ARP:
// a number no NFPROTO has.
const networkOther = 0xff

// networkOf is the NFPROTO_* that an ethernet protocol carries.
func networkOf(etherType []byte) byte {
	switch binary.BigEndian.Uint16(etherType) {
	case unix.ETH_P_IP:
		return unix.NFPROTO_IPV4
	case unix.ETH_P_IPV6:
		return unix.NFPROTO_IPV6
	case unix.ETH_P_ARP:
		return unix.NFPROTO_ARP
	}
	return networkOther
}

// etherType is the opposite.
func etherType(network byte) []byte {
	n := uint16(unix.ETH_P_IP)
	switch network {
	case unix.NFPROTO_IPV6:
		n = unix.ETH_P_IPV6
	case unix.NFPROTO_ARP:
		n = unix.ETH_P_ARP
	}
	return binary.BigEndian.AppendUint16(nil, n)
}

// icmpTypes and icmpv6Types parse nft's words for types of messages (IANA,
// ICMP and ICMPv6 parameters), or their numbers.
var (
	icmpTypes = orNumber(oneOf(1, "echo-reply", 0, "destination-unreachable", 3, "source-quench", 4, "redirect", 5,
		"echo-request", 8, "router-advertisement", 9, "router-solicitation", 10, "time-exceeded", 11,
		"parameter-problem", 12, "timestamp-request", 13, "timestamp-reply", 14, "info-request", 15,
		"info-reply", 16, "address-mask-request", 17, "address-mask-reply", 18))
	icmpv6Types = orNumber(oneOf(1, "destination-unreachable", 1, "packet-too-big", 2, "time-exceeded", 3,
		"parameter-problem", 4, "echo-request", 128, "echo-reply", 129, "mld-listener-query", 130,
		"mld-listener-report", 131, "mld-listener-done", 132, "nd-router-solicit", 133, "nd-router-advert", 134,
		"nd-neighbor-solicit", 135, "nd-neighbor-advert", 136, "nd-redirect", 137, "router-renumbering", 138,
		"ind-neighbor-solicit", 141, "ind-neighbor-advert", 142, "mld2-listener-report", 143))
)

// orNumber returns a parser that takes a number of one byte too.
func orNumber(word func([]byte, string) error) func([]byte, string) error {
	return func(dst []byte, text string) error {
		if n, err := parseDecimal(text, 255); err == nil {
			dst[0] = byte(n)
			return nil
		}
		return word(dst, text)
	}
}
