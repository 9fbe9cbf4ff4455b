package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// connected connects containers to a network and returns the first's sandbox.
func (r *rig) connected(network string, refs ...string) *model.Sandbox {
	r.Helper()
	for _, ref := range refs {
		must3(r)(r.e.Connect(r.ctx, ref, EndpointSpec{Network: network}, nil))
	}
	return r.by(refs[0])
}

// by is the sandbox of a reference.
func (r *rig) by(ref string) *model.Sandbox {
	r.Helper()
	return must[*model.Sandbox](r)(r.e.Sandbox(ref))
}

// place says where a guest is: running, away or degraded, and why.
func (r *rig) place(ref string) string {
	r.Helper()
	sb, err := r.e.Sandbox(ref)
	if err != nil {
		return err.Error()
	}
	st := r.e.SandboxStatus(sb)
	return strings.TrimSpace(st.State + " " + st.Message)
}

// settles waits until a guest is so, and everything as intended.
func (r *rig) settles(ref, place string) {
	r.Helper()
	got := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if got = r.place(ref); strings.Contains(got, place) {
			r.check()
			return
		}
	}
	r.Fatalf("%s: %s, want %s", ref, got, place)
}

func TestGuestFollowsItsContainer(t *testing.T) {
	for _, runtime := range []string{"docker", "podman", "lxc", "machine"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.network("app", "10.1.0.0/28", "fd01::/64")
			ref := runtime + ":web"
			r.inn.run(ref)
			sb, ep, err := r.e.Connect(r.ctx, ref, EndpointSpec{Network: "app"}, ports("8080:80"))
			r.ok(err)
			r.equal("name", sb.Name, "web")
			r.settles("web", "running")
			r.inn.stop(ref)
			r.inn.hint(ref)
			r.settles(ref, fmt.Sprintf("away %s: web is stopped", runtime))
			if strings.Contains(r.k.Dump(), ep.Device()) {
				t.Error("the link is there")
			}
			r.inn.start(ref)
			r.inn.hint(ref)
			r.settles(ref, "running")
			now := r.by("web")
			r.equal("the same", fmt.Sprint(now.ID, now.Endpoints, now.Ports), fmt.Sprint(sb.ID, sb.Endpoints, sb.Ports))
			if now.NetNS == sb.NetNS {
				t.Error("in the old namespace")
			}
			r.inn.restart(ref) // one hint for both, or none for the first
			r.inn.hint(ref)
			eventually(t, "seated again", func() bool { return r.by(ref).NetNS != now.NetNS && !r.by(ref).Away() })
			r.check()
			r.inn.remove(ref)
			r.inn.hint(ref)
			r.settles(ref, "no such sandbox")
			r.equal("left", len(r.e.Sandboxes()), "0")
			if _, ok := r.e.Target("tcp", hostAddrs[0], mustAddrPort("192.0.2.1:8080")); ok {
				t.Error("its port is there")
			}
		})
	}
}

// TestGuestIsAnother: a container of the same name that is made anew is another
// one, unless it is awaited.
func TestGuestIsAnother(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web", "docker:db")
	was := r.connected("app", "docker:web")
	_, _, err := r.e.Connect(r.ctx, "docker:db", EndpointSpec{Network: "app", Await: true}, nil)
	r.ok(err)
	db := r.by("docker:db")
	for _, ref := range []string{"docker:web", "docker:db"} {
		r.inn.remove(ref)
		r.inn.run(ref)
		r.inn.hint(ref)
	}
	r.settles("docker:web", "no such sandbox")
	eventually(t, "the next one is in", func() bool {
		return strings.HasPrefix(r.place("docker:db"), "running") && r.by("docker:db").NetNS != db.NetNS
	})
	r.equal("the same sandbox", r.by("db").ID, string(db.ID))
	r.check()

	r.inn.remove("docker:db")
	r.inn.hint("docker:db")
	r.settles("db", "away docker: db does not exist yet")

	// Connected anew before the hint is heard of.
	again := r.connected("app", "docker:web")
	r.inn.remove("docker:web")
	r.inn.run("docker:web")
	third := r.connected("app", "docker:web")
	r.equal("another", again.ID == third.ID || was.ID == again.ID, "false")
	r.equal("its name", third.Name, "web")
	r.equal("all there are", len(r.e.Sandboxes()), "2")
	r.check()
}

