package nft

import (
	"fmt"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// ours is the name of our tables, whatever their family.
const ours = "sealane"

// Observe returns our tables with everything in them, in the texts that were
// given to Apply. What others put there shows too, in texts that Apply would
// refuse: a rule as "foreign rule handle 7", a set with properties that ours
// do not have with those behind its type, a chain's policy behind its type.
// Named counters, quotas and flow tables do not show.
//
// A table that somebody made dormant is left out, without what is in it: adding
// it wakes it.
//
// Guests are found in tables where others filter what passes the host, see
// [Conn.Filters].
func (c *Conn) Observe() ([]kstate.Object, error) {
	var objs []kstate.Object
	err := c.consistent(func(r *reader) error {
		err := r.all()
		objs = r.objs
		return err
	})
	return objs, err
}

// consistent reads what nobody changes meanwhile; read may be called many times.
func (c *Conn) consistent(read func(*reader) error) error {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if err := c.settle(calmTries, read); err != errChanged {
		return err
	}
	// Our own changes must not keep us from ever finishing.
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.settle(heldTries, read)
}

// How often a snapshot is tried before our own writes are held up, and then.
const (
	calmTries = 3
	heldTries = 10
)

// settle takes a snapshot that nothing disturbed, with growing pauses.
func (c *Conn) settle(tries int, read func(*reader) error) error {
	for try := range tries {
		if err := c.snapshot(read); err != errChanged {
			return err
		}
		time.Sleep(time.Duration(try+1) * time.Millisecond)
	}
	return errChanged
}

// snapshot reads between two looks at the generation, which each transaction of
// the namespace changes.
func (c *Conn) snapshot(read func(*reader) error) error {
	before, err := c.read.generation(&c.ask)
	if err != nil {
		return err
	}
	if err := read(&reader{conn: c}); err != nil {
		return err
	}
	after, err := c.read.generation(&c.ask)
	if err == nil && after != before {
		err = errChanged
	}
	return err
}

func (s *socket) generation(ask *encoder) (uint32, error) {
	gen := uint32(0)
	ask.buf = ask.buf[:0]
	ask.message(unix.NFT_MSG_GETGEN, unix.NLM_F_ACK, unix.AF_UNSPEC, 0)
	ask.close()
	err := s.dump(ask.buf, func(r reply) { gen = number(r.attrs().find(unix.NFTA_GEN_ID)) })
	return gen, err
}

// reader gathers the objects of a snapshot. readMu is held.
type reader struct {
	conn   *Conn
	objs   []kstate.Object
	chains []kstate.Chain
	sets   []*layout
	owned  []kstate.Table // of others, that only they may change
}

// get dumps what matches: the attribute, when not 0, names the table.
func (r *reader) get(typ int, table kstate.Table, attr int, got func(attrs)) error {
	return r.getNamed(typ, table, attr, 0, "", got)
}

// getNamed is get with one more attribute, when not 0, that names something.
func (r *reader) getNamed(typ int, table kstate.Table, attr, attr2 int, name string, got func(attrs)) error {
	family := byte(unix.AF_UNSPEC)
	for _, f := range families {
		if f.name == table.Family {
			family = f.number
		}
	}
	e := &r.conn.ask
	e.buf = e.buf[:0]
	e.message(typ, unix.NLM_F_DUMP, family, 0)
	if attr != 0 {
		e.str(attr, table.Name)
	}
	if attr2 != 0 {
		e.str(attr2, name)
	}
	e.close()
	return r.conn.read.dump(e.buf, func(m reply) {
		if m.family() == family {
			got(m.attrs())
		}
	})
}

// getAll dumps everything of a type, of the families we know.
func (r *reader) getAll(typ, attr int, got func(kstate.Table, attrs)) error {
	e := &r.conn.ask
	e.buf = e.buf[:0]
	e.message(typ, unix.NLM_F_DUMP, unix.AF_UNSPEC, 0)
	e.close()
	return r.conn.read.dump(e.buf, func(m reply) {
		if family := familyName(m.family()); family != "" {
			got(kstate.Table{Family: family, Name: text(m.attrs().find(attr))}, m.attrs())
		}
	})
}

// tableOwner is NFT_TABLE_F_OWNER, which x/sys/unix lacks.
const tableOwner = 2

// tables returns the tables that are awake: ours, and those of others where
// guests may be.
func (r *reader) tables() (mine, theirs []kstate.Table, err error) {
	err = r.getAll(unix.NFT_MSG_GETTABLE, unix.NFTA_TABLE_NAME, func(t kstate.Table, a attrs) {
		_, notMine := familyNumber(t.Family)
		_, notTheirs := guestFamily(t.Family)
		flags := number(a.find(unix.NFTA_TABLE_FLAGS))
		if flags&tableOwner != 0 {
			r.owned = append(r.owned, t)
		}
		switch {
		case flags&unix.NFT_TABLE_F_DORMANT != 0, isTrail(t.Name):
		case t.Name == ours && notMine == nil:
			mine = append(mine, t)
		case notTheirs == nil:
			theirs = append(theirs, t)
		}
	})
	return mine, theirs, err
}

func (r *reader) all() error {
	mine, theirs, err := r.tables()
	if err != nil {
		return err
	}
	for _, t := range mine {
		if err := r.table(t); err != nil {
			return err
		}
	}
	return r.guests(theirs)
}

func (r *reader) table(t kstate.Table) error {
	r.objs = append(r.objs, t)
	r.chains, r.sets = nil, nil
	steps := []struct {
		typ, attr int
		got       func(kstate.Table, attrs)
	}{
		{unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, r.set},
		{unix.NFT_MSG_GETCHAIN, 0, r.chain},
		{unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE, r.rule},
	}
	for _, s := range steps {
		if err := r.get(s.typ, t, s.attr, func(a attrs) { s.got(t, a) }); err != nil {
			return err
		}
	}
	for _, c := range r.chains {
		r.objs = append(r.objs, c)
	}
	for _, l := range r.sets {
		if err := r.elements(l); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) chain(t kstate.Table, a attrs) {
	if text(a.find(unix.NFTA_CHAIN_TABLE)) != t.Name {
		return
	}
	c := kstate.Chain{Table: t, Name: text(a.find(unix.NFTA_CHAIN_NAME))}
	if hook := attrs(a.find(unix.NFTA_CHAIN_HOOK)); hook != nil {
		n := number(hook.find(unix.NFTA_HOOK_HOOKNUM))
		c.Hook = fmt.Sprintf("hook-%d", n)
		if n < uint32(len(hooks)) {
			c.Hook = hooks[n]
		}
		c.Priority = int(int32(number(hook.find(unix.NFTA_HOOK_PRIORITY))))
		c.Type = text(a.find(unix.NFTA_CHAIN_TYPE))
		if number(a.find(unix.NFTA_CHAIN_POLICY)) != codeAccept {
			c.Type += " policy drop"
		}
	}
	r.chains = append(r.chains, c)
}

func (r *reader) rule(t kstate.Table, a attrs) {
	name := text(a.find(unix.NFTA_RULE_CHAIN))
	rule, ok := decodeUserdata(a.find(unix.NFTA_RULE_USERDATA))
	if !ok {
		handle := a.find(unix.NFTA_RULE_HANDLE)
		rule = fmt.Sprintf("foreign rule handle %d", number(handle[max(len(handle)-4, 0):]))
	}
	for i := range r.chains {
		if c := &r.chains[i]; c.Name == name {
			c.Rules = append(c.Rules, rule)
		}
	}
}

// set notes a set, and to read its elements if they can be ours.
func (r *reader) set(t kstate.Table, a attrs) {
	flags := number(a.find(unix.NFTA_SET_FLAGS))
	if flags&unix.NFT_SET_ANONYMOUS != 0 {
		return // part of a foreign rule, which shows
	}
	s := &kstate.NftSet{
		Table: t, Name: text(a.find(unix.NFTA_SET_NAME)),
		Type:     typeText(number(a.find(unix.NFTA_SET_KEY_TYPE))),
		Interval: flags&unix.NFT_SET_INTERVAL != 0,
	}
	if flags&unix.NFT_SET_MAP != 0 {
		s.Data = typeVerdict
		if id := number(a.find(unix.NFTA_SET_DATA_TYPE)); id != unix.NFT_DATA_VERDICT {
			s.Data = typeText(id)
		}
	}
	l, err := newLayout(s)
	if err == nil && l.flags() == flags && number(a.find(unix.NFTA_SET_KEY_LEN)) == uint32(width(l.key)) {
		r.sets = append(r.sets, l)
	} else {
		s.Type = strings.TrimSpace(fmt.Sprintf("%s flags %#x", s.Type, flags))
	}
	r.objs = append(r.objs, *s)
}
