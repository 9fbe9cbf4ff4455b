package nft

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/google/nftables/expr"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// The messages for tables, sets and chains, after
// include/uapi/linux/netfilter/nf_tables.h.

func (t *transaction) table(i int, o kstate.Table, del bool) error {
	if del {
		e, err := t.begin(unix.NFT_MSG_DELTABLE, 0, o, i)
		if err == nil {
			e.str(unix.NFTA_TABLE_NAME, o.Name)
			e.close()
		}
		return err
	}
	e, err := t.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, o, i)
	if err == nil {
		e.str(unix.NFTA_TABLE_NAME, o.Name)
		e.u32(unix.NFTA_TABLE_FLAGS, t.conn.tables) // 0 wakes a dormant one
		e.close()
	}
	return err
}

func (t *transaction) set(i int, o kstate.NftSet, del bool) error {
	if del {
		e, err := t.begin(unix.NFT_MSG_DELSET, 0, o.Table, i)
		if err == nil {
			e.str(unix.NFTA_SET_TABLE, o.Table.Name)
			e.str(unix.NFTA_SET_NAME, o.Name)
			e.close()
		}
		return err
	}
	l, err := newLayout(&o)
	if err != nil {
		return err
	}
	if n := t.members(&o); n > 0 && !o.Interval && roomy() {
		if err := t.newSet(i, o, l, uint32(n)); err != nil {
			return err
		}
		return t.newSet(i, o, l, math.MaxUint32)
	}
	return t.newSet(i, o, l, 0)
}

// newSet has a set be made that has so many elements at most, or an existing one have so many;
// 0: it does not matter.
//
// One of a known size has all its buckets from the beginning (nft_hash_buckets in
// net/netfilter/nft_set_hash.c); it need not grow while it is filled, which takes a third of the
// time that does. How many it may have can be changed later, the buckets cannot: with many more
// it is slower, and is as it should be when its table is made anew.
func (t *transaction) newSet(i int, o kstate.NftSet, l *layout, size uint32) error {
	e, err := t.begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, o.Table, i)
	if err != nil {
		return err
	}
	e.str(unix.NFTA_SET_TABLE, o.Table.Name)
	e.str(unix.NFTA_SET_NAME, o.Name)
	e.u32(unix.NFTA_SET_FLAGS, l.flags())
	e.u32(unix.NFTA_SET_KEY_TYPE, typeID(l.key))
	e.u32(unix.NFTA_SET_KEY_LEN, uint32(width(l.key)))
	if l.verdict {
		e.u32(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
		e.u32(unix.NFTA_SET_DATA_LEN, 0)
	} else if len(l.data) > 0 {
		e.u32(unix.NFTA_SET_DATA_TYPE, typeID(l.data))
		e.u32(unix.NFTA_SET_DATA_LEN, uint32(width(l.data)))
	}
	e.u32(unix.NFTA_SET_ID, uint32(i+1)) // must be there; everyone goes by name
	l.describe(e, size)
	e.close()
	return nil
}

// members returns how many elements the transaction puts into a set, if they are many.
func (t *transaction) members(set *kstate.NftSet) int {
	if len(t.ops) < throng {
		return 0
	}
	if t.counts == nil {
		t.counts = map[kstate.NftSet]int{}
		for i := 0; i < len(t.ops); {
			first, ok := t.ops[i].New.(kstate.Elem)
			n := 1
			for ; ok && i+n < len(t.ops); n++ {
				if o, ok := t.ops[i+n].New.(kstate.Elem); !ok || o.Set != first.Set {
					break
				}
			}
			if ok && first.Set != nil {
				t.counts[*first.Set] += n
			}
			i += n
		}
	}
	if n := t.counts[*set]; n >= throng {
		return n
	}
	return 0
}

// roomy reports whether the kernel lets a set have more elements than it was made for (Linux 6.5,
// "permit update of set size"); one before does not say that it does not.
var roomy = sync.OnceValue(func() bool {
	var name unix.Utsname
	var major, minor int
	if unix.Uname(&name) != nil {
		return false
	}
	n, _ := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return n == 2 && (major > 6 || major == 6 && minor >= 5)
})

func (l *layout) flags() uint32 {
	flags := uint32(0)
	if l.set.Data != "" {
		flags |= unix.NFT_SET_MAP
	}
	if l.set.Interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	if l.joined() {
		flags |= setConcat
	}
	return flags
}

// describe appends how many elements there may be, or the lengths of a joined key's
// fields, by which the kernel finds them, and the byte orders in userdata, by which
// `nft list` reads keys.
func (l *layout) describe(e *encoder, size uint32) {
	if size > 0 {
		desc := e.nest(unix.NFTA_SET_DESC)
		e.u32(descSize, size)
		e.unnest(desc)
	}
	if l.joined() {
		desc := e.nest(unix.NFTA_SET_DESC)
		fields := e.nest(descConcat)
		for _, t := range l.key {
			field := e.nest(unix.NFTA_LIST_ELEM)
			e.u32(fieldLen, uint32(t.width))
			e.unnest(field)
		}
		e.unnest(fields)
		e.unnest(desc)
	}
	order := func(typ byte, types []*datatype) []byte {
		return append([]byte{typ, 4}, binary.NativeEndian.AppendUint32(nil, byteOrder(types))...)
	}
	udata := order(udataKeyOrder, l.key)
	if len(l.data) > 0 {
		udata = append(udata, order(udataDataOrder, l.data)...)
	}
	e.bytes(unix.NFTA_SET_USERDATA, udata)
}

