package shortcut

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// out is the whole program of what is routed to the tunnel's device:
//
//  1. of IPv4, without options, as long as it says, and its TTL has not come to its end
//  2. its destination is of a host that has a shortcut, and that a socket has sent to
//  3. there is a route to the peer, which takes each of the pieces that the packet is to be cut into
//  4. the outer headers, and one off the TTL
//  5. to the next hop, which the kernel asks for if need be
//
// What it does not take goes to the device.
func (c *Config) out(m *tables) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, ctxProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, wire16(unix.ETH_P_IP), "pass"),
	}
	p = append(p, within(ipLen, "pass")...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R7, 0, asm.Byte),
		asm.JNE.Imm(asm.R1, plainIP, "pass"),
		asm.LoadMem(asm.R1, asm.R7, ipTotal, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.LoadMem(asm.R2, asm.R6, ctxLen, asm.Word),
		asm.JNE.Reg(asm.R1, asm.R2, "pass"),
		asm.JGT.Imm(asm.R1, maxPacket-overhead, "pass"),
		asm.LoadMem(asm.R1, asm.R7, ipTTL, asm.Byte),
		asm.JLE.Imm(asm.R1, 1, "pass"),
		asm.LoadMem(asm.R2, asm.R7, ipDst, asm.Word))
	p = append(p, findRoute(m)...)
	p = append(p, findHost(m, asm.R9)...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R0, knownOut, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, knownAble, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "pass"))
	p = append(p, pieceLen()...)
	p = append(p, c.route()...)
	p = append(p,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, overhead),
		asm.Mov.Imm(asm.R3, unix.BPF_ADJ_ROOM_MAC),
		asm.Mov.Imm(asm.R4, unix.BPF_F_ADJ_ROOM_FIXED_GSO|unix.BPF_F_ADJ_ROOM_ENCAP_L3_IPV4|unix.BPF_F_ADJ_ROOM_ENCAP_L4_UDP),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbAdjustRoom.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"))
	p = append(p, within(overhead+ipLen, "drop")...)
	p = append(p, age(overhead)...)
	p = append(p, c.wrap()...)
	p = append(p, send()...)
	p = append(p, verdict("drop", shot)...)
	return append(p, verdict("pass", goOn)...)
}

// pieceLen leaves in R8 how long the longest piece of the packet is with the outer
// headers. Of what is to be cut it takes TCP: other hosts' kernels have no way to cut UDP
// that came in UDP.
func pieceLen() asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R8, asm.R6, ctxLen, asm.Word),
		asm.LoadMem(asm.R5, asm.R6, ctxGSOSize, asm.Word),
		asm.JEq.Imm(asm.R5, 0, "piece"),
		asm.LoadMem(asm.R1, asm.R7, ipProto, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "pass"),
	}
	p = append(p, within(ipLen+tcpLen, "pass")...)
	return append(p,
		asm.LoadMem(asm.R8, asm.R7, ipLen+tcpOffset, asm.Byte),
		asm.RSh.Imm(asm.R8, 4),
		asm.LSh.Imm(asm.R8, 2),
		asm.Add.Imm(asm.R8, ipLen),
		asm.Add.Reg(asm.R8, asm.R5),
		asm.Add.Imm(asm.R8, overhead).WithSymbol("piece"))
}

// route looks for the way to the peer in R9 of a packet as long as R8 says.
func (c *Config) route() asm.Instructions {
	p := asm.Instructions{asm.Mov.Imm(asm.R1, 0)}
	for at := int16(0); at < fibLen; at += 8 {
		p = append(p, asm.StoreMem(asm.RFP, fibAt+at, asm.R1, asm.DWord))
	}
	return append(p,
		asm.StoreImm(asm.RFP, fibAt, unix.AF_INET, asm.Byte),
		asm.StoreImm(asm.RFP, fibAt+fibProto, unix.IPPROTO_UDP, asm.Byte),
		asm.StoreImm(asm.RFP, fibAt+fibSport, int64(wire16(c.Port)), asm.Half),
		asm.StoreImm(asm.RFP, fibAt+fibDport, int64(wire16(c.Port)), asm.Half),
		asm.StoreMem(asm.RFP, fibAt+fibTotal, asm.R8, asm.Half),
		asm.LoadMem(asm.R1, asm.R6, ctxIfindex, asm.Word),
		asm.StoreMem(asm.RFP, fibAt+fibIfindex, asm.R1, asm.Word),
		asm.StoreImm(asm.RFP, fibAt+fibSrc, int64(wire32(c.Local)), asm.Word),
		asm.StoreMem(asm.RFP, fibAt+fibDst, asm.R9, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, fibAt),
		asm.Mov.Imm(asm.R3, fibLen),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnFibLookup.Call(),
		asm.JEq.Imm(asm.R0, fibSuccess, "routed"),
		asm.JNE.Imm(asm.R0, fibNoNeigh, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, fibAt+fibIfindex, asm.Word).WithSymbol("routed"),
		asm.LoadMem(asm.R2, asm.R6, ctxIfindex, asm.Word),
		asm.JEq.Reg(asm.R1, asm.R2, "pass")) // the peer's address is in what the tunnel carries
}

