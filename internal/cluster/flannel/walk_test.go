package flannel

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// TestWalk does to three hosts and their store what may happen to them, in any
// order. Left alone for a while, all is well again: three subnets, each known to all.
func TestWalk(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			m := newStore(t, four)
			var hosts []*host
			for i := range 3 {
				hosts = append(hosts, launch(t, m, 2+i, nil))
				hosts[i].setAgree(seed%2 == 0)
			}
			w := &walk{t: t, m: m, hosts: hosts, saved: m.Save(), random: random}
			for range 30 {
				w.step()
				pass(time.Duration(random.IntN(3000)) * time.Millisecond)
			}
			w.rest()
		})
	}
}

type walk struct {
	t      *testing.T
	m      *cluster.Memory
	hosts  []*host
	saved  cluster.Saved
	random *rand.Rand
	story  []string
}

func (w *walk) step() {
	i := w.random.IntN(len(w.hosts))
	h := w.hosts[i]
	say := func(format string, args ...any) { w.story = append(w.story, fmt.Sprintf(format, args...)) }
	switch w.random.IntN(10) {
	case 0, 1:
		say("%d is away", i)
		h.way.SetAway(true)
	case 2, 3:
		say("%d is back", i)
		h.way.SetAway(false)
	case 4:
		say("compacted")
		w.m.Compact()
	case 5:
		say("wiped")
		w.m.Wipe()
		put(w.t, w.m, "config", four, 0)
	case 6:
		say("saved")
		w.saved = w.m.Save()
	case 7:
		say("restored")
		w.m.Restore(w.saved)
	case 8:
		if v, _, _ := h.now(); v.Own != nil {
			say("%s of %d is deleted", v.Own.Key, i)
			remove(w.t, w.m, "subnets/"+v.Own.Key)
		}
	case 9:
		say("all leases end")
		w.m.Pass(TTL)
	}
}

func (w *walk) rest() {
	for _, h := range w.hosts {
		h.way.SetAway(false)
		h.setAgree(true)
	}
	pass(26 * time.Hour)
	w.m.Pass(0) // leases of nobody end
	settle()
	story := strings.Join(w.story, ", ")
	if got := content(w.t, w.m); len(got) != 3 {
		w.t.Errorf("%s: %v", story, got)
	}
	seen := map[string]bool{}
	for _, h := range w.hosts {
		v, _, _ := h.now()
		if v.Own == nil || seen[v.Own.Key] || len(v.Peers) != 2 || len(v.Problems) != 0 || v.LastError != "" || v.Loss != nil || !v.InTouch {
			w.t.Errorf("%s: %s: %+v", story, h.o.Node.ID, v)
		}
		seen[h.own()] = true
	}
}
