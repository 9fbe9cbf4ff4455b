package engine

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// How full a network is follows what is on it, through everything that can
// become of an address.
func TestUsage(t *testing.T) {
	r := newRig(t)
	spec := netSpec("app")
	spec.Subnets = []model.Subnet{{
		Prefix: netip.MustParsePrefix("10.1.0.0/24"), Range: netip.MustParsePrefix("10.1.0.0/29"),
		Aux: map[string]netip.Addr{"printer": netip.MustParseAddr("10.1.0.2")},
	}, {Prefix: netip.MustParsePrefix("fd01::/64")}}
	n := must[*model.Network](t)(r.e.CreateNetwork(r.ctx, spec))
	full := func(taken, near, resting uint64) [2]ipam.Usage {
		return [2]ipam.Usage{{InUse: 4 + taken, Reserved: 4, Free: 5 - near, Resting: resting}, {InUse: 2 + taken, Reserved: 2, Free: math.MaxUint64 - 1 - taken, Resting: resting}}
	}
	check := func(what string, want [2]ipam.Usage) {
		t.Helper()
		if got := [2]ipam.Usage(r.e.Usage(n)); got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	check("at first", full(0, 0, 0))
	r.sandbox("one", SandboxSpec{Networks: on("app")})
	check("one", full(1, 1, 0))
	r.sandbox("fixed", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.1.0.99")}}})
	check("one outside the range", full(2, 1, 0))
	r.ok(r.e.Exited(r.ctx, "one", model.Exit{}))
	check("ended, which is not gone", full(2, 1, 0))
	r.refused(run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.1.0.99")}}})(r), model.Conflict, "taken by sandbox fixed")
	check("refused", full(2, 1, 0))
	r.proc.refuseAt(func(int, kstate.Op) bool { return true })
	r.refused(run(SandboxSpec{Networks: on("app")})(r), model.Internal, "refused by the test")
	r.proc.refuseAt(nil)
	check("refused by the kernel", full(2, 1, 0))
	r.ok(r.e.RemoveSandbox(r.ctx, "one", false))
	want := full(1, 0, 1)
	check("removed, and resting", want)
	r.proc.refuseAt(func(int, kstate.Op) bool { return true })
	r.refused(run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.1.0.3")}}})(r), model.Internal, "refused by the test")
	r.proc.refuseAt(nil)
	check("asked for by its name, and refused by the kernel", want)
	r.ok(r.e.Disconnect(r.ctx, "fixed", "app"))
	want = full(0, 0, 1)
	want[1].Resting = 2
	check("taken off; its IPv4 address is none that is given automatically", want)
	r.restart()
	check("nothing rests after a restart", full(0, 0, 0))
	r.ok(r.e.RemoveNetwork(r.ctx, "app"))
	check("the network is gone", full(0, 0, 0))
}

// Who asks how full a network is waits for no change, and may ask at any time.
func TestUsageDoesNotWait(t *testing.T) {
	r := newRig(t)
	n := r.network("app", "10.1.0.0/24", "fd01::/64")
	r.e.work.Lock()
	before := r.e.Usage(n)
	r.e.work.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2000 { // two seconds by the test's clock
			r.e.Usage(n)
			time.Sleep(50 * time.Microsecond)
		}
	}()
	for range 20 {
		r.sandbox("x", SandboxSpec{Networks: on("app")})
		r.refused(run(SandboxSpec{Networks: on("app", "nope")})(r), model.NotFound, "nope")
		r.ok(r.e.RemoveSandbox(r.ctx, "x", true))
		r.network("other", "10.2.0.0/24")
		r.ok(r.e.RemoveNetwork(r.ctx, "other"))
	}
	<-done
	after := r.e.Usage(n)
	for i := range after {
		if after[i].Resting != 20 {
			t.Errorf("%d rest, want 20", after[i].Resting)
		}
		if after[i].Resting = 0; after[i] != before[i] {
			t.Errorf("with nobody left: %+v, want %+v", after[i], before[i])
		}
	}
}
