package main

import (
	"errors"
	"fmt"
	"net/netip"
)

// portRows measures what goes through published ports from another host, where
// both rewrite the destination: new TCP connections, one stream and datagrams.
// Docker's host has br_netfilter, as it loads it; ours has not, or has. Then
// with some networks more that nobody uses, as hosts have.
func portRows(b *bench) error {
	for _, c := range []struct {
		what     string
		filtered bool
		more     int
	}{
		{"", false, 0}, {", both with br_netfilter", true, 0}, {", 10 networks more", false, 10},
	} {
		err := b.facing(nil, c.more, func(ours, docker place) error {
			if err := ours.filterBridged(c.filtered); err != nil {
				return err
			}
			return b.fromAfar("ours / Docker's DNAT"+c.what, ours, docker, atLeast(1, times))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// proxyRows measures the same where docker-proxy carries the traffic: for all
// clients when Docker may not touch the packet filter, and for the host's own
// at 127.0.0.1 in any case. More than a server on the host itself has, to which
// nothing is forwarded, nobody can have.
func proxyRows(b *bench) error {
	err := b.facing([]string{noFirewall}, 0, func(ours, docker place) error {
		if err := b.fromAfar("ours / docker-proxy", ours, docker, atLeast(2, times)); err != nil {
			return err
		}
		return b.unforwarded("a server on the host / docker-proxy", docker)
	})
	if err != nil {
		return err
	}
	return b.facing(nil, 0, func(ours, docker place) error {
		return b.portRow("ours / docker-proxy, both at 127.0.0.1", ours.local(), docker.local(), limit{})
	})
}

// unforwarded measures a server in a host's own namespace.
func (b *bench) unforwarded(what string, peer place) error {
	h, err := newHost()
	if err != nil {
		return err
	}
	defer h.close()
	bare, err := h.reached(hostSpace)
	if err != nil {
		return err
	}
	return serving([]place{bare}, false, func() error { return b.fromAfar(what, bare, peer, limit{}) })
}

func networkNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("more%d", i)
	}
	return names
}

// fromAfar measures two hosts that have one processor each, without that of
// their clients: what these do is not the hosts' work.
func (b *bench) fromAfar(what string, ours, peer place, target limit) error {
	for _, p := range []place{ours, peer} {
		if err := confine(p.cgroup, hostCPU); err != nil {
			return err
		}
	}
	return b.portRow(what, ours, peer, target)
}

// facing calls fn with a place of ours and one of a dockerd with arguments,
// both with some networks more, whose servers answer.
func (b *bench) facing(args []string, more int, fn func(ours, docker place) error) error {
	s, err := b.newSealane()
	if err != nil {
		return err
	}
	defer s.close()
	ours, err := s.published(nil)
	if err == nil {
		err = s.networks(networkNames(more)...)
	}
	if err != nil {
		return err
	}
	d, err := b.newDocker(args...)
	if err != nil {
		return err
	}
	defer d.close()
	theirs, err := d.published(b)
	if err == nil {
		err = d.networks(b, networkNames(more)...)
	}
	if err != nil {
		return err
	}
	return serving([]place{ours, theirs}, false, func() error { return fn(ours, theirs) })
}

// portRow measures the three kinds of traffic.
func (b *bench) portRow(whose string, near, far place, target limit) error {
	for _, k := range []struct {
		what   string
		run    func(place) block
		format func(float64) string
	}{
		{"new TCP connections", place.connections, perSecond},
		{"one TCP stream", place.bulk, gbits},
		{"datagrams", place.datagrams, perSecond},
	} {
		o, err := b.contest(b.times(21), k.run(near), k.run(far))
		if err != nil {
			return fmt.Errorf("%s, %s: %w", k.what, whose, err)
		}
		b.table.judged(fmt.Sprintf("published port, %s: %s", k.what, whose), o, k.format, o.ratio().inverse(), target)
	}
	return nil
}

// latencyRows measures how long a new connection to a published port takes at
// worst, to its first byte, with 10 ports published and with 50,000. The port is
// one that differs from the container's, as all of the others.
func latencyRows(b *bench) error {
	var places []place
	for _, others := range [][]string{tenPorts(), nil} {
		s, err := b.newSealane()
		if err != nil {
			return err
		}
		defer s.close()
		p, err := s.published(others)
		if err == nil && others == nil {
			err = s.crowd()
		}
		if err != nil {
			return err
		}
		p.port = otherPort
		places = append(places, p)
	}
	return serving(places, true, func() error {
		o, err := b.contest(b.times(31), places[1].slowest(), places[0].slowest())
		if err != nil {
			return err
		}
		b.table.compared("p99 of a connection, 50,000 ports published / 10", o, millis, o.ratio().inverse(), atMost(1.5, times))
		return nil
	})
}

// otherPort of the host leads to answerPort too.
const otherPort = answerPort + 1

// tenPorts are those that make ten with the four of published.
func tenPorts() (ports []string) {
	for i := range 6 {
		ports = append(ports, fmt.Sprintf("%d:%d", freePort+i, 80+i))
	}
	return ports
}

// published connects a sandbox that stays, publishes its server's ports and
// others, and makes a host from where to reach them.
func (s *sealane) published(others []string) (place, error) {
	paths, err := s.spaces("server", 1)
	if err != nil {
		return place{}, err
	}
	id, err := s.attach(paths[0])
	if err != nil {
		return place{}, err
	}
	ports := append(others, fmt.Sprintf("%d:%d", bulkPort, bulkPort), fmt.Sprintf("%d:%d", answerPort, answerPort),
		fmt.Sprintf("%d:%d/udp", answerPort, answerPort), fmt.Sprintf("%d:%d", otherPort, answerPort))
	if err := s.publish(id, ports...); err != nil {
		return place{}, err
	}
	return s.host.reached(paths[0])
}

// published runs a container with its server's ports published, and makes a host
// from where to reach them.
func (d *docker) published(b *bench) (place, error) {
	server, err := d.idleContainer(b, "server", "", fmt.Sprintf("%d/tcp", bulkPort), fmt.Sprintf("%d/tcp", answerPort), fmt.Sprintf("%d/udp", answerPort))
	if err != nil {
		return place{}, err
	}
	return d.host.reached(server)
}

// reached is the place of a container whose ports are reached by a wire.
func (h *host) reached(server string) (place, error) {
	client, err := h.wire()
	return place{h, client, server, netip.MustParseAddr(wireNear), answerPort}, err
}

// serving runs fn while servers answer at places, before all other threads or
// as they.
func serving(places []place, first bool, fn func() error) (err error) {
	for _, p := range places {
		s, failed := p.serve(p.server, first)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, s.close()) }()
	}
	return fn()
}

// local is the same place for a client on the host itself, by the loopback.
func (p place) local() place {
	p.client, p.to = hostSpace, netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return p
}
