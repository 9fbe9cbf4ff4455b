package rtnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// pass is one Apply. Ops become messages, which wait in a queue per namespace;
// then each queue is sent at once, the host's first: what is done inside
// another namespace may stand on a device made in the host's, never the other
// way round.
type pass struct {
	c      *Conn
	ops    []kstate.Op
	errs   []error // by op
	spaces []*space
	undone map[int]string // by op: journal entry to erase once it is done
	fresh  map[int]string // by op: journal entry to erase if it fails
	made   map[int]int    // by op: index of a tunnel's new device, see takeBack

	rules   []kstate.Rule // of ours, as they will be, once asked for
	ports   []*message    // about new veths once their far ends are up, see askPorts
	crowded bool          // many routes come
	dooming bool          // the queues doom something
	ending  bool          // they end something that may be in the way of a new device, see addLower
	reaped  int           // the reaper's count when the round began
}

// space is a namespace during a pass.
type space struct {
	ns     kstate.NS
	handle *netns.Handle
	sock   *socket
	nsid   int               // the host's number for it, noNSID if there is none or nobody asked
	hostID int               // its number for the host, likewise
	devs   map[string]device // looked up, or planned
	awake  map[string]bool   // devices that take IPv6 addresses, see wake
	queue  []step
}

func newSpace(ns kstate.NS, h *netns.Handle, sock *socket) *space {
	return &space{ns: ns, handle: h, sock: sock, nsid: noNSID, hostID: noNSID, devs: map[string]device{}}
}

// noOp is the number of a message that belongs to no op; its failure is none.
const noOp = -1

// step is one message of an op.
type step struct {
	op      int
	msg     *message
	forgive error // a failure that is none
}

func newPass(c *Conn, ops []kstate.Op) *pass {
	return &pass{c: c, ops: ops, errs: make([]error, len(ops)), spaces: []*space{newSpace(kstate.NS{}, c.host, c.sock)}, undone: map[int]string{}, fresh: map[int]string{}, made: map[int]int{}, crowded: crowded(ops)}
}

// maxSpaces is how many namespaces are open at once: each costs two file
// descriptors.
const maxSpaces = 200

// leave closes what was opened in other namespaces: a socket kept would keep
// the namespace.
func (p *pass) leave() {
	for _, s := range p.spaces[1:] {
		s.sock.close()
		s.handle.Close()
	}
	p.spaces = p.spaces[:1]
}

func (p *pass) host() *space { return p.spaces[0] }

// space opens a namespace, once per pass.
func (p *pass) space(ns kstate.NS) (*space, error) {
	for _, s := range p.spaces {
		if s.ns == ns {
			return s, nil
		}
	}
	if len(p.spaces) > maxSpaces {
		p.flush()
		p.leave()
	}
	h, sock := p.c.looked.take(ns)
	if h == nil {
		var err error
		if h, err = netns.Open(ns); err != nil {
			return nil, err
		}
		if sock, err = p.c.ports.open(h); err != nil {
			h.Close()
			return nil, err
		}
	}
	s := newSpace(ns, h, sock)
	p.spaces = append(p.spaces, s)
	return s, nil
}

// nsid returns the number by which this namespace knows h, or noNSID.
func (s *socket) nsid(h *netns.Handle) (int, error) {
	got, err := s.get(newMessage(unix.RTM_GETNSID, 0).family(unix.AF_UNSPEC).u32(unix.NETNSA_FD, uint32(h.FD())))
	if err != nil || len(got) < 4 {
		return noNSID, err
	}
	nsid := noNSID
	attrs(got[4:], func(typ uint16, v []byte) {
		if typ == unix.NETNSA_NSID {
			nsid = int(int32(u32(v)))
		}
	})
	return nsid, nil
}

// leadsTo reports whether a veth of the host has its far end in s.
func (p *pass) leadsTo(d device, s *space) bool { return d.planned || s.hasFar(d, p.host()) }

