package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// TestPlugStopped: a container that does not run is refused by either of its names,
// but for what it has already; that can be taken back.
func TestPlugStopped(t *testing.T) {
	for _, stop := range []func(*rig){
		func(r *rig) { r.inn.stop("docker:web") }, // nobody has noticed yet
		func(r *rig) { r.inn.stop("docker:web"); r.inn.hint("docker:web"); r.settles("docker:web", "away") },
	} {
		r := newRig(t)
		run := &errands{}
		r.e.cfg.Runner = run
		r.inn.run("docker:web")
		r.plug("web", patched("br1", "192.168.1.1/24"))
		route := strings.Fields("ip route add 10.0.0.0/8 dev eth1")
		must[Ran](r)(r.e.RunChore(r.ctx, "web", route, false))
		stop(r)
		ran := len(run.list())
		for _, ref := range []string{"web", "docker:web"} {
			if sb, ep, err := r.e.Plug(r.ctx, ref, patched("br1", "192.168.1.1/24")); err != nil || !sb.Away() || ep.IfName != "eth1" {
				t.Errorf("%s: the same again: %+v, %v", ref, sb, err)
			}
			if got, err := r.e.RunChore(r.ctx, ref, route, false); err != nil || got.Code != 0 {
				t.Errorf("%s: the same route again: %+v, %v", ref, got, err)
			}
			other := patched("br1", "192.168.2.1/24")
			other.Endpoint.IfName, other.Command = "eth2", "br1 -i eth2 web 192.168.2.1/24"
			_, _, err := r.e.Plug(r.ctx, ref, other)
			r.gone(err, "Docker inspect returned invalid PID 0")
			_, err = r.e.RunChore(r.ctx, ref, strings.Fields("ip route add 10.9.0.0/16 dev eth1"), false)
			r.gone(err, "Docker inspect returned invalid PID 0")
			_, err = r.e.RunChore(r.ctx, ref, strings.Fields("ip route show"), false)
			r.gone(err, "Docker inspect returned invalid PID 0")
			if _, err = r.e.RunChore(r.ctx, ref, strings.Fields("ip route add 10.9.0.0/16 dev eth1"), true); model.KindOf(err) != model.NotFound {
				t.Errorf("%s: undo what was not: %v", ref, err)
			}
		}
		must[Ran](r)(r.e.RunChore(r.ctx, "docker:web", route, true))
		if list := run.list(); len(list) != ran {
			t.Errorf("ran %v", list[ran:])
		}
		r.unplug("web", "br1")
		if _, err := r.e.Sandbox("docker:web"); err == nil {
			t.Error("the sandbox outlives what it had")
		}
		r.check()
	}
}

func (r *rig) gone(err error, want string) {
	r.Helper()
	if model.KindOf(err) != model.Gone || err.Error() != want {
		r.Errorf("%v, want %s", err, want)
	}
}

// TestLookAtThoseWhoStayed: changes do not wait for the look at a namespace whose
// container, as somebody hinted, may be another by now.
func TestLookAtThoseWhoStayed(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web")
	sb := r.plug("web", patched("br1", "192.168.1.1/24"))
	free := make(chan bool, 1)
	r.proc.beforeLook(func(s kernel.Scope) {
		if !s.Only || len(s.NS) != 1 || s.NS[0].Path != sb.NetNS {
			return
		}
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if r.e.work.TryLock() {
				r.e.work.Unlock()
				free <- true
				return
			}
		}
		free <- false
	})
	r.e.hinted(*sb.Guest)
	if !<-free {
		t.Error("work is held")
	}
}

// TestFurnished: a namespace with the number of the one before it is told apart.
func TestFurnished(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web", "docker:bare")
	sb := r.plug("web", patched("br1", "192.168.1.1/24"))
	bare := r.plug("bare", PlugSpec{Device: "br1", Endpoint: EndpointSpec{IfName: "eth1"}, Command: "br1 -i eth1 bare 0/0"})
	furnished := func(paths ...string) bool { return r.e.shows(r.ctx, paths) }
	switch {
	case !furnished() || !furnished(sb.NetNS):
		t.Error("it is not the one")
	case furnished(sb.NetNS, bare.NetNS):
		t.Error("one that shows nothing is taken for the one")
	}
	ns := kstate.NS{Path: sb.NetNS, Inode: sb.Inode}
	r.k.Remove(kstate.NetNS{NS: ns}.Key())
	if furnished(sb.NetNS) {
		t.Error("one that is gone is taken for the one")
	}
	r.k.Foreign(kstate.NetNS{NS: ns}, kstate.Link{NS: ns, Name: "eth0", Up: true})
	if furnished(sb.NetNS) {
		t.Error("another is taken for the one")
	}
}
