package engine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// dockerNet is the ID of a network that Docker asked for.
const dockerNet = "d0c3e0000001"

var (
	dockerPool = netip.MustParsePrefix("10.6.0.0/28")
	dockerSpec = NetworkSpec{ID: dockerNet, Origin: model.OriginDocker, Name: "docker-" + dockerNet, NoIPv4: true, FromPools: true,
		Subnets: []model.Subnet{{Prefix: dockerPool, Gateway: netip.MustParseAddr("10.6.0.1")}}}
)

// pooled has Docker ask for a subnet, its gateway and a container's address.
func pooled(r *rig) {
	r.Helper()
	must[netip.Prefix](r)(r.e.RequestPool(r.ctx, model.Subnet{Prefix: dockerPool, Range: netip.MustParsePrefix("10.6.0.0/29")}))
	for _, want := range []string{"10.6.0.1", "10.6.0.2"} {
		if got := must[netip.Prefix](r)(r.e.RequestAddress(r.ctx, dockerPool, netip.Addr{})); got.Addr().String() != want {
			r.Fatalf("got %s, want %s", got, want)
		}
	}
}

func dockerBase(r *rig) {
	base(r)
	dockersNetwork(r)
}

func dockersNetwork(r *rig) {
	pooled(r)
	must[*model.Network](r)(r.e.CreateNetwork(r.ctx, dockerSpec))
}

func joinedBase(r *rig) {
	dockerBase(r)
	r.ok(join(r, "d1", "10.6.0.2", "ab0000000001", dockerNet))
	must[[]model.PortMapping](r)(r.e.Publish(r.ctx, "docker-ab0000000001", ports("8085:85")))
}

// join puts an endpoint with an address into a container of Docker's.
func join(r *rig, container, addr string, id model.ID, network string) error {
	spec := EndpointSpec{ID: id, Network: network, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
	if network == "dual" {
		spec.Addrs = append(spec.Addrs, netip.MustParseAddr("fd00:2::9"))
	}
	_, _, err := r.e.Join(r.ctx, "/run/docker/netns/"+container, model.OriginDocker, spec)
	return err
}

// announced names an endpoint with addresses, as Docker does before it joins.
func announced(r *rig, id model.ID, network string, addrs ...string) error {
	as := at(addrs...)
	return r.e.Expect(r.ctx, network, model.Waiting{ID: id, Addrs: as, MAC: model.MACFor(as[0])})
}

func announcedBase(r *rig) {
	base(r)
	r.ok(announced(r, "ab0000000001", "dual", "10.2.0.9", "fd00:2::9"))
}

// TestExpected: what an endpoint will have is its own, also after a restart,
// and whatever becomes of a try to join.
func TestExpected(t *testing.T) {
	r := newRig(t)
	announcedBase(r)
	refused := func(kind model.Kind, want string, err error) {
		t.Helper()
		if model.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	all := r.all()
	thief := func(network, addr string) error {
		_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "thief", Networks: []EndpointSpec{{Network: network, Addrs: at(addr)}}})
		return err
	}
	check := func() {
		t.Helper()
		refused(model.Conflict, "10.2.0.9: taken by endpoint ab0000000001", thief("dual", "10.2.0.9"))
		refused(model.Conflict, "is there already", announced(r, "ab0000000001", "dual", "10.2.0.10", "fd00:2::10"))
		refused(model.Conflict, "taken by endpoint ab0000000001", announced(r, "ab0000000002", "dual", "10.2.0.10", "fd00:2::9"))
		refused(model.Invalid, "outside subnet", announced(r, "ab0000000002", "dual", "10.9.0.10"))
		refused(model.Invalid, "one address of each family", announced(r, "ab0000000002", "dual", "10.2.0.10", "10.2.0.11"))
		r.check()
		if now := r.all(); now != all {
			t.Fatalf("refused, and there is\n%s\nwhere was\n%s", now, all)
		}
	}
	check()
	r.restart()
	check()
	r.proc.refuseAt(func(int, kstate.Op) bool { return true })
	if err := join(r, "d1", "10.2.0.9", "ab0000000001", "dual"); err == nil {
		t.Error("joined")
	}
	r.proc.refuseAt(nil)
	check()
	r.ok(join(r, "d1", "10.2.0.9", "ab0000000001", "dual"))
	refused(model.Conflict, "is there already", announced(r, "ab0000000001", "dual", "10.2.0.10", "fd00:2::10"))
	r.check()
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	r.ok(thief("dual", "10.2.0.9"))

	dockersNetwork(r)
	r.ok(announced(r, "ab0000000003", dockerNet, "10.6.0.2"))
	refused(model.Conflict, "10.6.0.2: taken by endpoint ab0000000003", announced(r, "ab0000000004", dockerNet, "10.6.0.2"))
	r.ok(r.e.Part(r.ctx, "ab0000000003"))
	r.check()
}

