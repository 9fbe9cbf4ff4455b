// Package conntrack forgets flows whose address translation is out of date.
//
// The kernel decides about translation once, at a flow's first packet. A UDP
// client that sends on and on keeps its flow alive, so it would never see a
// port that was published after it began, or moved to another container. With TCP
// a new connection is a new flow, but for one that nobody answered: the kernel
// remembers that for two minutes, and who tries again from the same port is sent
// to the same container, or backend of a service, which may be dead.
package conntrack

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Ports are UDP ports of the host whose translation changed, each with the
// places it leads to now.
type Ports map[uint16][]netip.AddrPort

// Add adds the ports whose translation op changes: op is about an element of a
// map keyed by protocol and port.
func (p Ports) Add(op kstate.Op) {
	if e, ok := op.Old.(kstate.Elem); ok {
		for at, place := range translated(e, "udp") {
			p[at.Port()] = slices.DeleteFunc(p[at.Port()], func(a netip.AddrPort) bool { return a == place })
		}
	}
	if e, ok := op.New.(kstate.Elem); ok {
		for at, place := range translated(e, "udp") {
			p[at.Port()] = append(p[at.Port()], place)
		}
	}
}

// translated gives each port of the host that e translates, of a protocol, and where to:
// one at all addresses is at the unspecified one. A value without a port keeps the port.
func translated(e kstate.Elem, proto string) iter.Seq2[netip.AddrPort, netip.AddrPort] {
	return func(yield func(asked, place netip.AddrPort) bool) {
		if e.Set == nil || e.Set.Data == "" || e.Set.Data == "verdict" || e.Set.Data == "mark" || !strings.HasSuffix(e.Set.Type, "inet_proto . inet_service") {
			return
		}
		fields := strings.Split(e.At, " . ")
		if len(fields) < 2 || fields[len(fields)-2] != proto {
			return
		}
		first, last, ranged := strings.Cut(fields[len(fields)-1], "-")
		if !ranged {
			last = first
		}
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil {
			return
		}
		value, behind, _ := strings.Cut(e.Value, " . ")
		to, _ := netip.ParseAddr(value)
		asked := unspecified(to)
		if len(fields) > 2 {
			asked, _ = netip.ParseAddr(fields[0])
		}
		port, fixed := strconv.ParseUint(behind, 10, 16)
		for at := a; at <= b; at++ {
			if fixed != nil {
				port = at
			}
			if !yield(netip.AddrPortFrom(asked, uint16(at)), netip.AddrPortFrom(to, uint16(port))) {
				return
			}
		}
	}
}

// Opened are UDP ports of the host at which a service came to be asked for, one at all
// addresses at the unspecified one: flows to them that lead nowhere are to begin anew.
type Opened map[netip.AddrPort]bool

// Add adds the port that op opens, about an element of the maps of published ports (package
// compile, published and published_at of both families), or forgets the one that it closes.
func (o Opened) Add(op kstate.Op) {
	if at, ok := opening(op.Old); ok {
		delete(o, at)
	}
	if at, ok := opening(op.New); ok {
		o[at] = true
	}
}

func opening(o kstate.Object) (at netip.AddrPort, ok bool) {
	e, is := o.(kstate.Elem)
	if !is {
		return at, false
	}
	var fields []string
	switch e.Set.Name {
	case "published4":
		fields = append(fields, "0.0.0.0")
	case "published6":
		fields = append(fields, "::")
	case "published_at4", "published_at6":
	default:
		return at, false
	}
	fields = append(fields, strings.Split(e.At, " . ")...)
	if len(fields) != 3 || fields[1] != "udp" {
		return at, false
	}
	return place(fields[0], fields[2])
}

// Closed are UDP ports of the host that nobody has any more, one at all addresses at the
// unspecified ones: flows to them that are sent on end, also where what they are sent to goes on
// being asked for otherwise.
type Closed map[netip.AddrPort]bool

// Add adds the ports that op gives back to other programs, or forgets those it takes.
func (c Closed) Add(op kstate.Op) {
	if h, ok := op.Old.(kstate.Hold); ok {
		for at := range heldPorts(h) {
			c[at] = true
		}
	}
	if len(c) == 0 {
		return
	}
	if h, ok := op.New.(kstate.Hold); ok {
		for at := range heldPorts(h) {
			delete(c, at)
		}
	}
}

func heldPorts(h kstate.Hold) iter.Seq[netip.AddrPort] {
	return func(yield func(netip.AddrPort) bool) {
		addrs := []netip.Addr{h.Addr}
		if !h.Addr.IsValid() {
			addrs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		}
		for port := int(h.First); h.Proto == "udp" && port <= int(h.Last); port++ {
			for _, a := range addrs {
				if !yield(netip.AddrPortFrom(a, uint16(port))) {
					return
				}
			}
		}
	}
}

// Ended are places by UDP that belong to no service any more: flows to one that was
// chosen for them are to begin anew, and be sent to another.
type Ended map[netip.AddrPort]bool

// Add adds what op, about an element of the sets of such places (package compile,
// answers, exposed and node of both families), takes away, or has back.
func (e Ended) Add(op kstate.Op) {
	if place, ok := answering(op.Old); ok {
		e[place] = true
	}
	if len(e) == 0 {
		return
	}
	if place, ok := answering(op.New); ok {
		delete(e, place)
	}
}

var placeSets = []string{"answers", "exposed", "node"}

func answering(o kstate.Object) (p netip.AddrPort, ok bool) {
	e, is := o.(kstate.Elem)
	if !is || !slices.Contains(placeSets, strings.TrimRight(e.Set.Name, "46")) {
		return p, false
	}
	addr, rest, _ := strings.Cut(e.At, " . ")
	proto, port, _ := strings.Cut(rest, " . ")
	p, ok = place(addr, port)
	return p, ok && proto == "udp"
}

