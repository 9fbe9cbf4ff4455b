package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dhcp"
)

// counted says what was counted, but with it how often "connect ok" and so on.
func (r *rig) counted() string {
	out := map[string]uint64{}
	t := r.e.Tallies()
	for a, n := range t.Actions.Read() {
		out[a.Name+" "+a.Result] = n.Count
	}
	for p, n := range t.Passes.Read() {
		out["pass "+p.Reason+" "+p.Result] = n.Count
	}
	for k, n := range t.Repairs.Read() {
		out["repair "+k.Kind+" "+k.Result] = n
	}
	var words []string
	for _, k := range slices.Sorted(maps.Keys(out)) {
		words = append(words, fmt.Sprint(k, " ", out[k]))
	}
	return strings.Join(words, ", ")
}

func TestActionsAreCounted(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.sandbox("web", SandboxSpec{Networks: on("app")})
	if err := r.e.RemoveNetwork(r.ctx, "app"); err == nil {
		t.Error("removed what is used")
	}
	_, err := r.e.Publish(r.ctx, "web", ports("8080:80"))
	r.ok(err)
	r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.New != nil && op.New.Key().Kind == kstate.KindLink })
	if _, _, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "bridge"}, nil); err == nil {
		t.Error("connected")
	}
	r.proc.refuseAt(nil)
	_, _, err = r.e.Connect(r.ctx, "web", EndpointSpec{Network: "bridge"}, nil)
	r.ok(err)
	r.ok(r.e.Disconnect(r.ctx, "web", "bridge"))
	got := r.counted()
	for _, want := range []string{
		"network_create ok 2,", "network_remove refused 1,", "sandbox_create ok 1", "publish ok 1,", "connect failed 1,", "connect ok 1,", "disconnect ok 1,",
	} {
		if !strings.Contains(got+",", want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestPassesAreCounted(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.wait(10 * time.Second)
		r.equal("a quiet host", r.counted(), "network_create ok 1, pass change ok 4, pass start ok 1") // the default network
		good := r.e.Tallies().LastGood.Load()
		r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.Object().Key() == sealane0 })
		r.k.Remove(sealane0)
		r.wait(time.Second)
		if got := r.counted(); !strings.Contains(got, "pass hint failed 1") || !strings.Contains(got, "repair link failed 1") {
			t.Error(got)
		}
		r.equal("the last good pass", r.e.Tallies().LastGood.Load(), fmt.Sprint(good))
		r.proc.refuseAt(nil)
		r.wait(2 * interval)
		got := r.counted()
		for _, want := range []string{"pass regular ok", "pass change ok", "repair link ok 1", "repair addr ok"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in %s", want, got)
			}
		}
		if now := time.Now().UnixNano(); now-r.e.Tallies().LastGood.Load() > int64(interval+time.Second) {
			t.Error("no pass went well since")
		}
	})
}

func TestLeasesAreCounted(t *testing.T) {
	var o *office
	var waiting map[string]int
	o = leasing(t, func(dhcp.Want) (model.Lease, error) {
		waiting = o.e.LeaseStates()
		return lanLease(50), nil
	})
	o.network("lan", "ipam=none")
	o.network("app", "10.1.0.0/28")
	o.sandbox("other", SandboxSpec{Networks: on("app")})
	o.sandbox("web", SandboxSpec{Networks: []EndpointSpec{byDHCP, {Network: "app"}}})
	o.equal("before the server answers", waiting, "map[bound:0 failing:0 waiting:1]")
	o.equal("then", o.e.LeaseStates(), "map[bound:1 failing:0 waiting:0]")
	o.handler.Trouble(o.asked[0].Key, errRefused)
	o.equal("in trouble", o.e.LeaseStates(), "map[bound:0 failing:1 waiting:0]")
}
