package ovs

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

func TestEndpoint(t *testing.T) {
	ns := kstate.NS{Path: "/run/sealane/netns/s1"}
	for _, c := range []struct {
		name   string
		n      model.Options
		e      model.Endpoint
		port   string
		whole  bool
		handed bool
	}{
		{"no VLAN", model.Options{Datapath: "system"}, model.Endpoint{}, "", false, false},
		{"the network's VLAN", model.Options{VLAN: 100, Datapath: "netdev"}, model.Endpoint{}, " vlan 100", true, false},
		{"the endpoint's VLAN", model.Options{VLAN: 100, Datapath: "netdev"}, model.Endpoint{VLAN: 200}, " vlan 200", true, false},
		{"the network's trunks", model.Options{Trunks: "100,200-202"}, model.Endpoint{}, " trunks 100,200,201,202", false, false},
		{"the endpoint's trunks", model.Options{VLAN: 100}, model.Endpoint{Trunks: "7"}, " trunks 7", false, false},
		{"both", model.Options{VLAN: 1, Trunks: "2"}, model.Endpoint{}, " vlan 1 trunks 2", false, false},
		{"an endpoint of one VLAN on a trunk", model.Options{Trunks: "2"}, model.Endpoint{VLAN: 2}, " vlan 2", false, false},
		{"all", model.Options{Trunks: model.AllVLANs}, model.Endpoint{}, " all", false, false},
		{"of a container engine", model.Options{VLAN: 3, Datapath: "netdev"}, model.Endpoint{Handed: true}, " vlan 3", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.n.Device = "ovsbr0"
			c.n.MTU = 1500
			n := &model.Network{ID: "n1", Name: "lan", Driver: model.DriverOVS, Options: c.n}
			c.e.ID, c.e.IfName, c.e.MAC, c.e.Alias = "e1", "eth0", "02:42:c0:00:02:07", "of-web"
			c.e.Addrs = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::7/64")}
			s, err := Driver{}.Endpoint(n, &c.e, ns, driver.Facts{})
			if err != nil {
				t.Fatal(err)
			}
			want := `link of-web type veth mtu 1500 address ` + model.MACForID(model.MACVeth, "e1") + ` noarp up peer eth0 address 02:42:c0:00:02:07 netns /run/sealane/netns/s1
netns /run/sealane/netns/s1 addr 192.0.2.7/24 dev eth0
netns /run/sealane/netns/s1 addr 2001:db8::7/64 dev eth0
netns /run/sealane/netns/s1 addr fe80::42:c0ff:fe00:207/64 dev eth0
`
			if c.handed {
				want = strings.Replace(strings.SplitAfter(want, "\n")[0], "peer eth0", "peer slpe1", 1)
				want = strings.Replace(want, "netns /run/sealane/netns/s1", "netns ", 1)
			}
			want += "ovs-port of-web bridge ovsbr0" + c.port + "\n"
			if s.String() != want {
				t.Errorf("is\n%swant\n%s", s, want)
			}
			l := s[kstate.Link{Name: "of-web"}.Key()].(kstate.Link)
			if l.Peer.Whole != c.whole {
				t.Errorf("its far end sends whole frames: %v", l.Peer.Whole)
			}
			if !l.Named {
				t.Error("nothing says that it has a name of somebody's choice")
			}
		})
	}
}
