package model

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// LinkMode says whom the devices of a macvlan or ipvlan network reach. "" is the
// driver's first.
type LinkMode string

// The modes of macvlan (enum macvlan_mode in linux/if_link.h).
const (
	ModeBridge   LinkMode = "bridge"   // each other, and what the parent reaches
	ModeVEPA     LinkMode = "vepa"     // each other by way of a switch that sends back where it came from (IEEE 802.1Qbg)
	ModePrivate  LinkMode = "private"  // never each other
	ModePassthru LinkMode = "passthru" // one device, which has the parent for itself
)

// The modes of ipvlan (enum ipvlan_mode in linux/if_link.h).
const (
	ModeL2  LinkMode = "l2"  // the parent's link: its broadcasts too
	ModeL3  LinkMode = "l3"  // packets only: the host routes, others need routes to the subnet
	ModeL3S LinkMode = "l3s" // as l3, and the host's firewall sees what comes and goes
)

// OnParent reports whether the network's endpoints are devices on a device of the
// host's, the parent.
func (n *Network) OnParent() bool { return n.Driver == DriverMacvlan || n.Driver == DriverIPvlan }

// LinkMode returns the mode of a network's devices, never "".
func (n *Network) LinkMode() LinkMode {
	if n.Driver == DriverIPvlan {
		return cmp.Or(n.Options.LinkMode, ModeL2)
	}
	return cmp.Or(n.Options.LinkMode, ModeBridge)
}

// Pointed reports whether the network's endpoints send what is on no subnet by
// their device, to no router.
func (n *Network) Pointed() bool {
	return n.Driver == DriverIPvlan && (n.LinkMode() == ModeL3 || n.LinkMode() == ModeL3S)
}

// OwnMAC reports whether the network's endpoints have hardware addresses of their
// own: those of ipvlan, and the one of macvlan's passthru, have the parent's.
func (n *Network) OwnMAC() bool {
	return n.Driver != DriverIPvlan && !(n.Driver == DriverMacvlan && n.LinkMode() == ModePassthru)
}

// Apart reports whether two networks are on different wires, where the same
// addresses do not meet.
func (n *Network) Apart(o *Network) bool {
	return n.Wired() && o.Wired() && n.Wire() != o.Wire()
}

// Beside reports whether two networks are on one device of the host's, where each may
// have containers of one subnet.
func (n *Network) Beside(o *Network) bool {
	return n.ID != o.ID && n.OnParent() && o.OnParent() && n.Wire() == o.Wire()
}

// Wired reports whether the network's endpoints are on a wire of others, whose
// router is theirs.
func (n *Network) Wired() bool {
	return n.OnParent() || n.Driver == DriverOVS || n.Driver == DriverPhys || n.onOthers()
}

// Wire names it.
func (n *Network) Wire() string {
	if n.OnParent() {
		return n.Lower()
	}
	return fmt.Sprintf("%s/%d/%s", n.Device(), n.Options.VLAN, n.Options.Trunks)
}

// Routed reports whether the host has routes to the network's addresses.
func (n *Network) Routed() bool { return !n.Wired() || len(n.Legs()) > 0 }

// Lower returns the name of the host's device that the network's endpoints are
// on: the parent, its VLAN, or for a network without a parent one of our own.
func (n *Network) Lower() string {
	switch o := n.Options; {
	case o.Parent == "":
		return "sld" + string(n.ID)
	case o.VLAN != 0:
		return VLANDevice(o.Parent, o.VLAN)
	}
	return n.Options.Parent
}

// Tag returns the VLAN that has to be made for the network, if any: its number
// and the device that it is on.
func (n *Network) Tag() (on string, id int, ok bool) {
	switch o := n.Options; {
	case o.Parent == "" || o.Adopted:
		return "", 0, false
	case o.VLAN != 0:
		return o.Parent, o.VLAN, true
	}
	return SplitVLAN(n.Options.Parent)
}

// Leg returns the name of the host's own device on a network's parent.
func (n *Network) Leg() string { return "slm" + string(n.ID) }

