package main

import (
	"fmt"

	"github.com/sealane/sealane/internal/model"
)

// few is how many endpoints a network has that is not crowded.
const few = 10

// many is how many one has that is, all on one bridge: those that come and go are
// too.
const many = model.ShardPorts - 1

// attachRows measures attaching a namespace that is there to a network with one
// IPv4 subnet, against the CNI bridge plugin with host-local.
func attachRows(b *bench) error {
	ours, err := b.newSealane()
	if err != nil {
		return err
	}
	defer ours.close()
	if _, err := ours.populate(few); err != nil {
		return err
	}
	empty, err := b.alone(b.times(101), func() (float64, error) {
		return timed(func() error { _, err := ours.client.Version(b.ctx); return err })
	})
	if err != nil {
		return err
	}
	b.table.told("a call that does nothing", empty, millis, interval{})
	plain, err := againstCNI(b, ours, "a", false)
	if err != nil {
		return err
	}
	b.table.absolute("attach, API", plain, atMost(1.5e-3, millis))
	b.table.compared("CNI bridge / attach", plain, millis, plain.ratio(), atLeast(10, times))
	masq, err := againstCNI(b, ours, "b", true)
	if err != nil {
		return err
	}
	b.table.compared("CNI bridge with ipMasq / attach", masq, millis, masq.ratio(), atLeast(10, times))
	return nil
}

func againstCNI(b *bench, ours *sealane, prefix string, masquerade bool) (outcome, error) {
	peer, err := newCNI(masquerade)
	if err != nil {
		return outcome{}, err
	}
	defer peer.close()
	n := b.times(101)
	a, err := ours.attachBlock(prefix, 2*n+1, few)
	if err != nil {
		return outcome{}, err
	}
	z, err := peer.attachBlock(prefix, 2*n+1)
	if err != nil {
		return outcome{}, err
	}
	return b.contest(n, a, z)
}

// crowdRows measures attaching to a network with many endpoints, against one
// with few, and the memory of the daemon that has many.
func crowdRows(b *bench) error {
	crowded, err := b.newSealane()
	if err != nil {
		return err
	}
	defer crowded.close()
	if _, err := crowded.populate(many); err != nil {
		return err
	}
	if err := memoryRow(b, crowded); err != nil {
		return err
	}
	small, err := b.newSealane()
	if err != nil {
		return err
	}
	defer small.close()
	if _, err := small.populate(few); err != nil {
		return err
	}
	n := b.times(101)
	a, err := crowded.attachBlock("c", 2*n+1, many)
	if err != nil {
		return err
	}
	z, err := small.attachBlock("c", 2*n+1, few)
	if err != nil {
		return err
	}
	o, err := b.contest(n, a, z)
	if err != nil {
		return err
	}
	b.table.compared(fmt.Sprintf("attach at %d endpoints / at %d", many, few), o, millis, o.ratio().inverse(), atMost(2, times))
	return nil
}

// attachBlock returns a run that attaches one of n new namespaces to a network
// with a number of endpoints, which it has again afterwards.
func (s *sealane) attachBlock(prefix string, n, endpoints int) (block, error) {
	paths, err := s.spaces(prefix, n)
	next := 0
	return func() (float64, error) {
		p := paths[next]
		next++
		took, err := timed(func() error { _, err := s.attach(p); return err })
		if err == nil {
			err = s.detach(p)
		}
		if err == nil {
			err = s.drained(endpoints)
		}
		return took, err
	}, err
}

// attachBlock does the same with plugins, on a bridge that has no other ports.
func (c *cni) attachBlock(prefix string, n int) (block, error) {
	paths, err := c.spaces(prefix, n)
	next := 0
	return func() (took float64, err error) {
		p := paths[next]
		next++
		err = c.do(func() error {
			took, err = timed(func() error { _, err := c.attach(p); return err })
			if err == nil {
				err = c.detach(p)
			}
			return err
		})
		return took, err
	}, err
}
