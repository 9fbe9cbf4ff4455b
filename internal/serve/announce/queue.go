package announce

import (
	"container/heap"
	"net"
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/serve/wire"
)

// run is what is to be sent for one endpoint. Once it is queued, all that changes
// in it belongs to the announcer's goroutine.
type run struct {
	device   string
	mac      net.HardwareAddr
	frames   [][]byte
	inside   wire.Place   // see [Endpoint]
	addrs    []netip.Addr // what frames are about
	interval time.Duration
	left     int // messages to be sent
	sent     int
	waited   int // pauses

	at     time.Time // when the next message is due
	repeat bool      // it was queued before
}

// queue holds the runs by when their next message is due. New ones come before
// all others: first messages are what counts when there is no time for all.
type queue struct{ heap runs }

// put queues the next message of a run.
func (q *queue) put(r *run, at time.Time) {
	r.repeat = !r.at.IsZero()
	r.at = at
	heap.Push(&q.heap, r)
}

// due takes out a run that is due, or returns nil.
func (q *queue) due(now time.Time) *run {
	if at, ok := q.first(); !ok || at.After(now) {
		return nil
	}
	return heap.Pop(&q.heap).(*run)
}

// first returns when due will return a run; false when there is none.
func (q *queue) first() (time.Time, bool) {
	if len(q.heap) == 0 {
		return time.Time{}, false
	}
	return q.heap[0].at, true
}

// runs is a heap (container/heap). New ones are due at once, so that they can be
// in front of everything.
type runs []*run

// Len is of heap.Interface, as the others are.
func (h runs) Len() int { return len(h) }

// Less orders new runs before others, and then by time.
func (h runs) Less(i, j int) bool {
	if h[i].repeat != h[j].repeat {
		return h[j].repeat
	}
	return h[i].at.Before(h[j].at)
}

// Swap exchanges two.
func (h runs) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push appends a *run.
func (h *runs) Push(r any) { *h = append(*h, r.(*run)) }

// Pop takes the last one.
func (h *runs) Pop() any {
	n := len(*h) - 1
	r := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return r
}