// TestLentAddresses: what Docker holds is nobody else's, also after a restart,
// and free again, after a rest, when Docker gives it back.
func TestLentAddresses(t *testing.T) {
	r := newRig(t)
	dockerBase(r)
	r.restart()
	refused := func(want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "thief", Networks: []EndpointSpec{{Network: dockerNet, Addrs: at("10.6.0.2")}}})
	refused("taken by a container engine", err)
	_, err = r.e.RequestAddress(r.ctx, dockerPool, netip.MustParseAddr("10.6.0.2"))
	refused("taken by a container engine", err)
	r.ok(join(r, "d1", "10.6.0.2", "ab0000000001", dockerNet))
	refused("taken by sandbox docker-ab0000000001", join(r, "d2", "10.6.0.2", "ab0000000003", dockerNet))
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	_, err = r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "thief", Networks: []EndpointSpec{{Network: dockerNet, Addrs: at("10.6.0.2")}}})
	refused("taken by a container engine", err)
	r.ok(r.e.ReleaseAddress(r.ctx, dockerPool, netip.MustParseAddr("10.6.0.2")))
	r.ok(r.e.ReleaseAddress(r.ctx, dockerPool, netip.MustParseAddr("10.6.0.2")))
	r.sandbox("heir", SandboxSpec{Networks: []EndpointSpec{{Network: dockerNet, Addrs: at("10.6.0.2")}}})
	r.check()
}

// TestPools: a subnet without a network is in nobody's way but those who want
// it, and goes when Docker gives it back.
func TestPools(t *testing.T) {
	r := newRig(t)
	pooled(r)
	r.check()
	r.restart()
	if _, err := r.e.CreateNetwork(r.ctx, netSpec("app", "10.6.0.0/24")); err == nil {
		t.Error("a network on a subnet of Docker's was made")
	}
	if _, _, err := r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: r.e.Networks()[1].Name}, nil); err == nil {
		t.Error("connected to a pool")
	}
	other := must[netip.Prefix](r)(r.e.RequestPool(r.ctx, model.Subnet{Prefix: anySubnet(false)}))
	if other.Overlaps(dockerPool) {
		t.Errorf("%s is given twice", other)
	}
	for _, p := range []netip.Prefix{dockerPool, other, other} {
		r.ok(r.e.ReleasePool(r.ctx, p))
	}
	r.network("app", "10.6.0.0/24")
	r.check()
}

