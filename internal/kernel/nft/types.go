package nft

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// datatype is a type of values as nft knows it. Each value has exactly one
// text: parse refuses any other way to write it, so that what was applied and
// what is read back are equal as texts.
type datatype struct {
	name   string
	id     uint32 // nft's number, libnftables include/datatype.h; 0: not for sets
	width  int    // bytes
	host   bool   // in the byte order of the machine
	prefix bool   // in an interval set, a value may be a prefix
	span   bool   // in an interval set, a value may be a range
	parse  func(dst []byte, text string) error
	format func(dst, value []byte) []byte
}

// The types of set keys and map values.
var (
	typeIPv4    = &datatype{name: "ipv4_addr", id: 7, width: 4, prefix: true, span: true, parse: parseIPv4, format: formatAddr}
	typeIPv6    = &datatype{name: "ipv6_addr", id: 8, width: 16, prefix: true, span: true, parse: parseIPv6, format: formatAddr}
	typeEther   = &datatype{name: "ether_addr", id: 9, width: 6, parse: parseEther, format: formatEther}
	typeProto   = &datatype{name: "inet_proto", id: 12, width: 1, parse: parseProto, format: formatProto}
	typeNFProto = &datatype{name: "nf_proto", id: 2, width: 1, host: true, parse: oneOf(1, "ipv4", 2, "ipv6", 10), format: formatNFProto}
	typeService = &datatype{name: "inet_service", id: 13, width: 2, span: true, parse: parseService, format: formatService}
	typeMark    = &datatype{name: "mark", id: 19, width: 4, host: true, parse: parseMark, format: formatMark}
	typeIfname  = &datatype{name: "ifname", id: 41, width: 16, host: true, parse: parseIfname, format: formatIfname}
)

// The types that occur in rules only.
var (
	typeDirection = &datatype{name: "ct_dir", width: 1, parse: oneOf(1, "original", 0, "reply", 1)}
	typeFibType   = &datatype{name: "fib_addrtype", width: 4, parse: oneOf(4, "unicast", 1, "local", 2, "broadcast", 3, "anycast", 4, "multicast", 5, "blackhole", 6, "unreachable", 7, "prohibit", 8)}
	typeState     = &datatype{name: "ct_state", width: 4, parse: anyOf("invalid", 1, "established", 2, "related", 4, "new", 8, "untracked", 64)}
	typeStatus    = &datatype{name: "ct_status", width: 4, parse: anyOf("expected", 1, "seen-reply", 2, "assured", 4, "confirmed", 8, "snat", 16, "dnat", 32, "dying", 512)}
	typeAnyMark   = &datatype{name: "mark", width: 4, parse: parseNumber}
	typeDevGroup  = &datatype{name: "devgroup", width: 4, parse: parseNumber}
	typeEtherType = &datatype{name: "ether_type", width: 2, parse: parseEtherType}
	typeARPOp     = &datatype{name: "arp_op", width: 2, parse: oneOf(2, "request", 1, "reply", 2, "rrequest", 3, "rreply", 4, "inrequest", 8, "inreply", 9, "nak", 10)}
	typeFragOff   = &datatype{name: "frag_off", width: 2, parse: oneOf(2, "0", 0)}
	typeFragBits  = &datatype{name: "frag_off", width: 2, parse: parseNumber16}
	typeExists    = &datatype{name: "boolean", width: 1, parse: oneOf(1, "exists", 1, "missing", 0)}
	typeTCPFlags  = &datatype{name: "tcp_flag", width: 1, parse: anyFlag("fin", 1, "syn", 2, "rst", 4, "psh", 8, "ack", 16, "urg", 32, "ecn", 64, "cwr", 128)}
	typeICMP      = &datatype{name: "icmp_type", width: 1, parse: icmpTypes}
	typeICMPv6    = &datatype{name: "icmpv6_type", width: 1, parse: icmpv6Types}
)

// setTypes are the types a set may be declared with.
var setTypes = []*datatype{typeIPv4, typeIPv6, typeEther, typeNFProto, typeProto, typeService, typeMark, typeIfname}

// typeVerdict is the name that makes a map a verdict map.
const typeVerdict = "verdict"

// protocols are the names nft prints for IP protocol numbers (IANA).
var protocols = map[string]byte{
	"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50,
	"ah": 51, "ipv6-icmp": 58, "sctp": 132, "udplite": 136,
}

func badValue(what, text string) error { return fmt.Errorf("%q is not %s", text, what) }

func parseIPv4(dst []byte, text string) error {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return badValue("an IPv4 address", text)
	}
	b := a.As4()
	copy(dst, b[:])
	return nil
}

func parseIPv6(dst []byte, text string) error {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is6() || a.Zone() != "" {
		return badValue("an IPv6 address", text)
	}
	var buf [48]byte
	if short := a.AppendTo(buf[:0]); string(short) != text {
		return fmt.Errorf("%q must be written %s", text, short)
	}
	b := a.As16()
	copy(dst, b[:])
	return nil
}

func formatAddr(dst, v []byte) []byte {
	a, _ := netip.AddrFromSlice(v)
	return a.AppendTo(dst)
}

func parseEther(dst []byte, text string) error {
	if len(text) != 17 {
		return badValue("an ethernet address", text)
	}
	for i := range 6 {
		if _, err := hex.Decode(dst[i:i+1], []byte(text[3*i:3*i+2])); err != nil || i < 5 && text[3*i+2] != ':' {
			return badValue("an ethernet address", text)
		}
	}
	if strings.ToLower(text) != text {
		return fmt.Errorf("%q must be written in lower case", text)
	}
	return nil
}

func formatEther(dst, v []byte) []byte {
	for i, b := range v {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = hex.AppendEncode(dst, []byte{b})
	}
	return dst
}

