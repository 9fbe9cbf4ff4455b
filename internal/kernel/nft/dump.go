package nft

import (
	"bytes"
	"hash/maphash"
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// elements reads a set's elements.
func (r *reader) elements(l *layout) error {
	e := &r.conn.ask
	e.buf = e.buf[:0]
	family, err := familyNumber(l.set.Table.Family)
	if err != nil {
		return err
	}
	e.message(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, family, 0)
	e.str(unix.NFTA_SET_ELEM_LIST_TABLE, l.set.Table.Name)
	e.str(unix.NFTA_SET_ELEM_LIST_SET, l.set.Name)
	e.close()
	d := newDecoder(l, r.objs)
	err = r.conn.read.dump(e.buf, func(m reply) {
		list := attrs(m.attrs().find(unix.NFTA_SET_ELEM_LIST_ELEMENTS))
		for _, one, ok := list.next(); ok; _, one, ok = list.next() {
			d.element(one)
		}
	})
	d.pair()
	r.objs = d.objs
	if err == nil && d.twice {
		return errChanged
	}
	return err
}

// decoder turns the elements of one set into objects.
//
// A hash table that grew lately is still being moved by a worker, and a dump
// goes over it in pieces, each of which skips as many elements as the pieces
// before had (nf_tables_dump_set). When the order changes between two, some
// elements come twice and as many never, and the kernel does not say so. One
// that comes twice means that the dump is worth nothing.
type decoder struct {
	*layout
	objs    []kstate.Object
	scratch []byte
	bounds  []bound // of a set whose intervals are two elements each

	seed  maphash.Seed
	seen  map[uint64]struct{} // hashes of keys
	twice bool
}

func newDecoder(l *layout, objs []kstate.Object) *decoder {
	return &decoder{layout: l, objs: objs, seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}}
}

// note notes a key of a hash table.
func (d *decoder) note(key []byte) {
	n, h := len(d.seen), maphash.Bytes(d.seed, key)
	d.seen[h] = struct{}{}
	d.twice = d.twice || len(d.seen) == n
}

// bound is where an interval begins, or has just ended.
type bound struct {
	key   string
	value string
	end   bool
}

func (d *decoder) element(a attrs) {
	var key, last, data attrs
	flags := uint32(0)
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			key = v
		case elemKeyEnd:
			last = v
		case unix.NFTA_SET_ELEM_DATA:
			data = v
		case unix.NFTA_SET_ELEM_FLAGS:
			flags = number(v)
		}
	}
	first := key.find(unix.NFTA_DATA_VALUE)
	end := last.find(unix.NFTA_DATA_VALUE)
	if end == nil {
		end = first
	}
	switch n := width(d.key); {
	case flags&elemCatchall != 0:
		d.add([]byte("*"), data)
	case len(first) != n || len(end) != n: // no set of this layout has such
	case d.marked():
		value := string(d.appendValue(nil, data))
		d.bounds = append(d.bounds, bound{string(first), value, flags&unix.NFT_SET_ELEM_INTERVAL_END != 0})
	default:
		if !d.set.Interval {
			d.note(first)
		}
		d.scratch = d.appendKey(d.scratch[:0], first, end)
		d.add(d.scratch, data)
	}
}

// add adds an element; key and value become one string.
func (d *decoder) add(key []byte, data attrs) {
	n := len(key)
	all := string(d.appendValue(key, data))
	d.objs = append(d.objs, kstate.Elem{Set: d.set, At: all[:n], Value: all[n:]})
	d.scratch = key[:0]
}

func (d *decoder) appendValue(dst []byte, data attrs) []byte {
	if d.verdict {
		v := attrs(data.find(unix.NFTA_DATA_VERDICT))
		code := int32(number(v.find(unix.NFTA_VERDICT_CODE)))
		return append(dst, verdict{code, text(v.find(unix.NFTA_VERDICT_CHAIN))}.String()...)
	}
	if v := data.find(unix.NFTA_DATA_VALUE); len(v) > 0 && len(v) == width(d.data) {
		return d.appendData(dst, v)
	}
	return dst
}

// pair joins the bounds of a single-field interval set. In order, an end
// stands before a beginning at the same key: one interval stops where the next
// starts, and they stay two. A beginning without an end reaches to the last
// value; an end without a beginning is what nft puts at zero.
func (d *decoder) pair() {
	slices.SortFunc(d.bounds, func(a, b bound) int {
		if c := bytes.Compare([]byte(a.key), []byte(b.key)); c != 0 || a.end == b.end {
			return c
		}
		if a.end {
			return -1
		}
		return 1
	})
	for i, b := range d.bounds {
		if b.end {
			continue
		}
		last := bytes.Repeat([]byte{0xff}, len(b.key))
		if i+1 < len(d.bounds) {
			copy(last, d.bounds[i+1].key)
			decrement(last)
		}
		at := string(d.appendKey(nil, []byte(b.key), last))
		d.objs = append(d.objs, kstate.Elem{Set: d.set, At: at, Value: b.value})
	}
}

// decrement takes one from a big endian number.
func decrement(b []byte) {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]--; b[i] != 0xff {
			return
		}
	}
}
