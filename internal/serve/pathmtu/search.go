package pathmtu

import "slices"

// search finds how large a packet may be to one host. It knows no time and sends
// nothing: whoever has it sends the probes that next names, and says what became of them.
//
//	all of it ──answered──▶ done, and that is nearly always so
//	   │ no answer, or a router says how much fits
//	   ▼
//	all, and the least ──nothing is answered──▶ done: not known
//	   │ the least is
//	   ▼
//	sizes between what was answered and what was not, several at once ◀─┐
//	   │ each is answered, or was lost so often that it does not fit     │
//	   └──▶ nothing is between: done ────────────────────────────────────┘
type search struct {
	size, least int // what is wanted, and what every path is to carry
	passed      int // the largest that was answered; 0: none
	failed      int // the smallest that does not fit; size+1: none
	level       []int
	lost        map[int]int // of level: how often there was no answer
	unsent      []int       // of level: in this round, the largest first
	over        bool
}

// tries is how often a size is lost before it is too large. A path that loses every
// hundredth packet loses all of them once in a million times.
const tries = 3

// wide is how many sizes are tried at once.
const wide = 8

// newSearch begins one. What was found before, 0 for nothing, may still be so.
func newSearch(size, least, before int) *search {
	s := &search{size: size, least: min(least, size), failed: size + 1, lost: map[int]int{}}
	if before >= s.least && before < size {
		s.try(size, before+1, before)
	} else {
		s.try(size)
	}
	return s
}

// try begins with other sizes, or with the same once more.
func (s *search) try(sizes ...int) {
	s.level = sizes
	slices.Sort(s.level)
	s.level = slices.Compact(s.level)
	slices.Reverse(s.level)
	s.unsent = slices.Clone(s.level)
}

// next returns the size of a probe to send now, or false.
func (s *search) next() (size int, ok bool) {
	if s.over || len(s.unsent) == 0 {
		return 0, false
	}
	size, s.unsent = s.unsent[0], s.unsent[1:]
	return size, true
}

// done reports whether there is nothing to find out any more. What was found is passed.
func (s *search) done() bool { return s.over }

// answered notes an answer, which may be late. A size that was thought to be too large
// is not.
func (s *search) answered(size int) {
	s.passed = max(s.passed, size)
	if s.passed >= s.failed {
		s.failed = s.size + 1
	}
	s.prune()
}

// tooBig notes that a router cannot pass on a size, and which it can; 0: it does not say.
// That is tried, not believed.
func (s *search) tooBig(size, fits int) {
	if size <= s.passed {
		return
	}
	s.failed = min(s.failed, size)
	if fits >= s.least && fits > s.passed && fits < s.failed {
		s.failed = fits + 1
		s.lost = map[int]int{}
		s.try(fits)
		return
	}
	s.prune()
}

// prune leaves out what needs no answer any more, and goes on when nothing is left.
func (s *search) prune() {
	settled := func(size int) bool { return size <= s.passed || size >= s.failed }
	s.level, s.unsent = slices.DeleteFunc(s.level, settled), slices.DeleteFunc(s.unsent, settled)
	if len(s.level) == 0 {
		s.narrow()
	}
}

// silent notes that what was sent and not answered is not going to be.
func (s *search) silent() {
	for _, size := range s.level {
		if s.lost[size]++; s.lost[size] >= tries && s.passed > 0 {
			s.failed = min(s.failed, size)
		}
	}
	switch {
	case s.passed > 0:
		s.unsent = slices.Clone(s.level)
		s.prune()
	case s.lost[s.least] >= tries:
		s.over = true
	case s.failed <= s.size: // a router said so
		s.try(s.failed-1, s.least)
	default:
		s.try(s.size, s.least)
	}
}

// narrow goes on between what was answered and what does not fit.
func (s *search) narrow() {
	switch {
	case s.failed-s.passed <= 1:
		s.over = true
	case s.passed == 0 && s.failed <= s.least: // so narrow are no paths: whoever says so, is not believed
		s.over = true
	case s.passed == 0:
		s.try(s.least)
	default:
		s.lost = map[int]int{}
		s.try(spread(s.passed, s.failed)...)
	}
}

// spread returns sizes between two: first those that are usual, then at equal distances.
func spread(above, below int) []int {
	var out []int
	for _, size := range usual {
		if above < size && size < below {
			out = append(out, size)
		}
	}
	if len(out) > wide/2 {
		return out
	}
	for step := max((below-above+wide)/(wide+1), 1); len(out) < wide && above+step < below; {
		if above += step; !slices.Contains(out, above) {
			out = append(out, above)
		}
	}
	return out
}

// usual are sizes that devices have: Ethernet's and large ones, PPPoE's (RFC 2516), and what
// is left of them in IP in IP, GRE, vxlan, WireGuard and IPsec; the least of IPv6.
var usual = []int{9000, 8950, 1500, 1492, 1480, 1476, 1450, 1440, 1420, 1400, 1280}
