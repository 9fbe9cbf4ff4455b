package rtnl

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// Marks. The link groups are ours alone; a device in groupDoomed is as good
// as removed: it is down, and the reaper takes it. One in groupHanded is ours in
// the host's namespace, and elsewhere that of who took it there. Ports that have a
// name of somebody's choice are in kstate.GroupNamed.
const (
	groupOurs   = 0x5ea1
	groupDoomed = 0x5ea2
	groupHanded = 0x5ea4
	protocol    = 83 // of our routes, see rt_protos in iproute2 for others
)

// noNSID is a device's nsid when its far end is in the same namespace.
const noNSID = -1

// Constants of the kernel that x/sys lacks: linux/veth.h, linux/if_link.h,
// linux/rtnetlink.h, linux/ip.h.
const (
	vethInfoPeer        = 1
	in6AddrGenModeNone  = 1
	extFilterSkipStats  = 1 << 3
	ipv4DevconfRedirect = 6 // IPV4_DEVCONF_SEND_REDIRECTS
	ipv4DevconfReverse  = 8 // IPV4_DEVCONF_RP_FILTER
	ipv4DevconfPromote  = 20
	ipv4DevconfProxyARP = 25 // IPV4_DEVCONF_PROXY_ARP_PVLAN
	ipv4DevconfLocalnet = 26
)

// device is a link as the kernel reports it.
type device struct {
	index  int
	name   string
	kind   string // of rtnetlink; "loopback", or "ether" for hardware
	group  int
	mtu    int
	mac    string
	up     bool
	master int // index
	far    int // index of a veth's other end
	nsid   int // where that is, as a number of this namespace
	alias  string

	isolated, hairpin, groups, localnet, proxyARP, noARP, detour bool

	unlearnt, dry, mute bool // of a port: see known

	mode, flag string // of a device on another one, see kstate.Link
	vlan       int
	vxlan      kstate.VXLAN
	under      int  // index of the device that a vxlan's packets leave by
	idle       bool // up, without a carrier

	sorting bool // a bridge that sorts by VLAN
	tag     int  // of a bridge that sorts, or of a port of one, see kstate.Link
	tags    string

	promote bool // IPv4 addresses go without others of their subnet
	planned bool // not there yet: it will be made by this pass, and be ours
}

// ours reports whether a device of the host's is ours. One whose parent is
// elsewhere was put here by somebody else's daemon.
func (d device) ours() bool {
	return d.group == kstate.GroupNamed || d.group == groupOurs && (d.nsid == noNSID || !d.onParent())
}

func (d device) doomed() bool { return d.group == groupDoomed }

// nearer reports whether a veth in the host's namespace is the near end of its
// pair, which has the lower index.
func (d device) nearer() bool {
	return (d.ours() || d.doomed()) && (d.nsid != noNSID || d.index < d.far)
}

// parseDevice reads the body of an RTM_NEWLINK.
func parseDevice(b []byte) device {
	if len(b) < unix.SizeofIfInfomsg {
		return device{}
	}
	flags := native.Uint32(b[8:])
	d := device{index: int(int32(native.Uint32(b[4:]))), up: flags&unix.IFF_UP != 0, noARP: flags&unix.IFF_NOARP != 0, nsid: noNSID}
	if native.Uint16(b[2:]) == unix.ARPHRD_ETHER {
		d.kind = "ether"
	}
	d.idle = d.up && !carrier(flags)
	attrs(b[unix.SizeofIfInfomsg:], d.attr)
	if flags&unix.IFF_LOOPBACK != 0 {
		d.kind = string(kstate.TypeLoopback)
	}
	return d
}

func (d *device) attr(typ uint16, v []byte) {
	switch typ {
	case unix.IFLA_IFNAME:
		d.name = text(v)
	case unix.IFLA_GROUP:
		d.group = int(u32(v))
	case unix.IFLA_MTU:
		d.mtu = int(u32(v))
	case unix.IFLA_ADDRESS:
		d.mac = net.HardwareAddr(v).String()
	case unix.IFLA_MASTER:
		d.master = int(u32(v))
	case unix.IFLA_LINK:
		d.far = int(u32(v))
	case unix.IFLA_LINK_NETNSID:
		d.nsid = int(int32(u32(v)))
	case unix.IFLA_IFALIAS:
		d.alias = text(v)
	case unix.IFLA_LINKINFO:
		d.info(v)
	case unix.IFLA_AF_SPEC:
		attrs(v, d.family)
	}
}

// info reads IFLA_LINKINFO, in which the kind of master comes before what it
// keeps about its port.
func (d *device) info(b []byte) {
	bridged := false
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			d.kind = text(v)
		case unix.IFLA_INFO_DATA:
			d.lowerData(v)
			d.vxlanData(v)
			d.bridgeData(v)
		case unix.IFLA_INFO_SLAVE_KIND:
			bridged = text(v) == string(kstate.TypeBridge)
		case unix.IFLA_INFO_SLAVE_DATA:
			if bridged {
				attrs(v, d.port)
			}
		}
	})
}

