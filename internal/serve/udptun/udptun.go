// Package udptun carries IP packets between hosts in plain UDP, as Flannel's
// backend "udp" does, and many of them at once.
//
//	sandboxes ─ route ─▶ TUN queue 0 ─▶ sender ───▶ UDP socket 0 ─▶ underlay, port 8285
//	                     TUN queue 1 ─▶ sender ───▶ UDP socket 1 ─▶
//	sandboxes ◀─ route ─ TUN queue 0 ◀─ receiver ◀─ UDP socket 0 ◀─
//	                     TUN queue 1 ◀─ receiver ◀─ UDP socket 1 ◀─
//
// There are as many sockets again, with receivers, where the underlay has both
// families: a packet of either may go to a peer's address of either.
//
// On the wire there is nothing of ours: one IP packet is one datagram's payload.
//
//	IP(20) UDP(8) │ IP header, payload     as long as the device's MTU, which is the underlay's less 28
//
// The way of a packet out (send.go):
//
//  1. The kernel hands over up to 64 KiB of one TCP stream as one packet, with a
//     struct virtio_net_hdr that says how to cut it.
//  2. The peer is the one that has the longest prefix of the destination. Without
//     one the answer is ICMP "network unreachable" (icmp.go).
//  3. The TTL loses one, once per tunnel: flanneld takes one off at each end. With
//     none left the answer is ICMP "time exceeded".
//  4. The packet is cut into pieces of the MTU (split.go): headers are made, payload
//     stays where it was read.
//  5. Pieces of one length for one peer are gathered while there is more to read
//     (batch.go) and go out with one sendmsg and UDP_SEGMENT.
//
// And in (receive.go):
//
//  1. One recvmsg takes what UDP_GRO has put together: datagrams of one sender and length.
//  2. A packet has to come from a peer's address, with a source of that peer's subnet
//     and a destination in ours.
//  3. Neighbouring pieces of one stream, their checksums verified, become one packet
//     again (merge.go) and are written with one writev.
//
// What is easy of all this, package shortcut has the kernel do: packets of IPv4 between
// hosts that both have it, as long as nothing is to be said about them.
//
// A goroutine takes a packet all the way. There is one per queue that
// sends, and one per socket that receives: the kernel keeps a stream on one queue of the device, and a peer on one socket,
// so that nothing is overtaken.
//
// Of flanneld, which checks nothing of what it receives, a host in a mixed cluster
// needs that what it sends bears a source of its own subnet. It does: containers
// have such addresses, and the host's own packets have the address of its TUN
// device, which is the first of its subnet (masqueraded ones too). What a flanneld
// host only forwards, with a foreign source, is dropped here and counted as Spoofed.
// IPv6 is carried likewise; flanneld would drop it.
package udptun

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// Port is the UDP port of Flannel's backend, at both ends.
const Port = 8285

// Overhead is what the underlay's MTU has over the device's, in bytes: an outer
// IPv4 and a UDP header. Over IPv6 it is 20 more.
const Overhead = 28

// maxQueues is how many queues there are by default at most: with more, they
// wait for the memory's bandwidth.
const maxQueues = 8

// Config is what a tunnel is opened with. All but the peers stays.
type Config struct {
	// Local are the underlay's addresses to send from and to receive at, one of each
	// family that peers have addresses of. They may be 0.0.0.0 and ::.
	Local []netip.Addr
	// Port is the UDP port, the same on all hosts; 0 is 8285, Flannel's.
	Port uint16
	// Subnets are this host's part of the network: what may come in is for them.
	Subnets []netip.Prefix
	// Queues is how many of the device are used; 0 is one per CPU, up to 8.
	Queues int
	// Peers are the first ones; see SetPeers.
	Peers []Peer
}

// Peer is a host that has a part of the network.
type Peer struct {
	Prefix netip.Prefix // of the addresses that are there
	Addr   netip.Addr   // of the host, on the underlay
}

// Tunnel carries packets until it is closed.
type Tunnel struct {
	device  string
	local   underlay
	subnets []netip.Prefix
	offload offload
	table   atomic.Pointer[table]
	short   atomic.Pointer[shortcut.Shortcut] // nil: none
	queues  []*queue
	stopper *stopper
	work    sync.WaitGroup
	done    chan struct{}

	mu  sync.Mutex // protects the following
	err error      // that ended it
}

// queue is one of the device with its socket.
type queue struct {
	tun      int                // descriptor
	udp      [families]int      // descriptors, or none
	sent     counters           // by the sender
	received [families]counters // by each receiver
}

