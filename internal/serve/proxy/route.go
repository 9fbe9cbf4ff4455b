package proxy

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// router asks the kernel's routing table.
type router struct{ handle *netlink.Handle }

func newRouter() (*router, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	return &router{h}, nil
}

func (r *router) close() { r.handle.Close() }

// local reports whether packets to addr stay on this host. No route is an error.
func (r *router) local(addr netip.Addr) (bool, error) {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true, nil
	}
	routes, err := r.handle.RouteGet(addr.Unmap().AsSlice())
	if err != nil {
		return false, fmt.Errorf("%s: route: %w", addr, err)
	}
	for _, route := range routes {
		if route.Type != unix.RTN_UNICAST {
			return true, nil
		}
	}
	return false, nil
}
