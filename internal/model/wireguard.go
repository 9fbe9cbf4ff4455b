package model

import (
	"fmt"
	"slices"
	"time"
)

// WireGuardMode is what carries the packets of backend wireguard, in Flannel's words.
type WireGuardMode string

// The modes.
const (
	WireGuardSeparate WireGuardMode = "separate" // each family goes by a tunnel of its own, between addresses of the same family
	WireGuardAuto     WireGuardMode = "auto"     // both go by one tunnel, which leads to whichever address of a peer is public
	WireGuardIPv4     WireGuardMode = "ipv4"     // both go by one tunnel, between IPv4 addresses
	WireGuardIPv6     WireGuardMode = "ipv6"
)

// parseWireGuardMode sets Backend.Mode.
func parseWireGuardMode(o *Options, v string) error {
	all := []WireGuardMode{WireGuardSeparate, WireGuardAuto, WireGuardIPv4, WireGuardIPv6}
	if !slices.Contains(all, WireGuardMode(v)) {
		return fmt.Errorf("%q: want one of %v", v, all)
	}
	o.Backend.Mode = WireGuardMode(v)
	return nil
}

// How long a private key is used.
const (
	// KeyLife is as long as nothing is said.
	KeyLife = 30 * 24 * time.Hour
	// KeyForever is said as 0.
	KeyForever time.Duration = -1

	shortestLife = 10 * time.Second
)

// parseKeyLife sets Backend.KeyLife.
func parseKeyLife(o *Options, v string) error {
	d, err := time.ParseDuration(v)
	switch {
	case err != nil || d < shortestLife && d != 0:
		return fmt.Errorf("%q: want a time of at least %v, as 720h, or 0 for ever", v, shortestLife)
	case d == 0:
		d = KeyForever
	}
	o.Backend.KeyLife = d
	return nil
}

// Separate reports whether a fabric has a tunnel for each family, as backend wireguard
// may.
func (b *Backend) Separate() bool {
	return b.Type == BackendWireGuard && (b.Mode == "" || b.Mode == WireGuardSeparate)
}

// UDPPort returns the port of a fabric's tunnel for a family, of addresses between
// hosts.
func (b *Backend) UDPPort(is6 bool) int {
	if is6 && b.Separate() {
		return b.Port6
	}
	return b.Port
}

// Key returns a peer's public key for packets of a family, "" if it has none.
func (p *Peer) Key(is6 bool) string {
	if is6 {
		return p.Key6
	}
	return p.Key4
}

// Port returns a peer's UDP port at its address of a family; 0 is what all have.
func (p *Peer) Port(is6 bool) int {
	if is6 {
		return p.Port6
	}
	return p.Port4
}
