package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sealane/sealane/internal/api"
)

// The ports that are published while we measure: 50,000, by sandboxes with a
// range of 1,000 each that differs from the container's, so that each port is an
// element of a map. They are below those that the kernel gives to clients, where
// our daemon's proxy is.
const (
	crowdFirst = 7000
	crowdEach  = 1000
	crowdSpans = 25 // for each protocol
)

// freePort is the first of those that we publish on top.
const freePort = 61000

// publishRows measures publishing ports of a running sandbox, with no others
// and with 50,000 others published.
func publishRows(b *bench) error {
	ours, err := b.newSealane()
	if err != nil {
		return err
	}
	defer ours.close()
	ids, err := ours.populate(1)
	if err != nil {
		return err
	}
	sandbox := ids[0]
	if err := publishPeer(b, ours, sandbox); err != nil {
		return err
	}
	if err := publishSizes(b, ours, sandbox, ""); err != nil {
		return err
	}
	if err := publishRanges(b, ours, sandbox); err != nil {
		return err
	}
	if err := ours.crowd(); err != nil {
		return err
	}
	return publishSizes(b, ours, sandbox, ", 50,000 published")
}

// crowd publishes 50,000 ports of sandboxes made for it.
func (s *sealane) crowd() error {
	paths, err := s.spaces("crowd", 2*crowdSpans)
	if err != nil {
		return err
	}
	ids, err := s.attachAll(paths)
	if err != nil {
		return err
	}
	for i, id := range ids {
		first := crowdFirst + i/2*crowdEach
		proto := [2]string{"tcp", "udp"}[i%2]
		if err := s.publish(id, fmt.Sprintf("%d-%d:1-%d/%s", first, first+crowdEach-1, crowdEach, proto)); err != nil {
			return err
		}
	}
	return nil
}

// publishSizes measures one port and 64, in one call each.
func publishSizes(b *bench, ours *sealane, sandbox, when string) error {
	var ports []string
	for i := range 64 {
		ports = append(ports, fmt.Sprintf("%d:%d", freePort+i, 80+i))
	}
	one, err := b.alone(b.times(101), ours.publishBlock(sandbox, ports[0]))
	if err != nil {
		return err
	}
	b.table.absolute("publish 1 port"+when, one, atMost(0.5e-3, millis))
	lot, err := b.alone(b.times(101), ours.publishBlock(sandbox, ports...))
	if err != nil {
		return err
	}
	b.table.absolute("publish 64 ports"+when, lot, atMost(1e-3, millis))
	return nil
}

// publishPeer measures one port against the CNI plugin.
func publishPeer(b *bench, ours *sealane, sandbox string) error {
	peer, err := newCNI(false)
	if err != nil {
		return err
	}
	defer peer.close()
	z, err := peer.publishBlock()
	if err != nil {
		return err
	}
	o, err := b.contest(b.times(41), ours.publishBlock(sandbox, fmt.Sprintf("%d:80", freePort)), z)
	if err != nil {
		return err
	}
	b.table.told("CNI portmap / publish 1 port", o, millis, o.ratio())
	return nil
}

// publishRanges measures -p with 10,000 ports: the same ports in the container,
// and others.
func publishRanges(b *bench, ours *sealane, sandbox string) error {
	for _, r := range []struct{ what, spec string }{
		{"publish 20000-29999:20000-29999", "20000-29999:20000-29999"},
		{"publish 20000-29999:30000-39999", "20000-29999:30000-39999"},
	} {
		o, err := b.alone(b.times(31), ours.publishBlock(sandbox, r.spec))
		if err != nil {
			return err
		}
		b.table.absolute(r.what, o, atMost(20e-3, millis))
	}
	return nil
}

func (s *sealane) publish(sandbox string, ports ...string) error {
	_, err := s.client.Publish(context.Background(), sandbox, api.Ports{Ports: ports})
	if err != nil {
		return fmt.Errorf("publish %s: %w", ports[0], err)
	}
	return nil
}

// publishBlock returns a run that publishes ports, and takes them back untimed.
func (s *sealane) publishBlock(sandbox string, ports ...string) block {
	return func() (float64, error) {
		took, err := timed(func() error { return s.publish(sandbox, ports...) })
		if err == nil {
			err = s.client.Unpublish(context.Background(), sandbox, api.Ports{Ports: ports})
		}
		return took, err
	}
}

// publishBlock returns a run that executes the portmap plugin.
func (c *cni) publishBlock() (block, error) {
	paths, err := c.spaces("p", 1)
	if err != nil {
		return nil, err
	}
	var result json.RawMessage
	err = c.do(func() (err error) { result, err = c.attach(paths[0]); return err })
	return func() (took float64, err error) {
		err = c.do(func() error {
			took, err = timed(func() error { return c.publish(paths[0], result, freePort, 80) })
			if err == nil {
				err = c.unpublish(paths[0], result, freePort, 80)
			}
			return err
		})
		return took, err
	}, err
}
