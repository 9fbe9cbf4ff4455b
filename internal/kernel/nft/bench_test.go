package nft

import (
	"fmt"
	"testing"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// loaded is a firewall with so many elements in one map.
func loaded(b *testing.B, elems int) *Conn {
	b.Helper()
	c := open(b)
	apply(b, c, kerneltest.Adds(append(corpus(), many(elems)...)...)...)
	return c
}

// ports returns ops that publish n ports of a container.
func ports(n int) []kstate.Op {
	var ops []kstate.Op
	for i := range n {
		ops = append(ops, kstate.Op{New: elem(portsAt4, fmt.Sprintf("192.0.2.9 . tcp . %d", i+1), "192.0.2.2 . 80")})
	}
	return ops
}

func removal(ops []kstate.Op) []kstate.Op {
	out := make([]kstate.Op, len(ops))
	for i, op := range ops {
		out[i] = kstate.Op{Old: op.New}
	}
	return out
}

// BenchmarkAdd adds elements in one transaction; their removal is not timed.
func BenchmarkAdd(b *testing.B) {
	for _, there := range []int{0, 50000} {
		for _, n := range []int{1, 64, 10000} {
			b.Run(fmt.Sprintf("%d to %d", n, there), func(b *testing.B) {
				c := loaded(b, there)
				ops := ports(n)
				back := removal(ops)
				b.ReportAllocs()
				for b.Loop() {
					apply(b, c, ops...)
					b.StopTimer()
					apply(b, c, back...)
					b.StartTimer()
				}
			})
		}
	}
}

// BenchmarkRange is about an interval set, which the kernel copies for each
// transaction.
func BenchmarkRange(b *testing.B) {
	for _, there := range []int{10, 2000} {
		b.Run(fmt.Sprintf("1 to %d", there), func(b *testing.B) {
			c := loaded(b, 0)
			var ops []kstate.Op
			for i := range there {
				ops = append(ops, kstate.Op{New: elem(ranges4, fmt.Sprintf("tcp . %d-%d", 10*i, 10*i+5), "192.0.2.2")})
			}
			apply(b, c, ops...)
			one := kerneltest.Adds(elem(ranges4, "udp . 1-1000", "192.0.2.2"))
			back := removal(one)
			for b.Loop() {
				apply(b, c, one...)
				b.StopTimer()
				apply(b, c, back...)
				b.StartTimer()
			}
		})
	}
}

func BenchmarkStaleRemoval(b *testing.B) {
	c := loaded(b, 50000)
	ops := removal(ports(64))
	for b.Loop() {
		apply(b, c, ops...)
	}
}

func BenchmarkRemake(b *testing.B) {
	c := loaded(b, 0)
	ops := append(kerneltest.Dels(tableObj), kerneltest.Adds(corpus()...)...)
	for b.Loop() {
		apply(b, c, ops...)
	}
}

func BenchmarkLoad50000(b *testing.B) {
	c := loaded(b, 0)
	ops := kerneltest.Adds(many(50000)...)
	back := removal(ops)
	for b.Loop() {
		apply(b, c, ops...)
		b.StopTimer()
		apply(b, c, back...)
		b.StartTimer()
	}
}

func BenchmarkObserve(b *testing.B) {
	for _, n := range []int{0, 1000, 50000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := loaded(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Observe(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseElem(b *testing.B) {
	l, err := newLayout(portsAt4)
	if err != nil {
		b.Fatal(err)
	}
	e, el := elem(portsAt4, "192.0.2.9 . tcp . 8080", "192.0.2.2 . 80"), element{}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.parse(&e, &el); err != nil {
			b.Fatal(err)
		}
	}
}
