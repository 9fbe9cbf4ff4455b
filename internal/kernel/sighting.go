package kernel

import (
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/kstate"
)

// Probe is a packet that is sent to see what becomes of it.
type Probe struct {
	From  kstate.NS // zero: the host's
	Near  kstate.NS // where it is looked for too: whom it is for; zero: nowhere
	Proto string    // "tcp", "udp" or "icmp", of which an echo request is sent
	To    netip.AddrPort
}

// Trail is what was seen of a probe and of the answer to it.
type Trail struct {
	Src, Dst netip.AddrPort // as it was sent; ports of ICMP are 0
	Seen     []Sighting     // in order, those of one namespace
	Answered bool
	Refused  bool          // there is who says that nobody listens
	Why      string        // the sender was told that it cannot be, by whoever
	Took     time.Duration // until the answer, or the refusal
}

// Sighting is what nftables said of a packet, in one rule or at the end of a chain.
type Sighting struct {
	NS       kstate.NS // zero: the host's
	Own      bool      // said by what has the kernel tell of it: the packet came by
	Back     bool      // it answers the probe, or complains of it
	Table    kstate.Table
	Chain    string
	Hook     string // of a base chain: "prerouting" …
	Priority int    // of it
	Owned    bool   // only the table's owner can change it
	Ends     string // "rule", "return" or "policy"
	Handle   uint64 // of the rule
	Number   int    // its place in the chain, from 1; 0: it is gone
	Rule     string // ours as it is written, of others the comment
	Verdict  string // in nft's words: "accept", "drop", "continue", "jump NAME" …
	In, Out  string // devices, of a packet that comes and goes by one
	Headed   bool   // the following are known: they are told once a base chain
	Proto    byte   // of IP
	Src, Dst netip.AddrPort
}
