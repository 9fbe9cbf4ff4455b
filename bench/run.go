package main

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/lab/dockerd"
)

// runRows measures what a network adds to docker run: the time until a container
// has started, less that of one with --network none. Both networks are Docker's,
// of its own driver and of ours, on one host.
func runRows(b *bench) error {
	d, err := b.newDocker()
	if err != nil {
		return err
	}
	defer d.close()
	s := &sealane{host: d.host, client: api.Dial(d.host.path(api.DefaultSocket))}
	defer s.stop()
	if err := s.start(b); err != nil {
		return fmt.Errorf("daemon: %w\n%s", err, s.log.Bytes())
	}
	if err := d.networks(b, "theirs"); err != nil {
		return err
	}
	err = d.Call(b.ctx, "POST", "/networks/create", map[string]any{
		"Name": "ours", "Driver": "sealane",
		"IPAM": map[string]any{"Driver": "sealane", "Config": []map[string]string{{"Subnet": netip.MustParsePrefix("10.99.0.0/16").String()}}},
	}, nil)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.log.Bytes())
	}
	for _, ports := range [][]string{nil, {fmt.Sprintf("%d/tcp", answerPort)}} {
		o, err := b.contest(b.times(21), d.shareBlock(b, "ours", ports...), d.shareBlock(b, "theirs", ports...))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, s.log.Bytes())
		}
		b.table.compared(fmt.Sprintf("network's share of docker run, %d ports: ours / Docker's bridge", len(ports)), o, millis, o.ratio().inverse(), atMost(0.7, times))
	}
	return bareRows(b, d)
}

// bareRows measures what Docker itself takes around a driver that does nothing, with
// a device to move and without: less no driver of its plugins' can have.
func bareRows(b *bench, d *docker) error {
	for _, c := range []struct {
		name, what, subnet string
		device             bool
	}{{"bare", "that only names a device", "10.97.0.0/16", true}, {"barest", "without a device", "10.98.0.0/16", false}} {
		n := b.times(21)
		p, err := d.bareNetwork(b, c.name, c.subnet, 2*n+2, c.device)
		if err != nil {
			return err
		}
		o, err := b.contest(n, d.shareBlock(b, c.name), d.shareBlock(b, "theirs"))
		if err = errors.Join(err, p.close()); err != nil {
			return err
		}
		b.table.told(fmt.Sprintf("network's share of docker run: a plugin %s / Docker's bridge", c.what), o, millis, o.ratio().inverse())
	}
	return nil
}

// shareBlock returns a run whose result is how many seconds longer a container
// takes to start on a network than on none.
func (d *docker) shareBlock(b *bench, network string, ports ...string) block {
	return func() (float64, error) {
		none, err := d.startTime(b, "none")
		if err != nil {
			return 0, err
		}
		on, err := d.startTime(b, network, ports...)
		return on - none, err
	}
}

// startTime runs a container and removes it, and returns how long it took to
// start, in seconds.
func (d *docker) startTime(b *bench, network string, ports ...string) (float64, error) {
	c := dockerd.Container{Name: "timed", Image: idle, Cmd: idleCommand(), Network: network, Publish: ports}
	took, err := timed(func() error { return d.Run(b.ctx, c) })
	if err != nil {
		return 0, err
	}
	return took, d.Remove(b.ctx, c.Name)
}