func TestGuestAwaited(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	for _, ref := range []string{"docker:web", "web"} {
		_, _, err := r.e.Connect(r.ctx, ref, EndpointSpec{Network: "app"}, nil)
		if model.KindOf(err) != model.NotFound || !strings.Contains(err.Error(), "no such container") {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{"pid:7", `docker:"web"`, "docker:/web", "podman:a b", "podman:-x"} {
		if _, _, err := r.e.Connect(r.ctx, ref, EndpointSpec{Network: "app", Await: true}, nil); model.KindOf(err) != model.Invalid {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, _, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "app", Await: true}, nil); model.KindOf(err) != model.Invalid || !strings.Contains(err.Error(), "docker:web") {
		t.Error(err)
	}
	r.inn.close(model.RuntimePodman, true)
	for ref, ifname := range map[string]string{"docker:web": "eth100", "netns:/run/netns/later": "eth1", "podman:db": "eth100", "lxc:mine": "eth1"} {
		_, ep, err := r.e.Connect(r.ctx, ref, EndpointSpec{Network: "app", Await: true}, nil)
		r.ok(err)
		r.equal("interface", ep.IfName, ifname)
	}
	r.check()
	r.settles("web", "away docker: web does not")
	r.restart()
	r.inn.close(model.RuntimePodman, false)
	r.inn.run("docker:web", "podman:db")
	r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/later"}})
	r.inn.hint("docker:web", "podman:db", "netns:/run/netns/later")
	for _, ref := range []string{"web", "db", "later"} {
		r.settles(ref, "running")
	}
	r.ok(r.e.RemoveSandbox(r.ctx, "docker:web", false))
	r.check()
}

// TestGuestByApply: what a file declares of a runtime's containers is awaited.
func TestGuestByApply(t *testing.T) {
	r := newRig(t)
	decl := Declaration{Networks: []NetworkSpec{netSpec("app", "10.1.0.0/28")}, Endpoints: []EndpointDeclaration{
		{Sandbox: "docker:web", EndpointSpec: EndpointSpec{Network: "app", Addrs: at("10.1.0.9")}, Ports: ports("8080:80")}}}
	must[[]kstate.Op](r)(r.e.Apply(r.ctx, decl))
	r.settles("web", "away")
	r.inn.run("docker:web")
	if ops := must[[]kstate.Op](r)(r.e.Apply(r.ctx, decl)); len(ops) == 0 {
		t.Error("the second time it is there, and nothing was done")
	}
	r.settles("web", "running")
	if ops := must[[]kstate.Op](r)(r.e.Apply(r.ctx, decl)); len(ops) > 0 {
		t.Errorf("applied again: %v", ops)
	}
	r.inn.run("docker:db")
	id := r.inn.rooms["docker:db"].guest.ID
	decl.Endpoints = []EndpointDeclaration{{Sandbox: "docker:" + id[:10], EndpointSpec: EndpointSpec{Network: "app"}}}
	must[[]kstate.Op](r)(r.e.Apply(r.ctx, decl))
	r.settles(id[:10], "away docker: "+id[:10]+" does not exist yet") // and is not the one whose ID begins so by chance
	r.inn.run("docker:" + id[:10])
	r.inn.hint("docker:" + id[:10])
	r.settles(id[:10], "running")
	r.equal("container", r.by(id[:10]).Guest.ID, r.inn.rooms["docker:"+id[:10]].guest.ID)
}

func TestGuestReferences(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.network("back", "10.2.0.0/28")
	r.inn.run("docker:web", "podman:web", "podman:db", "lxc:mine")
	r.sandbox("mine", SandboxSpec{})
	_, _, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "app"}, nil)
	if model.KindOf(err) != model.Conflict || !strings.Contains(err.Error(), "web means docker:web and podman:web") {
		t.Errorf("two: %v", err)
	}
	r.equal("a bare name", r.connected("app", "db").Guest, fmt.Sprint(r.inn.rooms["podman:db"].guest))
	r.equal("sandboxes first", fmt.Sprint(r.connected("app", "mine").Guest == nil), "true")
	r.connected("app", "podman:web", "docker:web", "lxc:mine")
	r.equal("names", r.by("podman:web").Name+" "+r.by("docker:web").Name+" "+r.by("lxc:mine").Name, "web docker-web lxc-mine")
	id := r.inn.rooms["docker:web"].guest.ID
	for _, ref := range []string{"docker:web", "docker-web", "docker:" + id, "docker:" + id[:60], string(r.by("docker:web").ID), "lxc:mine", "lxc-mine"} {
		r.connected("back", ref)
		must[[]model.PortMapping](r)(r.e.Publish(r.ctx, ref, ports("8085:85")))
		r.ok(r.e.Unpublish(r.ctx, ref, ports("8085:85")))
		r.ok(r.e.Disconnect(r.ctx, ref, "back"))
	}
	pid := fmt.Sprintf("pid:%d", r.inn.rooms["lxc:mine"].pid)
	if _, _, err := r.e.Connect(r.ctx, pid, EndpointSpec{Network: "app"}, nil); model.KindOf(err) != model.Conflict || !strings.Contains(err.Error(), "connected already") {
		t.Errorf("by its process: %v", err)
	}
	r.ok(r.e.RemoveSandbox(r.ctx, pid, false))
	r.check()
	if err := r.e.Disconnect(r.ctx, "lxc:mine", "app"); model.KindOf(err) != model.NotFound || !strings.Contains(err.Error(), "lxc:mine is on no network") {
		t.Error(err)
	}
	if err := r.e.Exited(r.ctx, "db", model.Exit{}); model.KindOf(err) != model.Invalid {
		t.Errorf("ended by somebody else: %v", err)
	}
	located := must[*model.Sandbox](r)(r.e.Locate(r.ctx, "lxc:mine"))
	r.equal("where it is", located.NetNS, r.inn.rooms["lxc:mine"].path())
	r.ok(r.e.Disconnect(r.ctx, "podman:db", "app"))
	if _, err := r.e.Sandbox("podman:db"); model.KindOf(err) != model.NotFound {
		t.Errorf("after the last endpoint: %v", err)
	}
}

