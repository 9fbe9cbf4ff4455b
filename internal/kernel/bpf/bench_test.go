package bpf

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

// singles returns n holds of one port each, from 20000 on.
func singles(n int) []kstate.Op {
	ops := make([]kstate.Op, n)
	for i := range ops {
		ops[i].New = kstate.Hold{Proto: "tcp", First: uint16(20000 + i), Last: uint16(20000 + i)}
	}
	return ops
}

func inverse(ops []kstate.Op) []kstate.Op {
	out := make([]kstate.Op, len(ops))
	for i, op := range ops {
		out[i] = kstate.Op{Old: op.New, New: op.Old}
	}
	return out
}

// benchmark times the first or the second of two Applys on a goroutine that is
// not tied to the namespace's thread.
func benchmark(b *testing.B, first bool, ops []kstate.Op, standing int) {
	h := open(b, inNamespaces(b))
	done := make(chan error)
	go func() {
		var back error
		if standing > 0 {
			back = h.Apply(singles(20000 + standing)[20000:])
		}
		for b.Loop() {
			if !first {
				b.StopTimer()
			}
			err := h.Apply(ops)
			if first {
				b.StopTimer()
			} else {
				b.StartTimer()
			}
			back = errors.Join(back, err, h.Apply(inverse(ops)))
			if first {
				b.StartTimer()
			}
		}
		done <- back
	}()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, n := range []int{1, 64, 10000} {
		for _, standing := range []int{0, 20000} {
			b.Run(fmt.Sprintf("%d beside %d", n, standing), func(b *testing.B) { benchmark(b, true, singles(n), standing) })
		}
	}
}

func BenchmarkRelease(b *testing.B) {
	for _, n := range []int{1, 64, 10000} {
		for _, standing := range []int{0, 20000} {
			b.Run(fmt.Sprintf("%d beside %d", n, standing), func(b *testing.B) { benchmark(b, false, singles(n), standing) })
		}
	}
}
