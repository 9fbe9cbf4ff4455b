package bpf

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kstate"
)

// ports returns ops that take the ports from first to last one by one.
func ports(first, last int) (ops []kstate.Op) {
	for p := first; p <= last; p++ {
		ops = append(ops, kstate.Op{New: kstate.Hold{Proto: "tcp", First: uint16(p), Last: uint16(p)}})
	}
	return ops
}

// inverse returns the ops that undo ops.
func inverse(ops []kstate.Op) []kstate.Op {
	out := make([]kstate.Op, len(ops))
	for i, op := range ops {
		out[i] = kstate.Op{Old: op.New, New: op.Old}
	}
	return out
}

// BenchmarkHold takes and releases ports one by one, alone and beside others.
func BenchmarkHold(b *testing.B) {
	for _, n := range []int{1, 64, 10000} {
		for _, others := range []int{0, 20000} {
			b.Run(fmt.Sprintf("%d beside %d", n, others), func(b *testing.B) {
				h := open(b, inNamespaces(b))
				done := make(chan error)
				go func() { // not tied to the namespace's thread, for which it would wait again and again
					err := h.Apply(ports(40001, 40000+others))
					done <- errors.Join(err, measure(b, h, ports(20000, 19999+n)))
				}()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

func measure(b *testing.B, h *Holder, ops []kstate.Op) error {
	var take, release time.Duration
	for b.Loop() {
		start := time.Now()
		err := h.Apply(ops)
		mid := time.Now()
		if err = errors.Join(err, h.Apply(inverse(ops))); err != nil {
			return err
		}
		take, release = take+mid.Sub(start), release+time.Since(mid)
	}
	perOp := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(perOp(take), "take-ms")
	b.ReportMetric(perOp(release), "release-ms")
	return nil
}
