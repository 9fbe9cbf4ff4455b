package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// hostSpace is the host's own network namespace, as a path there.
const hostSpace = "/proc/1/ns/net"

// configure sets an interface of the thread's namespace up with an address.
func configure(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
}

// within calls fn on a thread in a namespace, on one processor.
func (h *host) within(path string, cpu int, fn func() error) error {
	f, err := os.Open(h.path(path))
	if err != nil {
		return err
	}
	defer f.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		var cpus unix.CPUSet
		cpus.Set(cpu % runtime.NumCPU())
		err := unix.SchedSetaffinity(0, &cpus)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// ownAddress is the IPv4 address of eth0 in the thread's namespace.
func ownAddress() (netip.Addr, error) {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("eth0: no address: %w", err)
	}
	a, _ := netip.AddrFromSlice(addrs[0].IP.To4())
	return a, nil
}

// What a wire has at its ends.
const (
	wireNear = "192.168.98.1"
	wireFar  = "192.168.98.2"
)

// The processors of what goes by a wire: another machine has its own.
const (
	farCPU  = 0
	hostCPU = 1
)

// wire makes a namespace that is another machine: a veth leads from there to the
// host, which is wireNear. What comes in at either end is handled by the
// processor of that end. It returns the namespace's path.
func (h *host) wire() (string, error) {
	paths, err := h.spaces("far", 1)
	if err != nil {
		return "", err
	}
	far, err := netns.GetFromPath(h.path(paths[0]))
	if err != nil {
		return "", err
	}
	defer far.Close()
	err = h.do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wire0", MTU: bareMTU, TxQLen: -1}, PeerName: "eth0", PeerMTU: bareMTU, PeerNamespace: netlink.NsFd(far)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		return errors.Join(configure("wire0", wireNear+"/24"), steer("wire0", hostCPU))
	})
	if err != nil {
		return "", fmt.Errorf("wire: %w", err)
	}
	return paths[0], h.within(paths[0], farCPU, func() error {
		return errors.Join(configure("eth0", wireFar+"/24"), ownSysfs(), steer("eth0", farCPU))
	})
}

// ownSysfs mounts the sysfs of the thread's network namespace, for it alone.
func ownSysfs() error {
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("sysfs", "/sys", "sysfs", 0, "")
	}
	return err
}

// steer has a processor handle what an interface receives (Documentation/networking/scaling.rst).
func steer(name string, cpu int) error {
	mask := fmt.Sprintf("%x", 1<<(cpu%runtime.NumCPU()))
	return os.WriteFile("/sys/class/net/"+name+"/queues/rx-0/rps_cpus", []byte(mask), 0)
}
