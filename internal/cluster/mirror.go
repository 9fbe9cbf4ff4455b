package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Times of a Mirror.
const (
	// Grace is how long a Mirror keeps what a restored store lacks.
	Grace = time.Minute

	minWait  = 100 * time.Millisecond // before the store is asked again, doubled each time
	maxWait  = 5 * time.Second
	coalesce = 5 * time.Millisecond // between updates: what comes meanwhile is one
)

// Update is what a Mirror has learned.
type Update struct {
	Rev     int64    // of the store
	Changes []Change // by key, one for each
	First   bool     // nothing was known before: Changes is all there is
}

// Mirror is a copy of what is under a prefix, which follows the store. This is what
// it does about a store that is not as it was:
//
//   - It is away: what is known stays, and the store is asked again, after 100 ms and
//     then ever less often, every 5 s at last.
//   - It has forgotten what happened (ErrCompacted): its content is read anew, and
//     the difference to what is known is the update, deletions included.
//   - It comes back with a lower revision or another ID, or with a past that is not the
//     known one: somebody restored it from a copy or began it anew. What it holds now is the truth, and what it does not
//     hold stays for the time of Grace, since its owners are about to write it again:
//     to forget them at once would cut hosts off that are well. If it holds nothing
//     at all, what is known stays until something appears, and Grace begins then: an
//     empty store is a mistake more often than a wish. Status and log say so.
//   - It lost things at a higher revision under the same ID: somebody deleted them,
//     and they go at once.
type Mirror struct {
	store   Store
	prefix  string
	log     *slog.Logger
	deliver func(Update)
	done    chan struct{}

	id      string    // of the store that was last listed
	release time.Time // when held goes; zero: not before something appears
	updated time.Time // when changes were last taken

	mu     sync.Mutex // protects the following
	known  map[string]Entry
	held   map[string]bool // what is known but not in the store that was restored
	status Status
}

// Status is how a Mirror is with its store.
type Status struct {
	Known    bool      // the store's content was read once
	InTouch  bool      // with the store
	Since    time.Time // that it is so
	Err      error     // the last, and when; it may be over
	ErrAt    time.Time
	Rev      int64     // of the store, as far as it is known
	Keys     int       // known, with those held
	Held     int       // of Keys, not in the store since it was restored
	Restored time.Time // when the store was last found older than it had been, or another
}

// Follow starts a Mirror of a prefix. Until ctx is done, deliver is told of each
// change, by one goroutine; the first update comes as soon as the store could be
// read, even if nothing is there. Changes that come within 5 ms after an update are one.
func Follow(ctx context.Context, s Store, prefix string, log *slog.Logger, deliver func(Update)) *Mirror {
	m := &Mirror{
		store: s, prefix: prefix, log: log.With("prefix", prefix), deliver: deliver, done: make(chan struct{}),
		known: map[string]Entry{}, held: map[string]bool{}, status: Status{Since: time.Now()},
	}
	go m.run(ctx)
	return m
}

// Done is closed when nothing more is delivered.
func (m *Mirror) Done() <-chan struct{} { return m.done }

// Status says how it stands.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Keys, s.Held = len(m.known), len(m.held)
	return s
}

// Entries returns what is known, by key.
func (m *Mirror) Entries() []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.known), byKey)
}

func (m *Mirror) run(ctx context.Context) {
	defer close(m.done)
	for wait := minWait; ; wait = min(2*wait, maxWait) {
		touched, err := m.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if touched {
			wait = minWait
		}
		m.lost(err)
		select {
		case <-time.After(jitter(wait)):
		case <-ctx.Done():
			return
		}
	}
}

// jitter returns half of a time to all of it, so that hosts do not come at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// follow lists and watches, until that ends. It says whether it was in touch.
func (m *Mirror) follow(ctx context.Context) (touched bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	snap, err := m.store.List(ctx, m.prefix)
	if err != nil {
		return false, err
	}
	m.listed(snap)
	batches := m.store.Watch(ctx, m.prefix, snap.Rev)
	for {
		p := m.next(ctx, batches)
		m.changed(p.batch)
		m.updated = time.Now()
		if p.batch.Err != nil {
			return touched, p.batch.Err
		}
		if p.due {
			touched = true
			m.found()
		}
	}
}

// next returns the next batch, with those that come before the last is so long ago; nothing
// is due if it is time to let go of what is held.
func (m *Mirror) next(ctx context.Context, batches <-chan Batch) pending {
	var p pending
	var over <-chan time.Time
	if !m.release.IsZero() {
		over = time.After(time.Until(m.release))
	}
	for {
		select {
		case b, ok := <-batches:
			if !ok {
				b.Err = cmpErr(ctx.Err(), ErrAway)
			}
			if p.add(b); b.Err != nil || len(p.batch.Changes) == 0 {
				return p
			}
			rest := time.Until(m.updated.Add(coalesce))
			if rest <= 0 {
				return p
			}
			if over == nil || len(p.batch.Changes) == len(b.Changes) {
				over = time.After(rest)
			}
		case <-over:
			return p
		}
	}
}

