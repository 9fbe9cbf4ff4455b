package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// compiler turns the statements of one rule into the kernel's expressions, the
// same ones that nft makes. Two differences are on purpose: nft loads adjacent
// header fields at once where it can, and nft 1.0.6 swaps the bytes of a
// one-byte field, to no effect.
type compiler struct {
	family    byte
	xtables   bool // for a table that iptables keeps, see Guests
	ethernet  bool
	network   byte // NFPROTO_*, 0 when not known
	transport int  // IP protocol, -1 when not known
	out       []expr.Any
	sets      []SetUse
	chains    []string
}

// SetUse is a set that a rule looks something up in, and what it must be.
type SetUse struct {
	Name string
	Type string // of the key; the set may be an interval set or not
	Data string // of the value; "" for a set
}

func (r *rule) compile(in compiler) (*compiler, error) {
	c := &in
	c.transport = -1
	if c.family == unix.NFPROTO_IPV4 || c.family == unix.NFPROTO_IPV6 {
		c.network = c.family
	}
	for _, s := range r.stmts {
		if err := s.add(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *compiler) emit(e ...expr.Any) { c.out = append(c.out, e...) }

// register returns the number of the register that begins with a 4 byte slot,
// as nft numbers them: NFT_REG_1… hold 16 bytes, NFT_REG32_00… hold 4.
func register(slot int) uint32 {
	if slot%4 == 0 {
		return uint32(unix.NFT_REG_1 + slot/4)
	}
	return uint32(unix.NFT_REG32_00 + slot)
}

// load reads a key into the first registers.
func (c *compiler) load(key []*selector) error {
	for _, s := range key {
		if err := c.depend(s); err != nil {
			return err
		}
	}
	slot := 0
	for _, s := range key {
		c.emit(s.load(s, register(slot)))
		if s.mask != nil {
			c.emit(maskedIn(register(slot), s.mask))
		}
		slot += aligned(s.typ.width) / 4
	}
	return nil
}

// depend puts the matches in front that make s mean what it says.
func (c *compiler) depend(s *selector) error {
	if s.typ == typeNFProto && c.family == unix.NFPROTO_BRIDGE {
		return fmt.Errorf("%s has no use in a bridge table", s.name)
	}
	if s.value == unix.NFPROTO_ARP && s.layer == layerNetwork && c.family != unix.NFPROTO_BRIDGE {
		return fmt.Errorf("%s is for bridge tables", s.name)
	}
	if s.key == unix.NFT_CT_PROTO_DST && s.typ == typeService && c.transport < 0 {
		return fmt.Errorf("%s needs a match of its protocol in front", s.name)
	}
	if s.over != 0 && c.transport < 0 {
		if err := c.require(s.name, layerNetwork, s.over, true); err != nil {
			return err
		}
	}
	return c.require(s.name, s.layer, s.value, s.value == unix.NFPROTO_ARP || s.extension())
}

// require matches a layer's protocol if that is not known yet. In a bridge
// table nft reads it from the frame's header for some selectors and asks the
// kernel for others, which differs for frames with a VLAN tag.
func (c *compiler) require(who string, l layer, value byte, header bool) error {
	known, err := c.tell(l, value)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if known {
		return nil
	}
	meta, data := expr.MetaKeyL4PROTO, []byte{value}
	switch {
	case l == layerLink:
		meta, data = expr.MetaKeyIIFTYPE, binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)
	case l == layerNetwork && c.family == unix.NFPROTO_BRIDGE && header:
		c.emit(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 12, Len: 2}, equal(etherType(value)))
		return nil
	case l == layerNetwork && c.family == unix.NFPROTO_BRIDGE:
		meta, data = expr.MetaKeyPROTOCOL, etherType(value)
	case l == layerNetwork:
		meta = expr.MetaKeyNFPROTO
	}
	c.emit(&expr.Meta{Key: meta, Register: 1}, equal(data))
	return nil
}

