package kstate

import "strconv"

// Devices that are on another one, which is the host's wherever they are
// themselves: see [Link.Parent].
const (
	TypeMacvlan LinkType = "macvlan"
	TypeIPvlan  LinkType = "ipvlan"
	TypeVLAN    LinkType = "vlan" // IEEE 802.1Q

	// TypeNIC is a NIC of the host's that is lent to another namespace, under a
	// name of its own there. Parent is its name at home, where it is again once
	// it is removed, with its hardware address, MTU and addresses. One observed
	// in the host's namespace has been put there by the kernel, whose namespace
	// ended.
	TypeNIC LinkType = "nic"
)

// OnParent reports whether devices of the type are on another one.
func (t LinkType) OnParent() bool { return t == TypeMacvlan || t == TypeIPvlan || t == TypeVLAN }

// lower is the text of what a device is on.
func (o Link) lower() string {
	if !o.Type.OnParent() && o.Type != TypeNIC {
		return ""
	}
	s := " parent " + o.Parent
	if o.Mode != "" {
		s += " mode " + o.Mode
	}
	if o.Flag != "" {
		s += " " + o.Flag
	}
	if o.VLAN != 0 {
		s += " id " + strconv.Itoa(o.VLAN)
	}
	return s
}

// moved reports whether two states of a link are on different devices, or in
// different ways: it cannot be changed in place.
func moved(a, b Link) bool {
	if a.Type == TypeVXLAN {
		return rebuilt(a, b)
	}
	return a.Parent != b.Parent || a.Mode != b.Mode || a.Flag != b.Flag || a.VLAN != b.VLAN
}

// Raise sets up a device of the host's that is not ours. That it was down is kept
// in the journal; removing Raise sets it down again, unless somebody uses it
// meanwhile: gave it an address, put it into a bridge, or has a device on it.
type Raise struct{ Dev string }

// Key is the device.
func (o Raise) Key() Key { return Key{KindRaise, o.Dev} }

// On is the device.
func (o Raise) On() []Key { return []Key{linkKey(NS{}, o.Dev)} }

// String is "raise DEV".
func (o Raise) String() string { return "raise " + o.Dev }

// raised reports whether the device that is to be set up is, without us.
func raised(have Set, want Object) bool {
	r, ok := want.(Raise)
	if !ok {
		return false
	}
	l, _ := have[linkKey(NS{}, r.Dev)].(Link)
	return l.Up
}
