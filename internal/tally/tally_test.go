package tally

import (
	"sync"
	"testing"
	"time"
)

// TestTimes counts the same from many goroutines as one would.
func TestTimes(t *testing.T) {
	var times Times[string]
	var counts Counts[string]
	if len(times.Read())+len(counts.Read()) != 0 {
		t.Error("something was counted before anything happened")
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, d := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, time.Minute} {
				times.Note("a", d)
				counts.Add("b")
			}
		})
	}
	all.Wait()
	r, buckets := times.Read()["a"], times.Read()["a"].Buckets()
	if r.Count != 32 || r.Sum != 8*(time.Minute+3*time.Millisecond) {
		t.Errorf("count %d, sum %v", r.Count, r.Sum)
	}
	if buckets[0.001] != 16 || buckets[0.0025] != 24 || buckets[30] != 24 || len(buckets) != len(bounds) {
		t.Errorf("buckets %v", buckets)
	}
	if n := counts.Read()["b"]; n != 32 {
		t.Errorf("counted %d", n)
	}
}
