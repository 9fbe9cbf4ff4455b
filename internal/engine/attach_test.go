package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// attach puts a container of a runtime, whose namespace is the given one, on a network.
func attach(r *rig, container, network string, published ...string) error {
	_, _, err := r.e.Attach(r.ctx, Attachment{Container: container, NetNS: givenNS.Path, EndpointSpec: EndpointSpec{Network: network}, Ports: ports(published...)})
	return err
}

func TestAttach(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	r.network("back", "10.2.0.0/24")
	r.ok(attach(r, "c1", "app", "8080:80"))
	r.ok(attach(r, "c1", "back", "8080:80", "8081:81")) // runtimes ask again for what is there
	r.check()
	sb := must[*model.Sandbox](r)(r.e.Sandbox("cni:c1"))
	r.equal("sandbox", fmt.Sprint(sb.Name, " ", sb.Mode, " ", sb.Origin, " ", sb.Endpoints[0].Container, sb.Endpoints[1].Container), "c1 other cni c1c1")
	r.equal("ports", sb.Ports, "[8080:80/tcp 8081:81/tcp]")
	r.restart()
	r.check()
	r.equal("by name", must[*model.Sandbox](r)(r.e.Sandbox("c1")).ID, string(sb.ID))

	for what, err := range map[string]error{
		"interface eth0: exists in the sandbox": func() error {
			_, _, err := r.e.Attach(r.ctx, Attachment{Container: "c1", NetNS: givenNS.Path, EndpointSpec: EndpointSpec{Network: "app", IfName: "eth0"}})
			return err
		}(),
		"network app: connect c1: is connected already": func() error {
			_, _, err := r.e.Connect(r.ctx, "c1", EndpointSpec{Network: "app"}, nil)
			return err
		}(),
		"not a network namespace": func() error {
			_, _, err := r.e.Attach(r.ctx, Attachment{Container: "c1", NetNS: "/run/netns/none", EndpointSpec: EndpointSpec{Network: "app"}})
			return err
		}(),
		"no such network":                     attach(r, "c1", "nowhere"),
		"no such endpoint":                    r.e.Detach(r.ctx, "c2", "app", ""),
		"detach c1: no such endpoint":         r.e.Detach(r.ctx, "c1", "app", "eth7"),
		"nowhere: detach c1: no such network": r.e.Detach(r.ctx, "c1", "nowhere", ""),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
	r.check()
	r.equal("refused, nothing changed", len(must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Endpoints), "2")

	r.ok(r.e.Detach(r.ctx, "c1", "app", "eth0"))
	r.equal("both came with the other too", must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Ports, "[8080:80/tcp 8081:81/tcp]")
	r.ok(attach(r, "c1", "app", "8080:80"))
	r.check()
	r.ok(r.e.Detach(r.ctx, "c1", "back", ""))
	r.equal("one goes", must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Ports, "[8080:80/tcp]")
	r.check()
	r.restart()
	r.ok(attach(r, "c1", "back", "8081:81"))
	r.ok(r.e.Detach(r.ctx, "c1", "app", ""))
	r.equal("its port goes", must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Ports, "[8081:81/tcp]")
	r.check()
	r.ok(r.e.Detach(r.ctx, "c1", "back", ""))
	r.equal("the last one", len(r.e.Sandboxes()), "0")
	r.check()
}

// TestAttachWhereSomebodyIs: a user has put the namespace on a network already.
func TestAttachWhereSomebodyIs(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	r.network("back", "10.2.0.0/24")
	user, _, err := r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: "back"}, ports("9090:90"))
	r.ok(err)
	_, _, err = r.e.Attach(r.ctx, Attachment{Container: "c1", NetNS: givenNS.Path, Resolver: true, EndpointSpec: EndpointSpec{Network: "app"}, Ports: ports("8080:80")})
	r.ok(err)
	r.check()
	sb := must[*model.Sandbox](r)(r.e.Sandbox("cni:c1"))
	r.equal("its resolver", sb.Resolver, "true")
	r.equal("the same sandbox", sb.ID, string(user.ID))
	r.ok(r.e.Detach(r.ctx, "c1", "app", ""))
	r.check()
	left := must[*model.Sandbox](r)(r.e.Sandbox("netns:" + givenNS.Path))
	r.equal("no resolver", left.Resolver, "false")
	r.equal("what is the user's stays", fmt.Sprint(len(left.Endpoints), left.Ports), "1 [9090:90/tcp]")

	r.ok(r.e.RemoveSandbox(r.ctx, "netns:"+givenNS.Path, false))
	r.ok(attach(r, "c1", "app"))
	_, _, err = r.e.Connect(r.ctx, "c1", EndpointSpec{Network: "back"}, nil)
	r.ok(err)
	r.ok(r.e.Detach(r.ctx, "c1", "app", ""))
	r.equal("what came by a runtime goes with its endpoints", len(r.e.Sandboxes()), "0")
	r.check()
}

