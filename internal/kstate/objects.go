package kstate

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// NS names a network namespace. The zero value is the daemon's own (the host).
// A namespace we made is known by its path alone; one that was given to us also
// by its inode, so that a reused path is noticed.
type NS struct {
	Path  string
	Inode uint64
}

// IsHost reports whether n is the daemon's own namespace.
func (n NS) IsHost() bool { return n.Path == "" }

// String returns "path" or "path#inode", and "" for the host.
func (n NS) String() string {
	if n.Inode == 0 {
		return n.Path
	}
	return n.Path + "#" + strconv.FormatUint(n.Inode, 10)
}

// in prefixes a line with its namespace as `ip -n` does.
func (n NS) in(line string) string {
	if n.IsHost() {
		return line
	}
	return "netns " + n.String() + " " + line
}

// NetNS is a network namespace held by a bind mount at NS.Path.
type NetNS struct {
	NS NS
	// Sysctls are "key=value" settings written when the namespace is made.
	// They are not observed afterwards: inside, its owner is free.
	Sysctls []string
	// Other marks a namespace that was given to us: looked at, never removed.
	Other bool
	// Cookie, observed only, is the number that no other namespace has until the next
	// boot (SO_NETNS_COOKIE); 0 if the kernel does not say. It is not compared.
	Cookie uint64
}

func (o NetNS) foreign() bool { return o.Other }

// Key is the namespace's path and inode.
func (o NetNS) Key() Key { return Key{KindNetNS, o.NS.String()} }

// On is empty: a namespace stands on nothing.
func (o NetNS) On() []Key { return nil }

// String is "netns PATH".
func (o NetNS) String() string { return "netns " + o.NS.String() }

// LinkType is the rtnetlink kind of a device, as in `ip link add type …`.
type LinkType string

// The device types this system makes or cares about.
const (
	TypeBridge   LinkType = "bridge"
	TypeVeth     LinkType = "veth"
	TypeIFB      LinkType = "ifb" // see Redirect
	TypeLoopback LinkType = "loopback"
)

// Link is a network device. A veth is one object: Peer is its other end, born
// in its namespace under its final name.
type Link struct {
	NS   NS
	Name string // at most 15 bytes
	Type LinkType
	MTU  int    // bytes; 0 leaves the kernel's choice
	MAC  string // "02:42:0a:00:00:02"; "" leaves the kernel's choice
	Up   bool

	Master   string // the bridge this device is a port of
	Isolated bool   // bridge port: may not talk to other isolated ports (IFLA_BRPORT_ISOLATED)
	Hairpin  bool   // bridge port: frames may leave by the port they came in by

	// GroupForward, of a bridge port: frames to the group addresses of IEEE
	// 802.1D (01:80:c2:00:00:0x) are forwarded as all others, and so pass the
	// filters on bridges. Otherwise the host takes them from the port itself,
	// unseen (IFLA_BRPORT_GROUP_FWD_MASK, br_handle_frame in
	// net/bridge/br_input.c). Pause frames are dropped in either case.
	GroupForward bool

	// Known, of a bridge port: where frames go that leave by it only the bridge's
	// table says. Who sends from there is not learnt, and what is for an address
	// that the table has not does not go there; what is for all does
	// (IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD). See [FDB.Bridged].
	Known bool

	// Pinned, of a veth that is a bridge port: frames to Peer.MAC leave by
	// this port, also after frames from there came in by another
	// (NTF_STICKY in linux/neighbour.h). It is done when the device becomes
	// a port or Peer.MAC changes, and neither observed nor compared: to ask
	// costs the square of the number of ports.
	Pinned bool

	// NoARP keeps the host from answering ARP on this device, as it would
	// for any of its addresses (IFF_NOARP).
	NoARP bool

	// Localnet allows 127.0.0.0/8 to be routed over this device
	// (net.ipv4.conf.DEV.route_localnet): published ports on 127.0.0.1 need it.
	Localnet bool

	// ProxyARP answers ARP for what is reached by this device itself
	// (net.ipv4.conf.DEV.proxy_arp_pvlan): isolated ports of a bridge then
	// send to each other by the host, which judges it (RFC 3069).
	ProxyARP bool

	// Detour, of a tunnel: packets come in by it whose source is reached by another
	// device, and go out again by that they came in by, and nobody is told of a
	// shorter way (net.ipv4.conf.DEV.rp_filter and send_redirects are 0). The
	// higher of conf.DEV.rp_filter and conf.all.rp_filter counts, and redirects are
	// sent if either of conf.DEV.send_redirects and conf.all.send_redirects says so:
	// where those for all are on, this has no effect. Without it the settings are
	// the kernel's choice.
	Detour bool

	Peer Peer // veth only

	// Sorting, of a bridge: it sorts frames by VLAN (IEEE 802.1Q). Tag, of a port
	// of one or of such a bridge itself, is the VLAN of frames without a tag, and
	// Tags are the VLANs that have one: "100,200-210", AllTags or NoTags. Without
	// either it is in VLAN 1, and no frame has a tag. They are observed where the
	// bridge sorts.
	Sorting bool
	Tag     int
	Tags    string

	// Parent, of a macvlan, ipvlan, vlan or vxlan, is the host's device that it is
	// on; it goes with that one. "" when observed: not a device of the host's.
	Parent string
	Mode   string // of macvlan and ipvlan, as in ip-link(8)
	Flag   string // of ipvlan: "private" or "vepa"; "" is bridge
	VLAN   int    // of vlan: its number
	VXLAN  VXLAN  // of vxlan

	// Sysctls are settings of a macvlan or ipvlan, as of a far end, and Auto is of such
	// a one, or of a NIC; see [Peer].
	Sysctls string
	Auto    bool

	// Handed, of a veth: the far end is born in the host's namespace, down,
	// for somebody else to take, rename, move and set up. Where it is and how
	// it fares is not compared, and nothing is said of this when observed. A
	// macvlan or ipvlan is so as a whole. Taken, of such a one: somebody has been
	// told of it, and it is not made again nor changed, wherever it is.
	Handed, Taken bool

	// Named, of a veth: its name is of somebody's choice, so the firewall knows it as a
	// port by its link group, which is GroupNamed from the beginning. It is not compared.
	Named bool

	Alias string // for humans, not compared
	Other bool   // seen, not ours
	Index int    // observed only: the kernel's number, not compared

	NoCarrier bool // observed only: up, and nothing is at the other end
}

