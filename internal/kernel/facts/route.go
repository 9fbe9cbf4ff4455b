package facts

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"github.com/mdlayher/netlink"
)

// SideRoutes lists where the routes of others lead, of all tables but the main one,
// without default routes: VPNs keep theirs in such tables (wg-quick, strongSwan,
// tailscaled), and rules of theirs ask them first. It returns nil when the kernel
// does not tell.
func SideRoutes() []netip.Prefix {
	b, err := syscall.NetlinkRIB(syscall.RTM_GETROUTE, syscall.AF_UNSPEC)
	if err != nil {
		return nil
	}
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil
	}
	return sideRoutes(msgs)
}

func sideRoutes(msgs []syscall.NetlinkMessage) []netip.Prefix {
	var out []netip.Prefix
	for i := range msgs {
		if p, ok := sideRoute(&msgs[i]); ok {
			out = append(out, p)
		}
	}
	return out
}

// ours is the protocol of our own routes.
const ours = 83

// rtmCloned is RTM_F_CLONED of include/uapi/linux/rtnetlink.h: the kernel's
// memory of one destination.
const rtmCloned = 0x200

// sideRoute reads an RTM_NEWROUTE (rtnetlink(7)):
//
//	 0        1         2         3     4       5          6       7      8
//	┌────────┬─────────┬─────────┬─────┬───────┬──────────┬───────┬──────┬───────┐
//	│ family │ dst bits│ src bits│ tos │ table │ protocol │ scope │ type │ flags │ attributes
//	└────────┴─────────┴─────────┴─────┴───────┴──────────┴───────┴──────┴───────┘
func sideRoute(m *syscall.NetlinkMessage) (netip.Prefix, bool) {
	if m.Header.Type != syscall.RTM_NEWROUTE || len(m.Data) < syscall.SizeofRtMsg {
		return netip.Prefix{}, false
	}
	bits, table, typ, flags := int(m.Data[1]), uint32(m.Data[4]), m.Data[7], binary.NativeEndian.Uint32(m.Data[8:])
	if bits == 0 || m.Data[5] == ours || typ != syscall.RTN_UNICAST || flags&rtmCloned != 0 {
		return netip.Prefix{}, false
	}
	attrs, err := netlink.NewAttributeDecoder(m.Data[syscall.SizeofRtMsg:])
	if err != nil {
		return netip.Prefix{}, false
	}
	var dst netip.Addr
	for attrs.Next() {
		switch attrs.Type() {
		case syscall.RTA_DST:
			dst, _ = netip.AddrFromSlice(attrs.Bytes())
		case syscall.RTA_TABLE:
			table = attrs.Uint32()
		}
	}
	p := netip.PrefixFrom(dst, bits)
	side := table != syscall.RT_TABLE_MAIN && table != syscall.RT_TABLE_LOCAL
	return p, attrs.Err() == nil && side && p.IsValid() && !dst.IsLinkLocalUnicast() && !dst.IsMulticast()
}
