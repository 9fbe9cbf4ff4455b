package engine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

func TestLimits(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	both := model.Limits{Ingress: model.Limit{Rate: 1e7}, Egress: model.Limit{Rate: 2e7, Burst: 4e6}}
	web := r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Limits: both}}})
	r.equal("limits", web.Endpoints[0].Limits, "{{10000000 0} {20000000 4000000}}")
	id := string(web.Endpoints[0].ID)
	all := []string{"link sli" + id + " type ifb", "shaper slv" + id + " rate 1250000 ", "shaper sli" + id + " rate 2500000 burst 500000 ", "redirect slv" + id + " to sli" + id}
	there := func(n int) {
		t.Helper()
		dump := r.k.Dump()
		for _, line := range all {
			if got := strings.Count(dump, line); got != n {
				t.Errorf("%d times %q, want %d", got, line, n)
			}
		}
	}
	there(1)
	r.check()
	r.restart()
	there(1)
	r.k.Unshape("slv" + id)
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	there(1)
	r.ok(r.e.Disconnect(r.ctx, "web", "app"))
	there(0)
	r.check()
}

func TestLimitsThatCannotBe(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	r.sandbox("web", SandboxSpec{Networks: on("bridge")})
	before := r.all()
	slow := model.Limits{Egress: model.Limit{Rate: 1000}}
	err := connect("web", EndpointSpec{Network: "app", Limits: model.Limits{Egress: model.Limit{Burst: 1000}}})(r)
	r.equal("a burst alone", fmt.Sprint(model.KindOf(err), ": ", err), "invalid: network app: connect web: egress-burst: without egress-rate")
	r.equal("nothing changed", r.all() == before, "true")

	r.e.cfg.Limits = func() error { return fmt.Errorf("limits: needs a moon: %w", kernel.ErrUnsupported) }
	err = connect("web", EndpointSpec{Network: "app", Limits: slow})(r)
	r.equal("a kernel that cannot", fmt.Sprint(model.KindOf(err), ": ", err), "unsupported: network app: connect web: limits: needs a moon: not supported by this kernel")
	r.equal("nothing changed", r.all() == before, "true")
	r.ok(connect("web", EndpointSpec{Network: "app"})(r))
	r.ok(r.e.Disconnect(r.ctx, "web", "app"))

	for _, cause := range []error{nil, errors.New("nobody knows")} {
		r.e.cfg.Limits = func() error { return cause }
		r.ok(connect("web", EndpointSpec{Network: "app", Limits: slow})(r))
		r.ok(r.e.Disconnect(r.ctx, "web", "app"))
	}
	r.check()
}

func TestLimitsDeclared(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	r.sandbox("web", SandboxSpec{})
	declare := func(l model.Limits) ([]kstate.Op, error) {
		return r.e.Apply(r.ctx, Declaration{Endpoints: []EndpointDeclaration{{Sandbox: "web", EndpointSpec: EndpointSpec{Network: "app", Limits: l}}}})
	}
	slow := model.Limits{Ingress: model.Limit{Rate: 1e6}}
	if ops, err := declare(slow); len(ops) == 0 || err != nil {
		t.Errorf("made by %v, %v", ops, err)
	}
	for _, l := range []model.Limits{slow, {}} {
		if ops, err := declare(l); len(ops) > 0 || err != nil {
			t.Errorf("%+v again: %v, %v", l, ops, err)
		}
	}
	if _, err := declare(model.Limits{Ingress: model.Limit{Rate: 2e6}}); model.KindOf(err) != model.Conflict {
		t.Errorf("another rate: %v", err)
	}
	r.check()
}
