package fabric

import (
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Whichever of a peer's addresses flanneld would choose (selectMode of its
// pkg/backend/wireguard), with the one exception that an address has to be there.
func TestOuter(t *testing.T) {
	const private4, public4, private6, public6 = "10.0.0.1", "198.51.100.1", "fd00::1", "2001:db8::1"
	for _, c := range []struct {
		mode                       model.WireGuardMode
		own4, own6, theirs4, their string
		want                       string // of IPv4, of IPv6; or why not
	}{
		{"separate", private4, private6, private4, private6, "10.0.0.1:7000 [fd00::1]:7001"},
		{"separate", private4, "", private4, private6, "10.0.0.1:7000 both hosts need an IPv6 address"},
		{"ipv4", private4, public6, private4, public6, "10.0.0.1:7000 10.0.0.1:7000"},
		{"ipv4", private4, "", "", public6, "both hosts need an IPv4 address both hosts need an IPv4 address"},
		{"ipv6", private4, private6, public4, private6, "[fd00::1]:7000 [fd00::1]:7000"},
		{"auto", private4, public6, private4, public6, "[2001:db8::1]:7000 [2001:db8::1]:7000"},
		{"auto", public4, public6, public4, public6, "198.51.100.1:7000 198.51.100.1:7000"},
		{"auto", public4, private6, private4, public6, "10.0.0.1:7000 10.0.0.1:7000"},
		{"auto", private4, private6, private4, private6, "10.0.0.1:7000 10.0.0.1:7000"},
		{"auto", private4, private6, "", private6, "[fd00::1]:7000 [fd00::1]:7000"},
		{"auto", "", private6, public4, private6, "[fd00::1]:7000 [fd00::1]:7000"},
		{"auto", private4, "", "", private6, "both hosts need an IPv4 address both hosts need an IPv4 address"},
	} {
		addr := func(text string) (a netip.Addr) {
			if text != "" {
				a = netip.MustParseAddr(text)
			}
			return a
		}
		f := &model.Fabric{Backend: model.Backend{Type: model.BackendWireGuard, Mode: c.mode, Port: 7000, Port6: 7001}, Public4: addr(c.own4), Public6: addr(c.own6)}
		p := &model.Peer{Public4: addr(c.theirs4), Public6: addr(c.their), Key4: "k", Key6: "k"}
		got := ""
		for _, is6 := range []bool{false, true} {
			if why := Unreached(f, p, is6); why != "" {
				got += why
			} else {
				got += Endpoint(f, p, is6).String()
			}
			if !is6 {
				got += " "
			}
		}
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	p := &model.Peer{Public4: netip.MustParseAddr("192.0.2.2"), Key6: "k"}
	f := &model.Fabric{Backend: model.Backend{Type: model.BackendWireGuard}, Public4: netip.MustParseAddr("192.0.2.1")}
	if why := Unreached(f, p, false); why != "its public key is another host's too" {
		t.Errorf("without a key: %q", why)
	}
}

// There is a device of the kernel's, or one for the daemon to serve; one for both
// families, or one for each.
func TestWireGuardDevices(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		mode   model.WireGuardMode
		served bool
		want   map[string]kstate.LinkType
	}{
		{"separate", false, map[string]kstate.LinkType{"slt0123456789ab": kstate.TypeWireGuard, "slu0123456789ab": kstate.TypeWireGuard}},
		{"separate", true, map[string]kstate.LinkType{"slt0123456789ab": kstate.TypeTUN, "slu0123456789ab": kstate.TypeTUN}},
		{"ipv6", true, map[string]kstate.LinkType{"slt0123456789ab": kstate.TypeTUN}},
	} {
		n := &model.Network{ID: "0123456789ab", Name: "pods", Subnets: []model.Subnet{{Prefix: prefix("10.5.1.0/24")}, {Prefix: prefix("fd05:0:0:1::/64")}},
			Fabric: &model.Fabric{
				Backend: model.Backend{Type: model.BackendWireGuard, Mode: c.mode, Port: 7000, Port6: 7001}, Served: c.served,
				Whole:   []netip.Prefix{prefix("10.5.0.0/16"), prefix("fd05::/48")},
				Public4: netip.MustParseAddr("192.0.2.1"), Public6: netip.MustParseAddr("2001:db8::1"), MTU: 1500,
				Peers: []model.Peer{{Subnets: []netip.Prefix{prefix("10.5.2.0/24"), prefix("fd05:0:0:2::/64")}, Key4: "k", Key6: "k",
					Public4: netip.MustParseAddr("192.0.2.2"), Public6: netip.MustParseAddr("2001:db8::2")}},
			}}
		set, err := Ways(n)
		if err != nil {
			t.Fatal(err)
		}
		devices := 0
		for _, o := range set {
			switch o := o.(type) {
			case kstate.Link:
				if devices++; o.Type != c.want[o.Name] || o.MTU != 1420 || !o.Up {
					t.Errorf("%s: %v", c.mode, o)
				}
			case kstate.Route:
				if o.Dev != "" && c.want[o.Dev] == "" || o.Dev == "" && !o.Blackhole {
					t.Errorf("%s: %v", c.mode, o)
				}
			}
		}
		for _, dst := range []string{"10.5.2.0/24", "fd05:0:0:2::/64"} {
			r := kstate.Route{Dst: prefix(dst), Dev: n.Tunnel(prefix(dst).Addr().Is6())}
			if set[r.Key()] == nil {
				t.Errorf("%s: no %v in\n%v", c.mode, r, set)
			}
		}
		if devices != len(c.want) {
			t.Errorf("%s: %d devices", c.mode, devices)
		}
	}
}
