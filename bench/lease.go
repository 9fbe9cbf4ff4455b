package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// manyHosts is how many daemons there are in a large room.
const manyHosts = 25

// firstGhost is of the first subnet that leases are given of here.
const firstGhost = 100

// leaseRows measures how long after a lease is given to etcd packets go to that host and
// back, from a container of one host that asks each millisecond, and from one of each of
// many. What etcd takes to store it is in it.
func leaseRows(b *bench, x *hub, s *sealane, from spot) error {
	n, many := b.times(64), b.times(40)
	g, err := x.ghost(2*n + many)
	if err != nil {
		return fmt.Errorf("a host for leases: %w", err)
	}
	defer g.close()
	one := []spot{from}
	o, err := b.alone(n, func() (float64, error) {
		took, err := g.appear(x, one, time.Millisecond)
		return took[0], err
	})
	if err != nil {
		return fmt.Errorf("a new lease: %w", err)
	}
	b.table.absolute("from a lease given to etcd to a packet through", o, atMost(0.1, millis))
	b.table.absolute("the same, p99", outcome{ours: []float64{quantile(o.ours, 0.99)}}, atMost(1, millis))

	all := one
	for i := range manyHosts - 1 {
		h, err := x.daemon(b, i+20)
		if err != nil {
			return err
		}
		defer h.close()
		spaces, err := h.spaces("lease", 1)
		if err != nil {
			return err
		}
		own, err := h.onFabric("flannel", spaces[0])
		if err == nil {
			err = g.do(func() error { return way(netip.PrefixFrom(own, 24), i+20) })
		}
		if err != nil {
			return fmt.Errorf("host %d of %d: %w\n%s", i+2, manyHosts, err, h.log.Bytes())
		}
		all = append(all, spot{h.host, spaces[0]})
	}
	var each []float64
	for range many {
		took, err := g.appear(x, all, 10*time.Millisecond)
		if err != nil {
			return fmt.Errorf("a new lease for %d hosts: %w", manyHosts, err)
		}
		each = append(each, took...)
	}
	what := fmt.Sprintf("the same on each of %d hosts", manyHosts)
	b.table.absolute(what+", median", outcome{ours: []float64{quantile(each, 0.5)}}, atMost(0.1, millis))
	b.table.absolute(what+", p99", outcome{ours: []float64{quantile(each, 0.99)}}, atMost(1, millis))
	return nil
}

// ghost is a host without a daemon, which has the addresses of subnets that it may be
// given leases of.
type ghost struct {
	*host
	next int // subnet
}

// ghost plugs one in, with so many subnets.
func (x *hub) ghost(subnets int) (*ghost, error) {
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	err = x.plug(h, nthHost(9))
	if err == nil {
		err = h.do(func() error {
			lo, err := netlink.LinkByName("lo")
			for i := 0; err == nil && i <= subnets+1; i++ {
				err = netlink.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(leased(firstGhost + i).Addr().Next().AsSlice())})
			}
			return errors.Join(err, way(netip.MustParsePrefix("10.5.0.0/16"), 2))
		})
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return &ghost{h, firstGhost}, nil
}

// way leads from the thread's namespace to a subnet by the nth host at the hub.
func way(to netip.Prefix, n int) error {
	return netlink.RouteAdd(&netlink.Route{Dst: ipNet(to.Masked()), Gw: netip.MustParseAddr(nthHost(n)).AsSlice()})
}

// appear gives the ghost a lease, and returns how long that took to be of use from each
// of some places, which ask at a pace, in seconds.
func (g *ghost) appear(x *hub, from []spot, pace time.Duration) ([]float64, error) {
	subnet := leased(g.next)
	g.next++
	type result struct {
		end time.Time
		err error
	}
	results := make(chan result, len(from))
	for i, at := range from {
		go func() {
			var end time.Time
			err := at.within(at.space, i, func() error {
				err := answered(subnet.Addr().Next(), pace, time.Now().Add(10*time.Second))
				end = time.Now()
				return err
			})
			results <- result{end, err}
		}()
	}
	time.Sleep(5*pace + 50*time.Millisecond) // they ask in vain
	begin := time.Now()
	err := x.put(map[string]string{leaseKey("/coreos.com/network", subnet): fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"host-gw"}`, nthHost(9))})
	took := make([]float64, 0, len(from))
	for range from {
		r := <-results
		took, err = append(took, r.end.Sub(begin).Seconds()), errors.Join(err, r.err)
	}
	return took, err
}

// answered sends echo requests at a pace until there is a reply.
func answered(to netip.Addr, pace time.Duration, deadline time.Time) error {
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	if err := unix.Connect(c, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		return err
	}
	request := []byte{8, 0, 0x99, 0x5e, 0x5e, 0xa1, 0, 0} // RFC 792: type, code, checksum, identifier, sequence
	for buf := make([]byte, 128); time.Now().Before(deadline); {
		_, _ = unix.Write(c, request) // an error may be of one before
		for next := time.Now().Add(pace); time.Now().Before(next); time.Sleep(pace / 10) {
			const header = 20
			if n, _, err := unix.Recvfrom(c, buf, unix.MSG_DONTWAIT); err == nil && n > header && buf[header] == 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("%s: no answer", to)
}
