package linux

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/sysctl"
	"github.com/sealane/sealane/internal/kstate"
)

// The settings that say which ports the kernel gives to a socket that asks for
// any (Documentation/networking/ip-sysctl.rst). They serve IPv6 too.
const (
	dynamicPorts  = "net.ipv4.ip_local_port_range"
	reservedPorts = "net.ipv4.ip_local_reserved_ports"
)

// reservedEntry is the journal's key of what the host had reserved before us.
const reservedEntry = "ports/reserved"

// maxReserved is how long the list may get: the kernel reads one page of it
// (proc_do_large_bitmap in kernel/sysctl.c).
const maxReserved = 4000

// reserving keeps held ports from being given to sockets that ask for any port:
// no bind of theirs could be refused by its number. Only holds within the
// kernel's dynamic ports need that, and only what fits into the setting gets
// it: some 350 ranges.
type reserving struct {
	holds     part
	journal   journal.Journal
	inside    sysctl.Inside
	low, high uint16 // dynamic ports, as they were at start
}

// Observe returns the holds.
func (r *reserving) Observe() ([]kstate.Object, error) { return r.holds.Observe() }

// Apply takes and releases holds, and reserves anew when that concerns dynamic
// ports.
func (r *reserving) Apply(ops []kstate.Op) error {
	err := r.holds.Apply(ops)
	i := slices.IndexFunc(ops, func(op kstate.Op) bool {
		h, ok := op.Object().(kstate.Hold)
		return ok && h.Last >= r.low && h.First <= r.high
	})
	if i < 0 {
		return err
	}
	if rerr := r.inside(r.update); rerr != nil {
		err = errors.Join(err, &kernel.OpError{Op: ops[i], Err: rerr})
	}
	return err
}

// start learns which ports are dynamic and reserves what is held already.
func (r *reserving) start() error {
	return r.inside(func() (err error) {
		if r.low, r.high, err = dynamic(); err != nil {
			return err
		}
		return r.update()
	})
}

// dynamic returns the first and last port that the kernel gives out by itself.
func dynamic() (low, high uint16, err error) {
	text, err := sysctl.Read(dynamicPorts)
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscan(text, &low, &high)
	return low, high, err
}

// update writes what the host had reserved together with what is held; with
// nothing held it puts back what was there.
func (r *reserving) update() error {
	objs, err := r.holds.Observe()
	if err != nil {
		return err
	}
	spans := within(objs, r.low, r.high)
	entries, err := r.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	before, noted := entries[reservedEntry]
	if !noted {
		if len(spans) == 0 {
			return nil
		}
		if before, err = sysctl.Read(reservedPorts); err != nil {
			return err
		}
		if err := r.journal.Put(reservedEntry, before); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	if err := sysctl.Write(reservedPorts, list(before, spans)); err != nil || len(spans) > 0 {
		return err
	}
	return r.journal.Erase(reservedEntry)
}

// span is a range of ports.
type span struct{ first, last uint16 }

// within returns the held ports between low and high, joined and in order.
func within(objs []kstate.Object, low, high uint16) []span {
	var all []span
	for _, o := range objs {
		if h, ok := o.(kstate.Hold); ok && h.Last >= low && h.First <= high {
			all = append(all, span{max(h.First, low), min(h.Last, high)})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var joined []span
	for _, s := range all {
		if n := len(joined) - 1; n >= 0 && int(s.first) <= int(joined[n].last)+1 {
			joined[n].last = max(joined[n].last, s.last)
		} else {
			joined = append(joined, s)
		}
	}
	return joined
}

// list is the setting's text: before, and as many spans as fit.
func list(before string, spans []span) string {
	text := strings.TrimSpace(before)
	for _, s := range spans {
		more := fmt.Sprintf("%d-%d", s.first, s.last)
		if text != "" {
			more = "," + more
		}
		if len(text)+len(more) > maxReserved {
			break
		}
		text += more
	}
	if text == "" {
		return "\n" // the kernel takes an empty line as an empty list
	}
	return text
}
