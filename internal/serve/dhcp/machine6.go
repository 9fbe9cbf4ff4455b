package dhcp

import (
	"errors"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/sealane/sealane/internal/model"
)

// machine6 is RFC 8415, section 18.2.
type machine6 struct {
	timing
	client6
	xid    uint32
	began  time.Time // of the exchange
	tries  int
	last   time.Duration // between the last two tries
	merit  int           // of the offer
	number func() uint32
}

func newMachine6(c client6, lease *model.Lease, number func() uint32) *machine6 {
	random := func() float64 { return float64(number()) / (1 << 32) }
	return &machine6{client6: c, number: number, timing: timing{lease: lease, random: random}}
}

// Times of RFC 8415, section 7.6: the first between two tries, and the longest.
const (
	firstTry      = time.Second // solicitations, requests, confirmations
	maxSolicit    = time.Hour
	maxRequest    = 30 * time.Second
	maxConfirm    = 4 * time.Second
	confirming    = 10 * time.Second
	firstRenewal  = 10 * time.Second
	maxRenewal    = 10 * time.Minute
	requestTries6 = 10
	maxMerit      = 255 // a server that wants to be taken at once
)

func (m *machine6) start(now time.Time) []action { return m.resume(now, m) }

func (m *machine6) tick(now time.Time) []action {
	if m.state == selecting && m.offer != nil {
		return m.begin(now, requesting)
	}
	return m.due(now, m)
}

func (m *machine6) begin(now time.Time, s state) []action {
	if s == selecting {
		m.offer = nil
	}
	m.state, m.tries, m.last, m.began, m.xid = s, 0, 0, now, m.number()
	return m.again(now)
}

// pause returns the time to the next try (RFC 8415, section 15).
func (m *machine6) pause(first, most time.Duration) time.Duration {
	spread := func(d time.Duration) time.Duration { return time.Duration((m.random()*2 - 1) * float64(d) / 10) }
	if m.last == 0 {
		m.last = first + max(spread(first), 0) // solicitations wait no less than the first time for better offers
	} else if m.last = 2*m.last + spread(m.last); m.last > most {
		m.last = most + spread(most)
	}
	return m.last
}

func (m *machine6) again(now time.Time) []action {
	m.tries++
	elapsed := now.Sub(m.began)
	switch m.state {
	case selecting:
		m.at = now.Add(m.pause(firstTry, maxSolicit))
		return append([]action{{send: m.solicitation(m.xid, elapsed, m.shun)}}, m.vain(m.tries)...)
	case requesting:
		m.at = now.Add(m.pause(firstTry, maxRequest))
		if m.tries > requestTries6 {
			return m.wait(now, fmt.Errorf("server %s: offers %s and does not give it", m.offer.Server, m.offer.Addr.Addr()))
		}
		return []action{{send: m.about(dhcpv6.MessageTypeRequest, m.xid, elapsed, m.offer)}}
	case rebooting:
		m.at = now.Add(m.pause(firstTry, maxConfirm))
		if elapsed >= confirming { // nobody says no: it is good as long as it lasts
			m.state = bound
			return append(m.tick(now), action{well: true})
		}
		return []action{{send: m.about(dhcpv6.MessageTypeConfirm, m.xid, elapsed, m.lease)}}
	case renewing:
		m.at = earlier(now.Add(m.pause(firstRenewal, maxRenewal)), m.lease.Rebind)
		return []action{{send: m.about(dhcpv6.MessageTypeRenew, m.xid, elapsed, m.lease)}}
	case rebinding:
		m.at = earlier(now.Add(m.pause(firstRenewal, maxRenewal)), m.lease.Expires)
		return []action{{send: m.about(dhcpv6.MessageTypeRebind, m.xid, elapsed, m.lease)}, {trouble: unrenewed(m.lease)}}
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (m *machine6) receive(now time.Time, message []byte, from sender) ([]action, error) {
	p, err := dhcpv6.MessageFromBytes(message)
	if err != nil {
		return nil, fmt.Errorf("from %s: %w", from.addr, err)
	}
	if !m.mine(p, m.xid) {
		return nil, nil // what is for others, or late, is no news
	}
	switch {
	case p.MessageType == dhcpv6.MessageTypeAdvertise && m.state == selecting:
		return m.advertised(now, p, from)
	case p.MessageType != dhcpv6.MessageTypeReply:
		return nil, nil
	case m.state == rebooting:
		return m.confirmed(now, p, from), nil
	case m.state == requesting || m.state >= renewing:
		return m.replied(now, p, from)
	}
	return nil, nil
}

// advertised keeps the best offer. After the first time-out there is no better one
// to wait for (RFC 8415, section 18.2.1).
func (m *machine6) advertised(now time.Time, p *dhcpv6.Message, from sender) ([]action, error) {
	l, err := m.lease6(p, from, now)
	if err == nil {
		err = m.shunned(l)
	}
	if err != nil {
		return m.refuse(err)
	}
	if merit := int(p.Options.Preference()); m.offer == nil || merit > m.merit {
		m.offer, m.merit = l, merit
	}
	if m.merit == maxMerit || m.tries > 1 {
		return m.begin(now, requesting), nil
	}
	return nil, nil
}

// confirmed goes on with the lease, unless the sandbox is on another link now.
func (m *machine6) confirmed(now time.Time, p *dhcpv6.Message, from sender) []action {
	if err := statusOf(p.Options.Status()); err != nil {
		why := fmt.Errorf("server %s: takes %s back: %w", from.addr, m.lease.Addr.Addr(), err)
		return m.lose(now, why, m)
	}
	m.state = bound
	return append(m.tick(now), action{well: true})
}

func (m *machine6) replied(now time.Time, p *dhcpv6.Message, from sender) ([]action, error) {
	l, err := m.lease6(p, from, now)
	if err == nil {
		return m.check(l), nil
	}
	status, told := errors.AsType[*statusError](err)
	switch {
	case !told && m.state == requesting:
		return m.refuse(err)
	case m.state == requesting:
		return m.wait(now, err), nil
	case told && status.code == iana.StatusNoBinding: // it has forgotten: it is asked as if it had offered
		m.offer = m.lease
		if id := p.Options.ServerID(); id != nil {
			again := *m.lease
			again.ServerID, again.Server, again.Via = id.ToBytes(), from.addr, from.mac
			m.offer = &again
		}
		return m.begin(now, requesting), nil
	case told && status.code == iana.StatusNotOnLink, !told && ended(p, m.iaid):
		return m.wait(now, err), nil
	}
	return nil, err
}

// ended reports whether a server says that an address is good no longer.
func ended(p *dhcpv6.Message, iaid [4]byte) bool {
	for _, ia := range p.Options.IANA() {
		if ia.IaId == iaid {
			return len(ia.Options.Addresses()) > 0
		}
	}
	return false
}

func (m *machine6) settled(now time.Time, err error) []action {
	return m.settle(now, err, func(l *model.Lease) *packet {
		return m.about(dhcpv6.MessageTypeDecline, m.number(), 0, l)
	})
}
