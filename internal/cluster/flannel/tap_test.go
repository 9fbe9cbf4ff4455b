package flannel

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// shifting is a store in which something happens before a config is listed.
type shifting struct {
	cluster.Store
	before func()
}

func (s *shifting) List(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	if before := s.before; strings.HasSuffix(prefix, "config") && before != nil {
		s.before = nil
		before()
	}
	return s.Store.List(ctx, prefix)
}

// TestTapKeepsToFlannels: of what is under the prefix a tap reads the config and the leases,
// as of one revision, and tells of no changes but theirs.
func TestTapKeepsToFlannels(t *testing.T) {
	ctx, store := t.Context(), cluster.NewMemory(time.Now)
	put := func(keys ...string) {
		t.Helper()
		x := cluster.Txn{}
		for _, k := range keys {
			x.Put = append(x.Put, cluster.Put{Key: "/net/" + k, Value: []byte("{}")})
		}
		if _, done, err := store.Commit(ctx, x); err != nil || !done {
			t.Fatal(done, err)
		}
	}
	others := []string{"configs", "sealane/overlay/order", "subnet"}
	put(append(others, "subnets/10.1.0.0-24")...)
	s := &shifting{Store: store, before: func() { put("config", "subnets/10.1.1.0-24") }}
	now := &tap{Store: s, now: time.Now, poke: func() {}, there: map[string]int64{}}
	snap, err := now.List(ctx, "/net/")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range snap.Entries {
		if got = append(got, e.Key); e.Rev > snap.Rev {
			t.Errorf("%s was put at %d, after %d", e.Key, e.Rev, snap.Rev)
		}
	}
	if want := []string{"/net/config", "/net/subnets/10.1.0.0-24", "/net/subnets/10.1.1.0-24"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	batches := now.Watch(ctx, "/net/", snap.Rev)
	put(others...)
	put("subnets/10.1.2.0-24")
	for b := range batches {
		if b.Err != nil {
			t.Fatal(b.Err)
		}
		if slices.ContainsFunc(b.Changes, func(c cluster.Change) bool { return c.Key != "/net/subnets/10.1.2.0-24" }) {
			t.Errorf("told of %v", b.Changes)
		}
		if len(b.Changes) > 0 {
			return
		}
	}
}
