package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// block is one run of a contestant. Its result is in seconds, or in bits per
// second.
type block func() (float64, error)

// outcome is what a contest came to.
type outcome struct {
	ours, peer []float64 // of the kept pairs
	dropped    int       // pairs that the machine disturbed
	noisy      bool      // so many that the rest is doubtful
}

// pair is one run of each.
type pair struct {
	ours, peer reading
}

// reading is a block's result and what the canary saw meanwhile.
type reading struct {
	value float64
	canary
}

// contest runs pairs until n undisturbed ones are there, or 2n in all.
func (b *bench) contest(n int, ours, peer block) (outcome, error) {
	var pairs []pair
	for i := 0; i <= 2*n && b.ctx.Err() == nil; i++ {
		p, err := onePair(ours, peer, i%2 == 1)
		if err != nil {
			return outcome{}, err
		}
		if i == 0 {
			continue
		}
		pairs = append(pairs, p)
		if i >= n && len(undisturbed(pairs)) >= n {
			break
		}
	}
	if err := b.ctx.Err(); err != nil {
		return outcome{}, err
	}
	return settle(pairs), nil
}

// pairs runs n pairs and keeps them all: for what takes minutes.
func (b *bench) pairs(n int, ours, peer block) (outcome, error) {
	var pairs []pair
	for i := range n {
		p, err := onePair(ours, peer, i%2 == 1)
		if err != nil {
			return outcome{}, err
		}
		pairs = append(pairs, p)
	}
	return settle(pairs), nil
}

// settle drops the disturbed pairs, unless too few would be left.
func settle(pairs []pair) outcome {
	kept := undisturbed(pairs)
	o := outcome{dropped: len(pairs) - len(kept)}
	if o.noisy = len(kept) < len(pairs)/2 || len(kept) < min(3, len(pairs)); o.noisy {
		kept, o.dropped = pairs, 0
	}
	for _, p := range kept {
		o.ours, o.peer = append(o.ours, p.ours.value), append(o.peer, p.peer.value)
	}
	return o
}

// alone is a contest without a peer.
func (b *bench) alone(n int, ours block) (outcome, error) {
	return b.contest(n, ours, nil)
}

func onePair(ours, peer block, swap bool) (p pair, err error) {
	if swap {
		if p.peer, err = read(peer); err == nil {
			p.ours, err = read(ours)
		}
		return p, err
	}
	if p.ours, err = read(ours); err == nil {
		p.peer, err = read(peer)
	}
	return p, err
}

func read(b block) (r reading, err error) {
	if b == nil {
		return r, nil
	}
	r.canary, err = watched(func() (err error) {
		r.value, err = b()
		return err
	})
	return r, err
}

// undisturbed returns the pairs during which the machine was as usual.
func undisturbed(pairs []pair) []pair {
	var songs []float64
	for _, p := range pairs {
		songs = append(songs, p.ours.song)
		if p.peer.song > 0 {
			songs = append(songs, p.peer.song)
		}
	}
	usual := median(songs)
	return slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool { return p.ours.disturbed(usual) || p.peer.disturbed(usual) })
}

// ratio returns the median of peer/ours over the pairs with its 95 % interval.
// Above 1 we need less.
func (o outcome) ratio() interval {
	ratios := make([]float64, len(o.ours))
	for i := range ratios {
		ratios[i] = o.peer[i] / o.ours[i]
	}
	return bootstrap(ratios)
}

// interval is an estimate with its 95 % interval.
type interval struct{ mid, low, high float64 }

func (i interval) String() string { return fmt.Sprintf("%.3g [%.3g, %.3g]", i.mid, i.low, i.high) }

// inverse is the interval of one over the estimate.
func (i interval) inverse() interval { return interval{1 / i.mid, 1 / i.high, 1 / i.low} }

// bootstrap estimates the median: resampled with replacement, the same way in
// each run of the program.
func bootstrap(xs []float64) interval {
	const rounds = 2000
	rnd := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, rounds)
	sample := make([]float64, len(xs))
	for i := range medians {
		for j := range sample {
			sample[j] = xs[rnd.IntN(len(xs))]
		}
		medians[i] = median(sample)
	}
	return interval{median(xs), quantile(medians, 0.025), quantile(medians, 0.975)}
}

func median(xs []float64) float64 { return quantile(xs, 0.5) }

// quantile returns the value below which a share q of xs lies.
func quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(xs))
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 == len(s) {
		return s[i]
	}
	return s[i] + (s[i+1]-s[i])*(at-float64(i))
}