// age takes one off the TTL of the packet that begins at an offset of the data, see
// RFC 1624.
func age(at int16) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R7, at+ipTTL, asm.Byte),
		asm.Sub.Imm(asm.R1, 1),
		asm.StoreMem(asm.R7, at+ipTTL, asm.R1, asm.Byte),
		asm.LoadMem(asm.R1, asm.R7, at+ipSum, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Add.Imm(asm.R1, 0x100),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 16),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.R7, at+ipSum, asm.R1, asm.Half),
	}
}

// wrap writes the outer headers, as a socket's datagrams have them but for the UDP
// checksum: zero says that there is none (RFC 768).
func (c *Config) wrap() asm.Instructions {
	a := c.Local.As4()
	fixed := 0x4500 + 0x4000 + int32(outerTTL<<8|unix.IPPROTO_UDP) + int32(a[0])<<8 + int32(a[1]) + int32(a[2])<<8 + int32(a[3])
	p := asm.Instructions{
		asm.StoreImm(asm.R7, 0, int64(wire16(0x4500)), asm.Half),
		asm.LoadMem(asm.R1, asm.R6, ctxLen, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.R7, ipTotal, asm.R1, asm.Half),
		asm.StoreImm(asm.R7, ipID, 0, asm.Half),
		asm.StoreImm(asm.R7, ipFlags, int64(wire16(dontFragment)), asm.Half),
		asm.StoreImm(asm.R7, ipTTL, outerTTL, asm.Byte),
		asm.StoreImm(asm.R7, ipProto, unix.IPPROTO_UDP, asm.Byte),
		asm.StoreImm(asm.R7, ipSrc, int64(wire32(c.Local)), asm.Word),
		asm.StoreMem(asm.R7, ipDst, asm.R9, asm.Word),
		asm.StoreImm(asm.R7, ipLen, int64(wire16(c.Port)), asm.Half),
		asm.StoreImm(asm.R7, ipLen+udpDport, int64(wire16(c.Port)), asm.Half),
		asm.Mov.Reg(asm.R1, asm.R2),
		asm.Sub.Imm(asm.R1, ipLen),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.R7, ipLen+udpLength, asm.R1, asm.Half),
		asm.StoreImm(asm.R7, ipLen+udpSum, 0, asm.Half),
		asm.Add.Imm(asm.R2, fixed),
		asm.HostTo(asm.BE, asm.R9, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.RSh.Imm(asm.R1, 16),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R9, 0xffff),
		asm.Add.Reg(asm.R2, asm.R9),
	}
	p = append(p, fold(16)...)
	p = append(p, fold(16)...)
	return append(p,
		asm.Xor.Imm(asm.R2, 0xffff),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.StoreMem(asm.R7, ipSum, asm.R2, asm.Half))
}

// fold adds what R2 has above its lowest bits to those, see RFC 1071.
func fold(bits int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R2),
		asm.RSh.Imm(asm.R1, bits),
		asm.LSh.Imm(asm.R2, 64-bits),
		asm.RSh.Imm(asm.R2, 64-bits),
		asm.Add.Reg(asm.R2, asm.R1),
	}
}

// send has the packet go to the next hop that route has found. The kernel wants room
// for a link's header first.
func send() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.R6, ctxMark, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, ethLen),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeHead.Call(),
		asm.JNE.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, asm.RFP, fibAt, asm.Byte),
		asm.StoreMem(asm.RFP, hopAt, asm.R1, asm.Word),
	}
	for i := int16(0); i < 16; i += 4 {
		p = append(p,
			asm.LoadMem(asm.R1, asm.RFP, fibAt+fibDst+i, asm.Word),
			asm.StoreMem(asm.RFP, hopAt+4+i, asm.R1, asm.Word))
	}
	return append(p,
		asm.LoadMem(asm.R1, asm.RFP, fibAt+fibIfindex, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, hopAt),
		asm.Mov.Imm(asm.R3, hopLen),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return())
}

// findRoute leaves in R9 the host that has the address in R2.
func findRoute(m *tables) asm.Instructions {
	return append(asm.Instructions{
		asm.StoreImm(asm.RFP, keyAt, 32, asm.Word),
		asm.StoreMem(asm.RFP, keyAt+4, asm.R2, asm.Word),
	}, append(find(m.routes, keyAt), asm.LoadMem(asm.R9, asm.R0, 0, asm.Word))...)
}

// findHost leaves in R0 where it is what is known of the host in a register.
func findHost(m *tables, host asm.Register) asm.Instructions {
	return append(asm.Instructions{asm.StoreMem(asm.RFP, hostAt, host, asm.Word)}, find(m.hosts, hostAt)...)
}

// find looks up what is at an offset of the frame; what has nothing there is passed on.
func find(m *ebpf.Map, at int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, at),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
	}
}

// within goes elsewhere unless there are so many bytes to read, from R7 on.
func within(n int32, otherwise string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R7, asm.R6, ctxData, asm.Word),
		asm.LoadMem(asm.R1, asm.R6, ctxDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, n),
		asm.JGT.Reg(asm.R2, asm.R1, otherwise),
	}
}

// verdict ends a program at a label.
func verdict(at string, v int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, v).WithSymbol(at), asm.Return()}
}
