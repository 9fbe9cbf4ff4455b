package engine

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// inTime runs f with a rig whose clock is the test's own: it stands still while
// anything is being done. What runs on after Close fails the test.
func inTime(t *testing.T, f func(r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := bare(t)
		r.prepare()
		r.cfg.Now = time.Now
		r.e = New(r.cfg)
		f(r)
		r.e.Close()
		before := r.proc.passes()
		time.Sleep(time.Minute)
		r.equal("passes after Close", r.proc.passes()-before, "0")
	})
}

func (r *rig) begin() { r.Helper(); r.ok(r.e.Start(r.ctx)) }

// wait lets time go by.
func (r *rig) wait(d time.Duration) { time.Sleep(d); synctest.Wait() }

var sealane0 = kstate.Link{Name: "sealane0"}.Key()

func (r *rig) status() Status {
	r.Helper()
	return r.e.NetworkStatus(must[*model.Network](r)(r.e.Network("bridge")))
}

// TestPassesLookAfterAChange: for a while nobody can tell our own changes from
// others'.
func TestPassesLookAfterAChange(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.wait(10 * time.Second)
		before := r.proc.passes()
		r.sandbox("web", SandboxSpec{Networks: on("bridge")})
		r.wait(10 * time.Second)
		r.equal("passes", r.proc.passes()-before, "4")
		r.wait(10 * time.Second)
		r.equal("passes long after", r.proc.passes()-before, "4")
	})
}

func TestHintIsFollowedByAPass(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.wait(10 * time.Second)
		before := r.proc.passes()
		r.k.Remove(sealane0)
		r.wait(time.Second)
		r.check()
		r.equal("passes", r.proc.passes()-before, "4") // two look once more, and one is check's
	})
}

func TestHintDuringTheFirstPassIsNotMissed(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.die()
		r.prepare()
		r.cfg.Now = time.Now
		r.e = New(r.cfg)
		r.k.Remove(kstate.Table{Family: "inet", Name: "sealane"}.Key())
		r.proc.refuseAt(func(n int, _ kstate.Op) bool {
			if n == 0 {
				r.k.Remove(sealane0) // after the pass has looked
			}
			return false
		})
		r.begin()
		r.wait(time.Second)
		r.check()
	})
}

func TestBurstOfHintsIsFewPasses(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.wait(time.Second)
		before := r.proc.passes()
		for range 200 {
			r.k.Tamper(kstate.Link{Name: "sealane0", Type: kstate.TypeBridge, MTU: 1300, MAC: "02:00:00:00:00:01"})
			r.e.Kick("test")
			time.Sleep(time.Millisecond)
		}
		if n := r.proc.passes() - before; n > 5 {
			t.Errorf("%d passes in 200 ms", n)
		}
		r.wait(time.Second)
		r.check()
	})
}

func TestRegularPass(t *testing.T) {
	inTime(t, func(r *rig) {
		r.quiet = true
		r.begin()
		r.k.Remove(sealane0)
		r.wait(interval + time.Second)
		r.check()
		before := r.proc.passes()
		r.wait(10 * interval)
		r.equal("passes", r.proc.passes()-before, "10")
	})
}

func TestFight(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.wait(time.Second)
		began, before := time.Now(), r.proc.passes()
		for time.Since(began) < time.Minute {
			r.k.Remove(sealane0)
			time.Sleep(100 * time.Millisecond)
		}
		n := r.proc.passes() - before
		t.Logf("%d passes in a minute of fighting", n)
		if n < 30 || n > 90 {
			t.Errorf("%d passes in a minute of fighting", n)
		}
		if s := r.status(); s.State != StateConflict || !strings.Contains(s.Message, "another program keeps changing") {
			t.Errorf("status while fighting: %v", s)
		}
		r.wait(time.Minute)
		r.equal("status after", r.status().State, StateReady)
		r.check()
		r.k.Remove(sealane0)
		r.wait(time.Second)
		r.check()
	})
}

// TestNobodyUndoesWhatFails: a parent that was unplugged is its own network's problem only.
func TestNobodyUndoesWhatFails(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		app := r.network("app", "10.1.0.0/28")
		r.wait(time.Minute)
		r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.Object().Key() == sealane0 })
		r.k.Remove(sealane0)
		for range 2 * enough {
			r.e.Kick("test")
			r.wait(time.Second)
		}
		r.equal("the other network", r.e.NetworkStatus(app).State, StateReady)
		r.equal("its own", r.status().State, StateDegraded)
	})
}

