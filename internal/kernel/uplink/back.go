package uplink

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/sysctl"
	"golang.org/x/sys/unix"
)

// detach moves items from the bridge to the NIC and leaves both as the record has
// them, as far as they are there. It goes on from wherever an attach or a detach
// was cut off.
func (m *mover) detach(it items) error {
	nic, br, err := m.ends()
	if err != nil {
		return err
	}
	before := m.rec.On.Items
	if nic.index == 0 { // it has taken everything with it
		return errors.Join(m.leaveSwitch(device{}), m.dropItems(it, br, before), m.restoreBridge(br), m.release(br))
	}
	return run([]step{
		{"settings of " + nic.name, func() error { return m.writeSettings(nic.name, lenientOn(nic)) }},
		{"settings of " + m.rec.Bridge, func() error { return m.writeSettings(br.name, lenientOn(br)) }},
		{"addresses of " + nic.name, func() error { return m.giveAddresses(it, nic) }},
		{"neighbours of " + nic.name, func() error { return m.giveNeighbours(it, nic) }},
		{"addresses of " + nic.name, func() error { m.await(it, nic); return nil }},
		{"routes by " + nic.name, func() error { return m.routesBack(it, nic, br, before) }},
		{"take " + nic.name + " out of " + m.rec.Bridge, func() error {
			if br.kind == kindBridge && nic.master == br.index {
				defer bypass(nic, br)()
			}
			return m.leave(nic, br)
		}},
		{"features of " + nic.name, func() error { return m.mergeAgain(nic) }},
		{"addresses of " + m.rec.Bridge, func() error {
			if br.index == 0 {
				return nil
			}
			return m.takeAddresses(it, br, before, true)
		}},
		{"bridge " + m.rec.Bridge, func() error { return m.restoreBridge(br) }},
		{"hardware address of " + m.rec.Bridge, func() error { return m.release(br) }},
		{"settings of " + nic.name, func() error { return m.writeSettings(nic.name, m.strictAgain()) }},
		{"addresses of " + nic.name, func() error { return m.settle(it, nic) }},
		{"neighbours of " + nic.name, func() error { return m.tell(it, br.mac, nic.index) }},
		{"set down " + nic.name, func() error {
			if m.rec.Port.Up {
				return nil
			}
			return m.setUp(nic.index, false)
		}},
	})
}

// lenientOn is for the time of the move, if the device is there and has the setting.
func lenientOn(d device) map[string]string {
	if _, err := sysctl.Read(setting(rpFilter, d.name)); d.index == 0 || err != nil {
		return nil
	}
	return map[string]string{rpFilter: lenient}
}

// strictAgain is the same setting as it was.
func (m *mover) strictAgain() map[string]string {
	if v, has := m.rec.Port.Settings[rpFilter]; has {
		return map[string]string{rpFilter: v}
	}
	return nil
}

// routesBack moves routes from the bridge, which need not be there, to the NIC. The
// items may have been recorded on either, and on the bridge that it was.
func (m *mover) routesBack(it items, nic, br device, stays items) error {
	from := br
	if br.index == 0 {
		from = device{index: 1 << 30, name: m.rec.Bridge} // nothing is by it
	}
	return m.moveRoutes(it.by(nic.index, from.index).by(m.rec.On.Index, from.index), from, nic, stays)
}

// dropItems removes what a NIC that is gone brought to the bridge.
func (m *mover) dropItems(it items, br device, stays items) error {
	if br.index == 0 {
		return nil
	}
	for _, route := range it.Routes {
		for _, r := range route.forms(br.index) {
			if err := m.dropRoute(r, br, stays); err != nil {
				return err
			}
		}
	}
	for _, h := range it.NextHops {
		if err := gone(m.do(unix.RTM_DELNEXTHOP, 0, h.nextHopID())); err != nil {
			return fmt.Errorf("remove next hop: %w", err)
		}
	}
	return m.takeAddresses(it, br, stays, true)
}

