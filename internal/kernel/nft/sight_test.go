package nft

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// message is an NFT_MSG_TRACE as the kernel writes it.
func traceMessage(family byte, fill func(*encoder)) []byte {
	e := &encoder{}
	e.message(unix.NFT_MSG_TRACE, 0, family, 0)
	fill(e)
	e.close()
	return e.buf
}

func ruleEvent(e *encoder) {
	e.u32(unix.NFTA_TRACE_ID, 7)
	e.str(unix.NFTA_TRACE_TABLE, "filter")
	e.str(unix.NFTA_TRACE_CHAIN, "FORWARD")
	e.bytes(unix.NFTA_TRACE_RULE_HANDLE, binary.BigEndian.AppendUint64(nil, 12))
	e.u32(unix.NFTA_TRACE_TYPE, unix.NFT_TRACETYPE_RULE)
	v := e.nest(unix.NFTA_TRACE_VERDICT)
	jump := int32(codeJump)
	e.u32(unix.NFTA_VERDICT_CODE, uint32(jump))
	e.str(unix.NFTA_VERDICT_CHAIN, "deep")
	e.unnest(v)
	ip := make([]byte, 20)
	ip[0], ip[9] = 0x45, unix.IPPROTO_UDP
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	e.bytes(unix.NFTA_TRACE_NETWORK_HEADER, ip)
	e.bytes(unix.NFTA_TRACE_TRANSPORT_HEADER, []byte{0x12, 0x34, 0, 53, 0, 8, 0, 0})
	e.u32(unix.NFTA_TRACE_IIF, 3)
}

func policyEvent(e *encoder) {
	e.str(unix.NFTA_TRACE_TABLE, "filter")
	e.str(unix.NFTA_TRACE_CHAIN, "FORWARD")
	e.u32(unix.NFTA_TRACE_TYPE, unix.NFT_TRACETYPE_POLICY)
	e.u32(unix.NFTA_TRACE_POLICY, codeDrop)
	ip := make([]byte, 40)
	ip[0], ip[6], ip[23], ip[39] = 0x60, unix.IPPROTO_TCP, 1, 2
	e.bytes(unix.NFTA_TRACE_NETWORK_HEADER, ip)
	e.bytes(unix.NFTA_TRACE_TRANSPORT_HEADER, []byte{1})
}

func TestDecodeEvent(t *testing.T) {
	r, _, ok := nextReply(traceMessage(unix.NFPROTO_IPV4, ruleEvent))
	e, is := decodeEvent(r)
	if !ok || !is || e.id != 7 || e.in != 3 || e.out != 0 || e.Handle != 12 || e.Verdict != "jump deep" || e.Ends != "rule" || e.Chain != "FORWARD" ||
		e.Table.String() != "table ip filter" || !e.Headed || e.Src.String() != "10.0.0.1:4660" || e.Dst.String() != "10.0.0.2:53" {
		t.Errorf("%+v", e)
	}
	r, _, _ = nextReply(traceMessage(unix.NFPROTO_INET, policyEvent))
	if e, is := decodeEvent(r); !is || e.Verdict != "drop" || e.Ends != "policy" || e.Src.String() != "[::1]:0" || e.Dst.String() != "[::2]:0" {
		t.Errorf("%+v", e)
	}
	for code, word := range map[int32]string{codeContinue: "continue", codeBreak: "continue", codeStolen: "stolen", codeQueue | 5<<16: "queue", codeAccept: "accept", 9: "verdict 9"} {
		if got := verdictWord(verdict{code: code}); got != word {
			t.Errorf("%d: %q, want %q", code, got, word)
		}
	}
}

// FuzzDecodeEvent holds that no message, however cut, is more than not understood.
func FuzzDecodeEvent(f *testing.F) {
	f.Add(traceMessage(unix.NFPROTO_IPV4, ruleEvent))
	f.Add(traceMessage(unix.NFPROTO_BRIDGE, policyEvent))
	f.Add(traceMessage(99, ruleEvent))
	f.Fuzz(func(t *testing.T, b []byte) {
		for r, rest, ok := nextReply(b); ok; r, rest, ok = nextReply(rest) {
			e, is := decodeEvent(r)
			if is && (e.Ends == "" || e.Table.Family == "" || e.Verdict == "") {
				t.Errorf("%+v", e)
			}
			if e.Headed && !e.Src.Addr().IsValid() {
				t.Errorf("headed without an address: %+v", e)
			}
		}
	})
}
