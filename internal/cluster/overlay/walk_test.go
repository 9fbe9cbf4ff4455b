package overlay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// TestWalk does to four hosts and their store what may happen to them, in any order.
// While the store is not restored, no address goes from one host to another without
// having been free. Left alone for a while, the store has exactly what the hosts
// say, and each knows it.
func TestWalk(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			w := newWalk(t, seed)
			for range 60 {
				w.step()
				time.Sleep(time.Duration(w.random.IntN(3000)) * time.Millisecond)
			}
			w.rest()
		})
	}
}

type walk struct {
	t      *testing.T
	m      *cluster.Memory
	hosts  []*host
	own    []map[model.ID]Endpoint // that containers have, by host
	faults [4]atomic.Bool
	saved  cluster.Saved
	random *rand.Rand
	story  []string
	ends   int
	keeps  bool // the store is not restored
	old    bool // it was
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{t: t, m: newMemory(), random: rand.New(rand.NewPCG(seed, 5)), keeps: seed%2 == 0}
	var mu sync.Mutex
	for i := range 4 {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		w.hosts = append(w.hosts, start(t, w.m, i+1, func(o *Options) {
			o.Store = &faulty{o.Store, func() int {
				mu.Lock()
				defer mu.Unlock()
				if w.faults[i].Load() {
					return random.IntN(4)
				}
				return 0
			}}
		}))
		w.own = append(w.own, map[model.ID]Endpoint{})
		w.hosts[i].Set(nil)
	}
	quiet()
	w.hosts[0].create(net("aa", "app", "10.1.0.0/28", "fd01::/64"))
	w.hosts[0].create(net("bb", "more", "10.2.0.0/27"))
	w.saved = w.m.Save()
	w.owners()
	return w
}

// owners watches who has which address.
func (w *walk) owners() {
	has := map[string]Claim{}
	in := w.m.Another().Watch(w.t.Context(), prefix+"/addresses/", 0)
	go func() {
		for b := range in { // until it is restored
			for _, c := range b.Changes {
				was, now := has[c.Key], Claim{}
				if !c.Gone {
					now, _ = ParseClaim(c.Value)
				}
				if was.Host != "" && now.Host != "" && was.Host != now.Host {
					w.t.Errorf("%s: goes from %v to %v", c.Key, was, now)
				}
				has[c.Key] = now
			}
		}
	}()
}

func (w *walk) say(format string, args ...any) {
	w.story = append(w.story, fmt.Sprintf(format, args...))
}

func (w *walk) set(i int) {
	w.hosts[i].Set(slices.Collect(maps.Values(w.own[i])))
}

func (w *walk) step() {
	i := w.random.IntN(len(w.hosts))
	h := w.hosts[i]
	switch n := w.random.IntN(24); n {
	default:
		w.begin(i)
	case 0, 1, 2, 3, 4:
		for id := range w.own[i] {
			w.say("%s of %d ends", id, i)
			delete(w.own[i], id)
			break
		}
		w.set(i)
	case 5, 6:
		w.say("%d is away", i)
		h.way.SetAway(true)
	case 7, 8, 9:
		w.say("%d is back", i)
		h.way.SetAway(false)
	case 10:
		w.faults[i].Store(!w.faults[i].Load())
	case 11:
		w.m.Compact()
	case 12:
		w.saved = w.m.Save()
	case 13:
		if w.keeps {
			return
		}
		w.say("restored")
		w.old = true
		w.m.Restore(w.saved)
	case 14:
		w.say("%d begins anew", i)
		h.stop()
		ctx := w.hosts[i].o
		w.hosts[i] = start(w.t, w.m, i+1, func(o *Options) { o.Store = ctx.Store })
		w.hosts[i].way = h.way
		w.set(i)
	case 15:
		_ = h.Update(w.t.Context(), "aa", func(n *Network) error { n.Internal = !n.Internal; return nil })
	case 16:
		if err := h.Remove(w.t.Context(), "zz"); err == nil {
			w.t.Error("removed what is not there")
		}
	}
}

// begin has a container begin on a host, or its claim come to nothing.
func (w *walk) begin(i int) {
	w.ends++
	network := []string{"aa", "bb"}[w.random.IntN(2)]
	e := end(network, fmt.Sprintf("e%d", w.ends))
	addrs, err := w.hosts[i].Claim(w.t.Context(), e, nil)
	w.say("%s of %d: %v %v", e.ID, i, addrs, err)
	if err != nil || w.random.IntN(4) == 0 {
		w.hosts[i].Unclaim(e.Network, e.ID)
		return
	}
	e.Addrs = addrs
	w.own[i][e.ID] = e
	w.set(i)
}

// rest mends all and compares the store with what there is.
func (w *walk) rest() {
	for i, h := range w.hosts {
		h.way.SetAway(false)
		w.faults[i].Store(false)
	}
	for range 40 {
		time.Sleep(10 * time.Second)
		w.m.Pass(0)
	}
	quiet()
	story := strings.Join(w.story, "\n")
	w.t.Logf("%d endpoints of %d: restored %v", w.count(), w.ends, w.old)
	want, twice := w.meant()
	if twice && !w.old {
		w.t.Errorf("%s\nan address is claimed twice", story)
	}
	checkNumbers(w.t, w.m, w.hosts)
	got := content(w.t, w.m)
	delete(got, "names/app")
	delete(got, "names/more")
	for k := range got {
		if _, meant := want[k]; !meant && !strings.HasPrefix(k, "networks/") && !strings.HasPrefix(k, "vnis/") && !strings.HasPrefix(k, "hosts/") {
			w.t.Errorf("%s\n%s: %s is too much", story, k, got[k])
		}
	}
	for k, v := range want {
		if got[k] != v && !(twice && got[k] != "") {
			w.t.Errorf("%s\n%s: %s, want %s", story, k, got[k], v)
		}
	}
	for _, h := range w.hosts {
		v := h.view()
		if n := len(v.Networks["aa"].Endpoints) + len(v.Networks["bb"].Endpoints); n != w.count() || !v.InTouch || len(v.Problems) > 0 != twice && !twice {
			w.t.Errorf("%s\n%s knows of %d endpoints, want %d: %+v", story, h.o.ID, n, w.count(), v)
		}
	}
}

func (w *walk) count() (n int) {
	for _, own := range w.own {
		n += len(own)
	}
	return n
}

// meant is what there is, and whether two hosts have one address.
func (w *walk) meant() (map[string]string, bool) {
	out, twice := map[string]string{}, false
	has := map[netip.Addr]bool{}
	for i, own := range w.own {
		for _, e := range own {
			e.Host = fmt.Sprintf("n-%d", i+1)
			text, _ := e.Marshal()
			out[e.Key().String()] = string(text)
			for _, a := range e.Addrs {
				twice = twice || has[a]
				has[a] = true
				text, _ := Claim{Host: e.Host, Endpoint: e.ID}.Marshal()
				out[Key{Kind: KindAddress, Network: e.Network, Addr: a}.String()] = string(text)
			}
		}
	}
	return out, twice
}
