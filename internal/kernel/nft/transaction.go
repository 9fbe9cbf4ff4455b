package nft

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// Apply carries out ops, which are all about tables, sets, chains and
// elements, in order and as one transaction: all of them happen or none.
//
// Adding what is there exactly as wanted is no failure, nor is removing what
// is gone. A chain is added or changed by writing all its rules anew. The
// error is a *kernel.OpError for the first op that the kernel, or the check
// before it, refused; for the first of all if the kernel does not say.
func (c *Conn) Apply(ops []kstate.Op) error {
	if len(ops) == 0 {
		return nil
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	defer c.enc.shrink()
	t := transaction{conn: c, ops: ops}
	for range maxTries {
		if err := t.encode(); err != nil {
			return err
		}
		if len(t.msgs) == 0 {
			return nil
		}
		all, err := c.send(len(ops))
		if err != nil {
			return &kernel.OpError{Op: ops[0], Err: err}
		}
		if len(all) == 0 {
			return nil
		}
		if err := t.learn(all); err != nil {
			return err
		}
	}
	return &kernel.OpError{Op: ops[0], Err: errChanged}
}

// maxTries bounds how often a transaction is sent again: once or twice for
// stale removals, more only if somebody else removes things meanwhile.
const maxTries = 8

// transaction is one Apply under way. writeMu is held.
type transaction struct {
	conn *Conn
	ops  []kstate.Op

	// What the kernel taught us: ops that remove what is gone, and that there
	// are such among the elements, so that each removal is its own message.
	drop  []bool
	split bool

	counts map[kstate.NftSet]int // elements that come, by set; nil: not counted

	base   uint32    // sequence number of msgs[0]
	msgs   []message // in order
	ends   []int     // where each element ends in the buffer, by op
	layout *layout   // of the set met last
	el     element
}

// message is a message of a transaction.
type message struct {
	start       int // in the buffer
	first, last int // the ops it is about
	del         bool
}

// encode writes the whole transaction to the connection's buffer. Nothing to
// do leaves msgs empty.
//
//	batch begin, { message }, batch end
func (t *transaction) encode() error {
	e := &t.conn.enc
	e.buf, t.msgs = slices.Grow(e.buf[:0], usual*len(t.ops)), t.msgs[:0]
	t.conn.seq++
	e.bound(unix.NFNL_MSG_BATCH_BEGIN, t.conn.seq)
	t.base = t.conn.seq + 1
	for i := 0; i < len(t.ops); {
		n, err := t.next(i)
		if err != nil {
			return &kernel.OpError{Op: t.ops[i], Err: err}
		}
		i += n
	}
	t.conn.seq++
	e.bound(unix.NFNL_MSG_BATCH_END, t.conn.seq)
	return nil
}

// next encodes the ops from i on that belong together and returns how many.
// An error is about the op at i.
func (t *transaction) next(i int) (int, error) {
	op := t.ops[i]
	if t.dropped(i) {
		return 1, nil
	}
	switch op.Object().(type) {
	case kstate.Elem:
		return t.elems(i)
	case kstate.Chain:
		if op.New != nil {
			return t.chains(i)
		}
		return t.delChains(i)
	}
	if op.Old != nil && op.New != nil {
		return 0, errors.New("cannot be changed in place")
	}
	switch o := op.Object().(type) {
	case kstate.Table:
		return 1, t.table(i, o, op.New == nil)
	case kstate.NftSet:
		return 1, t.set(i, o, op.New == nil)
	}
	return 0, errors.New("not an nftables object")
}

func (t *transaction) dropped(i int) bool { return t.drop != nil && t.drop[i] }

// begin begins a message about ops first to last; the caller closes it.
func (t *transaction) begin(typ, flags int, table kstate.Table, first int) (*encoder, error) {
	family, err := familyNumber(table.Family)
	if err != nil {
		return nil, err
	}
	if err := checkName(table.Name); err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	e := &t.conn.enc
	t.conn.seq++
	e.message(typ, flags, family, t.conn.seq)
	t.msgs = append(t.msgs, message{start: e.msg, first: first, last: first, del: t.ops[first].New == nil})
	return e, nil
}

// learn decides what complaints mean: nil to try again without the removals
// of what is gone, else the failure to return.
func (t *transaction) learn(all []complaint) error {
	for _, c := range all {
		m, ok := t.message(c.seq)
		switch {
		case c.errno == unix.EINTR: // the same again
		case !ok:
			return &kernel.OpError{Op: t.ops[0], Err: cause(c)}
		case m.del && c.errno == unix.ENOENT:
			t.stale(m, c)
		default:
			return t.failure(m, c)
		}
	}
	return nil
}

func (t *transaction) message(seq uint32) (message, bool) {
	if i := seq - t.base; i < uint32(len(t.msgs)) {
		return t.msgs[i], true
	}
	return message{}, false
}

// stale notes that something m removes is gone: the op the kernel points at,
// or one that will show when each has its own message.
func (t *transaction) stale(m message, c complaint) {
	i, sure := t.op(m, c)
	if m.first != m.last {
		t.split = true
	} else {
		sure = true
	}
	if sure {
		if t.drop == nil {
			t.drop = make([]bool, len(t.ops))
		}
		t.drop[i] = true
	}
}

// op returns the op of a message that a complaint is about, and whether the
// kernel pointed at it.
func (t *transaction) op(m message, c complaint) (int, bool) {
	at := m.start + c.offset
	if c.offset == 0 || m.first == m.last || at < t.firstElem(m) {
		return m.first, false
	}
	n := sort.Search(m.last-m.first, func(i int) bool { return t.ends[m.first+i] > at })
	return m.first + n, true
}

func (t *transaction) failure(m message, c complaint) error {
	i, sure := t.op(m, c)
	err := cause(c)
	if _, elem := t.ops[i].Object().(kstate.Elem); elem && c.errno == unix.EEXIST {
		err = errExists
	}
	if m.first != m.last && !sure {
		err = fmt.Errorf("it or one of the %d after it: %w", m.last-m.first, err)
	}
	return &kernel.OpError{Op: t.ops[i], Err: err}
}

// errExists is EEXIST of an element: an equal one would be no error.
var errExists = errors.New("exists with another value, or overlaps another element")

// cause wraps the kernel's error with the cause that callers act on.
func cause(c complaint) error {
	err := error(c.errno)
	if c.detail != "" {
		err = fmt.Errorf("%s: %w", c.detail, err)
	}
	switch c.errno {
	case unix.ENOENT:
		return fmt.Errorf("%w: %w", kernel.ErrMissing, err)
	case unix.EBUSY:
		return fmt.Errorf("%w: %w", kernel.ErrInUse, err)
	case unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT:
		return fmt.Errorf("%w: %w", kernel.ErrUnsupported, err)
	}
	return err
}
