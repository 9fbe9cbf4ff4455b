package probe

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Limits asks for what holds a device to rates: a token bucket, and an IFB that
// what comes in can be sent through.
func Limits() error {
	return apart(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		at := netlink.NewLinkAttrs()
		at.Name = "probe0"
		if err := h.LinkAdd(&netlink.GenericLink{LinkAttrs: at, LinkType: "ifb"}); err != nil {
			return sure(fmt.Errorf("ifb: %w", err), unix.EOPNOTSUPP)
		}
		l, err := h.LinkByName(at.Name)
		if err != nil {
			return fmt.Errorf("find the ifb: %w", err)
		}
		return sure(limits(h, l.Attrs().Index), unix.ENOENT, unix.EOPNOTSUPP)
	})
}

// limits puts a device, which goes nowhere, under limits.
func limits(h *netlink.Handle, index int) error {
	root := netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)}
	if err := h.QdiscAdd(&netlink.Tbf{QdiscAttrs: root, Rate: 1_000_000, Limit: 10_000, Buffer: 1_000_000}); err != nil {
		return fmt.Errorf("tbf: %w", err)
	}
	hook := netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0)}
	if err := h.QdiscAdd(&netlink.Clsact{QdiscAttrs: hook}); err != nil {
		return fmt.Errorf("clsact: %w", err)
	}
	at := netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 1, Protocol: unix.ETH_P_ALL}
	if err := h.FilterAdd(&netlink.U32{FilterAttrs: at, Actions: []netlink.Action{netlink.NewMirredAction(index)}}); err != nil {
		return fmt.Errorf("u32 and mirred: %w", err)
	}
	return nil
}
