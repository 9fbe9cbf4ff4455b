package engine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
)

// patched is a plug of a container to a device, with an address.
func patched(device, address string, via ...string) PlugSpec {
	s := PlugSpec{Device: device, Endpoint: EndpointSpec{IfName: "eth1"}, Command: device + " -i eth1 web " + address + strings.Join(via, "")}
	if address != "" {
		s.Endpoint.Outside = []netip.Prefix{netip.MustParsePrefix(address)}
	}
	for _, v := range via {
		s.Endpoint.Routers = append(s.Endpoint.Routers, netip.MustParseAddr(v))
	}
	return s
}

func (r *rig) plug(ref string, s PlugSpec) *model.Sandbox {
	r.Helper()
	sb, _, err := r.e.Plug(r.ctx, ref, s)
	if err != nil {
		r.Fatal(err)
	}
	return sb
}

func (r *rig) unplug(ref, device string) {
	r.Helper()
	if err := r.e.Unplug(r.ctx, ref, model.Plug{Device: device}, ""); err != nil {
		r.Fatal(err)
	}
}

// custom lists the networks besides the default one.
func (r *rig) custom() string {
	var names []string
	for _, n := range r.e.Networks() {
		if n.Name != model.NetworkBridge {
			names = append(names, n.Name+" "+n.Driver)
		}
	}
	return strings.Join(names, ", ")
}

func TestPlugMakesTheNetworkAndUnplugRemovesIt(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web", "docker:db")
	before := r.k.Dump()
	r.plug("docker:web", patched("br1", "192.168.1.1/24"))
	steps := r.k.Steps()
	r.plug("docker:web", patched("br1", "192.168.1.1/24"))
	if r.k.Steps() != steps {
		t.Error("the same command changes the kernel")
	}
	r.plug("web", patched("br1", "192.168.1.1/24"))
	r.plug("db", patched("br1", "192.168.1.2/24"))
	r.check()
	if got := r.custom(); got != "br1 bridge" {
		t.Errorf("networks: %s", got)
	}
	if n := must[*model.Network](r)(r.e.Network("br1")); n.Options.Adopted || !n.Options.NoIPAM || n.Options.MTU != 1500 || n.ByHost() {
		t.Errorf("made %+v", n)
	}
	r.restart()
	r.check()
	r.unplug("web", "br1")
	if r.custom() != "br1 bridge" {
		t.Error("the network went with its first endpoint")
	}
	r.unplug("docker:db", "br1")
	if got := r.custom(); got != "" {
		t.Errorf("left: %s", got)
	}
	if after := r.k.Dump(); after != before {
		t.Errorf("left:\n%s\nwas:\n%s", after, before)
	}
}

func TestWiresOfDevices(t *testing.T) {
	for _, c := range []struct{ device, want, err string }{
		{"br7", "br7 bridge", ""},
		{"br0", "br0 bridge", ""}, // which is somebody's
		{"dummy9", "dummy9 bridge", ""},
		{"eth0", "eth0 macvlan", ""},
		{"mac:02:00:00:00:77:77", "", "no host interface matched"},
		{"nothing", "", "I do not know how to setup interface nothing."},
	} {
		r := newRig(t)
		r.inn.run("docker:web")
		before := r.k.Dump()
		_, _, err := r.e.Plug(r.ctx, "web", patched(c.device, "192.168.1.1/24"))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || r.custom() != "" || r.k.Dump() != before {
				t.Errorf("%s: %v, networks %s", c.device, err, r.custom())
			}
			continue
		}
		if err != nil || r.custom() != c.want {
			t.Errorf("%s: networks %s, %v", c.device, r.custom(), err)
			continue
		}
		r.check()
		r.inn.remove("docker:web")
		r.e.hinted(*r.by("docker:web").Guest)
		r.becomes(func() bool { return r.custom() == "" })
		if after := pathsOnly(r.k.Dump()); strings.Contains(after, "link br7") || strings.Contains(after, "eth1") {
			t.Errorf("%s: left\n%s", c.device, after)
		}
	}
}

