package rtnl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// A NIC of the host's that is lent to a namespace:
//
//	eth2 at home ──add──▶ eth0, group 24227, alias "sealane nic eth2" in the sandbox
//	     ▲                         │ remove, or the sandbox's end: the kernel puts it into the
//	     └──────── remove ─────────┘ machine's first namespace, under a name that is free there
//
// The group and the alias go with the device wherever it goes. What it was at home
// is in the journal since before it was touched.

// groupLent marks a NIC that is not as it was at home.
const groupLent = 0x5ea3

// lentAlias begins the alias of a NIC, which ends with its name at home.
const lentAlias = "sealane nic "

// lent reports whether a device is a NIC that is not as it was at home.
func (d device) lent() bool { return d.group == groupLent }

// home is what a NIC was.
type home struct {
	MAC   string         `json:"mac"`
	MTU   int            `json:"mtu"`
	Up    bool           `json:"up"`
	Group int            `json:"group,omitempty"`
	Alias string         `json:"alias,omitempty"`
	Addrs []netip.Prefix `json:"addrs,omitempty"`
	Boot  string         `json:"boot"` // in which boot; addresses are of that one
}

// nicEntry is the journal's key of a NIC, by its name at home.
func nicEntry(name string) string { return "nic/" + name }

// homeOf returns the name of a NIC at home: its alias says so, or, if somebody
// changed that, its hardware address.
func homeOf(d device, entries map[string]string) string {
	if name, ok := strings.CutPrefix(d.alias, lentAlias); ok {
		return name
	}
	for key, value := range entries {
		name, ok := strings.CutPrefix(key, nicEntry(""))
		if h, err := parseHome(value); ok && err == nil && h.MAC == d.mac {
			return name
		}
	}
	return d.name
}

func parseHome(value string) (h home, err error) {
	err = json.Unmarshal([]byte(value), &h)
	return h, err
}

// nic returns a NIC that is lent as an object.
func (v *view) nic(ns kstate.NS, d device) kstate.Link {
	return kstate.Link{
		NS: ns, Name: d.name, Type: kstate.TypeNIC, Parent: homeOf(d, v.noted),
		MTU: d.mtu, MAC: d.mac, Up: d.up, Index: d.index, NoCarrier: d.idle,
	}
}

// planNIC queues an op on a NIC.
func (p *pass) planNIC(op int, change kstate.Op) error {
	l := change.Object().(kstate.Link)
	p.c.parents.add(l.Parent)
	switch {
	case change.New == nil:
		return p.returnNIC(op, l)
	case change.Old == nil:
		return p.lendNIC(op, l)
	}
	s, err := p.space(l.NS)
	if err != nil {
		return err
	}
	d, err := s.device(l.Name)
	if err != nil {
		return err
	}
	if !d.lent() {
		return foreign("device " + l.Name)
	}
	return p.dress(op, s, d, l)
}

// lendNIC moves a NIC to its namespace. What it was at home is written down first.
func (p *pass) lendNIC(op int, l kstate.Link) error {
	p.flush()
	if l.NS.IsHost() {
		return errors.New("a NIC is lent to other namespaces than the host's")
	}
	s, err := p.space(l.NS)
	if err != nil {
		return err
	}
	clear(p.host().devs)
	clear(s.devs)
	d, err := p.host().device(l.Parent)
	if errors.Is(err, kernel.ErrMissing) {
		return p.lentAlready(op, s, l, err)
	}
	if err != nil {
		return err
	}
	if err := p.lendable(d); err != nil {
		return err
	}
	if _, err := s.device(l.Name); err == nil {
		return fmt.Errorf("device %s: %w in the namespace", l.Name, kernel.ErrInUse)
	}
	if !d.lent() {
		if err := p.noteHome(op, d); err != nil {
			return err
		}
	}
	p.c.recent.move(d.index)
	host := p.host()
	host.add(op, change(d.index, false, false).u32(unix.IFLA_GROUP, groupLent).alias(lentAlias+d.name))
	host.add(op, change(d.index, false, false).str(unix.IFLA_IFNAME, l.Name).u32(unix.IFLA_NET_NS_FD, uint32(s.handle.FD())))
	p.flush()
	clear(host.devs)
	if p.errs[op] != nil {
		return p.errs[op]
	}
	d, err = s.device(l.Name)
	if err != nil {
		return err
	}
	s.quiet(op, d.index, kstate.Link{Auto: l.Auto})
	return p.dress(op, s, d, l)
}

// lentAlready takes a NIC that is where it shall be for lent.
func (p *pass) lentAlready(op int, s *space, l kstate.Link, missing error) error {
	d, err := s.device(l.Name)
	entries, errJournal := p.c.journal.Entries()
	if err != nil || errJournal != nil || !d.lent() || homeOf(d, entries) != l.Parent {
		return errors.Join(missing, errJournal)
	}
	return p.dress(op, s, d, l)
}

