package nft

import (
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

func TestGoodElems(t *testing.T) {
	for _, e := range goodElems() {
		if err := ParseElem(e); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
}

func TestBadElems(t *testing.T) {
	for _, c := range []struct {
		typ, data string
		interval  bool
		at, value string
		want      string
	}{
		{"ipv4_addr", "", false, "", "", "is not an IPv4 address"},
		{"ipv4_addr", "", false, "10.0.0.0/24", "", "is not an IPv4 address"},
		{"ipv4_addr", "", false, "010.0.0.1", "", "is not an IPv4 address"},
		{"ipv4_addr", "", false, "10.0.0.1", "x", "in a set that has none"},
		{"ipv4_addr", "", false, "10.0.0.1 . tcp", "", "more than 1 fields"},
		{"ipv4_addr", "", true, "10.0.0.1/24", "", "host bits"},
		{"ipv4_addr", "", true, "10.0.0.1/32", "", "must be written 10.0.0.1"},
		{"ipv4_addr", "", true, "10.0.0.0/024", "", "is not a prefix"},
		{"ipv4_addr", "", true, "10.0.0.0-10.0.0.255", "", "must be written 10.0.0.0/24"},
		{"ipv4_addr", "", true, "10.0.0.9-10.0.0.1", "", "does not ascend"},
		{"ipv4_addr", "", true, "10.0.0.1-10.0.0.1", "", "does not ascend"},
		{"ipv6_addr", "", false, "0:0::1", "", "must be written ::1"},
		{"ipv6_addr", "", false, "FE80::1", "", "must be written fe80::1"},
		{"ipv6_addr", "", false, "192.0.2.1", "", "is not an IPv6 address"},
		{"ether_addr", "", false, "02:42:0A:00:00:01", "", "lower case"},
		{"ether_addr", "", false, "02-42-0a-00-00-01", "", "is not an ethernet address"},
		{"ether_addr", "", false, "02:42", "", "is not an ethernet address"},
		{"inet_proto", "", false, "17", "", "must be written udp"},
		{"inet_proto", "", false, "256", "", "is not an IP protocol"},
		{"inet_service", "", true, "80-65536", "", "is not a port number"},
		{"inet_service", "", false, "http", "", "is not a port number"},
		{"mark", "", false, "7", "", "must be written 0x00000007"},
		{"ifname", "", false, "a/b", "", `character '/'`},
		{"ifname", "", false, `"br0"`, "", `character '"'`},
		{"ifname", "", false, "sl-0123456789abc", "", "interface name"},
		{"ifname . ifname", "", false, "a", "", "has 1 fields, not 2"},
		{"ifname . ifname", "", false, "a . b . c", "", "more than 2 fields"},
		{"ifname . ifname", "", false, "a .b", "", "character ' '"},
		{"ifname", "verdict", false, "a", "", `"" is not a verdict`},
		{"ifname", "verdict", false, "a", "jump", "is not a verdict"},
		{"ifname", "verdict", false, "a", "drop x", "is not a verdict"},
		{"ifname", "verdict", false, "a", "goto a b", "chain: "},
		{"ifname", "ipv4_addr . inet_service", false, "a", "10.0.0.1", "has 1 fields, not 2"},
		{"ifname", "ipv4_addr . inet_service", true, "a", "10.0.0.1 . 80", "cannot be an interval"},
		{"ifname", "ipv4_addr", false, "a", "10.0.0.0/8", "value: "},
		{"mark . ifname", "", true, "", "", "mark cannot be an interval"},
		{"icmp_type", "", false, "", "", `type "icmp_type" is not known`},
		{"", "", false, "", "", `type "" is not known`},
		{"ifname", "verdict . ifname", false, "", "", `type "verdict" is not known`},
		{"ifname . ifname . ifname . ifname . mark", "", false, "", "", "longer than 64"},
	} {
		err := ParseElem(elem(newSet("s", c.typ, c.data, c.interval), c.at, c.value))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s : %s { %q : %q }: error is %v, want %q", c.typ, c.data, c.at, c.value, err, c.want)
		}
	}
	if err := ParseElem(kstate.Elem{At: "x"}); err == nil {
		t.Error("element without a set")
	}
	if err := ParseSet(*newSet("a b", "mark", "", false)); err == nil {
		t.Error("set with a space in its name")
	}
}

// FuzzElem: a text that parses is the only one for its bytes, and encoding
// and decoding an element gives it back.
func FuzzElem(f *testing.F) {
	for _, e := range goodElems() {
		f.Add(e.Set.Type, e.Set.Data, e.Set.Interval, e.At, e.Value)
	}
	f.Fuzz(func(t *testing.T, typ, data string, interval bool, at, value string) {
		e := elem(newSet("s", typ, data, interval), at, value)
		if ParseElem(e) != nil {
			return
		}
		l, err := newLayout(e.Set)
		if err != nil {
			t.Fatal(err)
		}
		tx := transaction{conn: &Conn{}, layout: l}
		if err := tx.elem(&tx.conn.enc, &e, false); err != nil {
			t.Fatal(err)
		}
		d := newDecoder(l, nil)
		list := attrs(tx.conn.enc.buf)
		for _, one, ok := list.next(); ok; _, one, ok = list.next() {
			d.element(one)
		}
		d.pair()
		if len(d.objs) != 1 || d.objs[0].String() != e.String() {
			t.Errorf("%s comes back as %v", e, d.objs)
		}
	})
}

// FuzzAnswer: nothing that the kernel could say makes us fall over.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255})
	l, err := newLayout(portsAt4)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader{conn: &Conn{}}
		d := newDecoder(l, nil)
		for m, rest, ok := nextReply(b); ok; m, rest, ok = nextReply(rest) {
			decodeError(m)
			_ = finish(m, false)
			r.chain(tableObj, m.attrs())
			r.rule(tableObj, m.attrs())
			r.set(tableObj, m.attrs())
			d.element(m.attrs())
		}
		d.pair()
	})
}
