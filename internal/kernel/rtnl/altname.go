package rtnl

import "golang.org/x/sys/unix"

// altName is a message that gives a device another name, since Linux 5.5.
func altName(index int, name string) *message {
	m := newMessage(unix.RTM_NEWLINKPROP, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_APPEND).link(unix.AF_UNSPEC, index, 0, 0)
	return m.nest(unix.IFLA_PROP_LIST, func() { m.str(unix.IFLA_ALT_IFNAME, name) })
}
