package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/cluster"
)

// following is a Mirror of "/" in a bubble where time is a matter of waiting.
type following struct {
	*testing.T
	store  *cluster.Memory // another way than the mirror's
	cut    *cluster.Memory // the mirror's
	mirror *cluster.Mirror

	mu      sync.Mutex        // protects the following
	updates []string          // what was delivered since they were last asked for
	state   map[string]string // that the updates amount to
	text    strings.Builder
}

// Write takes the log.
func (f *following) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(b)
}

// log returns it.
func (f *following) log() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

// follow runs a test with a Mirror of a store that has content.
func follow(t *testing.T, content string, run func(f *following)) {
	synctest.Test(t, func(t *testing.T) {
		f := &following{T: t, store: cluster.NewMemory(time.Now), state: map[string]string{}}
		f.cut = f.store.Another()
		f.put(content)
		ctx, cancel := context.WithCancel(t.Context())
		log := slog.New(slog.NewTextHandler(f, nil))
		f.mirror = cluster.Follow(ctx, f.cut, "/", log, f.take)
		run(f)
		cancel()
		<-f.mirror.Done()
	})
}

// take writes an update down: "first", NAME=VALUE, -NAME.
func (f *following) take(u cluster.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var words []string
	if u.First {
		words = append(words, "first")
	}
	for _, c := range u.Changes {
		if c.Gone {
			words = append(words, "-"+c.Key)
			delete(f.state, c.Key)
			continue
		}
		words = append(words, c.Key+"="+string(c.Value))
		f.state[c.Key] = string(c.Value)
	}
	f.updates = append(f.updates, strings.Join(words, " "))
}

// put commits NAME=VALUE and -NAME, by way of the store that is not cut.
func (f *following) put(words string) {
	f.Helper()
	var x cluster.Txn
	for _, w := range strings.Fields(words) {
		if name, ok := strings.CutPrefix(w, "-"); ok {
			x.Delete = append(x.Delete, name)
		} else {
			k, v, _ := strings.Cut(w, "=")
			x.Put = append(x.Put, cluster.Put{Key: k, Value: []byte(v)})
		}
	}
	if _, _, err := f.store.Commit(f.Context(), x); err != nil {
		f.Fatal(err)
	}
}

// after lets time pass and compares what was delivered meanwhile.
func (f *following) after(d time.Duration, want ...string) {
	f.Helper()
	time.Sleep(d)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := cmp.Diff(want, f.updates); d != "" {
		f.Errorf("updates (-want +got):\n%s", d)
	}
	f.updates = nil
	entries := map[string]string{}
	for _, e := range f.mirror.Entries() {
		entries[e.Key] = string(e.Value)
	}
	if !maps.Equal(entries, f.state) {
		f.Errorf("the mirror has %v, its updates amount to %v", entries, f.state)
	}
}

func TestFollow(t *testing.T) {
	follow(t, "/a=1 /b=2 other=3", func(f *following) {
		f.after(0, "first /a=1 /b=2")
		f.put("/c=3 -/a")
		f.put("/c=4")
		f.put("/c=5 other=6")
		f.after(3 * time.Millisecond)
		f.after(2*time.Millisecond, "-/a /c=5")
		f.put("/d=1")
		f.put("-/d")
		f.after(time.Second)
		if s := f.mirror.Status(); !s.Known || !s.InTouch || s.Keys != 2 || s.Rev != 6 || s.Err != nil {
			f.Errorf("status %+v", s)
		}
	})
}

func TestFollowsWhatIsEmpty(t *testing.T) {
	follow(t, "", func(f *following) {
		f.after(0, "first")
		f.put("/a=1")
		f.after(time.Second, "/a=1")
	})
}

func TestFollowWhileAway(t *testing.T) {
	follow(t, "/a=1 /b=1", func(f *following) {
		f.after(time.Second, "first /a=1 /b=1")
		f.cut.SetAway(true)
		began := time.Now()
		f.put("-/a /b=2")
		f.after(time.Minute)
		s := f.mirror.Status()
		if s.InTouch || !s.Since.Equal(began) || !errors.Is(s.Err, cluster.ErrAway) || time.Since(s.ErrAt) > 5*time.Second || s.Keys != 2 {
			f.Errorf("status %+v", s)
		}
		f.cut.SetAway(false)
		f.after(5*time.Second, "-/a /b=2")
		if s := f.mirror.Status(); !s.InTouch || !errors.Is(s.Err, cluster.ErrAway) || s.Restored != (time.Time{}) {
			f.Errorf("status %+v", s)
		}
		if n := strings.Count(f.log(), "\n"); n != 3 {
			f.Errorf("%d lines:\n%s", n, f.log())
		}
	})
}

func TestFollowFromTheDark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := cluster.NewMemory(nil)
		m.SetAway(true)
		ctx, cancel := context.WithCancel(t.Context())
		first := 0
		mirror := cluster.Follow(ctx, m, "/", slog.New(slog.DiscardHandler), func(u cluster.Update) { first++ })
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := mirror.Status(); s.Known || s.InTouch || time.Since(s.Since) != time.Hour || first > 0 {
			t.Errorf("%d updates, status %+v", first, s)
		}
		m.SetAway(false)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if s := mirror.Status(); !s.Known || !s.InTouch || first != 1 {
			t.Errorf("%d updates, status %+v", first, s)
		}
		cancel()
		<-mirror.Done()
	})
}

