package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// manyPeers is how many hosts a large cluster has.
const manyPeers = 5000

// leased is the nth subnet of 10.0.0.0/8, as 10.5.0.0/16 has its first.
func leased(n int) netip.Prefix {
	n += 5 << 8
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)
}

// leaseKey is where its lease is.
func leaseKey(prefix string, subnet netip.Prefix) string {
	return prefix + "/subnets/" + strings.ReplaceAll(subnet.String(), "/", "-")
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// peerRows measures a host that joins as many others: all at its start, and one more.
func peerRows(b *bench, backend string) error {
	x, err := newHub()
	if err != nil {
		return err
	}
	defer x.close()
	leases := map[string]string{"/coreos.com/network/config": fmt.Sprintf(`{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":%q}}`, backend)}
	for i := range manyPeers {
		k, v := lease(backend, i)
		leases[k] = v
	}
	if err := x.put(leases); err != nil {
		return err
	}
	var all, ready, rss, peak, bare []float64
	for range b.times(5) {
		if err := x.crowded(b, &all, &ready, &rss, &peak); err != nil {
			return err
		}
		took, err := x.batched(backend)
		if err != nil {
			return fmt.Errorf("ways by ip and bridge: %w", err)
		}
		bare = append(bare, took)
	}
	b.table.absolute(fmt.Sprintf("from a daemon's start to the ways to %d hosts, %s", manyPeers, backend), outcome{ours: all}, atMost(0.5, seconds))
	b.table.told("of that, until the daemon answers", outcome{ours: ready}, seconds, interval{})
	b.table.told("the same ways by ip -batch and bridge -batch alone", outcome{ours: bare}, seconds, interval{})
	b.table.absolute("the daemon's memory then", outcome{ours: rss}, atMost(100<<20, mebi))
	b.table.told("the most it had", outcome{ours: peak}, mebi, interval{})
	return x.oneMore(b, backend)
}

// lease is the nth host's: its key and its value.
func lease(backend string, n int) (key, value string) {
	data := ""
	if backend == backendVXLAN {
		data = fmt.Sprintf(`,"BackendData":{"VNI":1,"VtepMAC":"76:8a:00:46:%02x:%02x"}`, n>>8, n&255)
	}
	return leaseKey("/coreos.com/network", leased(n)), fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":%q%s}`, nthHost(n+100), backend, data)
}

// crowded starts a daemon on a new host and waits until all are known.
func (x *hub) crowded(b *bench, all, ready, rss, peak *[]float64) error {
	s, w, err := x.idle()
	if err != nil {
		return err
	}
	defer s.close()
	defer w.close()
	begin := time.Now()
	if err := s.start(b, "--etcd", hubURL, "--uplink", "eth0"); err != nil {
		return fmt.Errorf("daemon: %w\n%s", err, s.log.Bytes())
	}
	*ready = append(*ready, time.Since(begin).Seconds())
	end, err := w.await(manyPeers)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.log.Bytes())
	}
	*all = append(*all, end.Sub(begin).Seconds())
	time.Sleep(3 * time.Second) // it looks again at what it has made
	now, err := s.memory("VmRSS")
	*rss = append(*rss, now)
	most, failed := s.memory("VmHWM")
	*peak = append(*peak, most)
	return errors.Join(err, failed)
}