// tell notes a layer's protocol and reports whether it was known already.
func (c *compiler) tell(l layer, value byte) (known bool, err error) {
	switch l {
	case layerLink:
		known = c.ethernet || c.family == unix.NFPROTO_BRIDGE
		c.ethernet = true
	case layerNetwork:
		known = c.network != 0
		if known && c.network != value {
			return true, fmt.Errorf("the rule matches another address family already")
		}
		c.network = value
	case layerTransport:
		known = c.transport >= 0
		if known && c.transport != int(value) {
			return true, fmt.Errorf("the rule matches another protocol already")
		}
		c.transport = int(value)
	default:
		known = true
	}
	return known, nil
}

func equal(value []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value} }

// use notes a set, once.
func (c *compiler) use(name string, key []*selector, data string) {
	names := make([]string, len(key))
	for i, s := range key {
		names[i] = s.typ.name
	}
	u := SetUse{name, strings.Join(names, " . "), data}
	if !slices.Contains(c.sets, u) {
		c.sets = append(c.sets, u)
	}
}

func (m match) add(c *compiler) error {
	if c.xtables && m.mask != nil && m.key[0].name == "meta mark" {
		c.emit(xtMark(m.data, m.mask, m.not))
		return nil
	}
	if err := c.load(m.key); err != nil {
		return err
	}
	if m.set != "" {
		c.use(m.set, m.key, "")
		c.emit(&expr.Lookup{SourceRegister: 1, SetName: m.set, Invert: m.not})
		return nil
	}
	op := expr.CmpOpEq
	if m.not {
		op = expr.CmpOpNeq
	}
	data := m.data[:m.typ.width]
	switch {
	case m.mask != nil:
		c.emit(masked(m.mask))
	case (m.typ == typeState || m.typ == typeStatus) && !m.not:
		// One of the bits is enough.
		c.emit(masked(data))
		op, data = expr.CmpOpNeq, make([]byte, len(data))
	case m.typ == typeFragOff: // below it are flags
		c.emit(masked([]byte{0xff, 0xf8}))
	case m.bits > 0 && m.bits%8 == 0:
		data = data[:m.bits/8]
		if p, ok := c.out[len(c.out)-1].(*expr.Payload); ok {
			p.Len = uint32(len(data))
		}
	case m.bits >= 0:
		last := make([]byte, len(data))
		fillHost(last, m.bits)
		for i := range last {
			last[i] = ^last[i]
		}
		c.emit(masked(last))
	}
	c.emit(&expr.Cmp{Op: op, Register: 1, Data: data})
	return m.teach(c, data)
}

// teach notes what an equal match makes known of the packet.
func (m match) teach(c *compiler, data []byte) error {
	s := m.key[0]
	if s.tells == layerNone || m.not {
		return nil
	}
	value := data[0]
	if m.typ == typeEtherType {
		value = networkOf(data)
	}
	if _, err := c.tell(s.tells, value); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

func masked(mask []byte) expr.Any { return maskedIn(1, mask) }

func maskedIn(reg uint32, mask []byte) expr.Any {
	return &expr.Bitwise{
		SourceRegister: reg, DestRegister: reg, Len: uint32(len(mask)),
		Mask: bytes.Clone(mask), Xor: make([]byte, len(mask)),
	}
}

func (l lookup) add(c *compiler) error {
	if err := c.load(l.key); err != nil {
		return err
	}
	c.use(l.set, l.key, typeVerdict)
	c.emit(&expr.Lookup{SourceRegister: 1, SetName: l.set, IsDestRegSet: true})
	return nil
}

// ask looks a key up in a map; the value replaces it in the first registers.
func (c *compiler) ask(key []*selector, set, data string) error {
	if err := c.load(key); err != nil {
		return err
	}
	c.use(set, key, data)
	c.emit(&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set})
	return nil
}

func (counter) add(c *compiler) error {
	c.emit(&expr.Counter{})
	return nil
}

