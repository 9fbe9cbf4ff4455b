package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

type (
	// assign writes a mark.
	assign struct {
		ct    bool          // of the connection, not the packet
		value []byte        // fixed, or
		from  *selector     // a mark, with some of its bits changed, or
		bits  *expr.Bitwise // what changes them, if any
		pick  *pick         // a number out of some, or
		key   []*selector   // what a map says
		set   string
	}
	// pick chooses a number below a bound.
	pick struct {
		below uint32
		turn  bool      // the one after the last, by CPU; else by chance, unless
		hash  *selector // the same for the same value of this
		seed  uint32
	}
)

func parseAssign(c *cursor, ct bool) (stmt, error) {
	a, err := assign{ct: ct}, error(nil)
	if c.peek() == (token{text: "numgen"}) || c.peek() == (token{text: "jhash"}) {
		a.pick, err = parsePick(c)
		return a, err
	}
	ahead := *c
	switch s := takeSelector(&ahead); {
	case s == nil:
		a.value, err = takeNumber(c)
		return a, err
	case s.typ == typeMark && ahead.peek().text != "." && ahead.peek().text != "map":
		*c, a.from = ahead, s
		a.bits, err = parseBits(c)
		return a, err
	}
	a.key, a.set, err = parseMap(c)
	return a, err
}

// parsePick takes "numgen" with how it chooses, or "jhash" with of what. The
// kernel makes a seed up where none is given, so a hash has one.
func parsePick(c *cursor) (*pick, error) {
	p, err := &pick{}, error(nil)
	word := c.next().text
	switch {
	case word == "jhash":
		p.hash, err = takeHashed(c)
	case c.accept("inc"):
		p.turn = true
	case !c.accept("random"):
		err = fmt.Errorf("%s, want random or inc", c.found())
	}
	if err == nil {
		p.below, err = takePositive(c, "mod")
	}
	if err == nil && p.hash != nil {
		p.seed, err = takePositive(c, "seed")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", word, err)
	}
	return p, nil
}

func takeHashed(c *cursor) (*selector, error) {
	s := takeSelector(c)
	switch {
	case s == nil:
		return nil, fmt.Errorf("%s, want a selector", c.found())
	case s.typ.id == 0:
		return nil, fmt.Errorf("%s cannot be hashed", s.name)
	}
	return s, nil
}

// takePositive takes a word and a number that is not zero.
func takePositive(c *cursor, word string) (uint32, error) {
	if err := c.expect(word); err != nil {
		return 0, err
	}
	b, err := takeNumber(c)
	n := binary.NativeEndian.Uint32(b)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s 0", word)
	}
	return n, err
}

// takeNumber takes a number of 32 bits.
func takeNumber(c *cursor) ([]byte, error) {
	n := make([]byte, 4)
	return n, parseNumber(n, c.next().text)
}

// parseBits takes what is done to the bits of a mark, nil for nothing:
// x or b is (x and not b) xor b.
func parseBits(c *cursor) (*expr.Bitwise, error) {
	set := c.accept("or")
	if !set && !c.accept("and") {
		return nil, nil
	}
	n, err := takeNumber(c)
	if err != nil {
		return nil, err
	}
	b := &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: n, Xor: make([]byte, 4)}
	if set {
		b.Mask, b.Xor = b.Xor, n
		for i := range n {
			b.Mask[i] = ^n[i]
		}
	}
	return b, nil
}

func (a assign) add(c *compiler) error {
	var err error
	switch {
	case a.value != nil:
		c.emit(&expr.Immediate{Register: 1, Data: a.value})
	case a.from != nil:
		c.emit(a.from.load(a.from, 1))
		if a.bits != nil {
			c.emit(a.bits)
		}
	case a.pick != nil:
		err = a.pick.add(c)
	default:
		err = c.ask(a.key, a.set, typeMark.name)
	}
	if a.ct {
		c.emit(&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true})
	} else {
		c.emit(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true})
	}
	return err
}

// add puts the number into the first register. What is hashed is read into the
// second register of 16 bytes, as nft has it.
func (p *pick) add(c *compiler) error {
	switch {
	case p.hash != nil:
		if err := c.depend(p.hash); err != nil {
			return err
		}
		from := register(4)
		c.emit(p.hash.load(p.hash, from), &expr.Hash{
			SourceRegister: from, DestRegister: 1, Length: uint32(p.hash.typ.width),
			Modulus: p.below, Seed: p.seed, Type: expr.HashTypeJenkins,
		})
	case p.turn:
		c.emit(&expr.Numgen{Register: 1, Modulus: p.below, Type: unix.NFT_NG_INCREMENTAL})
	default:
		c.emit(&expr.Numgen{Register: 1, Modulus: p.below, Type: unix.NFT_NG_RANDOM})
	}
	return nil
}

func (zone) add(c *compiler) error {
	c.emit(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 10, Len: 2},
		asked{&expr.Ct{Key: expr.CtKeyZONE, Register: 1, SourceRegister: true}})
	return nil
}