// GroupNamed is the link group of ports of ours whose name does not say that they
// are, see [Link.Named].
const GroupNamed = 0x5ea5

// Peer is the far end of a veth.
type Peer struct {
	NS   NS
	Name string
	MAC  string

	// Sysctls are "key=value" settings of this end, one a line, written when
	// it is made, after its addresses. They are not observed afterwards, see
	// [NetNS.Sysctls].
	Sysctls string

	// Whole: it sends frames with their checksums and none longer than its
	// MTU, and leaves nothing of that to hardware. It is so from the
	// beginning, and neither observed nor compared.
	Whole bool

	// Auto: IPv6 configures itself, from a link-local address on, as routers on the
	// link say and the namespace's settings allow. It is so from the beginning, and
	// neither observed nor compared.
	Auto bool

	// In the host's namespace only: the bridge that the far end is a port
	// of, and whether it may not talk to other isolated ports there.
	Master   string
	Isolated bool
}

func (o Link) foreign() bool { return o.Other }

// Key is the device's namespace and name.
func (o Link) Key() Key { return linkKey(o.NS, o.Name) }

func linkKey(ns NS, name string) Key { return Key{KindLink, ns.String() + " " + name} }

// upKey stands for a device's being up. No object has it.
func upKey(ns NS, name string) Key { return Key{KindLink, ns.String() + " " + name + " up"} }

// ip4Key stands for a device's having the last of its IPv4 addresses. No object has it.
func ip4Key(ns NS, dev string) Key { return Key{KindAddr, ns.String() + " " + dev + " ipv4"} }

// PeerKey is the key under which objects on the far end of a veth find it.
func (o Link) PeerKey() Key { return linkKey(o.Peer.NS, o.Peer.Name) }

// On is the namespace, for a veth the far end's too, and the parent.
func (o Link) On() []Key {
	var on []Key
	if !o.NS.IsHost() {
		on = append(on, NetNS{NS: o.NS}.Key())
	}
	if o.Type == TypeVeth && !o.Peer.NS.IsHost() {
		on = append(on, NetNS{NS: o.Peer.NS}.Key())
	}
	if o.Parent != "" && o.Type != TypeNIC {
		on = append(on, linkKey(NS{}, o.Parent))
	}
	return on
}