func (notrack) add(c *compiler) error {
	c.emit(&expr.Notrack{})
	return nil
}

// tcpMaxSeg is the option that says how long segments may be (RFC 9293 3.7.1): kind,
// length, and the number in two bytes.
const tcpMaxSeg = 2

// The kernel only lowers the option (nft_exthdr_tcp_set_eval in net/netfilter/nft_exthdr.c),
// to what fits the route there and the route back, and only of TCP.
func (clamp) add(c *compiler) error {
	c.emit(&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: tcpMaxSeg, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt})
	return nil
}

func (v verdict) add(c *compiler) error {
	if v.chain != "" && !slices.Contains(c.chains, v.chain) {
		c.chains = append(c.chains, v.chain)
	}
	c.emit(&expr.Verdict{Kind: expr.VerdictKind(v.code), Chain: v.chain})
	return nil
}

// Codes of "port unreachable", which is what reject means: RFC 792, RFC 4443,
// and NFT_REJECT_ICMPX_PORT_UNREACH for both.
const (
	portUnreach4 = 3
	portUnreach6 = 4
	portUnreachX = 1
)

func (r reject) add(c *compiler) error {
	if r.reset {
		return c.reset()
	}
	e := &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: portUnreachX}
	switch c.network {
	case unix.NFPROTO_IPV4:
		e = &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: portUnreach4}
	case unix.NFPROTO_IPV6:
		e = &expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: portUnreach6}
	}
	c.emit(e)
	return nil
}

// reset tells the sender that there is no such connection. nft would put a
// match of TCP before all else; we want it written.
func (c *compiler) reset() error {
	if c.transport != unix.IPPROTO_TCP {
		return fmt.Errorf("reject with tcp reset needs a match of tcp in front")
	}
	c.emit(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	return nil
}

func (masquerade) add(c *compiler) error {
	c.emit(&expr.Masq{})
	return nil
}

// A redirect to a port with no match of a protocol before it is more than nft
// takes. The kernel does not ask, and a set may have told the protocol.
func (r redirect) add(c *compiler) error {
	if r.port == 0 {
		c.emit(&expr.Redir{})
		return nil
	}
	c.emit(&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.port)},
		&expr.Redir{RegisterProtoMin: 1, Flags: expr.NF_NAT_RANGE_PROTO_SPECIFIED})
	return nil
}

// A port-only rewrite keeps the address; its family is that of the table.
func (r report) add(c *compiler) error {
	c.emit(&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_INET, RegProtoMin: 1, Specified: true})
	return nil
}

func (n nat) add(c *compiler) error {
	e := &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(n.family), RegAddrMin: 1}
	if n.source {
		e.Type = expr.NATTypeSourceNAT
	}
	switch {
	case n.addr != nil:
		c.emit(&expr.Immediate{Register: 1, Data: n.addr}, e)
		return nil
	case n.set == "":
		return n.portOf(c, e)
	}
	typ := typeIPv4
	if n.family == unix.NFPROTO_IPV6 {
		typ = typeIPv6
	}
	data := typ.name
	if n.port {
		data += " . " + typeService.name
		e.RegProtoMin = register(typ.width / 4)
	}
	if err := c.ask(n.key, n.set, data); err != nil {
		return err
	}
	c.emit(e)
	return nil
}

// portOf rewrites to the address that a packet has, and to one of some ports.
func (n nat) portOf(c *compiler, e *expr.NAT) error {
	s := n.key[0]
	if err := c.depend(s); err != nil {
		return err
	}
	c.emit(s.load(s, 1))
	e.RegAddrMax, e.RegProtoMin, e.RegProtoMax = e.RegAddrMin, register(4), register(8)
	for i, r := range []uint32{e.RegProtoMin, e.RegProtoMax} {
		c.emit(&expr.Immediate{Register: r, Data: binary.BigEndian.AppendUint16(nil, n.ports[i])})
	}
	c.emit(e)
	return nil
}
