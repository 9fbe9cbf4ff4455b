package shortcut

import (
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// in is the whole program of what comes to the underlay's device:
//
//  1. of IPv4, for this host and not of a VLAN's device
//  2. a whole datagram at the tunnel's address and port, with the right checksum of IPv4 and none of UDP
//  3. it is from a peer, which has a shortcut then; that is noted
//  4. a socket has heard from the peer
//  5. in it is an IPv4 packet without options, and both are as long as they say
//  6. its source is of that peer, and its destination of ours
//  7. off with the outer headers: it comes from the tunnel's device
//
// What it does not take goes to the socket, and what has a UDP checksum, which the kernel checks there.
func (c *Config) in(m *tables, device int) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, ctxProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, wire16(unix.ETH_P_IP), "pass"),
		asm.LoadMem(asm.R1, asm.R6, ctxVLAN, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R6, ctxPktType, asm.Word),
		asm.JNE.Imm(asm.R1, unix.PACKET_HOST, "pass"),
	}
	p = append(p, together(ethLen+overhead, "outer")...)
	p = append(p, c.outer()...)
	p = append(p, findHost(m, asm.R8)...)
	p = append(p,
		asm.LoadMem(asm.R1, asm.R0, knownAble, asm.Word),
		asm.JNE.Imm(asm.R1, 0, "able"),
		asm.StoreImm(asm.R0, knownAble, 1, asm.Word),
		asm.LoadMem(asm.R1, asm.R0, knownIn, asm.Word).WithSymbol("able"),
		asm.JEq.Imm(asm.R1, 0, "pass"))
	p = append(p, together(ethLen+overhead+ipLen, "inner")...)
	p = append(p, c.inner()...)
	p = append(p, findRoute(m)...)
	return append(append(p,
		asm.JNE.Reg(asm.R9, asm.R8, "pass"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, -overhead),
		asm.Mov.Imm(asm.R3, unix.BPF_ADJ_ROOM_MAC),
		asm.Mov.Imm(asm.R4, unix.BPF_F_ADJ_ROOM_FIXED_GSO),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbAdjustRoom.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, int32(device)),
		asm.Mov.Imm(asm.R2, unix.BPF_F_INGRESS),
		asm.FnRedirect.Call(),
		asm.Return()), verdict("pass", goOn)...)
}

// together goes on, at a label, with so many bytes to read from R7 on, which the driver
// may have left in several places.
func together(n int32, at string) asm.Instructions {
	p := within(n, at+" apart")
	p = append(p,
		asm.Ja.Label(at),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol(at+" apart"),
		asm.Mov.Imm(asm.R2, n),
		asm.FnSkbPullData.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"))
	again := within(n, "pass")
	again[0] = again[0].WithSymbol(at)
	return append(p, again...)
}

// outer passes on what is not ours by its outer headers, and leaves the sender in R8.
func (c *Config) outer() asm.Instructions {
	const ip, udp = ethLen, ethLen + ipLen
	p := asm.Instructions{
		asm.LoadMem(asm.R1, asm.R7, ip, asm.Byte),
		asm.JNE.Imm(asm.R1, plainIP, "pass"),
		asm.LoadMem(asm.R1, asm.R7, ip+ipProto, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_UDP, "pass"),
		asm.LoadMem(asm.R1, asm.R7, udp+udpDport, asm.Half),
		asm.JNE.Imm(asm.R1, wire16(c.Port), "pass"),
		asm.LoadMem(asm.R1, asm.R7, udp+udpSum, asm.Half),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R7, ip+ipDst, asm.Word),
		asm.Mov.Imm32(asm.R2, wire32(c.Local)),
		asm.JNE.Reg(asm.R1, asm.R2, "pass"),
		asm.LoadMem(asm.R1, asm.R7, ip+ipFlags, asm.Half),
		asm.And.Imm(asm.R1, wire16(^uint16(dontFragment))),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.Mov.Imm(asm.R2, 0),
	}
	for at := int16(0); at < ipLen; at += 4 {
		p = append(p, asm.LoadMem(asm.R1, asm.R7, ip+at, asm.Word), asm.Add.Reg(asm.R2, asm.R1))
	}
	p = append(p, fold(32)...)
	p = append(p, fold(16)...)
	p = append(p, fold(16)...)
	return append(p,
		asm.JNE.Imm(asm.R2, 0xffff, "pass"),
		asm.LoadMem(asm.R8, asm.R7, ip+ipSrc, asm.Word))
}

// inner passes on what is no packet for us, and leaves its source in R2.
func (c *Config) inner() asm.Instructions {
	const ip = ethLen + overhead
	p := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, ctxLen, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, ip, asm.Byte),
		asm.JNE.Imm(asm.R1, plainIP, "pass"),
	}
	for _, l := range []struct{ at, before int16 }{{ethLen + ipTotal, ethLen}, {ethLen + ipLen + udpLength, ipLen}, {ip + ipTotal, udpLen}} {
		p = append(p,
			asm.LoadMem(asm.R1, asm.R7, l.at, asm.Half),
			asm.HostTo(asm.BE, asm.R1, asm.Half),
			asm.Sub.Imm(asm.R2, int32(l.before)),
			asm.JNE.Reg(asm.R1, asm.R2, "pass"))
	}
	return append(p,
		asm.LoadMem(asm.R1, asm.R7, ip+ipDst, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.Mov.Imm32(asm.R2, netmask(c.Subnet.Bits())),
		asm.And.Reg(asm.R1, asm.R2),
		asm.Mov.Imm32(asm.R2, host32(c.Subnet.Masked().Addr())),
		asm.JNE.Reg(asm.R1, asm.R2, "pass"),
		asm.LoadMem(asm.R2, asm.R7, ip+ipSrc, asm.Word))
}
