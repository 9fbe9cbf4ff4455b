package uplink

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// open takes the lock and a socket.
func (d Dir) open(before func()) (m *mover, closed func(), err error) {
	unlock, err := d.lock()
	if err != nil {
		return nil, nil, err
	}
	c, err := dial(before)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return &mover{conn: c, dir: d, switches: openvswitch{}}, func() { c.Close(); unlock() }, nil
}

// busy is what a move is told while another is under way.
func busy(err error, mv Move, op string) error {
	if errors.Is(err, errBusy) {
		return model.Errorf(model.Conflict, "uplink "+mv.NIC, op, "%w", err)
	}
	return err
}

// attach does a whole attach, with everything back as it was if it fails.
func (d Dir) attach(mv Move, before func()) (rep Report, err error) {
	m, closed, err := d.open(before)
	if err != nil {
		return rep, busy(err, mv, opAttach)
	}
	defer closed()
	old, err := d.load(mv.NIC)
	if err != nil {
		return rep, err
	}
	if old != nil && old.Phase == leaving {
		m.rec = old
		if err := m.forget(); err != nil {
			return rep, err
		}
		if m.away {
			return rep, model.Errorf(model.Conflict, "uplink "+mv.NIC, opAttach, "Open vSwitch does not run and still has it as a port of %s", old.Bridge).WithHint("start it first")
		}
		old = nil
	}
	if old != nil && old.Phase != attached {
		return rep, model.Errorf(model.Conflict, "uplink "+mv.NIC, opAttach, "what was begun before has to be taken back first").WithHint("the daemon does so within a second")
	}
	all, err := m.devices()
	if err != nil {
		return rep, err
	}
	if err := refuse(mv, all, old != nil || mv.Known, m.switches); err != nil {
		return rep, err
	}
	if err := m.begin(mv, all, old); err != nil {
		return rep, err
	}
	nic := all[mv.NIC]
	rep = Report{Made: m.rec.Made, Routes: m.rec.Moved.asked(), Warnings: m.warnings(mv, nic, m.rec.Moved)}
	if rep.Answering, err = m.ask(nic, mv.Timeout, &rep); err != nil {
		return rep, err
	}
	if err := m.note(attaching); err != nil {
		return rep, err
	}
	for _, a := range m.rec.Moved.movable().Addresses {
		rep.Addresses = append(rep.Addresses, a.prefix())
	}
	if err := m.attach(m.rec.Moved); err != nil {
		return rep, m.takeBack(opAttach, err)
	}
	rep.Warnings = append(rep.Warnings, m.mergeWarnings(all)...)
	if err := m.check(mv.Bridge, rep.Answering, mv.Timeout); err != nil {
		return rep, m.takeBack(opAttach, err)
	}
	return rep, m.confirm()
}

// confirm notes that the NIC is attached, and what the bridge has for it.
func (m *mover) confirm() error {
	_, br, err := m.ends()
	if err != nil {
		return err
	}
	if err := m.learn(br, m.rec.Keep); err != nil {
		return err
	}
	m.rec.Prior = items{}
	return m.note(attached)
}

// learn takes what a bridge has for what is the NIC's, but what it had before, and
// addresses to keep there that were never the NIC's.
func (m *mover) learn(br device, keep []netip.Prefix) error {
	have, err := m.items(br)
	if err != nil {
		return err
	}
	known := m.rec.Moved.with(m.rec.Prior)
	keep = slices.DeleteFunc(slices.Clone(keep), func(p netip.Prefix) bool {
		return slices.ContainsFunc(known.Addresses, func(a item) bool { return a.prefix() == p })
	})
	m.rec.Moved = have.without(m.rec.On.Items, br.index).withoutOurs(keep)
	m.rec.On.Index = br.index
	return nil
}

// recall has the record say what goes back: what the bridge has for the NIC by now,
// and what went with the bridge that it was, if that is gone or was made anew.
func (m *mover) recall(nic, br device, keep []netip.Prefix) error {
	went, index := m.rec.Moved.by(m.rec.Port.Index, nic.index), m.rec.On.Index
	if br.index == 0 {
		m.rec.Moved = went
		return nil
	}
	if err := m.learn(br, keep); err != nil {
		return err
	}
	if br.index != index && m.rec.Boot == bootID() {
		m.rec.Moved = m.rec.Moved.with(went.by(index, br.index))
	}
	return nil
}

