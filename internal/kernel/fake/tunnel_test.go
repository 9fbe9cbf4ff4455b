package fake_test

import (
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

func (o *outside) Neigh(_ *testing.T, n kstate.Neigh, permanent bool) {
	if permanent { // else it is no object
		o.Foreign(n)
	}
}

func (o *outside) DropNeigh(_ *testing.T, n kstate.Neigh) { o.Remove(n.Key()) }

func (o *outside) DropFDB(_ *testing.T, f kstate.FDB) { o.Kernel.DropFDB(f, false) }

func (o *outside) Unbridge(_ *testing.T, f kstate.FDB) { o.Kernel.DropFDB(f, true) }

func (o *outside) Known(t *testing.T, dev string, on bool) {
	o.link(t, dev, func(l *kstate.Link) { l.Known = on })
}

func (o *outside) DropRoute(_ *testing.T, r kstate.Route) { o.Remove(r.Key()) }

// Rule changes nothing that is looked at: it is not ours.
func (o *outside) Rule(*testing.T, kstate.Rule) {}

func (o *outside) DropRule(_ *testing.T, r kstate.Rule) { o.Remove(r.Key()) }

func (o *outside) Detour(t *testing.T, dev string, on bool) {
	o.link(t, dev, func(l *kstate.Link) { l.Detour = on })
}
