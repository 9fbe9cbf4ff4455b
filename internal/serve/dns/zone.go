package dns

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Host is one endpoint as others on the network may ask for it.
type Host struct {
	// ID tells hosts of a zone apart; it is not a name.
	ID string
	// Names are what it is called on the network: the sandbox's name, aliases,
	// short ID, hostname. Case does not matter. The first that is a DNS name is
	// the answer when somebody asks for the name of its address.
	Names []string
	Addrs []netip.Addr
	// Ports are found as _PORT._PROTO.NAME, type SRV.
	Ports []Port
	// Sole: who else has one of its names is not found by that. Its name may have no
	// address, and is not asked for elsewhere either.
	Sole bool
	// Lent: its addresses are those of others, whose names they are asked back for.
	Lent bool
}

// Port is one that a host listens on, or several in a row.
type Port struct {
	Proto  string // "tcp", "udp" or "sctp"
	Number uint16 // the first
	Count  uint16 // 0 is 1
}

// has reports whether number is one of the ports. There is no port 0.
func (p Port) has(proto string, number uint16) bool {
	return p.Proto == proto && number != 0 && number >= p.Number && number-p.Number < max(p.Count, 1)
}

// Zone is the names of one network. It is shared by the views of all sandboxes
// on the network; a change is seen in all of them at once.
type Zone struct {
	now atomic.Pointer[snapshot] // never nil; what it points to does not change

	mu    sync.Mutex // protects hosts, and lets one change happen at a time
	hosts map[string]*host
}

// snapshot is a zone at one moment.
type snapshot struct {
	name    string // of the network, as it is written in answers
	suffix  string // what a name ends with that says the network
	subnets []netip.Prefix
	names   table[string, *record]
	addrs   table[netip.Addr, []*host]
}

// host is a Host with lower-case names, each once.
type host struct {
	id    string
	names []string
	addrs []netip.Addr
	ports []Port
	sole  bool
	lent  bool
}

// record is what a name means. The addresses are resource records ready to be
// copied behind a question; their owner is a pointer to the question's name.
type record struct {
	all     []*host // that have the name
	hosts   []*host // of them, that it means
	a, aaaa []byte
}

// NewZone returns the zone of a network without hosts. An address in one of
// the subnets that no host has is not asked for elsewhere.
func NewZone(name string, subnets []netip.Prefix) *Zone {
	seed := maphash.MakeSeed()
	z := &Zone{hosts: map[string]*host{}}
	s := &snapshot{names: newTable[string, *record](hashString(seed)), addrs: newTable[netip.Addr, []*host](hashComparable[netip.Addr](seed))}
	z.now.Store(s.called(name, subnets))
	return z
}

// SetNetwork changes the name and the subnets of the network.
func (z *Zone) SetNetwork(name string, subnets []netip.Prefix) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.now.Store(z.now.Load().called(name, subnets))
}

// called returns the snapshot with another name and other subnets.
func (s *snapshot) called(name string, subnets []netip.Prefix) *snapshot {
	c := *s
	c.name, c.subnets = canonical(name), slices.Clone(subnets)
	c.suffix = "." + c.name
	return &c
}

// Update puts hosts, replacing those with the same ID, and removes others by ID;
// an unknown one is no error. Questions are answered from all of it or from
// nothing of it. The time depends on what is changed, hardly on how many hosts
// there are.
func (z *Zone) Update(put []Host, remove ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	next := *z.now.Load()
	next.names, next.addrs = next.names.edit(), next.addrs.edit()
	for _, id := range remove {
		z.drop(&next, id)
	}
	for i := range put {
		z.drop(&next, put[i].ID)
		h := newHost(&put[i])
		z.hosts[h.id] = h
		next.link(h)
	}
	z.now.Store(&next)
}

func (z *Zone) drop(s *snapshot, id string) {
	if h := z.hosts[id]; h != nil {
		delete(z.hosts, id)
		s.unlink(h)
	}
}

func newHost(h *Host) *host {
	c := &host{id: h.ID, ports: slices.Clone(h.Ports), sole: h.Sole, lent: h.Lent}
	for _, n := range h.Names {
		if n = canonical(n); sayable(n) && !slices.Contains(c.names, n) {
			c.names = append(c.names, n)
		}
	}
	for _, a := range h.Addrs {
		if a = a.Unmap().WithZone(""); a.IsValid() && !slices.Contains(c.addrs, a) {
			c.addrs = append(c.addrs, a)
		}
	}
	return c
}

// sayable reports whether a name can be in a message. Sandboxes and networks may
// have others: nobody can ask for those.
func sayable(name string) bool {
	if len(name) > maxText {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return false
		}
	}
	return true
}

// full is the name that a host, which has one, is called by in answers: with the
// network's, if that can be said.
func (s *snapshot) full(h *host) string {
	if name := h.names[0] + s.suffix; sayable(name) {
		return name
	}
	return h.names[0]
}

// canonical is a name as the tables have it.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func (s *snapshot) link(h *host) {
	for _, n := range h.names {
		old, ok := s.names.get(n)
		if !ok {
			old = &record{}
		}
		s.names.set(n, newRecord(with(old.all, h)))
	}
	for _, a := range h.back() {
		old, _ := s.addrs.get(a)
		s.addrs.set(a, with(old, h))
	}
}

func (s *snapshot) unlink(h *host) {
	for _, n := range h.names {
		old, _ := s.names.get(n)
		if rest := without(old.all, h); len(rest) > 0 {
			s.names.set(n, newRecord(rest))
		} else {
			s.names.remove(n)
		}
	}
	for _, a := range h.back() {
		old, _ := s.addrs.get(a)
		if rest := without(old, h); len(rest) > 0 {
			s.addrs.set(a, rest)
		} else {
			s.addrs.remove(a)
		}
	}
}

// back is the addresses that are asked back for a host's name.
func (h *host) back() []netip.Addr {
	if h.lent {
		return nil
	}
	return h.addrs
}

func with(hosts []*host, h *host) []*host { return append(slices.Clone(hosts), h) }

func without(hosts []*host, h *host) []*host {
	return slices.DeleteFunc(slices.Clone(hosts), func(x *host) bool { return x == h })
}

// The sizes of an address record behind a pointer to the name (RFC 1035, 4.1.3):
//
//	| pointer 2 | type 2 | class 2 | TTL 4 | length 2 | address 4 or 16 |
const (
	recordHead = 12
	recordA    = recordHead + 4
	recordAAAA = recordHead + 16
)

func newRecord(all []*host) *record {
	r := &record{all: all, hosts: all}
	if sole := slices.DeleteFunc(slices.Clone(all), func(h *host) bool { return !h.sole }); len(sole) > 0 {
		r.hosts = sole
	}
	for _, h := range r.hosts {
		for _, a := range h.addrs {
			if a.Is4() {
				r.a = appendAddr(r.a, typeA, a)
			} else {
				r.aaaa = appendAddr(r.aaaa, typeAAAA, a)
			}
		}
	}
	return r
}

func appendAddr(b []byte, typ uint16, a netip.Addr) []byte {
	b = binary.BigEndian.AppendUint16(b, 0xc000|headerLen)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, classIN)
	b = binary.BigEndian.AppendUint32(b, localTTL)
	b = binary.BigEndian.AppendUint16(b, uint16(a.BitLen()/8))
	return append(b, a.AsSlice()...)
}
