package uplink

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// mover carries one move out, or back. It holds the lock.
type mover struct {
	conn
	dir      Dir
	rec      *record
	switches switches
	away     bool // Open vSwitch could not be told that the NIC is no port of its any more
}

// switches connects ports to switches that are not the kernel's own bridges.
type switches interface {
	// Has reports whether a device is one.
	Has(bridge string) (bool, error)
	// TakesWhole reports whether it takes frames from devices as they are, and none
	// larger than its MTU.
	TakesWhole(bridge string) (bool, error)
	// PortOf returns the bridge that a device is a port of, or "". While Open vSwitch
	// does not run it is a kernel.ErrNotRunning.
	PortOf(device string) (string, error)
	// Addr returns the hardware address that it is told to have by others, or nil.
	Addr(bridge string) (net.HardwareAddr, error)
	// HoldAddr tells it to have one whatever ports it gets, nil for none, unless others did.
	HoldAddr(bridge string, mac net.HardwareAddr) error
	AddPort(bridge, port string) error
	DelPort(bridge, port string) error
}

// ends returns both devices, with index 0 for one that is not there. A bridge that
// was made since, and has not the NIC, has but the name of the one that was attached to.
func (m *mover) ends() (nic, bridge device, err error) {
	all, err := m.devices()
	nic, bridge = all[m.rec.NIC], all[m.rec.Bridge]
	if m.rec.Phase != attaching && !m.rec.Made && bridge.kind == kindBridge && bridge.index != m.rec.On.Index && bridge.index != nic.master {
		bridge = device{}
	}
	return nic, bridge, err
}

// step is one of the steps of a move, named for what goes wrong in it.
type step struct {
	name string
	do   func() error
}

