package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// scenario is one change, from a world that is set up to another.
type scenario struct {
	name  string
	setup func(*rig)
	act   func(*rig) error
}

// base is what most scenarios begin with.
func base(r *rig) {
	r.network("app", "10.1.0.0/28")
	r.network("dual", "10.2.0.0/28", "fd00:2::/64")
	r.network("inner", "10.3.0.0/28", "internal", "icc=false")
	r.sandbox("web", SandboxSpec{Networks: on("app"), Ports: ports("8080:80", "9000-9003:9000-9003", "127.0.0.1:8081:81/udp")})
}

func baseAnd(more func(*rig)) func(*rig) { return func(r *rig) { base(r); more(r) } }

var scenarios = []scenario{
	{"create network", base, func(r *rig) error {
		_, err := r.e.CreateNetwork(r.ctx, netSpec("new", "10.4.0.0/28", "fd00:4::/64", "masquerade=false"))
		return err
	}},
	{"create the first IPv6 network", func(*rig) {}, func(r *rig) error {
		_, err := r.e.CreateNetwork(r.ctx, netSpec("new", "fd00:4::/64"))
		return err
	}},
	{"adopt a bridge", base, func(r *rig) error {
		_, err := r.e.CreateNetwork(r.ctx, netSpec("lan", "name=br0", "10.9.0.0/28", "fd00:9::/64"))
		return err
	}},
	{"create sandbox", base, func(r *rig) error {
		_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "new", Networks: on("dual", "inner"), Ports: ports("8088:80", "8090-8092:90-92", "81")})
		return err
	}},
	{"connect", base, func(r *rig) error {
		_, _, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "dual", Priority: 1}, ports("8082:82"))
		return err
	}},
	{"connect with settings", base, func(r *rig) error {
		_, _, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "dual", IfName: "lan.0", LinkLocal: at("169.254.1.1", "fe80::77"),
			Sysctls: []string{"net.ipv4.conf.IFNAME.log_martians=1"}, Links: []model.Link{{Target: "db", Alias: "db"}}}, nil)
		return err
	}},
	{"update a network", base, func(r *rig) error {
		_, err := r.e.UpdateNetwork(r.ctx, "dual", NetworkUpdate{Options: map[string]string{"icc": "false", "mtu": "1400", "gateway-mode-ipv6": "routed"}})
		return err
	}},
	{"connect a foreign namespace", base, func(r *rig) error {
		_, _, err := r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: "dual"}, ports("8082:82"))
		return err
	}},
	{"disconnect the way out", baseAnd(func(r *rig) {
		_, _, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "dual", Priority: 1}, nil)
		r.ok(err)
	}), func(r *rig) error { return r.e.Disconnect(r.ctx, "web", "dual") }},
	{"disconnect a foreign namespace", baseAnd(func(r *rig) {
		_, _, err := r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: "dual"}, nil)
		r.ok(err)
	}), func(r *rig) error { return r.e.Disconnect(r.ctx, "netns:"+givenNS.Path, "dual") }},
	{"attach a runtime's container", base, func(r *rig) error { return attach(r, "c1", "dual", "8082:82") }},
	{"detach it from one of two", baseAnd(func(r *rig) {
		r.ok(attach(r, "c1", "dual", "8082:82"))
		r.ok(attach(r, "c1", "app", "8083:83"))
	}), func(r *rig) error { return r.e.Detach(r.ctx, "c1", "dual", "") }},
	{"attach it to one network twice", baseAnd(func(r *rig) { r.ok(attach(r, "c1", "dual", "8082:82")) }),
		func(r *rig) error { return attach(r, "c1", "dual", "8083:83") }},
	{"detach it from there once", baseAnd(func(r *rig) {
		r.ok(attach(r, "c1", "dual", "8082:82"))
		r.ok(attach(r, "c1", "dual", "8083:83"))
	}), func(r *rig) error { return r.e.Detach(r.ctx, "c1", "dual", "eth0") }},
	{"detach it", baseAnd(func(r *rig) { r.ok(attach(r, "c1", "dual", "8082:82")) }),
		func(r *rig) error { return r.e.Detach(r.ctx, "c1", "dual", "eth0") }},
	{"take over a pool of Docker's", baseAnd(pooled), func(r *rig) error {
		_, err := r.e.CreateNetwork(r.ctx, dockerSpec)
		return err
	}},
	{"join a container of Docker's", dockerBase, func(r *rig) error { return join(r, "d1", "10.6.0.2", "ab0000000001", dockerNet) }},
	{"announce an endpoint of Docker's", dockerBase, func(r *rig) error { return announced(r, "ab0000000001", dockerNet, "10.6.0.2") }},
	{"announce one with Docker's own addresses", base, func(r *rig) error { return announced(r, "ab0000000001", "dual", "10.2.0.9", "fd00:2::9") }},
	{"join one that was announced", announcedBase, func(r *rig) error { return join(r, "d1", "10.2.0.9", "ab0000000001", "dual") }},
	{"join it as a container's second", func(r *rig) {
		joinedBase(r)
		r.ok(announced(r, "ab0000000002", "dual", "10.2.0.9", "fd00:2::9"))
	}, func(r *rig) error { return join(r, "d1", "10.2.0.9", "ab0000000002", "dual") }},
	{"join one to a parent", parentAnnounced, func(r *rig) error { return join(r, "d1", "10.6.0.3", "ab0000000001", dockerNet) }},
	{"part from one that was announced", announcedBase, func(r *rig) error { return r.e.Part(r.ctx, "ab0000000001") }},
	{"remove its network", announcedBase, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "dual") }},
	{"join it to another network", joinedBase, func(r *rig) error { return join(r, "d1", "10.2.0.9", "ab0000000002", "dual") }},
	{"part from one of two", func(r *rig) {
		joinedBase(r)
		r.ok(join(r, "d1", "10.2.0.9", "ab0000000002", "dual"))
	}, func(r *rig) error { return r.e.Part(r.ctx, "ab0000000001") }},
	{"part from the last", joinedBase, func(r *rig) error { return r.e.Part(r.ctx, "ab0000000001") }},
	{"remove a network of Docker's", dockerBase, func(r *rig) error { return r.e.RemoveNetworkOf(r.ctx, model.OriginDocker, dockerNet) }},
	{"publish", base, func(r *rig) error {
		_, err := r.e.Publish(r.ctx, "web", ports("8082:82", "8083-8085:83-85", "84"))
		return err
	}},
	{"unpublish", base, func(r *rig) error { return r.e.Unpublish(r.ctx, "web", ports("9000-9003:9000-9003", "80")) }},
	{"end of a command", base, func(r *rig) error { return r.e.Exited(r.ctx, "web", model.Exit{Code: 1}) }},
	{"remove sandbox", base, func(r *rig) error { return r.e.RemoveSandbox(r.ctx, "web", false) }},
	{"remove network", base, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "dual") }},
	{"give an adopted bridge back", baseAnd(func(r *rig) { r.network("lan", "name=br0", "10.9.0.0/28", "fd00:9::/64") }),
		func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "lan") }},
	{"prune", base, func(r *rig) error { _, err := r.e.PruneNetworks(r.ctx, nil); return err }},
	{"apply", base, func(r *rig) error {
		_, err := r.e.Apply(r.ctx, Declaration{Networks: []NetworkSpec{netSpec("new", "10.4.0.0/28"), netSpec("new6", "fd00:5::/64")},
			Endpoints: []EndpointDeclaration{
				{Sandbox: "web", EndpointSpec: EndpointSpec{Network: "new", Priority: 1}, Ports: ports("8082:82")},
				{Sandbox: "netns:" + givenNS.Path, EndpointSpec: EndpointSpec{Network: "new"}}}})
		return err
	}},
}

