package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/etcd"
)

// leases counts the leases that a server has, until there are so many.
func leases(t *testing.T, m *member, want int, when string) {
	t.Helper()
	c := admin(t, m.url)
	n := -1
	for range 1000 {
		resp, err := c.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n = len(resp.Leases); n == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%s: %d leases, want %d", when, n, want)
}

func TestNoLeaseIsLeftOver(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s, other := dial(t, etcd.Config{Endpoints: []string{m.url}}), dial(t, etcd.Config{Endpoints: []string{m.url}})
	do := func(s *etcd.Store, x cluster.Txn, want bool) {
		t.Helper()
		if _, done, err := s.Commit(t.Context(), x); done != want || err != nil {
			t.Fatalf("%+v: %v, %v", x, done, err)
		}
	}
	do(s, put("/a", "1", time.Hour), true)
	leases(t, m, 1, "put")
	for i := range 5 {
		do(s, put("/a", fmt.Sprint(i), time.Hour), true)
	}
	leases(t, m, 1, "put again and again")
	two := put("/a", "1", time.Hour)
	two.Put = append(two.Put, put("/b", "1", time.Minute).Put...)
	do(s, two, true)
	leases(t, m, 2, "two keys")
	lost := put("/a", "2", time.Hour)
	lost.If = []cluster.If{{Key: "/a"}}
	do(s, lost, false)
	leases(t, m, 2, "a transaction that did not take place")
	do(s, put("/a", "3", 0), true)
	leases(t, m, 1, "put without a time")
	do(s, cluster.Txn{Delete: []string{"/b"}}, true)
	leases(t, m, 0, "deleted")

	// What another process granted is its own.
	do(other, put("/a", "4", time.Hour), true)
	do(s, put("/a", "5", time.Hour), true)
	leases(t, m, 2, "put by two")
	if _, err := other.List(t.Context(), "/"); err != nil {
		t.Error(err)
	}
	do(other, put("/a", "6", 0), true)
	leases(t, m, 1, "put by the other")
	snap, err := s.List(t.Context(), "/a")
	if err != nil || len(snap.Entries) != 1 || string(snap.Entries[0].Value) != "6" || !snap.Entries[0].Lasting {
		t.Errorf("%+v, %v", snap, err)
	}
	do(s, put("/a", "7", 0), true)
	leases(t, m, 0, "put by the first")
}

func TestPutsOfOneKeySideBySide(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := dial(t, etcd.Config{Endpoints: []string{m.url}})
	done := make(chan error)
	const n = 20
	for i := range n {
		go func() {
			_, _, err := s.Commit(t.Context(), put("/a", fmt.Sprint(i), time.Hour))
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	leases(t, m, 1, "all done")
	if snap, err := s.List(t.Context(), "/a"); err != nil || len(snap.Entries) != 1 || snap.Entries[0].Lasting {
		t.Errorf("%+v, %v", snap, err)
	}
}

// TestLeaseOfNobodyKnows cuts the wire as the transaction is on its way.
func TestLeaseOfNobodyKnows(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	w := newWire(t, m.url)
	s := dial(t, etcd.Config{Endpoints: []string{w.url}})
	if _, _, err := s.Commit(t.Context(), put("/a", "0", time.Hour)); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		time.AfterFunc(time.Duration(i*100)*time.Microsecond, func() { w.set(false) })
		_, _, err := s.Commit(ctx, put("/a", fmt.Sprint(i), time.Hour))
		if cancel(); err != nil && !errors.Is(err, cluster.ErrAway) && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(5 * time.Millisecond)
		w.set(false)
		w.set(true)
		if i%5 == 4 {
			time.Sleep(200 * time.Millisecond)
		}
	}
	for {
		_, done, err := s.Commit(t.Context(), put("/a", "last", time.Hour))
		if done && err == nil {
			break
		}
	}
	snap, err := s.List(t.Context(), "/a")
	if err != nil || len(snap.Entries) != 1 || string(snap.Entries[0].Value) != "last" || snap.Entries[0].Lasting {
		t.Errorf("%+v, %v", snap, err)
	}
	resp, err := admin(t, m.url).Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d leases are left of 22: grants of which the answer was lost end by themselves", len(resp.Leases))
	if len(resp.Leases) < 1 || len(resp.Leases) > 15 {
		t.Errorf("%d leases", len(resp.Leases))
	}
}

// TestLeaseOfBeforeARestore puts a key again into a store that was restored from a copy
// without it, and so counts to the revision that the key had, or less.
func TestLeaseOfBeforeARestore(t *testing.T) {
	t.Parallel()
	for _, others := range []int{0, 1} {
		m := newMember(t)
		s := dial(t, etcd.Config{Endpoints: []string{m.url}})
		m.stop()
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(m.cfg.Dir)); err != nil {
			t.Fatal(err)
		}
		m.start()
		for _, key := range []string{"/b", "/a"} { // at revisions 2 and 3
			if _, done, err := s.Commit(t.Context(), put(key, "1", time.Hour)); !done || err != nil {
				t.Fatal(done, err)
			}
		}
		m.stop()
		m.cfg.Dir = copied
		m.start()
		for range others {
			if _, err := admin(t, m.url).Put(t.Context(), "/c", "1"); err != nil {
				t.Fatal(err)
			}
		}
		ready(t, s)
		rev, done, err := s.Commit(t.Context(), put("/a", "2", time.Hour))
		if want := int64(2 + others); rev != want || !done || err != nil {
			t.Fatalf("put again: revision %d, %v, %v; want it at %d", rev, done, err, want)
		}
		_ = s.Close() // waits for what is given back
		resp, err := admin(t, m.url).Get(t.Context(), "/a")
		if err != nil || len(resp.Kvs) != 1 {
			t.Errorf("after %d puts of others the key is %+v, %v", others, resp, err)
		}
	}
}