// Legs returns the host's addresses on a network's parent.
func (n *Network) Legs() []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{n.Options.Leg4, n.Options.Leg6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// Parked returns the names of the far end of the device of a network without a
// parent, and of the namespace that it is in.
func (n *Network) Parked() (dev, ns string) { return "parked0", "net-" + string(n.ID) }

// VLANDevice returns the name of the device of a VLAN: "eth0.10", or for a device
// with a long name one that begins with "sl".
func VLANDevice(parent string, id int) string {
	if name := parent + "." + strconv.Itoa(id); len(name) <= MaxIfName {
		return name
	}
	h := fnv.New32a()
	h.Write([]byte(parent))
	return fmt.Sprintf("sl%08x.%d", h.Sum32(), id)
}

// maxVLAN is the last VLAN: 0 and 4095 mean something else (IEEE 802.1Q).
const maxVLAN = 4094

// SplitVLAN takes a name like "eth0.10" apart, which has one dot.
func SplitVLAN(name string) (parent string, id int, ok bool) {
	parent, text, _ := strings.Cut(name, ".")
	id, err := number(text, 1, maxVLAN, "")
	return parent, id, err == nil && parent != "" && text == strconv.Itoa(id)
}

func parseLinkMode(modes ...LinkMode) func(*Options, string) error {
	return func(o *Options, v string) error {
		i := slices.Index(modes, LinkMode(v))
		if i < 0 {
			return wantOneOf(v, modes)
		}
		o.LinkMode = LinkMode(v)
		if i == 0 {
			o.LinkMode = ""
		}
		return nil
	}
}

func wantOneOf(v string, modes []LinkMode) error {
	var words []string
	for _, m := range modes {
		words = append(words, string(m))
	}
	last := len(words) - 1
	return fmt.Errorf("%q: want %s or %s", v, strings.Join(words[:last], ", "), words[last])
}

func parseLinkFlag(o *Options, v string) error {
	flags := []LinkMode{ModeBridge, ModePrivate, ModeVEPA}
	if !slices.Contains(flags, LinkMode(v)) {
		return wantOneOf(v, flags)
	}
	o.LinkFlag = LinkMode(v)
	if o.LinkFlag == ModeBridge {
		o.LinkFlag = ""
	}
	return nil
}

// parseLegs reads the host's addresses, at most one of each family.
func parseLegs(o *Options, v string) error {
	for text := range strings.SplitSeq(v, ",") {
		a, err := parseHostIP(text)
		if err != nil || !a.IsValid() || a.IsUnspecified() || a.IsLoopback() {
			return fmt.Errorf("%q: want an address for the host", text)
		}
		to := &o.Leg4
		if a.Is6() {
			to = &o.Leg6
		}
		if to.IsValid() {
			return fmt.Errorf("%s: is the second of its family, after %s", a, to)
		}
		*to = a
	}
	return nil
}

// legs prints them.
func (o Options) legs() string {
	switch {
	case !o.Leg6.IsValid():
		return o.Leg4.String()
	case !o.Leg4.IsValid():
		return o.Leg6.String()
	}
	return o.Leg4.String() + "," + o.Leg6.String()
}

// OptionMap returns the options of the network's driver by their short names, for
// people and JSON.
func (n *Network) OptionMap() map[string]string {
	m := n.Options.Map()
	for name := range m {
		if findOption(n.Driver, name) == nil {
			delete(m, name)
		}
	}
	return m
}

// checkParent reports what contradicts itself in a network on a parent.
func (n *Network) checkParent() error {
	if !n.OnParent() {
		return nil
	}
	o := n.Options
	switch {
	case o.Parent == "" && !n.Internal:
		return fmt.Errorf("parent: missing: give the host's device that the network is on, as -o parent=eth0, or --internal for a network without one")
	case o.Parent == "" && o.VLAN != 0:
		return fmt.Errorf("option vlan: %d: of which device? It takes a parent", o.VLAN)
	case o.Parent == "lo":
		return fmt.Errorf("option parent: lo: is no Ethernet device")
	case o.LinkFlag != "" && o.LinkMode == ModeL3S && o.LinkFlag == ModeVEPA:
		return fmt.Errorf("option ipvlan-flag: vepa: is not for mode l3s")
	}
	return n.checkLegs()
}

// checkLegs reports why the host cannot have the addresses it is to have.
func (n *Network) checkLegs() error {
	for _, a := range n.Legs() {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("option host-leg: %s: "+format, append([]any{a}, args...)...)
		}
		sub, ok := n.SubnetWith(a)
		switch {
		case n.LinkMode() == ModePassthru, n.LinkMode() == ModePrivate, n.Options.LinkFlag == ModePrivate:
			return bad("mode %s keeps the host and the containers from each other", cmp.Or(n.Options.LinkFlag, n.LinkMode()))
		case !ok:
			return bad("the network has no subnet of that family")
		case a == sub.Gateway:
			return bad("is the gateway already")
		}
		if err := sub.usable(a); err != nil {
			return fmt.Errorf("option host-leg: %w", err)
		}
	}
	return nil
}
