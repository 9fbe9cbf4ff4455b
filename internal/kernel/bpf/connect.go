package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The programs that have sockets choose. What is not theirs they let pass as it is, and
// so what cannot be: the host chooses for packets that come to a service's address.
//
//	connect(fd, 10.1.0.9:80)
//	   │  cgroup/connect4 or connect6
//	   ▼
//	 ballots: a service's? ─▶ choosers: of this namespace's network? ─▶ seats: one of so many
//	   │                                                                  │
//	   ▼ sockets: what was asked for, and what it became                  ▼
//	getpeername(fd): 10.1.0.9:80                                   10.1.0.3:8080
//
// What is in sockets is a part of the socket, and goes with it.

// Where the programs keep what they look up, from the frame pointer.
const (
	placeAt   = -24 // a place, and behind it a number: a seat
	numberAt  = placeAt + placeSize
	chooserAt = -40
	chosenAt  = chooserAt - 2*placeSize
)

// connecting is the whole program of connect(2):
//
//  1. another protocol than TCP: nothing
//  2. forget what the socket chose for a connection that has come to nothing, or to an end
//  3. not a service's address, or one of a network that the namespace is not on: nothing
//  4. a number below how many seats there are: the next, or by chance
//  5. that seat; note both places with the socket
//  6. the seat's place becomes the destination
func (m *chooserMaps) connecting(v6 bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, ctxProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "allow"),
		asm.LoadMapPtr(asm.R1, m.sockets.FD()),
		asm.LoadMem(asm.R2, asm.R6, ctxSocket, asm.DWord),
		asm.FnSkStorageDelete.Call(),
	}
	p = append(p, storeAddress(v6)...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R6, ctxPort, asm.Word),
		asm.StoreMem(asm.RFP, placeAt+16, asm.R1, asm.Half),
		asm.StoreImm(asm.RFP, placeAt+18, 0, asm.Half))
	p = append(p, find(m.ballots.Map, placeAt)...)
	p = append(p,
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnGetNetnsCookie.Call(),
		asm.StoreMem(asm.RFP, chooserAt, asm.R0, asm.DWord),
		asm.LoadMem(asm.R1, asm.R7, ballotVNI, asm.Word),
		asm.StoreMem(asm.RFP, chooserAt+8, asm.R1, asm.Word),
		asm.StoreImm(asm.RFP, chooserAt+12, 0, asm.Word))
	p = append(p, find(m.choosers.Map, chooserAt)...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R7, ballotTurns, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "chance"),
		asm.Mov.Imm(asm.R8, 1),
		fetchAdd(asm.R7, asm.R8, ballotTurn),
		asm.Ja.Label("number"),
		asm.FnGetPrandomU32.Call().WithSymbol("chance"),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.LoadMem(asm.R1, asm.R7, ballotSeats, asm.Word).WithSymbol("number"),
		asm.JEq.Imm(asm.R1, 0, "allow"),
		asm.Mod.Reg32(asm.R8, asm.R1),
		asm.StoreMem(asm.RFP, numberAt, asm.R8, asm.Word))
	p = append(p, find(m.seats.Map, placeAt)...)
	p = append(p, asm.Mov.Reg(asm.R9, asm.R0))
	p = append(p, move(asm.RFP, chosenAt, asm.RFP, placeAt)...)
	p = append(p, move(asm.RFP, chosenAt+placeSize, asm.R9, 0)...)
	p = append(p,
		asm.LoadMapPtr(asm.R1, m.sockets.FD()),
		asm.LoadMem(asm.R2, asm.R6, ctxSocket, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, chosenAt),
		asm.Mov.Imm(asm.R4, unix.BPF_SK_STORAGE_GET_F_CREATE),
		asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, "allow")) // there is no memory
	p = append(p, rewrite(v6, asm.R9, 0)...)
	return append(p, allow()...)
}

// naming is the whole program of getpeername(2): who is connected to where it was led
// sees what it asked for.
func (m *chooserMaps) naming(v6 bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMapPtr(asm.R1, m.sockets.FD()),
		asm.LoadMem(asm.R2, asm.R6, ctxSocket, asm.DWord),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkStorageGet.Call(),
		asm.JEq.Imm(asm.R0, 0, "allow"),
		asm.Mov.Reg(asm.R7, asm.R0),
	}
	first, n := addressWords(v6)
	for i := range n {
		at := int16(4 * i)
		p = append(p,
			asm.LoadMem(asm.R1, asm.R6, first+at, asm.Word),
			asm.LoadMem(asm.R2, asm.R7, placeSize+16-4*n+at, asm.Word),
			asm.JNE.Reg(asm.R1, asm.R2, "allow"))
	}
	p = append(p,
		asm.LoadMem(asm.R1, asm.R6, ctxPort, asm.Word),
		asm.LoadMem(asm.R2, asm.R7, placeSize+16, asm.Half),
		asm.JNE.Reg(asm.R1, asm.R2, "allow"))
	p = append(p, rewrite(v6, asm.R7, 0)...)
	return append(p, allow()...)
}

// addressWords is where a family's address begins in the context, and its words.
func addressWords(v6 bool) (first int16, n int16) {
	if v6 {
		return ctxIP6, 4
	}
	return ctxIP4, 1
}

// storeAddress stores the address of the context as a place has it. A socket of IPv6 has
// IPv4 addresses as we have them.
func storeAddress(v6 bool) asm.Instructions {
	var p asm.Instructions
	if !v6 {
		p = append(p,
			asm.Mov.Imm(asm.R1, 0),
			asm.StoreMem(asm.RFP, placeAt, asm.R1, asm.DWord),
			asm.StoreImm(asm.RFP, placeAt+8, int64(mappedWord()), asm.Word))
	}
	first, n := addressWords(v6)
	for i := range n {
		p = append(p,
			asm.LoadMem(asm.R1, asm.R6, first+4*i, asm.Word),
			asm.StoreMem(asm.RFP, placeAt+16-4*n+4*i, asm.R1, asm.Word))
	}
	return p
}

// rewrite gives the context the place at base.
func rewrite(v6 bool, base asm.Register, at int16) asm.Instructions {
	var p asm.Instructions
	first, n := addressWords(v6)
	for i := range n {
		p = append(p,
			asm.LoadMem(asm.R1, base, at+16-4*n+4*i, asm.Word),
			asm.StoreMem(asm.R6, first+4*i, asm.R1, asm.Word))
	}
	return append(p,
		asm.LoadMem(asm.R1, base, at+16, asm.Half),
		asm.StoreMem(asm.R6, ctxPort, asm.R1, asm.Word))
}

// find looks up what is at an offset of the frame; without it nothing is done.
func find(m *ebpf.Map, at int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, at),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "allow"),
	}
}

// fetchAdd adds a number to one in memory, and leaves what that was in its place. The
// constant says that it is to be fetched: cilium/ebpf 0.22 leaves it out.
func fetchAdd(base, number asm.Register, at int16) asm.Instruction {
	i := asm.FetchAdd.Mem(base, number, asm.Word, at)
	i.Constant = 1 // BPF_FETCH
	return i
}

// move copies a place.
func move(to asm.Register, toAt int16, from asm.Register, fromAt int16) asm.Instructions {
	var p asm.Instructions
	for i := int16(0); i < placeSize; i += 4 {
		p = append(p,
			asm.LoadMem(asm.R1, from, fromAt+i, asm.Word),
			asm.StoreMem(to, toAt+i, asm.R1, asm.Word))
	}
	return p
}

func allow() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, 1).WithSymbol("allow"), asm.Return()}
}