// TestWiresOfOneDevice: what a command asks for is not the network of another kind that
// has the device as its parent.
func TestWiresOfOneDevice(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web", "docker:db", "docker:app")
	on := patched("br0", "192.168.1.1/24")
	on.Driver = model.DriverMacvlan
	r.plug("web", on)
	r.plug("db", patched("br0", "192.168.1.2/24"))
	r.plug("app", patched("br0", "192.168.1.3/24"))
	if n := must[*model.Network](r)(r.e.Network("br0")); n.Driver != model.DriverMacvlan {
		t.Errorf("br0 is %s", n.Driver)
	}
	drivers := map[string]int{}
	for _, n := range r.e.Networks() {
		if n.Name != model.NetworkBridge {
			drivers[n.Driver]++
		}
	}
	if len(drivers) != 2 || drivers[model.DriverBridge] != 1 || drivers[model.DriverMacvlan] != 1 {
		t.Errorf("networks: %s", r.custom())
	}
	for ref, driver := range map[string]string{"web": model.DriverMacvlan, "db": model.DriverBridge, "app": model.DriverBridge} {
		sb := r.by("docker:" + ref)
		if n := must[*model.Network](r)(r.e.Network(string(sb.Endpoints[0].Network))); n.Driver != driver {
			t.Errorf("%s is on a %s", ref, n.Driver)
		}
	}
	r.check()
}

// TestNICOfContainer: nobody gets the name of a NIC that is in a container, and who asks
// for it reads where it is.
func TestNICOfContainer(t *testing.T) {
	r := newRig(t)
	r.give(spare)
	r.inn.run("docker:web", "docker:db")
	lent := patched("eth1", "192.168.1.1/24")
	lent.Driver = model.DriverPhys
	r.plug("web", lent)
	before := r.k.Dump()
	vlan := patched("eth1", "192.168.2.2/24")
	vlan.Driver = model.DriverMacvlan
	for _, spec := range []PlugSpec{patched("eth1", "192.168.2.2/24"), vlan} {
		_, _, err := r.e.Plug(r.ctx, "db", spec)
		if want := "device eth1: connect db: belongs to network eth1, and is with sandbox web"; err == nil || err.Error() != want {
			t.Errorf("%q: %v", spec.Driver, err)
		}
	}
	for _, c := range []NetworkSpec{
		lanSpec("bridge", "x", "name=eth1"), lanSpec("ovs", "x", "name=eth1"), lanSpec("macvlan", "x", "parent=eth1"), lanSpec("phys", "x", "parent=eth1"),
	} {
		if _, err := r.e.CreateNetwork(r.ctx, c); err == nil || !strings.Contains(err.Error(), " eth1: belongs to network eth1") {
			t.Errorf("%s %v: %v", c.Driver, c.Options, err)
		}
	}
	if after := r.k.Dump(); after != before {
		t.Errorf("left:\n%s\nwas:\n%s", after, before)
	}
	r.unplug("web", "eth1")
	r.check()
}

// TestPlugsLastRouterIsTheWayOut: as in the script, whose default route replaces
// what is there. That of the command before is back when it is undone.
func TestPlugsLastRouterIsTheWayOut(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web")
	way := func(want string) {
		t.Helper()
		if left, _, err := r.e.Diff(r.ctx); len(left) > 0 || err != nil {
			t.Errorf("to do %v, %v", left, err)
		}
		const route = "/ns/net route default via "
		if dump := pathsOnly(r.k.Dump()); strings.Count(dump, route) != 1 || !strings.Contains(dump, route+want) {
			t.Errorf("want one by %s:\n%s", want, dump)
		}
	}
	for i := range 3 {
		spec := patched("br1", fmt.Sprintf("192.168.%d.1/24", i), fmt.Sprintf("192.168.%d.254", i))
		spec.Endpoint.IfName = fmt.Sprintf("eth%d", 7-i) // not by their names
		r.plug("web", spec)
		way(fmt.Sprintf("192.168.%d.254", i))
	}
	r.plug("web", PlugSpec{Device: "br1", Endpoint: EndpointSpec{IfName: "eth9"}, Command: "br1 -i eth9 web 0/0"})
	way("192.168.2.254")
	r.restart()
	way("192.168.2.254")
	for i, want := range []string{"192.168.1.254", "192.168.0.254"} {
		if err := r.e.Unplug(r.ctx, "web", model.Plug{Device: "br1"}, fmt.Sprintf("eth%d", 5+i)); err != nil {
			t.Fatal(err)
		}
		way(want)
	}
}

