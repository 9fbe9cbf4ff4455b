package kernel

import "net/netip"

// Flow is a connection that the kernel sends elsewhere than its client asked.
type Flow struct {
	Proto  string // "tcp" or "udp"
	Asked  netip.AddrPort
	Served netip.AddrPort
}
