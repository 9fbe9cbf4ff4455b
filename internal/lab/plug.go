package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// port is where a host's interface is plugged in.
type port struct {
	sw   *Switch
	link netlink.Link
}

// Plug connects the host to sw by a new interface that has the given
// addresses, each with its prefix length. They can be used at once.
func (h *Host) Plug(sw *Switch, ifname string, addrs ...string) {
	h.t.Helper()
	if err := h.plug(sw, ifname, addrs); err != nil {
		h.t.Fatalf("%s: plug %s into %s: %v", h.Name, ifname, sw.Name, err)
	}
}

func (h *Host) plug(sw *Switch, ifname string, addrs []string) error {
	sw.ports++
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("port%d", sw.ports)
	attrs.MasterIndex = sw.bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: ifname, PeerNamespace: netlink.NsFd(h.netns().Fd()), PeerHardwareAddr: cardMAC()}
	if err := sw.handle.LinkAdd(veth); err != nil {
		return err
	}
	h.mu.Lock()
	h.ports[ifname] = port{sw, veth}
	h.mu.Unlock()
	if err := sw.handle.LinkSetUp(veth); err != nil {
		return err
	}
	if err := h.Do(func() error { return raise(ifname, addrs) }); err != nil {
		return err
	}
	return h.awaitCarrier(ifname)
}

// cardMAC returns a hardware address as of a network card, low as a maker's are:
// one of the kernel's choice could be higher than a container's, and a bridge
// with both takes the lowest (br_stp_recalculate_bridge_id).
func cardMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac) // never fails
	mac[0] = 0x02
	return mac
}

// carrierTimeout is more than the second by which the kernel may delay the
// news of a carrier.
const carrierTimeout = 5 * time.Second

// awaitCarrier waits until both ends of a cable are operational. Until the
// kernel has worked off the carrier's event, it drops what is sent.
func (h *Host) awaitCarrier(ifname string) error {
	h.mu.Lock()
	p := h.ports[ifname]
	h.mu.Unlock()
	up := func(l netlink.Link, err error) bool { return err == nil && l.Attrs().OperState == netlink.OperUp }
	return h.Do(func() error {
		for end := time.Now().Add(carrierTimeout); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if up(netlink.LinkByName(ifname)) && up(p.sw.handle.LinkByIndex(p.link.Attrs().Index)) {
				return nil
			}
		}
		return errors.New("no carrier")
	})
}

// raise gives an interface of this thread's namespace addresses and sets it
// up. Nobody else has its addresses, so none is kept waiting for a duplicate.
func raise(ifname string, addrs []string) error {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	dad := "/proc/sys/net/ipv6/conf/" + ifname + "/accept_dad"
	if err := os.WriteFile(dad, []byte("0"), 0o644); err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// Cut takes the carrier from an interface of the host, as a pulled cable does.
func (h *Host) Cut(ifname string) {
	h.t.Helper()
	h.cable(ifname, (*netlink.Handle).LinkSetDown)
}

// Mend gives the carrier back and waits until it is there.
func (h *Host) Mend(ifname string) {
	h.t.Helper()
	h.cable(ifname, (*netlink.Handle).LinkSetUp)
	if err := h.awaitCarrier(ifname); err != nil {
		h.t.Fatalf("%s: mend %s: %v", h.Name, ifname, err)
	}
}

func (h *Host) cable(ifname string, set func(*netlink.Handle, netlink.Link) error) {
	h.t.Helper()
	h.mu.Lock()
	p, ok := h.ports[ifname]
	h.mu.Unlock()
	if !ok {
		h.t.Fatalf("%s: %s: not plugged in", h.Name, ifname)
	}
	if err := set(p.sw.handle, p.link); err != nil {
		h.t.Fatalf("%s: %s: %v", h.Name, ifname, err)
	}
}

// Route adds a route by a gateway; dst is a prefix or "default", which means
// the gateway's address family.
func (h *Host) Route(dst, gateway string) {
	h.t.Helper()
	err := h.Do(func() error { return addRoute(dst, gateway) })
	if err != nil {
		h.t.Fatalf("%s: route %s via %s: %v", h.Name, dst, gateway, err)
	}
}

func addRoute(dst, gateway string) error {
	route := &netlink.Route{Gw: net.ParseIP(gateway)}
	if route.Gw == nil {
		return fmt.Errorf("gateway %q: no address", gateway)
	}
	if dst != "default" {
		_, prefix, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		route.Dst = prefix
	}
	return netlink.RouteAdd(route)
}
