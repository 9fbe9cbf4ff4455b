// Package uplink moves a NIC of the host under a bridge, with all that the host
// has on it, and back. What is easily done in six commands, and as easily ends the
// session in which they are typed, is done here so that no packet need be lost:
//
//	before                               after
//	┌──────────────────────────┐        ┌──────────────────────────┐
//	│ eth0 192.0.2.1/24        │        │ br1 192.0.2.1/24         │
//	│   default via 192.0.2.254│        │   default via 192.0.2.254│
//	│                          │        │   └ eth0                 │
//	└──────────────────────────┘        └──────────────────────────┘
//
// The story of an attach:
//
//  1. what is there is read, and the gateways are asked whether they answer
//  2. a record of it is written, and is on disk before anything is changed
//  3. the bridge gets the NIC's hardware address and settings, then its addresses
//     too: for a moment both have them, and the kernel takes what is for one on
//     whichever it comes in by
//  4. the NIC becomes a port: what comes in comes in by the bridge, what goes out
//     still leaves by the NIC itself
//  5. each route is made by the bridge, then removed from the NIC; then the
//     addresses are
//  6. the gateways that answered are asked again, through the bridge; if one does
//     not answer in time, all is taken back from the record
//  7. the record says that it is done
//
// A detach is the same backwards: routes first, so that the NIC is left last.
//
// Addresses, routes and neighbours are moved as the kernel tells them, attribute by
// attribute: what this package knows nothing of moves as well.
//
// A process of its own does it (worker.go), in a session of its own: it outlives
// the daemon and whoever asked. If it is killed itself, the record says so to
// whoever looks next, and [Dir.Recover] takes all back. One thing is done at a
// time, held by a lock that goes with the process.
package uplink

import (
	"net/netip"
	"path/filepath"
	"time"
)

// Dir is a directory of records, "uplinks" in the daemon's state directory.
type Dir string

// Under returns the directory of records in a state directory.
func Under(stateDir string) Dir { return Dir(filepath.Join(stateDir, "uplinks")) }

// Move asks for one NIC to be moved under a bridge or back.
type Move struct {
	NIC    string `json:"nic"`
	Bridge string `json:"bridge,omitempty"` // of an attach
	// Make: an attach makes a Linux bridge if there is none of that name. A detach
	// removes it again when nothing else is on it.
	Make bool `json:"make,omitempty"`
	// Known: an attach of what has been attached before, and may be the bridge's port.
	Known bool `json:"known,omitempty"`
	// Used: a network is on the bridge, which stays.
	Used bool `json:"used,omitempty"`
	// KeepMTU: the bridge's MTU is somebody's wish and stays.
	KeepMTU bool `json:"keepMTU,omitempty"`
	// Keep are addresses of the bridge that stay there, unless they were the NIC's.
	Keep []netip.Prefix `json:"keep,omitempty"`
	// Timeout is how long gateways may take to answer afterwards; 0 does not ask.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// DefaultTimeout is how long gateways may take to answer if nobody says.
const DefaultTimeout = 5 * time.Second

// Report says what a move did.
type Report struct {
	Made      bool           `json:"made,omitempty"` // the bridge
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Routes    int            `json:"routes,omitempty"`
	Answering []netip.Addr   `json:"answering,omitempty"` // gateways, or else neighbours, that were asked again
	Warnings  []string       `json:"warnings,omitempty"`
}

// Port is an attached NIC as it is now.
type Port struct {
	NIC, Bridge string
	Made        bool           // the bridge, by us
	Moved       []netip.Prefix // the addresses that are the NIC's
	// Out: it is there and no port of the bridge.
	Out bool
	// Stray are addresses that somebody put on the NIC since, routes by it, and features
	// that somebody turned on.
	Stray []string
	// Missing says which of the two devices is not there; empty: none.
	Missing string
}
