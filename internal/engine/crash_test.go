package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// cut is a place where a process dies.
type cut struct {
	step  int    // of the kernel, from the change's beginning; -1: at no step
	store string // "before" or "after" the commit; "": at none
	order order
}

func (c cut) String() string {
	return fmt.Sprintf("cut at step %d, %s the commit, %s", c.step, c.store, c.order)
}

// cuts lists the places where a change of the kernel that took these groups of
// steps can be cut: before each op, between a journal entry and its change,
// and before and after the commit. A transaction is one place.
func cuts(groups []group, orders ...order) []cut {
	var out []cut
	if len(groups) == 0 {
		groups = []group{{}}
	}
	start, end := groups[0].from, groups[len(groups)-1].to
	for _, o := range orders {
		for _, g := range groups {
			out = append(out, cut{step: g.from - start, order: o})
			if g.to-g.from == 2 { // an entry and its change
				out = append(out, cut{step: g.from - start + 1, order: o})
			}
		}
		out = append(out, cut{step: end - start, order: o}, cut{-1, "before", o}, cut{-1, "after", o})
	}
	return out
}

// die makes the change and lets the process die at a cut.
func (r *rig) dieAt(c cut, act func(*rig) error) {
	r.Helper()
	r.proc.arm(c.order)
	if c.step >= 0 {
		r.k.Cut(c.step)
	}
	r.proc.commits(func(int) error {
		switch c.store {
		case "before":
			r.proc.kill()
			return errDead
		case "after":
			r.proc.mortal()
		}
		return nil
	})
	act(r)
	r.die()
}

// TestNothingIsLost cuts each change everywhere, with the store and the kernel
// in either order. The next process finds the intent before or after, and makes
// the kernel so. A sandbox whose namespace was not there yet, or not any more,
// is lost: that cannot be told from its end.
func TestNothingIsLost(t *testing.T) {
	eachScenario(t, func(t *testing.T, s scenario, before, after string, groups []group) {
		seen := map[string]bool{}
		for _, c := range cuts(groups, storeFirst, kernelFirst) {
			r := newRig(t)
			s.setup(r)
			r.dieAt(c, s.act)
			r.start()
			got := r.summary()
			switch {
			case got == before, got == after:
			case lost(got) != "" && (lost(got) == lost(before) || lost(got) == lost(after)):
				got = "lost"
			default:
				t.Errorf("intent is neither the one before\n%snor the one after\n%sbut\n%s", before, after, got)
			}
			seen[got] = true
			r.check()
			r.sound()
			r.e.Close()
			if t.Failed() {
				t.Fatal(c)
			}
		}
		if !seen[before] || !seen[after] {
			t.Errorf("the cuts did not lead to both: before %v, after %v", seen[before], seen[after])
		}
	})
}

// lost is a summary with the sandboxes that a cut may lose left open: what is
// new or about to go.
func lost(summary string) string {
	var out []string
	for _, l := range strings.Split(summary, "\n") {
		if !strings.HasPrefix(l, "sandbox new own") && !strings.HasPrefix(l, "sandbox web own") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// sound shows that the engine still works: what is taken is taken, what is
// free can be had, and goes again.
func (r *rig) sound() {
	r.Helper()
	before := r.allocated()
	sb := r.sandbox("probe", SandboxSpec{Networks: on("bridge"), Ports: ports("80")})
	r.check()
	r.ok(r.e.RemoveSandbox(r.ctx, string(sb.ID), false))
	r.same("allocations", lines(r.allocated()), lines(before))
	r.check()
}

// TestStartIsCut cuts the first start of all, and the first after a reboot.
func TestStartIsCut(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("reboot=%v", again), func(t *testing.T) {
			t.Parallel()
			prepare := func() *rig {
				r := bare(t)
				r.quiet = true
				if again {
					r.start()
					base(r)
					r.die()
					r.reboot()
				}
				return r
			}
			r := prepare()
			r.start()
			r.check()
			want := r.summary()
			for _, c := range cuts(r.proc.groups, racing) {
				r := prepare()
				r.prepare()
				r.dieAt(c, func(r *rig) error { return r.e.Start(r.ctx) })
				r.start()
				r.same("intent", lines(r.summary()), lines(want))
				r.check()
				r.e.Close()
				if t.Failed() {
					t.Fatal(c)
				}
			}
		})
	}
}

// reboot is one of the whole host: others set up theirs again.
func (r *rig) reboot() {
	r.k.Reboot()
	r.k.Foreign(foreign...)
	r.sshd()
}

// TestRebootLosesSandboxesOnly: networks come back, sandboxes are reported.
func TestRebootLosesSandboxesOnly(t *testing.T) {
	r := newRig(t)
	base(r)
	r.sandbox("away", SandboxSpec{Networks: on("app"), AutoRemove: true})
	r.sandbox("host", SandboxSpec{Mode: model.ModeHost})
	r.die()
	r.reboot()
	r.start()
	r.check()
	web := must[*model.Sandbox](r)(r.e.Sandbox("web"))
	r.equal("web", r.e.SandboxStatus(web).State, StateLost)
	r.equal("it keeps its address", web.Endpoints[0].Addrs, "[10.1.0.2/28]")
	r.equal("and no port", len(web.Ports), "0")
	r.equal("host", r.e.SandboxStatus(must[*model.Sandbox](r)(r.e.Sandbox("host"))).State, StateRunning)
	if _, err := r.e.Sandbox("away"); model.KindOf(err) != model.NotFound {
		t.Errorf("one that was to go with its command: %v", err)
	}
	r.ok(r.e.RemoveSandbox(r.ctx, "web", false))
	r.sound()
}

// TestOutsideDeletions: a pass makes again what somebody took away, object by
// object.
func TestOutsideDeletions(t *testing.T) {
	r := newRig(t)
	base(r)
	r.network("lan", "name=br0", "10.9.0.0/28", "fd00:9::/64")
	want := lines(r.k.Dump())
	for _, o := range r.wanted().Sorted() {
		if o.Key().Kind == kstate.KindNetNS || strings.HasPrefix(o.String(), "addr 10.9.0.7/28") {
			continue // the one is lost, the other not ours
		}
		r.k.Remove(o.Key())
		must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		r.same("after "+o.String()+" was removed, the kernel", lines(r.k.Dump()), want)
		r.check()
		if t.Failed() {
			t.FailNow()
		}
	}
}
