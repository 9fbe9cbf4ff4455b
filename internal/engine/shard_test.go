package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// masters counts the ports of each of a network's bridges, as the kernel has
// them: endpoints, and uplinks on the first.
func (r *rig) masters(n *model.Network) (ports []int) {
	r.Helper()
	n = must[*model.Network](r)(r.e.Network(string(n.ID)))
	ports = make([]int, n.Shards+1)
	for _, o := range must[kstate.Set](r)(r.k.Observe(r.ctx, kernel.Scope{})) {
		for i := range ports {
			if l, ok := o.(kstate.Link); ok && l.Type == kstate.TypeVeth && l.Master == n.Bridge(i) {
				ports[i]++
			}
		}
	}
	return ports
}

func TestShards(t *testing.T) {
	r := newRig(t)
	n := r.network("app", "10.1.0.0/24", "fd00:1::/64")
	for i := range 5 {
		r.equal("bridge of sb"+fmt.Sprint(i), r.sandbox("sb"+fmt.Sprint(i), SandboxSpec{Networks: on("app")}).Endpoints[0].Shard, fmt.Sprint(i/2))
	}
	r.equal("ports", r.masters(n), "[4 2 1]")
	r.check()
	r.restart()
	r.check()

	r.ok(r.e.RemoveSandbox(r.ctx, "sb3", false))
	r.ok(r.e.Disconnect(r.ctx, "sb0", "app"))
	r.equal("ports with two less", r.masters(n), "[3 1 1]")
	r.sandbox("other", SandboxSpec{})
	for _, want := range []string{"0", "1", "2", "3"} {
		sb := "sb0"
		if want != "0" {
			sb = "new" + want
			r.sandbox(sb, SandboxSpec{})
		}
		_, ep, err := r.e.Connect(r.ctx, sb, EndpointSpec{Network: "app"}, nil)
		r.ok(err)
		r.equal("the free bridge", ep.Shard, want)
	}
	r.equal("ports of all", r.masters(n), "[5 2 2 1]")
	r.check()
	r.restart()
	r.check()
	for _, sb := range r.e.Sandboxes() {
		r.ok(r.e.RemoveSandbox(r.ctx, string(sb.ID), false))
	}
	r.check()
	r.ok(r.e.RemoveNetwork(r.ctx, "app"))
	r.check()
}

// TestLastShardGoes: where bridged packets pass the firewall it has a chain for
// shards, which stays when they go. To take it out would replace the table, and
// with it what other networks have there.
func TestLastShardGoes(t *testing.T) {
	r := bare(t)
	r.quiet, r.bridged = true, true
	r.start()
	r.network("app", "10.1.0.0/24")
	r.network("other", "10.2.0.0/24")
	r.sandbox("web", SandboxSpec{Networks: on("other")})
	for i := range 3 {
		r.sandbox(fmt.Sprint("sb", i), SandboxSpec{Networks: on("app")})
	}
	for i := range 3 {
		r.ok(r.e.RemoveSandbox(r.ctx, fmt.Sprint("sb", i), false))
	}
	r.ok(r.e.RemoveNetwork(r.ctx, "app"))
	r.check()
	r.restart()
	r.check()
}

// TestLastApartGoes: the same of networks whose endpoints are kept apart.
func TestLastApartGoes(t *testing.T) {
	r := bare(t)
	r.quiet, r.bridged = true, true
	r.start()
	r.network("other", "10.2.0.0/24")
	r.sandbox("web", SandboxSpec{Networks: on("other")})
	r.network("apart", "10.1.0.0/24", "icc=false")
	r.ok(r.e.RemoveNetwork(r.ctx, "apart"))
	r.check()
	r.restart()
	r.check()
}

// TestNoFirstShard: a change that would have brought the first shard, and what the
// firewall has for it, is undone without what other networks have there.
func TestNoFirstShard(t *testing.T) {
	r := bare(t)
	r.quiet, r.bridged = true, true
	r.start()
	r.network("app", "10.1.0.0/24")
	r.network("other", "10.2.0.0/24")
	for i := range 2 {
		r.sandbox(fmt.Sprint("sb", i), SandboxSpec{Networks: on("app")})
	}
	r.proc.commits(func(int) error { return errRefused })
	_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "sb2", Networks: on("app")})
	r.proc.commits(nil)
	if !errors.Is(err, errRefused) {
		t.Error(err)
	}
	have := must[kstate.Set](r)(r.k.Observe(r.ctx, kernel.Scope{}))
	for k, o := range r.wanted() {
		if k.Kind == kstate.KindElem && have[k] == nil {
			t.Errorf("the kernel lacks: %s", o)
		}
	}
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	r.check()
}

