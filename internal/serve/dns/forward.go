package dns

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/sealane/sealane/internal/kernel/netns"
)

// When servers are asked. A stub resolver gives up after 5 s, so we do before.
const (
	stagger    = 150 * time.Millisecond // between one server and the next
	giveUp     = 4 * time.Second
	maxServers = 8
)

// own is the address that sandboxes ask; asked from there it would be us.
func own() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// rounds says when all servers are asked again: questions get lost.
func rounds() []time.Duration { return []time.Duration{0, time.Second, 2500 * time.Millisecond} }

// forwarder asks one list of servers, from one namespace, and keeps what they
// say.
type forwarder struct {
	servers []*upstream
	cache   *cache
	ctx     context.Context
	stop    context.CancelFunc

	mu      sync.Mutex // protects flights
	flights map[string]*flight
}

// flight is a question that is being asked. All who ask it meanwhile wait for
// the same answer.
type flight struct {
	q       question
	waiting []waiter // protected by the forwarder's mu
}

// waiter is told the answer, nil if there is none.
type waiter interface{ told(e *entry) }

func newForwarder(servers []netip.AddrPort, space *netns.Handle, cached int) *forwarder {
	f := &forwarder{cache: newCache(cached), flights: map[string]*flight{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	for _, s := range servers {
		f.servers = append(f.servers, &upstream{addr: s, space: space})
	}
	return f
}

func (f *forwarder) addresses() []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range f.servers {
		out = append(out, s.addr)
	}
	return out
}

// close ends what is being asked; whoever waits is told that there is no answer.
func (f *forwarder) close() {
	f.stop()
	for _, s := range f.servers {
		s.close()
	}
}

// ask tells w the answer to q once it is there.
func (f *forwarder) ask(q *question, w waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.flights[q.identity()]; fl != nil {
		fl.waiting = append(fl.waiting, w)
		return
	}
	fl := &flight{q: *q, waiting: []waiter{w}}
	f.flights[strings.Clone(q.identity())] = fl
	go f.fly(fl)
}

func (f *forwarder) fly(fl *flight) {
	e := f.race(&fl.q)
	if e != nil {
		f.cache.put(fl.q.identity(), e)
	}
	f.mu.Lock()
	delete(f.flights, fl.q.identity())
	waiting := fl.waiting
	f.mu.Unlock()
	for _, w := range waiting {
		w.told(e)
	}
}

// query is q as it is sent to servers, without ID: the name in lower case, and
// our own OPT record.
func (q *question) query() []byte {
	b := binary.BigEndian.AppendUint16(nil, 0)
	b = binary.BigEndian.AppendUint16(b, q.flags&(flagRD|flagAD|flagCD))
	b = append(b, 0, 1, 0, 0, 0, 0, 0, 1)
	b = append(b, q.lower()...)
	b = append(b, 0, 0, byte(typeOPT), askSize>>8, askSize&0xff, 0, 0)
	if q.do {
		return append(b, 0x80, 0, 0, 0)
	}
	return append(b, 0, 0, 0, 0)
}

// race asks the servers, each a little after the one before, until one gives a
// good answer.
type race struct {
	*forwarder
	q       *question
	query   []byte
	order   []*upstream
	begun   time.Time
	next    int // how many were asked, counting every round
	results chan result
	open    []*attempt // without an outcome yet
	calls   int        // TCP connections without an outcome yet
	worse   *entry     // what a server said that had nothing good to say
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
	r.start()
	timer := time.NewTimer(r.wait())
	defer timer.Stop()
	for {
		for len(r.open)+r.calls == 0 {
			if r.next >= len(r.order) {
				return r.worse
			}
			r.start()
			timer.Reset(r.wait())
		}
		select {
		case res := <-r.results:
			before := len(r.open) + r.calls
			if e := r.judge(ctx, res); e != nil {
				return e
			}
			if len(r.open)+r.calls < before && r.next < len(r.order) {
				r.start()
				timer.Reset(r.wait())
			}
		case <-timer.C:
			r.start()
			timer.Reset(r.wait())
		case <-ctx.Done():
			return r.worse
		}
	}
}

// wait is how long until the next server is asked.
func (r *race) wait() time.Duration {
	round, i := r.next/len(r.order), r.next%len(r.order)
	if round >= len(rounds()) {
		return giveUp
	}
	return max(time.Until(r.begun.Add(rounds()[round]+time.Duration(i)*stagger)), 0)
}

// start asks the next server.
func (r *race) start() {
	if r.next >= len(rounds())*len(r.order) {
		return
	}
	up := r.order[r.next%len(r.order)]
	r.next++
	r.send(up, r.query)
}

func (r *race) send(up *upstream, query []byte) {
	a := &attempt{up: up, query: query, lower: query[headerLen : headerLen+r.q.rawLen], sent: time.Now(), results: r.results}
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
	switch rcode := flags & maskRcode; {
	case flags&flagTC != 0 && res.from.on != nil:
		r.call(ctx, res.from)
		return nil
	case (rcode == dns.RcodeFormatError || rcode == dns.RcodeNotImplemented) && !res.from.bare():
		r.send(res.from.up, bare(r.query)) // a server from before OPT
		return nil
	}
	e, err := newEntry(r.q, res.wire, time.Now())
	if err != nil {
		return nil
	}
	if !e.usable {
		r.worse = e
		return nil
	}
	res.from.up.silent.Store(0)
	return e
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
		r.calls--
		return
	}
	r.open = slices.DeleteFunc(r.open, func(x *attempt) bool { return x == a })
}

// call asks the server of an attempt again, over TCP.
func (r *race) call(ctx context.Context, a *attempt) {
	over := *a
	over.on = nil
	r.calls++
	go func() {
		wire, err := over.up.call(ctx, &over)
		r.results <- result{from: &over, wire: wire, err: err}
	}()
}

// leave forgets what is still open. A server that was silent while another could
// have been asked is asked last for a while.
func (r *race) leave() {
	now := time.Now()
	for _, a := range r.open {
		a.on.forget(a)
		if now.Sub(a.sent) >= stagger && r.ctx.Err() == nil {
			a.up.hush(now)
		}
	}
}
