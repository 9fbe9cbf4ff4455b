package nft

import (
	"cmp"
	"fmt"
	"slices"
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

// services returns n elements of what chooses backends: of each ten, one is
// of the map that asks how many there are.
func services(n int) []kstate.Op {
	ops := make([]kstate.Op, 0, n)
	for i := range n / 10 {
		at := fmt.Sprintf("10.%d.%d.%d . tcp . 80", 16+i>>16, i>>8&255, i&255)
		ops = append(ops, kstate.Op{New: elem(service4, at, "0x00000003")})
		for j := range 9 {
			to := fmt.Sprintf("10.128.%d.%d . %d", i>>8&255, i&255, 8000+j)
			ops = append(ops, kstate.Op{New: elem(backend4, fmt.Sprintf("%s . 0x%08x", at, j), to)})
		}
	}
	slices.SortFunc(ops, func(a, b kstate.Op) int {
		return cmp.Compare(a.New.(kstate.Elem).Set.Name, b.New.(kstate.Elem).Set.Name)
	})
	return ops
}

// BenchmarkServices writes a hundred thousand elements, and changes one of as
// many: a backend, and how many a service has.
func BenchmarkServices(b *testing.B) {
	all := services(100000)
	b.Run("all", func(b *testing.B) {
		c := open(b)
		apply(b, c, kerneltest.Adds(serviceCorpus()...)...)
		for b.Loop() {
			apply(b, c, all...)
			b.StopTimer()
			apply(b, c, removal(all)...)
			b.StartTimer()
		}
	})
	for _, e := range []kstate.Elem{
		elem(backend4, "10.9.9.9 . tcp . 80 . 0x00000000", "10.128.0.1 . 80"), elem(service4, "10.9.9.9 . tcp . 80", "0x00000001"),
	} {
		b.Run("one of "+e.Set.Name, func(b *testing.B) {
			c := open(b)
			apply(b, c, kerneltest.Adds(serviceCorpus()...)...)
			apply(b, c, append(all, kstate.Op{New: e})...)
			one := append(kerneltest.Dels(e), kerneltest.Adds(e)...)
			for b.Loop() {
				apply(b, c, one...)
			}
		})
	}
	b.Run("observe", func(b *testing.B) {
		c := open(b)
		apply(b, c, kerneltest.Adds(serviceCorpus()...)...)
		apply(b, c, all...)
		for b.Loop() {
			if _, err := c.Observe(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
