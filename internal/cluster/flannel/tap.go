package flannel

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// tap is a store of which there is no more than what is Flannel's under a prefix, and whose
// reader listens. Others keep there what may be thousands of keys. A cluster.Mirror keeps what a restored store
// lacks; the tap knows what is really there, so that this host's own lease can be
// written again at once. And it tells of being in touch, when that happens.
type tap struct {
	cluster.Store
	now  func() time.Time
	poke func()

	mu       sync.Mutex       // protects the following
	there    map[string]int64 // what is, and at which revision it was put
	rev      int64            // of the store, as far as it was read
	id       string
	listed   bool
	inTouch  bool
	since    time.Time
	err      error     // why not
	restored time.Time // when the store was last found older, or another
	old      int64     // its revision then: what is older was in the copy
	epoch    int       // how often
}

// List implements cluster.Store.
func (t *tap) List(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	s, err := t.read(ctx, prefix)
	if t.touch(ctx, err); err == nil {
		t.list(s)
	}
	t.poke()
	return s, err
}

// read lists the config and the leases, as of one revision: it reads again when the config was
// put after the leases were read. A config that went then is gone already.
func (t *tap) read(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	for {
		s, err := t.Store.List(ctx, prefix+"subnets/")
		if err != nil {
			return s, err
		}
		c, err := t.Store.List(ctx, prefix+"config")
		if err != nil {
			return c, err
		}
		c.Entries = slices.DeleteFunc(c.Entries, func(e cluster.Entry) bool { return e.Key != prefix+"config" })
		later := slices.ContainsFunc(c.Entries, func(e cluster.Entry) bool { return e.Rev > s.Rev })
		if c.ID == s.ID && c.Rev >= s.Rev && !later {
			s.Entries = append(c.Entries, s.Entries...)
			return s, nil
		}
	}
}

func (t *tap) list(s cluster.Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listed && (s.ID != t.id || s.Rev < t.rev || t.otherPast(s)) {
		t.restored, t.old = t.now(), s.Rev
		t.epoch++
	}
	t.listed, t.id, t.rev, t.there = true, s.ID, s.Rev, map[string]int64{}
	for _, e := range s.Entries {
		t.there[e.Key] = e.Rev
	}
}

// otherPast reports whether the store holds what was put at a revision that was read,
// but not then: see cluster.Mirror. The caller holds mu.
func (t *tap) otherPast(s cluster.Snapshot) bool {
	return slices.ContainsFunc(s.Entries, func(e cluster.Entry) bool { return e.Rev <= t.rev && t.there[e.Key] != e.Rev })
}

// Watch implements cluster.Store.
func (t *tap) Watch(ctx context.Context, prefix string, after int64) <-chan cluster.Batch {
	in, out := t.Store.Watch(ctx, prefix, after), make(chan cluster.Batch)
	go func() {
		defer close(out)
		for b := range in {
			b.Changes = slices.DeleteFunc(slices.Clone(b.Changes), func(c cluster.Change) bool {
				return c.Key != prefix+"config" && !strings.HasPrefix(c.Key, prefix+"subnets/")
			})
			t.change(ctx, b)
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (t *tap) change(ctx context.Context, b cluster.Batch) {
	t.mu.Lock()
	t.rev = max(t.rev, b.Rev)
	for _, c := range b.Changes {
		if t.there[c.Key] = c.Rev; c.Gone {
			delete(t.there, c.Key)
		}
	}
	t.mu.Unlock()
	if b.Err == nil || !errors.Is(b.Err, cluster.ErrCompacted) {
		t.touch(ctx, b.Err)
	}
	t.poke()
}

// Commit implements cluster.Store. That one went wrong is for its caller to say:
// whether the store is away, the mirror finds out.
func (t *tap) Commit(ctx context.Context, x cluster.Txn) (int64, bool, error) {
	rev, done, err := t.Store.Commit(ctx, x)
	if err == nil && done {
		t.mu.Lock()
		for _, p := range x.Put {
			t.there[p.Key] = rev
		}
		for _, k := range x.Delete {
			delete(t.there, k)
		}
		t.mu.Unlock()
	}
	return rev, done, err
}

// touch notes whether the store answered. That ours ended is no fault of it.
func (t *tap) touch(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ok := err == nil; ok != t.inTouch {
		t.inTouch, t.since = ok, t.now()
	}
	t.err = err
}

// correct replaces what is known to be there under a prefix.
func (t *tap) correct(prefix string, entries []cluster.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.there, func(key string, _ int64) bool { return strings.HasPrefix(key, prefix) })
	for _, e := range entries {
		t.there[e.Key] = e.Rev
	}
}

// status is what the tap knows.
func (t *tap) status() (inTouch bool, since, restored time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inTouch, t.since, t.restored, t.err
}

// epochs says how often the store was restored.
func (t *tap) epochs() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch
}

// has says whether a key is there, as far as the store was read.
func (t *tap) has(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.there[key] != 0
}

// stale says whether a revision is of a copy that the store was restored from.
func (t *tap) stale(rev int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.restored.IsZero() && rev <= t.old
}