func run(steps []step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// attach moves items under the bridge. What is done already is not done again.
func (m *mover) attach(it items) error {
	nic, br, err := m.ends()
	if err != nil {
		return err
	}
	if nic.index == 0 {
		return fmt.Errorf("device %s: %w", m.rec.NIC, unix.ENODEV)
	}
	if br.index == 0 && !m.rec.Made {
		return fmt.Errorf("bridge %s: %w", m.rec.Bridge, unix.ENODEV)
	}
	if br.index == 0 {
		if err := m.makeBridge(m.rec.Bridge, ownAlias(m.rec.NIC), nic.mac); err != nil {
			return fmt.Errorf("make bridge %s: %w", m.rec.Bridge, err)
		}
		if _, br, err = m.ends(); err != nil {
			return err
		}
	}
	values := inherited(m.rec.Port.Settings, readSettings(br.name))
	values[rpFilter] = lenient
	return run([]step{
		{"features of " + nic.name, func() error { return m.separate(nic) }},
		{"settings of " + br.name, func() error { return m.writeSettings(br.name, values) }},
		{"set up " + br.name, func() error { return m.furnish(nic, br) }},
		{"addresses of " + br.name, func() error { return m.giveAddresses(it, br) }},
		{"neighbours of " + br.name, func() error { return m.giveNeighbours(it, br) }},
		{"addresses of " + br.name, func() error { m.await(it, br); return nil }},
		{"put " + nic.name + " into " + br.name, func() error { return m.enslave(nic, br) }},
		{"neighbours of " + br.name, func() error { return m.giveNeighbours(it.proxies(), br) }}, // older kernels forget them without a carrier
		{"routes by " + br.name, func() error { return m.moveRoutes(it, nic, br, items{}) }},
		{"addresses of " + nic.name, func() error { return m.takeAddresses(it, nic, items{}, false) }},
		{"what is left on " + nic.name, func() error { return m.sweep(nic, br) }},
		{"settings of " + br.name, func() error { return m.writeSettings(br.name, m.strictAgain()) }},
		{"settings of " + nic.name, func() error { return m.writeSettings(nic.name, m.strictAgain()) }}, // a detach may have been cut off
		{"addresses of " + br.name, func() error { return m.settle(it, br) }},
		{"neighbours of " + br.name, func() error { return m.tell(it, nic.mac, br.index) }},
	})
}

// furnish gives the bridge the NIC's hardware address and MTU: leases of addresses
// are by the one, and routes have the other. It is set up.
func (m *mover) furnish(nic, br device) error {
	if err := m.furnishMAC(nic, br); err != nil {
		return err
	}
	if br.mtu != nic.mtu && !m.rec.KeepMTU {
		if err := m.change(br.index, 0, 0, uint32Attr(unix.IFLA_MTU, uint32(nic.mtu))); err != nil {
			return err
		}
	}
	if br.up {
		return nil
	}
	return m.setUp(br.index, true)
}

// furnishMAC gives the bridge the NIC's hardware address for good. Open vSwitch is told so
// when the bridge has it: to change it, it would set the bridge down, which costs what
// there is of IPv6. For one that was told another by somebody, that is its own.
func (m *mover) furnishMAC(nic, br device) error {
	want := nic.mac
	if br.kind != kindBridge {
		theirs, err := m.switches.Addr(br.name)
		if err != nil {
			return err
		}
		if theirs != nil {
			want = theirs
		}
	}
	if !bytes.Equal(br.mac, want) {
		if err := m.setMAC(br, want); err != nil {
			return err
		}
	}
	if br.kind == kindBridge {
		return nil
	}
	m.before()
	return m.switches.HoldAddr(br.name, nic.mac)
}

// tell tells neighbours of addresses that moved to a device if they knew them by another
// hardware address.
func (m *mover) tell(it items, known net.HardwareAddr, index int) error {
	on, err := m.device(index)
	if err == nil && !bytes.Equal(known, on.mac) {
		announce(on, it)
	}
	return gone(err)
}

// setMAC changes a bridge's hardware address. The kernel forgets the neighbours then,
// also those that somebody put there, and tells nobody.
func (m *mover) setMAC(br device, mac []byte) error {
	if err := m.change(br.index, 0, 0, attr{unix.IFLA_ADDRESS, mac}); err != nil {
		return err
	}
	br.mac = mac
	if br.up {
		announce(br, m.rec.On.Items)
	}
	return m.giveNeighbours(m.rec.On.Items.movable(), br)
}

// giveAddresses puts addresses on a device. A link-local one that it has stays as it
// is: nothing takes it away.
func (m *mover) giveAddresses(it items, to device) error {
	list, err := m.addresses(to.index)
	if err != nil {
		return err
	}
	has := items{Addresses: list}
	for _, a := range it.Addresses {
		if a.linkLocal() && has.hasAddress(a) {
			continue
		}
		if err := m.do(unix.RTM_NEWADDR, netlink.Create|netlink.Replace, a.on(to, true)); err != nil {
			return fmt.Errorf("%s: %w", a.prefix(), err)
		}
	}
	return nil
}

func (m *mover) giveNeighbours(it items, to device) error {
	for _, n := range it.Neighbours {
		err := m.do(unix.RTM_NEWNEIGH, netlink.Create|netlink.Replace, n.neighbourOn(to))
		if err != nil && n.permanent() { // others are but known sooner
			return fmt.Errorf("%s: %w", n.neighbourAddr(), err)
		}
	}
	return nil
}

// enslave makes the NIC a port, and waits until the bridge sends: that begins with
// an event that the kernel works off a moment later (linkwatch).
func (m *mover) enslave(nic, br device) error {
	if !nic.up {
		if err := m.setUp(nic.index, true); err != nil {
			return err
		}
	}
	if br.kind != kindBridge {
		m.before()
		return m.switches.AddPort(br.name, nic.name)
	}
	if nic.master != br.index {
		end := bypass(nic, br)
		err := m.setMaster(nic.index, br.index)
		end()
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("a macvlan or ipvlan of some container is on it, and takes what comes in before a bridge could: %w", err)
		}
		if err != nil {
			return err
		}
	}
	if !nic.running {
		return nil
	}
	for end := time.Now().Add(carrier); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now, err := m.device(br.index); err != nil || now.running {
			return err
		}
	}
	return nil // it says why it does not answer, if it does not
}

// carrier is how long a bridge may take to send; a busy machine delays its work.
const carrier = 5 * time.Second

