package pathmtu

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// road is what a search is sent over.
type road struct {
	mtu   int
	hints bool    // its router says what fits
	dead  bool    // nobody answers
	loss  float64 // of answers
	lie   int     // somebody says that this fits
	rand  *rand.Rand
}

// walk has a search sent, and returns how many probes and waits it took.
func (r road) walk(t *testing.T, s *search) (probes, waits int) {
	t.Helper()
	for !s.done() {
		waiting := false
		for size, ok := s.next(); ok; size, ok = s.next() {
			if probes++; probes > 2000 {
				t.Fatalf("%+v: no end: %+v", r, s)
			}
			switch {
			case r.dead:
				waiting = true
			case r.lie > 0 && size > r.lie:
				s.tooBig(size, r.lie)
			case size > r.mtu && r.hints:
				s.tooBig(size, r.mtu)
			case size > r.mtu, r.loss > 0 && r.rand.Float64() < r.loss:
				waiting = true
			default:
				s.answered(size)
			}
		}
		if waiting && !s.done() {
			waits++
			s.silent()
		} else if !waiting && !s.done() && len(s.unsent) == 0 {
			t.Fatalf("%+v: nothing to send and nothing to wait for: %+v", r, s)
		}
	}
	return probes, waits
}

func TestSearch(t *testing.T) {
	for _, c := range []struct {
		road
		size, least, before, want, probes int
	}{
		{road{mtu: 1500}, 1500, 576, 0, 1500, 1},
		{road{mtu: 9000}, 1500, 576, 0, 1500, 1},
		{road{mtu: 1400, hints: true}, 1500, 576, 0, 1400, 2},
		{road{mtu: 1311, hints: true}, 1500, 576, 0, 1311, 2},
		{road{mtu: 1400}, 1500, 576, 0, 1400, 50},
		{road{mtu: 1399}, 1500, 576, 0, 1399, 80},
		{road{mtu: 1400}, 1500, 576, 1400, 1400, 10}, // as before
		{road{mtu: 1400}, 1500, 576, 1350, 1400, 50},
		{road{mtu: 1400}, 1500, 576, 1450, 1400, 50},
		{road{mtu: 1500}, 1500, 576, 1400, 1500, 1},
		{road{mtu: 1281}, 1500, 1280, 0, 1281, 80},
		{road{mtu: 1280}, 1500, 1280, 0, 1280, 80},
		{road{mtu: 576}, 1500, 576, 0, 576, 100},
		{road{mtu: 1500}, 9000, 576, 0, 1500, 100},
		{road{mtu: 500}, 1500, 576, 0, 0, 10},
		{road{mtu: 1500, dead: true}, 1500, 576, 0, 0, 10},
		{road{mtu: 1500}, 500, 576, 0, 500, 1},
		{road{mtu: 1400, lie: 1000}, 1500, 576, 0, 1000, 2}, // what a router lets through
		{road{mtu: 1400, lie: 100}, 1500, 576, 0, 0, 30},    // so little is no path's
	} {
		s := newSearch(c.size, c.least, c.before)
		probes, _ := c.walk(t, s)
		if s.passed != c.want || probes > c.probes {
			t.Errorf("%+v of %d: found %d with %d probes, want %d with up to %d", c.road, c.size, s.passed, probes, c.want, c.probes)
		}
	}
}

// Every width is found, whatever is lost now and then.
func TestSearchAll(t *testing.T) {
	for _, loss := range []float64{0, 0.02} {
		r := road{loss: loss, rand: rand.New(rand.NewPCG(1, 2))}
		most, wrong := 0, 0
		for r.mtu = 576; r.mtu <= 1500; r.mtu++ {
			s := newSearch(1500, 576, 0)
			_, waits := r.walk(t, s)
			most = max(most, waits)
			if s.passed > r.mtu || loss == 0 && s.passed != r.mtu {
				t.Fatalf("path %d, loss %v: found %d", r.mtu, loss, s.passed)
			}
			if s.passed != r.mtu {
				wrong++
			}
		}
		if most > 25 || wrong > 2 {
			t.Errorf("loss %v: up to %d waits, %d of 925 found too small", loss, most, wrong)
		}
	}
}

// An answer that comes late mends what was concluded from its lack.
func TestSearchLate(t *testing.T) {
	s := newSearch(1500, 576, 0)
	for i := range tries + 1 {
		for size, ok := s.next(); ok; size, ok = s.next() {
			if i > 0 && size == 576 {
				s.answered(size)
			}
		}
		s.silent()
	}
	if s.failed != 1500 || s.done() {
		t.Fatalf("%+v", s)
	}
	s.answered(1500)
	if !s.done() || s.passed != 1500 {
		t.Errorf("%+v", s)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		above, below int
		want         string
	}{
		{576, 1500, "[1492 1480 1476 1450 1440 1420 1400 1280]"},
		{1400, 1403, "[1401 1402]"},
		{1400, 1402, "[1401]"},
		{1400, 1401, "[]"},
		{1281, 1400, "[1295 1309 1323 1337 1351 1365 1379 1393]"},
	} {
		if got := fmt.Sprint(spread(c.above, c.below)); got != c.want {
			t.Errorf("spread %d %d: %s, want %s", c.above, c.below, got, c.want)
		}
	}
}
