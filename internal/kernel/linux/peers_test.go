package linux

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// peers is a fabric as one of its hosts has it: the device, and for each of n
// others a route, a neighbour and a forwarding entry.
func peers(n int) kstate.Set {
	out := kstate.Set{}
	add := func(objs ...kstate.Object) {
		for _, o := range objs {
			out[o.Key()] = o
		}
	}
	add(kstate.Link{
		Name: "slx1", Type: kstate.TypeVXLAN, MTU: 1450, MAC: mac(3, 0), Up: true,
		VXLAN: kstate.VXLAN{VNI: 1, Port: 8472, Local: netip.MustParseAddr("192.0.2.1"), NoLearning: true},
	}, kstate.Addr{Dev: "slx1", Prefix: netip.MustParsePrefix("10.255.255.0/32")})
	for i := range n {
		net, at := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		add(kstate.Route{Dst: netip.PrefixFrom(net, 24), Via: net, Dev: "slx1", Onlink: true},
			kstate.Neigh{Dev: "slx1", Addr: net, MAC: mac(4, i)}, kstate.FDB{Dev: "slx1", MAC: mac(4, i), Dst: at})
	}
	return out
}

// 5,000 hosts in one fabric come, are looked at, change and go. How long each takes
// is printed.
func TestPeers(t *testing.T) {
	n := 5000
	if testing.Short() {
		n = 300
	}
	k, _ := start(t)
	want, some := peers(n), peers(n-n/10)
	bare := peers(0)
	for _, step := range []struct {
		name string
		want kstate.Set
	}{
		{"the device", bare}, {"all come", want}, {"a tenth goes", some}, {"it comes back", want},
		{"all go, one by one", bare}, {"all come again", want}, {"the device goes with all", kstate.Set{}},
	} {
		have := observe(t, k)
		began := time.Now()
		ops := kstate.Diff(have, step.want)
		diffed := time.Now()
		apply(t, k, ops...)
		applied := time.Now()
		have = observe(t, k)
		t.Logf("%-25s %5d ops: diff %v, apply %v, observe %v", step.name, len(ops), ms(diffed.Sub(began)), ms(applied.Sub(diffed)), ms(time.Since(applied)))
		if left := kstate.Diff(have, step.want); len(left) > 0 {
			t.Fatalf("%s: %d ops are left, the first is %s", step.name, len(left), left[0])
		}
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

// Routes to other hosts that an earlier version made were all of scope global.
func TestRouteOfAnotherScope(t *testing.T) {
	k, _ := start(t)
	apply(t, k, kstate.Diff(observe(t, k), peers(0))...)
	run(t, "ip route add 10.0.1.0/24 via 10.0.1.0 dev slx1 onlink proto 83")
	r := kstate.Route{Dst: prefix("10.0.1.0/24"), Via: netip.MustParseAddr("10.0.1.0"), Dev: "slx1", Onlink: true}
	if got := observe(t, k)[r.Key()]; got != kstate.Object(r) {
		t.Fatalf("seen as %v", got)
	}
	apply(t, k, kerneltest.Dels(r)...)
	if got := observe(t, k)[r.Key()]; got != nil {
		t.Errorf("left: %v", got)
	}
}