func TestPlugRefuses(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web", "docker:db")
	r.inn.create("docker:idle")
	r.plug("web", patched("br1", "192.168.1.1/24"))
	before := r.k.Dump()
	for _, c := range []struct {
		ref  string
		spec PlugSpec
		kind model.Kind
		want string
	}{
		{"web", patched("br1", "192.168.1.9/24"), model.Conflict, "connect web: interface eth1: is there by pipework br1 -i eth1 web 192.168.1.1/24"},
		{"db", patched("br1", "192.168.1.1/24"), model.Conflict, "address 192.168.1.1: taken by sandbox web"},
		{"db", patched("br1", "192.168.1.0/24"), model.Invalid, "network or broadcast address"},
		{"db", patched("br1", "127.0.0.1/24"), model.Invalid, "not an address of a host"},
		{"db", patched("br1", "192.168.1.2/24", "192.168.1.2"), model.Invalid, "own address"},
		{"idle", patched("br1", "192.168.1.2/24"), model.Gone, "Docker inspect returned invalid PID 0"},
		{"nobody", patched("br1", "192.168.1.2/24"), model.NotFound, "device br1: connect nobody: no such sandbox, and no such container of docker"},
		{"db", PlugSpec{Device: "eth99", Driver: model.DriverMacvlan, Endpoint: EndpointSpec{IfName: "eth1"}, Command: "x"}, model.NotFound, "no such device"},
		{"db", PlugSpec{Device: "br1", Driver: model.DriverPhys, Endpoint: EndpointSpec{IfName: "eth1"}, Command: "x"}, model.Invalid, "device br1: connect db: is a device that Sealane made"},
		{"db", patched("br1", "192.168.1.2/24", "192.168.1.255"), model.Invalid, "gateway 192.168.1.255: is the network or broadcast address of 192.168.1.0/24"},
	} {
		_, _, err := r.e.Plug(r.ctx, c.ref, c.spec)
		if model.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.ref, c.spec.Command, err)
		}
	}
	if after := r.k.Dump(); after != before {
		t.Errorf("left:\n%s\nwas:\n%s", after, before)
	}
	r.check()
}

// TestUnplugTakesTheCommandBack: a command as it was takes that one back, under any
// name of the container, and no other.
func TestUnplugTakesTheCommandBack(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web", "docker:other")
	r.plug("web", patched("br1", "192.168.1.1/24"))
	second := PlugSpec{Device: "br1", Endpoint: EndpointSpec{IfName: "eth2"}, Command: "br1 -i eth2 docker:web 0/0 @7"}
	r.plug("web", second)
	for _, c := range []struct {
		ref, command, ifName, device, want string
		left                               int
	}{
		{"web", "br1 -i eth1 web 192.168.1.9/24", "eth1", "br1", "device br1: undo web: interface eth1: is there by pipework br1 -i eth1 web 192.168.1.1/24", 2},
		{"web", "br1 -i eth2 web 0/0 @8", "eth2", "br1", "is there by pipework br1 -i eth2 docker:web 0/0 @7", 2},
		{"web", "", "", "br2", "device br2: undo web: no pipework command connected it (pipework --list", 2},
		{"other", "", "", "br1", "device br1: undo other: no pipework command connected it (pipework --list", 2},
		{"nobody", "", "", "br1", "device br1: undo nobody: no pipework command connected it (pipework --list", 2},
		{"docker:web", "br1 -i eth1 docker:web 192.168.1.1/24", "eth1", "br1", "", 1},
		{"web", "br1 -i eth2 web 0/0 @7", "eth2", "br1", "", 0},
		{"web", "br1 -i eth2 web 0/0 @7", "eth2", "br1", "device br1: undo web: no pipework command connected it (pipework --list", 0},
	} {
		err := r.e.Unplug(r.ctx, c.ref, model.Plug{Device: c.device, Command: c.command}, c.ifName)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v", c.ref, c.command, err)
		}
		left := 0
		if sb, err := r.e.Sandbox("docker:web"); err == nil {
			left = len(sb.Endpoints)
		}
		if left != c.left {
			t.Fatalf("%s %s: %d endpoints left", c.ref, c.command, left)
		}
	}
	r.check()
}