func TestFollowPastCompaction(t *testing.T) {
	follow(t, "/a=1 /b=1 /c=1", func(f *following) {
		f.after(0, "first /a=1 /b=1 /c=1")
		f.cut.SetAway(true)
		f.put("-/a /b=2 /d=1")
		f.store.Compact()
		f.cut.SetAway(false)
		f.after(time.Second, "-/a /b=2 /d=1")
	})
}

func TestFollowWhatWasRestored(t *testing.T) {
	follow(t, "/a=1 /b=1", func(f *following) {
		f.after(0, "first /a=1 /b=1")
		old := f.store.Save()
		f.put("/b=2 /c=1 /d=1")
		f.after(time.Second, "/b=2 /c=1 /d=1")
		f.store.Restore(old)
		f.after(time.Second, "/b=1")
		if s := f.mirror.Status(); s.Held != 2 || s.Keys != 4 || time.Since(s.Restored) > time.Second || s.Rev != 1 {
			f.Errorf("status %+v", s)
		}
		f.put("/c=9") // its owner writes it again
		f.after(time.Second, "/c=9")
		f.after(cluster.Grace - 5*time.Second)
		f.after(5*time.Second, "-/d")
		if s := f.mirror.Status(); s.Held != 0 || s.Keys != 3 {
			f.Errorf("status %+v", s)
		}
		if !strings.Contains(f.log(), "restored from a copy") {
			f.Errorf("log:\n%s", f.log())
		}
	})
}

// Others write faster into a store that was restored than it is looked at.
func TestFollowWhatWasRestoredAndOvertaken(t *testing.T) {
	follow(t, "/a=1", func(f *following) {
		f.after(0, "first /a=1")
		old := f.store.Save()
		for _, c := range []string{"/b=1", "/c=1", "/d=1"} {
			f.put(c)
		}
		f.after(time.Second, "/b=1 /c=1 /d=1")
		f.cut.SetAway(true)
		f.store.Restore(old)
		for _, c := range []string{"/d=1", "/x=1", "/c=1", "/y=1"} {
			f.put(c)
		}
		f.cut.SetAway(false)
		f.after(time.Second, "/c=1 /d=1 /x=1 /y=1")
		if s := f.mirror.Status(); s.Held != 1 || s.Keys != 6 || s.Restored.IsZero() {
			f.Errorf("status %+v", s)
		}
		f.after(cluster.Grace, "-/b")
	})
}

func TestFollowWhatWasBegunAnew(t *testing.T) {
	follow(t, "/a=1 /b=1 /c=1", func(f *following) {
		f.after(0, "first /a=1 /b=1 /c=1")
		f.store.Wipe()
		f.after(24 * time.Hour)
		if s := f.mirror.Status(); s.Held != 3 || !s.InTouch {
			f.Errorf("status %+v", s)
		}
		f.put("/a=9")
		f.put("other=1")
		f.after(time.Second, "/a=9")
		f.put("/b=2")
		f.cut.SetAway(true) // to be away in between changes nothing about it
		f.after(time.Second, "/b=2")
		f.cut.SetAway(false)
		f.after(cluster.Grace, "-/c")
	})
}

func TestFollowAfterEverythingWasDeleted(t *testing.T) {
	follow(t, "/a=1 /b=1", func(f *following) {
		f.after(0, "first /a=1 /b=1")
		f.cut.SetAway(true)
		f.put("-/a -/b")
		f.after(time.Minute)
		f.cut.SetAway(false)
		f.after(10*time.Second, "-/a -/b")
	})
}

func TestFollowAnyWay(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		follow(t, "/k0=0", func(f *following) {
			for i := range 200 {
				switch r.IntN(12) {
				case 0:
					f.cut.SetAway(true)
				case 1, 2:
					f.cut.SetAway(false)
				case 3:
					f.store.Compact()
				case 4:
					f.put(fmt.Sprintf("-/k%d", r.IntN(8)))
				case 5:
					time.Sleep(rand.N(time.Second))
				default:
					f.put(fmt.Sprintf("/k%d=%d", r.IntN(8), i))
				}
			}
			f.cut.SetAway(false)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			snap, err := f.store.List(f.Context(), "/")
			if err != nil {
				f.Fatal(err)
			}
			if d := cmp.Diff(snap.Entries, f.mirror.Entries()); d != "" {
				f.Errorf("seed %d (-store +mirror):\n%s", seed, d)
			}
			f.mu.Lock()
			f.updates = nil
			f.mu.Unlock()
			f.after(0)
		})
	}
}

func TestSlowMirrorMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := cluster.NewMemory(nil)
		ctx, cancel := context.WithCancel(t.Context())
		got := map[string]string{}
		mirror := cluster.Follow(ctx, m, "/", slog.New(slog.DiscardHandler), func(u cluster.Update) {
			time.Sleep(time.Second)
			for _, c := range u.Changes {
				got[c.Key] = string(c.Value)
			}
		})
		want := map[string]string{}
		for i := range 5000 {
			k, v := fmt.Sprintf("/k%d", i%7), fmt.Sprint(i)
			want[k] = v
			if _, _, err := m.Commit(ctx, cluster.Txn{Put: []cluster.Put{{Key: k, Value: []byte(v)}}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		cancel()
		<-mirror.Done()
	})
}