// moveRoutes makes each route by another device, then removes it. What the first
// device had before it had these stays.
func (m *mover) moveRoutes(it items, from, to device, stays items) error {
	for _, r := range it.Routes {
		if !r.automatic() { // what routers are reached by, which may be missing on the way back
			continue
		}
		if err := there(m.do(unix.RTM_NEWROUTE, netlink.Create|netlink.Append, r.moved(from.index, to.index, true))); err != nil {
			return fmt.Errorf("%s: %w", r.dst(), err)
		}
	}
	for _, h := range it.NextHops {
		if err := m.do(unix.RTM_NEWNEXTHOP, netlink.Create|netlink.Replace, h.nextHopBy(to.index)); err != nil {
			return fmt.Errorf("next hop: %w", err)
		}
	}
	for _, route := range it.Routes {
		for _, r := range route.forms(from.index) {
			if err := there(m.do(unix.RTM_NEWROUTE, netlink.Create|netlink.Append, r.moved(from.index, to.index, true))); err != nil {
				return fmt.Errorf("%s: %w", r.dst(), err)
			}
			if err := m.dropRoute(r, from, stays); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropRoute removes a route by a device, unless it was there before.
func (m *mover) dropRoute(r item, from device, stays items) error {
	if stays.hasRoute(r, from.index) {
		return nil
	}
	if err := gone(m.do(unix.RTM_DELROUTE, 0, r.moved(from.index, from.index, false))); err != nil {
		return fmt.Errorf("remove %s: %w", r.dst(), err)
	}
	return nil
}

// takeAddresses removes addresses and neighbours from a device, the last first, so
// that none takes others of its subnet with it. Link-local ones only if asked.
func (m *mover) takeAddresses(it items, from device, stays items, linkLocal bool) error {
	for _, n := range it.Neighbours {
		if n.permanent() && !stays.hasNeighbour(n) {
			if err := gone(m.do(unix.RTM_DELNEIGH, 0, n.neighbourOn(from))); err != nil {
				return fmt.Errorf("%s: %w", n.neighbourAddr(), err)
			}
		}
	}
	for _, a := range slices.Backward(it.Addresses) {
		if a.linkLocal() && !linkLocal || stays.hasAddress(a) {
			continue
		}
		if err := gone(m.do(unix.RTM_DELADDR, 0, a.removal(from))); err != nil {
			return fmt.Errorf("%s: %w", a.prefix(), err)
		}
	}
	return nil
}

// sweeps is how often what came up meanwhile is looked for.
const sweeps = 3

// sweep moves what came to the NIC while the rest was moved. The record knows of it
// first.
func (m *mover) sweep(nic, br device) error {
	for range sweeps {
		late, err := m.items(nic)
		if err != nil {
			return err
		}
		if late = late.movable(); late.empty() {
			return nil
		}
		m.rec.Moved = m.rec.Moved.with(late)
		m.before()
		if err := m.dir.save(m.rec); err != nil {
			return err
		}
		err = errors.Join(m.giveAddresses(late, br), m.giveNeighbours(late, br))
		m.await(late, br)
		if err = errors.Join(err, m.moveRoutes(late, nic, br, items{}), m.takeAddresses(late, nic, items{}, false)); err != nil {
			return err
		}
	}
	return nil
}

// settled is how long the kernel may take to have an address in use: a moment, or
// seconds where others keep it busy.
const settled = 5 * time.Second

// await waits until the kernel has IPv6 addresses in use, which comes a moment after it
// was given them even if nobody is asked (addrconf_dad_work in net/ipv6/addrconf.c):
// only then does it take packets to them for its own.
func (m *mover) await(it items, on device) {
	if !slices.ContainsFunc(it.Addresses, func(a item) bool { return a[0] == unix.AF_INET6 }) {
		return
	}
	for end := time.Now().Add(settled); m.pending(it, on) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// pending reports whether one of the IPv6 addresses that a device has of these is not in
// use yet. One that is somebody else's never will be.
func (m *mover) pending(it items, on device) bool {
	have, err := m.addresses(on.index)
	if err != nil {
		return true
	}
	used, err := m.ownRoutes(on.index)
	return err != nil || slices.ContainsFunc(have, func(a item) bool {
		return a[0] == unix.AF_INET6 && flagsOf(a)&unix.IFA_F_DADFAILED == 0 && it.hasAddress(a) && !slices.Contains(used, a.prefix().Addr())
	})
}

// settle gives addresses the flags they had, now that they are in use: with those
// they have had on the way nobody was asked for them.
func (m *mover) settle(it items, on device) error {
	for _, a := range it.Addresses {
		if a[0] != unix.AF_INET6 || flagsOf(a)&unix.IFA_F_NODAD != 0 {
			continue
		}
		if err := m.do(unix.RTM_NEWADDR, netlink.Replace, a.on(on, false)); gone(err) != nil {
			return fmt.Errorf("%s: %w", a.prefix(), err)
		}
	}
	return nil
}