// cmpErr is the first error that there is.
func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// listed takes what the store holds, all of it.
func (m *Mirror) listed(snap Snapshot) {
	m.mu.Lock()
	first := !m.status.Known
	another := snap.ID != "" && m.id != "" && snap.ID != m.id
	restored := !first && (another || snap.Rev < m.status.Rev || m.otherPast(snap))
	there := make(map[string]bool, len(snap.Entries))
	changes := make([]Change, 0, len(snap.Entries))
	for _, e := range snap.Entries {
		there[e.Key] = true
		changes = append(changes, Change{Entry: e})
	}
	for k := range m.known {
		if there[k] || m.held[k] {
			continue
		}
		if restored {
			m.held[k] = true
		} else {
			changes = append(changes, Change{Entry: Entry{Key: k, Rev: snap.Rev}, Gone: true})
		}
	}
	was := m.status.Rev
	m.id, m.status.Rev, m.status.Known = snap.ID, snap.Rev, true
	if restored {
		m.status.Restored, m.release = time.Now(), time.Time{}
	}
	held := len(m.held)
	m.mu.Unlock()
	if restored {
		m.log.Warn("the store was restored from a copy or begun anew: what it holds counts, what it lacks is kept for a while",
			"id", snap.ID, "revision", snap.Rev, "before", was, "keys", len(snap.Entries), "kept", held)
	}
	m.apply(changes, first, len(snap.Entries) > 0)
}

// otherPast reports whether the store holds what was put at a revision that is known,
// but not there. Other hosts that were faster may have put so much into a restored
// store that its revision is where it was, and tells nothing. The caller holds mu.
func (m *Mirror) otherPast(snap Snapshot) bool {
	return slices.ContainsFunc(snap.Entries, func(e Entry) bool {
		return e.Rev <= m.status.Rev && (m.known[e.Key].Rev != e.Rev || !bytes.Equal(m.known[e.Key].Value, e.Value))
	})
}

// changed takes what happened.
func (m *Mirror) changed(b Batch) {
	m.mu.Lock()
	m.status.Rev = max(m.status.Rev, b.Rev)
	var gone []Change
	if !m.release.IsZero() && !time.Now().Before(m.release) {
		for k := range m.held {
			gone = append(gone, Change{Entry: Entry{Key: k, Rev: m.status.Rev}, Gone: true})
		}
	}
	m.mu.Unlock()
	changes := append(gone, b.Changes...)
	m.apply(changes, false, slices.ContainsFunc(changes, func(c Change) bool { return !c.Gone }))
}

// apply brings what is known up to date, and delivers what is new in it. If the store
// has content, what is held will go.
func (m *Mirror) apply(changes []Change, first, content bool) {
	m.mu.Lock()
	if len(m.known) == 0 {
		m.known = make(map[string]Entry, len(changes))
	}
	news := make([]Change, 0, len(changes))
	for _, c := range last(changes) {
		old, ok := m.known[c.Key]
		delete(m.held, c.Key)
		switch {
		case c.Gone && ok:
			delete(m.known, c.Key)
		case c.Gone || ok && old.Rev == c.Rev && bytes.Equal(old.Value, c.Value):
			continue
		default:
			m.known[c.Key] = c.Entry
		}
		news = append(news, c)
	}
	switch {
	case len(m.held) == 0:
		m.release = time.Time{}
	case content && m.release.IsZero():
		m.release = time.Now().Add(Grace)
	}
	u := Update{m.status.Rev, news, first}
	m.mu.Unlock()
	if slices.SortFunc(u.Changes, func(a, b Change) int { return byKey(a.Entry, b.Entry) }); first || len(news) > 0 {
		m.deliver(u)
	}
}

// found notes that the store is in touch.
func (m *Mirror) found() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.InTouch {
		return
	}
	m.log.Info("in touch with the store", "revision", m.status.Rev, "keys", len(m.known), "away", time.Since(m.status.Since).Round(time.Millisecond))
	m.status.InTouch, m.status.Since = true, time.Now()
}

// lost notes what went wrong. To have forgotten a revision is no absence.
func (m *Mirror) lost(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, ErrCompacted) {
		m.log.Debug("reading the store anew", "reason", err)
		return
	}
	now := time.Now()
	if m.status.InTouch || m.status.Err == nil {
		m.log.Warn("the store is away: going on with what is known", "error", err, "keys", len(m.known))
	}
	if m.status.InTouch {
		m.status.InTouch, m.status.Since = false, now
	}
	m.status.Err, m.status.ErrAt = err, now
}
