package nft

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// rule is a rule taken apart. The language, a part of nft's:
//
//	rule      = { match | look-up | counter | notrack | zone | clamp | "meta nftrace set 1" | assignment | diversion } [ end ] [ comment "text" ]
//	match     = key [ "==" | "!=" ] ( value | "@" set ) | "tcp flags" flags "/" flags |
//	            ( mark | "ip frag-off" | port ) ( "and" | "&" ) number ( "==" | "!=" ) number
//	look-up   = key "vmap" "@" map
//	key       = selector [ "&" address ] { "." selector [ "&" address ] }
//	assignment = ( "meta" | "ct" ) "mark" "set" ( number | key "map" "@" map |
//	            mark [ ( "or" | "and" ) number ] | "numgen" ( "random" | "inc" ) "mod" number |
//	            "jhash" selector "mod" number "seed" number )
//	mark      = "meta mark" | "ct mark"
//	zone      = "ct original zone set @ll,80,16"
//	clamp     = "tcp option maxseg size set rt mtu"
//	diversion = "ether daddr set" key "map" "@" map | "meta pkttype set host"
//	end       = verdict | "reject" [ "with tcp reset" ] | "masquerade" | "redirect" [ "to" ":" port ] |
//	            ( "snat" | "dnat" ) ( "ip" | "ip6" ) [ "addr . port" ] "to"
//	            ( address | key "map" "@" map | selector ":" port "-" port ) | "dnat" "to" ":" port
//
// Words stand apart by spaces. A rule has something besides its comment.
type rule struct {
	stmts   []stmt
	comment string
}

// stmt is one statement of a rule; add appends its expressions.
type stmt interface{ add(*compiler) error }

type (
	// match compares a key with a value or looks it up in a set.
	match struct {
		key  []*selector
		not  bool
		set  string // "" for a value
		typ  *datatype
		data []byte
		bits int    // of data that count, -1 for all
		mask []byte // the bits that count, where a rule says which; nil for all
	}
	// lookup asks a verdict map.
	lookup struct {
		key []*selector
		set string
	}
	counter    struct{}
	clamp      struct{}             // the peer is told that no larger segments than the route's come through
	notrack    struct{}             // the packet's connection is not tracked
	zone       struct{}             // flows that begin with packets of one sender are apart: the end of its hardware address says whose
	reject     struct{ reset bool } // by what ends a TCP connection, not by ICMP
	masquerade struct{}
	redirect   struct{ port uint16 } // 0: the port stays
	report     struct{ port uint16 } // dnat of the port alone: the address stays
	// nat rewrites an address, and the port with it when port is set.
	nat struct {
		source bool // of the packet, not its destination
		family byte // NFPROTO_IPV4 or NFPROTO_IPV6
		port   bool
		addr   []byte // fixed, or
		key    []*selector
		set    string    // or, without it, what the key says,
		ports  [2]uint16 // and one of these ports, from the first to the last
	}
)

// maxComment is nft's bound, NFTNL_UDATA_COMMENT_MAXLEN without the zero.
const maxComment = 127

func parseRule(text string) (*rule, error) {
	tokens, err := tokenize(text)
	if err != nil {
		return nil, err
	}
	c, r := &cursor{tokens: tokens}, &rule{}
	for !c.done() && !c.accept("comment") {
		s, last, err := parseStmt(c)
		if err != nil {
			return nil, err
		}
		r.stmts = append(r.stmts, s)
		if last && !c.done() && c.peek() != (token{text: "comment"}) {
			return nil, fmt.Errorf("%s after the end of the rule", c.found())
		}
	}
	if len(r.stmts) == 0 {
		return nil, fmt.Errorf("no statement")
	}
	if c.at > 0 && tokens[c.at-1] == (token{text: "comment"}) {
		return r, r.parseComment(c, text)
	}
	return r, nil
}

// parseComment takes the comment's text and checks that text is r's body, a
// space and the comment: see userdata.
func (r *rule) parseComment(c *cursor, text string) error {
	t := c.next()
	switch {
	case !t.quoted || t.text == "":
		return fmt.Errorf("comment: want its text in quotes")
	case len(t.text) > maxComment:
		return fmt.Errorf("comment: %d bytes, at most %d fit", len(t.text), maxComment)
	case !c.done():
		return fmt.Errorf("%s after the comment", c.found())
	case !strings.HasSuffix(text, commentText(t.text)):
		return fmt.Errorf("comment: want one space on each side of the word, none after the text")
	}
	r.comment = t.text
	return nil
}

func commentText(s string) string { return ` comment "` + s + `"` }

