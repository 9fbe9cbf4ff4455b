// Package clustertest is test-only: what every cluster.Store has to keep to.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/cluster"
)

// Subject is a store that is tested, seen by two hosts, and what can happen to it.
type Subject struct {
	Store, Other cluster.Store
	Away         func(away bool)       // cuts Store off, not Other, or mends it
	Compact      func()                // has the store forget what happened up to now
	Restart      func()                // ends the store and starts it with what it had
	Pass         func(d time.Duration) // lets time pass, for what has a TTL
	TTL          time.Duration         // the shortest that the store keeps to
}

// patience is how long the suite waits for what must come.
const patience = 20 * time.Second

// Test holds a store to what the interface says. For each case it opens one, which
// may be the one of the case before: each case has keys of its own.
func Test(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			s := &suite{T: t, Subject: open(t), ctx: t.Context(), dir: "/suite/" + t.Name() + "/"}
			c.run(s)
		})
	}
}

// suite is one case.
type suite struct {
	*testing.T
	Subject
	ctx context.Context
	dir string // prefix of the case's keys; names below are without it
}

type testcase struct {
	name string
	run  func(s *suite)
}

// put returns a transaction that puts NAME=VALUE below the case's prefix.
func (s *suite) put(pairs ...string) cluster.Txn {
	var t cluster.Txn
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		t.Put = append(t.Put, cluster.Put{Key: s.dir + k, Value: []byte(v)})
	}
	return t
}

// del returns a transaction that deletes names.
func (s *suite) del(names ...string) cluster.Txn {
	var t cluster.Txn
	for _, n := range names {
		t.Delete = append(t.Delete, s.dir+n)
	}
	return t
}

// iff adds a condition to a transaction.
func (s *suite) iff(t cluster.Txn, name string, rev int64) cluster.Txn {
	t.If = append(t.If, cluster.If{Key: s.dir + name, Rev: rev})
	return t
}

// commit does a transaction that must be done.
func (s *suite) commit(store cluster.Store, t cluster.Txn) int64 {
	s.Helper()
	rev, done, err := store.Commit(s.ctx, t)
	if err != nil || !done {
		s.Fatalf("commit %+v: done %v, %v", t, done, err)
	}
	return rev
}

// refuse does a transaction whose conditions must not hold.
func (s *suite) refuse(t cluster.Txn) {
	s.Helper()
	before := s.list("").Rev
	rev, done, err := s.Store.Commit(s.ctx, t)
	if err != nil || done || rev != before {
		s.Errorf("commit %+v: at %d, before %d, done %v, %v", t, rev, before, done, err)
	}
}

// list returns what is below the case's prefix and a name's beginning.
func (s *suite) list(name string) cluster.Snapshot {
	s.Helper()
	snap, err := s.Store.List(s.ctx, s.dir+name)
	if err != nil {
		s.Fatalf("list %q: %v", name, err)
	}
	return snap
}

// holds compares what is under a prefix with NAME=VALUE, in order.
func (s *suite) holds(prefix string, want ...string) {
	s.Helper()
	var got []string
	for _, e := range s.list(prefix).Entries {
		got = append(got, strings.TrimPrefix(e.Key, s.dir)+"="+string(e.Value))
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("under %q (-want +got):\n%s", prefix, d)
	}
}

// reader is a Watch and what it has told.
type reader struct {
	s       *suite
	cancel  context.CancelFunc
	store   cluster.Store
	prefix  string
	batches <-chan cluster.Batch
	rev     int64
	state   map[string]string // without the case's prefix
	changes []cluster.Change
	asked   int // how often Watch was called
}

// watch reads from a revision on.
func (s *suite) watch(store cluster.Store, name string, after int64) *reader {
	r := &reader{s: s, store: store, prefix: s.dir + name, rev: after, state: map[string]string{}}
	r.again()
	return r
}

// again watches from where the reader is.
func (r *reader) again() {
	if r.cancel != nil {
		r.cancel()
	}
	ctx, cancel := context.WithCancel(r.s.ctx)
	r.s.Cleanup(cancel)
	r.cancel, r.batches = cancel, r.store.Watch(ctx, r.prefix, r.rev)
	r.asked++
}

// next returns the next batch.
func (r *reader) next() cluster.Batch {
	r.s.Helper()
	select {
	case b, ok := <-r.batches:
		if !ok {
			r.s.Fatalf("the watch of %s ended without a reason", r.prefix)
		}
		r.take(b)
		return b
	case <-time.After(patience):
		r.s.Fatalf("the watch of %s: nothing after %d; know %v", r.prefix, r.rev, r.state)
	}
	return cluster.Batch{}
}

// take applies a batch and looks whether it follows.
func (r *reader) take(b cluster.Batch) {
	r.s.Helper()
	if len(b.Changes) > 0 && b.Rev <= r.rev {
		r.s.Errorf("a batch of revision %d after %d: %+v", b.Rev, r.rev, b.Changes)
	}
	last := r.rev
	for _, c := range b.Changes {
		if c.Rev < last || c.Rev <= r.rev || c.Rev > b.Rev {
			r.s.Errorf("%s at %d, after %d in a batch from %d to %d", c.Key, c.Rev, last, r.rev, b.Rev)
		}
		if last = c.Rev; !strings.HasPrefix(c.Key, r.prefix) {
			r.s.Errorf("%s is not under %s", c.Key, r.prefix)
		}
		name := strings.TrimPrefix(c.Key, r.s.dir)
		if c.Gone {
			delete(r.state, name)
		} else {
			r.state[name] = string(c.Value)
		}
	}
	r.rev = max(r.rev, b.Rev)
	r.changes = append(r.changes, b.Changes...)
}

// until reads until the state is as wanted. Where the store was away, it watches on.
func (r *reader) until(want map[string]string) {
	r.s.Helper()
	for end := time.Now().Add(patience); !maps.Equal(r.state, want); {
		if b := r.next(); errors.Is(b.Err, cluster.ErrAway) {
			time.Sleep(50 * time.Millisecond)
			r.again()
		} else if b.Err != nil {
			r.s.Fatalf("the watch of %s after %d: %v", r.prefix, r.rev, b.Err)
		}
		if time.Now().After(end) {
			r.s.Fatalf("the watch of %s: %v, want %v", r.prefix, r.state, want)
		}
	}
}

// ends reads until the watch ends by an error, and returns that.
func (r *reader) ends() error {
	r.s.Helper()
	for {
		if b := r.next(); b.Err != nil {
			return b.Err
		}
	}
}

// eventually tries something until it works.
func (s *suite) eventually(what string, try func() error) {
	s.Helper()
	err := try()
	for end := time.Now().Add(patience); err != nil; err = try() {
		if time.Now().After(end) {
			s.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// numbered returns names with values.
func numbered(n int) (pairs []string, state map[string]string) {
	state = map[string]string{}
	for i := range n {
		k, v := fmt.Sprintf("k%03d", i), fmt.Sprint(i)
		pairs = append(pairs, k+"="+v)
		state[k] = v
	}
	return pairs, state
}
