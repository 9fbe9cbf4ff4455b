package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// How many services a large cluster has, and a small one; of how many backends, by how
// many containers: each of them is of several services.
const (
	manyServices = 10000
	fewServices  = 10
	backendsEach = 10
	containers   = 10000
)

// overlayRoot is where overlay networks are in the store.
const overlayRoot = "/coreos.com/network/sealane/overlay/"

// The network that they are on: services' addresses, those of the containers of this
// program, and those of backends.
var (
	crowdedPrefix = netip.MustParsePrefix("10.32.0.0/14")
	vipPrefix     = netip.MustParsePrefix("10.32.0.0/16")
	clientRange   = netip.MustParsePrefix("10.33.0.0/24")
	backendPrefix = netip.MustParsePrefix("10.34.0.0/15")
)

const (
	crowdedID  = model.ID("5ea1a4e00001")
	crowdedVNI = 5000
)

// nthAddr is the nth address of a prefix, from 1.
func nthAddr(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	n += int(a[2])<<8 + int(a[3])
	return netip.AddrFrom4([4]byte{a[0], a[1] + byte(n>>16), byte(n >> 8), byte(n)})
}

func nthVIP(i int) netip.Addr { return nthAddr(vipPrefix, i+1) }

// standIn is a host without a daemon, which stands for all hosts that others have: it
// has all their containers' addresses, and answers.
type standIn struct {
	*host
	x        *hub
	services int
	seat     int // of the next host
}

// standInSeat is which host at the hub it is.
const standInSeat = 9

// newStandIn makes a hub with it, and has the store say that there are so many services of
// its containers.
func newStandIn(services int) (*standIn, error) {
	x, err := newHub()
	if err != nil {
		return nil, err
	}
	h, err := newHost()
	if err != nil {
		x.close()
		return nil, err
	}
	g := &standIn{h, x, services, 20}
	err = errors.Join(x.plug(h, nthHost(standInSeat)), h.do(g.tunnel))
	if err == nil {
		err = g.fill()
	}
	if err != nil {
		g.close()
		return nil, fmt.Errorf("a host for backends: %w", err)
	}
	return g, nil
}

func (g *standIn) close() {
	g.host.close()
	g.x.close()
}

// tunnel makes the way to other hosts, and takes what is for any backend. The caller is
// in the host.
func (g *standIn) tunnel() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "far", bareMTU-50
	vxlan := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: crowdedVNI, Port: model.OverlayPort, SrcAddr: netip.MustParseAddr(nthHost(standInSeat)).AsSlice()}
	if err := netlink.LinkAdd(vxlan); err != nil {
		return err
	}
	if err := configure(attrs.Name, nthAddr(clientRange, 65000).String()+"/16"); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(backendPrefix), Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST})
	}
	if err != nil {
		return err
	}
	// A frame is for it whatever its hardware address is.
	return fed("table netdev any { chain in { type filter hook ingress device far priority 0; meta pkttype set host; }; }", "nft", "-f", "-")
}

// answer leads back to a container, at the nth host at the hub. The caller is in the host.
func answer(a netip.Addr, n int) error {
	far, err := netlink.LinkByName("far")
	if err != nil {
		return err
	}
	hw, err := net.ParseMAC(model.MACFor(a))
	if err != nil {
		return err
	}
	at := netlink.Neigh{LinkIndex: far.Attrs().Index, State: netlink.NUD_PERMANENT, HardwareAddr: hw}
	arp, fdb := at, at
	arp.Family, arp.IP = unix.AF_INET, a.AsSlice()
	fdb.Family, fdb.Flags, fdb.IP = unix.AF_BRIDGE, netlink.NTF_SELF, netip.MustParseAddr(nthHost(n)).AsSlice()
	return errors.Join(netlink.NeighAdd(&arp), netlink.NeighAdd(&fdb))
}