// parseStmt takes one statement; last says that a rule ends with it.
func parseStmt(c *cursor) (s stmt, last bool, err error) {
	switch {
	case c.accept("counter"):
		return counter{}, false, nil
	case c.accept("notrack"):
		return notrack{}, false, nil
	case c.accept("ct", "original", "zone", "set", "@ll,80,16"):
		return zone{}, false, nil
	case c.accept("tcp", "option", "maxseg", "size", "set", "rt", "mtu"):
		return clamp{}, false, nil
	case c.accept("reject"):
		return reject{reset: c.accept("with", "tcp", "reset")}, true, nil
	case c.accept("masquerade"):
		return masquerade{}, true, nil
	case c.accept("redirect"):
		s, err = parseRedirect(c)
		return s, true, err
	case c.accept("snat"):
		s, err = parseNAT(c, true)
		return s, true, err
	case c.accept("dnat"):
		s, err = parseNAT(c, false)
		return s, true, err
	case c.accept("ether", "daddr", "set"):
		s, err = parseReaddress(c)
		return s, false, err
	case c.accept("meta", "nftrace", "set", "1"):
		return traced{}, false, nil
	case c.accept("meta", "pkttype", "set", "host"):
		return receive{}, false, nil
	case c.accept("meta", "mark", "set"):
		s, err = parseAssign(c, false)
		return s, false, err
	case c.accept("ct", "mark", "set"):
		s, err = parseAssign(c, true)
		return s, false, err
	}
	for _, v := range verdicts {
		if c.accept(v.word) {
			s, err = takeVerdict(c, v.word, v.chain)
			return s, true, err
		}
	}
	s, err = parseMatch(c)
	return s, false, err
}

func takeVerdict(c *cursor, word string, chain bool) (stmt, error) {
	if chain {
		word += " " + c.next().String()
	}
	return parseVerdict(word)
}

func parseKey(c *cursor) ([]*selector, error) {
	var key []*selector
	for {
		s := takeSelector(c)
		if s == nil {
			return nil, fmt.Errorf("%s, want a selector", c.found())
		}
		s, err := s.masked(c)
		if err != nil {
			return nil, err
		}
		key = append(key, s)
		if !c.accept(".") {
			return key, checkKey(key)
		}
	}
}

func checkKey(key []*selector) error {
	for _, s := range key {
		if len(key) > 1 && s.typ.id == 0 {
			return fmt.Errorf("%s cannot be joined to others", s.name)
		}
	}
	if n := width(types(key)); n > maxWidth {
		return fmt.Errorf("key of %d bytes, at most %d fit", n, maxWidth)
	}
	return nil
}

func types(key []*selector) []*datatype {
	out := make([]*datatype, len(key))
	for i, s := range key {
		out[i] = s.typ
	}
	return out
}

// takeLookup takes "@name", which key is looked up in.
func takeLookup(c *cursor, key []*selector) (string, error) {
	if key[0].typ.id == 0 {
		return "", fmt.Errorf("%s cannot be looked up", key[0].name)
	}
	name, ok := strings.CutPrefix(c.peek().text, "@")
	if !ok || c.peek().quoted {
		return "", fmt.Errorf("%s, want the name of a set after @", c.found())
	}
	c.next()
	return name, checkName(name)
}

func parseMatch(c *cursor) (stmt, error) {
	key, err := parseKey(c)
	if err != nil {
		return nil, err
	}
	if c.accept("vmap") {
		set, err := takeLookup(c, key)
		return lookup{key, set}, err
	}
	m := match{key: key, bits: -1}
	if maskable(key) && (c.accept("and") || c.accept("&")) {
		return m, m.parseMasked(c)
	}
	if key[0].typ == typeTCPFlags && len(key) == 1 {
		return m, m.parseFlags(c)
	}
	m.not = c.accept("!=")
	if !m.not {
		c.accept("==")
	}
	if strings.HasPrefix(c.peek().text, "@") {
		m.set, err = takeLookup(c, key)
		return m, err
	}
	if len(key) > 1 {
		return nil, fmt.Errorf("%s, want the name of a set after @", c.found())
	}
	return m, m.parseValue(c)
}

// maskable says of what some bits may be compared.
func maskable(key []*selector) bool {
	return len(key) == 1 && (key[0].typ == typeMark || key[0].typ == typeFragBits || key[0].typ == typeService && key[0].layer == layerTransport)
}

// parseMasked takes the rest of a comparison of which some bits count.
func (m *match) parseMasked(c *cursor) error {
	if m.typ = m.key[0].typ; m.typ == typeMark {
		m.typ = typeAnyMark
	}
	m.mask, m.data = make([]byte, m.typ.width), make([]byte, m.typ.width)
	if err := m.typ.parse(m.mask, c.next().text); err != nil {
		return err
	}
	m.not = c.accept("!=")
	if !m.not && !c.accept("==") {
		return fmt.Errorf("%s, want == or !=", c.found())
	}
	return m.typ.parse(m.data, c.next().text)
}