// begin makes the record of what is there.
func (m *mover) begin(mv Move, all map[string]device, old *record) (err error) {
	nic, br := all[mv.NIC], all[mv.Bridge]
	r := &record{Boot: bootID(), Move: mv, Made: br.index == 0 || br.own()}
	r.Port = side{Index: nic.index, MAC: nic.mac, MTU: nic.mtu, Up: nic.up, Settings: readSettings(nic.name)}
	if r.Port.Merging, err = m.merging(nic, br); err != nil {
		return err
	}
	if r.Moved, err = m.items(nic); err != nil {
		return err
	}
	if br.index != 0 {
		r.Switch = br.kind != kindBridge
		r.On = side{Index: br.index, MAC: br.mac, MTU: br.mtu, Up: br.up, Settings: changing(r.Port.Settings, readSettings(br.name))}
		if r.On.Items, err = m.items(br); err != nil {
			return err
		}
	}
	if old != nil && old.Boot == r.Boot {
		r.goOn(old, br)
	}
	m.rec = r
	return nil
}

// goOn takes over from an earlier attach what only it could know: how the bridge was
// before, and what was on the NIC if it went with the bridge.
func (r *record) goOn(old *record, br device) {
	r.Again, r.Prior = true, old.Moved
	if old.Port.Merging != nil && old.Port.Index == r.Port.Index {
		r.Port.Merging = old.Port.Merging
	}
	if old.Bridge != r.Bridge {
		return
	}
	// What went with the bridge, or with its going down when Open vSwitch changes its
	// hardware address because a port left, is made again.
	if br.index == 0 || br.kind != kindBridge {
		r.Moved = r.Moved.with(old.Moved.by(old.On.Index, r.Port.Index).by(old.Port.Index, r.Port.Index))
	}
	if br.index == 0 {
		return
	}
	r.Made, r.On = old.Made, old.On
	if old.Port.Settings != nil {
		r.Port.Settings[rpFilter] = old.Port.Settings[rpFilter]
	}
	r.Port.Up = old.Port.Up
}