// TestGuestRenamed: a container's new name is its sandbox's.
func TestGuestRenamed(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web")
	id := r.connected("app", "docker:web").ID
	r.inn.rename("docker:web", "front")
	r.inn.hint("docker:web")
	eventually(t, "the new name", func() bool { sb, err := r.e.Sandbox("front"); return err == nil && sb.ID == id })
	r.check()
	r.equal("by its new reference", r.by("docker:front").ID, string(id))
}

// TestGuestShares: a container in the host's namespace is refused, one in another's
// is that one; a sandbox may share a container's.
func TestGuestShares(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web", "docker:hosts", "docker:side")
	r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: hostNetNS, Inode: 7}}, kstate.NetNS{NS: kstate.NS{Path: r.inn.rooms["docker:hosts"].path(), Inode: 7}})
	inode := must[uint64](r)(r.inn.inode(r.ctx, r.inn.rooms["docker:web"].path()))
	r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: r.inn.rooms["docker:side"].path(), Inode: inode}})
	if _, _, err := r.e.Connect(r.ctx, "docker:hosts", EndpointSpec{Network: "app"}, nil); model.KindOf(err) != model.Invalid || !strings.Contains(err.Error(), "host's own") {
		t.Error(err)
	}
	web := r.connected("app", "docker:web")
	if _, _, err := r.e.Connect(r.ctx, "docker:side", EndpointSpec{Network: "app"}, nil); !strings.Contains(fmt.Sprint(err), "connected already") {
		t.Error(err)
	}
	one := r.sandbox("one", SandboxSpec{Mode: model.ModeShared, Donor: "docker:web"})
	r.equal("shares", one.Donor, string(web.ID))
	r.ok(r.e.Disconnect(r.ctx, "docker:web", "app"))
	r.equal("kept for who shares it", r.place("docker:web"), "running")
	r.ok(r.e.RemoveSandbox(r.ctx, "one", false))
	r.equal("left", len(r.e.Sandboxes()), "0")

	r.inn.run("docker:lone")
	r.sandbox("two", SandboxSpec{Mode: model.ModeShared, Donor: "lone"})
	r.check()
	r.ok(r.e.RemoveSandbox(r.ctx, "two", false))
	r.equal("left", len(r.e.Sandboxes()), "0")
	r.inn.stop("docker:lone")
	if _, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Mode: model.ModeShared, Donor: "docker:lone"}); model.KindOf(err) != model.Gone {
		t.Error(err)
	}
}

// unfollowed is what the difference says of guests.
func (r *rig) unfollowed() string {
	r.Helper()
	ops, more, err := r.e.Diff(r.ctx)
	r.ok(err)
	if len(ops) > 0 {
		r.Error(ops)
	}
	return strings.Join(more, "\n")
}