// TestFarEnd: where Docker gives out the addresses of a network, from the first,
// ours come from the last; and not from its range, once that is known.
func TestFarEnd(t *testing.T) {
	r := newRig(t)
	r.ok(errOf(r.e.CreateNetwork(r.ctx, dockerSpec)))
	given := func(name, want string) {
		t.Helper()
		if got := r.sandbox(name, SandboxSpec{Networks: on(dockerNet)}).Endpoints[0].Addrs[0].Addr().String(); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	given("one", "10.6.0.14")
	r.restart()
	r.ok(announced(r, "ab0000000001", dockerNet, "10.6.0.13"))
	given("two", "10.6.0.12")
	part := []netip.Prefix{netip.MustParsePrefix("10.99.0.0/30"), netip.MustParsePrefix("10.6.0.8/29")}
	r.ok(r.e.Yield(r.ctx, dockerNet, part))
	before := r.all()
	r.proc.commits(func(int) error { return errRefused })
	r.ok(r.e.Yield(r.ctx, dockerNet, part)) // changes nothing
	if err := r.e.Yield(r.ctx, dockerNet, nil); err == nil {
		t.Error("a refused change succeeded")
	}
	r.proc.commits(nil)
	if now := r.all(); now != before {
		t.Errorf("refused, and there is\n%s\nwhere was\n%s", now, before)
	}
	given("three", "10.6.0.7")
	r.restart()
	given("four", "10.6.0.6")
	r.ok(r.e.Yield(r.ctx, dockerNet, nil))
	given("five", "10.6.0.11")
	r.check()

	pooled := must[netip.Prefix](r)(r.e.RequestPool(r.ctx, model.Subnet{Prefix: netip.MustParsePrefix("10.7.0.0/28")}))
	n := must[*model.Network](r)(r.e.CreateNetwork(r.ctx, NetworkSpec{ID: "d0c3e0000002", Origin: model.OriginDocker, Name: "ours", NoIPv4: true, FromPools: true, Subnets: []model.Subnet{{Prefix: pooled}}}))
	r.ok(r.e.Yield(r.ctx, n.ID, []netip.Prefix{netip.MustParsePrefix("10.7.0.8/29")}))
	if sb := r.sandbox("six", SandboxSpec{Networks: on("ours")}); sb.Endpoints[0].Addrs[0].Addr().String() != "10.7.0.2" {
		t.Errorf("where the addresses are ours to give, one has %v", sb.Endpoints[0].Addrs)
	}
	r.check()
}

// TestGivenBackEarly: an address that Docker gives back is nobody else's as long as an
// endpoint has it.
func TestGivenBackEarly(t *testing.T) {
	for _, c := range []struct {
		name string
		take func(r *rig) error
	}{
		{"waits", func(r *rig) error { return announced(r, "ab0000000001", dockerNet, "10.6.0.2") }},
		{"joined", func(r *rig) error { return join(r, "d1", "10.6.0.2", "ab0000000001", dockerNet) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			dockerBase(r)
			r.ok(c.take(r))
			r.ok(r.e.ReleaseAddress(r.ctx, dockerPool, netip.MustParseAddr("10.6.0.2")))
			thief := run(SandboxSpec{Name: "thief", Networks: []EndpointSpec{{Network: dockerNet, Addrs: at("10.6.0.2")}}})
			for range 2 {
				r.refused(thief(r), model.Conflict, "10.6.0.2: taken by")
				r.check()
				r.restart()
			}
			r.ok(r.e.Part(r.ctx, "ab0000000001"))
			r.ok(thief(r))
			r.check()
		})
	}
}

func errOf[T any](_ T, err error) error { return err }

// TestNamesOfDocker: a container and a network get the names they have there, or
// if those are taken, with docker- in front; ports stay theirs under any name.
func TestNamesOfDocker(t *testing.T) {
	r := newRig(t)
	joinedBase(r)
	sb := r.e.ByEndpoint("ab0000000001")
	r.ok(r.e.NameSandbox(r.ctx, sb.ID, ContainerNames{Name: "web", Hostname: "host", Aliases: map[model.ID][]string{"ab0000000001": {"www"}}}))
	r.ok(r.e.NameNetwork(r.ctx, dockerNet, "the front", model.OriginDocker))
	r.ok(r.e.NameNetwork(r.ctx, dockerNet, "front", model.OriginDocker))
	r.ok(r.e.NameNetwork(r.ctx, dockerNet, "front", model.OriginDocker))
	got := r.e.ByEndpoint("ab0000000001")
	if got.Name != "docker-web" || got.Hostname != "host" || got.Endpoints[0].Aliases[0] != "www" {
		t.Errorf("got %+v", got)
	}
	if n, err := r.e.Network("front"); err != nil || n.ID != dockerNet {
		t.Errorf("network: %v, %v", n, err)
	}
	to, ok := r.e.Target("tcp", netip.MustParseAddr("::1"), netip.MustParseAddrPort("[::1]:8085"))
	if !ok || to != netip.MustParseAddrPort("10.6.0.2:85") {
		t.Errorf("port 8085 leads to %s, %v", to, ok)
	}
	_, err := r.e.Publish(r.ctx, "web", ports("8085:86"))
	if err == nil || !strings.Contains(err.Error(), "published by docker-web") {
		t.Errorf("taken port: %v", err)
	}
	r.check()
}

// TestDockersIsDockersToRemove, but for force.
func TestDockersIsDockersToRemove(t *testing.T) {
	r := newRig(t)
	joinedBase(r)
	for what, err := range map[string]error{
		"network": r.e.RemoveNetwork(r.ctx, dockerNet),
		"sandbox": r.e.RemoveSandbox(r.ctx, "docker-ab0000000001", false),
	} {
		if model.KindOf(err) != model.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	if gone := must[[]string](r)(r.e.PruneNetworks(r.ctx, nil)); len(gone) == 0 || strings.Contains(strings.Join(gone, " "), "docker") {
		t.Errorf("pruned %v", gone)
	}
	r.check()
}