// TestWiresInTwoVLANs: a bridge's network is not called after the VLAN of the first
// container that is on it, and a NIC is known by its hardware address and its name.
func TestWiresInTwoVLANs(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web", "docker:db")
	r.k.Foreign(kstate.Link{Name: "eth7", MAC: "02:00:00:00:00:77", MTU: 1500, Up: true})
	for i, ref := range []string{"web", "db"} {
		spec := patched("br1", fmt.Sprintf("192.168.1.%d/24", i+1))
		spec.VLAN = 10 * (i + 1)
		r.plug(ref, spec)
	}
	if got := r.custom(); got != "br1 bridge" {
		t.Errorf("networks: %s", got)
	}
	r.unplug("web", "br1")
	r.plug("web", PlugSpec{Device: "mac:02:00:00:00:00:77", Endpoint: EndpointSpec{IfName: "eth1"}, Command: "x"})
	r.unplug("web", "eth7")
	if left, _, err := r.e.Diff(r.ctx); len(left) > 0 || err != nil {
		t.Errorf("to do %v, %v", left, err)
	}
}

// TestPlugAsksTheContainerFirst: the wire is not asked for a container that is not there.
func TestPlugAsksTheContainerFirst(t *testing.T) {
	r := newRig(t)
	r.inn.create("docker:idle")
	asked := 0
	r.e.cfg.Probe = func(context.Context, announce.Wire, netip.Addr) (net.HardwareAddr, error) { asked++; return nil, nil }
	if _, _, err := r.e.Plug(r.ctx, "idle", patched("eth0", "192.168.1.1/24")); model.KindOf(err) != model.Gone || asked > 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
}

// TestPlugRefusedAtOnce: what cannot be done whoever has the address is said without asking
// who has it, which takes its time.
func TestPlugRefusedAtOnce(t *testing.T) {
	r := newRig(t)
	r.inn.run("docker:web")
	asked := 0
	r.e.cfg.Probe = func(context.Context, announce.Wire, netip.Addr) (net.HardwareAddr, error) { asked++; return nil, nil }
	r.e.cfg.Feature = func(name string) error {
		return &feature.Missing{Name: name, Needs: "CONFIG_" + name, Err: kernel.ErrUnsupported}
	}
	before := r.all()
	spec := patched("eth0", "192.168.1.1/24")
	spec.Driver = model.DriverIPvlan
	if _, _, err := r.e.Plug(r.ctx, "web", spec); model.KindOf(err) != model.Unsupported || asked > 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	if _, _, err := r.e.Plug(r.ctx, "web", patched("eth8", "192.168.1.1/24")); model.KindOf(err) != model.NotFound || asked > 0 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	if after := r.all(); after != before {
		t.Errorf("left %s, was %s", after, before)
	}
	r.plug("web", patched("br1", "192.168.1.1/24"))
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	r.check()
}