func TestFailuresAreRetriedWithGrowingPauses(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.sandbox("web", SandboxSpec{Networks: on("bridge")})
		r.wait(10 * time.Second)
		var at []time.Time
		r.proc.refuseAt(func(_ int, op kstate.Op) bool {
			if op.Object().Key() != sealane0 {
				return false
			}
			at = append(at, time.Now())
			return true
		})
		r.k.Remove(sealane0)
		r.wait(2 * time.Minute)
		var pauses []time.Duration
		for i := 1; i < len(at); i++ {
			pauses = append(pauses, (at[i].Sub(at[i-1]) - settle).Round(time.Second))
		}
		r.equal("pauses", pauses[:7], "[1s 2s 4s 8s 16s 30s 30s]")
		s := r.status()
		r.equal("status", fmt.Sprint(s.State, " ", s.Since.Equal(at[0])), "degraded true")
		if !strings.Contains(s.Message, "link sealane0") || !strings.Contains(s.Message, errRefused.Error()) {
			t.Error(s.Message)
		}
		r.proc.refuseAt(nil)
		r.wait(interval + time.Second)
		r.equal("status after", r.status().State, StateReady)
		r.check()
	})
}

func TestWhoseProblemItIs(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.sandbox("web", SandboxSpec{Networks: on("app"), Ports: ports("8080:80")})
	states := func() string {
		out := ""
		for _, n := range r.e.Networks() {
			out += n.Name + " " + r.e.NetworkStatus(n).State + " "
		}
		return out + "web " + r.e.SandboxStatus(must[*model.Sandbox](r)(r.e.Sandbox("web"))).State
	}
	r.equal("at first", states(), "app ready bridge ready web running")
	for _, c := range []struct {
		key  kstate.Key
		want string
	}{
		{kstate.Hold{Proto: "tcp", First: 8080, Last: 8080}.Key(), "app ready bridge ready web degraded"},
		{sealane0, "app ready bridge degraded web running"},
		{kstate.Sysctl{Name: "net.ipv4.ip_forward"}.Key(), "app degraded bridge degraded web running"},
	} {
		r.k.Remove(c.key)
		r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.New != nil && op.New.Key() == c.key })
		if _, err := r.e.Sync(r.ctx, "test"); err == nil {
			t.Errorf("%v was not refused", c.key)
		}
		r.proc.refuseAt(nil)
		if got := states(); got != c.want && c.key != sealane0 || c.key == sealane0 && !strings.HasPrefix(got, "app ready bridge degraded") {
			t.Errorf("%v refused: %s, want %s", c.key, got, c.want)
		}
		must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		r.equal("afterwards", states(), "app ready bridge ready web running")
	}
	// What is nobody's is nobody's problem.
	stray := kstate.Link{Name: "slbeeeeeeeeeeee", Type: kstate.TypeBridge, MTU: 1500, Up: true}
	r.k.Tamper(stray)
	r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.New == nil })
	if _, err := r.e.Sync(r.ctx, "test"); err == nil {
		t.Error("the stray was not removed")
	}
	r.proc.refuseAt(nil)
	r.equal("with a stray", states(), "app ready bridge ready web running")
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	r.check()
}

func TestDefaultNetworkIsMadeLater(t *testing.T) {
	inTime(t, func(r *rig) {
		r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.Object().Key() == sealane0 })
		r.begin()
		if _, err := r.e.Network("bridge"); model.KindOf(err) != model.NotFound {
			t.Errorf("made although it was refused: %v", err)
		}
		r.wait(5 * time.Second)
		r.proc.refuseAt(nil)
		r.wait(interval)
		r.check()
		r.equal("status", r.status().State, StateReady)
	})
}

func TestRefusedRemovalIsTriedAgain(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		r.network("app", "10.1.0.0/28")
		r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.New == nil && op.Old.Key().Kind == kstate.KindLink })
		r.ok(r.e.RemoveNetwork(r.ctx, "app"))
		r.proc.refuseAt(nil)
		if !strings.Contains(r.k.Dump(), "dev slb") && !strings.Contains(r.k.Dump(), "link slb") {
			t.Error("it was not refused")
		}
		r.wait(time.Second)
		r.check()
	})
}

func TestEndThatNobodyReports(t *testing.T) {
	inTime(t, func(r *rig) {
		r.begin()
		p := model.Process{PID: 4, Start: 2}
		r.sandbox("web", SandboxSpec{Networks: on("bridge"), Ports: ports("8080:80"), Process: &p, Command: []string{"x"}})
		r.wait(time.Minute)
		r.cmds.end(p)
		r.wait(exitGrace / 2)
		if sb := must[*model.Sandbox](r)(r.e.Sandbox("web")); sb.Exit != nil {
			t.Error("no time for the report")
		}
		r.wait(exitGrace)
		r.equal("status", r.e.SandboxStatus(must[*model.Sandbox](r)(r.e.Sandbox("web"))).Message, "nobody saw it end")
		r.check()
	})
}
