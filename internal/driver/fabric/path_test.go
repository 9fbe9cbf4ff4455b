package fabric

import (
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

func TestFits(t *testing.T) {
	four, six := netip.MustParsePrefix("10.5.0.0/16"), netip.MustParsePrefix("fd05::/48")
	public4, public6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	both := []netip.Prefix{four, six}
	for _, c := range []struct {
		name                string
		backend             model.Backend
		whole               []netip.Prefix
		is6, onLink         bool
		path, full, fitting int
	}{
		{"nothing is known", model.Backend{Type: model.BackendVXLAN}, both[:1], false, false, 0, 1500, 0},
		{"vxlan", model.Backend{Type: model.BackendVXLAN}, both[:1], false, false, 1400, 1500, 1350},
		{"vxlan, all of it fits", model.Backend{Type: model.BackendVXLAN}, both[:1], false, false, 1500, 1500, 0},
		{"vxlan of both families: IPv4 has room", model.Backend{Type: model.BackendVXLAN}, both, false, false, 1480, 1480, 0},
		{"vxlan of both families: IPv4", model.Backend{Type: model.BackendVXLAN}, both, false, false, 1479, 1480, 1429},
		{"vxlan of both families: IPv6", model.Backend{Type: model.BackendVXLAN}, both, true, false, 1400, 1500, 1330},
		{"what IPv6 carries at least", model.Backend{Type: model.BackendVXLAN}, both, true, false, 1300, 1500, 1280},
		{"vxlan of a config's MTU", model.Backend{Type: model.BackendVXLAN, MTU: 1400}, both[:1], false, false, 1400, 1400, 0},
		{"direct", model.Backend{Type: model.BackendVXLAN, DirectRouting: true}, both[:1], false, true, 1400, 1450, 1400},
		{"direct, larger than the network's", model.Backend{Type: model.BackendVXLAN, DirectRouting: true}, both[:1], false, true, 1460, 1450, 0},
		{"host-gw", model.Backend{Type: model.BackendHostGW}, both[:1], false, true, 1400, 1500, 1400},
		{"udp", model.Backend{Type: model.BackendUDP}, both[:1], false, false, 1400, 1500, 1372},
		{"wireguard", model.Backend{Type: model.BackendWireGuard}, both[:1], false, false, 1400, 1480, 1340},
		{"wireguard, IPv6", model.Backend{Type: model.BackendWireGuard}, both, true, false, 1400, 1500, 1320},
		{"udp, IPv6", model.Backend{Type: model.BackendUDP}, both, true, false, 1400, 1500, 1352},
	} {
		f := &model.Fabric{Whole: c.whole, Backend: c.backend, Public4: public4, Public6: public6, MTU: 1500}
		p := &model.Peer{OnLink: c.onLink, PathMTU4: c.path}
		if c.is6 {
			p.PathMTU4, p.PathMTU6 = 0, c.path
		}
		if got := Full(f, p, c.is6); got != c.full {
			t.Errorf("%s: a full packet has %d bytes, want %d", c.name, got, c.full)
		}
		if got := Fits(f, p, c.is6); got != c.fitting {
			t.Errorf("%s: %d bytes fit, want %d", c.name, got, c.fitting)
		}
	}
}
