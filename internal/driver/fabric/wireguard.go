package fabric

import (
	"cmp"
	"net/netip"

	"github.com/sealane/sealane/internal/model"
)

// Outer reports which family of addresses, IPv6 or not, packets of a family go to a
// peer between, by backend wireguard. Of mode auto the choice is flanneld's (selectMode
// in pkg/backend/wireguard): one that is public at the peer, IPv4 before IPv6.
func Outer(f *model.Fabric, p *model.Peer, is6 bool) bool {
	switch f.Backend.Mode {
	case model.WireGuardIPv4:
		return false
	case model.WireGuardIPv6:
		return true
	case model.WireGuardAuto:
		four, six := p.Public4.IsValid() && f.Public4.IsValid(), p.Public6.IsValid() && f.Public6.IsValid()
		switch {
		case !four || !six:
			return six
		case !p.Public4.IsPrivate():
			return false
		}
		return !p.Public6.IsPrivate() && !f.Public6.IsPrivate()
	}
	return is6
}

// Endpoint returns where packets of a family for a peer are sent in UDP, by backends
// udp and wireguard.
func Endpoint(f *model.Fabric, p *model.Peer, is6 bool) netip.AddrPort {
	outer := Carrier(f, p, is6)
	return netip.AddrPortFrom(p.Public(outer), uint16(cmp.Or(p.Port(outer), f.Backend.UDPPort(outer))))
}

// withoutTunnel is Unreached for backend wireguard.
func withoutTunnel(f *model.Fabric, p *model.Peer, is6 bool) string {
	outer := Outer(f, p, is6)
	switch {
	case !p.Public(outer).IsValid() || !f.Public(outer).IsValid():
		return "both hosts need an " + map[bool]string{false: "IPv4", true: "IPv6"}[outer] + " address"
	case p.Key(is6) == "":
		return "its public key is another host's too"
	}
	return ""
}

// starts reports whether the tunnel for a family has an address of this host to send
// from.
func starts(f *model.Fabric, is6 bool) bool {
	if f.Backend.Type == model.BackendWireGuard && !f.Backend.Separate() {
		return f.Public4.IsValid() || f.Public6.IsValid()
	}
	return f.Public(is6).IsValid()
}