// eachScenario runs check in a subtest for each, with the summaries of intent
// before and after.
func eachScenario(t *testing.T, check func(t *testing.T, s scenario, before, after string, groups []group)) {
	for _, s := range slices.Concat(scenarios, parentScenarios, ovsScenarios, laneScenarios, defaultScenarios) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s.setup(r)
			r.check()
			before := r.summary()
			r.proc.groups = nil
			r.ok(s.act(r))
			groups := r.proc.groups
			r.check()
			check(t, s, before, r.summary(), groups)
		})
	}
}

// TestEveryRefusalLeavesNoTrace lets the kernel refuse each op of each change,
// once. An addition that is refused leaves everything as it was; a removal is
// left to the next pass.
func TestEveryRefusalLeavesNoTrace(t *testing.T) {
	eachScenario(t, func(t *testing.T, s scenario, _, after string, groups []group) {
		var r *rig
		for i := 0; ; i++ {
			if r == nil {
				r = newRig(t)
				s.setup(r)
			}
			before, refused := r.all(), kstate.Op{}
			r.proc.refuseAt(func(n int, op kstate.Op) bool {
				if n == i {
					refused = op
				}
				return n == i
			})
			err := s.act(r)
			r.proc.refuseAt(nil)
			switch {
			case refused == (kstate.Op{}) && err == nil:
				if i < len(groups) {
					t.Fatalf("%d ops were seen, in %d groups", i, len(groups))
				}
				return // all ops have been refused once
			case err != nil && (!errors.Is(err, errRefused) || model.KindOf(err) != model.Internal):
				t.Fatalf("%s refused: %v", refused, err)
			case err != nil:
				r.same(fmt.Sprintf("with %s refused, the world", refused), lines(r.all()), lines(before))
			case refused.New != nil:
				t.Errorf("%s refused: no error", refused)
			default:
				if _, err := r.e.Sync(r.ctx, "test"); err != nil {
					t.Error(err)
				}
				r.same("intent", lines(r.summary()), lines(after))
			}
			r.check()
			if err == nil {
				r = nil
			}
			if t.Failed() {
				t.Fatalf("%s refused", refused)
			}
		}
	})
}