// fill puts the network, its services and who their backends are. One service more has a
// backend of its own, which comes and goes.
func (g *standIn) fill() error {
	subnet := model.Subnet{Prefix: crowdedPrefix, Gateway: nthAddr(clientRange, 65001), Range: clientRange}
	v := records{}
	v.add(overlay.Key{Kind: overlay.KindNetwork, Network: crowdedID}, &overlay.Network{ID: crowdedID, Name: stretched, VNI: crowdedVNI, Subnets: []model.Subnet{subnet}})
	v.add(overlay.Key{Kind: overlay.KindHost, Host: standInID}, overlay.Host{ID: standInID, Name: standInID, Public4: netip.MustParseAddr(nthHost(standInSeat))})
	v.add(overlay.Key{Kind: overlay.KindAlive, Host: standInID}, overlay.Host{ID: standInID})
	all := make([]*overlay.Endpoint, min(backendsEach*g.services, containers))
	for i := range all {
		all[i] = container(i)
	}
	for i := range g.services {
		v.service(i)
		for k := range backendsEach {
			e := all[(i*backendsEach+k)%len(all)]
			e.Services = append(e.Services, overlay.Membership{Name: serviceName(i)})
		}
	}
	for _, e := range all {
		v.add(e.Key(), e)
	}
	v.service(g.services)
	g.comer(v, false)
	return g.x.put(v)
}

// standInID is the ID of the host that it is to others, and its name.
const standInID = "standin"

// records are values of the store by their keys.
type records map[string]string

// add adds one. What this program makes can be written.
func (r records) add(k overlay.Key, v interface{ Marshal() ([]byte, error) }) {
	text, err := v.Marshal()
	if err != nil {
		panic(err)
	}
	r[overlayRoot+k.String()] = string(text)
}

func serviceName(i int) string { return fmt.Sprintf("service-%d", i) }

func (r records) service(i int) {
	s := &overlay.Service{Network: crowdedID, Service: model.Service{ID: model.ID(fmt.Sprintf("5ea1a4e%05x", i)), Name: serviceName(i),
		Ports: []model.ServicePort{{Port: answerPort, Proto: "tcp"}}, VIPs: []netip.Addr{nthVIP(i)}}}
	r.add(s.Key(), s)
}

// container is the nth of the host's.
func container(i int) *overlay.Endpoint {
	a := nthAddr(backendPrefix, i+1)
	id, name := model.ID(fmt.Sprintf("5ea1b4c%05x", i)), fmt.Sprintf("container-%d", i)
	return &overlay.Endpoint{Network: crowdedID, Host: standInID, ID: id, Addrs: []netip.Addr{a}, MAC: model.MACFor(a), Sandbox: overlay.Sandbox{ID: id, Name: name}, Names: []string{name}}
}

// comer adds the container that comes and goes, which is of the last service.
func (g *standIn) comer(r records, up bool) {
	e := container(containers)
	e.Services, e.Stopped = []overlay.Membership{{Name: serviceName(g.services)}}, !up
	r.add(e.Key(), e)
}

// change has it come or go, and returns how long until that is so from each of some places,
// which ask at a pace, and of that until etcd says that it has it, in seconds.
func (g *standIn) change(from []spot, up bool, pace time.Duration) (took []float64, put float64, err error) {
	type result struct {
		end time.Time
		err error
	}
	results, r := make(chan result, len(from)), records{}
	for _, s := range from {
		go func() {
			end, err := s.asked(nthVIP(g.services), up, pace)
			results <- result{end, err}
		}()
	}
	time.Sleep(5*pace + 50*time.Millisecond) // they ask in vain
	g.comer(r, up)
	begin := time.Now()
	err = g.x.put(r)
	put = time.Since(begin).Seconds()
	for range from {
		r := <-results
		took, err = append(took, r.end.Sub(begin).Seconds()), errors.Join(err, r.err)
	}
	return took, put, err
}

