package nft

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/sealane/sealane/internal/kstate"
)

// element is an element's key and value as bytes.
type element struct {
	first, last [maxWidth]byte // equal unless the key is an interval
	value       [maxWidth]byte
	all         bool // the key is "*": whatever matches no other element
	verdict     verdict
}

// ParseElem checks an element's key and value against the types of its set.
// A value has one way to be written; another is refused with the right one.
func ParseElem(e kstate.Elem) error {
	if e.Set == nil {
		return fmt.Errorf("element %q: no set", e.At)
	}
	l, err := newLayout(e.Set)
	if err != nil {
		return err
	}
	return l.parse(&e, &element{})
}

// parse fills el, whose old content does not matter.
func (l *layout) parse(e *kstate.Elem, el *element) error {
	if el.all = e.At == "*"; !el.all {
		if err := l.parseKey(e.At, el); err != nil {
			return fmt.Errorf("key: %w", err)
		}
	}
	return l.parseValue(e.Value, el)
}

func (l *layout) parseKey(text string, el *element) error {
	off, rest, more := 0, text, true
	for i, t := range l.key {
		if !more {
			return fmt.Errorf("%q has %d fields, not %d", text, i, len(l.key))
		}
		var word string
		word, rest, more = cutField(rest)
		end := off + aligned(t.width)
		first, last := el.first[off:end], el.last[off:end]
		clear(first)
		if err := t.parseField(first, last, word, l.set.Interval); err != nil {
			return err
		}
		off = end
	}
	if more {
		return fmt.Errorf("%q has more than %d fields", text, len(l.key))
	}
	return nil
}

// cutField cuts a concatenation at its first " . ".
func cutField(s string) (word, rest string, more bool) {
	i := strings.IndexByte(s, ' ')
	if i < 0 || !strings.HasPrefix(s[i:], " . ") {
		return s, "", false
	}
	return s[:i], s[i+3:], true
}

// parseField fills one field's first and last value; first is cleared.
func (t *datatype) parseField(first, last []byte, word string, interval bool) error {
	if i := strings.IndexByte(word, '/'); i >= 0 && interval && t.prefix {
		return t.parsePrefix(first[:t.width], last, word, i)
	}
	if i := strings.IndexByte(word, '-'); i >= 0 && interval && t.span {
		clear(last)
		return t.parseRange(first[:t.width], last[:t.width], word, i)
	}
	err := t.parse(first[:t.width], word)
	copy(last, first)
	return err
}

func (t *datatype) parsePrefix(first, last []byte, word string, slash int) error {
	if err := t.parse(first, word[:slash]); err != nil {
		return err
	}
	n, err := parseDecimal(word[slash+1:], 8*t.width)
	if err != nil {
		return fmt.Errorf("%q is not a prefix", word)
	}
	if n == 8*t.width {
		return fmt.Errorf("%q must be written %s", word, word[:slash])
	}
	copy(last, first)
	if !fillHost(last[:t.width], n) {
		return fmt.Errorf("prefix %q has host bits set", word)
	}
	return nil
}

// fillHost sets the bits after the first n, and reports whether all were zero.
func fillHost(b []byte, n int) bool {
	zero := true
	for i := n / 8; i < len(b); i++ {
		mask := byte(0xff)
		if i == n/8 {
			mask >>= n % 8
		}
		zero = zero && b[i]&mask == 0
		b[i] |= mask
	}
	return zero
}

func (t *datatype) parseRange(first, last []byte, word string, dash int) error {
	if err := t.parse(first, word[:dash]); err != nil {
		return err
	}
	if err := t.parse(last, word[dash+1:]); err != nil {
		return err
	}
	if bytes.Compare(first, last) >= 0 {
		return fmt.Errorf("range %q does not ascend", word)
	}
	if short := t.appendField(nil, first, last); string(short) != word {
		return fmt.Errorf("%q must be written %s", word, short)
	}
	return nil
}

func (l *layout) parseValue(text string, el *element) error {
	var err error
	switch {
	case l.verdict:
		el.verdict, err = parseVerdict(text)
	case len(l.data) > 0:
		err = l.parseData(text, el)
	case text != "":
		err = fmt.Errorf("%q in a set that has none", text)
	}
	if err != nil {
		return fmt.Errorf("value: %w", err)
	}
	return nil
}

func (l *layout) parseData(text string, el *element) error {
	off, rest, more := 0, text, true
	for i, t := range l.data {
		if !more {
			return fmt.Errorf("%q has %d fields, not %d", text, i, len(l.data))
		}
		var word string
		word, rest, more = cutField(rest)
		end := off + aligned(t.width)
		clear(el.value[off:end])
		if err := t.parse(el.value[off:off+t.width], word); err != nil {
			return err
		}
		off = end
	}
	if more {
		return fmt.Errorf("%q has more than %d fields", text, len(l.data))
	}
	return nil
}

// appendKey appends the text of a key, the opposite of parseKey.
func (l *layout) appendKey(dst, first, last []byte) []byte {
	off := 0
	for i, t := range l.key {
		if i > 0 {
			dst = append(dst, " . "...)
		}
		dst = t.appendField(dst, first[off:off+t.width], last[off:off+t.width])
		off += aligned(t.width)
	}
	return dst
}

func (l *layout) appendData(dst, value []byte) []byte {
	off := 0
	for i, t := range l.data {
		if i > 0 {
			dst = append(dst, " . "...)
		}
		dst = t.format(dst, value[off:off+t.width])
		off += aligned(t.width)
	}
	return dst
}

// appendField appends a value, a prefix where the type has them, or a range.
func (t *datatype) appendField(dst, first, last []byte) []byte {
	dst = t.format(dst, first)
	if bytes.Equal(first, last) {
		return dst
	}
	if n, ok := prefixLen(first, last); ok && t.prefix {
		return fmt.Appendf(dst, "/%d", n)
	}
	return t.format(append(dst, '-'), last)
}

// prefixLen returns the length of the prefix that spans exactly first to last.
func prefixLen(first, last []byte) (int, bool) {
	n := 0
	for n < 8*len(first) && (first[n/8]^last[n/8])&(0x80>>(n%8)) == 0 {
		n++
	}
	for i := n; i < 8*len(first); i++ {
		mask := byte(0x80 >> (i % 8))
		if first[i/8]&mask != 0 || last[i/8]&mask == 0 {
			return 0, false
		}
	}
	return n, true
}