// hasFar reports whether a veth of the host has its far end here. The host
// gives a namespace its number when the first veth leads there, and looks
// through all to tell one: so it is asked for when it matters.
func (s *space) hasFar(d device, host *space) bool {
	if s.inHost(host) {
		return d.nsid == noNSID
	}
	if s.nsid == noNSID {
		if nsid, err := host.sock.nsid(s.handle); err == nil {
			s.nsid = nsid
		}
	}
	return s.nsid != noNSID && d.nsid == s.nsid
}

// fromHost reports whether what a device here is on, or its other end, is in the
// host's namespace. A sandbox has few numbers for others, where the host has one
// for each.
func (s *space) fromHost(d device, host *space) bool {
	if s.inHost(host) || d.nsid == noNSID {
		return s.inHost(host) && d.nsid == noNSID
	}
	if s.hostID == noNSID {
		if id, err := s.sock.nsid(host.handle); err == nil {
			s.hostID = id
		}
	}
	return d.nsid == s.hostID
}

// inHost reports whether this is the host's namespace, by whatever path.
func (s *space) inHost(host *space) bool { return s.handle.Inode() == host.handle.Inode() }

// device looks a device up by name, once per pass.
func (s *space) device(name string) (device, error) {
	if d, ok := s.devs[name]; ok {
		return d, nil
	}
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return device{}, missing("device", name)
	}
	got, err := s.sock.get(getDevice(name, 0))
	if errors.Is(err, unix.ENODEV) {
		return device{}, missing("device", name)
	}
	if err != nil {
		return device{}, err
	}
	d := parseDevice(got)
	s.devs[name] = d
	return d, nil
}

// index looks a device's index up by name. Unlike device it does not wait for who
// changes devices, nor for the kernel to tell all about this one.
func (s *space) index(name string) (int, error) {
	if d, ok := s.devs[name]; ok {
		return d.index, nil
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, missing("device", name)
	}
	err = unix.IoctlIfreq(s.sock.fd, unix.SIOCGIFINDEX, req)
	if errors.Is(err, unix.ENODEV) {
		return 0, missing("device", name)
	}
	return int(req.Uint32()), err
}

func (s *space) add(op int, m *message) { s.queue = append(s.queue, step{op: op, msg: m}) }

func (s *space) addForgiving(op int, m *message, forgive error) {
	s.queue = append(s.queue, step{op, m, forgive})
}

// rounds is how often a pass tries: what is in the way of a new device may be
// one that is doomed, and then goes away.
const rounds = 3

// run carries out all ops.
func (p *pass) run() {
	todo := make([]int, len(p.ops))
	for i := range todo {
		todo[i] = i
	}
	for round := 1; len(todo) > 0; round++ {
		p.reaped = p.c.reaper.reaps()
		for _, i := range todo {
			if p.errs[i] = p.plan(i); p.errs[i] != nil {
				p.unqueue(i)
			}
		}
		p.flush()
		todo = p.again(todo, round == rounds)
	}
	p.writeSettings()
	p.finish()
}

// unqueue takes back the messages of an op that turned out impossible.
func (p *pass) unqueue(i int) {
	for _, s := range p.spaces {
		for n := len(s.queue); n > 0 && s.queue[n-1].op == i; n-- {
			s.queue = s.queue[:n-1]
		}
	}
}

// plan queues the messages of an op.
func (p *pass) plan(i int) error {
	op := p.ops[i]
	switch o := op.Object().(type) {
	case kstate.Link:
		switch {
		case o.Type == kstate.TypeNIC:
			return p.planNIC(i, op)
		case op.New == nil:
			return p.removeLink(i, o)
		case op.Old == nil:
			return p.addLink(i, o)
		}
		return p.changeLink(i, op.Old.(kstate.Link), o)
	case kstate.Addr:
		switch {
		case op.New == nil:
			return p.removeAddr(i, o)
		case op.Old != nil:
			return p.joinAddr(i, o)
		}
		return p.addAddr(i, o)
	case kstate.Route:
		return p.planRoute(i, op)
	case kstate.Rule:
		return p.planRule(i, op)
	case kstate.Neigh:
		return p.planNeigh(i, op)
	case kstate.FDB:
		return p.planFDB(i, op)
	case kstate.Aside:
		return p.planAside(i, op)
	case kstate.Raise:
		return p.planRaise(i, op)
	case kstate.Trunk:
		return p.planTrunk(i, op)
	case kstate.Shaper:
		return p.planShaper(i, op)
	case kstate.Redirect:
		return p.planRedirect(i, op)
	}
	return fmt.Errorf("not a link, nor on one: %w", kernel.ErrUnsupported)
}

