package model

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits are the rates that an endpoint keeps to. Whole Ethernet frames count.
type Limits struct {
	Ingress Limit `json:"ingress,omitzero"` // towards the sandbox
	Egress  Limit `json:"egress,omitzero"`  // from it
}

// Limit is a rate, and how much may go at once after a pause. The zero value is
// no limit.
type Limit struct {
	Rate  uint64 `json:"rate,omitempty"`  // bits per second
	Burst uint64 `json:"burst,omitempty"` // bits; 0 leaves it to the driver
}

// What a limit may be: rates as Kubernetes has them for pods, and bursts that the
// kernel can count in bytes.
const (
	minRate  = 1_000                 // bits per second
	maxRate  = 1_000_000_000_000_000 // bits per second
	maxBurst = 8 * math.MaxUint32    // bits
)

// The names of limits as endpoint options.
const (
	endpointIngressRate  = "ingress-rate"
	endpointIngressBurst = "ingress-burst"
	endpointEgressRate   = "egress-rate"
	endpointEgressBurst  = "egress-burst"
)

// named returns one of the numbers by its name, or nil.
func (l *Limits) named(name string) *uint64 {
	switch name {
	case endpointIngressRate:
		return &l.Ingress.Rate
	case endpointIngressBurst:
		return &l.Ingress.Burst
	case endpointEgressRate:
		return &l.Egress.Rate
	case endpointEgressBurst:
		return &l.Egress.Burst
	}
	return nil
}

// limitNames are those that named knows.
func limitNames() []string {
	return []string{endpointIngressRate, endpointIngressBurst, endpointEgressRate, endpointEgressBurst}
}

// Validate reports the first thing that makes a limit impossible.
func (l Limits) Validate() error {
	for _, way := range []struct {
		name string
		Limit
	}{{"ingress", l.Ingress}, {"egress", l.Egress}} {
		switch {
		case way.Rate == 0 && way.Burst != 0:
			return fmt.Errorf("%s-burst: without %s-rate", way.name, way.name)
		case way.Rate != 0 && (way.Rate < minRate || way.Rate > maxRate):
			return fmt.Errorf("%s-rate %d: want %d to %d bits per second", way.name, way.Rate, minRate, uint64(maxRate))
		case way.Burst > maxBurst:
			return fmt.Errorf("%s-burst %d: want at most %d bits", way.name, way.Burst, uint64(maxBurst))
		}
	}
	return nil
}

// With returns l with what is given in o. A number that both give must be the
// same one.
func (l Limits) With(o Limits) (Limits, error) {
	for _, name := range limitNames() {
		to, from := l.named(name), *o.named(name)
		if *to != 0 && from != 0 && *to != from {
			return l, fmt.Errorf("%s: is %d, and %d", name, *to, from)
		}
		if from != 0 {
			*to = from
		}
	}
	return l, nil
}

// Has reports whether l has all that is given in o.
func (l Limits) Has(o Limits) bool {
	both, err := l.With(o)
	return err == nil && both == l
}

// parseBits reads a number of bits, as tc(8) writes it: 10000000, 10m or 10mbit.
func parseBits(text string) (uint64, error) {
	digits := strings.TrimSuffix(strings.ToLower(text), "bit")
	factor := uint64(1)
	if n := len(digits); n > 0 {
		if i := strings.IndexByte("kmgt", digits[n-1]); i >= 0 {
			digits = digits[:n-1]
			for range i + 1 {
				factor *= 1000
			}
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxUint64/factor {
		return 0, fmt.Errorf("%q: want a number of bits, as 10000000 or 10mbit", text)
	}
	return n * factor, nil
}