// TestRefusedWhileUndoing lets the kernel refuse an op and all that follow it:
// the next pass puts everything in order.
func TestRefusedWhileUndoing(t *testing.T) {
	eachScenario(t, func(t *testing.T, s scenario, before, after string, groups []group) {
		for i := range len(groups) {
			r := newRig(t)
			s.setup(r)
			from := len(r.proc.groups)
			r.proc.refuseAt(func(int, kstate.Op) bool { return len(r.proc.groups)-from >= i })
			err := s.act(r)
			r.proc.refuseAt(nil)
			must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
			want := before
			if err == nil {
				want = after
			}
			r.same("intent", lines(r.summary()), lines(want))
			r.check()
			if t.Failed() {
				t.Fatalf("from group %d on: %v", i, err)
			}
		}
	})
}

// TestFullDisk lets the store refuse a change, and then also the taking back.
func TestFullDisk(t *testing.T) {
	full := errors.New("no space left on device")
	eachScenario(t, func(t *testing.T, s scenario, _, after string, _ []group) {
		r := newRig(t)
		s.setup(r)
		before := r.all()
		r.proc.commits(func(int) error { return full })
		if err := s.act(r); !errors.Is(err, full) || model.KindOf(err) != model.Internal {
			t.Fatalf("with a full disk: %v", err)
		}
		r.same("the world", lines(r.all()), lines(before))
		r.check()

		// The store takes the change, the kernel does not, and then the store
		// will not take it back.
		first := -1
		r.proc.commits(func(n int) error {
			if first < 0 {
				first = n
			}
			if n > first {
				return full
			}
			return nil
		})
		r.proc.refuseAt(func(_ int, op kstate.Op) bool { return op.New != nil })
		if err := s.act(r); err != nil {
			r.proc.refuseAt(nil)
			if err := s.act(r); !errors.Is(err, full) {
				t.Errorf("while the store owes: %v", err)
			}
			r.proc.commits(nil)
			must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
			r.same("the world", lines(r.all()), lines(before))
			r.check()
			r.ok(s.act(r))
		}
		r.same("intent", lines(r.summary()), lines(after))
	})
}
