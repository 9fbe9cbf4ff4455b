package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/api"
)

// fabricRows measures networks over two hosts on one switch, by host-gw, by vxlan and by
// udp, against the hosts themselves and against bare devices; how soon another host is
// reached; and many hosts.
func fabricRows(b *bench) error {
	x, err := newHub()
	if err != nil {
		return err
	}
	defer x.close()
	// Of the subnets from the hundredth on, leaseRows makes use.
	config := `{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{"Type":"host-gw"}}`
	if err := x.put(map[string]string{"/coreos.com/network/config": config}); err != nil {
		return err
	}
	var hosts []*sealane
	for i := range 2 {
		s, err := x.daemon(b, i+2)
		if err != nil {
			return err
		}
		defer s.close()
		hosts = append(hosts, s)
	}
	p, err := newPaths(hosts)
	if err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, hosts[0].log.Bytes(), hosts[1].log.Bytes())
	}
	plain, bare, err := plainPaths(x)
	for _, h := range bare {
		defer h.close()
	}
	if err != nil {
		return err
	}
	maps.Copy(p, plain)
	for _, row := range []struct {
		ours, peer   string
		stream, turn limit
	}{
		{backendHostGW, hostSpace, atLeast(0.75, times), limit{}},
		{backendVXLAN, backendHostGW, atLeast(0.85, times), limit{}},
		{backendVXLAN, hostSpace, limit{}, limit{}},
		{backendUDP, backendHostGW, atLeast(0.35, times), limit{}},
		{backendUDP, backendVXLAN, limit{}, atMost(2, times)},
		{plainRoute, hostSpace, limit{}, limit{}},
		{plainVXLAN, plainRoute, limit{}, limit{}},
		{backendHostGW, plainRoute, limit{}, limit{}},
		{backendVXLAN, plainVXLAN, limit{}, limit{}},
	} {
		if err := p.rows(b, row.ours, row.peer, row.stream, row.turn); err != nil {
			return err
		}
	}
	if err := leaseRows(b, x, hosts[0], p[backendHostGW].from); err != nil {
		return fmt.Errorf("%w\n%s", err, hosts[0].log.Bytes())
	}
	for _, backend := range []string{backendVXLAN, backendHostGW} {
		if err := peerRows(b, backend); err != nil {
			return err
		}
	}
	return nil
}

// The backends, and the names of networks by them.
const (
	backendHostGW = "host-gw"
	backendVXLAN  = "vxlan"
	backendUDP    = "udp"
)

// daemon plugs in a host with a daemon that knows of the hub's etcd.
func (x *hub) daemon(b *bench, i int) (*sealane, error) {
	h, err := newOpenHost()
	if err != nil {
		return nil, err
	}
	s := newDaemon(h)
	err = errors.Join(s.filterBridged(false), x.plug(h, nthHost(i)))
	if err == nil {
		err = s.start(b, "--etcd", hubURL, "--uplink", "eth0")
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("daemon: %w\n%s", err, s.log.Bytes())
	}
	return s, nil
}

// nthHost is the address of the nth host at the hub, which is the first.
func nthHost(i int) string { return fmt.Sprintf("172.%d.%d.%d", 16+i>>16, i>>8&255, i&255) }

// path is from somewhere in one host to somewhere in the other.
type path struct {
	from, into spot
	to         netip.Addr
}

// paths are by what they lead through: a backend, or hostSpace for nothing.
type paths map[string]path

// newPaths makes networks of the other backends, and a namespace on both hosts on each.
func newPaths(hosts []*sealane) (paths, error) {
	p := paths{hostSpace: {spot{hosts[0].host, hostSpace}, spot{hosts[1].host, hostSpace}, netip.MustParseAddr(nthHost(3))}}
	networks := map[string]string{backendHostGW: "flannel", backendVXLAN: "beside", backendUDP: "thin"}
	for backend, prefix := range map[string]string{backendVXLAN: "10.6.0.0/16", backendUDP: "10.7.0.0/16"} {
		spec := api.NetworkSpec{Name: networks[backend], Driver: "fabric", Subnets: []api.SubnetSpec{{Prefix: prefix}}, Options: map[string]string{"backend": backend}}
		if _, err := hosts[0].client.CreateNetwork(context.Background(), spec); err != nil {
			return nil, err
		}
	}
	for backend, network := range networks {
		if err := p.add(hosts, backend, network); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// add makes a namespace on both hosts on a network, and the path between them.
func (p paths) add(hosts []*sealane, backend, network string) error {
	var ends []spot
	var to netip.Addr
	for _, s := range hosts {
		spaces, err := s.spaces(backend, 1)
		if err != nil {
			return err
		}
		if to, err = s.onFabric(network, spaces[0]); err != nil {
			return err
		}
		ends = append(ends, spot{s.host, spaces[0]})
	}
	p[backend] = path{ends[0], ends[1], to}
	return p[backend].open()
}

// onFabric connects a namespace to a network that another host may just have made, and
// returns its address.
func (s *sealane) onFabric(network, space string) (to netip.Addr, err error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, err = s.client.Connect(context.Background(), network, api.Connect{Sandbox: "netns:" + space})
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		return to, fmt.Errorf("connect %s: %w", space, err)
	}
	return to, s.within(space, 1, func() (err error) {
		to, err = ownAddress()
		return err
	})
}

// open waits until packets go through, and come back.
func (p path) open() error {
	return p.from.within(p.from.space, 0, func() error { return answered(p.to, time.Millisecond, time.Now().Add(10*time.Second)) })
}

// rows compares two paths: a stream, and round trips of a datagram, each judged by a
// limit if there is one.
func (p paths) rows(b *bench, ours, peer string, streams, turns limit) error {
	stream := func(name string) block { return bulkBetween(p[name].from, p[name].into, p[name].to) }
	what := map[string]string{hostSpace: "host to host"}[peer]
	if what == "" {
		what = peer
	}
	o, err := b.contest(b.times(21), stream(ours), stream(peer))
	if err != nil {
		return err
	}
	b.table.judged(fmt.Sprintf("container to another host's by %s / %s", ours, what), o, gbits, o.ratio().inverse(), streams)
	if o, err = b.contest(b.times(21), p[ours].roundTrips(), p[peer].roundTrips()); err != nil {
		return err
	}
	b.table.judged(fmt.Sprintf("round trip by %s / %s", ours, what), o, micros, o.ratio().inverse(), turns)
	return nil
}

func micros(v float64) string { return fmt.Sprintf("%.1f µs", 1e6*v) }

// roundTrips returns a run whose result is what one round trip takes, the median of
// many.
func (p path) roundTrips() block {
	const n = 3000
	return func() (float64, error) {
		server, err := p.into.serve(p.into.space, true)
		if err != nil {
			return 0, err
		}
		var each []float64
		client := place{host: p.from.host, to: p.to}
		err = p.from.within(p.from.space, 0, func() error {
			c, err := client.dial(unix.SOCK_DGRAM, answerPort)
			if err != nil {
				return err
			}
			defer unix.Close(c)
			buf := make([]byte, 64)
			for range n {
				took, err := timed(func() error {
					if _, err := unix.Write(c, buf); err != nil {
						return err
					}
					_, err := unix.Read(c, buf)
					for err == unix.EINTR { // by the runtime, of a wait that is long
						_, err = unix.Read(c, buf)
					}
					return err
				})
				if err != nil {
					return fmt.Errorf("round trip: %w", err)
				}
				each = append(each, took)
			}
			return nil
		})
		return median(each), errors.Join(err, server.close())
	}
}
