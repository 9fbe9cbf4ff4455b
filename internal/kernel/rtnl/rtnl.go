// Package rtnl makes, changes, removes and observes links, addresses, routes,
// policy rules, neighbours, forwarding entries and the rates that links keep to, over
// rtnetlink, in the host's namespace and in others. It makes bridges, veths, IFBs and tunnels,
// but carries no packets; it does not make namespaces, settings or firewall rules.
//
// The story of an attach, in two system calls however many objects there are:
//
//	host     make the veth under an index of our choice, its far end born in
//	         the sandbox under its final name; no IPv6 autoconfiguration;
//	         port of the bridge, up
//	sandbox  the far end likewise, up; addresses; routes
//
// and of a detach: both ends down and the near one moved to a second link
// group, which is invisible; then the caller has its answer. Unregistering a
// device takes the kernel tens of milliseconds, so the reaper does it soon
// after, for all devices of that group at once.
package rtnl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// Conn is the door to the links, addresses and routes of one host.
type Conn struct {
	host    *netns.Handle // not ours to close
	dir     netns.Dir
	journal journal.Journal
	ports   *ports
	reaper  *reaper
	recent  *recent
	parents parents
	tunnels indexes
	near    sync.Map     // whether namespaces have neighbours with our mark, by inode, as far as known
	sorters sync.Map     // indexes of bridges whose foreign ports are ours to make trunks
	spare   chan *socket // in the host's namespace, for the next Observe
	looked  looked
	ear     atomic.Pointer[os.File] // the socket of Watch
	marks   atomic.Bool             // the kernel is known to keep marks of addresses

	mu    sync.Mutex // one Apply at a time; protects the following
	sock  *socket    // in the host's namespace
	index int        // the next pair of indexes to try
}

// The indexes we choose are far above those the kernel counts up from 1; it
// passes over ours should it ever come to them.
const (
	firstIndex = 1 << 20
	lastIndex  = 1 << 30
)

// maxSpare is how many Observes at once find a socket that is open: opening one
// takes a fifth of what it takes to observe one namespace.
const maxSpare = 2

// Open opens the host's namespace, which must stay open until Close. Namespaces
// mounted in dir are ours. Devices that an earlier process doomed are reaped, and
// the journal forgets addresses that are not there.
func Open(host *netns.Handle, dir netns.Dir, j journal.Journal) (*Conn, error) {
	c := &Conn{host: host, dir: dir, journal: j, ports: newPorts(), recent: newRecent(), spare: make(chan *socket, maxSpare), index: firstIndex}
	var err error
	if c.sock, err = c.ports.open(host); err != nil {
		return nil, err
	}
	devs, err := c.sock.devices(context.Background())
	if err != nil {
		c.sock.close()
		return nil, err
	}
	for _, d := range devs {
		if d.index < lastIndex {
			c.index = max(c.index, d.index+2) // the next is the far end's
		}
	}
	reaping, err := c.ports.open(host)
	if err != nil {
		c.sock.close()
		return nil, err
	}
	c.reaper = &reaper{sock: reaping}
	c.reaper.arm()
	if err := c.sweep(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close reaps what is doomed.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sock.close()
	c.looked.drop()
	for {
		select {
		case s := <-c.spare:
			s.close()
		default:
			return c.reaper.close()
		}
	}
}

// borrow returns a socket in the host's namespace that nobody uses.
func (c *Conn) borrow() (*socket, error) {
	select {
	case s := <-c.spare:
		return s, nil
	default:
		return c.ports.open(c.host)
	}
}

// giveBack takes a borrowed socket back. After an error there may be answers
// still to come, so it is not used again.
func (c *Conn) giveBack(s *socket, err error) {
	if err == nil {
		select {
		case c.spare <- s:
			return
		default:
		}
	}
	s.close()
}

// Apply carries out ops on links, addresses and routes. It goes on after a
// failure and returns all of them, each a *kernel.OpError, in the order of ops.
func (c *Conn) Apply(ops []kstate.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := newPass(c, ops)
	defer p.leave()
	p.run()
	var errs []error
	for i, err := range p.errs {
		if err != nil {
			errs = append(errs, &kernel.OpError{Op: ops[i], Err: err})
		}
	}
	return errors.Join(errs...)
}

// Doom takes down all veths of ours whose far end is in the namespace at path,
// before it is removed: it may live on while processes are in it.
func (c *Conn) Doom(path string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := newPass(c, nil)
	defer p.leave()
	err := p.doomAll(kstate.NS{Path: path})
	if errors.Is(err, kernel.ErrNoNamespace) {
		return nil
	}
	return err
}

// indexes returns two indexes for the ends of a new device.
func (c *Conn) indexes() (near, far int) {
	near, far = c.index, c.index+1
	if c.index += 2; c.index > lastIndex {
		c.index = firstIndex
	}
	return near, far
}

func missing(what, name string) error { return fmt.Errorf("%s %s %w", what, name, kernel.ErrMissing) }

func foreign(what string) error { return fmt.Errorf("%s is not ours: %w", what, kernel.ErrInUse) }
