package kerneltest

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

// wholeCases: whole hosts, between which Diff and Apply lead from anywhere to
// anywhere.
var wholeCases = []testcase{
	{"two networks: seen exactly as wanted, and nothing twice", func(s *suite) {
		want := s.twoNetworks()
		s.reach(want)
		s.apply(Adds(want.Sorted()...)...)
		s.holds(want.Sorted()...)
	}},
	{"two networks: removed without a trace", func(s *suite) {
		want := s.twoNetworks()
		scope := want.Sorted()
		clean := s.observe()
		s.reach(want)
		s.reach(kstate.Set{}, scope...)
		s.notedNothing()
		if now := s.observe(); len(now) != len(clean) {
			s.Errorf("left: %v, before: %v", now.Sorted(), clean.Sorted())
		}
	}},
	{"a new process sees the same", func(s *suite) {
		want := s.twoNetworks()
		s.reach(want)
		s.Kernel = s.Outside.Reopen(s.T)
		if ops := s.reach(want); len(ops) > 0 {
			s.Errorf("to do:\n%s", lines(ops))
		}
	}},
	{"a process that dies at any op while setting up: the next one finishes", func(s *suite) {
		s.cuts(kstate.Set{}, s.twoNetworks())
	}},
	{"a process that dies at any op while tearing down: the next one finishes", func(s *suite) {
		s.cuts(s.twoNetworks(), kstate.Set{})
	}},
	{"from any state to any other", func(s *suite) {
		rng := rand.New(rand.NewPCG(1, 2))
		var all []kstate.Object // every namespace that may be there
		for i := range 4 {
			all = append(all, kstate.NetNS{NS: s.ns(sandboxName(i))})
		}
		for range sample(25, 4) {
			s.reach(Random(rng, s.RunDir), all...)
		}
		s.reach(kstate.Set{}, all...)
		s.notedNothing()
	}},
}

// sample is how much of something is tried: less of it in short, which is for
// kernels in slow machines.
func sample(all, short int) int {
	if testing.Short() {
		return short
	}
	return all
}

// cuts leads from one state to the other with the process dying before op 0,
// 1, 2 and so on, each time from the start; in short before some of them.
func (s *suite) cuts(from, to kstate.Set) {
	scope := append(from.Sorted(), to.Sorted()...)
	for n := 0; ; n += sample(1, 17) {
		s.reach(from, scope...)
		ops := kstate.Diff(s.observe(scope...), to)
		if n >= len(ops) {
			return
		}
		// A cut inside an nftables transaction may leave half of it, which
		// need not be valid; then it does not happen, and no more than that.
		if err := s.Kernel.Apply(s.Context(), ops[:n]); err != nil && ops[n].Object().Key().Kind < kstate.KindTable {
			s.Fatal(err)
		}
		s.Kernel = s.Outside.Reopen(s.T)
		s.reach(to, scope...)
	}
}

func canceled(s *suite) context.Context {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	return ctx
}
