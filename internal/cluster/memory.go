package cluster

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"
)

// Memory is a way to a store in memory. Several ways may lead to one store, and each
// can be cut by itself, as the ways of several hosts can.
type Memory struct {
	world *world
	away  bool // protected by world.mu
}

// world is the store.
type world struct {
	mu sync.Mutex // protects all below, and its ways

	now       func() time.Time
	passed    time.Duration // what Pass added
	id        int           // how often the store was replaced
	table     table
	history   []Batch // with changes, one for each revision after forgotten
	forgotten int64   // the last revision that was compacted
	watches   map[*memoryWatch]bool
}

// memoryWatch is a Watch that goes on.
type memoryWatch struct {
	way    *Memory
	ctx    context.Context
	prefix string
	in     chan Batch // to Merge
}

// NewMemory returns a store in memory that is empty. Its keys' time runs by now, a
// clock, and by Pass; what has run out goes when the store is next asked, or told to
// Pass. Without now, time stands still but for Pass.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = func() time.Time { return time.Unix(0, 0) }
	}
	return &Memory{world: &world{now: now, table: table{rows: map[string]row{}}, watches: map[*memoryWatch]bool{}}}
}

// Another returns another way to the same store.
func (m *Memory) Another() *Memory { return &Memory{world: m.world} }

// SetAway cuts this way to the store, or mends it. Other ways are as they were.
func (m *Memory) SetAway(away bool) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	if m.away = away; away {
		m.world.end(m, ErrAway)
	}
}

// Pass lets time pass, and what has had its time go.
func (m *Memory) Pass(d time.Duration) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	m.world.passed += d
	m.world.expire()
}

// Compact has the store forget what happened up to now.
func (m *Memory) Compact() {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	m.world.history, m.world.forgotten = nil, m.world.table.rev
}

// Saved is a copy of what a store held.
type Saved struct{ table table }

// Save makes a copy to Restore.
func (m *Memory) Save() Saved {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	return Saved{table{m.world.table.rev, maps.Clone(m.world.table.rows)}}
}

// Restore puts a copy in the place of what is there, revision and all.
func (m *Memory) Restore(s Saved) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	m.world.replace(table{s.table.rev, maps.Clone(s.table.rows)})
}

// Wipe puts a new store in the place of this one: another ID, and nothing in it.
func (m *Memory) Wipe() {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	m.world.id++
	m.world.replace(table{rows: map[string]row{}})
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) (Snapshot, error) {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	if err := m.reach(ctx, "list "+prefix); err != nil {
		return Snapshot{}, err
	}
	m.world.expire()
	return Snapshot{strconv.Itoa(m.world.id), m.world.table.rev, m.world.table.list(prefix)}, nil
}

// Commit implements Store.
func (m *Memory) Commit(ctx context.Context, t Txn) (rev int64, done bool, err error) {
	if err := t.Check(); err != nil {
		return 0, false, err
	}
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	if err := m.reach(ctx, "commit"); err != nil {
		return 0, false, err
	}
	m.world.expire()
	changes, done := m.world.table.commit(t, m.world.time())
	m.world.happened(changes)
	return m.world.table.rev, done, nil
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, prefix string, after int64) <-chan Batch {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	w := &memoryWatch{m, ctx, prefix, make(chan Batch)}
	out := Merge(ctx, w.in)
	err := m.reach(ctx, "watch "+prefix)
	m.world.expire()
	if err == nil && (after < m.world.forgotten || after > m.world.table.rev) {
		err = ErrCompacted
	}
	if err != nil {
		w.send(Batch{Rev: after, Err: err})
		return out
	}
	first := Batch{Rev: m.world.table.rev}
	for _, b := range m.world.history {
		if b.Rev > after {
			first.Changes = append(first.Changes, under(prefix, b.Changes)...)
		}
	}
	w.send(first)
	m.world.watches[w] = true
	context.AfterFunc(ctx, func() {
		m.world.mu.Lock()
		defer m.world.mu.Unlock()
		delete(m.world.watches, w)
	})
	return out
}

// Close implements Store.
func (m *Memory) Close() error {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	m.world.end(m, fmt.Errorf("%w: it was closed", ErrAway))
	return nil
}

// reach says why the store cannot be asked.
func (m *Memory) reach(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.away {
		return fmt.Errorf("store in memory: %s: %w", op, ErrAway)
	}
	return nil
}

// time is what the keys' time runs by. The world is locked here and below.
func (w *world) time() time.Time { return w.now().Add(w.passed) }

func (w *world) expire() { w.happened(w.table.expire(w.time())) }

// happened tells of the changes of the last revision.
func (w *world) happened(changes []Change) {
	if len(changes) == 0 {
		return
	}
	b := Batch{Rev: w.table.rev, Changes: changes}
	w.history = append(w.history, b)
	for m := range w.watches {
		if c := under(m.prefix, changes); len(c) > 0 {
			m.send(Batch{Rev: b.Rev, Changes: c})
		}
	}
}

// replace puts other content in place, of which no history is known.
func (w *world) replace(t table) {
	w.table, w.history, w.forgotten = t, nil, t.rev
	w.end(nil, ErrCompacted)
}

// end ends the Watches of one way, or of all.
func (w *world) end(way *Memory, err error) {
	for m := range w.watches {
		if way == nil || m.way == way {
			m.send(Batch{Rev: w.table.rev, Err: err})
			delete(w.watches, m)
		}
	}
}

// send does not wait: Merge takes all until the context is done.
func (m *memoryWatch) send(b Batch) {
	select {
	case m.in <- b:
	case <-m.ctx.Done():
	}
}