// TestGuestInTheWay: a container that comes with what is in the way of its
// connection is degraded, and hurts no other.
func TestGuestInTheWay(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:a", "docker:b", "docker:c")
	r.connected("app", "docker:a", "docker:b", "docker:c")
	for _, ref := range []string{"docker:a", "docker:b", "docker:c"} {
		r.inn.restart(ref)
	}
	ns := kstate.NS{Path: r.inn.rooms["docker:a"].path()}
	r.k.Foreign(kstate.Link{NS: ns, Name: "eth0", Up: true})
	ns.Path = r.inn.rooms["docker:b"].path()
	r.k.Foreign(kstate.Link{NS: ns, Name: "own", Up: true}, kstate.Addr{NS: ns, Dev: "own", Prefix: mustPrefix("10.1.0.9/28")})
	r.inn.hint("docker:a", "docker:b", "docker:c")
	r.settles("docker:a", "degraded docker:a: interface eth0: the container has one of its own")
	r.settles("docker:b", "degraded docker:b: subnet 10.1.0.0/28: overlaps 10.1.0.0/28 of device own")
	r.settles("docker:c", "running")
	r.equal("diff", r.unfollowed(), `! sandbox a: docker:a: interface eth0: the container has one of its own
! sandbox b: docker:b: subnet 10.1.0.0/28: overlaps 10.1.0.0/28 of device own in the sandbox`)
	r.k.Remove(kstate.Link{NS: kstate.NS{Path: r.inn.rooms["docker:a"].path()}, Name: "eth0"}.Key())
	r.inn.hint("docker:a")
	r.settles("docker:a", "running")
}

// TestGuestNumbers: an interface is not in the way of what its runtime will call the
// next one, which Docker and Podman do not look for.
func TestGuestNumbers(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.network("back", "10.2.0.0/28")
	r.network("own", "10.3.0.0/28", "ifname-prefix=own")
	for ref, want := range map[string]string{"docker:web": "eth100 eth101 own0", "podman:web": "eth100 eth101 own0", "lxc:web": "eth1 eth2 own0", "docker:none": "eth0 eth1 own0"} {
		r.inn.create(ref)
		own := kstate.Link{NS: kstate.NS{Path: r.inn.start(ref).path()}, Name: "eth0", Up: true}
		if ref != "docker:none" {
			r.k.Foreign(own)
		}
		r.connected("app", ref)
		r.connected("back", ref)
		sb := r.connected("own", ref)
		r.equal(ref, sb.Endpoints[0].IfName+" "+sb.Endpoints[1].IfName+" "+sb.Endpoints[2].IfName, want)
	}
}

// TestGuestPassesSeeIt: a pass that finds a namespace gone takes the guest away,
// and asks: no hint is needed.
func TestGuestPassesSeeIt(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web")
	was := r.connected("app", "docker:web")
	r.inn.restart("docker:web")
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	eventually(t, "back", func() bool { return !r.by("web").Away() && r.by("web").NetNS != was.NetNS })
	r.check()
}

// TestGuestRuntimeDown: a runtime that cannot be asked changes nothing.
func TestGuestRuntimeDown(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web", "docker:db")
	r.connected("app", "docker:web", "docker:db")
	r.inn.close(model.RuntimeDocker, true)
	before := r.summary()
	r.inn.hint("docker:web")
	r.restart()
	r.equal("after a restart", r.summary(), before)
	r.check()
	r.inn.stop("docker:web")
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	r.settles("web", "away docker: cannot be asked")
	r.equal("diff", r.unfollowed(), "! sandbox web: docker: cannot be asked: connection refused")
	r.ok(r.e.Disconnect(r.ctx, "docker:db", "app"))
	r.ok(r.e.RemoveSandbox(r.ctx, "docker:web", false))
	if _, _, err := r.e.Connect(r.ctx, "docker:web", EndpointSpec{Network: "app"}, nil); model.KindOf(err) != model.NotFound || !errors.Is(err, errClosed) {
		t.Error(err)
	}
	r.check()
}

