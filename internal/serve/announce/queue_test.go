package announce

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestQueue walks a queue at random beside a list that is searched.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	now := time.Unix(1000, 0)
	var q queue
	var list []*run
	for step := range 20000 {
		now = now.Add(time.Duration(r.IntN(20)) * time.Millisecond)
		if r.IntN(3) == 0 {
			one := &run{}
			q.put(one, now)
			list = append(list, one)
			continue
		}
		best := -1
		for i, one := range list {
			if best < 0 || before(one, list[best]) {
				best = i
			}
		}
		got := q.due(now)
		if best < 0 || list[best].at.After(now) {
			if got != nil {
				t.Fatalf("step %d: a run that is not due", step)
			}
			continue
		}
		if got == nil || got.repeat != list[best].repeat || !got.at.Equal(list[best].at) {
			t.Fatalf("step %d: %+v, want %+v", step, got, list[best])
		}
		list = slices.DeleteFunc(list, func(one *run) bool { return one == got })
		if r.IntN(4) > 0 {
			q.put(got, now.Add(time.Duration(r.IntN(100))*time.Millisecond))
			list = append(list, got)
		}
	}
}

func before(a, b *run) bool {
	if a.repeat != b.repeat {
		return !a.repeat
	}
	return a.at.Before(b.at)
}

func BenchmarkAnnounce(b *testing.B) {
	a := &Announcer{runs: map[string]*run{}, wake: make(chan struct{}, 1)}
	e := Endpoint{MAC: macA, Addrs: addrs("10.0.0.2", "fd00::2"), Count: 3, Interval: time.Second}
	names := make([]string, 3000)
	for i := range names {
		names[i] = string(rune('a'+i%26)) + string(rune(i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.Device = names[i%len(names)]
		if err := a.Announce(e); err != nil {
			b.Fatal(err)
		}
		if i%len(names) == len(names)-1 {
			a.queue = queue{}
		}
	}
}
