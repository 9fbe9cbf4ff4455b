package main

// burst is how many endpoints are detached one right after the other.
const burst = 100

// detachRows measures detaching a burst of endpoints whose namespaces stay: how
// long the caller waits for each, and when the last device is gone.
func detachRows(b *bench) error {
	ours, err := b.newSealane()
	if err != nil {
		return err
	}
	defer ours.close()
	peer, err := newCNI(false)
	if err != nil {
		return err
	}
	defer peer.close()
	paths, err := ours.spaces("d", burst)
	if err == nil {
		_, err = peer.spaces("d", burst)
	}
	if err != nil {
		return err
	}
	var each []float64 // what the caller waits, of all runs
	n := b.times(15)
	all, err := b.contest(n, ours.detachBlock(paths, &each), peer.detachBlock(paths))
	if err != nil {
		return err
	}
	b.table.absolute("detach, what the caller waits", outcome{ours: each[burst:]}, atMost(0.5e-3, millis))
	b.table.absolute("detach, all gone, each of 100", all, atMost(1e-3, millis))
	b.table.told("CNI bridge / detach, all gone", all, millis, all.ratio())
	return nil
}

// detachBlock returns a run whose result is the time until all are gone, per
// endpoint. What the caller waited is added to each.
func (s *sealane) detachBlock(paths []string, each *[]float64) block {
	return func() (float64, error) {
		if _, err := s.attachAll(paths); err != nil {
			return 0, err
		}
		took, err := timed(func() error {
			for _, p := range paths {
				one, err := timed(func() error { return s.detach(p) })
				if err != nil {
					return err
				}
				*each = append(*each, one)
			}
			return s.drained(0)
		})
		return took / float64(len(paths)), err
	}
}

func (c *cni) detachBlock(paths []string) block {
	return func() (took float64, err error) {
		err = c.do(func() error {
			for _, p := range paths {
				if _, err := c.attach(p); err != nil {
					return err
				}
			}
			took, err = timed(func() error {
				for _, p := range paths {
					if err := c.detach(p); err != nil {
						return err
					}
				}
				return c.drained(0)
			})
			return err
		})
		return took / float64(len(paths)), err
	}
}
