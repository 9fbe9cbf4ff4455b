package runtime

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// told is a source whose hints a test gives.
type told struct {
	mu      sync.Mutex // protects the following
	w       *watcher   // nil while nobody watches
	started int
}

func (s *told) here() bool { return true }

func (s *told) find(_ context.Context, g model.Guest) (Container, error) {
	return Container{Guest: g, State: Stopped}, nil
}

func (s *told) watch(ctx context.Context, w *watcher) {
	s.set(w)
	w.hintFresh(ctx)
	s.set(nil)
}

func (s *told) set(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w = w; w != nil {
		s.started++
	}
}

func (s *told) watcher() *watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w
}

// interests is what a Watch is to look at.
type interests struct {
	mu     sync.Mutex // protects the following
	guests []model.Guest
}

func (i *interests) set(guests ...model.Guest) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.guests = guests
}

func (i *interests) get() []model.Guest {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.guests
}

func crowd(n int) (out []model.Guest) {
	for i := range n {
		out = append(out, model.Guest{Runtime: model.RuntimeDocker, Name: fmt.Sprint("c", i)})
	}
	return out
}

// drain receives what waits.
func drain(hints <-chan model.Guest) (got []model.Guest) {
	for {
		synctest.Wait()
		select {
		case g := <-hints:
			got = append(got, g)
		default:
			return got
		}
	}
}

func TestWatchMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &told{}
		f := &Finder{watches: map[*watch]bool{}, sources: map[model.Runtime]source{model.RuntimeDocker: s, model.RuntimePodman: &told{}}}
		ctx, cancel := context.WithCancel(t.Context())
		guests, i := crowd(3), &interests{}
		hints := f.Watch(ctx, i.get)
		synctest.Wait()
		if s.watcher() != nil {
			t.Error("a runtime is watched that nobody is interested in")
		}
		i.set(guests...)
		f.Refresh()
		if got := drain(hints); len(got) != 3 {
			t.Errorf("new guests: %v", got)
		}
		f.Refresh()
		if got := drain(hints); len(got) != 0 {
			t.Errorf("the same guests: %v", got)
		}
		for range 1000 {
			s.watcher().hint(ctx, guests[2], guests[0], guests[2])
		}
		if got := drain(hints); len(got) != 2 || got[0] != guests[2] || got[1] != guests[0] {
			t.Errorf("two changed often: %v", got)
		}
		// One that waits and that nobody wants any more is not sent.
		s.watcher().hint(ctx, guests...)
		i.set(guests[1])
		f.Refresh()
		if got := drain(hints); len(got) != 1 || got[0] != guests[1] {
			t.Errorf("the others are forgotten: %v", got)
		}
		// One that got its ID is another, and may have changed meanwhile.
		bound := guests[1]
		bound.ID = "abc"
		i.set(bound)
		f.Refresh()
		if got := drain(hints); len(got) != 1 || got[0] != bound {
			t.Errorf("bound: %v", got)
		}
		i.set()
		f.Refresh()
		if drain(hints); s.watcher() != nil {
			t.Error("a runtime is watched still")
		}
		i.set(bound)
		f.Refresh()
		if got := drain(hints); len(got) != 1 || s.started != 2 {
			t.Errorf("watched again: %v, %d", got, s.started)
		}
		cancel()
		synctest.Wait()
		if _, open := <-hints; open || len(f.watches) != 0 {
			t.Error("open after its end")
		}
	})
}

// TestWatchLosesNothing has guests come, go and change while somebody is slow to
// receive: who changed last is always told of after that.
func TestWatchLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &told{}
		f := &Finder{watches: map[*watch]bool{}, sources: map[model.Runtime]source{model.RuntimeDocker: s}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		all := crowd(50)
		i := &interests{}
		i.set(all...)
		hints := f.Watch(ctx, i.get)
		var mu sync.Mutex
		changed, heard := map[model.Guest]int{}, map[model.Guest]int{}
		go func() {
			for g := range hints {
				mu.Lock()
				heard[g] = changed[g]
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		}()
		synctest.Wait()
		random := rand.New(rand.NewPCG(1, 2))
		for range 5000 {
			g := all[random.IntN(len(all))]
			mu.Lock()
			changed[g]++
			mu.Unlock()
			s.watcher().hint(ctx, g)
			if random.IntN(10) == 0 {
				f.Refresh()
			}
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		for g, n := range changed {
			if heard[g] != n {
				t.Errorf("%s: change %d, heard of %d", g, n, heard[g])
			}
		}
	})
}

func TestStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var tries atomic.Int32
		go stay(ctx, "", func(context.Context) bool { return tries.Add(1) == 1 })
		time.Sleep(2 * time.Minute)
		before := tries.Load()
		time.Sleep(time.Hour)
		if more := tries.Load() - before; before > 20 || more < 59 || more > 61 {
			t.Errorf("%d tries in two minutes, %d more in an hour", before, more)
		}
		cancel()
	})
}