// guest is a daemon of the cluster with a container, which asks.
type guest struct {
	*sealane
	from               spot
	ready, joined, all float64 // seconds from its start until it answered, until the container was on the network, and until that reached services
}

// join starts a daemon on a host of its own. The stand-in answers meanwhile.
func (g *standIn) join(b *bench) (*guest, error) {
	h, err := newOpenHost()
	if err != nil {
		return nil, err
	}
	s := &guest{sealane: newDaemon(h)}
	g.seat++
	spaces, err := h.spaces("client", 1)
	if err = errors.Join(err, s.filterBridged(false), g.x.plug(h, nthHost(g.seat))); err == nil {
		s.from = spot{h, spaces[0]}
		err = s.reach(b, g)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("daemon: %w\n%s", err, s.log.Bytes())
	}
	return s, nil
}

// reach starts the daemon, connects the container, and has it ask a hundred services.
func (s *guest) reach(b *bench, g *standIn) error {
	begin := time.Now()
	if err := s.start(b, "--etcd", hubURL, "--uplink", "eth0"); err != nil {
		return err
	}
	s.ready = time.Since(begin).Seconds()
	own, err := s.onFabric(stretched, s.from.space)
	if err != nil {
		return err
	}
	s.joined = time.Since(begin).Seconds()
	if err := g.do(func() error { return answer(own, g.seat) }); err != nil {
		return err
	}
	for i := 0; i < g.services; i += max(g.services/100, 1) {
		if _, err := s.from.asked(nthVIP(i), true, time.Millisecond); err != nil {
			return err
		}
	}
	s.all = time.Since(begin).Seconds()
	return nil
}

// crowdedServiceRows measures a host that joins a cluster of many services, and what there
// being many costs.
func crowdedServiceRows(b *bench) error {
	var all []*standIn
	for _, n := range []int{manyServices, fewServices} {
		g, err := newStandIn(n)
		if err != nil {
			return err
		}
		defer g.close()
		all = append(all, g)
	}
	return answering([]spot{all[0].spot(), all[1].spot()}, true, func() error {
		many, err := all[0].loadRows(b)
		if err != nil {
			return err
		}
		defer many.close()
		few, err := all[1].join(b)
		if err != nil {
			return err
		}
		defer few.close()
		o, err := b.contest(b.times(31), many.firsts(manyServices), few.firsts(fewServices))
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%d services / %d", manyServices, fewServices)
		b.table.compared("p99 of a connection to one of "+what, o, millis, o.ratio().inverse(), atMost(1.5, times))
		return changeRows(b, all, []*guest{many, few})
	})
}

func (g *standIn) spot() spot { return spot{g.host, hostSpace} }

// loadRows measures daemons that join, and leaves the last.
func (g *standIn) loadRows(b *bench) (s *guest, err error) {
	var ready, joined, all, rss []float64
	for range b.times(5) {
		if s != nil {
			s.close()
		}
		if s, err = g.join(b); err != nil {
			return nil, err
		}
		ready, joined, all = append(ready, s.ready), append(joined, s.joined-s.ready), append(all, s.all)
		time.Sleep(3 * time.Second) // it looks again at what it has made
		now, err := s.memory("VmRSS")
		if err != nil {
			return nil, err
		}
		rss = append(rss, now)
	}
	b.table.absolute(fmt.Sprintf("from a daemon's start to a container that reaches %d services of %d backends", manyServices, backendsEach), outcome{ours: all}, atMost(0.5, seconds))
	b.table.told("of that, until the daemon answers", outcome{ours: ready}, seconds, interval{})
	b.table.told("of that, then until the container is on the network", outcome{ours: joined}, seconds, interval{})
	b.table.told("the daemon's memory then", outcome{ours: rss}, mebi, interval{})
	return s, nil
}

