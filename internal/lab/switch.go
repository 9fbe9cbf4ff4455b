package lab

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Switch is an Ethernet switch: a bridge in a namespace of its own that has
// no addresses and no rules. A file descriptor holds the namespace.
type Switch struct {
	Name string

	t      T
	ns     *os.File
	handle *netlink.Handle // of the namespace
	bridge netlink.Link
	ports  int
}

func newSwitch(t T, name string) (*Switch, error) {
	ns, err := newNetNS()
	if err != nil {
		return nil, err
	}
	s := &Switch{Name: name, t: t, ns: ns}
	if err := s.build(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *Switch) build() error {
	var err error
	if s.handle, err = netlink.NewHandleAt(netns.NsHandle(s.ns.Fd()), unix.NETLINK_ROUTE); err != nil {
		return err
	}
	// With snooping, multicast waits for a querier that is not there, and
	// with it neighbour discovery.
	snooping := false
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "switch"
	s.bridge = &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := s.handle.LinkAdd(s.bridge); err != nil {
		return err
	}
	return s.handle.LinkSetUp(s.bridge)
}

func (s *Switch) close() {
	if s.handle != nil {
		s.handle.Close()
	}
	s.ns.Close()
}

// newNetNS returns a new network namespace that lives while the file is open.
func newNetNS() (*os.File, error) {
	type result struct {
		ns  *os.File
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("new network namespace: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		done <- result{f, err}
	}()
	r := <-done
	return r.ns, r.err
}
