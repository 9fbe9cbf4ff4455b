package linux

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// pool is how many sandboxes a benchmark keeps, and how far addresses reach.
const pool = 200

// endpoint is what an attach makes in sandbox i: veth, address, default route.
func endpoint(ns kstate.NS, i int) []kstate.Object {
	ip := netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i%250 + 2)})
	return []kstate.Object{
		kstate.Link{
			Name: fmt.Sprintf("slv%d", i), Type: kstate.TypeVeth, MTU: 1500, MAC: mac(1, i), Up: true, Master: "slb1",
			Hairpin: true, Alias: "sealane bench", Peer: kstate.Peer{NS: ns, Name: "eth0", MAC: mac(2, i)},
		},
		kstate.Addr{NS: ns, Dev: "eth0", Prefix: netip.PrefixFrom(ip, 16)},
		kstate.Route{NS: ns, Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.0.255.1"), Dev: "eth0"},
	}
}

func mac(kind byte, i int) string { return fmt.Sprintf("02:5e:a1:%02x:%02x:%02x", kind, i>>8, i&0xff) }

func apply(t testing.TB, k kernel.Kernel, ops ...kstate.Op) {
	t.Helper()
	if err := k.Apply(context.Background(), ops); err != nil {
		t.Fatal(err)
	}
}

// sandboxes makes a bridge and n namespaces.
func sandboxes(t testing.TB, k kernel.Kernel, dir string, n int) []kstate.NS {
	t.Helper()
	objs := []kstate.Object{kstate.Link{Name: "slb1", Type: kstate.TypeBridge, MTU: 1500, MAC: mac(0, 1), Up: true}}
	out := make([]kstate.NS, n)
	for i := range out {
		out[i] = kstate.NS{Path: filepath.Join(dir, "netns", fmt.Sprint(i))}
		objs = append(objs, kstate.NetNS{NS: out[i]})
	}
	apply(t, k, kerneltest.Adds(objs...)...)
	return out
}

// p50 reports the median of durations in milliseconds.
func p50(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// rounds measures attach or detach on a pool of sandboxes, each round from
// empty to full and back.
func rounds(b *testing.B, attach bool) {
	k, dir := start(b)
	spaces := sandboxes(b, k, dir, pool)
	var took []time.Duration
	b.ResetTimer()
	for len(took) < b.N {
		for _, half := range []bool{true, false} {
			for i, ns := range spaces {
				ops := kerneltest.Adds(endpoint(ns, i)...)
				if !half {
					ops = kerneltest.Dels(endpoint(ns, i)[0])
				}
				begin := time.Now()
				apply(b, k, ops...)
				if half == attach {
					took = append(took, time.Since(begin))
				}
			}
			b.StopTimer()
			if err := k.Close(); err != nil { // all reaped
				b.Fatal(err)
			}
			if err := k.open(Config{RunDir: dir, Journal: nothing{}}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
	p50(b, took)
}

func BenchmarkAttach(b *testing.B) { rounds(b, true) }

func BenchmarkDetach(b *testing.B) { rounds(b, false) }

// nothing is a journal that nothing is written to.
type nothing struct{}

func (nothing) Put(string, string) error            { return nil }
func (nothing) Erase(string) error                  { return nil }
func (nothing) Entries() (map[string]string, error) { return nil, nil }

// BenchmarkLook observes one namespace, as is done before an attach to it.
func BenchmarkLook(b *testing.B) {
	k, dir := start(b)
	only := kernel.Scope{NS: sandboxes(b, k, dir, 1), Only: true}
	done := make(chan error)
	go func() { // not tied to the host's thread, as no goroutine of the daemon is
		for b.Loop() {
			if _, err := k.Observe(context.Background(), only); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkObserve(b *testing.B) {
	const n = 1000
	k, dir := start(b)
	spaces := sandboxes(b, k, dir, n)
	var ops []kstate.Op
	for i, ns := range spaces {
		ops = append(ops, kerneltest.Adds(endpoint(ns, i)...)...)
	}
	slices.SortStableFunc(ops, func(a, b kstate.Op) int { return int(kindOf(a)) - int(kindOf(b)) })
	begin := time.Now()
	apply(b, k, ops...)
	b.Logf("attach %d at once: %v", n, time.Since(begin))
	for b.Loop() {
		if _, err := k.Observe(context.Background(), kernel.Scope{NS: spaces}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	var end []kstate.Op
	for _, ns := range spaces {
		end = append(end, kstate.Op{Old: kstate.NetNS{NS: ns}})
	}
	begin = time.Now()
	apply(b, k, end...)
	b.Logf("remove %d namespaces: %v", n, time.Since(begin))
}