// Table is the flow table of a network namespace.
type Table struct {
	handle *netlink.Handle

	mu      sync.Mutex // protects the following
	pending stale      // to be forgotten by the timer's next run
	timer   *time.Timer
}

// pause is how long changes are gathered before the flow table is walked.
const pause = 20 * time.Millisecond

// Open opens the table of the calling thread's namespace.
func Open() (*Table, error) {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return &Table{handle: h, pending: newStale()}, nil
}

// Changed is told about ops that were applied at once. Those that change a UDP port's
// translation, open one to a service or close it, or end what answered for a service or was chosen
// for it, have flows forgotten soon after. A failure to do so costs a client the time its
// flow takes to end, and is left at that.
func (t *Table) Changed(ops []kstate.Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, op := range ops {
		t.pending.ports.Add(op)
		t.pending.opened.Add(op)
		t.pending.ended.Add(op)
		t.pending.closed.Add(op)
	}
	t.pending.unchosen.Add(ops)
	t.soon()
}

// HandedOver is told which ports services came to have: flows to one of them that are sent
// to somebody else's backend are forgotten soon after. What is applied does not say it: one
// who drains is chosen no more either, and keeps its flows.
func (t *Table) HandedOver(all []kernel.Handover) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range all {
		t.pending.handed[h.Asked] = h.Places
	}
	t.soon()
}

// soon has what is pending forgotten. The caller holds mu.
func (t *Table) soon() {
	if !t.pending.empty() && t.timer == nil {
		t.timer = time.AfterFunc(pause, func() { t.flush() })
	}
}

// flush forgets what is pending.
func (t *Table) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.pending
	t.pending, t.timer = newStale(), nil
	if s.empty() {
		return nil
	}
	return t.forget(s)
}

// listTries is how often a list is asked for during which something changed: it may lack some.
const listTries = 10

// Close does what is pending and closes the table.
func (t *Table) Close() error {
	err := t.flush()
	t.handle.Close()
	return err
}

// forget deletes the UDP flows that were begun to one of ports of this host and
// go elsewhere than it leads now, those that were sent to what has ended or to what has
// opened since, the flows of TCP and SCTP to what is unchosen, and if that is a service's
// backend those of them that have no answer. Their next packet begins them anew. Flows to
// the same port of other machines, as a resolver's, stay. It walks the whole flow table.
func (t *Table) forget(stale stale) error {
	addrs, err := t.handle.AddrList(nil, netlink.FAMILY_ALL)
	for try := 1; errors.Is(err, netlink.ErrDumpInterrupted) && try < listTries; try++ {
		addrs, err = t.handle.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return fmt.Errorf("conntrack: addresses of the host: %w", err)
	}
	stale.local = map[netip.Addr]bool{}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		stale.local[ip.Unmap()] = true
	}
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := t.handle.ConntrackDeleteFilters(netlink.ConntrackTable, family, stale); err != nil {
			errs = append(errs, fmt.Errorf("conntrack: forget flows: %w", err))
		}
		if stale.unchosen.of(unix.IPPROTO_SCTP) {
			if err := forgetSCTP(family, stale); err != nil {
				errs = append(errs, fmt.Errorf("conntrack: forget flows of SCTP: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// stale finds flows that are out of date.
type stale struct {
	ports    Ports
	opened   Opened
	ended    Ended
	closed   Closed
	unchosen Unchosen
	handed   map[netip.AddrPort][]netip.AddrPort // see kernel.Handover
	local    map[netip.Addr]bool                 // addresses of the host
}

func newStale() stale {
	return stale{Ports{}, Opened{}, Ended{}, Closed{}, Unchosen{}, map[netip.AddrPort][]netip.AddrPort{}, nil}
}

func (s stale) empty() bool {
	return len(s.ports)+len(s.opened)+len(s.ended)+len(s.closed)+len(s.unchosen)+len(s.handed) == 0
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter. A flow whose
// destination was rewritten was one to the host, also when it has lost the
// address since.
func (s stale) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	places, changed := s.ports[f.Forward.DstPort]
	from, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
	dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
	place := netip.AddrPortFrom(from.Unmap(), f.Reverse.SrcPort)
	asked := netip.AddrPortFrom(dst.Unmap(), f.Forward.DstPort)
	every := netip.AddrPortFrom(unspecified(asked.Addr()), asked.Port())
	local := dst.IsLoopback() || s.local[dst.Unmap()]
	switch {
	case f.Forward.Protocol != unix.IPPROTO_UDP:
		return s.unchosen.has(asked, place, f.Forward.Protocol) || unanswered(f) && s.unchosen.has(asked, place, 0)
	case local && asked == place && (s.opened[asked] || s.opened[every]):
		return true
	case asked != place && local && (s.closed[asked] || s.closed[every] || s.unchosen.has(asked, place, unix.IPPROTO_UDP) || s.strays(asked, place) || s.strays(every, place)):
		return true
	case s.ended[place]:
		return !f.Forward.DstIP.Equal(f.Reverse.SrcIP)
	case !changed:
		return false
	}
	if slices.Contains(places, place) {
		return false // begun since
	}
	return local || !f.Forward.DstIP.Equal(f.Reverse.SrcIP)
}

// strays reports whether a port was handed over to a service that has no backend at a place.
func (s stale) strays(asked, place netip.AddrPort) bool {
	places, handed := s.handed[asked]
	return handed && !slices.Contains(places, place)
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Unmap().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// synSent is the state of a TCP flow of which only the first packet was seen
// (TCP_CONNTRACK_SYN_SENT).
const synSent = 1

func unanswered(f *netlink.ConntrackFlow) bool {
	tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP)
	return ok && tcp.State == synSent
}
