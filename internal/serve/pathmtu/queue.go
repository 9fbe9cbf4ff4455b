package pathmtu

import (
	"cmp"
	"container/heap"
	"time"
)

// queue is paths by when something is to be done for them.
type queue []*path

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].at.Compare(q[j].at), q[i].Remote.Compare(q[j].Remote)) < 0
}

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	p := x.(*path)
	p.place = len(*q)
	*q = append(*q, p)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}

// queues are those of paths that are being measured, of others with routers, and of
// those without: what is due in an earlier one comes first.
type queues [3]queue

// of is which queue a path belongs to.
func (p *path) of() int {
	switch {
	case p.search != nil:
		return 0
	case !p.Near:
		return 1
	}
	return 2
}

// put puts a path in its place, or in another after it has changed.
func (q *queues) put(p *path) {
	q.remove(p)
	p.in = p.of() + 1
	heap.Push(&q[p.in-1], p)
}

// remove takes a path out.
func (q *queues) remove(p *path) {
	if p.in > 0 {
		heap.Remove(&q[p.in-1], p.place)
		p.in = 0
	}
}

// urgent returns the path for which something is to be done first, or nil.
func (q *queues) urgent(now time.Time) *path {
	var best *path
	for _, of := range q {
		if len(of) == 0 {
			continue
		}
		if !of[0].at.After(now) {
			return of[0]
		}
		if best == nil || of[0].at.Before(best.at) {
			best = of[0]
		}
	}
	return best
}

// busy reports whether something is being measured, or is to be until then.
func (q *queues) busy(then time.Time) bool {
	next := q.urgent(then)
	return len(q[0]) > 0 || next != nil && next.at.Before(then)
}