// flush sends all queues and keeps the first failure of each op.
func (p *pass) flush() {
	for _, s := range p.spaces {
		msgs := make([]*message, len(s.queue))
		for i, st := range s.queue {
			msgs[i] = st.msg
		}
		for i, err := range s.sock.send(msgs) {
			st := s.queue[i]
			if err == nil || st.op == noOp || p.errs[st.op] != nil || st.forgive != nil && errors.Is(err, st.forgive) {
				continue
			}
			p.errs[st.op] = err
		}
		s.queue = nil
	}
	p.askPorts()
	if p.dooming {
		p.dooming = false
		p.c.reaper.arm()
	}
}

// askPorts asks about near ends whose far end was just set up. They carry
// packets only when the kernel's link watch has looked at them, which waits for
// the lock that others may hold for long, and a packet lost meanwhile costs a
// second of address resolution. Linux 6.8 and later look at once when asked
// (rtnl_getlink in net/core/rtnetlink.c). The answers are of no interest, nor is
// whether there was what [noMulticast] removes.
func (p *pass) askPorts() {
	const atOnce = 8 // answers are larger than acknowledgements
	for len(p.ports) > 0 {
		n := min(atOnce, len(p.ports))
		p.host().sock.send(p.ports[:n])
		p.ports = p.ports[n:]
	}
}

// again settles what failed and returns the ops worth another round: those
// whose obstacle is gone, and failures after an op that was settled, which may
// have followed from its.
func (p *pass) again(todo []int, last bool) []int {
	var next []int
	moved := false
	for _, i := range todo {
		if p.errs[i] == nil {
			continue
		}
		settled, cleared := p.settle(i, p.errs[i])
		p.errs[i] = settled
		if cleared || settled != nil && moved {
			next = append(next, i)
		}
		moved = moved || cleared || settled == nil
	}
	for _, s := range p.spaces {
		clear(s.devs)
	}
	p.rules = nil
	if last {
		return nil
	}
	return next
}

// settle looks into a failure: it may be none, because what is wanted is there
// already, or its cause may have been cleared away.
func (p *pass) settle(i int, err error) (settled error, cleared bool) {
	if l, ok := p.ops[i].New.(kstate.Link); ok {
		err = p.takeBack(i, l, err)
	}
	if l, ok := p.ops[i].New.(kstate.Link); ok && l.Type == kstate.TypeMacvlan && errors.Is(err, unix.EADDRINUSE) {
		return p.settleTwin(l, err)
	}
	full := errors.Is(err, unix.EXFULL) // all of a bridge's ports are taken
	if p.ops[i].Old != nil || !full && !errors.Is(err, kernel.ErrInUse) || errors.Is(err, unix.EADDRINUSE) {
		return err, false
	}
	switch o := p.ops[i].New.(type) {
	case kstate.Link:
		if o.Type.OnParent() {
			return p.settleLower(o, err)
		}
		return p.settleLink(o, err)
	case kstate.Addr:
		return p.settleAddr(i, o, err), false
	case kstate.Route:
		return p.settleRoute(o, err), false
	}
	return err, false
}

// finish erases journal entries without an object.
func (p *pass) finish() {
	for i := range p.ops {
		key, ok := p.undone[i]
		if p.errs[i] != nil {
			key, ok = p.fresh[i]
		}
		if !ok {
			continue
		}
		if err := p.c.journal.Erase(key); err != nil {
			p.errs[i] = errors.Join(p.errs[i], fmt.Errorf("journal: %w", err))
		}
	}
}
