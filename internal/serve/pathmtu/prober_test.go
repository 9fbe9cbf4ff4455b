package pathmtu

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// world is hosts that answer, each behind a path.
type world struct {
	words chan word
	delay time.Duration

	mu    sync.Mutex // protects the following
	roads map[netip.Addr]road
	sent  []sent
}

// rebuild changes roads, and returns how many probes were sent before.
func (w *world) rebuild(roads map[netip.Addr]road) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.roads, roads)
	return len(w.sent)
}

// since returns the probes but the first n.
func (w *world) since(n int) []sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent[n:])
}

type sent struct {
	to   netip.Addr
	size int
	at   time.Duration
}

func (w *world) send(p Path, m mark, size int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, sent{p.Remote, size, time.Since(began)})
	r := w.roads[p.Remote]
	if size > 9000 {
		return syscall.EMSGSIZE
	}
	answer := word{mark: m, signed: true, host: p.Remote}
	switch {
	case r.dead:
		return nil
	case size <= r.mtu:
	case r.hints:
		answer.big, answer.fits = true, r.mtu
	default:
		return nil
	}
	go func() { time.Sleep(w.delay); w.words <- answer }()
	return nil
}

func (w *world) heard() <-chan word { return w.words }
func (w *world) close()             {}

// began is when a synctest's time does.
var began = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// watch starts a prober in a world, and counts how often it told of changes.
func watch(t *testing.T, w *world) (*Prober, *atomic.Int32) {
	w.words, w.delay = make(chan word, 1<<14), 3*time.Millisecond
	p, told := New(slog.New(slog.DiscardHandler)), new(atomic.Int32)
	p.open = func() (wire, error) { return w, nil }
	p.Start(func() { told.Add(1) })
	t.Cleanup(func() { p.Close() })
	return p, told
}

func host(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}) }

func far(n, size int) Path { return Path{Local: host(0), Remote: host(n), Size: size} }

func TestProber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{roads: map[netip.Addr]road{
			host(1): {mtu: 1500}, host(2): {mtu: 1400, hints: true}, host(3): {mtu: 1387}, host(4): {dead: true},
		}}
		p, told := watch(t, w)
		defer p.Close()
		list := []Path{far(1, 1500), far(2, 1500), far(3, 1500), far(4, 1500), far(1, 1400)}
		p.Want(list)
		check := func(want ...int) {
			t.Helper()
			for i, path := range list {
				if got, known := p.MTU(path); got != want[i] || known != (want[i] != 0) {
					t.Errorf("%v: %d, %v; want %d", path, got, known, want[i])
				}
			}
		}
		time.Sleep(500 * time.Millisecond)
		check(1500, 1400, 0, 0, 1400)
		time.Sleep(30 * time.Second)
		check(1500, 1400, 1387, 0, 1400)
		if n := told.Load(); n == 0 || n > 5 {
			t.Errorf("told %d times", n)
		}

		// Ten minutes later paths are others, and one host is away: what is known of it stays.
		before := told.Load()
		w.rebuild(map[netip.Addr]road{host(1): {mtu: 1450}, host(2): {dead: true}, host(3): {mtu: 1500}, host(4): {mtu: 1500}})
		time.Sleep(period + 30*time.Second)
		check(1450, 1400, 1500, 1500, 1400)
		if told.Load() == before {
			t.Error("nothing was told of the changes")
		}

		// Of what is not wanted nothing is known, nor sent to.
		before, count := told.Load(), w.rebuild(nil)
		list = list[:1]
		p.Want(list)
		synctest.Wait()
		if _, known := p.MTU(far(3, 1500)); known {
			t.Error("a path that is not wanted is known")
		}
		time.Sleep(period + 30*time.Second)
		if told.Load() != before {
			t.Errorf("told %d times of nothing new", told.Load()-before)
		}
		for _, s := range w.since(count) {
			if s.to != host(1) {
				t.Errorf("a probe to %v", s.to)
			}
		}
	})
}

// Not even the host's device takes the size: what it does take is found.
func TestProberDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{roads: map[netip.Addr]road{host(1): {mtu: 65535}}}
		p, _ := watch(t, w)
		defer p.Close()
		p.Want([]Path{far(1, 16000)})
		time.Sleep(20 * time.Second)
		if got, _ := p.MTU(far(1, 16000)); got != 9000 {
			t.Errorf("found %d", got)
		}
	})
}

// Thousands of hosts are measured at a pace, those behind routers first, and again
// without a rush.
func TestProberPace(t *testing.T) {
	const hosts = 2000
	synctest.Test(t, func(t *testing.T) {
		w := &world{roads: map[netip.Addr]road{}}
		var list []Path
		for i := 1; i <= hosts; i++ {
			w.roads[host(i)] = road{mtu: 1500, dead: i%10 == 0}
			path := far(i, 1500)
			path.Near = i%2 == 0
			list = append(list, path)
		}
		p, told := watch(t, w)
		defer p.Close()
		p.Want(list)
		time.Sleep(100 * time.Second)
		for _, path := range list {
			if _, known := p.MTU(path); known == w.roads[path.Remote].dead {
				t.Fatalf("%v: known %v", path, known)
			}
		}
		if told.Load() > 100 {
			t.Errorf("told %d times", told.Load())
		}
		all := w.since(0)
		lastFar := slices.IndexFunc(all, func(s sent) bool { return s.to == host(hosts-1) })
		if firstNear := slices.IndexFunc(all, func(s sent) bool { return s.to == host(2) }); firstNear < lastFar {
			t.Errorf("probe %d is to a host on the link, %d to one that is not", firstNear, lastFar)
		}
		time.Sleep(period)
		first := len(all)
		all = w.since(0)
		for i, s := range all[1:] {
			if d := s.at - all[i].at; d < pace {
				t.Fatalf("probe %d: %v after the one before", i+1, d)
			}
		}
		if again := len(all) - first; again < hosts/2 || again > hosts {
			t.Errorf("%d probes in the next %v", again, period)
		}
	})
}