// String is close to `ip link add`: "link NAME type T mtu N … up".
func (o Link) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "link %s type %s%s", o.Name, o.Type, o.lower()+o.tunnel())
	if o.MTU != 0 {
		fmt.Fprintf(&b, " mtu %d", o.MTU)
	}
	if o.MAC != "" {
		b.WriteString(" address " + o.MAC)
	}
	if o.Master != "" {
		b.WriteString(" master " + o.Master)
	}
	for _, f := range []struct {
		on   bool
		word string
	}{{o.Isolated, " isolated"}, {o.Hairpin, " hairpin"}, {o.GroupForward, " groupforward"}, {o.Known, " known"}, {o.NoARP, " noarp"}, {o.Localnet, " localnet"}, {o.ProxyARP, " proxyarp"}, {o.Detour, " detour"}, {o.Up, " up"}} {
		if f.on {
			b.WriteString(f.word)
		}
	}
	b.WriteString(o.sorting())
	if o.Type == TypeVeth {
		fmt.Fprintf(&b, " peer %s", o.Peer.Name)
		if o.Peer.MAC != "" {
			b.WriteString(" address " + o.Peer.MAC)
		}
		if o.Peer.Master != "" {
			b.WriteString(" master " + o.Peer.Master)
		}
		if o.Peer.Isolated {
			b.WriteString(" isolated")
		}
		b.WriteString(" netns " + o.Peer.NS.String())
	}
	return o.NS.in(b.String())
}

// Sysctl is a host-wide setting under /proc/sys, dotted ("net.ipv4.ip_forward").
// What it was before is kept in the journal and put back on removal.
type Sysctl struct {
	Name  string
	Value string
}

// Key is the setting's name.
func (o Sysctl) Key() Key { return Key{KindSysctl, o.Name} }

// On is empty.
func (o Sysctl) On() []Key { return nil }

// String is "sysctl NAME=VALUE".
func (o Sysctl) String() string { return "sysctl " + o.Name + "=" + o.Value }

// Addr is an address with its on-link prefix, on a device. IPv6 addresses are
// made without duplicate address detection.
type Addr struct {
	NS     NS
	Dev    string
	Prefix netip.Prefix // host bits kept: 10.0.0.2/24
	Other  bool
	Second bool // of others: not one to be known by: behind another of its subnet, temporary, deprecated, or somebody else's too

	// Cut, of what is there: somebody deleted the route to the prefix that the kernel
	// made with it. A change makes that again.
	Cut bool
}

func (o Addr) foreign() bool { return o.Other }

// Key is the device and the whole prefix.
func (o Addr) Key() Key { return Key{KindAddr, o.NS.String() + " " + o.Dev + " " + o.Prefix.String()} }

// On is the device; an IPv6 address also stands on its being up.
func (o Addr) On() []Key {
	on := []Key{linkKey(o.NS, o.Dev)}
	if o.Prefix.Addr().Is6() {
		on = append(on, upKey(o.NS, o.Dev))
	}
	return on
}

// String is "addr PREFIX dev DEV".
func (o Addr) String() string {
	s := "addr " + o.Prefix.String() + " dev " + o.Dev
	if o.Cut {
		s += " without its route"
	}
	return o.NS.in(s)
}

// Hold keeps host ports First..Last of a protocol from being bound by any
// other program, as if a socket of ours held each of them.
type Hold struct {
	Proto       string     // "tcp" or "udp"
	Addr        netip.Addr // zero: on every address, IPv4 and IPv6
	First, Last uint16
}

// Key is everything in it.
func (o Hold) Key() Key { return Key{KindHold, o.String()} }

// On is empty.
func (o Hold) On() []Key { return nil }

// String is "hold tcp ADDR:FIRST-LAST", with * for every address.
func (o Hold) String() string {
	host := "*"
	if o.Addr.IsValid() {
		host = o.Addr.String()
		if o.Addr.Is6() {
			host = "[" + host + "]"
		}
	}
	s := "hold " + o.Proto + " " + host + ":" + strconv.Itoa(int(o.First))
	if o.Last != o.First {
		s += "-" + strconv.Itoa(int(o.Last))
	}
	return s
}

// File is a small text file under our run directory, written in place (it is
// bind-mounted into sandboxes, so its inode must stay).
type File struct {
	Path    string
	Content string
}

// Key is the path.
func (o File) Key() Key { return Key{KindFile, o.Path} }

// On is empty.
func (o File) On() []Key { return nil }

// String is the path, size and a digest of the content.
func (o File) String() string {
	sum := sha256.Sum256([]byte(o.Content))
	return fmt.Sprintf("file %s %d bytes %x", o.Path, len(o.Content), sum[:6])
}