// leave takes the NIC out of the bridge if it is its port.
func (m *mover) leave(nic, br device) error {
	if br.kind == kindBridge {
		if nic.master != br.index {
			return nil
		}
		return m.setMaster(nic.index, 0)
	}
	err := m.leaveSwitch(br)
	if errors.Is(err, kernel.ErrNotRunning) && nic.master == 0 { // the datapath ended with its program
		m.away, err = true, nil
	}
	return err
}

// leaveSwitch takes the NIC out of a bridge of Open vSwitch. Neither need be there.
func (m *mover) leaveSwitch(br device) error {
	if br.index == 0 {
		on, err := m.switches.PortOf(m.rec.NIC)
		if m.away = err != nil && m.rec.Switch; err != nil || on != m.rec.Bridge {
			return nil // its switch is gone, or has forgotten it
		}
	}
	m.before()
	return m.switches.DelPort(m.rec.Bridge, m.rec.NIC)
}

// release lets Open vSwitch choose the bridge's hardware address again, if it did. The
// bridge has the one it had: that of ports that came since costs its IPv6 addresses.
func (m *mover) release(br device) error {
	if br.kind == kindBridge || m.away {
		return nil
	}
	m.before()
	if err := m.switches.HoldAddr(m.rec.Bridge, nil); err != nil && br.index != 0 {
		return err
	}
	return nil
}

// drop ends the record of a NIC that has left, unless Open vSwitch was away: it has the
// NIC on disk, and takes it when it starts, addresses or not.
func (m *mover) drop() error {
	switch {
	case !m.away:
		m.before()
		return m.dir.drop(m.rec.NIC)
	case m.rec.Phase == leaving:
		return nil
	}
	return m.note(leaving)
}

// waits says what is left to do, if anything is.
func (m *mover) waits() []string {
	if !m.away {
		return nil
	}
	return []string{fmt.Sprintf("Open vSwitch does not run and still has %s as a port of %s: it is taken out when that is back", m.rec.NIC, m.rec.Bridge)}
}

// forget drops a record of before the host went down. What Open vSwitch was told is on
// disk: it must not have the NIC, whose addresses nobody moves any more.
func (m *mover) forget() error {
	_, br, err := m.ends()
	if err != nil {
		return err
	}
	if m.rec.Switch || br.kind != kindBridge {
		if err := m.leaveSwitch(device{}); err != nil {
			return err
		}
		if err := m.release(br); err != nil {
			return err
		}
	}
	return m.drop()
}

// restoreBridge leaves the bridge as it was, or removes it if it is ours and nobody
// else is on it.
func (m *mover) restoreBridge(br device) error {
	if br.index == 0 {
		return nil
	}
	if m.rec.Made && m.isOwn(br) {
		used, err := m.hasPorts(br)
		if err != nil || used || m.rec.Used {
			return err
		}
		return m.removeDevice(br.index)
	}
	if m.rec.Made || m.rec.Boot != bootID() {
		return nil // whoever made it anew knows how
	}
	var errs []error
	if !bytes.Equal(br.mac, m.rec.On.MAC) {
		errs = append(errs, m.setMAC(br, m.rec.On.MAC))
	}
	if br.mtu != m.rec.On.MTU && !m.rec.KeepMTU {
		errs = append(errs, m.change(br.index, 0, 0, uint32Attr(unix.IFLA_MTU, uint32(m.rec.On.MTU))))
	}
	if br.up && !m.rec.On.Up {
		errs = append(errs, m.setUp(br.index, false))
	}
	return errors.Join(append(errs, m.writeSettings(br.name, m.rec.On.Settings))...)
}

// isOwn reports whether a bridge is one that was made for a NIC: it is called so, or is
// not called anything yet.
func (m *mover) isOwn(br device) bool {
	return br.own() || br.kind == kindBridge && br.alias == "" && m.rec.Made && bytes.Equal(br.mac, m.rec.Port.MAC)
}

func (c conn) hasPorts(br device) (bool, error) {
	ports, err := c.devices(uint32Attr(unix.IFLA_MASTER, uint32(br.index)))
	return len(ports) > 0, err
}

