package main

import (
	"fmt"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/lab/dockerd"
)

// The range of ports that is published at once.
const (
	rangeFirst = 20000
	rangeCount = 500
)

// rangeRows measures -p 20000-20499:20000-20499: creating and starting a
// container with these ports. From Docker's time that of a container without
// ports is taken off, which is its runtime's; ours is a sandbox with its
// namespace and its endpoint, nothing taken off. Docker takes so long that there
// is one pair, and none is thrown away.
func rangeRows(b *bench) error {
	count := rangeCount
	if b.quick {
		count = rangeCount / 10
	}
	ours, err := b.newSealane()
	if err != nil {
		return err
	}
	defer ours.close()
	peer, err := b.newDocker()
	if err != nil {
		return err
	}
	defer peer.close()
	var back, oursBack float64 // taking the container and its ports back
	o, err := b.pairs(1, ours.rangeBlock(b, count, &oursBack), peer.rangeBlock(b, count, &back))
	if err != nil {
		return err
	}
	what := fmt.Sprintf("Docker run with %d ports / ours", count)
	if count == rangeCount {
		b.table.compared(what, o, millis, o.ratio(), atLeast(500, times))
	} else {
		b.table.told(what, o, millis, o.ratio()) // Docker's time grows with the square
	}
	removed := outcome{ours: []float64{oursBack}, peer: []float64{back}, noisy: o.noisy}
	b.table.told(fmt.Sprintf("Docker rm with %d ports / ours", count), removed, millis, removed.ratio())
	return nil
}

// runs is how often what takes milliseconds is repeated in a run.
const runs = 11

// rangeBlock returns a run whose result is the median of some, and adds what
// taking it back took.
func (s *sealane) rangeBlock(b *bench, count int, back *float64) block {
	ports := fmt.Sprintf("%d-%d:%d-%d", rangeFirst, rangeFirst+count-1, rangeFirst, rangeFirst+count-1)
	spec := api.SandboxSpec{Name: "ranged", Networks: []api.EndpointSpec{{Network: network}}, Ports: []string{ports}}
	return func() (float64, error) {
		var up, down []float64
		for range runs {
			took, err := timed(func() error { _, err := s.client.CreateSandbox(b.ctx, spec); return err })
			if err != nil {
				return 0, fmt.Errorf("sandbox: %w\n%s", err, s.log.Bytes())
			}
			up = append(up, took)
			took, err = timed(func() error { return s.client.RemoveSandbox(b.ctx, spec.Name, true) })
			if err == nil {
				err = s.drained(0)
			}
			if err != nil {
				return 0, err
			}
			down = append(down, took)
		}
		*back = median(down)
		return median(up), nil
	}
}

func (d *docker) rangeBlock(b *bench, count int, back *float64) block {
	var ports []string
	for i := range count {
		ports = append(ports, fmt.Sprintf("%d/tcp", rangeFirst+i))
	}
	return func() (float64, error) {
		var bare []float64
		for range 3 {
			up, _, err := d.runAndRemove(b, nil)
			if err != nil {
				return 0, err
			}
			bare = append(bare, up)
		}
		up, down, err := d.runAndRemove(b, ports)
		*back = down
		return up - median(bare), err
	}
}

// runAndRemove returns how many seconds it took to start a container and to
// remove it.
func (d *docker) runAndRemove(b *bench, ports []string) (up, down float64, err error) {
	c := dockerd.Container{Name: "ranged", Image: idle, Cmd: idleCommand(), Publish: ports}
	if up, err = timed(func() error { return d.Run(b.ctx, c) }); err != nil {
		return 0, 0, fmt.Errorf("%w\n%s", err, d.log.Bytes())
	}
	down, err = timed(func() error { return d.Remove(b.ctx, c.Name) })
	return up, down, err
}
