package lab

import (
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NetNS makes a network namespace on the host that is nobody's container yet,
// with lo up, and returns its path there. `ip netns` on the host knows it too.
func (h *Host) NetNS(name string) string {
	h.t.Helper()
	h.Must("ip", "netns", "add", name)
	h.Must("ip", "-n", name, "link", "set", "lo", "up")
	return "/run/netns/" + name
}

// InNetNS calls body on this goroutine in a network namespace of its own, with
// lo up, that ends with body. Goroutines that body starts are not in it.
func InNetNS(t T, body func()) {
	t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("network namespace: %v", err)
	}
	defer func() {
		// A thread that cannot go home stays locked and ends with the test.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatalf("lo: %v", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatalf("lo: %v", err)
	}
	body()
}