// firsts returns a run that connects to some of the services in turn, far apart, each until
// its answer. Its result is the 99th percentile of what they took. They are no more than
// the kernel remembers neighbours for, with their backends (net.ipv4.neigh.default.gc_thresh3).
func (s *guest) firsts(services int) block {
	const n, some = 3000, 30
	return func() (float64, error) {
		each := make([]float64, 0, n)
		err := s.within(s.from.space, 0, func() error {
			if err := urgent(); err != nil {
				return err
			}
			for i := range n {
				took, err := timed(s.from.client(nthVIP(i % some * services / some)).greeted)
				if err != nil {
					return err
				}
				each = append(each, took)
			}
			return nil
		})
		return quantile(each, 0.99), err
	}
}

// changeRows measures a backend that comes, with many services and with few: what a host
// takes for it once etcd has it.
func changeRows(b *bench, all []*standIn, at []*guest) error {
	var spent float64  // by the daemon with many
	var puts []float64 // by etcd, before that
	changes := 0
	come := func(i int) block {
		g, s := all[i], at[i]
		return func() (float64, error) {
			busy, err := s.busy()
			if err != nil {
				return 0, err
			}
			took, put, err := g.change([]spot{s.from}, true, time.Millisecond)
			if err == nil {
				_, _, err = g.change([]spot{s.from}, false, time.Millisecond)
			}
			if err != nil {
				return 0, err
			}
			time.Sleep(200 * time.Millisecond)
			now, err := s.busy()
			if i == 0 {
				spent, changes, puts = spent+now-busy, changes+2, append(puts, put)
			}
			return max(took[0]-put, 0), err
		}
	}
	o, err := b.contest(b.times(40), come(0), come(1))
	if err != nil {
		return fmt.Errorf("a backend more: %w\n%s", err, at[0].log.Bytes())
	}
	b.table.absolute(fmt.Sprintf("from etcd's having a backend to a connection to it, among %d services", manyServices), outcome{ours: o.ours, dropped: o.dropped, noisy: o.noisy}, atMost(2e-3, millis))
	b.table.told(fmt.Sprintf("the same, %d services / %d", manyServices, fewServices), o, millis, o.ratio().inverse())
	b.table.told("before that, until etcd says that it has it", outcome{ours: puts}, millis, interval{})
	b.table.told("processor time of the daemon for it", outcome{ours: []float64{spent / float64(changes)}}, millis, interval{})
	return nil
}

// seenRows measures how soon a backend that comes or goes is so for containers on many
// hosts.
func seenRows(b *bench) error {
	g, err := newStandIn(fewServices)
	if err != nil {
		return err
	}
	defer g.close()
	return answering([]spot{g.spot()}, false, func() error {
		var from []spot
		for i := range manyHosts {
			s, err := g.join(b)
			if err != nil {
				return fmt.Errorf("host %d of %d: %w", i+1, manyHosts, err)
			}
			defer s.close()
			from = append(from, s.from)
		}
		for _, up := range []bool{true, false} { // what is made with the first is there then
			if _, _, err := g.change(from, up, 10*time.Millisecond); err != nil {
				return err
			}
		}
		var each, last []float64
		for i := range 2 * b.times(40) {
			took, _, err := g.change(from, i%2 == 0, 10*time.Millisecond)
			if err != nil {
				return fmt.Errorf("a backend for %d hosts: %w", manyHosts, err)
			}
			each, last = append(each, took...), append(last, slices.Max(took))
		}
		what := fmt.Sprintf("from a backend's change given to etcd until it is so on each of %d hosts", manyHosts)
		b.table.told(what+", median", outcome{ours: []float64{quantile(each, 0.5)}}, millis, interval{})
		b.table.absolute(what+", p99", outcome{ours: []float64{quantile(each, 0.99)}}, atMost(1, millis))
		b.table.told("until it is so on all of them, median", outcome{ours: []float64{quantile(last, 0.5)}}, millis, interval{})
		b.table.absolute("until it is so on all of them, p99", outcome{ours: []float64{quantile(last, 0.99)}}, atMost(1, millis))
		return nil
	})
}
