package dns

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// When servers are asked. A stub resolver gives up after 5 s, so we do before.
const (
	stagger    = 150 * time.Millisecond // between one server and the next
	patience   = time.Second            // for servers listed before one that knows of nothing
	giveUp     = 4 * time.Second
	maxServers = 8
)

// rounds says when all servers are asked again: questions get lost. The last time
// it is over TCP, which gets through where UDP does not.
func rounds() []time.Duration { return []time.Duration{0, time.Second, 2500 * time.Millisecond} }

// race asks the servers, each a little after the one before, until one gives a
// good answer. That there is nothing of what was asked for is one too, but the
// server may not be the one to know: who lists the office's server before a
// public one means that order. So it waits a while for those listed before.
type race struct {
	*forwarder
	q       *question
	query   []byte
	order   []*upstream
	begun   time.Time
	next    int // how many were asked, counting every round
	results chan result
	open    []*attempt  // without an outcome yet
	calls   []*upstream // called over TCP, without an outcome yet
	nothing *entry      // what the first in the list said of those that know of nothing
	by      *upstream   // which that was
	worse   *entry      // what a server said that had nothing good to say
}

func (f *forwarder) race(q *question) *entry {
	if len(f.servers) == 0 {
		return nil
	}
	r := &race{forwarder: f, q: q, query: q.query(), begun: time.Now()}
	r.order = f.order(r.begun)
	r.results = make(chan result, 3*len(rounds())*len(r.order))
	ctx, cancel := context.WithTimeout(f.ctx, giveUp)
	defer cancel()
	defer r.leave()
	return r.run(ctx)
}

// order is the servers to ask, those last that were silent lately.
func (f *forwarder) order(now time.Time) []*upstream {
	order := slices.Clone(f.servers[:min(len(f.servers), maxServers)])
	slices.SortStableFunc(order, func(a, b *upstream) int {
		switch x, y := a.demoted(now), b.demoted(now); {
		case x == y:
			return 0
		case x:
			return 1
		default:
			return -1
		}
	})
	return order
}

func (r *race) run(ctx context.Context) *entry {
	r.start(ctx)
	timer := time.NewTimer(r.wait())
	defer timer.Stop()
	for {
		for len(r.open)+len(r.calls) == 0 && r.nothing == nil {
			if r.next >= len(r.order) {
				return r.worse
			}
			r.start(ctx)
		}
		if r.nothing != nil && !r.awaited() {
			return r.nothing
		}
		timer.Reset(r.wait())
		select {
		case res := <-r.results:
			before := len(r.open) + len(r.calls)
			if e := r.judge(ctx, res); e != nil {
				return e
			}
			if len(r.open)+len(r.calls) < before && r.next < len(r.order) && r.nothing == nil {
				r.start(ctx)
			}
		case <-timer.C:
			if r.nothing != nil {
				return r.nothing
			}
			r.start(ctx)
		case <-ctx.Done():
			return cmp.Or(r.nothing, r.worse)
		}
	}
}

// wait is how long until something is to be done without an answer: until the
// next server is asked, or until no other is waited for.
func (r *race) wait() time.Duration {
	if r.nothing != nil {
		return max(time.Until(r.begun.Add(patience)), 0)
	}
	round, i := r.next/len(r.order), r.next%len(r.order)
	if round >= len(rounds()) {
		return giveUp
	}
	return max(time.Until(r.begun.Add(rounds()[round]+time.Duration(i)*stagger)), 0)
}

// awaited reports whether a server that was asked, and is listed before the one
// that knows of nothing, may still answer.
func (r *race) awaited() bool {
	before := r.servers[:slices.Index(r.servers, r.by)]
	return slices.ContainsFunc(before, func(up *upstream) bool {
		return slices.Contains(r.calls, up) ||
			slices.ContainsFunc(r.open, func(a *attempt) bool { return a.up == up })
	})
}

// start asks the next server.
func (r *race) start(ctx context.Context) {
	if r.next >= len(rounds())*len(r.order) {
		return
	}
	up, last := r.order[r.next%len(r.order)], r.next/len(r.order) == len(rounds())-1
	r.next++
	if last {
		r.call(ctx, &attempt{up: up, query: r.query, lower: r.lower(r.query)})
		return
	}
	r.send(up, r.query)
}

// lower is the question section of a query.
func (r *race) lower(query []byte) []byte { return query[headerLen : headerLen+r.q.rawLen] }

func (r *race) send(up *upstream, query []byte) {
	a := &attempt{up: up, query: query, lower: r.lower(query), sent: time.Now(), results: r.results}
	if up.send(a) == nil {
		r.open = append(r.open, a)
	}
}

// judge returns the answer if it is the one.
func (r *race) judge(ctx context.Context, res result) *entry {
	r.settle(res.from)
	if res.err != nil {
		return nil
	}
	flags := binary.BigEndian.Uint16(res.wire[2:])
	e, err := newEntry(r.q, res.wire, time.Now())
	switch rcode := flags & maskRcode; {
	case flags&flagTC != 0 && res.from.on != nil:
		if err == nil {
			r.worse = e // in case the rest cannot be had: somebody may make do with it
		}
		r.call(ctx, res.from)
		return nil
	case (rcode == dns.RcodeFormatError || rcode == dns.RcodeNotImplemented) && !res.from.bare():
		r.send(res.from.up, bare(r.query)) // a server from before OPT
		return nil
	case err != nil:
		return nil
	case !e.usable:
		if r.worse == nil || !r.worse.usable {
			r.worse = e
		}
		return nil
	}
	return r.accept(res.from.up, e)
}

// accept returns a good answer, or keeps it while those listed before may have a
// better one.
func (r *race) accept(up *upstream, e *entry) *entry {
	if !e.nothing {
		return e
	}
	if r.nothing == nil || slices.Index(r.servers, up) < slices.Index(r.servers, r.by) {
		r.nothing, r.by = e, up
	}
	return nil
}

// bare is a query without its OPT record.
func bare(query []byte) []byte {
	b := slices.Clone(query[:len(query)-optLen])
	b[11] = 0
	return b
}

// settle takes what has an outcome off the list.
func (r *race) settle(a *attempt) {
	if a.on == nil {
		r.calls = slices.DeleteFunc(r.calls, func(up *upstream) bool { return up == a.up })
		return
	}
	r.open = slices.DeleteFunc(r.open, func(x *attempt) bool { return x == a })
}

// call asks the server of an attempt again, over TCP, unless that is being done.
func (r *race) call(ctx context.Context, a *attempt) {
	if slices.Contains(r.calls, a.up) {
		return
	}
	over := *a
	over.on = nil
	r.calls = append(r.calls, a.up)
	go func() {
		wire, err := over.up.call(ctx, &over)
		r.results <- result{from: &over, wire: wire, err: err}
	}()
}

// leave forgets what is still open. A server that was silent while another could
// have been asked is asked last for a while, but for one that only is slow: as
// soon as it says something it has its place again.
func (r *race) leave() {
	now := time.Now()
	for _, a := range r.open {
		if now.Sub(a.sent) < stagger || r.ctx.Err() != nil {
			a.on.forget(a)
			continue
		}
		a.up.hush(now)
		time.AfterFunc(giveUp, func() { a.on.forget(a) })
	}
}