// parseFlags takes which flags are set of those that count.
func (m *match) parseFlags(c *cursor) error {
	m.typ, m.data, m.mask = typeTCPFlags, make([]byte, 1), make([]byte, 1)
	if err := m.typ.parse(m.data, c.next().text); err != nil {
		return err
	}
	if err := c.expect("/"); err != nil {
		return err
	}
	return m.typ.parse(m.mask, c.next().text)
}

// parseValue takes the value that a single selector is compared with.
func (m *match) parseValue(c *cursor) error {
	s := m.key[0]
	if c.done() {
		return fmt.Errorf("the rule ends, want a value for %s", s.name)
	}
	t := c.next()
	m.typ, m.data = s.typ, make([]byte, aligned(s.typ.width))
	if err := m.setValue(t); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

func (m *match) setValue(t token) error {
	word, dst := t.text, m.data[:m.typ.width]
	switch {
	case m.typ == typeIfname:
		if strings.HasSuffix(word, "*") {
			word = strings.TrimSuffix(word, "*")
			m.bits = 8 * len(word)
		}
	case t.quoted:
		return fmt.Errorf("value in quotes")
	case m.typ == typeMark:
		return typeAnyMark.parse(dst, word)
	case m.typ.prefix && strings.Contains(word, "/"):
		_, length, _ := strings.Cut(word, "/")
		m.bits, _ = parseDecimal(length, 8*m.typ.width)
		return m.typ.parsePrefix(dst, make([]byte, m.typ.width), word, strings.IndexByte(word, '/'))
	case m.not && strings.Contains(word, ","):
		return fmt.Errorf("!= with several values")
	}
	return m.typ.parse(dst, word)
}

func parseRedirect(c *cursor) (stmt, error) {
	if !c.accept("to") {
		return redirect{}, nil
	}
	port, err := parsePort(c)
	return redirect{port}, err
}

// parsePort takes :PORT.
func parsePort(c *cursor) (uint16, error) {
	port := strings.TrimPrefix(c.peek().text, ":")
	if n, err := parseDecimal(port, 65535); err == nil && n > 0 && c.peek() == (token{text: ":" + port}) {
		c.next()
		return uint16(n), nil
	}
	return 0, fmt.Errorf("%s, want a port as in :80", c.found())
}

func parseNAT(c *cursor, source bool) (stmt, error) {
	n, typ := nat{source: source, family: unix.NFPROTO_IPV4}, typeIPv4
	switch {
	case !source && c.accept("to"):
		port, err := parsePort(c)
		if err != nil {
			return nil, fmt.Errorf("%s, want ip or ip6 before an address, or a port as in :80", c.found())
		}
		return report{port}, nil
	case c.accept("ip6"):
		n.family, typ = unix.NFPROTO_IPV6, typeIPv6
	case !c.accept("ip"):
		return nil, fmt.Errorf("%s, want ip or ip6", c.found())
	}
	n.port = c.accept("addr", ".", "port")
	if err := c.expect("to"); err != nil {
		return nil, err
	}
	if s := *c; n.port || takeSelector(&s) != nil {
		err := n.parseKey(c, typ)
		return n, err
	}
	if c.done() || c.peek().quoted {
		return nil, fmt.Errorf("%s, want an address", c.found())
	}
	n.addr = make([]byte, typ.width)
	return n, typ.parse(n.addr, c.next().text)
}

// parseKey takes KEY map @NAME or, of an address in the packet, SELECTOR :FIRST-LAST.
func (n *nat) parseKey(c *cursor, typ *datatype) (err error) {
	if n.key, err = parseKey(c); err != nil {
		return err
	}
	if first, last, ok := strings.Cut(c.peek().text, "-"); ok && !n.port && len(n.key) == 1 && n.key[0].typ == typ {
		for i, text := range []string{strings.TrimPrefix(first, ":"), last} {
			port, err := parseDecimal(text, 65535)
			if err != nil || port <= int(n.ports[0]) || !strings.HasPrefix(first, ":") {
				return fmt.Errorf("%s, want ports as in :1024-2047", c.found())
			}
			n.ports[i] = uint16(port)
		}
		c.next()
		return nil
	}
	if err := c.expect("map"); err != nil {
		return err
	}
	n.set, err = takeLookup(c, n.key)
	return err
}

// parseMap takes KEY map @NAME.
func parseMap(c *cursor) ([]*selector, string, error) {
	key, err := parseKey(c)
	if err != nil {
		return nil, "", err
	}
	if err := c.expect("map"); err != nil {
		return nil, "", err
	}
	set, err := takeLookup(c, key)
	return key, set, err
}
