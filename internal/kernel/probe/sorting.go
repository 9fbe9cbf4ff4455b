package probe

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// Sorting asks for bridges that sort frames by VLAN. A kernel that has none takes
// the option without a word, and does not list it.
func Sorting() error {
	return apart(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		on := true
		at := netlink.NewLinkAttrs()
		at.Name = "probe0"
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: at, VlanFiltering: &on}); err != nil {
			return sure(fmt.Errorf("bridge: %w", err), unix.EOPNOTSUPP)
		}
		l, err := h.LinkByName(at.Name)
		if err != nil {
			return fmt.Errorf("find the bridge: %w", err)
		}
		if b, ok := l.(*netlink.Bridge); !ok || b.VlanFiltering == nil || !*b.VlanFiltering {
			return fmt.Errorf("%w: the bridge does not sort", kernel.ErrUnsupported)
		}
		return nil
	})
}