// note puts the record on disk in a phase.
func (m *mover) note(p phase) error {
	m.before()
	m.rec.Phase = p
	if err := m.dir.save(m.rec); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// ask returns which of the gateways by a device answer, as things are.
func (m *mover) ask(on device, timeout time.Duration, rep *Report) ([]netip.Addr, error) {
	if timeout == 0 {
		return nil, nil
	}
	whom := targets(m.rec.Moved, on.index)
	got, err := answering(on, m.rec.Moved, whom, askedBefore)
	if err == nil && len(got) == 0 {
		rep.Warnings = append(rep.Warnings, "no gateway and no neighbour answered before: whether they do now was not looked at")
	}
	return got, err
}

// check asks those that answered before, by a device.
func (m *mover) check(by string, whom []netip.Addr, timeout time.Duration) error {
	if len(whom) == 0 || timeout == 0 {
		return nil
	}
	all, err := m.devices()
	if err != nil {
		return err
	}
	got, err := answering(all[by], m.rec.Moved, whom, timeout)
	if err != nil {
		return err
	}
	for _, w := range whom {
		if !slices.Contains(got, w) {
			return fmt.Errorf("%s answered before and does not within %v by %s; everything is as it was", w, timeout, by)
		}
	}
	return nil
}

// takeBack goes back to what the record says was before, because of an error.
func (m *mover) takeBack(op string, because error) error {
	if _, err := m.undo(); err != nil {
		because = fmt.Errorf("%w; taking it back: %w", because, err)
	}
	return model.Errorf(model.Conflict, "uplink "+m.rec.NIC, op, "%w", because)
}

// undo takes back a move that is not finished, from wherever it was cut off, and says
// what became of it. From a bridge that is gone, and to a NIC that is, the way back is forth.
func (m *mover) undo() (what string, err error) {
	nic, br, err := m.ends()
	switch {
	case err != nil || m.rec.Phase == attached:
		return "", err
	case m.rec.Phase == detaching && nic.index != 0 && (br.index != 0 || m.rec.Made):
		if err := m.attach(m.rec.Moved.by(m.rec.On.Index, nic.index).by(br.index, nic.index)); err != nil {
			return "", err
		}
		return "attached again", m.note(attached)
	}
	if err := m.detach(m.rec.Moved.by(m.rec.Port.Index, nic.index)); err != nil {
		return "", err
	}
	if m.rec.Phase == attaching && m.rec.Again {
		m.rec.Moved, m.rec.Prior = m.rec.Prior, items{}
		return "taken back", m.note(attached)
	}
	switch {
	case m.rec.Phase != detaching:
		what = "taken back"
	case nic.index == 0:
		what = "detached, for the NIC is gone"
	default:
		what = "detached, for the bridge is gone"
	}
	return what, m.drop()
}

// detach does a whole detach, with everything back as it was if it fails.
func (d Dir) detach(mv Move, before func()) (rep Report, err error) {
	m, closed, err := d.open(before)
	if err != nil {
		return rep, busy(err, mv, opDetach)
	}
	defer closed()
	if m.rec, err = d.load(mv.NIC); err != nil {
		return rep, err
	}
	if m.rec == nil {
		return rep, model.Errorf(model.NotFound, "uplink "+mv.NIC, opDetach, "is attached to no bridge")
	}
	nic, br, err := m.ends()
	if err != nil {
		return rep, err
	}
	if m.rec.Phase == leaving || m.rec.Boot != bootID() && (nic.index == 0 || nic.master == 0 || nic.master != br.index) {
		err := m.forget() // what it is about went with the power
		rep.Warnings = m.waits()
		return rep, err
	}
	if name, err := m.renamed(nic); name != "" || err != nil {
		return rep, cmp.Or(err, error(model.Errorf(model.Conflict, "uplink "+mv.NIC, opDetach, "is called %s by now", name).WithHint("ip link set %s name %s", name, mv.NIC)))
	}
	m.rec.Used = mv.Used
	if err := m.recall(nic, br, mv.Keep); err != nil {
		return rep, err
	}
	if nic.index == 0 {
		rep.Warnings = []string{fmt.Sprintf("the host has no %s: what it brought to %s is gone with it", mv.NIC, m.rec.Bridge)}
	} else if err := m.tellBack(br, mv, &rep); err != nil {
		return rep, err
	}
	if err := m.note(detaching); err != nil {
		return rep, err
	}
	if err := m.detach(m.rec.Moved); err != nil {
		return rep, m.takeBack(opDetach, err)
	}
	if err := m.check(mv.NIC, rep.Answering, mv.Timeout); err != nil {
		return rep, m.takeBack(opDetach, err)
	}
	err = m.drop()
	rep.Warnings = append(rep.Warnings, m.waits()...)
	return rep, err
}

// renamed is what the NIC is called if it is there and not by its name.
func (m *mover) renamed(nic device) (string, error) {
	if nic.index != 0 || m.rec.Boot != bootID() {
		return "", nil
	}
	now, err := m.device(m.rec.Port.Index)
	return now.name, gone(err)
}

// tellBack notes in the report what goes back to the NIC, and who has to answer then.
func (m *mover) tellBack(br device, mv Move, rep *Report) (err error) {
	if rep.Answering, err = m.ask(br, mv.Timeout, rep); err != nil {
		return err
	}
	for _, a := range m.rec.Moved.movable().Addresses {
		rep.Addresses = append(rep.Addresses, a.prefix())
	}
	rep.Routes = m.rec.Moved.asked()
	return nil
}

// asked counts the routes that somebody asked for.
func (it items) asked() (n int) {
	for _, r := range it.Routes {
		if !r.automatic() {
			n++
		}
	}
	return n
}

// protocolOurs is the protocol number of Sealane's routes.
const protocolOurs = 83

// withoutOurs leaves out what a bridge has for its containers.
func (it items) withoutOurs(keep []netip.Prefix) items {
	it.Addresses = slices.DeleteFunc(slices.Clone(it.Addresses), func(a item) bool { return slices.Contains(keep, a.prefix()) })
	it.Routes = slices.DeleteFunc(slices.Clone(it.Routes), func(r item) bool { return r[5] == protocolOurs })
	it.Neighbours = slices.DeleteFunc(slices.Clone(it.Neighbours), func(n item) bool { return !n.permanent() && n.foreignTo(it) })
	return it
}

// foreignTo reports whether a neighbour is on none of the subnets that move.
func (n item) foreignTo(it items) bool {
	a := n.neighbourAddr()
	return !slices.ContainsFunc(it.Addresses, func(x item) bool { return x.prefix().Masked().Contains(a) })
}

// Recovered is a move that was cut off, and what became of it.
type Recovered struct {
	NIC, Bridge string
	What        string // "" if nothing did yet
	Waits       bool   // for Open vSwitch to run: there is more to do
}

// ErrBusy: a move is under way.
var ErrBusy = errBusy

// Recover takes back the moves that were begun and whose process is gone. While one
// goes on it is an ErrBusy. It goes on after an error.
func (d Dir) Recover() ([]Recovered, error) {
	if err := d.make(); err != nil {
		return nil, err
	}
	recs, err := d.all()
	if err != nil || !slices.ContainsFunc(recs, func(r *record) bool { return r.Phase != attached }) {
		return nil, err
	}
	m, closed, err := d.open(func() {})
	if err != nil {
		return nil, err
	}
	defer closed()
	if recs, err = d.all(); err != nil {
		return nil, err
	}
	var out []Recovered
	var errs []error
	for _, r := range recs {
		if r.Phase == attached {
			continue
		}
		did := Recovered{NIC: r.NIC, Bridge: r.Bridge}
		was := r.Phase
		if m.rec, m.away = r, false; was == leaving {
			if err = m.forget(); !m.away {
				did.What = "Open vSwitch runs: the NIC is no port of it any more"
			}
		} else if r.Boot != bootID() {
			did.What, err = fmt.Sprintf("it was %s when the host went down: forgotten", was), m.forget()
		} else if did.What, err = m.undo(); err == nil {
			did.What = fmt.Sprintf("it was %s when its process ended: %s", was, did.What)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("uplink %s: take back: %w", r.NIC, err))
			continue
		}
		if did.Waits = m.away; did.Waits && was != leaving {
			did.What += "; " + m.waits()[0]
		}
		out = append(out, did)
	}
	return out, errors.Join(errs...)
}

