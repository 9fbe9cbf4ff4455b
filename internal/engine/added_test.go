package engine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// named gives Docker's sandbox at an endpoint the names of a container.
func (r *rig) named(endpoint model.ID, name string) error {
	id := r.inn.rooms["docker:"+name].guest.ID
	return r.e.NameSandbox(r.ctx, r.e.ByEndpoint(endpoint).ID, ContainerNames{ID: id, Name: name, Hostname: "host"})
}

// addedBase is a container of Docker's with a port of Docker's, and one of a user's.
func addedBase(r *rig) {
	dockersNetwork(r)
	r.inn.run("docker:web")
	r.ok(join(r, "d1", "10.6.0.2", "ab0000000001", dockerNet))
	r.ok(r.named("ab0000000001", "web"))
	r.ok(r.e.Carry(r.ctx, r.by("web").ID, ports("8001:80")))
	must[[]model.PortMapping](r)(r.e.Publish(r.ctx, "web", ports("8009:80", "81")))
	r.equal("ports", r.by("web").Ports, "[8001:80/tcp 8009:80/tcp 20000:81/tcp]")
}

// TestAdded: ports that a user published of a container of Docker's are there whenever
// Docker has it on a network, until it is removed.
func TestAdded(t *testing.T) {
	r := newRig(t)
	addedBase(r)
	for _, restart := range []bool{false, true} {
		r.inn.stop("docker:web")
		r.ok(r.e.Part(r.ctx, "ab0000000001"))
		if restart {
			r.restart()
		}
		r.settles("web", "away docker: web is stopped")
		r.equal("kept", r.by("docker:web").Ports, "[8009:80/tcp 20000:81/tcp]")
		r.inn.rename("docker:web", "front")
		r.inn.hint("docker:web")
		r.settles("front", "away")
		r.inn.rename("docker:front", "web")
		r.inn.hint("docker:front")
		r.settles("web", "away")

		r.ok(join(r, "d2", "10.6.0.2", "ab0000000001", dockerNet))
		r.inn.start("docker:web")
		r.inn.hint("docker:web")
		r.settles("web", "running")
		r.ok(r.named("ab0000000001", "web"))
		r.equal("regained", r.e.ByEndpoint("ab0000000001").Name+" ", "web ")
		r.equal("ports", r.by("web").Ports, "[8009:80/tcp 20000:81/tcp]")
		if len(r.e.Sandboxes()) != 1 {
			t.Errorf("there is %v", r.e.Sandboxes())
		}
		r.check()
	}
	r.inn.remove("docker:web")
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	eventually(t, "removed", func() bool { return len(r.e.Sandboxes()) == 0 })
	r.ok(join(r, "d3", "10.6.0.2", "ab0000000001", dockerNet))
	r.inn.run("docker:web")
	r.ok(r.named("ab0000000001", "web"))
	r.equal("another of that name", len(r.by("web").Ports), "0")
	r.check()
}

// TestAddedTaken: a port that somebody else has meanwhile keeps nobody from his name, and
// is regained once it is free; it can be taken back while the container is stopped.
func TestAddedTaken(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	addedBase(r)
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	r.sandbox("thief", SandboxSpec{Networks: on("app"), Ports: ports("8009:80")})
	r.ok(r.e.Unpublish(r.ctx, "web", ports("81")))
	r.ok(join(r, "d2", "10.6.0.2", "ab0000000001", dockerNet))
	if err := r.named("ab0000000001", "web"); err == nil || !strings.Contains(err.Error(), "port 8009/tcp: published by thief") {
		t.Errorf("taken: %v", err)
	}
	r.equal("ports", len(r.e.ByEndpoint("ab0000000001").Ports), "0")
	r.equal("name", r.e.ByEndpoint("ab0000000001").Name, "docker-web")
	r.check()
	r.ok(r.e.RemoveSandbox(r.ctx, "thief", true))
	r.ok(r.named("ab0000000001", "web"))
	r.equal("ports", r.e.ByEndpoint("ab0000000001").Ports, "[8009:80/tcp]")
	r.equal("name", r.by("web").Name, "web")
	r.check()
}

// TestAddedBeside: a guest that has a network of its own keeps those ports apart from its
// own.
func TestAddedBeside(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	addedBase(r)
	must3(r)(r.e.Connect(r.ctx, "docker:web", EndpointSpec{Network: "app", IfName: "lan0"}, ports("8002:80")))
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	r.equal("kept", r.by("docker:web").Ports, "[8002:80/tcp 8009:80/tcp 20000:81/tcp]")
	if _, ok := r.e.Target("tcp", netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort("127.0.0.1:8009")); ok {
		t.Error("port 8009 leads there by the guest's own network")
	}
	r.check()
	r.ok(join(r, "d2", "10.6.0.2", "ab0000000001", dockerNet))
	r.ok(r.named("ab0000000001", "web"))
	r.equal("ports", r.e.ByEndpoint("ab0000000001").Ports, "[8009:80/tcp 20000:81/tcp]")
	r.equal("guest's", r.by("docker:web").Ports, "[8002:80/tcp]")
	r.check()
}
