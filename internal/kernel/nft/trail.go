package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// trailPrefix begins the names of tables that have the kernel tell of a probe. They are
// nobody's firewall and no part of ours: nothing is kept or removed there, for the kernel
// removes each when the socket that made it is closed, whoever closes it.
const trailPrefix = "sealane-trace-"

func isTrail(table string) bool { return strings.HasPrefix(table, trailPrefix) }

// Trail hears what nftables of one namespace says of a probe and of what answers it.
type Trail struct {
	marks Marks
	conn  *Conn // owns the tables
	ear   *socket
	at    map[uint32]bool // by packet: it was marked, and is an answer
	seen  []event
}

// Marks says by what a probe is known.
type Marks struct {
	Proto string // "tcp", "udp" or "icmp"
	Src   netip.Addr
	Port  uint16 // its own; of ICMP the identifier
	// Whole is for the host, where packets cross bridges, and are rewritten: which of them
	// answer, only their connection says.
	Whole bool
}

// OpenTrail has the kernel tell of a probe in the namespace of the descriptor ns, from now
// until Close or the end of the process.
func OpenTrail(ns int, m Marks) (_ *Trail, err error) {
	t := &Trail{marks: m, at: map[uint32]bool{}}
	if t.conn, err = Open(ns); err != nil {
		return nil, err
	}
	t.conn.tables = tableOwner
	if t.ear, err = t.conn.dialAgain(); err == nil {
		err = t.ear.nl.JoinGroup(unix.NFNLGRP_NFTRACE)
	}
	if err == nil {
		err = t.conn.Apply(trailOps(fmt.Sprint(trailPrefix, t.conn.port), m))
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close ends it; its tables are gone when it returns.
func (t *Trail) Close() error {
	var err error
	if t.ear != nil {
		err = t.ear.nl.Close()
	}
	return errors.Join(err, t.conn.Close())
}

// Comments of the rules that mark packets.
const (
	commentThere = "the probe"
	commentBack  = "its answer"
)

// Priorities: before others filter, and before ports and addresses are rewritten but after
// the connection is known.
const (
	beforeAll  = -350
	afterTrack = -199
)

// trailOps make the tables.
func trailOps(name string, m Marks) (ops []kstate.Op) {
	add := func(o kstate.Object) { ops = append(ops, kstate.Op{New: o}) }
	chain := func(t kstate.Table, name, hook string, priority int, rules []string) {
		add(kstate.Chain{Table: t, Name: name, Type: "filter", Hook: hook, Priority: priority, Rules: rules})
	}
	table := kstate.Table{Family: "inet", Name: name}
	add(table)
	chain(table, "arriving", "prerouting", beforeAll, m.plain())
	chain(table, "leaving", "output", beforeAll, m.plain())
	if m.Whole {
		chain(table, "arriving-known", "prerouting", afterTrack, m.known())
		chain(table, "leaving-known", "output", afterTrack, m.known())
		frames := kstate.Table{Family: "bridge", Name: name}
		add(frames)
		chain(frames, "arriving", "prerouting", beforeAll, m.plain())
	}
	return ops
}

// plain are the rules that know packets by what is in them.
func (m Marks) plain() []string {
	ip, there, back := m.words()
	return []string{
		fmt.Sprintf("%s saddr %s %s meta nftrace set 1 comment %q", ip, m.Src, there, commentThere),
		fmt.Sprintf("%s daddr %s %s meta nftrace set 1 comment %q", ip, m.Src, back, commentBack),
	}
}

// words are nft's for the probe and its answer.
func (m Marks) words() (ip, there, back string) {
	ip, icmp := "ip", "icmp"
	if m.Src.Is6() {
		ip, icmp = "ip6", "icmpv6"
	}
	if m.Proto == "icmp" {
		return ip, fmt.Sprintf("%s type echo-request %s id %d", icmp, icmp, m.Port), fmt.Sprintf("%s type echo-reply %s id %d", icmp, icmp, m.Port)
	}
	return ip, fmt.Sprintf("%s sport %d", m.Proto, m.Port), fmt.Sprintf("%s dport %d", m.Proto, m.Port)
}

// known are the rules that know packets by their connection, complaints of it too.
func (m Marks) known() []string {
	ip, proto := "ip", m.Proto
	if m.Src.Is6() {
		ip = "ip6"
	}
	if proto == "icmp" && m.Src.Is6() {
		proto = "ipv6-icmp"
	}
	flow := fmt.Sprintf("ct original %s saddr %s ct protocol %s ct original proto-src %d", ip, m.Src, proto, m.Port)
	return []string{
		fmt.Sprintf("ct direction original %s meta nftrace set 1 comment %q", flow, commentThere),
		fmt.Sprintf("ct direction reply %s meta nftrace set 1 comment %q", flow, commentBack),
	}
}

// traced has the kernel tell what becomes of the packet.
type traced struct{}

func (traced) add(c *compiler) error {
	c.emit(&expr.Immediate{Register: 1, Data: []byte{1}},
		&expr.Meta{Key: expr.MetaKeyNFTRACE, Register: 1, SourceRegister: true})
	return nil
}

// Sightings returns what was heard until now, without our own rules' words. name names a
// device by its index.
func (t *Trail) Sightings(name func(uint32) string) ([]kernel.Sighting, error) {
	if err := t.hear(); err != nil {
		return nil, err
	}
	var out []kernel.Sighting
	err := t.conn.consistent(func(r *reader) error {
		books := books{reader: r, tables: map[kstate.Table]*book{}}
		for _, e := range t.seen {
			if err := books.open(e.Table); err != nil {
				return err
			}
		}
		out = t.tell(books, name)
		return nil
	})
	return out, err
}

// hear takes what the kernel has said. It says it before the packet goes on.
func (t *Trail) hear() error {
	for {
		b, err := t.ear.receive()
		switch {
		case err == unix.EAGAIN:
			return nil
		case err == unix.ENOBUFS:
			continue // the rest is still there
		case err != nil:
			return fmt.Errorf("nftables: trace: %w", err)
		}
		for r, rest, ok := nextReply(b); ok; r, rest, ok = nextReply(rest) {
			if e, ok := decodeEvent(r); ok && len(t.seen) < maxEvents {
				t.seen = append(t.seen, e)
			}
		}
	}
}

// maxEvents is how much is heard at most: others may have the kernel trace as well.
const maxEvents = 10000

// tell leaves out packets that are not of the probe, and says of the others which they are.
// A packet is known by a mark that it got here, or by what is in it: one that leaves a
// bridge for the host goes on under another number.
func (t *Trail) tell(b books, name func(uint32) string) (out []kernel.Sighting) {
	for _, e := range t.seen {
		own := isTrail(e.Table.Name)
		if own && e.Table.Name != fmt.Sprint(trailPrefix, t.conn.port) {
			continue
		}
		s := b.describe(e)
		if own && (s.Rule == commentThere || s.Rule == commentBack) {
			t.at[e.id] = s.Rule == commentBack
		} else if back, is := t.marks.of(e); is {
			t.at[e.id] = back
		}
		back, known := t.at[e.id]
		if !known {
			continue
		}
		s.Back, s.Own = back, own
		if e.in != 0 {
			s.In = name(e.in)
		}
		if e.out != 0 {
			s.Out = name(e.out)
		}
		out = append(out, s)
	}
	return out
}

// of reports whether a packet is the probe, or answers it, by what is in it.
func (m Marks) of(e event) (back, is bool) {
	own := netip.AddrPortFrom(m.Src, m.Port)
	src, dst, proto := e.Src, e.Dst, probeProtocols[m.Proto]
	if m.Proto == "icmp" {
		src, dst = netip.AddrPortFrom(src.Addr(), e.echo), netip.AddrPortFrom(dst.Addr(), e.echo)
		if m.Src.Is6() {
			proto = unix.IPPROTO_ICMPV6
		}
	}
	return dst == own, e.Headed && e.Proto == proto && (src == own || dst == own)
}

// probeProtocols are the numbers of what probes are.
var probeProtocols = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP}

// books are the tables that packets met.
type books struct {
	*reader
	tables map[kstate.Table]*book
}

// book is one table.
type book struct {
	owned  bool
	chains map[string]kstate.Chain // base chains
	rules  map[uint64]line
}

// line is a rule, and its place in its chain.
type line struct {
	number int
	text   string
}

// open reads a table once.
func (b books) open(t kstate.Table) error {
	if b.tables[t] != nil || familyOf(t.Family) == 0 {
		return nil
	}
	k := &book{chains: map[string]kstate.Chain{}, rules: map[uint64]line{}}
	b.tables[t] = k
	r := &reader{conn: b.conn}
	err := r.get(unix.NFT_MSG_GETTABLE, t, 0, func(a attrs) {
		if text(a.find(unix.NFTA_TABLE_NAME)) == t.Name {
			k.owned = number(a.find(unix.NFTA_TABLE_FLAGS))&tableOwner != 0
		}
	})
	if err == nil {
		err = r.get(unix.NFT_MSG_GETCHAIN, t, 0, func(a attrs) { r.chain(t, a) })
	}
	for _, c := range r.chains {
		k.chains[c.Name] = c
	}
	if err != nil {
		return err
	}
	n := map[string]int{}
	return r.get(unix.NFT_MSG_GETRULE, t, unix.NFTA_RULE_TABLE, func(a attrs) {
		chain := text(a.find(unix.NFTA_RULE_CHAIN))
		n[chain]++
		k.rules[handleOf(a.find(unix.NFTA_RULE_HANDLE))] = line{n[chain], ruleText(a)}
	})
}

// familyOf is the number of a family that reader.get knows.
func familyOf(name string) byte {
	for _, f := range families {
		if f.name == name {
			return f.number
		}
	}
	return 0
}

// ruleText is a rule as it was written, without what we say to others in it, if it is ours;
// of others the comment.
func ruleText(a attrs) string {
	data := a.find(unix.NFTA_RULE_USERDATA)
	if c := commentIn(data); c != "" {
		return c
	}
	if text, ours := decodeUserdata(data); ours {
		return text
	}
	return xtComment(attrs(a.find(unix.NFTA_RULE_EXPRESSIONS)))
}

// describe adds what the table says.
func (b books) describe(e event) kernel.Sighting {
	s, k := e.Sighting, b.tables[e.Table]
	if k == nil {
		return s
	}
	c, l := k.chains[s.Chain], k.rules[s.Handle]
	s.Owned, s.Hook, s.Priority = k.owned, c.Hook, c.Priority
	if s.Ends == "rule" {
		s.Number, s.Rule = l.number, l.text
	}
	return s
}
