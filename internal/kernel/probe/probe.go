// Package probe asks the kernel what it can do, by doing it once where it does
// no harm: in a network namespace made for the question. Every answer is nil
// for yes, an error that wraps kernel.ErrUnsupported for a sure no, or another
// error when it could not be found out, mostly for want of privileges.
//
// What the answers mean to people is package feature's; what needs more than a
// question, such as holding ports, answers for itself in its own package.
package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// apart runs f on a thread in a new network namespace. Both end with f.
func apart(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// sure adds kernel.ErrUnsupported to errors that are one of no.
func sure(err error, no ...error) error {
	if slices.ContainsFunc(no, func(e error) bool { return errors.Is(err, e) }) {
		return fmt.Errorf("%w: %w", kernel.ErrUnsupported, err)
	}
	return err
}

// Nftables asks for nftables with NAT chains in the inet family and with chains
// in the bridge family.
func Nftables() error {
	return apart(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "probe"})
		c.AddChain(&nftables.Chain{
			Table: table, Name: "probe", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		table = c.AddTable(&nftables.Table{Family: nftables.TableFamilyBridge, Name: "probe"})
		c.AddChain(&nftables.Chain{
			Table: table, Name: "probe", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter,
		})
		return sure(c.Flush(), unix.ENOENT, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT)
	})
}

// AllNSID asks for netlink sockets that hear from all namespaces that have a
// number in the socket's own (NETLINK_LISTEN_ALL_NSID).
func AllNSID() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	return sure(os.NewSyscallError("setsockopt", err), unix.ENOPROTOOPT)
}

// IPv6 asks for IPv6 sockets.
func IPv6() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return sure(os.NewSyscallError("socket", err), unix.EAFNOSUPPORT)
	}
	return unix.Close(fd)
}

// bridgeSettings is where br_netfilter has its switches, if it is there.
const bridgeSettings = "/proc/sys/net/bridge"

// BridgeNetfilter asks for br_netfilter, which sends bridged frames through
// the packet filter of IP. It may come and go as a module.
func BridgeNetfilter() error {
	_, err := os.Stat(bridgeSettings)
	return sure(err, fs.ErrNotExist)
}

// BridgeCalls returns the switches of br_netfilter that are on in the calling
// thread's network namespace, such as "bridge-nf-call-iptables". Without
// br_netfilter there are none.
func BridgeCalls() ([]string, error) {
	paths, err := filepath.Glob(bridgeSettings + "/bridge-nf-call-*")
	if err != nil {
		return nil, err
	}
	var on []string
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		if strings.TrimSpace(string(b)) != "0" {
			on = append(on, filepath.Base(p))
		}
	}
	return on, nil
}

// Link asks for a type of network device, as in `ip link add type …`, by
// making one. Types that stand on another device are given a veth.
func Link(typ string) error {
	return apart(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		link, err := sample(h, typ)
		if err != nil {
			return err
		}
		return sure(h.LinkAdd(link), unix.EOPNOTSUPP)
	})
}

// sample returns a device of a type that can be made.
func sample(h *netlink.Handle, typ string) (netlink.Link, error) {
	at := netlink.LinkAttrs{Name: "probe0"}
	switch typ {
	case "veth":
		return &netlink.Veth{LinkAttrs: at, PeerName: "probe1"}, nil
	case "vxlan":
		return &netlink.Vxlan{LinkAttrs: at, VxlanId: 1, Port: 4789}, nil
	case "macvlan", "ipvlan", "vlan":
	default:
		return &netlink.GenericLink{LinkAttrs: at, LinkType: typ}, nil
	}
	parent := netlink.LinkAttrs{Name: "parent0"}
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: parent, PeerName: "parent1"}); err != nil {
		return nil, fmt.Errorf("make a parent device: %w", err)
	}
	l, err := h.LinkByName(parent.Name)
	if err != nil {
		return nil, fmt.Errorf("find the parent device: %w", err)
	}
	at.ParentIndex = l.Attrs().Index
	switch typ {
	case "macvlan":
		return &netlink.Macvlan{LinkAttrs: at, Mode: netlink.MACVLAN_MODE_BRIDGE}, nil
	case "ipvlan":
		return &netlink.IPVlan{LinkAttrs: at, Mode: netlink.IPVLAN_MODE_L2}, nil
	}
	return &netlink.Vlan{LinkAttrs: at, VlanId: 2, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}, nil
}
