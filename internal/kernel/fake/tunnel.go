package fake

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// checkTunnel refuses a link that cannot carry packets to other hosts, new or
// changed.
func (w *world) checkTunnel(o kstate.Link) error {
	if !o.Type.Tunnels() && o.Detour {
		return errors.New("detour is for tunnels")
	}
	if !o.Type.Tunnels() {
		return nil
	}
	if err := o.CheckTunnel(); err != nil {
		return err
	}
	room := 65535
	if o.Parent != "" {
		parent, ok := w.device(kstate.NS{}, o.Parent)
		if !ok || o.Parent == o.Name {
			return fmt.Errorf("parent: device %s %w", o.Parent, kernel.ErrMissing)
		}
		room = parent.MTU - o.VXLAN.Overhead()
	}
	if o.MTU != 0 && (o.MTU > room || o.MTU < 68) {
		return fmt.Errorf("mtu %d: out of range, which ends at %d", o.MTU, room)
	}
	if o.Type == kstate.TypeVXLAN {
		return w.checkVXLAN(o)
	}
	return nil
}

// checkVXLAN refuses a network that there is, and a port that another vxlan
// listens on in another way.
func (w *world) checkVXLAN(o kstate.Link) error {
	for _, have := range w.objs {
		l, ok := have.(kstate.Link)
		if !ok || l.Type != kstate.TypeVXLAN || l.Key() == o.Key() || l.VXLAN.Port != o.VXLAN.Port || l.VXLAN.Local.Is6() != o.VXLAN.Local.Is6() {
			continue
		}
		switch {
		case l.VXLAN.GBP == o.VXLAN.GBP && l.VXLAN.VNI == o.VXLAN.VNI:
			return fmt.Errorf("vni %d: is %s: %w", o.VXLAN.VNI, l.Name, kernel.ErrInUse)
		case l.VXLAN.GBP != o.VXLAN.GBP && l.Up && o.Up:
			return fmt.Errorf("udp port %d: %w", o.VXLAN.Port, kernel.ErrInUse)
		}
	}
	return nil
}

// furnish gives a new link what the kernel chooses.
func (w *world) furnish(o kstate.Link) kstate.Link {
	switch {
	case o.MTU == 0 && o.Type == kstate.TypeWireGuard:
		o.MTU = 1420
	case o.MTU == 0 && o.Type == kstate.TypeVXLAN && o.Parent != "":
		parent, _ := w.device(kstate.NS{}, o.Parent)
		o.MTU = parent.MTU - o.VXLAN.Overhead()
	case o.MTU == 0:
		o.MTU = 1500
	}
	if o.MAC == "" && o.Type.HasMAC() {
		o.MAC = mac(o.Index)
	}
	return o
}

// oneHost refuses addresses that are not of one host and one device.
func oneHost(ip netip.Addr, mac string) error {
	if !ip.IsValid() || ip.IsMulticast() || ip.IsUnspecified() || ip.Zone() != "" || ip.Is4In6() {
		return fmt.Errorf("%s: not an address of one host", ip)
	}
	hw, err := net.ParseMAC(mac)
	if err == nil && (len(hw) != 6 || hw[0]&1 != 0) {
		return fmt.Errorf("address %s: not one of one Ethernet device", mac)
	}
	return err
}

func (w *world) putNeigh(o kstate.Neigh) error {
	dev, ok := w.device(o.NS, o.Dev)
	switch {
	case !ok:
		return fmt.Errorf("device %s %w", o.Dev, kernel.ErrMissing)
	case dev.Other:
		return fmt.Errorf("device %s is not ours: %w", o.Dev, kernel.ErrInUse)
	case !dev.Type.HasMAC():
		return fmt.Errorf("device %s: a %s has no neighbours", o.Dev, dev.Type)
	}
	if err := oneHost(o.Addr, o.MAC); err != nil {
		return err
	}
	w.set(o)
	return nil
}

func (w *world) putFDB(o kstate.FDB) error {
	if err := w.own(o.Dev); err != nil {
		return err
	}
	dev, _ := w.device(kstate.NS{}, o.Dev)
	if dev.Type != kstate.TypeVXLAN {
		return fmt.Errorf("device %s is no vxlan", o.Dev)
	}
	if err := cmp.Or(oneHost(o.Dst, o.MAC), o.Check()); err != nil {
		return err
	}
	if o.Bridged && dev.Master == "" {
		return fmt.Errorf("device %s is no bridge port", o.Dev)
	}
	if o.Dst.Is6() != dev.VXLAN.Local.Is6() {
		return fmt.Errorf("%s: of another family than the device's local address: %w", o.Dst, kernel.ErrUnsupported)
	}
	w.set(o)
	return nil
}

// strangeMAC drops the neighbours of a device that got another hardware address.
func (w *world) strangeMAC(have, want kstate.Link) {
	if have.MAC != want.MAC || have.NoARP != want.NoARP {
		w.lonely(want.NS, want.Name, func(netip.Addr) bool { return true })
	}
	if have.Peer.MAC != want.Peer.MAC {
		w.lonely(want.Peer.NS, want.Peer.Name, func(netip.Addr) bool { return true })
	}
}

// unplugged has a bridge forget what it knew of a port that left it.
func (w *world) unplugged(have, want kstate.Link) {
	if have.Master == "" || have.Master == want.Master {
		return
	}
	for k, o := range w.objs {
		f, ok := o.(kstate.FDB)
		if !ok || !f.Bridged || f.Dev != want.Name {
			continue
		}
		if f.Bridged = false; f.Dst.IsValid() {
			w.objs[k] = f
		} else {
			delete(w.objs, k)
		}
	}
}

// lonely drops neighbours on a device.
func (w *world) lonely(ns kstate.NS, dev string, those func(netip.Addr) bool) {
	for k, o := range w.objs {
		if n, ok := o.(kstate.Neigh); ok && n.NS == ns && n.Dev == dev && those(n.Addr) {
			delete(w.objs, k)
		}
	}
}

// checkOnlink refuses a gateway that is the device itself.
func (w *world) checkOnlink(o kstate.Route) error {
	if !o.Onlink {
		return nil
	}
	for p := range w.addrs(o.NS, o.Dev) {
		if p.Addr() == o.Via {
			return fmt.Errorf("gateway %s is the host's own", o.Via)
		}
	}
	return nil
}

// putRule makes a rule, or has one do something else. Two of one priority that are for the
// same packets and not for them are two.
func (w *world) putRule(o kstate.Rule) error {
	if err := o.Check(); err != nil {
		return err
	}
	w.set(o)
	return nil
}
