package dhcp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// machine is the protocol of one lease. It is told the time and what came in, and
// says what is to be done. What it says in one go is done in order.
type machine interface {
	// start begins, with the lease that there is.
	start(now time.Time) []action
	// tick is called when the time of wake has come.
	tick(now time.Time) []action
	// receive takes a message. An error says why it is ignored.
	receive(now time.Time, message []byte, from sender) ([]action, error)
	// settled says what became of the lease that was to be taken.
	settled(now time.Time, err error) []action
	// wake returns when tick is to be called; never if zero.
	wake() time.Time
	// listens reports whether a message may come that means something.
	listens() bool
}

// action is one thing to be done: the field that is set says what.
type action struct {
	send    *packet
	take    *model.Lease // to be told to the handler, whose answer goes to settled
	fresh   bool         // with take: first ask the wire whether somebody has the address
	lost    error
	trouble error
	well    bool // there is no trouble
}

// packet is a message to servers.
type packet struct {
	payload []byte
	from    netip.Addr // zero without an address
	to      netip.Addr // zero: all servers
	via     string     // with to: the hardware address of the server or the relay that leads there
	urgent  bool       // the interface goes next
}

// sender is where a message came from.
type sender struct {
	mac  string
	addr netip.Addr
}

// state is where a machine stands. Of IPv4 it is that of RFC 2131, figure 5:
//
//	            ┌──────────── waiting ◀── refused, taken back ──┐
//	            ▼                                               │
//	start ─▶ selecting ─▶ requesting ─▶ checking ─▶ bound ─▶ renewing ─▶ rebinding
//	   │                                   ▲  ▲        ▲         │           │
//	   └────▶ rebooting ───────────────────┘  └────────┴─────────┴───────────┘
//
// IPv6 has the same with other words: soliciting is selecting, confirming is
// rebooting.
type state int

const (
	waiting    state = iota // until a server is asked again
	selecting               // who has an address?
	requesting              // one that was offered
	rebooting               // is the lease from before still good?
	checking                // whether somebody has the address, and the handler wants it
	bound
	renewing  // the server that gave it is asked
	rebinding // all servers are
)

func (s state) String() string {
	return [...]string{"waiting", "selecting", "requesting", "rebooting", "checking", "bound", "renewing", "rebinding"}[s]
}

// Silent is the trouble of who asks and is not answered.
const Silent = "no server answers"

var errSilent = errors.New(Silent)

// backoff is how long to wait after the nth try, from 1: a second, and twice as
// long each time up to most, give or take a tenth. RFC 2131, section 4.1, begins
// with four seconds, for a bus of 10 Mbit/s that many hosts share.
func backoff(n int, most time.Duration, random float64) time.Duration {
	d := min(time.Second<<min(n-1, 20), most)
	return d + time.Duration((random*2-1)*float64(d)/10)
}

// soon is when somebody is asked once more before the time end: in half of what
// is left, but not before a minute has passed if that fits (RFC 2131, section
// 4.4.5).
func soon(now, end time.Time) time.Time {
	left := end.Sub(now)
	return now.Add(max(left/2, min(time.Minute, left)))
}

// timing is the part of a machine that is the same for both families: when what
// it has must be renewed, and how often it was refused.
type timing struct {
	state    state
	at       time.Time // when tick is due
	lease    *model.Lease
	pending  *model.Lease // to be taken
	offer    *model.Lease // that is requested, or the best so far
	shun     netip.Addr   // was refused last: a server may offer it again
	holder   error        // says who has it
	setbacks int
	heard    error          // what was last wrong with a server that answered
	random   func() float64 // 0 ≤ x < 1
}

// talk is the part that each family has of its own.
type talk interface {
	// begin begins an exchange: what the state sends first.
	begin(now time.Time, s state) []action
	// again sends what the state sends, and says when to do so once more.
	again(now time.Time) []action
}

// resume begins, with the lease that there is.
func (t *timing) resume(now time.Time, with talk) []action {
	switch {
	case t.lease == nil:
		return with.begin(now, selecting)
	case !t.lease.Valid(now):
		why := expired(t.lease)
		t.lease = nil
		return append([]action{{lost: why}}, with.begin(now, selecting)...)
	}
	return with.begin(now, rebooting)
}

