package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// guestComment is in every guest and says so to whoever reads the rules. It
// outlives what rewrites them from their own listing, which loses our mark:
// `iptables-save | iptables-restore`, `nft list ruleset | nft -f -`.
const guestComment = "made by sealane"

// Guests carries out the ops of a connection that are about guests.
//
// In the tables of iptables a guest is made of what every iptables reads back:
// a mark is matched by the xtables extension, because versions before 1.8.8
// overlook nftables' own match, would list the rule as one for all packets,
// and save it so.
type Guests struct{ *Conn }

// ParseGuest checks a guest. The error says what is wrong with it.
func ParseGuest(g kstate.Guest) error {
	_, err := compileGuest(g)
	return err
}

func compileGuest(g kstate.Guest) (compiled, error) {
	family, err := guestFamily(g.Table.Family)
	if err != nil {
		return compiled{}, err
	}
	if err := errors.Join(checkName(g.Table.Name), checkName(g.Chain)); err != nil {
		return compiled{}, err
	}
	if g.Table.Name == ours {
		return compiled{}, fmt.Errorf("table %s is ours", g.Table.Name)
	}
	if !slices.Contains([]string{"first", "last", "before-last"}, g.At) {
		return compiled{}, fmt.Errorf("place %q: want first, last or before-last", g.At)
	}
	r, err := guestRule(g, family)
	if err != nil {
		return compiled{}, fmt.Errorf("rule %q: %w", g.Rule, err)
	}
	return r, nil
}

func guestRule(g kstate.Guest, family byte) (compiled, error) {
	r, err := parseRule(g.Rule)
	if err != nil {
		return compiled{}, err
	}
	if r.comment != "" {
		return compiled{}, errors.New("has a comment already")
	}
	c, err := r.compile(compiler{family: family, xtables: ofIptables(g.Table)})
	if err != nil {
		return compiled{}, err
	}
	if len(c.sets)+len(c.chains) > 0 {
		return compiled{}, errors.New("names a set or chain of somebody else's")
	}
	data, err := encodeUserdata(g.Rule+commentText(guestComment), guestComment)
	return compiled{c.out, data}, err
}

// ofIptables says that a table is one that iptables keeps.
func ofIptables(t kstate.Table) bool {
	return t.Family != "inet" && slices.Contains([]string{"filter", "mangle", "raw", "security", "nat"}, t.Name)
}

// xtMark is the match "mark" of xtables, revision 1: struct xt_mark_mtinfo1,
// include/uapi/linux/netfilter/xt_mark.h, as long as the kernel aligns it to.
//
//	| mark u32 | mask u32 | invert u8 | … 16 |
func xtMark(mark, mask []byte, not bool) expr.Any {
	info := make(xt.Unknown, 16)
	copy(info, mark)
	copy(info[4:], mask)
	if not {
		info[8] = 1
	}
	return &expr.Match{Name: "mark", Rev: 1, Info: &info}
}

// Apply carries out ops one by one, each a transaction: what is wrong with
// somebody else's table keeps nothing else from being done. A guest that is
// there already, wherever in its chain, stays where it is. A chain that does
// not exist is kernel.ErrMissing to an addition and nothing to a removal.
// Errors are *kernel.OpError, joined.
func (g Guests) Apply(ops []kstate.Op) error {
	g.readMu.Lock()
	defer g.readMu.Unlock()
	g.writeMu.Lock()
	defer g.writeMu.Unlock()
	var errs []error
	for _, op := range ops {
		if err := g.do(op); err != nil {
			errs = append(errs, &kernel.OpError{Op: op, Err: err})
		}
	}
	return errors.Join(errs...)
}

func (g Guests) do(op kstate.Op) error {
	o, ok := op.Object().(kstate.Guest)
	switch {
	case !ok:
		return errors.New("not a guest")
	case op.New == nil:
		return g.again(func() error { return g.remove(o) })
	}
	r, err := compileGuest(o)
	if err != nil {
		return err
	}
	return g.again(func() error { return g.add(o, r) })
}

// again tries until the chain did not change under the attempt.
func (g Guests) again(try func() error) error {
	for range maxTries {
		if err := try(); err != errChanged {
			return err
		}
	}
	return errChanged
}

// listed is a rule of a chain that is looked at for a guest.
type listed struct {
	handle []byte // 64 bits, as the kernel has it
	guest  string // its text if it is a guest of ours
	bare   bool   // it ends the chain for all packets
}

func (r *reader) listed(t kstate.Table, chain string) ([]listed, error) {
	var out []listed
	err := r.getNamed(unix.NFT_MSG_GETRULE, t, unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, chain, func(a attrs) {
		text, _ := guestText(a)
		handle := slices.Clone(a.find(unix.NFTA_RULE_HANDLE))
		out = append(out, listed{handle, text, endsChain(a.find(unix.NFTA_RULE_EXPRESSIONS))})
	})
	return out, err
}

