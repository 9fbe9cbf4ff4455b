package kstate

import (
	"errors"
	"fmt"
	"net/netip"
)

// Neigh is a neighbour that is known without asking: a permanent entry of ARP or
// of neighbour discovery, on a device of ours. One on a device of ours in the
// host's namespace is ours; in another namespace only with our mark.
type Neigh struct {
	NS   NS
	Dev  string
	Addr netip.Addr
	MAC  string // "02:42:0a:00:00:02"
}

// Key is the device and the address.
func (o Neigh) Key() Key {
	return Key{KindNeigh, o.NS.String() + " " + o.Dev + " " + o.Addr.String()}
}

// On is the device, its being up, its having the same hardware address, and for
// IPv4 its addresses: with either, and with the last of these, the kernel forgets all
// neighbours, permanent or not (neigh_changeaddr and neigh_ifdown in net/core/neighbour.c).
func (o Neigh) On() []Key {
	on := []Key{linkKey(o.NS, o.Dev), upKey(o.NS, o.Dev), macKey(o.NS, o.Dev)}
	if o.Addr.Is4() {
		on = append(on, ip4Key(o.NS, o.Dev))
	}
	return on
}

// String is "neigh ADDRESS lladdr MAC dev DEV".
func (o Neigh) String() string {
	return o.NS.in("neigh " + o.Addr.String() + " lladdr " + o.MAC + " dev " + o.Dev)
}

// macKey stands for a device's having the hardware address that it has. No object
// has it.
func macKey(ns NS, name string) Key { return Key{KindLink, ns.String() + " " + name + " address"} }

// FDB says at which host a hardware address is that is reached through a vxlan
// device of ours: a permanent forwarding entry of the device itself. What is for
// all, or for an address that nobody knows, goes to every host for which there is
// an FDB with [Everyone].
type FDB struct {
	Dev string
	MAC string
	Dst netip.Addr // of the family of the device's local address

	// Bridged: the bridge that the device is a port of knows too that the address
	// is there, and does not learn otherwise from who sends (NTF_STICKY in
	// linux/neighbour.h). It has one place for each address: an object for one that
	// is at a port of this host takes that port's. Not for [Everyone].
	//
	// Where the bridge knows and the device does not, an FDB is observed that is
	// Bridged and without Dst.
	Bridged bool
}

// Everyone is the hardware address in an FDB that is for frames to all and to
// unknown addresses. It may be at several hosts.
const Everyone = "00:00:00:00:00:00"

// Listed reports whether the address may be at several hosts, each of which has
// an object of its own.
func (o FDB) Listed() bool { return o.MAC == Everyone }

// Key is the device and the address, and the host where there may be several.
func (o FDB) Key() Key {
	if o.Listed() {
		return Key{KindFDB, o.Dev + " " + o.MAC + " " + o.Dst.String()}
	}
	return Key{KindFDB, o.Dev + " " + o.MAC}
}

// On is the device.
func (o FDB) On() []Key { return []Key{linkKey(NS{}, o.Dev)} }

// String is "fdb MAC dev DEV dst ADDRESS bridged".
func (o FDB) String() string {
	s := fmt.Sprintf("fdb %s dev %s", o.MAC, o.Dev)
	if o.Dst.IsValid() {
		s += " dst " + o.Dst.String()
	}
	if o.Bridged {
		s += " bridged"
	}
	return s
}

// Check says what no kernel can make of it. Whether the addresses can be is not
// looked at.
func (o FDB) Check() error {
	if o.Bridged && o.Listed() {
		return errors.New("what is for everyone is at no port of a bridge alone")
	}
	return nil
}

// portKey stands for a device's being a port of the bridge that it is one of. No
// object has it.
func portKey(ns NS, name string) Key { return Key{KindLink, ns.String() + " " + name + " port"} }

// unbridged reports whether an FDB is lost to the bridge, which its device leaves.
// The device keeps its part.
func unbridged(o Object, gone map[Key]bool) bool {
	f, ok := o.(FDB)
	return ok && f.Bridged && len(gone) > 0 && gone[portKey(NS{}, f.Dev)]
}
