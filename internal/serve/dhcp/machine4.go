package dhcp

import (
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/sealane/sealane/internal/model"
)

// machine4 is RFC 2131, section 4.4.
type machine4 struct {
	timing
	client4
	xid    uint32
	began  time.Time // of the exchange
	tries  int
	number func() uint32
}

func newMachine4(c client4, lease *model.Lease, number func() uint32) *machine4 {
	random := func() float64 { return float64(number()) / (1 << 32) }
	return &machine4{client4: c, number: number, timing: timing{lease: lease, random: random}}
}

// How often somebody is asked.
const (
	requestTries   = 4
	rebootTries    = 3
	maxDiscovering = 64 * time.Second // RFC 2131, section 4.1
)

func (m *machine4) start(now time.Time) []action { return m.resume(now, m) }

func (m *machine4) tick(now time.Time) []action { return m.due(now, m) }

func (m *machine4) begin(now time.Time, s state) []action {
	if s == selecting {
		m.offer = nil
	}
	m.state, m.tries, m.began, m.xid = s, 0, now, m.number()
	return m.again(now)
}

func (m *machine4) again(now time.Time) []action {
	m.tries++
	switch m.state {
	case selecting:
		m.at = now.Add(backoff(m.tries, maxDiscovering, m.random()))
		return append([]action{{send: m.discovery(m.xid, now.Sub(m.began), m.shun)}}, m.vain(m.tries)...)
	case requesting:
		m.at = now.Add(backoff(m.tries, maxDiscovering, m.random()))
		if m.tries > requestTries {
			return m.wait(now, fmt.Errorf("server %s: offers %s and does not give it", m.offer.Server, m.offer.Addr.Addr()))
		}
		return []action{{send: m.asking(m.xid, now.Sub(m.began), m.offer)}}
	case rebooting:
		m.at = now.Add(backoff(m.tries, maxDiscovering, m.random()))
		if m.tries > rebootTries { // nobody says no: it is good as long as it lasts
			m.state = bound
			return append(m.tick(now), action{well: true})
		}
		return []action{{send: m.reboot(m.xid, now.Sub(m.began), m.lease)}}
	case renewing:
		m.at = soon(now, m.lease.Rebind)
		return []action{{send: m.renewal(m.xid, now.Sub(m.began), m.lease)}}
	case rebinding:
		m.at = soon(now, m.lease.Expires)
		return []action{{send: m.rebind(m.xid, now.Sub(m.began), m.lease)}, {trouble: unrenewed(m.lease)}}
	}
	return nil
}

func (m *machine4) receive(now time.Time, message []byte, from sender) ([]action, error) {
	p, err := dhcpv4.FromBytes(message)
	if err != nil {
		return nil, fmt.Errorf("from %s: %w", from.addr, err)
	}
	if !m.mine(p, m.xid) {
		return nil, nil // what is for others, or late, is no news
	}
	switch typ := p.MessageType(); {
	case typ == dhcpv4.MessageTypeOffer && m.state == selecting:
		return m.offered(now, p, from)
	case typ == dhcpv4.MessageTypeAck && (m.state == requesting || m.state >= renewing || m.state == rebooting):
		return m.acknowledged(now, p, from)
	case typ == dhcpv4.MessageTypeNak:
		return m.denied(now, p)
	}
	return nil, nil
}

func (m *machine4) offered(now time.Time, p *dhcpv4.DHCPv4, from sender) ([]action, error) {
	l, err := lease4(p, from, now)
	if err == nil {
		err = m.shunned(l)
	}
	if err != nil {
		return m.refuse(err)
	}
	m.offer, m.state, m.tries = l, requesting, 0
	return m.again(now), nil
}

func (m *machine4) acknowledged(now time.Time, p *dhcpv4.DHCPv4, from sender) ([]action, error) {
	l, err := lease4(p, from, now)
	switch {
	case err != nil:
		return m.refuse(err)
	case m.state == requesting && (l.Server != m.offer.Server || l.Addr.Addr() != m.offer.Addr.Addr()),
		m.state == rebooting && l.Addr.Addr() != m.lease.Addr.Addr():
		return nil, fmt.Errorf("server %s: gives %s, which it was not asked for", l.Server, l.Addr.Addr())
	}
	return m.check(l), nil
}

func (m *machine4) denied(now time.Time, p *dhcpv4.DHCPv4) ([]action, error) {
	server := address(p.ServerIdentifier())
	switch {
	case m.state == requesting && server == m.offer.Server, m.state == renewing && server == m.lease.Server,
		m.state == rebooting, m.state == rebinding:
	default:
		return nil, nil
	}
	asked := m.offer
	if m.state != requesting {
		asked = m.lease
	}
	why := fmt.Errorf("server %s: takes %s back", server, asked.Addr.Addr())
	if m.lease == nil || m.setbacks > 0 {
		return m.wait(now, why), nil
	}
	m.setbacks++ // the first is forgiven at once: the sandbox, or the server, has moved
	return m.lose(now, why, m), nil
}

func (m *machine4) settled(now time.Time, err error) []action {
	return m.settle(now, err, func(l *model.Lease) *packet { return m.decline(m.number(), l) })
}
