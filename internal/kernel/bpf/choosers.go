package bpf

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// Choosers have sockets of containers choose among the backends of services when
// they connect, see kstate.Choice. Programs and maps are pinned beside those of a
// Holder, and outlive the daemon. They are there from the first choice or chooser on.
// The methods may be called from several goroutines.
type Choosers struct {
	dir string
	why error // why there are none, as of the Holder

	mu   sync.Mutex   // protects the following
	maps *chooserMaps // nil: not yet
}

// NewChoosers returns those of the bpffs that a Holder has mounted at dir, of which
// it takes over what a former process left. Where that holds with sockets there are
// none, nor where only a part of the cgroup hierarchy is in sight: containers may be in
// another part; nor where a trial fails, as beside a program that has a hook alone.
func NewChoosers(dir string, h *Holder) (*Choosers, error) {
	c := &Choosers{dir: dir, why: h.Why()}
	if c.why == nil {
		c.why = wholeHierarchy()
	}
	switch _, err := os.Stat(filepath.Join(dir, ballotsFile)); {
	case c.why != nil:
	case err == nil:
		c.why = c.open()
	default:
		c.why = chooserTrial()
	}
	if c.maps == nil { // nobody would bring up to date what programs that are there choose from
		return c, unpinChoosers(dir)
	}
	return c, nil
}

// chooserTrial attaches the programs for a moment, with nothing to choose from.
func chooserTrial() error {
	m, err := openChooserMaps("")
	if err != nil {
		return err
	}
	return errors.Join(m.attach(""), m.close())
}

// wholeHierarchy says why not all processes that are in sight are below the root of the
// cgroup hierarchy as this process sees it: a container that has process 1 of the host
// has not its cgroup (cgroup_namespaces(7)).
func wholeHierarchy() error {
	text, err := os.ReadFile("/proc/1/cgroup")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok && strings.HasPrefix(path, "/..") {
			return fmt.Errorf("process 1 is in none of the cgroups that are in sight: %w", kernel.ErrUnsupported)
		}
	}
	return nil
}

// Why says why sockets cannot choose, nil if they can.
func (c *Choosers) Why() error { return c.why }

// open opens the maps, makes them what they should be after a crash, and attaches the
// programs.
func (c *Choosers) open() error {
	if c.maps != nil {
		return nil
	}
	if c.why != nil {
		return c.why
	}
	m, err := openChooserMaps(c.dir)
	if err != nil {
		return err
	}
	if err = m.sweep(); err == nil {
		err = m.attach(c.dir)
	}
	if err != nil {
		return errors.Join(err, m.close())
	}
	c.maps = m
	return nil
}

// sweep erases seats that are of no service.
func (m *chooserMaps) sweep() error {
	ballots, stale := map[place]ballot{}, []seat(nil)
	if err := m.ballots.each(func(p place, b ballot) { ballots[p] = b }); err != nil {
		return err
	}
	if err := m.seats.each(func(s seat, _ place) {
		if s.number() >= ballots[s.service()].number(ballotSeats) {
			stale = append(stale, s)
		}
	}); err != nil {
		return err
	}
	_, err := m.seats.erase(stale)
	return err
}

// Apply carries out ops on kstate.Choice and kstate.Chooser objects, as kernel.Kernel
// says. Of choices those that come or change are written at once, and so are those that go,
// but one by one where that fails. Where that does too, nothing is left to choose from: the
// host chooses, and what was is in nobody's way.
func (c *Choosers) Apply(ops []kstate.Op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(ops))
	if err := c.open(); err != nil {
		fill(errs, err)
	} else {
		c.apply(ops, errs)
	}
	var out []error
	for i, err := range errs {
		if err != nil {
			out = append(out, &kernel.OpError{Op: ops[i], Err: err})
		}
	}
	return errors.Join(out...)
}

func (c *Choosers) apply(ops []kstate.Op, errs []error) {
	var put, gone []int
	for i, op := range ops {
		switch o := op.Object().(type) {
		case kstate.Chooser:
			errs[i] = c.maps.member(o, op.New != nil)
		case kstate.Choice:
			switch errs[i] = o.Check(); {
			case op.New == nil:
				gone, errs[i] = append(gone, i), nil
			case errs[i] == nil:
				put = append(put, i)
			}
		default:
			errs[i] = errors.New("neither a choice nor a chooser")
		}
	}
	for _, run := range []struct {
		at []int
		do func(...kstate.Op) error
	}{{put, c.maps.put}, {gone, c.maps.forget}} {
		some := make([]kstate.Op, len(run.at))
		for n, i := range run.at {
			some[n] = ops[i]
		}
		if run.do(some...) == nil {
			continue
		}
		for _, i := range run.at {
			if errs[i] = run.do(ops[i]); errs[i] != nil {
				errs[i] = errors.Join(errs[i], c.maps.forget(ops[i])) // half of it may be there, beside half of what was
			}
		}
	}
}

// put writes the choices of ops: seats, ballots, and then it erases seats that were more.
func (m *chooserMaps) put(ops ...kstate.Op) error {
	var seats, surplus []seat
	var to, places []place
	var ballots []ballot
	for _, op := range ops {
		o := op.New.(kstate.Choice)
		at := placeOf(o.At)
		for i, b := range o.Backends {
			seats, to = append(seats, seatOf(at, i)), append(to, placeOf(b))
		}
		places, ballots = append(places, at), append(ballots, ballotOf(len(o.Backends), o.VNI, o.Turns))
		if was, ok := op.Old.(kstate.Choice); ok {
			for i := len(o.Backends); i < len(was.Backends); i++ {
				surplus = append(surplus, seatOf(at, i))
			}
		}
	}
	if _, err := m.seats.put(seats, to); err != nil {
		return err
	}
	if _, err := m.ballots.put(places, ballots); err != nil {
		return err
	}
	_, err := m.seats.erase(surplus)
	return err
}

