package model

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSplitVLAN(t *testing.T) {
	for _, c := range []struct {
		name, parent string
		id           int
		ok           bool
	}{
		{"eth0.10", "eth0", 10, true}, {"eth0.1", "eth0", 1, true}, {"bond0.4094", "bond0", 4094, true},
		{"eth0", "", 0, false}, {"eth0.", "", 0, false}, {".10", "", 0, false}, {"eth0.0", "", 0, false}, {"eth0.4095", "", 0, false},
		{"eth0.010", "", 0, false}, {"eth0.+10", "", 0, false}, {"eth0.10.20", "", 0, false}, {"eth0.x", "", 0, false}, {"", "", 0, false},
	} {
		parent, id, ok := SplitVLAN(c.name)
		if ok != c.ok || ok && (parent != c.parent || id != c.id) {
			t.Errorf("%q: %q, %d, %v", c.name, parent, id, ok)
		}
		if ok && VLANDevice(parent, id) != c.name {
			t.Errorf("%q: the device is %s", c.name, VLANDevice(parent, id))
		}
	}
}

func TestVLANDevice(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct {
		parent string
		id     int
	}{{"eth0", 1}, {"eth0", 4094}, {"enp129s0f0np0", 1}, {"enp129s0f0np0", 4094}, {"enp129s0f1np1", 4094}, {"abcdefghijklmno", 1}} {
		name := VLANDevice(c.parent, c.id)
		if CheckIfName(name) != nil || seen[name] != "" {
			t.Errorf("%s, %d: %s, which is that of %q too", c.parent, c.id, name, seen[name])
		}
		seen[name] = c.parent
	}
}

// TestLower: what endpoints are on, and what has to be made for that.
func TestLower(t *testing.T) {
	for _, c := range []struct {
		options     string
		there       bool
		lower, on   string
		id          int
		mode        LinkMode
		own, points bool
	}{
		{"parent=eth0", true, "eth0", "", 0, ModeBridge, true, false},
		{"parent=eth0.10", true, "eth0.10", "", 0, ModeBridge, true, false},
		{"parent=eth0.10", false, "eth0.10", "eth0", 10, ModeBridge, true, false},
		{"parent=eth0 vlan=10 mode=passthru", false, "eth0.10", "eth0", 10, ModePassthru, false, false},
		{"parent=eth0 vlan=10 mode=bridge", true, "eth0.10", "", 0, ModeBridge, true, false},
		{"", false, "sldaaaaaaaaaaaa", "", 0, ModeBridge, true, false},
		{"ipvlan parent=eth0", true, "eth0", "", 0, ModeL2, false, false},
		{"ipvlan parent=eth0 mode=l2 ipvlan-flag=bridge", true, "eth0", "", 0, ModeL2, false, false},
		{"ipvlan parent=eth0 ipvlan_mode=l3", true, "eth0", "", 0, ModeL3, false, true},
		{"ipvlan parent=eth0 mode=l3s", true, "eth0", "", 0, ModeL3S, false, true},
	} {
		n := &Network{ID: "aaaaaaaaaaaa", Name: "lan", Driver: DriverMacvlan}
		kv := map[string]string{}
		for _, w := range strings.Fields(c.options) {
			if k, v, ok := strings.Cut(w, "="); ok {
				kv[k] = v
			} else {
				n.Driver = w
			}
		}
		var err error
		if n.Options, err = ParseOptions(n.Driver, kv); err != nil {
			t.Errorf("%s: %v", c.options, err)
		}
		n.Options.Adopted = c.there
		on, id, tagged := n.Tag()
		if n.Lower() != c.lower || tagged != (c.on != "") || tagged && (on != c.on || id != c.id) {
			t.Errorf("%s: on %s, %s %d %v", c.options, n.Lower(), on, id, tagged)
		}
		if n.LinkMode() != c.mode || n.OwnMAC() != c.own || n.Pointed() != c.points || n.ByHost() || !n.OnParent() {
			t.Errorf("%s: mode %s, own hardware address %v, pointed %v", c.options, n.LinkMode(), n.OwnMAC(), n.Pointed())
		}
	}
}

// TestParentOptionsPrint: what is read prints as what reads so.
func TestParentOptionsPrint(t *testing.T) {
	for driver, options := range map[string][]string{
		DriverMacvlan: {"parent=eth0", "vlan=4094", "mode=vepa", "mode=private", "mode=passthru", "host-leg=192.0.2.9", "host-leg=2001:db8::9", "host-leg=2001:db8::9,192.0.2.9", "mtu=1400", "ifname-prefix=lan"},
		DriverIPvlan:  {"parent=eth0", "vlan=1", "mode=l3", "mode=l3s", "ipvlan-flag=private", "ipvlan-flag=vepa", "mtu=1400"},
	} {
		for _, kv := range options {
			k, v, _ := strings.Cut(kv, "=")
			n := &Network{Driver: driver}
			var err error
			if n.Options, err = ParseOptions(driver, map[string]string{k: v}); err != nil {
				t.Fatal(err)
			}
			if again, err := ParseOptions(driver, n.OptionMap()); err != nil || again != n.Options || len(n.OptionMap()) != 1 {
				t.Errorf("%s %s: prints as %v, %v", driver, kv, n.OptionMap(), err)
			}
		}
	}
}

func TestApart(t *testing.T) {
	lan := func(parent string, vlan int) *Network {
		return &Network{Driver: DriverMacvlan, Options: Options{Parent: parent, VLAN: vlan}}
	}
	bridge := &Network{Driver: DriverBridge, Subnets: []Subnet{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}}
	for _, c := range []struct {
		a, b  *Network
		apart bool
	}{
		{lan("eth0", 0), lan("eth0", 0), false}, {lan("eth0", 0), lan("eth1", 0), true}, {lan("eth0", 10), lan("eth0", 20), true},
		{lan("eth0", 10), lan("eth0.10", 0), false}, {lan("eth0", 0), bridge, false}, {bridge, bridge, false},
	} {
		if c.a.Apart(c.b) != c.apart || c.b.Apart(c.a) != c.apart {
			t.Errorf("%+v, %+v: want %v", c.a.Options, c.b.Options, c.apart)
		}
	}
}
