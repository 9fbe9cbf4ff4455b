// Package announce tells the neighbours of a container that just got an
// address which hardware address has it now: gratuitous ARP (RFC 5227, section
// 2.3) and unsolicited neighbour advertisements (RFC 4861, section 7.2.6).
// Whoever remembers an earlier owner of the address reaches the new one at
// once, and bridges and switches on the way learn where it is.
//
//	 host                                    sandbox
//	┌──────────────────────────────┐        ┌─────────┐
//	│ bridge                       │        │         │
//	│   │        ▲ a message comes │        │         │
//	│   ▼        │ in here         │        │         │
//	│ slv<other> slv<endpoint> ────┼──veth──┼─ eth0   │
//	└──────────────────────────────┘        └─────────┘
//
// A message comes in by the endpoint's own port, as if the container had sent
// it, and the sandbox is not entered: see inject. One sent on the bridge device
// would reach the neighbours too, but
//
//   - a bridge learns nothing from what it sends itself (br_dev_xmit in
//     net/bridge/br_device.c), and an entry of its forwarding table from before
//     would go on leading astray;
//   - it would pass isolated ports and the filter on what containers send;
//   - it would reach one bridge of a network that has several;
//   - it would come back to the container, whose kernel complains that somebody
//     advertises its address (ndisc_recv_na in net/ipv6/ndisc.c).
//
// A kernel without BPF gets it that way nevertheless: see raw.
package announce

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/wire"
)

// Endpoint is who is to be announced.
type Endpoint struct {
	Device   string        // the bridge port that leads to it: its veth's end on the host; with Inside any name
	MAC      string        // "02:42:0a:00:00:02"
	Addrs    []netip.Addr  // IPv4 and IPv6
	Count    int           // of messages for each address; none if not positive
	Interval time.Duration // from one message to the next
	// Inside, if not zero, is its interface in its sandbox, which the messages are
	// sent from with the hardware address found there: it is on no bridge of ours.
	Inside wire.Place
}

// sender puts a frame on the network of a port, given by its index. A port that
// is down loses it.
type sender interface {
	send(port int, frame []byte) error
	close() error
}

// Announcer sends announcements, all from one goroutine.
type Announcer struct {
	log   *slog.Logger
	out   sender // of the goroutine, as is ports
	ports *ports
	wake  chan struct{}
	quit  chan struct{}
	done  chan struct{}

	mu    sync.Mutex // protects the following
	queue queue
	runs  map[string]*run // by device
}

// Start opens what announcing needs in the network namespace of the caller and
// returns an announcer, to be closed.
func Start(log *slog.Logger) (*Announcer, error) {
	p, err := openPorts()
	if err != nil {
		return nil, fmt.Errorf("announce: %w", err)
	}
	in, err := newInjector()
	if err == nil {
		return start(log, p, in), nil
	}
	log.Warn("announce: bridges will not learn from announcements", "cause", err)
	out, err := newRaw(p)
	if err != nil {
		return nil, fmt.Errorf("announce: %w", errors.Join(err, p.close()))
	}
	return start(log, p, out), nil
}

func start(log *slog.Logger, p *ports, out sender) *Announcer {
	a := &Announcer{log: log, out: out, ports: p, runs: map[string]*run{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go a.loop()
	return a
}

// Announce has the first message of an endpoint sent at once and the others
// when they are due. It waits for none, and replaces what was still to be sent
// for the same device. An error says that e is impossible.
func (a *Announcer) Announce(e Endpoint) error {
	mac, err := net.ParseMAC(e.MAC)
	if e.Inside.Device == "" && (err != nil || len(mac) != 6) {
		return fmt.Errorf("announce %s: hardware address %q: want six bytes", e.Device, e.MAC)
	}
	r := &run{device: e.Device, mac: mac, left: e.Count, interval: e.Interval, inside: e.Inside, addrs: e.Addrs}
	if e.Inside.Device == "" {
		for _, addr := range e.Addrs {
			r.frames = append(r.frames, announcement(mac, addr))
		}
	}
	a.mu.Lock()
	delete(a.runs, e.Device)
	if r.left > 0 && len(r.addrs) > 0 {
		a.runs[e.Device] = r
		a.queue.put(r, time.Now())
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default: // the loop will look anyway
	}
	return nil
}

// Cancel drops what is still to be sent for a device. One message may be on its
// way already.
func (a *Announcer) Cancel(device string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.runs, device) // the queue forgets it when its time comes
}

// Close drops everything that is still to be sent.
func (a *Announcer) Close() error {
	close(a.quit)
	<-a.done
	return errors.Join(a.out.close(), a.ports.close())
}

// A message is delivered to every port of the bridge before send returns, one
// microsecond for each, so its time grows with the network. A burst of new
// containers must not spend the machine on announcing each to all: the next
// message waits share times as long as the last one took, if that is more than
// what a timer can tell.
const (
	share   = 4
	instant = 50 * time.Microsecond
)

func (a *Announcer) loop() {
	defer close(a.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-a.quit:
			return
		case <-a.wake:
		case <-timer.C:
		}
		for r := a.next(); r != nil; r = a.next() {
			began := time.Now()
			a.settle(r, a.message(r))
			if !a.rest(share * time.Since(began)) {
				return
			}
		}
		timer.Reset(a.idle())
	}
}

// rest waits, and reports false when the announcer closes.
func (a *Announcer) rest(d time.Duration) bool {
	if d < instant {
		d = 0
	}
	select {
	case <-a.quit:
		return false
	case <-time.After(d):
		return true
	}
}

// next takes the run whose message is due from the queue, or returns nil.
func (a *Announcer) next() *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	for now := time.Now(); ; {
		r := a.queue.due(now)
		if r == nil || a.runs[r.device] == r {
			return r
		}
	}
}

// outcome is what became of a message.
type outcome int

const (
	sent  outcome = iota
	early         // the port does not carry packets yet
	over          // there is nobody any more to be announced
)

// A port carries packets only after the kernel has noticed that both ends are
// up, in a work queue (net/core/link_watch.c), usually within a millisecond.
const (
	pause    = 5 * time.Millisecond
	patience = 200 // pauses before the message is given up
)

// settle queues what is next for a run, unless it was cancelled meanwhile.
func (a *Announcer) settle(r *run, o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runs[r.device] != r {
		return
	}
	if o == early && r.waited < patience {
		r.waited++
		a.queue.put(r, time.Now().Add(pause))
		return
	}
	if r.left--; o == over || r.left == 0 {
		delete(a.runs, r.device)
		return
	}
	a.queue.put(r, time.Now().Add(r.interval))
}

// idle returns for how long nothing is due.
func (a *Announcer) idle() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.queue.first(); ok {
		return time.Until(at)
	}
	return time.Hour
}

// message sends one message for each address of r.
func (a *Announcer) message(r *run) outcome {
	if r.inside.Device != "" {
		return a.fromInside(r)
	}
	port, running, err := a.ports.find(r.device)
	switch {
	case errors.Is(err, unix.ENODEV) || err == nil && r.sent > 0 && a.moved(r, port):
		return over
	case err == nil && !running:
		return early
	}
	r.sent++
	for _, f := range r.frames {
		if err == nil {
			err = a.out.send(port, f)
		}
	}
	if err != nil {
		a.log.Debug("announce", "device", r.device, "err", err)
	}
	return sent
}

// moved reports whether the container changed its hardware address itself: what
// we have to say is wrong then. Where the kernel does not tell, it did not.
func (a *Announcer) moved(r *run, port int) bool {
	mac, err := a.ports.farMAC(port)
	return err == nil && !bytes.Equal(mac, r.mac)
}