// TestAttachAnotherNamespace: the runtime has made the container anew, and nobody
// told us about the end of the old one.
func TestAttachAnotherNamespace(t *testing.T) {
	for _, end := range []string{"unnoticed", "noticed"} {
		t.Run(end, func(t *testing.T) {
			r := newRig(t)
			r.network("app", "10.1.0.0/24")
			r.network("back", "10.2.0.0/24")
			r.ok(attach(r, "c1", "app", "8080:80"))
			r.ok(attach(r, "c1", "back"))
			r.k.Remove(kstate.NetNS{NS: givenNS}.Key())
			if end == "noticed" {
				must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
				r.equal("state", r.e.SandboxStatus(must[*model.Sandbox](r)(r.e.Sandbox("cni:c1"))).State, StateLost)
			}
			r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/new"}})
			sb, ep, err := r.e.Attach(r.ctx, Attachment{Container: "c1", NetNS: "/run/netns/new", Ports: ports("8080:80"),
				EndpointSpec: EndpointSpec{Network: "app", Addrs: at("10.1.0.2")}})
			r.ok(err)
			r.equal("the address again", ep.Addrs, "[10.1.0.2/24]")
			r.equal("all there is", fmt.Sprint(len(r.e.Sandboxes()), len(sb.Endpoints), sb.Ports), "1 1 [8080:80/tcp]")
			r.equal("as intended", len(r.left()), "0")
		})
	}
}

// TestAbandoned: a runtime does not take a container off whose namespace is gone.
// What it was asked for by somebody else stays.
func TestAbandoned(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	r.ok(attach(r, "c1", "app"))
	r.sandbox("web", SandboxSpec{Networks: on("app")})
	for _, sb := range r.e.Sandboxes() {
		r.k.Remove(kstate.NetNS{NS: compile.NS(sb)}.Key())
	}
	for _, left := range []string{"2", "2", "1"} {
		must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		r.equal("sandboxes", len(r.e.Sandboxes()), left)
		now := r.e.cfg.Now
		r.e.cfg.Now = func() time.Time { return now().Add(abandoned * 3 / 5) }
	}
	r.equal("left", r.e.Sandboxes()[0].Name, "web")
}

// drift is the ops that a sandbox needs.
func (r *rig) drift(ref string) []kstate.Op {
	r.Helper()
	return must[Drift](r)(r.e.Drift(r.ctx, ref)).Ops
}