// Ports returns the attached NICs as they are now, by name.
func (d Dir) Ports() ([]Port, error) {
	recs, err := d.all()
	if err != nil || len(recs) == 0 {
		return nil, err
	}
	c, err := dial(func() {})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	all, err := c.devices()
	if err != nil {
		return nil, err
	}
	var out []Port
	for _, r := range recs {
		if r.Phase != attached {
			continue
		}
		p, err := c.port(r, all)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (c conn) port(r *record, all map[string]device) (Port, error) {
	p := Port{NIC: r.NIC, Bridge: r.Bridge, Made: r.Made}
	for _, a := range r.Moved.movable().Addresses {
		p.Moved = append(p.Moved, a.prefix())
	}
	nic, br := all[r.NIC], all[r.Bridge]
	if nic.index == 0 {
		p.Missing = r.NIC
		return p, nil
	}
	switch {
	case br.index == 0:
		p.Out, p.Missing = true, r.Bridge
	case br.kind == kindBridge:
		p.Out = nic.master != br.index
	default: // while Open vSwitch is away, nothing can be done
		on, err := (openvswitch{}).PortOf(r.NIC)
		p.Out = err == nil && on != r.Bridge
	}
	it, err := c.items(nic)
	if err != nil {
		return p, err
	}
	p.Stray = prefixes(it)
	for _, route := range it.Routes {
		if !route.automatic() {
			p.Stray = append(p.Stray, route.dst().String())
		}
	}
	p.Stray = append(p.Stray, r.mergesSince(all)...)
	return p, nil
}