// dress queues what a NIC is to be in its namespace. An MTU or address that is not
// given stays.
func (p *pass) dress(op int, s *space, d device, l kstate.Link) error {
	mac, err := parseMAC(l.MAC)
	if err != nil {
		return err
	}
	p.c.recent.touch(d.index)
	m := change(d.index, false, false)
	if l.MTU != d.mtu {
		m.mtu(l.MTU)
	}
	if l.MAC != "" && l.MAC != d.mac {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	s.add(op, m)
	s.add(op, change(d.index, true, l.Up))
	return nil
}

// lendable refuses a device that others need where it is.
func (p *pass) lendable(d device) error {
	host, ctx := p.host(), context.Background()
	switch {
	case d.kind == string(kstate.TypeLoopback):
		return fmt.Errorf("device %s: is the loopback device", d.name)
	case d.ours() || d.doomed():
		return fmt.Errorf("device %s: is Sealane's own: %w", d.name, kernel.ErrInUse)
	case d.master != 0:
		return fmt.Errorf("device %s: is a port of %s: %w", d.name, p.host().nameOf(d.master), kernel.ErrInUse)
	}
	devs, err := host.sock.devices(ctx)
	if err != nil {
		return err
	}
	for _, on := range devs {
		if on.onParent() && on.far == d.index && on.nsid == noNSID {
			return fmt.Errorf("device %s: %s is on it: %w", d.name, on.name, kernel.ErrInUse)
		}
	}
	routes, err := host.sock.routes(ctx)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.index == d.index && !r.kernels(true) {
			return fmt.Errorf("device %s: the host's route to %s leads there: %w", d.name, r.dst, kernel.ErrInUse)
		}
	}
	return nil
}

// noteHome writes down what a NIC is at home.
func (p *pass) noteHome(op int, d device) error {
	h := home{MAC: d.mac, MTU: d.mtu, Up: d.up, Group: d.group, Alias: d.alias, Boot: bootID()}
	addrs, err := p.host().sock.addrs(context.Background())
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.index == d.index && !a.kernels(true) {
			h.Addrs = append(h.Addrs, a.prefix)
		}
	}
	value, err := json.Marshal(h)
	if err != nil {
		return err
	}
	// An entry of before is of a move that never was, or was taken back.
	if err := p.c.journal.Erase(nicEntry(d.name)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := p.c.journal.Put(nicEntry(d.name), string(value)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// returnNIC brings a NIC home, from the namespace where it is or from where the
// kernel has put it. One whose namespace is gone is on its way. One whose name somebody
// has taken is with the host under another one, until the name is free.
func (p *pass) returnNIC(op int, l kstate.Link) error {
	p.flush()
	s, err := p.space(l.NS)
	if errors.Is(err, kernel.ErrNoNamespace) {
		return nil
	}
	if err != nil {
		return err
	}
	clear(s.devs)
	d, err := s.device(l.Name)
	if errors.Is(err, kernel.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	if !d.lent() {
		return foreign("device " + l.Name)
	}
	entries, err := p.c.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	name := homeOf(d, entries)
	clear(p.host().devs)
	other, err := p.host().device(name)
	taken := err == nil && other.index != d.index
	if taken && s == p.host() {
		return nameTaken(l, name)
	}
	p.c.recent.move(d.index)
	m := change(d.index, true, false).str(unix.IFLA_IFNAME, name)
	if s != p.host() {
		s.add(op, change(d.index, true, false))
		to := name
		if taken {
			to = "dev%d" // as the kernel calls one whose namespace ends
		}
		m = change(d.index, false, false).str(unix.IFLA_IFNAME, to).u32(unix.IFLA_NET_NS_FD, uint32(p.c.host.FD()))
	}
	s.add(op, m)
	p.flush()
	clear(p.host().devs)
	clear(s.devs)
	switch {
	case p.errs[op] != nil:
		return fmt.Errorf("device %s: back to %s: %w", l.Name, name, p.errs[op])
	case taken:
		return nameTaken(l, name)
	}
	return p.restore(op, name, entries[nicEntry(name)])
}

// nameTaken says why a NIC that is with the host has not its own name yet. It is not
// [kernel.ErrInUse]: somebody else's is the name, not the NIC.
func nameTaken(l kstate.Link, name string) error {
	return fmt.Errorf("device %s: back to %s: another device of the host has that name", l.Name, name)
}

// restore makes a NIC that is at home what it was there.
func (p *pass) restore(op int, name, noted string) error {
	d, err := p.host().device(name)
	if err != nil {
		return err
	}
	h, err := parseHome(noted)
	if err != nil { // nobody knows
		h = home{MAC: d.mac, MTU: d.mtu}
	}
	mac, err := parseMAC(h.MAC)
	if err != nil {
		return err
	}
	host := p.host()
	p.c.recent.touch(d.index)
	m := change(d.index, false, false).mtu(h.MTU)
	if h.MAC != d.mac {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	host.add(op, m)
	if h.Up {
		host.add(op, change(d.index, true, true))
	}
	for _, a := range h.Addrs {
		if h.Boot == bootID() && (a.Addr().Is4() || h.Up) {
			host.addForgiving(op, addrMessage(newMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL), a, d.index), kernel.ErrInUse)
		}
	}
	// Last: until then it is a NIC that is not as it was.
	host.add(op, change(d.index, false, false).u32(unix.IFLA_GROUP, uint32(h.Group)).alias(h.Alias))
	p.flush()
	if p.errs[op] != nil {
		return p.errs[op]
	}
	// At once: the next op may lend it again.
	if err := p.c.journal.Erase(nicEntry(name)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// sweepNIC erases the journal's entry of a NIC that is at home as it was.
func (p *pass) sweepNIC(key string) error {
	name, ok := strings.CutPrefix(key, nicEntry(""))
	if !ok {
		return nil
	}
	d, err := p.host().device(name)
	if errors.Is(err, kernel.ErrMissing) || err == nil && d.lent() {
		return nil // it is away, or unplugged for a while
	}
	if err != nil {
		return err
	}
	return p.c.journal.Erase(key)
}