func TestDrift(t *testing.T) {
	inTime(t, func(r *rig) {
		r.quiet = true
		r.begin()
		n := r.network("app", "10.1.0.0/24")
		r.ok(attach(r, "c1", "app"))
		other := r.sandbox("web", SandboxSpec{Networks: on("app")})
		r.equal("none", len(r.drift("cni:c1")), "0")
		mine := must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Endpoint(n.ID)
		r.k.Remove(kstate.Link{Name: other.Endpoints[0].Device()}.Key())
		r.equal("another's", len(r.drift("cni:c1")), "0")
		r.k.Remove(kstate.Link{Name: mine.Device()}.Key())
		ops := r.drift("cni:c1")
		if len(ops) == 0 || !strings.HasPrefix(ops[0].String(), "+ link "+mine.Device()) {
			t.Errorf("ops %v", ops)
		}
		must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		for what, key := range map[string]kstate.Key{
			"the bridge": kstate.Link{Name: n.Device()}.Key(), "its address": kstate.Addr{Dev: n.Device(), Prefix: netip.MustParsePrefix("10.1.0.1/24")}.Key(),
			"forwarding": kstate.Sysctl{Name: "net.ipv4.ip_forward"}.Key(),
		} {
			r.k.Remove(key)
			if ops := r.drift("cni:c1"); !slices.ContainsFunc(ops, func(op kstate.Op) bool { return op.Object().Key() == key }) {
				t.Errorf("without %s: ops %v", what, ops)
			}
			must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
			r.equal("mended", len(r.drift("cni:c1")), "0")
		}
		r.k.Foreign(theirTable, theirChain, theirForward)
		for range 2 { // a later plugin's firewall wants more of ours, which nobody has broken
			r.equal("beside a firewall", len(r.drift("cni:c1")), "0")
		}
		must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		r.k.Remove(kstate.Guest{Table: theirTable, Chain: theirChain.Name, Rule: "meta mark and 0x10000000 == 0x10000000 accept"}.Key())
		r.equal("without the exception", len(r.drift("cni:c1")), "1")
		must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		if _, err := r.e.Drift(r.ctx, "cni:c2"); model.KindOf(err) != model.NotFound {
			t.Errorf("unknown: %v", err)
		}
		r.k.Remove(kstate.NetNS{NS: givenNS}.Key())
		for _, when := range []string{"about to end", "ended"} {
			if _, err := r.e.Drift(r.ctx, "cni:c1"); model.KindOf(err) != model.Gone {
				t.Errorf("%s: %v", when, err)
			}
			must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		}
	})
}

// TestDriftIsMended: what nothing hints at does not wait for the regular pass once it was
// found.
func TestDriftIsMended(t *testing.T) {
	inTime(t, func(r *rig) {
		r.quiet = true
		r.begin()
		r.ok(attach(r, "c1", "bridge"))
		r.wait(10 * time.Second) // nothing of ours settles any more
		r.k.Remove(kstate.Sysctl{Name: "net.ipv4.ip_forward"}.Key())
		r.wait(time.Second)
		r.equal("found", len(r.drift("cni:c1")), "1")
		r.wait(time.Second)
		r.equal("mended", len(r.drift("cni:c1")), "0")
	})
}

// TestPodmansNames: a container that Podman renames is called so, unless a sandbox has
// that name; one that had no name, or that Podman does not know, stays as it is.
func TestPodmansNames(t *testing.T) {
	r := newRig(t)
	guests := r.inn
	r.network("app", "10.1.0.0/24")
	guests.run("podman:web")
	attach := func(container, name, netns string) {
		t.Helper()
		r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: netns}})
		_, _, err := r.e.Attach(r.ctx, Attachment{Container: container, Name: name, NetNS: netns, EndpointSpec: EndpointSpec{Network: "app"}})
		r.ok(err)
	}
	id := guests.rooms["podman:web"].guest.ID
	attach(id, "web", "/run/netns/later1")
	attach("c2", "db", "/run/netns/later2")
	attach("c3", "", "/run/netns/later3")
	r.sandbox("mine", SandboxSpec{})
	called := func(want string) {
		t.Helper()
		r.e.followNames()
		var names []string
		for _, sb := range r.e.Sandboxes() {
			names = append(names, sb.Name)
		}
		slices.Sort(names)
		r.equal("names", names, want)
	}
	called("[c3 db mine web]")
	guests.rename("podman:web", "site")
	called("[c3 db mine site]")
	r.restart()
	called("[c3 db mine site]")
	guests.rename("podman:site", "mine")
	called("[c3 cni-mine db mine]")
	guests.close(model.RuntimePodman, true)
	guests.rename("podman:mine", "front")
	called("[c3 cni-mine db mine]")
	guests.close(model.RuntimePodman, false)
	called("[c3 db front mine]")
	guests.remove("podman:front")
	called("[c3 db front mine]")
	r.ok(r.e.Detach(r.ctx, id, "app", ""))
	called("[c3 db mine]")
	r.check()
}
