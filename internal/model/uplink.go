package model

import "time"

// Uplink is a NIC of the host that is to be a port of a bridge, which has its
// addresses and routes.
type Uplink struct {
	NIC    string `json:"nic"`
	Bridge string `json:"bridge"` // a device
	// Made: the bridge was made for it, and is made again if it is not there.
	Made    bool      `json:"made,omitempty"`
	Created time.Time `json:"created"`
}

// Ref names the uplink in errors.
func (u *Uplink) Ref() string { return "uplink " + u.NIC }