// batched is how long ip and bridge take to make the ways on a host, as it is usual: all
// routes of one scope.
func (x *hub) batched(backend string) (took float64, err error) {
	h, err := newHost()
	if err != nil {
		return 0, err
	}
	defer h.close()
	var routes, entries strings.Builder
	for i := range manyPeers {
		to, at := leased(i), nthHost(i+100)
		if backend != backendVXLAN {
			fmt.Fprintf(&routes, "route add %s via %s dev eth0\n", to, at)
			continue
		}
		mac := fmt.Sprintf("76:8a:00:46:%02x:%02x", i>>8, i&255)
		fmt.Fprintf(&routes, "route add %s via %s dev far onlink\nneigh add %[2]s lladdr %s dev far nud permanent\n", to, to.Addr(), mac)
		fmt.Fprintf(&entries, "fdb add %s dev far dst %s self permanent\n", mac, at)
	}
	if err := x.plug(h, nthHost(2)); err != nil {
		return 0, err
	}
	err = h.do(func() error {
		if backend == backendVXLAN {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = "far"
			far := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, Port: 8472, SrcAddr: netip.MustParseAddr(nthHost(2)).AsSlice()}
			if err := errors.Join(netlink.LinkAdd(far), configure("far", "10.4.0.0/32")); err != nil {
				return err
			}
		}
		took, err = timed(func() error {
			return errors.Join(fed(routes.String(), "ip", "-batch", "-"), fed(entries.String(), "bridge", "-batch", "-"))
		})
		return err
	})
	return took, err
}

// fed runs a command with an input.
func fed(input string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return nil
}

// idle is a host with a daemon that is not started, and the routes that it will make.
func (x *hub) idle() (*sealane, *ways, error) {
	h, err := newHost()
	if err != nil {
		return nil, nil, err
	}
	s := newDaemon(h)
	if err = errors.Join(s.filterBridged(false), x.plug(h, nthHost(2))); err != nil {
		s.close()
		return nil, nil, err
	}
	w, err := watchWays(h)
	if err != nil {
		s.close()
	}
	return s, w, err
}

// oneMore measures what another host takes, to its route, where many are known.
func (x *hub) oneMore(b *bench, backend string) error {
	s, w, err := x.idle()
	if err != nil {
		return err
	}
	defer s.close()
	defer w.close()
	if err := s.start(b, "--etcd", hubURL, "--uplink", "eth0"); err != nil {
		return fmt.Errorf("daemon: %w\n%s", err, s.log.Bytes())
	}
	if _, err := w.await(manyPeers); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	next := manyPeers
	busy, err := s.busy()
	if err != nil {
		return err
	}
	o, err := b.alone(b.times(40), func() (float64, error) {
		k, v := lease(backend, next)
		next++
		begin := time.Now()
		if err := x.put(map[string]string{k: v}); err != nil {
			return 0, err
		}
		end, err := w.await(next)
		time.Sleep(200 * time.Millisecond)
		return end.Sub(begin).Seconds(), err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, s.log.Bytes())
	}
	spent, err := s.busy()
	b.table.told("the way to one host more, from etcd's write", o, millis, interval{})
	b.table.told("processor time of the daemon for it", outcome{ours: []float64{(spent - busy) / float64(next-manyPeers)}}, millis, interval{})
	return err
}

// ways are the routes to leased subnets, as the kernel tells of them.
type ways struct {
	updates chan netlink.RouteUpdate
	done    chan struct{}
	there   map[string]bool
}

// watchWays begins before there is any.
func watchWays(h *host) (*ways, error) {
	w := &ways{make(chan netlink.RouteUpdate, manyPeers), make(chan struct{}), map[string]bool{}}
	space := netns.NsHandle(h.ns[1].file.Fd())
	err := netlink.RouteSubscribeWithOptions(w.updates, w.done, netlink.RouteSubscribeOptions{Namespace: &space, ReceiveBufferSize: 64 << 20, ReceiveBufferForceSize: true})
	return w, err
}

func (w *ways) close() { close(w.done) }

// await waits until n subnets have a route, and says when the last got it.
func (w *ways) await(n int) (time.Time, error) {
	over := time.After(60 * time.Second)
	for len(w.there) < n {
		select {
		case u := <-w.updates:
			if u.Dst != nil && u.Dst.IP[0] == 10 && u.Type != unix.RTM_DELROUTE && u.Gw != nil {
				w.there[u.Dst.String()] = true
			}
		case <-over:
			return time.Time{}, fmt.Errorf("routes: %d of %d after a minute", len(w.there), n)
		}
	}
	return time.Now(), nil
}
