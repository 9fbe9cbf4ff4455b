package fake

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// checkLower refuses a device that cannot be on its parent.
func (w *world) checkLower(o kstate.Link) error {
	modes := map[kstate.LinkType][]string{
		kstate.TypeMacvlan: {"private", "vepa", "bridge", "passthru"}, kstate.TypeIPvlan: {"l2", "l3", "l3s"}, kstate.TypeVLAN: {""},
	}
	parent, ok := w.device(kstate.NS{}, o.Parent)
	switch {
	case !ok:
		return fmt.Errorf("parent: device %s %w", o.Parent, kernel.ErrMissing)
	case !slices.Contains(modes[o.Type], o.Mode):
		return fmt.Errorf("mode %q: %w", o.Mode, kernel.ErrUnsupported)
	case o.Type == kstate.TypeVLAN && (o.VLAN < 1 || o.VLAN > 4094):
		return fmt.Errorf("vlan %d: out of range", o.VLAN)
	case o.MTU > parent.MTU && parent.MTU != 0:
		return fmt.Errorf("mtu %d: the parent has %d", o.MTU, parent.MTU)
	case o.Type == kstate.TypeVLAN:
		return w.checkTag(o)
	case parent.Master != "":
		return fmt.Errorf("parent %s: is a port of %s: %w", o.Parent, parent.Master, kernel.ErrInUse)
	case parent.Type == kstate.TypeLoopback:
		return errors.New("parent: is no Ethernet device")
	}
	for have := range w.on(o.Parent) {
		switch {
		case have.Type == kstate.TypeVLAN:
		case have.Type != o.Type:
			return fmt.Errorf("parent %s: has a %s: %w", o.Parent, have.Type, kernel.ErrInUse)
		case have.Mode == "passthru" || o.Mode == "passthru":
			return fmt.Errorf("parent %s: mode passthru is for one device", o.Parent)
		}
	}
	return checkSettings(strings.FieldsFunc(o.Sysctls, func(r rune) bool { return r == '\n' }), o.Name)
}

// checkTag refuses a VLAN that a device has already.
func (w *world) checkTag(o kstate.Link) error {
	for have := range w.on(o.Parent) {
		if have.Type == kstate.TypeVLAN && have.VLAN == o.VLAN {
			return fmt.Errorf("vlan %d: is %s: %w", o.VLAN, have.Name, kernel.ErrInUse)
		}
	}
	return nil
}

// on returns the devices on one of the host's.
func (w *world) on(parent string) map[kstate.Link]bool {
	out := map[kstate.Link]bool{}
	for _, o := range w.objs {
		if l, ok := o.(kstate.Link); ok && l.Type.OnParent() && l.Parent == parent {
			out[l] = true
		}
	}
	return out
}

// inherit gives a device what it has from its parent.
func (w *world) inherit(o kstate.Link) kstate.Link {
	if !o.Type.OnParent() {
		return o
	}
	parent, _ := w.device(kstate.NS{}, o.Parent)
	o.MTU = cmp.Or(o.MTU, parent.MTU)
	if o.Type != kstate.TypeMacvlan || o.Mode == "passthru" {
		o.MAC = cmp.Or(o.MAC, parent.MAC)
	}
	return o
}

// upEntry is the journal's key of a device that was down.
func upEntry(dev string) string { return "up/" + dev }

func (k *Kernel) putRaise(o kstate.Raise) error {
	l, ok := k.world.device(kstate.NS{}, o.Dev)
	switch {
	case !ok:
		return fmt.Errorf("device %s %w", o.Dev, kernel.ErrMissing)
	case l.Up:
		return nil
	}
	return k.journaled(upEntry(o.Dev), strconv.Itoa(k.boots), func() {
		l.Up = true
		k.world.set(l)
	})
}

func (k *Kernel) removeRaise(o kstate.Raise) error {
	entries, err := k.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, noted := entries[upEntry(o.Dev)]; !noted {
		return nil
	}
	return k.unjournaled(upEntry(o.Dev), func() {
		l, ok := k.world.device(kstate.NS{}, o.Dev)
		if ok && l.Master == "" && len(k.world.addrs(kstate.NS{}, o.Dev)) == 0 && !k.world.burdened(o.Dev) {
			l.Up = false
			k.world.set(l)
			k.world.down(l)
		}
	})
}

// burdened reports whether somebody else's device that is up is on a device.
func (w *world) burdened(dev string) bool {
	for l := range w.on(dev) {
		if l.Up && l.Other && l.NS.IsHost() {
			return true
		}
	}
	return false
}

// raised adds the devices that are up because of us.
func (w *world) raised(out kstate.Set, entries map[string]string) {
	for key := range entries {
		if dev, ok := strings.CutPrefix(key, upEntry("")); ok {
			if l, _ := w.device(kstate.NS{}, dev); l.Up {
				o := kstate.Raise{Dev: dev}
				out[o.Key()] = o
			}
		}
	}
}

// sweepRaised erases the entries of devices that are not up because of us.
func (k *Kernel) sweepRaised(entries map[string]string) error {
	for key, boot := range entries {
		dev, ok := strings.CutPrefix(key, upEntry(""))
		if l, _ := k.world.device(kstate.NS{}, dev); !ok || l.Up && boot == strconv.Itoa(k.boots) {
			continue
		}
		if err := k.journal.Erase(key); err != nil {
			return err
		}
	}
	return nil
}

// lowered tells what we raised apart from how it was.
func (k *Kernel) lowered(all kstate.Set) {
	if k.journal == nil {
		return
	}
	entries, _ := k.journal.Entries() // what cannot be read is not told apart
	k.world.raised(all, entries)
	for _, o := range all {
		if r, ok := o.(kstate.Raise); ok {
			l, _ := k.world.device(kstate.NS{}, r.Dev)
			l.Up = false
			all[l.Key()] = l
		}
	}
}
