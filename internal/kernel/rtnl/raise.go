package rtnl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// raiseEntry is the journal's key of a device that was down. Its value is which
// boot that was in: the next one begins anew.
func raiseEntry(dev string) string { return "up/" + dev }

// bootID returns a name of this boot of the machine (random(4)).
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// planRaise queues an op on somebody else's device being up.
func (p *pass) planRaise(op int, what kstate.Op) error {
	r := what.Object().(kstate.Raise)
	p.c.parents.add(r.Dev)
	if what.New == nil {
		return p.lowerAgain(op, r)
	}
	d, err := p.host().device(r.Dev)
	switch {
	case err != nil || d.up:
		return err
	case p.sunk(d):
		p.c.recent.touch(d.index)
		p.host().add(op, change(d.index, true, true))
		return nil
	}
	return p.raise(op, d)
}

// sunk reports whether a device is down for another one that it is on, as a VLAN
// goes down with its parent: whether it was up itself nobody knows.
func (p *pass) sunk(d device) bool {
	if !d.onParent() || d.nsid != noNSID {
		return false
	}
	got, err := p.host().sock.get(getDevice("", d.far))
	return err == nil && !parseDevice(got).up
}

func (p *pass) raise(op int, d device) error {
	entries, err := p.c.journal.Entries()
	key := raiseEntry(d.name)
	if _, noted := entries[key]; err == nil && !noted {
		if err = p.c.journal.Put(key, bootID()); err == nil {
			p.fresh[op] = key
		}
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	p.c.recent.touch(d.index)
	p.host().add(op, change(d.index, true, true))
	return nil
}

// lowerAgain queues that a device is down as it was, unless somebody uses it
// meanwhile.
func (p *pass) lowerAgain(op int, r kstate.Raise) error {
	entries, err := p.c.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, noted := entries[raiseEntry(r.Dev)]; !noted {
		return nil
	}
	d, err := p.host().device(r.Dev)
	if err != nil && !errors.Is(err, kernel.ErrMissing) {
		return err
	}
	p.undone[op] = raiseEntry(r.Dev)
	if err != nil || d.master != 0 {
		return nil
	}
	for _, used := range []func(int) (bool, error){p.host().addressed, p.host().burdened} {
		if is, err := used(d.index); err != nil || is {
			return err
		}
	}
	p.c.recent.touch(d.index)
	p.host().addForgiving(op, change(d.index, true, false), kernel.ErrMissing)
	return nil
}

// addressed reports whether a device has an address that the kernel does not give
// every device.
func (s *space) addressed(index int) (bool, error) {
	all, err := s.sock.addrs(context.Background())
	if err != nil {
		return false, err
	}
	for _, a := range all {
		if ip := a.prefix.Addr(); a.index == index && !(ip.Is6() && ip.IsLinkLocalUnicast()) {
			return true, nil
		}
	}
	return false, nil
}

// burdened reports whether somebody else's device that is up is on a device.
func (s *space) burdened(index int) (bool, error) {
	devs, err := s.sock.devices(context.Background())
	return slices.ContainsFunc(devs, func(d device) bool {
		return d.onParent() && d.far == index && d.nsid == noNSID && d.up && !d.ours()
	}), err
}

// raised adds the devices that are up because of us.
func (v *view) raised() {
	up := map[string]bool{}
	for _, d := range v.devs {
		up[d.name] = d.up
	}
	for key := range v.noted {
		if dev, ok := strings.CutPrefix(key, raiseEntry("")); ok && up[dev] {
			v.objs = append(v.objs, kstate.Raise{Dev: dev})
		}
	}
}

// sweepRaised erases the journal's entry of a device that was down in another
// boot, or is down or gone.
func (p *pass) sweepRaised(key, boot string) error {
	dev, ok := strings.CutPrefix(key, raiseEntry(""))
	if !ok {
		return nil
	}
	d, err := p.host().device(dev)
	if err != nil && !errors.Is(err, kernel.ErrMissing) || err == nil && d.up && boot == bootID() {
		return err
	}
	return p.c.journal.Erase(key)
}

// parents are the host's devices that ours are or shall be on, by name, each with the
// index that it was last seen with: what happens to them is of interest, also that one
// has another name now.
type parents struct {
	mu    sync.Mutex // protects names
	names map[string]int
}

func (p *parents) add(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.names == nil {
		p.names = map[string]int{}
	}
	p.names[name] += 0 // its index, if that is known, stays
}

// see notes which devices have the names.
func (p *parents) see(devs map[int]device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, d := range devs {
		if _, ok := p.names[d.name]; ok {
			p.names[d.name] = i
		}
	}
}

// has reports whether a device has such a name, or had it.
func (p *parents) has(d device) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.names[d.name]; ok {
		return true
	}
	for _, index := range p.names {
		if index == d.index {
			return true
		}
	}
	return false
}

// carrier reports whether a device can send, from its flags.
func carrier(flags uint32) bool { return flags&unix.IFF_LOWER_UP != 0 }