func TestShardsInOneChange(t *testing.T) {
	r := newRig(t)
	decl := Declaration{Networks: []NetworkSpec{netSpec("app", "10.1.0.0/24")}}
	for i := range 5 {
		name := fmt.Sprint("sb", i)
		r.sandbox(name, SandboxSpec{})
		decl.Endpoints = append(decl.Endpoints, EndpointDeclaration{Sandbox: name, EndpointSpec: EndpointSpec{Network: "app"}})
	}
	_, err := r.e.Apply(r.ctx, decl)
	r.ok(err)
	r.equal("ports", r.masters(must[*model.Network](r)(r.e.Network("app"))), "[4 2 1]")
	r.check()
}

func TestAllShardsAreFull(t *testing.T) {
	r := bare(t)
	r.quiet, r.crowd = true, 1
	r.start()
	n := r.network("app", "10.1.0.0/24")
	for i := range model.MaxShards + 1 {
		r.sandbox(fmt.Sprint("sb", i), SandboxSpec{Networks: on("app")})
	}
	r.check()
	before := r.all()
	_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "late", Networks: on("app")})
	if e, ok := errors.AsType[*model.Error](err); !ok || e.Kind != model.Exhausted {
		t.Errorf("one too many: %v", err)
	}
	r.equal("everything", r.all(), before)
	r.equal("shards", must[*model.Network](r)(r.e.Network(string(n.ID))).Shards, fmt.Sprint(model.MaxShards))
}

func TestShardThatTheKernelRefuses(t *testing.T) {
	r := newRig(t)
	n := r.network("app", "10.1.0.0/24")
	r.sandbox("one", SandboxSpec{Networks: on("app")})
	r.sandbox("two", SandboxSpec{Networks: on("app")})
	before := r.summary()
	first, _ := n.Uplink(1)
	r.proc.refuseAt(func(_ int, op kstate.Op) bool {
		l, ok := op.New.(kstate.Link)
		return ok && l.Name == first
	})
	if _, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "three", Networks: on("app")}); err == nil {
		t.Fatal("no error")
	}
	r.equal("intent", r.summary(), before)
	r.proc.refuseAt(nil)
	r.check()
	r.equal("bridge of the next", r.sandbox("three", SandboxSpec{Networks: on("app")}).Endpoints[0].Shard, "1")
	r.check()
}

// TestCrowdedNetwork has more endpoints than two bridges have ports: with real
// limits, which the kernel in memory has too.
func TestCrowdedNetwork(t *testing.T) {
	const many = 2500
	r := bare(t)
	r.quiet, r.crowd = true, 0
	r.start()
	n := r.network("app", "10.1.0.0/16")
	start := time.Now()
	decl := Declaration{}
	for i := range many {
		name := fmt.Sprint("sb", i)
		r.sandbox(name, SandboxSpec{Mode: model.ModeOwn})
		decl.Endpoints = append(decl.Endpoints, EndpointDeclaration{Sandbox: name, EndpointSpec: EndpointSpec{Network: "app"}})
	}
	for part := range slices.Chunk(decl.Endpoints, 500) {
		_, err := r.e.Apply(r.ctx, Declaration{Endpoints: part})
		r.ok(err)
	}
	t.Logf("%d endpoints in %v", many, time.Since(start))
	r.equal("ports", r.masters(n), "[1002 1000 500]")
	r.check()
	for i := 0; i < many; i += 50 {
		r.ok(r.e.Disconnect(r.ctx, fmt.Sprint("sb", i), "app"))
	}
	r.equal("ports without some", r.masters(n), "[982 980 490]")
	r.restart()
	r.check()
	for i := 0; i < 1500; i += 50 {
		_, _, err := r.e.Connect(r.ctx, fmt.Sprint("sb", i), EndpointSpec{Network: "app"}, nil)
		r.ok(err)
	}
	r.equal("ports again", r.masters(n), "[1002 990 490]")
	r.check()
}
