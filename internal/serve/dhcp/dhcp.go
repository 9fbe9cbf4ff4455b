// Package dhcp gets addresses for sandboxes' interfaces from DHCP servers: RFC
// 2131 for IPv4, RFC 8415 for IPv6.
//
//	        machine4, machine6: the protocols, without sockets and clocks
//	             ▲ messages, time      │ what to send, what to take
//	             │                     ▼
//	runner: one goroutine per lease ── socket in the sandbox's namespace
//	             │ Leased, Lost, Trouble
//	             ▼
//	          Handler: the engine, which makes leases intent
//
// Messages are sent and received by packet sockets in the sandbox's namespace:
// there is no address yet, and the sandbox's own firewall has no say. While a
// lease is good nothing is open, and a goroutine sleeps until the server is to be
// asked again. A program of the sandbox's own may use the client's port.
package dhcp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/notice"
	"github.com/sealane/sealane/internal/serve/wire"
)

// Key says whose lease it is: an endpoint's, of one family.
type Key struct {
	Endpoint model.ID
	Is6      bool
}

// Want is a lease that is wanted.
type Want struct {
	Key
	Name   string // for the log: "web on lan"
	NS     kstate.NS
	Device string     // the interface in NS
	MAC    string     // its hardware address; "" is what it has
	Local  netip.Addr // of IPv6: its link-local address
	// SharedMAC: other clients on the wire have the same hardware address, as
	// those of ipvlan. Servers know this one by another name, and answer to all.
	SharedMAC bool
	Request   model.DHCP // with the lease that it has already
}

// same reports whether a runner for w is one for o: all but the lease.
func (w Want) same(o Want) bool {
	same := func(a, b model.DHCPOption) bool { return a.Code == b.Code && string(a.Value) == string(b.Value) }
	a, b := w.Request, o.Request
	return w.Key == o.Key && w.NS == o.NS && w.Device == o.Device && w.MAC == o.MAC && w.Local == o.Local && w.SharedMAC == o.SharedMAC &&
		a.Hostname == b.Hostname && string(a.ClientID) == string(b.ClientID) && a.Request == b.Request &&
		a.VendorClass == b.VendorClass && slices.EqualFunc(a.Options, b.Options, same)
}

// Handler is told what becomes of leases. It is called from the runners'
// goroutines, and may take its time.
type Handler interface {
	// Leased gives what a server said, new or once more. An error refuses it; one
	// of kind model.Conflict says that somebody has the address, which the server
	// is told.
	Leased(Key, model.Lease) error
	// Lost says that the lease is no longer good.
	Lost(Key, error)
	// Trouble says why there is no lease, or why the one that there is is not
	// renewed; nil: all is well again.
	Trouble(Key, error)
}

// Client keeps the leases that are wanted.
type Client struct {
	log    *slog.Logger
	ignore *notice.Notice
	broken *notice.Notice
	holds  func(netip.Addr) bool // the host itself has an address
	probe  func(context.Context, announce.Wire, netip.Addr) (net.HardwareAddr, error)
	work   sync.WaitGroup

	mu      sync.Mutex // protects the following
	handler Handler
	runners map[Key]*runner
}

// New returns a client that wants nothing. Start tells it who is told.
func New(log *slog.Logger) *Client {
	return &Client{
		log: log, holds: hostHas, probe: announce.Probe, runners: map[Key]*runner{},
		ignore: notice.New(log, "dhcp: an answer is ignored"), broken: notice.New(log, "dhcp: socket"),
	}
}

// Start sets who is told. Nothing may be wanted before.
func (c *Client) Start(h Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handler = h
}

// Want keeps exactly these leases from now on. It waits for nobody. One that was
// wanted before goes on, whatever its lease is said to be; one in another
// namespace, or with another request, begins again with its lease.
func (c *Client) Want(list []Want) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[Key]bool{}
	for _, w := range list {
		wanted[w.Key] = true
		old := c.runners[w.Key]
		if old != nil && old.asked.same(w) {
			continue
		}
		if old != nil {
			old.stop()
		}
		c.runners[w.Key] = c.run(w)
	}
	for key, r := range c.runners {
		if !wanted[key] {
			r.stop()
			delete(c.runners, key)
		}
	}
}

func (c *Client) run(w Want) *runner {
	ctx, stop := context.WithCancel(context.Background())
	r := &runner{client: c, asked: w, want: w, handler: c.handler, stop: stop}
	c.work.Go(func() { r.run(ctx) })
	return r
}

// Release tells the server that a lease is no longer needed, before the interface
// goes. It waits for no answer; the lease is not wanted any more.
func (c *Client) Release(w Want) error {
	c.mu.Lock()
	if r := c.runners[w.Key]; r != nil {
		r.stop()
		delete(c.runners, w.Key)
	}
	c.mu.Unlock()
	if w.Request.Lease == nil {
		return nil
	}
	if err := w.release(); err != nil {
		return fmt.Errorf("dhcp: %s: release: %w", w.Name, err)
	}
	return nil
}

func (w Want) release() error {
	w, err := w.identified(context.Background(), 0)
	if err != nil {
		return err
	}
	p, err := release(w)
	if err != nil {
		return err
	}
	s, err := open(context.Background(), w, 0)
	if err != nil {
		return err
	}
	defer s.close()
	return s.send(p)
}

// identified returns w with the hardware address that the interface has, if none
// is known. It waits up to patience for an interface that has just been made.
func (w Want) identified(ctx context.Context, patience time.Duration) (Want, error) {
	if w.MAC != "" {
		return w, nil
	}
	s, err := wire.Open(ctx, wire.Place{NS: w.NS, Device: w.Device}, patience, []bpf.Instruction{bpf.RetConstant{}})
	if err != nil {
		return w, err
	}
	w.MAC = s.MAC.String()
	return w, s.Close()
}

// Close stops all runners. The leases stay.
func (c *Client) Close() error {
	c.mu.Lock()
	for r := range maps.Values(c.runners) {
		r.stop()
	}
	c.runners = map[Key]*runner{}
	c.mu.Unlock()
	c.work.Wait()
	return nil
}

// hostHas reports whether an interface of the namespace that the process is in
// has an address.
func hostHas(a netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(one net.Addr) bool {
		p, err := netip.ParsePrefix(one.String())
		return err == nil && p.Addr().Unmap() == a
	})
}

// inUse asks the sandbox's wire whether somebody has an address.
func (c *Client) inUse(ctx context.Context, w Want, a netip.Addr) error {
	if c.holds(a) {
		return model.Errorf(model.Conflict, "", "", "address %s: is this host's", a)
	}
	at := announce.Wire{Place: wire.Place{NS: w.NS, Device: w.Device}, Named: !w.SharedMAC}
	holder, err := c.probe(ctx, at, a)
	if holder != nil {
		return model.Errorf(model.Conflict, "", "", "address %s: used by %s", a, holder)
	}
	return err
}

// now is the time that leases are kept by, which is the wall's: they outlive the
// process.
func now() time.Time { return time.Now().Round(0).UTC() }
