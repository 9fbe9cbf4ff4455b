package ipam

import (
	"fmt"
	"net/netip"

	"github.com/sealane/sealane/internal/model"
)

// lastAddr is model.Last under a shorter name.
func lastAddr(p netip.Prefix) netip.Addr { return model.Last(p) }

// Ports are the host ports that are published, by protocol. A port can have
// several owners, on different addresses of the host.
type Ports struct {
	claims map[string]*[1 << 16][]claim
	next   uint16 // where the search for a free port goes on
}

// claim is one owner of one port.
type claim struct {
	ip    netip.Addr
	owner string
	to    uint16 // the container's port
}

// The range that free ports are taken from. It is below the ports that the
// kernel gives to sockets without one (net.ipv4.ip_local_port_range, from 32768
// on), which it does without asking who holds them, and clear of Kubernetes'
// node ports, from 30000 on.
const (
	firstFree = 20000
	lastFree  = 29999
)

// NewPorts returns a table without claims.
func NewPorts() *Ports {
	return &Ports{claims: map[string]*[1 << 16][]claim{}, next: firstFree}
}

// ConflictError is a host port that another owner has.
type ConflictError struct {
	Port  uint16
	Proto string
	Owner string
}

// Error names the port and its owner.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("port %d/%s: published by %s", e.Port, e.Proto, e.Owner)
}

func (p *Ports) table(proto string) *[1 << 16][]claim {
	if p.claims[proto] == nil {
		p.claims[proto] = new([1 << 16][]claim)
	}
	return p.claims[proto]
}

// conflict returns the first claim but own that meets host ports first.. of m.
func (p *Ports) conflict(m model.PortMapping, first uint16, own func(claim) bool) error {
	t := p.table(m.Proto)
	for i := range m.Count {
		for _, c := range t[first+i] {
			if model.Meet(c.ip, m.HostIP) && (own == nil || !own(c)) {
				return &ConflictError{first + i, m.Proto, c.owner}
			}
		}
	}
	return nil
}

// Allocate claims the host ports of m for owner, choosing them where m leaves
// that open: any free port when HostPort is 0, one of HostPort..HostEnd when
// HostEnd is set. It returns the mapping with its ports decided, a
// *ConflictError, or ErrExhausted. skip, if not nil, refuses ports that are in
// use elsewhere.
func (p *Ports) Allocate(m model.PortMapping, owner string, skip func(model.PortMapping) bool) (model.PortMapping, error) {
	switch {
	case m.HostEnd != 0:
		first, last := m.HostPort, m.HostEnd
		m.HostEnd = 0
		return p.search(m, first, last, first, owner, skip)
	case m.HostPort == 0:
		out, err := p.search(m, firstFree, lastFree, p.next, owner, skip)
		if err == nil {
			p.next = afterPorts(out)
		}
		return out, err
	}
	if err := p.conflict(m, m.HostPort, nil); err != nil {
		return m, err
	}
	p.put(m, owner)
	return m, nil
}

// Move claims the host ports that owner has at the address from for m's address
// of the host, or returns a *ConflictError. The claim at from stays until it is
// released.
func (p *Ports) Move(m model.PortMapping, from netip.Addr, owner string) error {
	own := func(c claim) bool { return c.owner == owner && c.ip == from }
	if err := p.conflict(m, m.HostPort, own); err != nil {
		return err
	}
	p.put(m, owner)
	return nil
}

// search claims the first free run of ports in first..last, beginning at from
// and going round.
func (p *Ports) search(m model.PortMapping, first, last, from uint16, owner string, skip func(model.PortMapping) bool) (model.PortMapping, error) {
	size := int(last) - int(first) + 1
	for i := range size {
		at := int(first) + (int(from)-int(first)+i)%size
		if at+int(m.Count)-1 > int(last) {
			continue
		}
		m.HostPort = uint16(at)
		if p.conflict(m, m.HostPort, nil) == nil && (skip == nil || !skip(m)) {
			p.put(m, owner)
			return m, nil
		}
	}
	return m, fmt.Errorf("host ports %d-%d/%s: %w", first, last, m.Proto, ErrExhausted)
}

func (p *Ports) put(m model.PortMapping, owner string) {
	t := p.table(m.Proto)
	for i := range m.Count {
		t[m.HostPort+i] = append(t[m.HostPort+i], claim{m.HostIP, owner, m.Port + i})
	}
}

// afterPorts is where the search goes on after m was found.
func afterPorts(m model.PortMapping) uint16 {
	return firstFree + (m.HostLast()+1-firstFree)%(lastFree-firstFree+1)
}

// Undo takes back an Allocate that came to nothing, the last one first: the
// next search begins where it did.
func (p *Ports) Undo(m model.PortMapping) {
	p.Release(m)
	if m.HostPort >= firstFree && p.next == afterPorts(m) {
		p.next = m.HostPort
	}
}

// Release gives back what Allocate claimed.
func (p *Ports) Release(m model.PortMapping) {
	t := p.table(m.Proto)
	for i := range m.Count {
		port := m.HostPort + i
		for j, c := range t[port] {
			if c.ip == m.HostIP {
				t[port] = append(t[port][:j:j], t[port][j+1:]...)
				break
			}
		}
	}
}

// Lookup returns who owns a port at a host address, and the container's port.
// A claim on the address itself comes before one on every address.
func (p *Ports) Lookup(proto string, at netip.AddrPort) (owner string, port uint16, ok bool) {
	t := p.claims[proto]
	if t == nil {
		return "", 0, false
	}
	for _, c := range t[at.Port()] {
		switch {
		case c.ip == at.Addr():
			return c.owner, c.to, true
		case !c.ip.IsValid() || c.ip.IsUnspecified() && c.ip.Is6() == at.Addr().Is6():
			owner, port, ok = c.owner, c.to, true
		}
	}
	return owner, port, ok
}