// Sweep removes bridges that were made for NICs which have left them, and returns their
// names, once nobody uses them: no port, no address, none of the networks that keep lists.
func (d Dir) Sweep(keep []string) (gone []string, err error) {
	recs, err := d.all()
	if err != nil {
		return nil, err
	}
	c, err := dial(func() {})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	bridges, err := c.devices(attr{unix.IFLA_LINKINFO, join(nil, []attr{{unix.IFLA_INFO_KIND, []byte(kindBridge)}})})
	if err != nil {
		return nil, err
	}
	for name, br := range bridges {
		if !br.own() || slices.Contains(keep, name) || slices.ContainsFunc(recs, func(r *record) bool { return r.Bridge == name }) {
			continue
		}
		it, err := c.items(br)
		if err != nil {
			return gone, err
		}
		used, err := c.hasPorts(br)
		if err != nil || used || len(it.movable().Addresses) > 0 {
			continue
		}
		if err := c.removeDevice(br.index); err != nil {
			return gone, fmt.Errorf("bridge %s: %w", name, err)
		}
		gone = append(gone, name)
	}
	return gone, nil
}

// movable leaves out what stays with the NIC, or comes by itself.
func (it items) movable() items {
	it.Addresses = slices.DeleteFunc(slices.Clone(it.Addresses), item.linkLocal)
	it.Routes = slices.DeleteFunc(slices.Clone(it.Routes), item.automatic)
	it.Neighbours = slices.DeleteFunc(slices.Clone(it.Neighbours), func(n item) bool { return !n.permanent() })
	return it
}

func (it items) empty() bool {
	return len(it.Addresses)+len(it.Routes)+len(it.Neighbours)+len(it.NextHops) == 0
}

// with adds others, once each.
func (it items) with(more items) items {
	add := func(have []item, more []item, same func(a, b item) bool) []item {
		have = slices.Clone(have)
		for _, m := range more {
			if !slices.ContainsFunc(have, func(h item) bool { return same(h, m) }) {
				have = append(have, m)
			}
		}
		return have
	}
	it.Addresses = add(it.Addresses, more.Addresses, func(a, b item) bool { return a.prefix() == b.prefix() })
	it.Routes = add(it.Routes, more.Routes, func(a, b item) bool { return bytes.Equal(a, b) })
	it.Neighbours = add(it.Neighbours, more.Neighbours, func(a, b item) bool { return a.neighbourAddr() == b.neighbourAddr() })
	it.NextHops = add(it.NextHops, more.NextHops, func(a, b item) bool { return bytes.Equal(a, b) })
	return it
}

// by returns items whose routes were by either of two devices as if all had been by
// the second.
func (it items) by(one, other int) items {
	if one == other || one == 0 {
		return it
	}
	routes := make([]item, 0, len(it.Routes))
	for _, r := range it.Routes {
		if r.by(one) {
			r = r.replaced(one, other)
		}
		routes = append(routes, r)
	}
	it.Routes = routes
	return it
}

func (it items) hasAddress(a item) bool {
	return slices.ContainsFunc(it.Addresses, func(b item) bool { return a.prefix() == b.prefix() })
}

func (it items) hasNeighbour(n item) bool {
	return slices.ContainsFunc(it.Neighbours, func(b item) bool { return b.permanent() && n.neighbourAddr() == b.neighbourAddr() })
}

// hasRoute reports whether a route by a device is among the items.
func (it items) hasRoute(r item, index int) bool {
	want := r.moved(index, index, false)
	return slices.ContainsFunc(it.Routes, func(b item) bool { return bytes.Equal(b.moved(index, index, false), want) })
}

// without leaves out what others have.
func (it items) without(others items, index int) items {
	it.Addresses = slices.DeleteFunc(slices.Clone(it.Addresses), others.hasAddress)
	it.Routes = slices.DeleteFunc(slices.Clone(it.Routes), func(r item) bool { return others.hasRoute(r, index) })
	it.Neighbours = slices.DeleteFunc(slices.Clone(it.Neighbours), func(n item) bool {
		return others.hasNeighbour(n)
	})
	it.NextHops = slices.DeleteFunc(slices.Clone(it.NextHops), func(h item) bool {
		return slices.ContainsFunc(others.NextHops, func(o item) bool { return bytes.Equal(h.nextHopBy(index), o.nextHopBy(index)) })
	})
	return it
}
