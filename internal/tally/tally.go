// Package tally counts what happens and how long it takes, for whoever watches the
// daemon. What counts knows nothing of who reads; the zero values are ready.
package tally

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// bounds are the upper bounds of a Reading's buckets: from a change on an idle host, or
// an answer from a server nearby, to what a client has given up on.
var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Reading is what Times knows of one kind.
type Reading struct {
	Count uint64
	Sum   time.Duration
	upTo  [len(bounds)]uint64 // how many took at most bounds[i]
}

// Buckets returns how many took at most so long, by seconds.
func (r Reading) Buckets() map[float64]uint64 {
	m := make(map[float64]uint64, len(bounds))
	for i, b := range bounds {
		m[b.Seconds()] = r.upTo[i]
	}
	return m
}

// Times are how long things of several kinds took. Its methods may be called from
// several goroutines.
type Times[K comparable] struct {
	mu sync.Mutex // protects by
	by map[K]Reading
}

// Note counts one.
func (t *Times[K]) Note(kind K, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = map[K]Reading{}
	}
	r := t.by[kind]
	r.Count++
	r.Sum += took
	i, _ := slices.BinarySearch(bounds[:], took)
	for ; i < len(bounds); i++ {
		r.upTo[i]++
	}
	t.by[kind] = r
}

// Read returns what was counted so far, by kind.
func (t *Times[K]) Read() map[K]Reading {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.by)
}

// Counts are how often things of several kinds happened. Its methods may be called from
// several goroutines.
type Counts[K comparable] struct {
	mu sync.Mutex // protects by
	by map[K]uint64
}

// Add counts one.
func (c *Counts[K]) Add(kind K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[K]uint64{}
	}
	c.by[kind]++
}

// Read returns what was counted so far, by kind.
func (c *Counts[K]) Read() map[K]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.by)
}
