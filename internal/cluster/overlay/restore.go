package overlay

import (
	"context"
	"errors"

	"github.com/sealane/sealane/internal/model"
)

// errThere is that somebody was quicker.
var errThere = errors.New("it is there")

// Keep says which networks this host has, as they are. One that endpoints of this host's
// are on cannot have been removed: a store that lacks it was restored from a copy, or
// begun anew, and it is put again.
func (d *Directory) Keep(networks []Network) {
	d.keep.mu.Lock()
	d.keep.kept = networks
	d.keep.mu.Unlock()
}

// restore puts a network again that the store lacks.
func (d *Directory) restore(ctx context.Context, n Network) error {
	n.leaving = false
	err := d.change(ctx, n.Ref(), "put again", func(b book) (unit, error) {
		if b.rev(Key{Kind: KindNetwork, Network: n.ID}) != 0 {
			return unit{}, errThere
		}
		u, err := b.changed(nil, &n)
		if err == nil {
			err = d.reoffer(ctx, u, n.ID, d.keep.offered(n.ID))
		}
		return u, err
	})
	if errors.Is(err, errThere) {
		return nil
	}
	return err
}

// lost lists the kept networks with endpoints of this host's that the store lacks.
func (k *keeper) lost() (out []Network) {
	k.mu.Lock()
	defer k.mu.Unlock()
	on := map[model.ID]bool{}
	for key := range k.own {
		on[key.Network] = true
	}
	for _, n := range k.kept {
		if on[n.ID] && k.tap.find(Key{Kind: KindNetwork, Network: n.ID}) == nil {
			out = append(out, n)
		}
	}
	return out
}
