package api

import (
	"net/netip"
	"time"
)

// DHCP in the place of an address: a server on the wire gives one.
const DHCP = "dhcp"

// Lease is what a DHCP server gave an endpoint in one address family. Without an
// address, none has yet.
type Lease struct {
	Family   string       `json:"family"`            // ipv4 or ipv6
	Address  netip.Prefix `json:"address,omitzero"`  // one of the endpoint's Addresses
	Server   netip.Addr   `json:"server,omitzero"`   // that gave it
	Router   netip.Addr   `json:"router,omitzero"`   // that it told
	DNS      []netip.Addr `json:"dns,omitempty"`     // servers for names
	Search   []string     `json:"search,omitempty"`  // domains
	MTU      int          `json:"mtu,omitempty"`     // bytes, as the server told
	Obtained time.Time    `json:"obtained,omitzero"` // or renewed
	Renew    time.Time    `json:"renew,omitzero"`    // when the server is asked again; never if empty
	Expires  time.Time    `json:"expires,omitzero"`  // never if empty
}
