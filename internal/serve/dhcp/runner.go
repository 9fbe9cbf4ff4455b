package dhcp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
)

// runner keeps one lease: it lets a machine run on a socket, which is open only
// while an answer is awaited.
type runner struct {
	client  *Client
	asked   Want
	handler Handler
	stop    context.CancelFunc

	want    Want    // of the goroutine, as all that follows
	socket  *socket // nil: not open
	ignored int     // messages since the socket was opened
	failed  int     // attempts to open one, in a row
}

func newMachine(w Want) (machine, error) {
	if w.Is6 {
		c, err := client6Of(w)
		return newMachine6(c, w.Request.Lease, number), err
	}
	c, err := client4Of(w)
	return newMachine4(c, w.Request.Lease, number), err
}

// release returns the message that gives a lease back.
func release(w Want) (*packet, error) {
	if w.Is6 {
		c, err := client6Of(w)
		return c.release(number(), w.Request.Lease), err
	}
	c, err := client4Of(w)
	return c.release(number(), w.Request.Lease), err
}

// number returns a random number: nobody who cannot hear us can answer for a
// server.
func number() uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

// longest is how long a runner sleeps without looking at the clock, which
// somebody may set.
const longest = 10 * time.Minute

func (r *runner) run(ctx context.Context) {
	var err error
	for r.want, err = r.want.identified(ctx, appears); err != nil; r.want, err = r.want.identified(ctx, appears) {
		if r.mend(ctx, err); ctx.Err() != nil {
			return
		}
	}
	m, err := newMachine(r.want)
	if err != nil {
		r.handler.Trouble(r.want.Key, err)
		return
	}
	defer func() { r.hangUp() }()
	r.do(ctx, m, m.start(now()))
	for ctx.Err() == nil {
		if !m.listens() {
			r.hangUp()
			r.sleep(ctx, m.wake())
		} else if message, from, err := r.await(ctx, m.wake()); message != nil {
			r.receive(ctx, m, message, from)
		} else if err != nil {
			r.mend(ctx, err)
		}
		if at := m.wake(); ctx.Err() == nil && !at.IsZero() && !now().Before(at) {
			r.do(ctx, m, m.tick(now()))
		}
	}
}

// sleep waits for a time, or for longest.
func (r *runner) sleep(ctx context.Context, until time.Time) {
	wait := longest
	if !until.IsZero() {
		wait = min(time.Until(until), longest)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// await returns the next message, or nil when until has come, or for nothing. An
// error is one of the socket.
func (r *runner) await(ctx context.Context, until time.Time) ([]byte, sender, error) {
	s, err := r.dial(ctx)
	if err != nil {
		return nil, sender{}, err
	}
	message, from, err := s.receive(ctx, time.Now().Add(min(time.Until(until), longest)))
	if errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
		return nil, sender{}, nil
	}
	return message, from, err
}

// A pause after so many messages that are of no use, so that who sends many keeps
// the daemon busy for a hundredth of the time only.
const (
	tolerated = 20
	deaf      = 100 * time.Millisecond
)

func (r *runner) receive(ctx context.Context, m machine, message []byte, from sender) {
	actions, err := m.receive(now(), message, from)
	if err != nil {
		r.client.ignore.Say("for", r.want.Name, "why", err)
	}
	if len(actions) == 0 || err != nil {
		if r.ignored++; r.ignored%tolerated == 0 {
			r.sleep(ctx, now().Add(deaf))
		}
	}
	r.do(ctx, m, actions)
}

// do does what a machine says, and what it says to the outcome.
func (r *runner) do(ctx context.Context, m machine, actions []action) {
	for len(actions) > 0 && ctx.Err() == nil {
		a := actions[0]
		actions = actions[1:]
		switch {
		case a.send != nil:
			if err := r.send(ctx, a.send); err != nil {
				r.mend(ctx, err)
			}
		case a.take != nil:
			err := r.take(ctx, a)
			if ctx.Err() == nil {
				actions = append(m.settled(now(), err), actions...)
			}
		case a.lost != nil:
			r.client.log.Warn("dhcp: lease lost", "for", r.want.Name, "why", a.lost)
			r.handler.Lost(r.want.Key, a.lost)
		case a.trouble != nil:
			r.handler.Trouble(r.want.Key, a.trouble)
		case a.well:
			r.handler.Trouble(r.want.Key, nil)
		}
	}
}

// take offers a lease to the handler, unless somebody has its address.
func (r *runner) take(ctx context.Context, a action) error {
	if a.fresh {
		if err := r.client.inUse(ctx, r.want, a.take.Addr.Addr()); err != nil {
			r.client.log.Warn("dhcp: address not taken", "for", r.want.Name, "server", a.take.Server, "why", err)
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := r.handler.Leased(r.want.Key, *a.take); err != nil {
		return err
	}
	if a.fresh {
		r.client.log.Info("dhcp: leased", "for", r.want.Name, "address", a.take.Addr, "server", a.take.Server, "until", a.take.Expires)
	}
	return nil
}

func (r *runner) send(ctx context.Context, p *packet) error {
	s, err := r.dial(ctx)
	if err != nil {
		return err
	}
	return s.send(p)
}

// appears is how long an interface may take to carry frames after it was made.
const appears = time.Second

// dial opens the socket, if it is not open.
func (r *runner) dial(ctx context.Context) (*socket, error) {
	if r.socket != nil {
		return r.socket, nil
	}
	s, err := open(ctx, r.want, appears)
	if err != nil {
		return nil, err
	}
	r.socket, r.ignored, r.failed = s, 0, 0
	return s, nil
}

func (r *runner) hangUp() {
	if r.socket != nil {
		_ = r.socket.close()
		r.socket = nil
	}
}

// maxMending is the longest wait for an interface.
const maxMending = 10 * time.Second

// mend closes a socket that failed, and waits: the interface may be down, or be
// made anew, or gone until whoever wants the lease notices.
func (r *runner) mend(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	r.hangUp()
	r.failed++
	r.client.broken.Say("for", r.want.Name, "err", err)
	r.handler.Trouble(r.want.Key, fmt.Errorf("interface %s: %w", r.want.Device, err))
	r.sleep(ctx, now().Add(backoff(r.failed, maxMending, 0.5)))
}