// forget erases the choices of ops, as they were and as they are to be, the seats last.
func (m *chooserMaps) forget(ops ...kstate.Op) error {
	var places []place
	var seats []seat
	for _, op := range ops {
		for _, o := range []kstate.Object{op.Old, op.New} {
			if o, ok := o.(kstate.Choice); ok {
				places = append(places, placeOf(o.At))
				for i := range o.Backends {
					seats = append(seats, seatOf(placeOf(o.At), i))
				}
			}
		}
	}
	if _, err := m.ballots.erase(places); err != nil {
		return err
	}
	_, err := m.seats.erase(seats)
	return err
}

// member has a namespace's sockets choose or not. One that is gone has none.
func (m *chooserMaps) member(o kstate.Chooser, is bool) error {
	if err := o.Check(); err != nil {
		return err
	}
	cookie, err := cookieOf(o.NS)
	switch {
	case errors.Is(err, kernel.ErrNoNamespace):
		return nil
	case err != nil:
		return err
	case is:
		_, err = m.choosers.put([]chooser{chooserOf(cookie, o.VNI)}, []home{homeOf(o.NS)})
	default:
		_, err = m.choosers.erase([]chooser{chooserOf(cookie, o.VNI)})
	}
	return err
}

// cookieOf is the cookie of a namespace.
func cookieOf(ns kstate.NS) (cookie uint64, err error) {
	h, err := netns.Open(ns)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	err = h.Do(func() (err error) {
		cookie, err = netnsCookie()
		return err
	})
	return cookie, err
}

// homeIn returns a namespace that is there, as it was noted or, where that leads to another one
// or to none by now, as it is known.
func homeIn(spaces map[uint64]kstate.NS, cookie uint64, noted kstate.NS) (kstate.NS, bool) {
	known, is := spaces[cookie]
	if is && known == noted {
		return noted, true
	}
	if c, err := cookieOf(noted); err == nil && c == cookie {
		return noted, true
	}
	return known, is
}

// Observe returns the choices, and the choosers in namespaces that are there; spaces are
// those of which the cookie is known. It forgets the others.
func (c *Choosers) Observe(spaces map[uint64]kstate.NS) ([]kstate.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.maps == nil {
		return nil, nil
	}
	choices := map[place]*kstate.Choice{}
	var gone []chooser
	var objs []kstate.Object
	err := errors.Join(
		c.maps.ballots.each(func(p place, b ballot) {
			choices[p] = &kstate.Choice{
				At: p.addrPort(), VNI: b.number(ballotVNI), Turns: b.number(ballotTurns) != 0, Backends: make([]netip.AddrPort, b.number(ballotSeats)),
			}
		}),
		c.maps.seats.each(func(s seat, p place) {
			if o := choices[s.service()]; o != nil && s.number() < len(o.Backends) {
				o.Backends[s.number()] = p.addrPort()
			}
		}),
		c.maps.choosers.each(func(k chooser, h home) {
			ns, there := homeIn(spaces, k.cookie(), h.ns())
			if !there {
				gone = append(gone, k)
				return
			}
			objs = append(objs, kstate.Chooser{NS: ns, VNI: k.vni()})
		}))
	for o := range maps.Values(choices) {
		objs = append(objs, *o)
	}
	_, failed := c.maps.choosers.erase(gone)
	if err = errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("choices: %w", err)
	}
	return objs, nil
}

// Flows returns the open connections of sockets that have chosen, in the namespaces of
// choosers.
func (c *Choosers) Flows() ([]kernel.Flow, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.maps == nil {
		return nil, nil
	}
	homes := map[uint64]kstate.NS{} // by cookie
	errs := []error{c.maps.choosers.each(func(k chooser, h home) { homes[k.cookie()] = h.ns() })}
	var flows []kernel.Flow
	for _, ns := range homes {
		here, err := c.maps.flows(ns)
		if !errors.Is(err, kernel.ErrNoNamespace) {
			flows, errs = append(flows, here...), append(errs, err)
		}
	}
	return flows, errors.Join(errs...)
}

// flows are those of sockets of a namespace.
func (m *chooserMaps) flows(ns kstate.NS) (flows []kernel.Flow, err error) {
	h, err := netns.Open(ns)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	err = h.Do(func() error {
		conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		values, err := (&diag{conn: conn}).stored(m.sockets)
		for _, v := range values {
			if len(v) == len(chosen{}) {
				s := chosen(v)
				flows = append(flows, kernel.Flow{Proto: "tcp", Asked: s.asked().addrPort(), Served: s.served().addrPort()})
			}
		}
		return err
	})
	return flows, err
}

// Close ends this process's part.
func (c *Choosers) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.maps == nil {
		return nil
	}
	m := c.maps
	c.maps = nil
	return m.close()
}

// Remove detaches the programs and forgets all. It comes before that of the Holder.
func (c *Choosers) Remove() error { return errors.Join(unpinChoosers(c.dir), c.Close()) }
