package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The fields of struct bpf_sock_addr (linux/bpf.h) that the programs read.
// Addresses and port are in network order.
const (
	ctxIP4      = 4
	ctxIP6      = 8
	ctxPort     = 24
	ctxProtocol = 36
	ctxSocket   = 64
)

// keyAt is where the programs build a key, from the frame pointer: it must be
// aligned to eight bytes, as the verifier wants the words stored in it.
const keyAt = -32

// mappedWord is the third word of ::ffff:a.b.c.d.
func mappedWord() int32 {
	return int32(binary.NativeEndian.Uint32([]byte{0, 0, 0xff, 0xff}))
}

// load loads a program for one family that looks keys up in trie, for sockets
// of the network namespace that cookie names.
func load(v6 bool, trie *ebpf.Map, cookie uint64) (*ebpf.Program, error) {
	spec := &ebpf.ProgramSpec{
		Name: "sealane_bind4", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Bind,
		Instructions: instructions(v6, trie.FD(), cookie, true),
	}
	if v6 {
		spec.Name, spec.AttachType = "sealane_bind6", ebpf.AttachCGroupInet6Bind
	}
	p, err := ebpf.NewProgram(spec)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, ebpf.ErrNotSupported) {
		// Before Linux 5.18 a program cannot choose the errno: bind fails
		// with EPERM there.
		spec.Instructions = instructions(v6, trie.FD(), cookie, false)
		p, err = ebpf.NewProgram(spec)
	}
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", spec.Name, err)
	}
	return p, nil
}

// instructions is the whole program:
//
//  1. another network namespace, or port 0: allow
//  2. build the key of the port and look it up as every
//  3. add the address; an IPv4 one goes in as ::ffff:a.b.c.d
//  4. IPv4, also mapped: the wildcard is looked up as some4, an address as
//     exact and every4
//  5. IPv6: the wildcard, which takes IPv4 too, as some6 and some4; an address
//     as exact and every6
//  6. a match refuses
func instructions(v6 bool, trie int, cookie uint64, errno bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetNetnsCookie.Call(),
		asm.LoadImm(asm.R1, int64(cookie), asm.DWord),
		asm.JNE.Reg(asm.R0, asm.R1, "allow"),
		asm.LoadMem(asm.R7, asm.R6, ctxProtocol, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, ctxPort, asm.Word),
		asm.JEq.Imm(asm.R8, 0, "allow"),
		asm.StoreImm(asm.RFP, keyAt, keyBits, asm.Word),
		asm.StoreImm(asm.RFP, keyAt+keyProto, 0, asm.Word),
		asm.StoreMem(asm.RFP, keyAt+keyProto, asm.R7, asm.Byte),
		asm.StoreMem(asm.RFP, keyAt+keyPort, asm.R8, asm.Half),
	}
	p = append(p, lookup(every, trie)...)
	if v6 {
		p = append(p, address6()...)
	} else {
		p = append(p, address4()...)
	}
	p = append(p, label("v4", lookup(exact, trie))...)
	p = append(p, lookup(every4, trie)...)
	p = append(p, asm.Ja.Label("allow"))
	p = append(p, label("wild4", lookup(some4, trie))...)
	p = append(p, asm.Ja.Label("allow"))
	if v6 {
		p = append(p, label("v6", lookup(exact, trie))...)
		p = append(p, lookup(every6, trie)...)
		p = append(p, asm.Ja.Label("allow"))
		p = append(p, label("wild6", lookup(some6, trie))...)
		p = append(p, asm.Ja.Label("wild4"))
	}
	return append(p, verdict(errno)...)
}

// address4 stores the address of an IPv4 bind and goes to v4 or wild4.
func address4() asm.Instructions {
	return append(noAddress(),
		asm.StoreImm(asm.RFP, keyAt+keyAddr+8, int64(mappedWord()), asm.Word),
		asm.LoadMem(asm.R9, asm.R6, ctxIP4, asm.Word),
		asm.StoreMem(asm.RFP, keyAt+keyAddr+12, asm.R9, asm.Word),
		asm.JEq.Imm(asm.R9, 0, "wild4"),
	)
}

// address6 stores the address of an IPv6 bind and goes to v4, wild4, v6 or
// wild6.
func address6() asm.Instructions {
	var p asm.Instructions
	for i, r := range []asm.Register{asm.R2, asm.R3, asm.R4, asm.R5} {
		p = append(p,
			asm.LoadMem(r, asm.R6, int16(ctxIP6+4*i), asm.Word),
			asm.StoreMem(asm.RFP, int16(keyAt+keyAddr+4*i), r, asm.Word))
	}
	return append(p,
		asm.Or.Reg(asm.R2, asm.R3),
		asm.JNE.Imm(asm.R2, 0, "v6"),
		asm.Mov.Imm32(asm.R3, mappedWord()),
		asm.JEq.Reg(asm.R4, asm.R3, "mapped"),
		asm.Or.Reg(asm.R4, asm.R5),
		asm.JNE.Imm(asm.R4, 0, "v6"),
		asm.Ja.Label("wild6"),
		asm.JEq.Imm(asm.R5, 0, "wild4").WithSymbol("mapped"),
	)
}

// lookup refuses when the key is held in class c. All classes but exact are
// looked up without an address.
func lookup(c class, trie int) asm.Instructions {
	p := asm.Instructions{asm.StoreImm(asm.RFP, keyAt+keyClass, int64(c), asm.Byte)}
	if c != exact {
		p = append(p, noAddress()...)
	}
	return append(p,
		asm.LoadMapPtr(asm.R1, trie),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, keyAt),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, "refuse"))
}

// noAddress clears the key's address.
func noAddress() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, keyAt+keyAddr, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, keyAt+keyAddr+8, asm.R1, asm.DWord),
	}
}

// verdict is the program's two ends.
func verdict(errno bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Imm(asm.R0, 1).WithSymbol("allow"),
		asm.Return(),
	}
	refuse := asm.Instructions{}
	if errno {
		refuse = append(refuse, asm.Mov.Imm(asm.R1, -int32(unix.EADDRINUSE)), asm.FnSetRetval.Call())
	}
	refuse = append(refuse, asm.Mov.Imm(asm.R0, 0), asm.Return())
	return append(p, label("refuse", refuse)...)
}

func label(name string, p asm.Instructions) asm.Instructions {
	p[0] = p[0].WithSymbol(name)
	return p
}
