package main

import (
	"context"
	"fmt"

	"github.com/sealane/sealane/internal/api"
)

// second is the network that a container comes to and leaves again.
const second = "second"

// connectRows measures putting a running container that is on one network on
// another, and taking it off: docker network connect and disconnect, over
// either's socket and without its command line.
func connectRows(b *bench) error {
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
	if err := peer.networks(b, network, second); err != nil {
		return err
	}
	if _, err := peer.idleContainer(b, "box", network); err != nil {
		return err
	}
	ids, err := ours.populate(1)
	if err == nil {
		_, err = ours.client.CreateNetwork(b.ctx, api.NetworkSpec{Name: second, Subnets: []api.SubnetSpec{{Prefix: nthSubnet(1).String()}}})
	}
	if err != nil {
		return err
	}
	answered, err := b.contest(b.times(41), ours.connectBlock(ids[0], false), peer.connectBlock(b, "box", false))
	if err != nil {
		return err
	}
	b.table.compared("Docker network connect + disconnect / ours", answered, millis, answered.ratio(), atLeast(20, times))
	gone, err := b.contest(b.times(41), ours.connectBlock(ids[0], true), peer.connectBlock(b, "box", true))
	if err != nil {
		return err
	}
	b.table.told("the same, until the device is gone", gone, millis, gone.ratio())
	return nil
}

// connectBlock returns a run that connects and disconnects, until both are
// answered or until the device is gone too.
func (s *sealane) connectBlock(sandbox string, gone bool) block {
	return s.comeAndGo(gone, func() error {
		if _, err := s.client.Connect(context.Background(), second, api.Connect{Sandbox: sandbox}); err != nil {
			return fmt.Errorf("connect: %w\n%s", err, s.log.Bytes())
		}
		return s.client.Disconnect(context.Background(), second, api.Disconnect{Sandbox: sandbox})
	})
}

func (d *docker) connectBlock(b *bench, container string, gone bool) block {
	return d.comeAndGo(gone, func() error {
		if err := d.Connect(b.ctx, second, container); err != nil {
			return err
		}
		return d.Disconnect(b.ctx, second, container)
	})
}

// comeAndGo returns a run of fn, which makes a second veth and takes it back.
func (h *host) comeAndGo(gone bool, fn func() error) block {
	return func() (float64, error) {
		took, err := timed(func() error {
			err := fn()
			if err == nil && gone {
				err = h.drained(1)
			}
			return err
		})
		if err == nil {
			err = h.drained(1)
		}
		return took, err
	}
}