// TestGuestAfterReboot: numbers of processes and namespaces mean others then.
func TestGuestAfterReboot(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web", "docker:db")
	web := r.connected("app", "docker:web", "docker:db")
	ns := compile.NS(web)
	r.inn.close(model.RuntimeDocker, true)
	r.die()
	r.reboot()
	r.k.Foreign(kstate.NetNS{NS: ns}) // somebody else's
	r.prepare()
	r.e.cfg.Boot = "another"
	r.ok(r.e.Start(r.ctx))
	r.check()
	r.equal("place", r.place("web"), "away docker: cannot be asked: connection refused")
	if dump := r.k.Dump(); strings.Contains(dump, web.Endpoints[0].Device()) {
		t.Errorf("somebody else got its link:\n%s", dump)
	}
}

// TestGuestPIDReused: a path that leads to another namespace by now is not used.
func TestGuestPIDReused(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web")
	ns := compile.NS(r.connected("app", "docker:web"))
	r.k.Remove(kstate.NetNS{NS: ns}.Key())
	r.inn.create("docker:web") // stopped
	ns.Inode++
	r.k.Foreign(kstate.NetNS{NS: ns})
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	if sb, err := r.e.Sandbox("docker:web"); err == nil && !sb.Away() {
		t.Errorf("it is in %s", sb.NetNS)
	}
	r.settles("docker:web", "no such sandbox") // the container of that name is another by now
}

// TestGuestDiesMeanwhile: its container ends between the question and the commit.
func TestGuestDiesMeanwhile(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:a", "docker:b")
	r.connected("app", "docker:a", "docker:b")
	r.inn.restart("docker:a")
	r.inn.restart("docker:b")
	first := true
	r.proc.refuseAt(func(int, kstate.Op) bool {
		if first {
			first = false
			r.k.Remove(kstate.NetNS{NS: kstate.NS{Path: r.inn.rooms["docker:a"].path()}}.Key())
		}
		return false
	})
	r.inn.hint("docker:a", "docker:b")
	eventually(t, "b is seated", func() bool { return r.by("docker:b").NetNS == r.inn.rooms["docker:b"].path() })
	eventually(t, "away", func() bool { return !strings.HasPrefix(r.place("docker:a"), "running") })
	r.proc.refuseAt(nil)
	r.check()
	r.inn.restart("docker:a")
	r.inn.hint("docker:a")
	r.settles("docker:a", "running")
}

// TestGuestEndedUnseen: what a process had that has ended is free for who asks for it,
// also before anybody has told of the end.
func TestGuestEndedUnseen(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	space := func(pid int) kstate.NetNS {
		return kstate.NetNS{NS: kstate.NS{Path: fmt.Sprintf("/proc/%d/ns/net", pid), Inode: uint64(100 + pid)}}
	}
	for pid := range 5 {
		r.k.Foreign(space(pid + 1))
	}
	want := EndpointSpec{Network: "app", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.9")}}
	must3(r)(r.e.Connect(r.ctx, "pid:1", want, nil))
	_, _, err := r.e.Connect(r.ctx, "pid:2", want, nil)
	r.equal("of one that runs", fmt.Sprint(model.KindOf(err)), "conflict")
	r.k.Remove(space(1).Key())
	must3(r)(r.e.Connect(r.ctx, "pid:2", want, nil))
	r.equal("sandboxes", len(r.e.Sandboxes()), "1")
	r.check()
	r.k.Foreign(space(1))
	r.ok(r.e.RemoveSandbox(r.ctx, "pid:2", false))
	must3(r)(r.e.Connect(r.ctx, "pid:1", want, nil))
	r.k.Remove(space(1).Key())
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test")) // which sees that it is gone, and asks about it soon
	must3(r)(r.e.Connect(r.ctx, "pid:2", want, nil))

	r.plug("pid:2", patched("br7", "192.168.7.1/24"))
	r.k.Remove(space(2).Key())
	r.plug("pid:3", patched("br7", "192.168.7.1/24"))
	r.equal("sandboxes", len(r.e.Sandboxes()), "1")
	r.check()

	must3(r)(r.e.Connect(r.ctx, "pid:3", want, nil))
	_, err = r.e.Publish(r.ctx, "pid:3", ports("8080:80"))
	r.ok(err)
	r.k.Remove(space(3).Key())
	r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{want}, Ports: ports("8080:80")})
	r.equal("sandboxes", len(r.e.Sandboxes()), "1")
	r.ok(r.e.RemoveSandbox(r.ctx, "web", true))
	must3(r)(r.e.Connect(r.ctx, "pid:4", want, nil))
	r.k.Remove(space(4).Key())
	must3(r)(r.e.Attach(r.ctx, Attachment{Container: "c1", NetNS: space(5).NS.Path, EndpointSpec: want}))
	r.check()
}

