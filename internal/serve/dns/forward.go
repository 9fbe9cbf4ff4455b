package dns

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/kernel/netns"
)

// own is the address that sandboxes ask; asked from there it would be us.
func own() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// forwarder asks one list of servers, from one namespace, and keeps what they
// say.
type forwarder struct {
	servers []*upstream
	cache   *cache
	counts  *counts
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

func newForwarder(servers []netip.AddrPort, space *netns.Handle, cached int, counts *counts) *forwarder {
	f := &forwarder{cache: newCache(cached), counts: counts, flights: map[string]*flight{}}
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
	began := time.Now()
	e := f.race(&fl.q)
	if f.ctx.Err() == nil { // else it ended because nobody is asked any more
		f.counts.flights.Note(outcome(e), time.Since(began))
	}
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