// Numbers that x/sys/unix lacks: NFT_SET_CONCAT of enum nft_set_flags,
// NFTA_SET_DESC_SIZE and NFTA_SET_DESC_CONCAT of nft_set_desc_attributes, and
// NFTA_SET_FIELD_LEN.
const (
	setConcat  = 0x80
	descSize   = 1
	descConcat = 2
	fieldLen   = 1
)

// Attributes in a set's userdata, enum nftnl_udata_set_types of libnftnl.
const (
	udataKeyOrder  = 0
	udataDataOrder = 1
)

// byteOrder is nft's enum byteorder: 0 does not apply, 1 host, 2 big endian.
func byteOrder(types []*datatype) uint32 {
	switch {
	case len(types) > 1:
		return 0
	case types[0].host:
		return 1
	}
	return 2
}

// delChains encodes the chains that are removed from op i on: first all their
// rules, then the chains, because a chain that is jumped to cannot go.
func (t *transaction) delChains(i int) (int, error) {
	n := 0
	for ; i+n < len(t.ops) && t.ops[i+n].New == nil; n++ {
		o, ok := t.ops[i+n].Old.(kstate.Chain)
		if !ok {
			break
		}
		if t.dropped(i + n) {
			continue
		}
		if err := t.flush(i+n, o); err != nil {
			return 0, err
		}
	}
	for j := i; j < i+n; j++ {
		if t.dropped(j) {
			continue
		}
		o := t.ops[j].Old.(kstate.Chain)
		e, err := t.begin(unix.NFT_MSG_DELCHAIN, 0, o.Table, j)
		if err != nil {
			return 0, err
		}
		e.str(unix.NFTA_CHAIN_TABLE, o.Table.Name)
		e.str(unix.NFTA_CHAIN_NAME, o.Name)
		e.close()
	}
	return n, nil
}

// chains encodes the chains that are added or changed from op i on: first all
// chains, then their rules, because rules jump to chains that come later.
func (t *transaction) chains(i int) (int, error) {
	var parsed []*Parsed
	for j := i; j < len(t.ops); j++ {
		o, ok := t.ops[j].New.(kstate.Chain)
		if !ok {
			break
		}
		p, err := ParseChain(o)
		if err == nil {
			err = t.newChain(j, o)
		}
		if err != nil && j > i {
			break // it is the first of the next run, and fails there
		} else if err != nil {
			return 0, err
		}
		parsed = append(parsed, p)
	}
	for n, p := range parsed {
		if err := t.rules(i+n, t.ops[i+n].New.(kstate.Chain), p); err != nil {
			return 0, err
		}
	}
	return len(parsed), nil
}

func (t *transaction) newChain(i int, o kstate.Chain) error {
	e, err := t.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, o.Table, i)
	if err != nil {
		return err
	}
	e.str(unix.NFTA_CHAIN_TABLE, o.Table.Name)
	e.str(unix.NFTA_CHAIN_NAME, o.Name)
	if o.Hook != "" {
		hook := e.nest(unix.NFTA_CHAIN_HOOK)
		e.u32(unix.NFTA_HOOK_HOOKNUM, uint32(slices.Index(hooks, o.Hook)))
		e.u32(unix.NFTA_HOOK_PRIORITY, uint32(int32(o.Priority)))
		e.unnest(hook)
		e.u32(unix.NFTA_CHAIN_POLICY, codeAccept)
		e.str(unix.NFTA_CHAIN_TYPE, o.Type)
	}
	e.close()
	return nil
}

// flush removes all rules of a chain.
func (t *transaction) flush(i int, o kstate.Chain) error {
	e, err := t.begin(unix.NFT_MSG_DELRULE, 0, o.Table, i)
	if err == nil {
		e.str(unix.NFTA_RULE_TABLE, o.Table.Name)
		e.str(unix.NFTA_RULE_CHAIN, o.Name)
		e.close()
	}
	return err
}

// rules empties a chain and writes its rules.
func (t *transaction) rules(i int, o kstate.Chain, p *Parsed) error {
	if err := t.flush(i, o); err != nil {
		return err
	}
	for _, r := range p.rules {
		if err := t.rule(i, o, r); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) rule(i int, o kstate.Chain, r compiled) error {
	e, err := t.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, o.Table, i)
	if err != nil {
		return err
	}
	e.str(unix.NFTA_RULE_TABLE, o.Table.Name)
	e.str(unix.NFTA_RULE_CHAIN, o.Name)
	family, _ := familyNumber(o.Table.Family)
	if err := e.rule(family, r); err != nil {
		return err
	}
	e.close()
	return nil
}

// rule appends the expressions and the mark of a rule.
func (e *encoder) rule(family byte, r compiled) error {
	list := e.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, x := range r.exprs {
		if x, ok := x.(asked); ok {
			x.append(e)
			continue
		}
		b, err := expr.Marshal(family, x)
		if err != nil {
			return err
		}
		e.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
	}
	e.unnest(list)
	e.bytes(unix.NFTA_RULE_USERDATA, r.userdata)
	return nil
}