// TestPlugCut kills the process at every step of plugging and unplugging a
// container that has a default route of its own: either the command happened
// wholly or not at all, and the container has one way out.
func TestPlugCut(t *testing.T) {
	theirs := func(m *room) kstate.Route {
		return kstate.Route{NS: kstate.NS{Path: m.path()}, Dst: kstate.Aside{}.Dst(), Via: netip.MustParseAddr("172.17.0.1"), Dev: "eth0"}
	}
	for _, undo := range []bool{false, true} {
		for cut := 0; ; cut++ {
			r := newRig(t)
			r.inn.create("docker:web")
			m := r.inn.start("docker:web")
			link := kstate.Link{NS: kstate.NS{Path: m.path()}, Name: "eth0", Up: true}
			r.k.Foreign(link, theirs(m))
			spec := patched("br1", "192.168.1.1/24", "192.168.1.254")
			if undo {
				r.plug("web", spec)
			}
			r.k.Cut(cut)
			var err error
			if undo {
				err = r.e.Unplug(r.ctx, "web", model.Plug{Device: "br1"}, "")
			} else {
				_, _, err = r.e.Plug(r.ctx, "web", spec)
			}
			r.restart()
			if left, _, err := r.e.Diff(r.ctx); len(left) > 0 || err != nil {
				t.Fatalf("undo %v, cut %d: to do %v, %v", undo, cut, left, err)
			}
			plugged := r.custom() != ""
			if noted := must[map[string]string](r)(r.store.Entries()); !plugged && len(noted) > 1 {
				t.Fatalf("undo %v, cut %d: the journal has %v", undo, cut, noted)
			}
			dump := pathsOnly(r.k.Dump())
			if has := strings.Contains(dump, "route default via 192.168.1.254"); has != plugged {
				t.Fatalf("undo %v, cut %d: plugged %v, ours there %v\n%s", undo, cut, plugged, has, dump)
			}
			if has := r.observed(theirs(m)); has == plugged {
				t.Fatalf("undo %v, cut %d: plugged %v, theirs there %v\n%s", undo, cut, plugged, has, dump)
			}
			if err == nil {
				break
			}
		}
	}
}

// observed reports whether somebody's route is there, and not aside.
func (r *rig) observed(want kstate.Route) bool {
	r.Helper()
	have, err := r.k.Observe(r.ctx, kernel.Scope{NS: []kstate.NS{want.NS}, Only: true})
	if err != nil {
		r.Fatal(err)
	}
	want.Other = true
	return have[want.Key()] != nil
}

// errands notes what is run in containers.
type errands struct {
	mu   sync.Mutex // protects the following
	done []string
	say  func(args []string) Ran
}

func (e *errands) Run(_ context.Context, ns kstate.NS, args []string) (Ran, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done = append(e.done, fmt.Sprintf("%s: %s", ns.Path, strings.Join(args, " ")))
	if e.say != nil {
		return e.say(args), nil
	}
	return Ran{}, nil
}

func (e *errands) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.done...)
}

// TestChoreIsFollowedMeanwhile: a container that has nothing yet but the command which
// is being run in it is not forgotten by who follows the runtimes.
func TestChoreIsFollowedMeanwhile(t *testing.T) {
	r := newRig(t)
	k := r.e.guests.desks["docker"]
	run := &errands{say: func([]string) Ran {
		r.e.place(r.ctx, r.e.askEach(r.ctx, k, []model.ID{r.by("web").ID}))
		return Ran{}
	}}
	r.e.cfg.Runner = run
	r.inn.run("docker:web")
	rule := strings.Fields("ip rule add from 10.9.0.2 table 77")
	must[Ran](r)(r.e.RunChore(r.ctx, "web", rule, false))
	r.equal("commands", fmt.Sprint(r.by("web").Chores), "[[ip rule add from 10.9.0.2 table 77]]")
	run.say = func([]string) Ran { return Ran{} }
	must[Ran](r)(r.e.RunChore(r.ctx, "web", rule, true))
	if sb, err := r.e.Sandbox("web"); err == nil {
		t.Errorf("it has nothing, and is there: %+v", sb)
	}
}