func parseProto(dst []byte, text string) error {
	if text == "tcp" { // nearly always
		dst[0] = 6
		return nil
	}
	if n, ok := protocols[text]; ok {
		dst[0] = n
		return nil
	}
	n, err := parseDecimal(text, 255)
	if err != nil {
		return badValue("an IP protocol", text)
	}
	if name := protocolName(byte(n)); name != "" {
		return fmt.Errorf("%q must be written %s", text, name)
	}
	dst[0] = byte(n)
	return nil
}

func protocolName(n byte) string {
	for name, m := range protocols {
		if m == n {
			return name
		}
	}
	return ""
}

func formatProto(dst, v []byte) []byte {
	switch v[0] {
	case 6:
		return append(dst, "tcp"...)
	case 17:
		return append(dst, "udp"...)
	}
	if name := protocolName(v[0]); name != "" {
		return append(dst, name...)
	}
	return strconv.AppendUint(dst, uint64(v[0]), 10)
}

func formatNFProto(dst, v []byte) []byte {
	switch v[0] {
	case 2:
		return append(dst, "ipv4"...)
	case 10:
		return append(dst, "ipv6"...)
	}
	return strconv.AppendUint(dst, uint64(v[0]), 10)
}

func parseService(dst []byte, text string) error {
	n, err := parseDecimal(text, 65535)
	if err != nil {
		return badValue("a port number", text)
	}
	binary.BigEndian.PutUint16(dst, uint16(n))
	return nil
}

func formatService(dst, v []byte) []byte {
	return strconv.AppendUint(dst, uint64(binary.BigEndian.Uint16(v)), 10)
}

// parseMark takes marks as nft prints them; rules may use any notation.
func parseMark(dst []byte, text string) error {
	if err := parseNumber(dst, text); err != nil {
		return err
	}
	var buf [10]byte
	if long := formatMark(buf[:0], dst); string(long) != text {
		return fmt.Errorf("%q must be written %s", text, long)
	}
	return nil
}

func formatMark(dst, v []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, binary.NativeEndian.Uint32(v))
	return hex.AppendEncode(append(dst, "0x"...), b)
}

// parseNumber takes decimal and hexadecimal.
func parseNumber(dst []byte, text string) error {
	n, err := parseBased(text, 32)
	binary.NativeEndian.PutUint32(dst, uint32(n))
	return err
}

// parseNumber16 is parseNumber for a field of a packet that has two bytes.
func parseNumber16(dst []byte, text string) error {
	n, err := parseBased(text, 16)
	binary.BigEndian.PutUint16(dst, uint16(n))
	return err
}

func parseBased(text string, bits int) (uint64, error) {
	digits, radix := text, 10
	if hex, ok := strings.CutPrefix(text, "0x"); ok {
		digits, radix = hex, 16
	} else if len(text) > 1 && text[0] == '0' {
		radix = 0 // octal to nft
	}
	n, err := strconv.ParseUint(digits, radix, bits)
	if err != nil || radix == 0 {
		return 0, badValue(fmt.Sprintf("a number of %d bits", bits), text)
	}
	return n, nil
}

// parseIfname takes what the kernel's dev_valid_name takes, without the
// characters that mean something to nft.
func parseIfname(dst []byte, text string) error {
	if text == "" || text == "." || text == ".." || len(text) > 15 {
		return badValue("an interface name (1 to 15 bytes)", text)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`/:"*;{}#,\`, c) >= 0 {
			return fmt.Errorf("interface name %q: character %q", text, c)
		}
	}
	copy(dst, text)
	return nil
}

func formatIfname(dst, v []byte) []byte {
	for _, c := range v {
		if c == 0 {
			break
		}
		dst = append(dst, c)
	}
	return dst
}

// parseDecimal is strict: no sign, no leading zero.
func parseDecimal(text string, most int) (int, error) {
	n := 0
	if text == "" || len(text) > 1 && text[0] == '0' {
		return 0, strconv.ErrSyntax
	}
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, strconv.ErrSyntax
		}
		if n = n*10 + int(c-'0'); n > most {
			return 0, strconv.ErrRange
		}
	}
	return n, nil
}

// oneOf returns a parser of one word, given words and their values.
func oneOf(width int, pairs ...any) func([]byte, string) error {
	return func(dst []byte, text string) error {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == text {
				putWord(dst[:width], pairs[i+1].(int))
				return nil
			}
		}
		return fmt.Errorf("%q is not known", text)
	}
}

// anyOf returns a parser of words joined by commas, each standing for a bit.
func anyOf(pairs ...any) func([]byte, string) error {
	one := oneOf(4, pairs...)
	return func(dst []byte, text string) error {
		all := uint32(0)
		for word := range strings.SplitSeq(text, ",") {
			if err := one(dst, word); err != nil {
				return err
			}
			all |= binary.NativeEndian.Uint32(dst)
		}
		binary.NativeEndian.PutUint32(dst, all)
		return nil
	}
}

// anyFlag is anyOf for a field of a packet that has one byte.
func anyFlag(pairs ...any) func([]byte, string) error {
	all := anyOf(pairs...)
	return func(dst []byte, text string) error {
		var wide [4]byte
		err := all(wide[:], text)
		dst[0] = byte(binary.NativeEndian.Uint32(wide[:]))
		return err
	}
}

// putWord writes what a word stands for: fields of packets have 1 or 2 bytes,
// numbers of the kernel's own have 4.
func putWord(dst []byte, n int) {
	switch len(dst) {
	case 1:
		dst[0] = byte(n)
	case 2:
		binary.BigEndian.PutUint16(dst, uint16(n))
	default:
		binary.NativeEndian.PutUint32(dst, uint32(n))
	}
}
