package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// established is the state of a TCP flow that is open (TCP_CONNTRACK_ESTABLISHED).
const established = 3

// Flows lists the flows of the calling thread's namespace that are sent elsewhere than
// was asked, those of TCP while they are open. It reads the whole flow table.
func Flows() ([]kernel.Flow, error) {
	var out []kernel.Flow
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		all, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			errs = append(errs, fmt.Errorf("conntrack: list flows: %w", err))
		}
		for _, f := range all {
			if found, ok := rewritten(f); ok {
				out = append(out, found)
			}
		}
	}
	return out, errors.Join(errs...)
}

func rewritten(f *netlink.ConntrackFlow) (out kernel.Flow, ok bool) {
	asked, _ := netip.AddrFromSlice(f.Forward.DstIP)
	served, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
	out.Asked, out.Served = netip.AddrPortFrom(asked.Unmap(), f.Forward.DstPort), netip.AddrPortFrom(served.Unmap(), f.Reverse.SrcPort)
	switch f.Forward.Protocol {
	case unix.IPPROTO_TCP:
		tcp, known := f.ProtoInfo.(*netlink.ProtoInfoTCP)
		out.Proto, ok = "tcp", known && tcp.State == established
	case unix.IPPROTO_UDP:
		out.Proto, ok = "udp", true
	}
	return out, ok && out.Asked != out.Served
}