// TestGuestStorm restarts many containers at once, hinted at in any order, with
// the daemon dying in the middle of it.
func TestGuestStorm(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			const n = 12
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t)
			r.network("app", "10.1.0.0/27", "fd01::/64")
			var refs []string
			for i := range n {
				refs = append(refs, fmt.Sprintf("docker:c%d", i))
				r.inn.run(refs[i])
				_, _, err := r.e.Connect(r.ctx, refs[i], EndpointSpec{Network: "app"}, ports(fmt.Sprintf("%d:80", 8000+i)))
				r.ok(err)
			}
			addrs := r.k.Dump()
			for range 8 {
				for _, i := range rnd.Perm(n) {
					if rnd.IntN(3) == 0 {
						continue
					}
					r.inn.restart(refs[i])
					r.inn.hint(refs[i])
				}
				if rnd.IntN(2) == 0 {
					r.k.Cut(rnd.IntN(30))
					for _, i := range rnd.Perm(n)[:4] {
						r.inn.restart(refs[i])
						r.inn.hint(refs[i])
					}
					time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
					r.restart()
				}
				for _, ref := range refs {
					eventually(t, ref+" is where it runs", func() bool {
						return r.by(ref).NetNS == r.inn.rooms[ref].path() && strings.HasPrefix(r.place(ref), "running")
					})
				}
				must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
				r.check()
				if t.Failed() {
					t.FailNow()
				}
			}
			r.equal("addresses", strings.Count(r.k.Dump(), "/27"), fmt.Sprint(strings.Count(addrs, "/27")))
		})
	}
}

// TestGuestCutAnywhere lets the daemon die at every step of following a restart.
func TestGuestCutAnywhere(t *testing.T) {
	for i := 0; ; i++ {
		r := newRig(t)
		r.network("app", "10.1.0.0/28")
		r.inn.run("docker:a", "docker:b")
		r.connected("app", "docker:a", "docker:b")
		r.inn.restart("docker:a")
		r.inn.remove("docker:b")
		r.k.Cut(i)
		var all []model.ID
		for _, sb := range r.e.sandboxes() {
			all = append(all, sb.ID)
		}
		r.e.place(r.ctx, r.e.askEach(r.ctx, r.e.guests.desks[model.RuntimeDocker], all))
		died := r.k.Apply(r.ctx, nil) == fake.ErrDead
		r.restart()
		r.equal(fmt.Sprintf("cut at %d: a", i), r.place("docker:a"), "running")
		r.equal("b is gone", r.place("docker:b"), "sandbox docker:b: find: no such sandbox (sealane ps -a shows those there are)")
		r.check()
		r.e.Close()
		if t.Failed() {
			t.FailNow()
		}
		if !died {
			if i < 5 {
				t.Fatalf("only %d steps", i)
			}
			return
		}
	}
}

// TestGuestAndDockersSandbox: for a container on a network of Docker's that is
// ours, the guest is another sandbox, and one thing with Docker's to its user.
func TestGuestAndDockersSandbox(t *testing.T) {
	r := newRig(t)
	dockerBase(r)
	r.network("mine", "10.7.0.0/28")
	r.inn.run("docker:front")
	path := r.inn.rooms["docker:front"].path()
	key := "/run/docker/netns/abc"
	inode := must[uint64](r)(r.inn.inode(r.ctx, path))
	must3(r)(r.e.Join(r.ctx, key, model.OriginDocker, EndpointSpec{ID: "ab0000000009", Network: dockerNet, Addrs: at("10.6.0.2")}))
	dockers := r.e.ByEndpoint("ab0000000009")
	r.ok(r.e.NameSandbox(r.ctx, dockers.ID, ContainerNames{Name: "front", Hostname: "host"}))
	_, _, err := r.e.Connect(r.ctx, "front", EndpointSpec{Network: "mine"}, nil)
	if model.KindOf(err) != model.Conflict {
		t.Errorf("in another namespace than Docker's: %v", err)
	}
	r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: key, Inode: inode}})
	r.connected("mine", "front")
	guest := r.by("docker:front")
	r.equal("its name", guest.Name, "docker-front")
	dockers = r.e.ByEndpoint("ab0000000009")
	if r.e.Twin(guest) != dockers || r.e.Twin(dockers) != guest {
		t.Errorf("twins: %v, %v", r.e.Twin(guest), r.e.Twin(dockers))
	}
	if _, _, err := r.e.Connect(r.ctx, "front", EndpointSpec{Network: dockerNet}, nil); model.KindOf(err) != model.Denied {
		t.Errorf("a network of Docker's: %v", err)
	}
	r.ok(r.e.Disconnect(r.ctx, "front", "mine"))
	if err := r.e.Disconnect(r.ctx, "front", dockerNet); model.KindOf(err) != model.Denied {
		t.Error(err)
	}
	r.connected("mine", "front")
	r.ok(r.e.RemoveSandbox(r.ctx, "front", false))
	if _, err := r.e.Sandbox("docker:front"); model.KindOf(err) != model.NotFound {
		t.Error(err)
	}
	if err := r.e.RemoveSandbox(r.ctx, "front", false); model.KindOf(err) != model.Denied {
		t.Error(err)
	}
}

