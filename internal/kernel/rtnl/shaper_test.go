package rtnl

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

func aQueue(s kstate.Shaper) *message {
	m := newMessage(unix.RTM_NEWQDISC, 0).tc(9, handleShaper, parentRoot, 1)
	return m.str(unix.TCA_KIND, "tbf").nest(unix.TCA_OPTIONS, func() { m.bucket(s) })
}

func TestQueueRoundTrip(t *testing.T) {
	for _, want := range []kstate.Shaper{
		{Rate: 125, Burst: 1518, Queue: 3000},
		{Rate: math.MaxUint32, Burst: math.MaxUint32, Queue: math.MaxUint32},
		{Rate: 125e12, Burst: 1, Queue: 1},
	} {
		got, ok := parseQueue(body(aQueue(want)))
		if !ok || got != (queue{index: 9, ours: true, shaper: want}) {
			t.Errorf("%+v, %v; want %s", got, ok, want)
		}
	}
	for _, c := range []struct {
		kind           string
		handle, parent uint32
		hook           bool
	}{
		{"tbf", 1 << 16, parentRoot, false}, {"tbf", handleShaper, 1, false}, {"bfifo", handleShaper, parentRoot, false},
		{"clsact", handleHook, parentHook, true}, {"ingress", handleHook, parentHook, true}, {"noqueue", 0, parentRoot, false},
	} {
		got, ok := parseQueue(body(newMessage(unix.RTM_NEWQDISC, 0).tc(9, c.handle, c.parent, 1).str(unix.TCA_KIND, c.kind)))
		if ok != c.hook || got.hook != c.hook || got.ours {
			t.Errorf("%+v: %+v, %v", c, got, ok)
		}
	}
}

// aFilter is one of our priority as the kernel tells it.
func aFilter(kind string, to int) *message {
	m := newMessage(unix.RTM_NEWTFILTER, 0).tc(9, 0x80000800, parentEntry, infoFilter())
	return m.str(unix.TCA_KIND, kind).nest(unix.TCA_OPTIONS, func() { m.outBy(to) })
}

func TestFilterRoundTrip(t *testing.T) {
	conditions := newMessage(unix.RTM_NEWTFILTER, 0).tc(9, 0x80000800, parentEntry, infoFilter()).str(unix.TCA_KIND, "u32")
	conditions.nest(unix.TCA_OPTIONS, func() {
		conditions.outBy(5)
		conditions.attr(u32Sel, append([]byte{u32Terminal, 0, 1}, make([]byte, sizeofU32Sel-3+16)...)) // the last one counts
	})
	two := newMessage(unix.RTM_NEWTFILTER, 0).tc(9, 0x80000800, parentEntry, infoFilter()).str(unix.TCA_KIND, "u32")
	two.nest(unix.TCA_OPTIONS, func() {
		two.attr(u32Sel, append([]byte{u32Terminal}, make([]byte, sizeofU32Sel-1)...))
		two.nest(u32Act, func() {
			two.nest(1, func() { two.str(actKind, "gact") })
			two.nest(2, func() { two.str(actKind, "gact") })
		})
	})
	table := newMessage(unix.RTM_NEWTFILTER, 0).tc(9, 0x80000000, parentEntry, infoFilter()).str(unix.TCA_KIND, "u32")
	table.nest(unix.TCA_OPTIONS, func() { table.u32(4, 1) })
	others := newMessage(unix.RTM_NEWTFILTER, 0).tc(9, 1, parentEntry, 1<<16).str(unix.TCA_KIND, "bpf")
	for _, c := range []struct {
		name string
		m    *message
		to   int
		ok   bool
	}{
		{"ours", aFilter("u32", 5), 5, true},
		{"one that has conditions", conditions, 0, true},
		{"with two actions", two, 0, true},
		{"of another kind", aFilter("bpf", 5), 0, true},
		{"the table of u32", table, 0, false},
		{"of another priority", others, 0, false},
	} {
		if got, ok := parseFilter(body(c.m)); got.to != c.to || ok != c.ok {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
	}
}