func TestChoresFollowTheContainer(t *testing.T) {
	r := newRig(t)
	run := &errands{}
	r.e.cfg.Runner = run
	r.inn.run("docker:web")
	do := func(undo bool, line string) Ran {
		t.Helper()
		ran, err := r.e.RunChore(r.ctx, "web", strings.Fields(line), undo)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return ran
	}
	do(false, "ip route show")
	if _, err := r.e.Sandbox("web"); err == nil {
		t.Error("a question made a sandbox")
	}
	do(false, "ip route add 10.0.0.0/8 dev eth0")
	do(false, "ip rule add from 10.0.0.1 table 7")
	do(false, "ip route add 10.1.0.0/16 dev eth0")
	do(false, "ip route del 10.1.0.0/16 dev eth0")
	do(false, "tc qdisc replace dev eth0 root pfifo")
	run.say = func([]string) Ran { return Ran{Code: 2, Stderr: []byte("RTNETLINK answers: File exists\n")} }
	if ran := do(false, "ip route add 10.0.0.0/8 dev eth0"); ran.Code != 0 || len(ran.Stderr) > 0 {
		t.Errorf("the same again: %+v", ran)
	}
	run.say = func([]string) Ran {
		return Ran{Code: 2, Stderr: []byte("Error: Exclusivity flag on, cannot modify.\n")}
	}
	if ran := do(false, "tc qdisc replace dev eth0 root pfifo"); ran.Code != 0 || len(ran.Stderr) > 0 {
		t.Errorf("the same queueing discipline again: %+v", ran)
	}
	if ran := do(false, "ip route add 10.9.0.0/16 dev eth0"); ran.Code != 2 {
		t.Errorf("another that is there: %+v", ran)
	}
	run.say = nil
	r.restartWith(run)
	n := len(run.list())
	r.inn.restart("docker:web")
	r.e.hinted(*r.by("docker:web").Guest)
	r.becomes(func() bool { return len(run.list()) >= n+3 })
	path := r.inn.rooms["docker:web"].path()
	want := fmt.Sprint([]string{path + ": ip route add 10.0.0.0/8 dev eth0", path + ": ip rule add from 10.0.0.1 table 7", path + ": tc qdisc replace dev eth0 root pfifo"})
	if got := fmt.Sprint(run.list()[n:]); got != want {
		t.Errorf("in the new namespace:\n%s\nwant\n%s", got, want)
	}
	do(true, "ip route add 10.0.0.0/8 dev eth0")
	if list := run.list(); list[len(list)-1] != path+": ip route del 10.0.0.0/8 dev eth0" {
		t.Errorf("undone by %s", list[len(list)-1])
	}
	if _, err := r.e.RunChore(r.ctx, "web", strings.Fields("ip route add 10.0.0.0/8 dev eth0"), true); model.KindOf(err) != model.NotFound {
		t.Errorf("undone twice: %v", err)
	}
	do(true, "ip rule add from 10.0.0.1 table 7")
	do(true, "tc qdisc replace dev eth0 root pfifo")
	if _, err := r.e.Sandbox("docker:web"); err == nil {
		t.Error("the sandbox outlives its last command")
	}
}

// TestDiffHasCommandsThatAreDue: nothing is as intended without what a command made.
func TestDiffHasCommandsThatAreDue(t *testing.T) {
	r := newRig(t)
	run := &errands{}
	r.e.cfg.Runner = run
	r.e.cfg.Now = time.Now // by which what failed is tried again
	r.inn.run("docker:web")
	for _, line := range []string{"ip rule add from 10.0.0.1 table 7", "tc qdisc add dev eth0 root pfifo"} {
		if _, err := r.e.RunChore(r.ctx, "web", strings.Fields(line), false); err != nil {
			t.Fatal(err)
		}
	}
	due := func() string {
		t.Helper()
		_, due, err := r.e.Diff(r.ctx)
		r.ok(err)
		return fmt.Sprint(due)
	}
	r.equal("what was done", due(), "[]")
	run.say = func(args []string) Ran { return Ran{Code: map[string]int{"tc": 2}[args[0]]} }
	r.inn.restart("docker:web")
	r.e.hinted(*r.by("docker:web").Guest)
	for _, state := range []string{"[+ command web: tc qdisc add dev eth0 root pfifo]", "[]"} {
		r.becomes(func() bool { return due() == state })
		run.mu.Lock()
		run.say = nil
		run.mu.Unlock()
	}
}

// restartWith is restart with a runner.
func (r *rig) restartWith(run Runner) {
	r.Helper()
	r.die()
	r.prepare()
	r.e.cfg.Runner = run
	if err := r.e.Start(r.ctx); err != nil {
		r.Fatal(err)
	}
}

// becomes waits until something is so.
func (r *rig) becomes(so func() bool) {
	r.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatal("it does not become so")
		}
	}
}