// due does what is to be done now that the time of wake has come.
func (t *timing) due(now time.Time, with talk) []action {
	switch l := t.lease; {
	case t.state == waiting:
		return with.begin(now, selecting)
	case t.state == selecting || t.state == requesting || t.state == rebooting && l.Valid(now):
		return with.again(now)
	case t.state == checking:
		t.at = time.Time{}
		return nil
	case !l.Valid(now):
		return t.lose(now, expired(l), with)
	case l.Renew.IsZero() || now.Before(l.Renew):
		t.state, t.at = bound, l.Renew
		return nil
	case now.Before(l.Rebind) && t.state != renewing:
		return with.begin(now, renewing)
	case !now.Before(l.Rebind) && t.state != rebinding:
		return with.begin(now, rebinding)
	}
	return with.again(now)
}

// lose gives the lease up, and looks for another at once.
func (t *timing) lose(now time.Time, why error, with talk) []action {
	t.lease = nil
	return append([]action{{lost: why}, {trouble: why}}, with.begin(now, selecting)...)
}

func (t *timing) wake() time.Time { return t.at }

func (t *timing) listens() bool {
	return t.state != waiting && t.state != bound && t.state != checking
}

// check has a lease taken, if nobody has its address.
func (t *timing) check(l *model.Lease) []action {
	fresh := t.lease == nil || t.lease.Addr.Addr() != l.Addr.Addr()
	t.state, t.pending, t.at = checking, l, time.Time{}
	return []action{{take: l, fresh: fresh}}
}

// bind keeps what has been taken.
func (t *timing) bind() []action {
	t.lease, t.pending, t.setbacks, t.heard = t.pending, nil, 0, nil
	t.state, t.at = bound, t.lease.Renew
	return []action{{well: true}}
}

// shunned says why a lease is not asked for: somebody had its address a moment ago.
func (t *timing) shunned(l *model.Lease) error {
	if l.Addr.Addr() != t.shun || t.setbacks > 3 {
		return nil
	}
	return fmt.Errorf("server %s: offers %w", l.Server, t.holder)
}

// settle keeps what was to be taken, or waits; a server is told by decline that
// somebody has the address.
func (t *timing) settle(now time.Time, err error, decline func(*model.Lease) *packet) []action {
	if err == nil {
		t.shun = netip.Addr{}
		return t.bind()
	}
	l := t.pending
	out := t.wait(now, err)
	if model.KindOf(err) == model.Conflict {
		t.shun, t.holder = l.Addr.Addr(), err
		out = append([]action{{send: decline(l)}}, out...)
	}
	return out
}

// wait gives up what was going on, for longer each time.
func (t *timing) wait(now time.Time, why error) []action {
	var out []action
	if t.lease != nil {
		out = append(out, action{lost: why})
	}
	t.setbacks++
	t.lease, t.pending, t.heard = nil, nil, why
	t.state, t.at = waiting, now.Add(backoff(t.setbacks, maxSetback, t.random()))
	return append(out, action{trouble: why})
}

// vain is the trouble of who asked for the nth time: what was wrong with the
// servers that answered, if they did lately, or that none does.
func (t *timing) vain(n int) []action {
	switch {
	case n < askedInVain:
		return nil
	case n >= 2*askedInVain:
		t.heard = nil
	}
	if t.heard != nil {
		return []action{{trouble: t.heard}}
	}
	return []action{{trouble: errSilent}}
}

// askedInVain is how often servers are asked for an offer before that is trouble.
const askedInVain = 3

// refuse notes what is wrong with an offer.
func (t *timing) refuse(why error) ([]action, error) {
	t.heard = why
	return []action{{trouble: why}}, why
}

// maxSetback is the longest wait after having been refused.
const maxSetback = time.Minute

// expired is what ends a lease.
func expired(l *model.Lease) error {
	return fmt.Errorf("the lease of %s ended at %s", l.Addr.Addr(), l.Expires.Format(time.RFC3339))
}

// unrenewed is the trouble of a lease that nobody renews.
func unrenewed(l *model.Lease) error {
	return fmt.Errorf("no server renews %s, whose lease ends at %s", l.Addr.Addr(), l.Expires.Format(time.RFC3339))
}
