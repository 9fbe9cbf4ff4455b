package fake

import (
	"errors"
	"fmt"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

func (w *world) putShaper(o kstate.Shaper) error {
	if err := w.own(o.Dev); err != nil {
		return err
	}
	if o.Rate == 0 || o.Burst == 0 {
		return errors.New("a rate and a burst are needed")
	}
	delete(w.queues, o.Dev)
	w.set(o)
	return nil
}

func (w *world) putRedirect(o kstate.Redirect) error {
	for _, dev := range []string{o.Dev, o.To} {
		if err := w.own(dev); err != nil {
			return err
		}
	}
	w.set(o)
	return nil
}

// strand leaves redirects to a device that goes without one.
func (w *world) strand(dev string) {
	for k, o := range w.objs {
		if r, ok := o.(kstate.Redirect); ok && r.To == dev {
			w.objs[k] = kstate.Redirect{Dev: r.Dev}
		}
	}
}

// own refuses what is not a device of ours in the host's namespace.
func (w *world) own(dev string) error {
	l, ok := w.device(kstate.NS{}, dev)
	switch {
	case !ok:
		return fmt.Errorf("device %s %w", dev, kernel.ErrMissing)
	case l.Other:
		return fmt.Errorf("device %s is not ours: %w", dev, kernel.ErrInUse)
	}
	return nil
}

// Shape lets somebody else put a queue of theirs at the root of a device of the
// host. It is no object, and in the place of ours.
func (k *Kernel) Shape(dev string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.world.drop(kstate.Shaper{Dev: dev}.Key())
	k.world.queues[dev] = true
	k.hint("+ queue %s", dev)
}

// Shaped reports whether a device has such a queue.
func (k *Kernel) Shaped(dev string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.world.queues[dev]
}

// Unshape lets somebody else take away whatever queue is at the root of a device
// of the host, and where filters on what comes in are.
func (k *Kernel) Unshape(dev string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.world.drop(kstate.Shaper{Dev: dev}.Key())
	k.world.drop(kstate.Redirect{Dev: dev}.Key())
	delete(k.world.queues, dev)
	k.hint("- queue %s", dev)
}
