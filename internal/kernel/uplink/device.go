package uplink

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// device is a link of this namespace.
type device struct {
	index, master, lower int // lower: of a VLAN or macvlan, what it is on
	name, kind           string
	alias                string
	group                uint32
	mtu                  int
	mac                  net.HardwareAddr
	up, running          bool
	ether, loopback      bool
}

// operUp is IF_OPER_UP of include/uapi/linux/if.h.
const operUp = 6

// The kinds of device that matter here, as rtnetlink calls them.
const (
	kindBridge = "bridge"
	kindOVS    = "openvswitch"
)

// linkHeader is struct ifinfomsg.
func linkHeader(index int, flags, change uint32) []byte {
	b := []byte{unix.AF_UNSPEC, 0, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

func parseDevice(b []byte) (d device, ok bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return d, false
	}
	flags := binary.NativeEndian.Uint32(b[8:])
	d = device{
		index: int(int32(binary.NativeEndian.Uint32(b[4:]))), up: flags&unix.IFF_UP != 0,
		ether: binary.NativeEndian.Uint16(b[2:]) == unix.ARPHRD_ETHER, loopback: flags&unix.IFF_LOOPBACK != 0,
	}
	for _, a := range split(b[unix.SizeofIfInfomsg:]) {
		switch a.typ & typeMask {
		case unix.IFLA_IFNAME:
			d.name = text(a.data)
		case unix.IFLA_IFALIAS:
			d.alias = text(a.data)
		case unix.IFLA_MTU:
			d.mtu = int(number(a.data))
		case unix.IFLA_GROUP:
			d.group = number(a.data)
		case unix.IFLA_ADDRESS:
			d.mac = a.data
		case unix.IFLA_MASTER:
			d.master = int(number(a.data))
		case unix.IFLA_LINK:
			d.lower = int(number(a.data))
		case unix.IFLA_OPERSTATE:
			d.running = len(a.data) == 1 && a.data[0] == operUp
		case unix.IFLA_LINKINFO:
			d.kind = text(find(split(a.data), unix.IFLA_INFO_KIND))
		}
	}
	return d, true
}

// devices returns all links by name. The kernel leaves out those that are not as the
// attributes say, of which it knows IFLA_MASTER and IFLA_LINKINFO's kind.
func (c conn) devices(as ...attr) (map[string]device, error) {
	bodies, err := c.list(unix.RTM_GETLINK, join(linkHeader(0, 0, 0), as))
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	all := make(map[string]device, len(bodies))
	for _, b := range bodies {
		if d, ok := parseDevice(b); ok {
			all[d.name] = d
		}
	}
	return all, nil
}

// named is the name of the device with an index.
func named(all map[string]device, index int) string {
	for name, d := range all {
		if d.index == index {
			return name
		}
	}
	return ""
}

// device returns a link as it is now.
func (c conn) device(index int) (device, error) {
	msgs, err := c.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: linkHeader(index, 0, 0)})
	if err != nil {
		return device{}, plain(err)
	}
	for _, m := range msgs {
		if d, ok := parseDevice(m.Data); ok {
			return d, nil
		}
	}
	return device{}, unix.ENODEV
}

// change alters a link: its flags, where they are in mask, and attributes.
func (c conn) change(index int, flags, mask uint32, attrs ...attr) error {
	return c.do(unix.RTM_NEWLINK, 0, join(linkHeader(index, flags, mask), attrs))
}

func (c conn) setUp(index int, up bool) error {
	flags := uint32(0)
	if up {
		flags = unix.IFF_UP
	}
	return c.change(index, flags, unix.IFF_UP)
}

// setMaster makes a device a port; master 0 releases it.
func (c conn) setMaster(index, master int) error {
	return c.change(index, 0, 0, uint32Attr(unix.IFLA_MASTER, uint32(master)))
}

// ownAlias is what a bridge of ours is known by: no link group, for it is to be
// used as any other bridge, and adopted.
func ownAlias(nic string) string { return ownPrefix + nic }

const ownPrefix = "sealane uplink "

// own reports whether a device is a bridge that was made for a NIC.
func (d device) own() bool { return d.kind == kindBridge && strings.HasPrefix(d.alias, ownPrefix) }

// genModeNone is IN6_ADDR_GEN_MODE_NONE of include/uapi/linux/if_link.h: no
// link-local address is made.
const genModeNone = 1

// makeBridge makes a bridge that is as quick to take part as a cable: without
// spanning tree, and without multicast snooping, which would wait for a querier
// that a network need not have.
func (c conn) makeBridge(name, alias string, mac net.HardwareAddr) error {
	text := func(s string) []byte { return append([]byte(s), 0) }
	data := join(nil, []attr{uint32Attr(unix.IFLA_BR_STP_STATE, 0), {unix.IFLA_BR_MCAST_SNOOPING, []byte{0}}})
	info := join(nil, []attr{{unix.IFLA_INFO_KIND, text(kindBridge)}, {unix.IFLA_INFO_DATA, data}})
	err := c.do(unix.RTM_NEWLINK, netlink.Create|netlink.Excl, join(linkHeader(0, 0, 0), []attr{
		{unix.IFLA_IFNAME, text(name)}, {unix.IFLA_ADDRESS, mac}, {unix.IFLA_LINKINFO, info},
	}))
	if err != nil {
		return err
	}
	all, err := c.devices()
	if err != nil {
		return err
	}
	inet6 := join(nil, []attr{{unix.IFLA_INET6_ADDR_GEN_MODE, []byte{genModeNone}}})
	spec := join(nil, []attr{{unix.AF_INET6, inet6}})
	_ = c.change(all[name].index, 0, 0, attr{unix.IFLA_AF_SPEC, spec}) // where there is no IPv6, there is nothing to be kept from
	return c.change(all[name].index, 0, 0, attr{unix.IFLA_IFALIAS, text(alias)})
}

func (c conn) removeDevice(index int) error {
	return gone(c.do(unix.RTM_DELLINK, 0, linkHeader(index, 0, 0)))
}
