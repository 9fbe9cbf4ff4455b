package nft

import (
	"fmt"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// layout is how a set's keys and values lie in memory. A key of several fields
// is their concatenation, each padded to a multiple of 4 bytes (the kernel's
// registers, include/uapi/linux/netfilter/nf_tables.h):
//
//	ipv4_addr . inet_proto . inet_service
//	| a b c d | p 0 0 0    | h l 0 0     |
type layout struct {
	set     *kstate.NftSet
	key     []*datatype
	data    []*datatype
	verdict bool // the value is a verdict
}

// Bounds of the kernel: a key or value fits the registers, and a concatenation
// with intervals has at most 16 fields (NFT_REG32_COUNT).
const (
	maxWidth  = 64
	maxFields = 16
	maxName   = 255 // NFT_NAME_MAXLEN with its zero
)

// ParseSet checks the declaration of a set or map.
func ParseSet(s kstate.NftSet) error {
	_, err := newLayout(&s)
	return err
}

func newLayout(s *kstate.NftSet) (*layout, error) {
	l := &layout{set: s, verdict: s.Data == typeVerdict}
	if err := checkName(s.Name); err != nil {
		return nil, fmt.Errorf("name: %w", err)
	}
	var err error
	if l.key, err = parseTypes(s.Type); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if s.Data != "" && !l.verdict {
		if l.data, err = parseTypes(s.Data); err != nil {
			return nil, fmt.Errorf("value: %w", err)
		}
	}
	return l, l.checkInterval()
}

// checkInterval refuses keys whose order as bytes is not their order as values.
// (nft turns marks around in such keys; nobody needed that yet.)
func (l *layout) checkInterval() error {
	if !l.set.Interval {
		return nil
	}
	for _, t := range l.key {
		if t == typeMark || len(l.key) == 1 && !t.span {
			return fmt.Errorf("key: %s cannot be an interval", t.name)
		}
	}
	return nil
}

// checkName refuses names that nft could not read back.
func checkName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%q has %d bytes, not 1 to %d", name, len(name), maxName)
	}
	for i := range len(name) {
		c := name[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '_' && c != '-' && c != '.' && c != '/' && (c < '0' || c > '9')) {
			return fmt.Errorf("%q: character %q", name, c)
		}
	}
	return nil
}

func parseTypes(text string) ([]*datatype, error) {
	var types []*datatype
	for name := range strings.SplitSeq(text, " . ") {
		t := typeNamed(name)
		if t == nil {
			return nil, fmt.Errorf("type %q is not known", name)
		}
		types = append(types, t)
	}
	if len(types) > maxFields || width(types) > maxWidth {
		return nil, fmt.Errorf("type %q is longer than %d bytes", text, maxWidth)
	}
	return types, nil
}

func typeNamed(name string) *datatype {
	for _, t := range setTypes {
		if t.name == name {
			return t
		}
	}
	return nil
}

// aligned rounds up to whole registers.
func aligned(n int) int { return (n + 3) &^ 3 }

// width is the length of a key in bytes: alone unpadded, else in registers.
func width(types []*datatype) int {
	if len(types) == 1 {
		return types[0].width
	}
	n := 0
	for _, t := range types {
		n += aligned(t.width)
	}
	return n
}

// typeID is nft's number for a concatenation: 6 bits per field.
func typeID(types []*datatype) uint32 {
	id := uint32(0)
	for _, t := range types {
		id = id<<6 | t.id
	}
	return id
}

// typeText is the opposite: a type's text from its number, in a form that no
// declaration of ours has when some field is not known.
func typeText(id uint32) string {
	var names []string
	for rest := id; rest != 0; rest >>= 6 {
		name := fmt.Sprintf("type-%d", rest&63)
		for _, t := range setTypes {
			if t.id == rest&63 {
				name = t.name
			}
		}
		names = append([]string{name}, names...)
	}
	return strings.Join(names, " . ")
}

// joined reports whether keys have several fields with intervals: the kernel
// then wants each key with its end (NFTA_SET_ELEM_KEY_END).
func (l *layout) joined() bool { return l.set.Interval && len(l.key) > 1 }

// marked reports whether an interval is stored as two elements, its first key
// and the one after its last, flagged NFT_SET_ELEM_INTERVAL_END.
func (l *layout) marked() bool { return l.set.Interval && len(l.key) == 1 }
