package model

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
)

// Mesh is how this host and the cluster's others pass on what comes to published ports of
// services: by a vxlan device for this alone, or two: the other is inside the tunnel of
// encrypted networks. It is never changed, but replaced.
type Mesh struct {
	ID     string       `json:"id"`              // this host's
	Local  netip.Addr   `json:"local"`           // where the others find it
	Uplink string       `json:"uplink"`          // the host's device to them
	MTU    int          `json:"mtu"`             // of the uplink, bytes
	Inner  netip.Addr   `json:"inner,omitzero"`  // where they find it through the tunnel of encrypted networks
	Public []netip.Addr `json:"public,omitzero"` // what it says it is found at, of both families
	Hosts  []MeshHost   `json:"hosts,omitempty"` // the others, by number
}

// Lends is the address that this host gives to others who ask by it, or the zero address.
func (m *Mesh) Lends(is6 bool) netip.Addr {
	for _, a := range append([]netip.Addr{m.Local}, m.Public...) {
		if a.IsValid() && a.Is6() == is6 {
			return a
		}
	}
	return netip.Addr{}
}

// MeshHost is another host.
type MeshHost struct {
	ID     string       `json:"id"`
	Name   string       `json:"name"`            // for people
	Number int          `json:"number"`          // in the cluster, from 1 to MaxHostNumber
	At     netip.Addr   `json:"at,omitzero"`     // where it is found; zero: not from here
	Inner  netip.Addr   `json:"inner,omitzero"`  // the same through the tunnel
	Public []netip.Addr `json:"public,omitzero"` // what it says it is found at, of both families: whence it asks
}

// The mesh's devices, and what they share with no network.
const (
	MeshDevice       = "slm0"
	SealedMeshDevice = "slm1" // inside the tunnel of encrypted networks
	MeshVNI          = MinOverlayVNI - 1
	MaxHostNumber    = 4095
)

// MeshMAC returns the hardware address of a host's device of the mesh. It is made of the
// host's ID, so everybody knows whose it is: 40 bits of its SHA-256, administered locally.
func MeshMAC(id string, sealed bool) string {
	text := "sealane mesh "
	if sealed {
		text = "sealane sealed mesh "
	}
	sum := sha256.Sum256([]byte(text + id))
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3], sum[4])
}
