package rtnl

import (
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestWorthwhile: what wakes Watch.
func TestWorthwhile(t *testing.T) {
	p := newPorts()
	var raw []bpf.RawInstruction
	for _, i := range p.worthwhile() {
		raw = append(raw, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	program, ok := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(program)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	link := func(typ uint16, family uint8) *message { return newMessage(typ, 0).link(family, firstIndex, 0, 0) }
	addr := func(typ uint16) *message { return newMessage(typ, 0).addr(unix.AF_INET, 24, 0, firstIndex) }
	route := func(typ uint16) *message { return newMessage(typ, 0).route(unix.AF_INET, 24, 2, 0, 1) }
	neigh := func(typ uint16, index int) *message { return newMessage(typ, 0).neigh(unix.AF_INET, index, 0, 0) }
	setting := func(of uint32) *message { return newMessage(unix.RTM_NEWNETCONF, 0).family(unix.AF_INET).u32(1, of) }
	const kernels, theirs = 0, 4711
	ours, next := p.base|7, (p.base>>portBits+1)<<portBits
	for i, c := range []struct {
		m      *message
		port   uint32
		passes bool
	}{
		{link(unix.RTM_NEWLINK, unix.AF_UNSPEC), kernels, true},
		{link(unix.RTM_NEWLINK, unix.AF_UNSPEC), theirs, true},
		{link(unix.RTM_NEWLINK, unix.AF_UNSPEC), next, true},
		{link(unix.RTM_NEWLINK, unix.AF_UNSPEC), ours, false},
		{link(unix.RTM_DELLINK, unix.AF_UNSPEC), kernels, true},
		{link(unix.RTM_NEWLINK, unix.AF_BRIDGE), kernels, false},
		{link(unix.RTM_DELLINK, unix.AF_BRIDGE), theirs, false},
		{addr(unix.RTM_NEWADDR), kernels, false},
		{addr(unix.RTM_NEWADDR), theirs, true},
		{addr(unix.RTM_DELADDR), kernels, true},
		{addr(unix.RTM_DELADDR), ours, false},
		{route(unix.RTM_NEWROUTE), kernels, false},
		{route(unix.RTM_NEWROUTE), next, true},
		{route(unix.RTM_DELROUTE), kernels, true},
		{neigh(unix.RTM_NEWNEIGH, firstIndex), theirs, false},
		{neigh(unix.RTM_DELNEIGH, firstIndex), kernels, true},
		{neigh(unix.RTM_DELNEIGH, lastIndex), theirs, true},
		{neigh(unix.RTM_DELNEIGH, firstIndex-1), theirs, false},
		{setting(^uint32(0)), theirs, true},
		{setting(^uint32(0)), kernels, true},
		{setting(^uint32(1)), kernels, false},
		{setting(firstIndex), kernels, false},
		{newMessage(unix.RTM_NEWRULE, 0).rule(unix.AF_INET, 1, 0), kernels, true},
		{newMessage(unix.RTM_DELQDISC, 0).family(unix.AF_UNSPEC), theirs, true},
	} {
		b := sealed(c.m)
		native.PutUint32(b[12:], c.port)
		if n, err := vm.Run(b); err != nil || n > 0 != c.passes {
			t.Errorf("%d: %d, %v, want %v", i, n, err, c.passes)
		}
	}
}
