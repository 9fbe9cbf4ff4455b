package lab

import (
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// argHost is argv[0] of a host's first process.
const argHost = "sealane-lab-host"

// hostMain is pid 1 of a host: it furnishes the new namespaces, says so on
// stdout, and reaps orphans until stdin ends, which it does when the test
// closes the host or dies. The kernel then kills all that is left in the host.
func hostMain(name string) int {
	if err := furnish(name); err != nil {
		fmt.Println(err)
		return 1
	}
	go reap()
	fmt.Println(hostReady)
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// hostReady is what a furnished host says.
const hostReady = "furnished"

// mounts gives a host its own view of the kernel and empty places for state.
var mounts = []struct {
	fstype, dir, data string
	optional          bool // not every kernel or user namespace allows it
}{
	{fstype: "proc", dir: "/proc"},
	{fstype: "sysfs", dir: "/sys"},
	{fstype: "cgroup2", dir: "/sys/fs/cgroup", optional: true},
	{fstype: "bpf", dir: "/sys/fs/bpf", optional: true},
	{fstype: "tmpfs", dir: "/run", data: "mode=755"},
	{fstype: "tmpfs", dir: "/var/lib", data: "mode=755"},
}

func furnish(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount private: %w", err)
	}
	for _, m := range mounts {
		if err := unix.Mount(m.fstype, m.dir, m.fstype, 0, m.data); err != nil && !m.optional {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	// A new namespace inherits this from the machine, which may be a router.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0o644); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// reap collects orphans: a zombie would look like a process that still runs.
func reap() {
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	for range child {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
		}
	}
}
