// Package wireguard encrypts what goes between hosts (WireGuard, see
// https://www.wireguard.com/papers/wireguard.pdf), as Flannel's backend of that name
// does. The devices are somebody else's: one of the kernel's, or a TUN device that
// wireguard-go serves in this process where the kernel has none of the kind.
//
//	sandboxes ─ route ─▶ wireguard device ──────────────── UDP ─▶ peer's endpoint
//	                     TUN device ─▶ wireguard-go ─ UDP ─▶
//	                        ▲             ▲
//	                        │    keys, peers, port
//	                        └── Keeper ───┘
//
// A Keeper compares what a device has with what it is to have, again and again, and
// changes what differs: who deletes a peer finds it again, and what stays the same is
// not touched, so that the sessions of a device of the kernel's outlast the daemon.
//
// What a peer may send is what its prefixes are, and nothing else: the device drops a
// packet whose source is another's.
//
// A peer that has another key now is another peer to WireGuard. See [plan] for how the
// one takes the place of the other without a pause.
package wireguard

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Public is a public key.
type Public [32]byte

// String is it in base64, as wg(8) prints it.
func (p Public) String() string { return base64.StdEncoding.EncodeToString(p[:]) }

// ParsePublic reads a key in base64. A key of zeroes is nobody's.
func ParsePublic(text string) (Public, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(Public{}) || Public(b) == (Public{}) {
		return Public{}, errors.New("public key: 32 bytes in base64 belong there")
	}
	return Public(b), nil
}

// Secret is a private key, or one that all hosts share; zero is none. It prints
// as nothing that would help anybody.
type Secret [32]byte

// redacted is what is seen of a Secret.
const redacted = "(secret)"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// MarshalText implements encoding.TextMarshaler, for logs.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// NewSecret returns a new private key.
func NewSecret() Secret {
	var s Secret
	rand.Read(s[:]) // never fails
	// The bits that X25519 takes no notice of (RFC 7748, section 5), as devices give them back.
	s[0] &= 248
	s[31] = s[31]&127 | 64
	return s
}

// Public returns the public key of a private one.
func (s Secret) Public() Public {
	k, err := ecdh.X25519().NewPrivateKey(s[:])
	if err != nil {
		return Public{} // not with 32 bytes
	}
	return Public(k.PublicKey().Bytes())
}

// Want is a device as it is to be.
type Want struct {
	Device    string
	Served    bool // it is a TUN device, for this process to serve; else the kernel's own
	Port      uint16
	Private   Secret
	Shared    Secret        // with all peers, beside the keys; zero: none
	Keepalive time.Duration // between packets to silent peers, in whole seconds; 0: none
	Peers     []Peer        // each with a key of its own
}

// Peer is another host.
type Peer struct {
	Key      Public
	Endpoint netip.AddrPort // where it is said to be; packets of its own from elsewhere prevail
	Allowed  []netip.Prefix // its own: no other peer's
}