// Open attaches to a TUN device of the caller's namespace and begins to carry. If
// the device is up, it takes packets when Open returns. The device has been made persistent, with IFF_MULTI_QUEUE, IFF_NO_PI and
// IFF_VNET_HDR; Open makes none, and changes of this one nothing that outlasts
// the tunnel but the length of struct virtio_net_hdr.
func Open(device string, c Config) (*Tunnel, error) {
	t, err := open(device, c)
	if err != nil {
		return nil, fmt.Errorf("udp tunnel %s: %w", device, err)
	}
	for _, q := range t.queues {
		t.start(newSender(t, q).run)
		for f, fd := range q.udp {
			if fd != none {
				t.start(newReceiver(t, q, f).run)
			}
		}
	}
	awaitCarrier(device)
	go func() {
		t.work.Wait()
		_ = t.closeFiles() // nobody uses them
		close(t.done)
	}()
	return t, nil
}

func (t *Tunnel) start(run func() error) {
	t.work.Go(func() { t.end(run()) })
}

func open(device string, c Config) (*Tunnel, error) {
	local, err := c.underlay()
	if err != nil {
		return nil, err
	}
	t := &Tunnel{device: device, local: local, done: make(chan struct{})}
	for _, p := range c.Subnets {
		if !p.IsValid() {
			return nil, errors.New("invalid subnet")
		}
		t.subnets = append(t.subnets, p.Masked())
	}
	peers, err := newTable(c.Peers, t.local)
	if err != nil {
		return nil, err
	}
	t.table.Store(peers)
	if t.stopper, err = newStopper(); err != nil {
		return nil, err
	}
	for range c.queues() {
		q := &queue{tun: none, udp: [families]int{none, none}}
		t.queues = append(t.queues, q)
		if err := t.connect(q, c.queues() > 1); err != nil {
			return nil, errors.Join(err, t.closeFiles())
		}
	}
	return t, nil
}

// connect opens what a queue, one of several (shared), reads and writes.
func (t *Tunnel) connect(q *queue, shared bool) (err error) {
	for f, local := range t.local {
		if !local.IsValid() {
			continue
		}
		if q.udp[f], err = listen(local, shared); err != nil {
			return err
		}
	}
	q.tun, t.offload, err = attach(t.device)
	return err
}

// underlay is where a tunnel listens, per family; an AddrPort that is not valid
// stands for a family that it has not.
type underlay [families]netip.AddrPort

// The families, as indexes.
const (
	ipv4 = iota
	ipv6
	families
)

func familyOf(a netip.Addr) int {
	if a.Is6() {
		return ipv6
	}
	return ipv4
}

func (c Config) underlay() (u underlay, err error) {
	port := c.Port
	if port == 0 {
		port = Port
	}
	for _, a := range c.Local {
		a = a.Unmap()
		if f := familyOf(a); a.IsValid() && !u[f].IsValid() {
			u[f] = netip.AddrPortFrom(a, port)
			continue
		}
		return u, fmt.Errorf("local address %v: not valid, or not the only one of its family", a)
	}
	if u == (underlay{}) {
		return u, errors.New("no local address")
	}
	return u, nil
}

func (c Config) queues() int {
	if c.Queues > 0 {
		return c.Queues
	}
	return min(runtime.GOMAXPROCS(0), maxQueues)
}

// SetPeers replaces all peers, from one packet to the next. Of peers with the
// same prefix the last counts. After an error the peers are as they were.
func (t *Tunnel) SetPeers(peers []Peer) error {
	next, err := newTable(peers, t.local)
	if err != nil {
		return fmt.Errorf("udp tunnel: set peers: %w", err)
	}
	t.table.Store(next)
	return t.setShortcut(peers)
}

// Close ends the tunnel and returns when it carries nothing any more. The
// device stays.
func (t *Tunnel) Close() error {
	t.stopper.stop()
	<-t.done
	return nil
}

// Done is closed when the tunnel has ended, by Close or because of Err.
func (t *Tunnel) Done() <-chan struct{} { return t.done }

// Err is why the tunnel has ended by itself: its device has been deleted. It is
// nil while the tunnel works and after Close.
func (t *Tunnel) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// end is called by each sender and receiver with what ended it, nil if it was
// told to. One ends all.
func (t *Tunnel) end(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cause != nil && t.err == nil {
		t.err = fmt.Errorf("udp tunnel %s: %w", t.device, cause)
	}
	t.stopper.stop()
}

func (t *Tunnel) closeFiles() error {
	errs := []error{unix.Close(t.stopper.fd)}
	for _, q := range t.queues {
		for _, fd := range append(q.udp[:], q.tun) {
			if fd != none {
				errs = append(errs, unix.Close(fd))
			}
		}
	}
	return errors.Join(errs...)
}

// ours says whether an address is in this host's part of the network.
func (t *Tunnel) ours(a netip.Addr) bool {
	for _, p := range t.subnets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
