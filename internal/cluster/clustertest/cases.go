package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/cluster"
)

// cases: what is there first, then Watches, then what goes wrong.
var cases = append([]testcase{
	{"order and prefixes", func(s *suite) {
		s.commit(s.Store, s.put("p/b=1", "p/ab=2"))
		s.commit(s.Other, s.put("p/a=3", "p=4", "q=5", "p0=6"))
		s.holds("p/", "p/a=3", "p/ab=2", "p/b=1")
		s.holds("p/a", "p/a=3", "p/ab=2")
		s.holds("p", "p=4", "p/a=3", "p/ab=2", "p/b=1", "p0=6")
		s.holds("nothing")
		for _, prefix := range []string{"/", ""} {
			snap, err := s.Store.List(s.ctx, prefix)
			if err != nil || len(snap.Entries) < 6 {
				s.Errorf("list %q: %d entries, %v", prefix, len(snap.Entries), err)
			}
		}
	}},
	{"values stay as they are", func(s *suite) {
		values := []string{"", "text\nwith <lines> & ümläute", "\x00\xff\xfe", strings.Repeat("x", 300_000)}
		for _, v := range values {
			s.commit(s.Store, s.put("v="+v))
			e := s.list("v").Entries
			if len(e) != 1 || !bytes.Equal(e[0].Value, []byte(v)) {
				s.Errorf("of %.20q there is %d × %.40v", v, len(e), e)
			}
		}
	}},
	{"revisions grow", func(s *suite) {
		first := s.commit(s.Store, s.put("a=1"))
		second := s.commit(s.Other, s.put("b=1"))
		third := s.commit(s.Store, s.put("a=1"))
		if first >= second || second >= third {
			s.Errorf("revisions %d, %d, %d", first, second, third)
		}
		snap := s.list("")
		if e := snap.Entries; snap.Rev != third || len(e) != 2 || e[0].Rev != third || e[1].Rev != second {
			s.Errorf("listed %+v", snap)
		}
		if other, err := s.Other.List(s.ctx, s.dir); err != nil || other.ID != snap.ID || other.Rev != snap.Rev {
			s.Errorf("the other host listed %+v, %v, not %+v", other, err, snap)
		}
	}},
	{"conditions", func(s *suite) {
		rev := s.commit(s.Store, s.iff(s.put("a=1"), "a", 0))
		s.refuse(s.iff(s.put("a=2"), "a", 0))
		s.refuse(s.iff(s.put("a=2"), "a", rev+1))
		s.refuse(s.iff(s.put("b=2"), "b", rev))
		s.refuse(s.iff(s.iff(s.put("a=2"), "a", rev), "b", rev))
		s.holds("", "a=1")
		rev = s.commit(s.Store, s.iff(s.iff(s.put("a=2", "c=1"), "a", rev), "b", 0))
		s.refuse(s.iff(s.del("a"), "a", rev-1))
		if got := s.commit(s.Store, s.iff(cluster.Txn{}, "a", rev)); got != rev {
			s.Errorf("to do nothing made revision %d of %d", got, rev)
		}
		s.commit(s.Other, s.iff(s.del("a"), "a", rev))
		s.commit(s.Store, s.iff(s.put("a=3"), "a", 0))
		s.holds("", "a=3", "c=1")
	}},
	{"transactions that no store takes", func(s *suite) {
		many, _ := numbered(129)
		for name, t := range map[string]cluster.Txn{
			"twice":    s.put("a=1", "a=2"),
			"both":     {Put: s.put("a=1").Put, Delete: s.del("a").Delete},
			"nameless": {Put: []cluster.Put{{}}},
			"no text":  s.put("\xff=1"),
			"many":     s.put(many...),
			"big":      s.put("a=" + strings.Repeat("x", 2<<20)),
			"before":   {Put: []cluster.Put{{Key: s.dir + "a", TTL: -1}}},
		} {
			if _, done, err := s.Store.Commit(s.ctx, t); err == nil || done || errors.Is(err, cluster.ErrAway) {
				s.Errorf("%s: done %v, %v", name, done, err)
			}
		}
		s.holds("")
		most, _ := numbered(128)
		s.commit(s.Store, s.put(most...))
	}},
	{"two writers race for a key", func(s *suite) {
		for i := range 20 {
			name := fmt.Sprintf("k%d", i)
			var wins atomic.Int32
			var wg sync.WaitGroup
			for who, store := range []cluster.Store{s.Store, s.Other, s.Store, s.Other} {
				wg.Go(func() {
					_, done, err := store.Commit(s.ctx, s.iff(s.put(fmt.Sprintf("%s=%d", name, who)), name, 0))
					if err != nil {
						s.Errorf("%s: %v", name, err)
					} else if done {
						wins.Add(1)
					}
				})
			}
			if wg.Wait(); wins.Load() != 1 {
				s.Errorf("%s was won %d times", name, wins.Load())
			}
		}
	}},
	{"counting together", func(s *suite) {
		const each = 15
		var wg sync.WaitGroup
		for _, store := range []cluster.Store{s.Store, s.Other} {
			wg.Go(func() {
				for range each {
					s.increment(store)
				}
			})
		}
		wg.Wait()
		s.holds("n", fmt.Sprintf("n=%d", 2*each))
	}},
	{"contexts end calls", func(s *suite) {
		ctx, cancel := context.WithCancel(s.ctx)
		batches := s.Store.Watch(ctx, s.dir, s.list("").Rev)
		cancel()
		if _, err := s.Store.List(ctx, s.dir); !errors.Is(err, context.Canceled) {
			s.Errorf("list: %v", err)
		}
		if _, done, err := s.Store.Commit(ctx, s.put("a=1")); !errors.Is(err, context.Canceled) || done {
			s.Errorf("commit: %v", err)
		}
		for end := time.After(patience); ; {
			select {
			case b, ok := <-batches:
				if !ok {
					return
				}
				if b.Err != nil && !errors.Is(b.Err, context.Canceled) {
					s.Errorf("watch: %v", b.Err)
				}
			case <-end:
				s.Fatal("the watch goes on")
			}
		}
	}},
}, append(watchCases, troubleCases...)...)

