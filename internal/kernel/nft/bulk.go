package nft

import (
	"fmt"

	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// Elements go many to a message:
//
//	NEWSETELEM | table | set | elements { element { key, key end, flags, data } … }
//
// The list is an attribute, whose length is 16 bits; a message is closed
// before the longest element would not fit any more.
const maxList = 1<<16 - 1 - 1024

// Numbers that x/sys/unix lacks: NFT_SET_ELEM_CATCHALL of enum
// nft_set_elem_flags and NFTA_SET_ELEM_KEY_END of nft_set_elem_attributes.
const (
	elemCatchall = 2
	elemKeyEnd   = 10
)

// elems encodes the elements from op i on that go to, or leave, one set, as
// far as they fit one message, and returns how many ops that was.
func (t *transaction) elems(i int) (int, error) {
	op := t.ops[i]
	if op.Old != nil && op.New != nil {
		return 0, fmt.Errorf("cannot be changed in place")
	}
	first := op.Object().(kstate.Elem)
	if err := t.meet(first.Set); err != nil {
		return 0, err
	}
	del, typ, flags := op.New == nil, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE
	if del {
		typ, flags = unix.NFT_MSG_DELSETELEM, 0
	}
	e, err := t.begin(typ, flags, first.Set.Table, i)
	if err != nil {
		return 0, err
	}
	e.str(unix.NFTA_SET_ELEM_LIST_TABLE, first.Set.Table.Name)
	e.str(unix.NFTA_SET_ELEM_LIST_SET, first.Set.Name)
	list := e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	j := i
	for ; j < len(t.ops) && len(e.buf)-list < maxList; j++ {
		o, same := t.sameSet(j, first.Set, del)
		if !same || t.split && del && j > i {
			break
		}
		if !t.dropped(j) {
			if err := t.elem(e, &o, del); err != nil && j > i {
				break // it is the first of the next message, and fails there
			} else if err != nil {
				return 0, err
			}
		}
		t.endAt(j, len(e.buf))
	}
	e.unnest(list)
	e.close()
	t.msgs[len(t.msgs)-1].last = j - 1
	return j - i, nil
}

// meet makes set the one whose elements are being encoded.
func (t *transaction) meet(set *kstate.NftSet) error {
	if set == nil {
		return fmt.Errorf("no set")
	}
	if t.layout != nil && t.layout.set == set {
		return nil
	}
	l, err := newLayout(set)
	t.layout = l
	if err != nil {
		t.layout = nil
		return fmt.Errorf("set %s: %w", set.Name, err)
	}
	return nil
}

func (t *transaction) sameSet(j int, set *kstate.NftSet, del bool) (kstate.Elem, bool) {
	op := t.ops[j]
	if (op.New == nil) != del || op.Old != nil && op.New != nil {
		return kstate.Elem{}, false
	}
	o, ok := op.Object().(kstate.Elem)
	if !ok || o.Set != set && (o.Set == nil || *o.Set != *set) {
		return kstate.Elem{}, false
	}
	return o, true
}

func (t *transaction) endAt(j, end int) {
	if t.ends == nil {
		t.ends = make([]int, len(t.ops))
	}
	t.ends[j] = end
}

// firstElem is where the first element of a message begins in the buffer:
// after the headers, the two names and the list's own header.
func (t *transaction) firstElem(m message) int {
	o, ok := t.ops[m.first].Object().(kstate.Elem)
	if !ok {
		return len(t.conn.enc.buf)
	}
	return m.start + headerLen + genLen +
		4 + aligned(len(o.Set.Table.Name)+1) + 4 + aligned(len(o.Set.Name)+1) + 4
}

// elem appends one element, which is two where the kernel wants the end of an
// interval as an element of its own.
func (t *transaction) elem(e *encoder, o *kstate.Elem, del bool) error {
	l, el := t.layout, &t.el
	if err := l.parse(o, el); err != nil {
		return err
	}
	n := width(l.key)
	at := e.nest(unix.NFTA_LIST_ELEM)
	if el.all {
		e.u32(unix.NFTA_SET_ELEM_FLAGS, elemCatchall)
	} else {
		e.data(unix.NFTA_SET_ELEM_KEY, el.first[:n])
	}
	if l.joined() && !el.all {
		e.data(elemKeyEnd, el.last[:n])
	}
	if !del {
		l.encodeValue(e, el)
	}
	e.unnest(at)
	// Without an end an interval reaches to the last value there is.
	if l.marked() && !el.all && increment(el.last[:n]) {
		at := e.nest(unix.NFTA_LIST_ELEM)
		e.data(unix.NFTA_SET_ELEM_KEY, el.last[:n])
		e.u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		e.unnest(at)
	}
	return nil
}

// data appends a value as struct nft_data wants it.
func (e *encoder) data(typ int, v []byte) {
	at := e.nest(typ)
	e.bytes(unix.NFTA_DATA_VALUE, v)
	e.unnest(at)
}

func (l *layout) encodeValue(e *encoder, el *element) {
	switch {
	case l.verdict:
		at := e.nest(unix.NFTA_SET_ELEM_DATA)
		v := e.nest(unix.NFTA_DATA_VERDICT)
		e.u32(unix.NFTA_VERDICT_CODE, uint32(el.verdict.code))
		if el.verdict.chain != "" {
			e.str(unix.NFTA_VERDICT_CHAIN, el.verdict.chain)
		}
		e.unnest(v)
		e.unnest(at)
	case len(l.data) > 0:
		e.data(unix.NFTA_SET_ELEM_DATA, el.value[:width(l.data)])
	}
}

// increment adds one to a big endian number; false if it was the last.
func increment(b []byte) bool {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return true
		}
	}
	return false
}