// TestGuestOfCNI: a container that CNI put on networks is connected to another: it
// is one sandbox, and survives that the runtime takes its own away and comes back.
func TestGuestOfCNI(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.network("back", "10.2.0.0/28")
	r.inn.run("podman:web")
	id := r.inn.rooms["podman:web"].guest.ID
	attachAt := func() {
		t.Helper()
		_, _, err := r.e.Attach(r.ctx, Attachment{Container: id, NetNS: r.inn.rooms["podman:web"].path(), EndpointSpec: EndpointSpec{Network: "app", IfName: "eth0"}})
		r.ok(err)
	}
	attachAt()
	r.connected("back", "podman:web")
	r.equal("sandboxes", len(r.e.Sandboxes()), "1")
	r.check()
	r.ok(r.e.Detach(r.ctx, id, "app", ""))
	r.inn.stop("podman:web")
	r.inn.hint("podman:web")
	r.settles("podman:web", "away")
	r.inn.start("podman:web")
	attachAt() // before the runtime's own start is seen
	r.equal("sandboxes", len(r.e.Sandboxes()), "1")
	r.inn.hint("podman:web")
	r.settles("podman:web", "running")
	r.equal("on both", len(r.by("podman:web").Endpoints), "2")
}

// TestGuestTellsOfItsReturn: a container that stops leaves its networks, and is on them
// again when it is back, since then; also if nobody saw it away.
func TestGuestTellsOfItsReturn(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.inn.run("docker:web")
	sb := r.connected("app", "docker:web")
	_, at := r.e.Events(r.ctx, -1)
	told := func(what, want string) (last time.Time) {
		t.Helper()
		soon, cancel := context.WithTimeout(r.ctx, time.Second)
		defer cancel()
		list, next := r.e.Events(soon, at)
		var got []string
		for _, ev := range list {
			got, last = append(got, ev.Type+" "+ev.Action), ev.Time
		}
		at = next
		r.equal(what, strings.Join(got, ", "), want)
		return last
	}
	last := r.e.SandboxStatus(sb).Since
	since := func(what string, told time.Time) {
		t.Helper()
		now := r.e.SandboxStatus(r.by("web")).Since
		if !now.After(last) || now.After(told) {
			t.Errorf("%s since %v, want after %v, until %v", what, now, last, told)
		}
		last = now
	}

	r.inn.stop("docker:web")
	r.inn.hint("docker:web")
	r.settles("web", "away")
	since("away", told("stopped", "network disconnect"))
	r.inn.start("docker:web")
	r.inn.hint("docker:web")
	r.settles("web", "running")
	since("running", told("started", "network connect"))
	was := r.by("web").Inode
	r.inn.restart("docker:web")
	r.inn.hint("docker:web")
	eventually(t, "seated again", func() bool { i := r.by("web").Inode; return i != was && i != 0 })
	since("running again", told("restarted", "network disconnect, network connect"))
	r.restart()
	r.settles("web", "running")
	r.equal("after a restart of the daemon", r.e.SandboxStatus(r.by("web")).Since, last.String())
	_, at = r.e.Events(r.ctx, -1)

	r.inn.stop("docker:web")
	r.inn.hint("docker:web")
	r.settles("web", "away")
	r.inn.remove("docker:web")
	r.inn.hint("docker:web")
	r.settles("web", "no such sandbox")
	told("stopped and removed", "network disconnect, sandbox destroy")
}