// increment adds one to a number by compare-and-swap.
func (s *suite) increment(store cluster.Store) {
	for {
		snap, err := store.List(s.ctx, s.dir+"n")
		if err != nil {
			s.Errorf("list: %v", err)
			return
		}
		n, rev := 0, int64(0)
		for _, e := range snap.Entries {
			_, _ = fmt.Sscan(string(e.Value), &n)
			rev = e.Rev
		}
		_, done, err := store.Commit(s.ctx, s.iff(s.put(fmt.Sprintf("n=%d", n+1)), "n", rev))
		if err != nil {
			s.Errorf("commit: %v", err)
		}
		if done || err != nil {
			return
		}
	}
}

// troubleCases: the store is not there, or forgets.
var troubleCases = []testcase{
	{"away and back", func(s *suite) {
		rev := s.commit(s.Store, s.put("a=1"))
		r := s.watch(s.Store, "", rev)
		r.next()
		s.Away(true)
		s.commit(s.Other, s.put("b=2"))
		s.commit(s.Other, s.del("a"))
		began := time.Now()
		if _, err := s.Store.List(s.ctx, s.dir); !errors.Is(err, cluster.ErrAway) {
			s.Errorf("list: %v", err)
		}
		if _, done, err := s.Store.Commit(s.ctx, s.put("c=1")); !errors.Is(err, cluster.ErrAway) || done {
			s.Errorf("commit: %v", err)
		}
		if took := time.Since(began); took > 2*cluster.Patience+5*time.Second {
			s.Errorf("to find the store away twice took %s", took)
		}
		s.commit(s.Other, s.put("d=3"))
		s.Away(false)
		r.until(map[string]string{"b": "2", "d": "3"})
		s.eventually("list", func() error { _, err := s.Store.List(s.ctx, s.dir); return err })
		s.holds("", "b=2", "d=3")
	}},
	{"away for a moment", func(s *suite) {
		r := s.watch(s.Store, "", s.list("").Rev)
		r.next()
		for i := range 3 {
			s.Away(true)
			s.commit(s.Other, s.put(fmt.Sprintf("k%d=%d", i, i)))
			s.Away(false)
		}
		r.until(map[string]string{"k0": "0", "k1": "1", "k2": "2"})
	}},
	{"a watch ends when the store stays away", func(s *suite) {
		r := s.watch(s.Store, "", s.list("").Rev)
		r.next()
		s.Away(true)
		defer s.Away(false)
		another := s.watch(s.Store, "", 1)
		for _, r := range []*reader{r, another} {
			if err := r.ends(); !errors.Is(err, cluster.ErrAway) {
				s.Errorf("it ended with %v", err)
			}
		}
	}},
	{"restart with what it had", func(s *suite) {
		rev := s.commit(s.Store, s.put("a=1", "b=2"))
		before := s.list("")
		r := s.watch(s.Store, "", rev)
		r.next()
		s.Restart()
		s.eventually("list", func() error { _, err := s.Store.List(s.ctx, s.dir); return err })
		if d := cmp.Diff(before, s.list("")); d != "" {
			s.Errorf("after the restart (-before +after):\n%s", d)
		}
		if got := s.commit(s.Store, s.iff(s.put("a=2"), "a", rev)); got <= rev {
			s.Errorf("revision %d after %d", got, rev)
		}
		r.until(map[string]string{"a": "2"})
	}},
	{"what is compacted is forgotten", func(s *suite) {
		rev := s.commit(s.Store, s.put("a=1"))
		s.commit(s.Store, s.put("b=1"))
		s.commit(s.Store, s.del("a"))
		s.Compact()
		if err := s.watch(s.Store, "", rev).ends(); !errors.Is(err, cluster.ErrCompacted) {
			s.Errorf("the watch ended with %v", err)
		}
		s.holds("", "b=1")
		r := s.watch(s.Store, "", s.list("").Rev)
		s.commit(s.Other, s.put("c=1"))
		r.until(map[string]string{"c": "1"})
	}},
	{"a revision that never was", func(s *suite) {
		if err := s.watch(s.Store, "", s.list("").Rev+1000).ends(); !errors.Is(err, cluster.ErrCompacted) {
			s.Errorf("the watch ended with %v", err)
		}
	}},
	{"close ends watches", func(s *suite) {
		r := s.watch(s.Store, "", s.list("").Rev)
		s.commit(s.Store, s.put("a=1"))
		r.until(map[string]string{"a": "1"})
		if err := s.Store.Close(); err != nil {
			s.Errorf("close: %v", err)
		}
		if err := r.ends(); !errors.Is(err, cluster.ErrAway) {
			s.Errorf("the watch ended with %v", err)
		}
		if snap, err := s.Other.List(s.ctx, s.dir); err != nil || len(snap.Entries) != 1 {
			s.Errorf("another host sees %+v, %v", snap, err)
		}
	}},
}