// port reads what a bridge keeps about its port.
func (d *device) port(typ uint16, v []byte) {
	switch typ {
	case unix.IFLA_BRPORT_ISOLATED:
		d.isolated = u8(v) != 0
	case unix.IFLA_BRPORT_MODE:
		d.hairpin = u8(v) != 0
	case unix.IFLA_BRPORT_GROUP_FWD_MASK:
		d.groups = u16(v) == allGroups
	case unix.IFLA_BRPORT_LEARNING:
		d.unlearnt = u8(v) == 0
	case unix.IFLA_BRPORT_UNICAST_FLOOD:
		d.dry = u8(v) == 0
	case unix.IFLA_BRPORT_MCAST_FLOOD, unix.IFLA_BRPORT_BCAST_FLOOD:
		d.mute = d.mute || u8(v) == 0
	}
}

// known reports whether the port is as [kstate.Link.Known] has it: the bridge does not
// learn from it, and does not flood it but with what is for all or for many.
func (d device) known() bool { return d.unlearnt && d.dry && !d.mute }

// family reads IFLA_AF_SPEC: IFLA_INET_CONF is an array of settings, the one
// with number n at n-1 (inet_fill_link_af in net/ipv4/devinet.c).
func (d *device) family(typ uint16, v []byte) {
	if typ != unix.AF_INET {
		return
	}
	attrs(v, func(typ uint16, v []byte) {
		if typ == unix.IFLA_INET_CONF && len(v) >= 4*ipv4DevconfLocalnet {
			d.localnet = u32(v[4*(ipv4DevconfLocalnet-1):]) != 0
			d.proxyARP = u32(v[4*(ipv4DevconfProxyARP-1):]) != 0
			d.detour = u32(v[4*(ipv4DevconfReverse-1):]) == 0 && u32(v[4*(ipv4DevconfRedirect-1):]) == 0
			d.promote = u32(v[4*(ipv4DevconfPromote-1):]) != 0
		}
	})
}

// getDevice is a request for one device, by name or, if that is empty, by
// index, or with neither for all.
func getDevice(name string, index int) *message {
	m := newMessage(unix.RTM_GETLINK, 0).link(unix.AF_UNSPEC, index, 0, 0)
	if name != "" {
		m.str(unix.IFLA_IFNAME, name)
	}
	return m.u32(unix.IFLA_EXT_MASK, extFilterSkipStats)
}

func (s *socket) devices(ctx context.Context) ([]device, error) {
	request := func() *message { return getDevice("", 0) }
	all, err := dump(ctx, s, request, func(b []byte) (device, bool) { return parseDevice(b), true })
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return all, nil
}

// end is the other end of a veth of ours where it was found.
type end struct {
	device
	ns     kstate.NS
	master string // its name; known in the host's namespace only
}

// asMaster returns the name by which a device is master of others: "" for that
// of Open vSwitch, which it gives all its ports (netdev_create in
// net/openvswitch/vport-netdev.c), and which are kept in its database.
func (d device) asMaster() string {
	if d.kind == "openvswitch" {
		return ""
	}
	return d.name
}

// link returns a device as an object. master is the name of its master, far
// the other end of a veth of ours if it is in sight.
func (d device) link(ns kstate.NS, master string, far *end) kstate.Link {
	l := kstate.Link{
		NS: ns, Name: d.name, Type: kstate.LinkType(d.kind), MTU: d.mtu, MAC: d.mac, Up: d.up, Master: master,
		Isolated: d.isolated, Hairpin: d.hairpin, GroupForward: d.groups, Known: d.known(), Localnet: d.localnet, ProxyARP: d.proxyARP, NoARP: d.noARP && kstate.LinkType(d.kind).HasMAC(), Detour: d.detour && kstate.LinkType(d.kind).Tunnels(),
		Alias: d.alias, Other: !d.ours() || !ns.IsHost(), Index: d.index, NoCarrier: d.idle,
		Mode: d.mode, Flag: d.flag, VLAN: d.vlan, VXLAN: d.vxlan, Sorting: d.sorting, Tag: d.tag, Tags: d.tags,
	}
	if far != nil {
		l.Peer = kstate.Peer{NS: far.ns, Name: far.name, MAC: far.mac}
		if far.ns.IsHost() {
			l.Peer.Master, l.Peer.Isolated = far.master, far.isolated
		}
		waits := far.ns.IsHost() && far.master == "" // for somebody to take it
		l.Up = d.up && (far.up || waits)
	}
	return l
}
