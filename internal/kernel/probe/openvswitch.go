package probe

import (
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OpenVSwitch asks for the kernel's datapath of Open vSwitch: a family of generic
// netlink, whose module comes when it is asked for.
func OpenVSwitch() error {
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	return sure(err, unix.ENOENT)
}
