package kernel

import "net/netip"

// Flow is a connection that the kernel sends elsewhere than its client asked.
type Flow struct {
	Proto  string // "tcp" or "udp"
	Asked  netip.AddrPort
	Served netip.AddrPort
}

// Handover is a UDP port that a service came to be asked for at, at one address of the host
// or at the unspecified one, which is all of a family, and where its backends are.
type Handover struct {
	Asked  netip.AddrPort
	Places []netip.AddrPort
}
