package cluster

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
)

// TestMerge has a reader that looks only at the end.
func TestMerge(t *testing.T) {
	for _, keys := range []int{3, 700, 5000} {
		synctest.Test(t, func(t *testing.T) {
			in := make(chan Batch)
			out := Merge(t.Context(), in)
			want := map[string]int64{}
			for rev := range int64(20_000) {
				c := Change{Entry: Entry{Key: fmt.Sprint(rev % int64(keys)), Rev: rev}, Gone: rev%7 == 0}
				if want[c.Key] = rev; c.Gone {
					delete(want, c.Key)
				}
				in <- Batch{Rev: rev, Changes: []Change{c}}
			}
			in <- Batch{Rev: 7, Err: ErrCompacted}
			b := <-out
			if _, more := <-out; more {
				t.Error("more follows an error")
			}
			got, last := map[string]int64{}, int64(-1)
			for _, c := range b.Changes {
				if c.Rev <= last {
					t.Errorf("revision %d after %d", c.Rev, last)
				}
				last = c.Rev
				if got[c.Key] = c.Rev; c.Gone {
					delete(got, c.Key)
				}
			}
			if !maps.Equal(got, want) || b.Rev != 19_999 || b.Err != ErrCompacted {
				t.Errorf("%d keys: %d of %d are there, up to %d, %v", keys, len(got), len(want), b.Rev, b.Err)
			}
			if n := len(b.Changes); n > max(maxPending, 2*keys) {
				t.Errorf("%d keys: %d changes wait", keys, n)
			}
		})
	}
}
