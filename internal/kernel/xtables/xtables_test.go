package xtables

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/netspace"
)

const mark = 0x10000000

func TestMain(m *testing.M) { netspace.Main(m) }

// TestFilters: what becomes of packets that bear the mark, and that no condition
// decides, by rules that iptables-legacy made.
func TestFilters(t *testing.T) {
	for _, c := range []struct{ rules, ends string }{
		{"", ""},
		{"-P FORWARD ACCEPT", "ip4 ip6 -"},
		{"-P FORWARD DROP", "ip4 ip6 forward"},
		{"-P INPUT DROP", "ip4 ip6 input"},
		{"-A FORWARD -j REJECT", "ip4 ip6 forward"},
		{"-A FORWARD -m comment --comment closed -j DROP", "ip4 ip6 forward"},
		{"-A FORWARD -p tcp -j DROP", "ip4 ip6 -"},
		{"-A FORWARD -i lo -j DROP", "ip4 ip6 -"},
		{"-A FORWARD -m conntrack --ctstate INVALID -j DROP", "ip4 ip6 -"},
		{"-A FORWARD -j ACCEPT; -P FORWARD DROP", "ip4 ip6 -"},
		{"-P FORWARD DROP; -I FORWARD -m mark --mark 0x10000000/0x10000000 -j ACCEPT", "ip4 ip6 -"},
		{"-P FORWARD DROP; -I FORWARD -m mark --mark 0x10000000/0x10000000 -m comment --comment ours -j ACCEPT", "ip4 ip6 -"},
		{"-P FORWARD DROP; -I FORWARD -m mark --mark 0x10000000 -j ACCEPT", "ip4 ip6 -"},
		{"-P FORWARD DROP; -I FORWARD -m mark ! --mark 0x10000000/0x10000000 -j ACCEPT", "ip4 ip6 forward"},
		{"-P FORWARD DROP; -I FORWARD -m mark --mark 0x1/0x1 -j ACCEPT", "ip4 ip6 forward"},
		{"-P FORWARD DROP; -I FORWARD -p udp -m mark --mark 0x10000000/0x10000000 -j ACCEPT", "ip4 ip6 forward"},
		{"-P FORWARD DROP; -N USER; -A FORWARD -j USER; -A USER -m mark --mark 0x10000000/0x10000000 -j ACCEPT", "ip4 ip6 -"},
		{"-P FORWARD DROP; -N USER; -A FORWARD -j USER; -A USER -j RETURN; -A USER -j ACCEPT", "ip4 ip6 forward"},
		{"-N USER; -A FORWARD -g USER; -A FORWARD -j DROP; -A USER -p tcp -j ACCEPT", "ip4 ip6 -"},
		{"-N USER; -A FORWARD -j USER; -A FORWARD -j DROP; -A USER -p tcp -j ACCEPT", "ip4 ip6 forward"},
		{"-N USER; -N MORE; -A FORWARD -j USER; -A USER -j MORE; -A MORE -j DROP", "ip4 ip6 forward"},
	} {
		s := netspace.New(t)
		for rule := range strings.SplitSeq(c.rules, "; ") {
			if rule != "" {
				s.Run(t, "iptables-legacy %s", rule)
				s.Run(t, "ip6tables-legacy %s", rule)
			}
		}
		got, err := netspace.In(s, func() ([]kstate.Filter, error) { return Filters(mark) })
		if err != nil {
			t.Fatal(err)
		}
		want := []string{}
		if _, ends, some := strings.Cut(c.ends, " ip6 "); some {
			for _, at := range []string{"ip forward", "ip input", "ip6 forward", "ip6 input"} {
				want = append(want, fmt.Sprintf("%s %v", at, strings.HasSuffix(at, ends)))
			}
		}
		is := []string{}
		for _, f := range got {
			is = append(is, fmt.Sprintf("%s %s %v", f.Table.Family, f.Hook, f.Ends != kstate.EndsOpen))
			if !f.Legacy || f.Table.Name != "filter" || !strings.EqualFold(strings.ReplaceAll(f.Chain, "INPUT", "input"), f.Hook) {
				t.Errorf("%s: %+v", c.rules, f)
			}
		}
		slices.Sort(is)
		if !slices.Equal(is, want) {
			t.Errorf("%s: %q, want %q", c.rules, is, want)
		}
	}
}

// TestNoTable: to look makes no table.
func TestNoTable(t *testing.T) {
	s := netspace.New(t)
	if got, err := netspace.In(s, func() ([]kstate.Filter, error) { return Filters(mark) }); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	names, err := netspace.In(s, func() ([]byte, error) { return os.ReadFile(families[0].names) })
	if err != nil || len(names) > 0 {
		t.Errorf("tables %q, %v", names, err)
	}
}

// FuzzTable: whatever the kernel were to answer, it is read to an end.
func FuzzTable(f *testing.F) {
	plain := make([]byte, 112+40)
	binary.NativeEndian.PutUint16(plain[88:], 112)
	binary.NativeEndian.PutUint16(plain[90:], 152)
	f.Add(plain, 0, false)
	f.Fuzz(func(t *testing.T, entries []byte, first int, six bool) {
		tb := &table{family: families[0], entries: entries, mark: mark}
		if six {
			tb.family = families[1]
		}
		tb.first = [5]int{1: first, 2: first}
		tb.filters()
	})
}
