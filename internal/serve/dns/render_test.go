package dns

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// kept is a server's answer to q with records in zone-file form: answers, and one
// each in the sections behind.
func kept(t *testing.T, q *dns.Msg, answers []string, ns, extra string) *entry {
	t.Helper()
	r := new(dns.Msg).SetReply(q)
	for section, list := range map[*[]dns.RR][]string{&r.Answer: answers, &r.Ns: {ns}, &r.Extra: {extra}} {
		for _, text := range list {
			if text == "" {
				continue
			}
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			*section = append(*section, rr)
		}
	}
	wire, err := r.Pack()
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEntry(parsed(t, q), wire, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestWhatFits cuts answers of others as ours are: who cannot ask again over TCP,
// as musl before 1.2.4, makes do with the records that there are.
func TestWhatFits(t *testing.T) {
	many := func(n int) []string {
		out := []string{"example.org. 60 IN CNAME all.example.org."}
		for i := range n {
			out = append(out, fmt.Sprintf("all.example.org. 60 IN A 192.0.2.%d", i))
		}
		return out
	}
	const (
		ns   = "example.org. 60 IN NS a-name-server-with-a-name-that-takes-room.example.net."
		glue = "a-name-server-with-a-name-that-takes-room.example.net. 60 IN A 192.0.2.200"
	)
	for _, c := range []struct {
		what      string
		answers   []string
		ns, extra string
		size      uint16 // 0: no OPT
		do        bool
		want      int // answers
		behind    bool
		cut       bool
	}{
		{"all", many(20), ns, glue, 0, false, 21, true, false},
		{"without what is behind", many(26), ns, glue, 0, false, 27, false, false},
		{"without what is behind, for who validates", many(26), ns, glue, 512, true, 27, false, true},
		{"some", many(60), ns, glue, 0, false, 30, false, true},
		{"more", many(90), "", "", 1232, false, 74, false, true},
		{"no answers", nil, ns, "", 0, false, 0, true, false},
	} {
		m := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
		if c.size > 0 {
			m.SetEdns0(c.size, c.do)
		}
		q := parsed(t, m)
		b := kept(t, m, c.answers, c.ns, c.extra).render(nil, q, time.Now(), q.limit())
		r := new(dns.Msg)
		if err := r.Unpack(b); err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		behind := len(r.Ns) > 0
		if len(b) > q.limit() || len(r.Answer) != c.want || r.Truncated != c.cut || behind != c.behind {
			t.Errorf("%s: %d bytes, %d answers, cut %v, behind %v", c.what, len(b), len(r.Answer), r.Truncated, behind)
		}
		for i, rr := range r.Answer {
			if i > 0 && !rr.(*dns.A).A.Equal(net.IPv4(192, 0, 2, byte(i-1))) {
				t.Errorf("%s: %v", c.what, rr)
			}
		}
		if (r.IsEdns0() != nil) != (c.size > 0) {
			t.Errorf("%s: OPT %v", c.what, r.IsEdns0())
		}
	}
}
