package clustertest

import (
	"fmt"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// watchCases: what happens is told.
var watchCases = []testcase{
	{"watch says at once that it is in touch", func(s *suite) {
		rev := s.commit(s.Store, s.put("a=1"))
		if b := s.watch(s.Store, "", rev).next(); len(b.Changes) > 0 || b.Rev < rev || b.Err != nil {
			s.Errorf("first came %+v", b)
		}
	}},
	{"watch from a revision", func(s *suite) {
		start := s.list("").Rev
		first := s.commit(s.Store, s.put("a=1"))
		s.commit(s.Other, s.put("b=1"))
		s.commit(s.Store, s.put("a=2"))
		s.commit(s.Store, s.del("b"))
		late := s.watch(s.Store, "", first)
		whole := s.watch(s.Other, "", start)
		s.commit(s.Store, s.put("c=1"))
		late.until(map[string]string{"a": "2", "c": "1"})
		whole.until(map[string]string{"a": "2", "c": "1"})
		if n := len(late.changes); late.changes[n-2].Key != s.dir+"b" || !late.changes[n-2].Gone {
			s.Errorf("b did not go before c came: %+v", late.changes)
		}
	}},
	{"watch of a prefix only", func(s *suite) {
		r := s.watch(s.Store, "p/", s.list("").Rev)
		s.commit(s.Store, s.put("p=1", "p0=1", "p/a=1", "q=1"))
		s.commit(s.Store, s.put("q=2"))
		s.commit(s.Store, s.put("p/ab=2"))
		r.until(map[string]string{"p/a": "1", "p/ab": "2"})
		if len(r.changes) != 2 {
			s.Errorf("changes %+v", r.changes)
		}
	}},
	{"a transaction comes in one batch", func(s *suite) {
		s.commit(s.Store, s.put("old=1"))
		r := s.watch(s.Other, "", s.list("").Rev)
		r.next()
		pairs, state := numbered(50)
		rev := s.commit(s.Store, cluster.Txn{Put: s.put(pairs...).Put, Delete: s.del("old").Delete})
		b := r.next()
		for len(b.Changes) == 0 {
			b = r.next()
		}
		if b.Rev != rev || len(b.Changes) != 51 {
			s.Errorf("%d changes up to %d, want 51 up to %d", len(b.Changes), b.Rev, rev)
		}
		r.until(state)
	}},
	{"to delete nothing is nothing", func(s *suite) {
		rev := s.commit(s.Store, s.put("a=1"))
		if got := s.commit(s.Store, s.del("b")); got != rev {
			s.Errorf("revision %d after %d", got, rev)
		}
	}},
	{"a slow reader keeps nobody waiting", func(s *suite) {
		start := s.list("").Rev
		slow, quick := s.watch(s.Store, "", start), s.watch(s.Store, "", start)
		state := map[string]string{}
		for i := range 150 {
			k, v := fmt.Sprintf("k%d", i%10), fmt.Sprint(i)
			state[k] = v
			s.commit(s.Store, s.put(k+"="+v))
		}
		quick.until(state)
		slow.until(state)
		if slow.asked > 1 || quick.asked > 1 {
			s.Errorf("watched %d and %d times", slow.asked, quick.asked)
		}
	}},
	{"what has a time goes, and is seen to go", func(s *suite) {
		r := s.watch(s.Other, "", s.list("").Rev)
		t := s.put("short=1", "kept=1", "renewed=1", "long=1", "lasting=1")
		for i := range t.Put[:3] {
			t.Put[i].TTL = s.TTL
		}
		t.Put[3].TTL = 100 * s.TTL
		s.commit(s.Store, t)
		for _, e := range s.list("").Entries {
			if want := e.Key == s.dir+"lasting"; e.Lasting != want {
				s.Errorf("%s: lasting %v", e.Key, e.Lasting)
			}
		}
		r.until(map[string]string{"lasting": "1", "short": "1", "kept": "1", "renewed": "1", "long": "1"})
		again := s.put("kept=2", "renewed=2")
		again.Put[1].TTL = 100 * s.TTL
		s.commit(s.Store, again)
		s.Pass(s.TTL)
		want := map[string]string{"kept": "2", "renewed": "2", "long": "1", "lasting": "1"}
		for _, c := range r.changes {
			if want := c.Key == s.dir+"lasting" || string(c.Value) == "2" && c.Key == s.dir+"kept"; !c.Gone && c.Lasting != want {
				s.Errorf("%s=%s came as lasting %v", c.Key, c.Value, c.Lasting)
			}
		}
		r.until(want)
		if last := r.changes[len(r.changes)-1]; last.Key != s.dir+"short" || !last.Gone {
			s.Errorf("the last change is %+v", last)
		}
		s.Pass(s.TTL + s.TTL/2)
		s.holds("", "kept=2", "lasting=1", "long=1", "renewed=2")
		s.commit(s.Store, s.iff(s.put("short=2"), "short", 0))
	}},
	{"what has a time goes without a watch", func(s *suite) {
		t := s.put("a=1")
		t.Put[0].TTL = s.TTL
		s.commit(s.Store, t)
		s.holds("", "a=1")
		s.Pass(s.TTL)
		s.eventually("list", func() error {
			if n := len(s.list("").Entries); n != 0 {
				return fmt.Errorf("%d entries", n)
			}
			return nil
		})
		s.commit(s.Other, s.iff(s.put("a=2"), "a", 0))
		time.Sleep(s.TTL / 10)
		s.holds("", "a=2")
	}},
}
