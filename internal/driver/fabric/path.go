package fabric

import (
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// MinMTU6 is what every way of IPv6 carries, in bytes (RFC 8200 5). The kernel lets
// packets up to that pass whatever a route says.
const MinMTU6 = 1280

// Routed reports whether there are ways of ours to a network's other hosts, and not of
// somebody else's making.
func Routed(f *model.Fabric) bool {
	return f.Backend.Type != model.BackendAlloc && f.Backend.Type != model.BackendExtension
}

// Carrier reports which family of addresses, IPv6 or not, carries packets of a family
// to a peer.
func Carrier(f *model.Fabric, p *model.Peer, is6 bool) bool {
	if f.Backend.Type == model.BackendWireGuard {
		return Outer(f, p, is6)
	}
	return is6
}

// Full is the size, in bytes, that the largest packet of a family from a container has
// on its way to a peer.
func Full(f *model.Fabric, p *model.Peer, is6 bool) int { return MTU(f) + wrapped(f, p, is6) }

// Fits is the largest packet, in bytes, that gets to a peer's subnet of a family, where
// that is less than the network's MTU; 0 where all do, or nothing is known.
func Fits(f *model.Fabric, p *model.Peer, is6 bool) int {
	path := p.PathMTU(Carrier(f, p, is6))
	if path == 0 {
		return 0
	}
	fits := path - wrapped(f, p, is6)
	if is6 {
		fits = max(fits, MinMTU6)
	}
	if fits >= MTU(f) {
		return 0
	}
	return fits
}

// wrapped is what the backend puts around a packet to a peer, in bytes.
func wrapped(f *model.Fabric, p *model.Peer, is6 bool) int {
	if Direct(f, p) {
		return 0
	}
	by6 := Carrier(f, p, is6)
	switch f.Backend.Type {
	case model.BackendVXLAN:
		return kstate.VXLAN{Local: f.Public(by6)}.Overhead()
	case model.BackendUDP:
		if by6 {
			return aroundUDP6
		}
		return aroundUDP4
	case model.BackendWireGuard:
		if by6 {
			return aroundWireGuard
		}
		return aroundWireGuard - (aroundUDP6 - aroundUDP4)
	}
	return 0
}