func (g Guests) add(o kstate.Guest, r compiled) error {
	rules, err := (&reader{conn: g.Conn}).listed(o.Table, o.Chain)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(rules, func(l listed) bool { return l.guest == o.Rule }) {
		return nil
	}
	flags, before := unix.NLM_F_CREATE, []byte(nil)
	switch n := len(rules); {
	case o.At == "first":
	case o.At == "before-last" && n > 0 && rules[n-1].bare:
		before = rules[n-1].handle
	default:
		flags |= unix.NLM_F_APPEND
	}
	family, err := guestFamily(o.Table.Family)
	if err != nil {
		return err
	}
	e := g.batch()
	g.message(unix.NFT_MSG_NEWRULE, flags, family, o)
	if err := e.rule(family, r); err != nil {
		return err
	}
	if before != nil {
		e.bytes(unix.NFTA_RULE_POSITION, before)
	}
	e.close()
	err = g.send()
	if before != nil && errors.Is(err, kernel.ErrMissing) {
		return errChanged
	}
	return err
}

func (g Guests) remove(o kstate.Guest) error {
	family, err := guestFamily(o.Table.Family)
	if err != nil {
		return err
	}
	rules, err := (&reader{conn: g.Conn}).listed(o.Table, o.Chain)
	if err != nil {
		return err
	}
	rules = slices.DeleteFunc(rules, func(l listed) bool { return l.guest != o.Rule })
	if len(rules) == 0 {
		return nil
	}
	e := g.batch()
	for _, l := range rules {
		g.message(unix.NFT_MSG_DELRULE, 0, family, o)
		e.bytes(unix.NFTA_RULE_HANDLE, l.handle)
		e.close()
	}
	if err = g.send(); errors.Is(err, kernel.ErrMissing) {
		return errChanged
	}
	return err
}

// batch begins a transaction.
func (g Guests) batch() *encoder {
	e := &g.enc
	e.buf = e.buf[:0]
	g.seq++
	e.bound(unix.NFNL_MSG_BATCH_BEGIN, g.seq)
	return e
}

// message begins a message about a rule in a guest's chain.
func (g Guests) message(typ, flags int, family byte, o kstate.Guest) {
	g.seq++
	g.enc.message(typ, flags, family, g.seq)
	g.enc.str(unix.NFTA_RULE_TABLE, o.Table.Name)
	g.enc.str(unix.NFTA_RULE_CHAIN, o.Chain)
}

// send ends a transaction, sends it and returns the first complaint.
func (g Guests) send() error {
	g.seq++
	g.enc.bound(unix.NFNL_MSG_BATCH_END, g.seq)
	all, err := g.write.transact(g.enc.buf)
	switch {
	case err != nil:
		return err
	case len(all) == 0:
		return nil
	case all[0].errno == unix.EINTR:
		return errChanged
	case all[0].errno == unix.EPERM: // not of us, who are root, but by NFT_TABLE_F_OWNER
		return fmt.Errorf("%w: the table belongs to another program: %w", kernel.ErrInUse, cause(all[0]))
	}
	return cause(all[0])
}

// guests finds our rules in the tables of others.
func (r *reader) guests(tables []kstate.Table) error {
	filters, err := r.filters(tables)
	if err != nil {
		return err
	}
	for _, t := range tablesOf(filters) {
		err := r.get(unix.NFT_MSG_GETRULE, t, unix.NFTA_RULE_TABLE, func(a attrs) {
			if rule, ok := guestText(a); ok {
				r.objs = append(r.objs, kstate.Guest{Table: t, Chain: text(a.find(unix.NFTA_RULE_CHAIN)), Rule: rule})
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// guestText returns the text of a rule that is a guest. One that has lost our
// mark and kept the comment shows as a text that no guest of ours has, so that
// it is removed.
func guestText(a attrs) (string, bool) {
	data := a.find(unix.NFTA_RULE_USERDATA)
	if commentIn(data) != guestComment && xtComment(a.find(unix.NFTA_RULE_EXPRESSIONS)) != guestComment {
		return "", false
	}
	if rule, ok := decodeUserdata(data); ok {
		return strings.TrimSuffix(rule, commentText(guestComment)), true
	}
	handle := a.find(unix.NFTA_RULE_HANDLE)
	if len(handle) != 8 {
		return "", false
	}
	return fmt.Sprintf("restored rule handle %d", binary.BigEndian.Uint64(handle)), true
}

// xtComment is the comment that iptables gave a rule, struct xt_comment_info of its match
// "comment", or "".
func xtComment(exprs attrs) string {
	for _, e, ok := exprs.next(); ok; _, e, ok = exprs.next() {
		data := attrs(attrs(e).find(unix.NFTA_EXPR_DATA))
		if text(attrs(e).find(unix.NFTA_EXPR_NAME)) == "match" && text(data.find(unix.NFTA_MATCH_NAME)) == "comment" {
			words, _, _ := strings.Cut(string(data.find(unix.NFTA_MATCH_INFO)), "\x00")
			return words
		}
	}
	return ""
}
