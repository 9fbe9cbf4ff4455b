package fake

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// lending is what a NIC is at home, while it is lent.
type lending struct {
	link  kstate.Link
	addrs []kstate.Addr
}

// nicEntry is the journal's key of a NIC, by its name at home.
func nicEntry(name string) string { return "nic/" + name }

// putNIC lends a NIC, or changes what it is where it is.
func (k *Kernel) putNIC(o kstate.Link, change bool) error {
	w := &k.world
	if have, ok := w.objs[o.Key()].(kstate.Link); ok && have.Type == kstate.TypeNIC && have.Parent == o.Parent {
		have.MTU, have.MAC, have.Up = cmp.Or(o.MTU, have.MTU), cmp.Or(o.MAC, have.MAC), o.Up
		w.set(have)
		return nil
	} else if _, taken := w.device(o.NS, o.Name); taken || ok || change {
		return fmt.Errorf("device %s: %w in the namespace", o.Name, kernel.ErrInUse)
	}
	if o.NS.IsHost() {
		return errors.New("a NIC is lent to other namespaces than the host's")
	}
	l, ok := w.device(kstate.NS{}, o.Parent)
	if !ok {
		return fmt.Errorf("device %s %w", o.Parent, kernel.ErrMissing)
	}
	if err := w.lendable(l); err != nil {
		return err
	}
	home := lending{link: l}
	for p := range w.addrs(kstate.NS{}, l.Name) {
		home.addrs = append(home.addrs, kstate.Addr{Dev: l.Name, Prefix: p, Other: true})
	}
	return k.journaled(nicEntry(l.Name), l.String(), func() {
		w.drop(l.Key())
		w.lent[l.Name] = home
		w.set(kstate.Link{
			NS: o.NS, Name: o.Name, Type: kstate.TypeNIC, Parent: o.Parent,
			MTU: cmp.Or(o.MTU, l.MTU), MAC: cmp.Or(o.MAC, l.MAC), Up: o.Up, Index: w.next(),
		})
	})
}

// lendable refuses a device that others need where it is.
func (w *world) lendable(l kstate.Link) error {
	switch {
	case l.Type == kstate.TypeLoopback:
		return fmt.Errorf("device %s: is the loopback device", l.Name)
	case !l.Other:
		return fmt.Errorf("device %s: is Sealane's own: %w", l.Name, kernel.ErrInUse)
	case l.Master != "":
		return fmt.Errorf("device %s: is a port of %s: %w", l.Name, l.Master, kernel.ErrInUse)
	}
	for on := range w.on(l.Name) {
		return fmt.Errorf("device %s: %s is on it: %w", l.Name, on.Name, kernel.ErrInUse)
	}
	for _, o := range w.objs {
		if r, ok := o.(kstate.Route); ok && r.NS.IsHost() && r.Dev == l.Name {
			return fmt.Errorf("device %s: the host's route to %s leads there: %w", l.Name, r.Dst, kernel.ErrInUse)
		}
	}
	return nil
}

// removeNIC brings a NIC home.
func (k *Kernel) removeNIC(o kstate.Link) error {
	w := &k.world
	have, ok := w.objs[o.Key()].(kstate.Link)
	switch {
	case !ok:
		return nil
	case have.Type != kstate.TypeNIC:
		return fmt.Errorf("%s is not ours: %w", have, kernel.ErrInUse)
	}
	if _, taken := w.device(kstate.NS{}, have.Parent); taken && !(have.NS.IsHost() && have.Name == have.Parent) {
		if !have.NS.IsHost() {
			w.drop(have.Key())
			have.NS, have.Up, have.Index = kstate.NS{}, false, w.next()
			have.Name = fmt.Sprintf("dev%d", have.Index)
			w.set(have)
		}
		return fmt.Errorf("device %s: back to %s: another device of the host has that name", o.Name, have.Parent)
	}
	return k.unjournaled(nicEntry(have.Parent), func() { w.bringHome(have) })
}

func (w *world) bringHome(l kstate.Link) {
	home := w.lent[l.Parent]
	delete(w.lent, l.Parent)
	w.drop(l.Key())
	home.link.Index = w.next()
	w.set(home.link)
	for _, a := range home.addrs {
		w.set(a)
	}
}

// falls reports whether a NIC's namespace is gone.
func (w *world) falls(l kstate.Link) bool { return !l.NS.IsHost() && !w.has(l.NS) }

// throwBack is what the kernel does with a NIC whose namespace ends.
func (w *world) throwBack(l kstate.Link) {
	l.NS, l.Up = kstate.NS{}, false
	if _, taken := w.device(l.NS, l.Name); taken {
		l.Name = fmt.Sprintf("dev%d", l.Index)
	}
	w.set(l)
}
