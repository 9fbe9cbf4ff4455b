package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func TestApart(t *testing.T) {
	to := netip.MustParseAddr("10.0.0.2")
	at := func(from string, first, last uint16) span { return span{to, "tcp", "192.0.2.1", from, first, last} }
	for _, c := range []struct{ in, want []span }{
		{nil, nil},
		{[]span{at("10.0.0.0/8", 1, 9), {to, "tcp", "0.0.0.0/0", "10.0.0.0/8", 5, 9}}, []span{at("10.0.0.0/8", 1, 9), {to, "tcp", "0.0.0.0/0", "10.0.0.0/8", 5, 9}}},
		{[]span{at("10.0.0.0/8", 80, 80), at("10.1.0.0/16", 80, 80)}, []span{at("10.0.0.0/8", 80, 80)}},
		{[]span{at("10.1.0.7", 80, 80), at("10.1.0.7", 80, 80)}, []span{at("10.1.0.7", 80, 80)}},
		{[]span{at("10.1.0.0/16", 80, 90), at("10.0.0.0/8", 85, 95)},
			[]span{at("10.1.0.0/16", 80, 84), at("10.0.0.0/8", 85, 90), at("10.0.0.0/8", 91, 95)}},
		{[]span{at("10.1.0.0/16", 65534, 65535), at("192.0.2.1", 65535, 65535)},
			[]span{at("10.1.0.0/16", 65534, 65534), at("10.1.0.0/16", 65535, 65535), at("192.0.2.1", 65535, 65535)}},
	} {
		if got := apart(slices.Clone(c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
}

// TestApartKeepsWhoMay: cutting changes nothing about who may use which port.
func TestApartKeepsWhoMay(t *testing.T) {
	to := netip.MustParseAddr("10.0.0.2")
	froms := []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.7", "192.0.2.0/24", "0.0.0.0/0"}
	allowed := func(spans []span, port uint16, client netip.Addr) (n int) {
		for _, s := range spans {
			if s.first <= port && port <= s.last && clients(s.from).Contains(client) {
				n++
			}
		}
		return n
	}
	for i := range 2000 {
		var in []span
		for j := range 1 + i%4 {
			first := uint16(i*7%5 + j*3%4 + 1)
			in = append(in, span{to, "udp", "0.0.0.0/0", froms[(i/3+j*i)%len(froms)], first, first + uint16((i+j)%3)})
		}
		out := apart(slices.Clone(in))
		for port := range uint16(14) {
			for _, c := range []string{"10.1.0.7", "10.1.0.8", "10.2.0.1", "192.0.2.9", "203.0.113.1"} {
				a := netip.MustParseAddr(c)
				was, is := allowed(in, port, a), allowed(out, port, a)
				if (was > 0) != (is > 0) || is > 1 {
					t.Fatal(fmt.Sprint(in, " became ", out, ": port ", port, " client ", c))
				}
			}
		}
	}
}
