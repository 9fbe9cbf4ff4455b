package driver

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// Mark is what packets of somebody's choice bear: Bits, among the bits of the packet
// mark that Mask has. Without a Mask there are no such packets.
type Mark struct{ Bits, Mask uint32 }

// ParseMark reads MARK or MARK/MASK, decimal, octal (0…) or hexadecimal (0x…), as iptables
// does; without a mask all bits count. "" is no mark. One that packets without any have, or
// that has Sealane's own bit, is an error.
func ParseMark(text string) (m Mark, err error) {
	if text == "" {
		return m, nil
	}
	bits, mask, masked := strings.Cut(text, "/")
	if !masked {
		mask = strconv.Itoa(math.MaxUint32)
	}
	for _, x := range []struct {
		text string
		to   *uint32
	}{{bits, &m.Bits}, {mask, &m.Mask}} {
		n, err := strconv.ParseUint(x.text, 0, 32)
		if err != nil {
			return Mark{}, fmt.Errorf("%q: want MARK or MARK/MASK, such as 0x1/0xff", text)
		}
		*x.to = uint32(n)
	}
	switch {
	case m.Bits&^m.Mask != 0:
		err = fmt.Errorf("%q: the mark has bits that are not in the mask", text)
	case m.Bits == 0:
		err = fmt.Errorf("%q: packets that nobody marked have 0", text)
	case m.Bits&kstate.Mark != 0:
		err = fmt.Errorf("%q: bit %#x is Sealane's own", text, kstate.Mark)
	}
	if err != nil {
		return Mark{}, err
	}
	return m, nil
}

// Match is the condition of a rule that a packet has the mark, and none of Sealane's.
func (m Mark) Match() string {
	return fmt.Sprintf("meta mark and %#x == %#x", m.Mask|kstate.Mark, m.Bits)
}
