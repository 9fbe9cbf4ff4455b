package kstate_test

import (
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

func TestRuleTexts(t *testing.T) {
	byMark := kstate.Rule{Priority: 24225, Mark: 0x5ea10002, Mask: 0xffffffff, Table: 242250002}
	six, not, skip := byMark, byMark, byMark
	six.Is6, not.Not, skip.Table, skip.Goto = true, true, 0, 24300
	for want, r := range map[string]kstate.Rule{
		"rule 24225 fwmark 0x5ea10002/0xffffffff lookup 242250002":     byMark,
		"rule6 24225 fwmark 0x5ea10002/0xffffffff lookup 242250002":    six,
		"rule 24225 not fwmark 0x5ea10002/0xffffffff lookup 242250002": not,
		"rule 24225 fwmark 0x5ea10002/0xffffffff goto 24300":           skip,
		"rule 24300 nop":                    {Priority: 24300},
		"rule 24300 fwmark 0x0/0xf nop":     {Priority: 24300, Mask: 0xf},
		"rule 24223 udp port 8473 lookup 7": {Priority: 24223, Port: 8473, Table: 7},
	} {
		if got := r.String(); got != want {
			t.Errorf("text is %q, want %q", got, want)
		}
		if err := r.Check(); err != nil {
			t.Errorf("%s: %v", r, err)
		}
		if same := r.Key() == byMark.Key(); same != (r == byMark || r == skip) {
			t.Errorf("%s and %s are the same: %v", r, byMark, same)
		}
	}
}

func TestRuleOrder(t *testing.T) {
	rest := kstate.Rule{Priority: 300}
	skip, look := kstate.Rule{Priority: 100, Goto: 300}, kstate.Rule{Priority: 200, Table: 7}
	way := kstate.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Blackhole: true, Table: 7}
	const up = "route default blackhole table 7\nrule 200 lookup 7\nrule 300 nop\nrule 100 goto 300\n"
	if got := set(skip, look, rest, way).String(); got != up {
		t.Errorf("order is\n%s\nwant\n%s", got, up)
	}
}

func TestTablesApart(t *testing.T) {
	main := route(host, "198.51.100.0/24", "", "slb1")
	there, theirs := main, main
	there.Table, theirs.Other = 1000, true
	if main.Key() == there.Key() {
		t.Errorf("%s and %s are the same", main, there)
	}
	if ops := kstate.Diff(set(theirs), set(there)); len(ops) != 1 {
		t.Errorf("somebody's route in the main table does for ours in another: %v", ops)
	}
	for table, ok := range map[int]bool{0: true, 1: true, 253: true, 254: false, 255: false, 256: true, 1<<31 - 1: true, 1 << 31: false, -1: false} {
		r := main
		if r.Table = table; (r.Check() == nil) != ok {
			t.Errorf("table %d: %v", table, r.Check())
		}
	}
	inside := route(web, "0.0.0.0/0", "192.0.2.1", "eth0")
	if inside.Table = 7; inside.Check() == nil {
		t.Error("a table in a sandbox")
	}
}

// TestDetour: without it, what the kernel has is right; with it, not.
func TestDetour(t *testing.T) {
	with, without := kstate.Link{Name: "slm0", Type: kstate.TypeVXLAN}, kstate.Link{Name: "slm0", Type: kstate.TypeVXLAN}
	with.Detour = true
	for want, pair := range map[bool][2]kstate.Link{true: {with, without}, false: {without, with}} {
		if got := kstate.Satisfies(pair[0], pair[1]); got != want {
			t.Errorf("%s satisfies %s: %v", pair[0], pair[1], got)
		}
	}
}
