package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// spare is a NIC of the host's that is down.
var spare = kstate.Link{Name: "eth1", Type: "ether", MTU: 1500, MAC: "02:00:00:00:00:0e"}

// give lets others have more on the host.
func (r *rig) give(objs ...kstate.Object) {
	r.given = slices.DeleteFunc(r.given, func(o kstate.Object) bool { return o.Key() == objs[0].Key() })
	r.given = append(r.given, objs...)
	r.k.Foreign(objs...)
}

// settled is a wanted state with what it leaves to the kernel: settings of links
// that they have from their parents, and others' devices that are up anyway.
func (r *rig) settled(want kstate.Set) kstate.Set {
	var spaces []kstate.NS
	for _, o := range want {
		if ns, ok := o.(kstate.NetNS); ok {
			spaces = append(spaces, ns.NS)
		}
	}
	have := must[kstate.Set](r)(r.k.Observe(r.Context(), kernel.Scope{NS: spaces}))
	for key, o := range want {
		switch o := o.(type) {
		case kstate.Link:
			if l, ok := have[key].(kstate.Link); ok && o.Type.OnParent() {
				o.MTU, o.MAC = cmp.Or(o.MTU, l.MTU), cmp.Or(o.MAC, l.MAC)
				want[key] = o
			}
		case kstate.Raise:
			up := func(f kstate.Object) bool { l, ok := f.(kstate.Link); return ok && l.Name == o.Dev && l.Up }
			if slices.ContainsFunc(foreign, up) || slices.ContainsFunc(r.given, up) {
				delete(want, key)
			}
		}
	}
	return want
}

// lanSpec is a network of a driver, with words as in netSpec.
func lanSpec(driver, name string, words ...string) NetworkSpec {
	spec := netSpec(name, words...)
	spec.Driver = driver
	return spec
}

func createOn(driver, name string, words ...string) func(*rig) error {
	return func(r *rig) error {
		_, err := r.e.CreateNetwork(r.ctx, lanSpec(driver, name, words...))
		return err
	}
}

// wired is base, and a container on two networks on one VLAN of a NIC that is
// down, in one of which the host has a leg.
func wired(r *rig) {
	base(r)
	r.give(spare)
	r.ok(createOn("macvlan", "ten", "parent=eth1", "vlan=10", "10.6.0.0/28", "fd00:6::/64", "host-leg=10.6.0.9,fd00:6::9")(r))
	r.ok(createOn("macvlan", "also", "parent=eth1.10", "10.7.0.0/28", "mode=private")(r))
	r.sandbox("wired", SandboxSpec{Networks: on("ten", "also")})
}

var parentScenarios = []scenario{
	{"create a network on a parent that is down", func(r *rig) { base(r); r.give(spare) },
		createOn("macvlan", "new", "parent=eth1", "10.6.0.0/28", "fd00:6::/64", "host-leg=10.6.0.9")},
	{"create one on a VLAN", func(r *rig) { base(r); r.give(spare) },
		createOn("ipvlan", "new", "parent=eth1", "vlan=10", "10.6.0.0/28", "mode=l3", "host-leg=10.6.0.9")},
	{"create one on no parent", base, createOn("macvlan", "new", "internal", "10.6.0.0/28")},
	{"run there", wired, run(SandboxSpec{Networks: on("ten", "app"), Ports: ports("8060:80")})},
	{"connect there", wired, connect("web", EndpointSpec{Network: "ten"})},
	{"disconnect there", wired, func(r *rig) error { return r.e.Disconnect(r.ctx, "wired", "ten") }},
	{"remove a container there", func(r *rig) {
		wired(r)
		r.ok(connect("web", EndpointSpec{Network: "ten"})(r))
	}, func(r *rig) error { return r.e.RemoveSandbox(r.ctx, "web", true) }},
	{"remove one of two networks on a VLAN", func(r *rig) {
		wired(r)
		r.ok(r.e.Disconnect(r.ctx, "wired", "also"))
	}, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "also") }},
	{"remove the last network on a VLAN", func(r *rig) {
		wired(r)
		r.ok(r.e.RemoveSandbox(r.ctx, "wired", true))
		r.ok(r.e.RemoveNetwork(r.ctx, "also"))
	}, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "ten") }},
}

// TestParentRefusals: what cannot be on a parent is told in words that name what
// is in the way.
func TestParentRefusals(t *testing.T) {
	r := newRig(t)
	crowded(r)
	port := kstate.Link{Name: "eth2", Type: "ether", MTU: 1500, Up: true, Master: "br0"}
	tagged := kstate.Link{Name: "eth1.30", Type: kstate.TypeVLAN, MTU: 1500, Parent: "eth1", VLAN: 30}
	odd := kstate.Link{Name: "eth1.40", Type: kstate.TypeVLAN, MTU: 1500, Parent: "eth1", VLAN: 41}
	theirs := kstate.Link{Name: "ipvl0", Type: kstate.TypeIPvlan, MTU: 1500, Parent: "eth0", Mode: "l2"}
	r.give(spare, port, tagged, odd, theirs)
	for _, make := range []func(*rig) error{
		createOn("macvlan", "ten", "parent=eth1", "vlan=10", "10.6.0.0/28", "host-leg=10.6.0.9"),
		createOn("macvlan", "alone", "parent=eth1", "vlan=20", "10.6.0.0/28", "mode=passthru"),
		createOn("ipvlan", "thin", "parent=eth1", "vlan=50", "10.7.0.0/28", "mode=l3s"),
		createOn("ipvlan", "own", "internal", "10.8.0.0/28"),
	} {
		r.ok(make(r))
	}
	r.sandbox("ten0", SandboxSpec{Networks: on("ten")})
	r.sandbox("alone0", SandboxSpec{Networks: on("alone")})
	mac := "02:00:00:00:00:07"
	for _, c := range []struct {
		name string
		act  func(*rig) error
		kind model.Kind
		want string
	}{
		{"Docker's", func(r *rig) error {
			spec := lanSpec("phys", "new", "parent=eth1")
			spec.Origin = model.OriginDocker
			_, err := r.e.CreateNetwork(r.ctx, spec)
			return err
		}, model.Unsupported, "driver phys: Docker would not give the NIC back"},
		{"no parent", createOn("macvlan", "new"), model.Invalid, "parent: missing: give the host's device that the network is on, as -o parent=eth0, or --internal"},
		{"a VLAN of nothing", createOn("macvlan", "new", "internal", "vlan=10"), model.Invalid, "option vlan: 10: of which device? It takes a parent"},
		{"lo", createOn("ipvlan", "new", "parent=lo"), model.Invalid, "parent lo: is no Ethernet device"},
		{"their ipvlan's own", createOn("ipvlan", "new", "parent=ipvl0"), model.Invalid, "parent ipvl0: is itself a device of type ipvlan: another is never on it but beside it (on eth0: make that the parent)"},
		{"nobody", createOn("macvlan", "new", "parent=eth9"), model.NotFound, "parent eth9: the host has no such device"},
		{"nobody's VLAN", createOn("macvlan", "new", "parent=eth9.10"), model.NotFound, "parent eth9.10: the host has no such device"},
		{"nobody's VLAN by number", createOn("macvlan", "new", "parent=eth9", "vlan=10"), model.NotFound, "parent eth9: the host has no such device"},
		{"no VLAN", createOn("macvlan", "new", "parent=eth1.4095"), model.NotFound, `parent eth1.4095: the host has no such device, and "4095" is no VLAN: want 1 to 4094`},
		{"two dots", createOn("macvlan", "new", "parent=eth1.10.20"), model.NotFound, `and "10.20" is no VLAN`},
		{"leading zero", createOn("macvlan", "new", "parent=eth1.010"), model.NotFound, `and "010" is no VLAN`},
		{"VLAN 0", createOn("macvlan", "new", "parent=eth1", "vlan=0"), model.Invalid, `option vlan: "0": want 1 to 4094`},
		{"VLAN in a VLAN", createOn("macvlan", "new", "parent=eth1.30", "vlan=10"), model.Invalid, "option vlan: 10: parent eth1.30 is VLAN 30 of eth1 itself"},
		{"another's name", createOn("macvlan", "new", "parent=eth1", "vlan=40"), model.Conflict, "option vlan: 40: device eth1.40 exists and is not that"},
		{"a port", createOn("macvlan", "new", "parent=eth2"), model.Conflict, "parent eth2: is a port of br0 (what goes in by it is that one's: make it the parent)"},
		{"our bridge", createOn("macvlan", "new", "parent=sealane0"), model.Invalid, "parent sealane0: is the bridge of network bridge (connect containers to that one)"},
		{"our VLAN", createOn("macvlan", "new", "parent=eth1.10", "vlan=20"), model.Invalid, "parent eth1.10: is a device of Sealane's own"},
		{"their ipvlan", createOn("macvlan", "new", "parent=eth0"), model.Conflict, "parent eth0: device ipvl0, an ipvlan, is on it: a device takes macvlan or ipvlan"},
		{"our ipvlan", createOn("macvlan", "new", "parent=eth1.50"), model.Conflict, "parent eth1.50: network thin is on it with driver ipvlan"},
		{"another mode", createOn("ipvlan", "new", "parent=eth1.50"), model.Conflict, "parent eth1.50: network thin is on it in mode l3s: all ipvlans of a device have one"},
		{"somebody's alone", createOn("macvlan", "new", "parent=eth1.20"), model.Conflict, "parent eth1.20: network alone has it for itself, by mode passthru"},
		{"not alone", createOn("macvlan", "new", "parent=eth1.10", "mode=passthru"), model.Conflict, "parent eth1.10: network ten is on it: mode passthru takes a device of its own"},
		{"mode of the other", createOn("ipvlan", "new", "parent=eth1", "mode=vepa"), model.Invalid, `option mode: "vepa": want l2, l3 or l3s`},
		{"Docker's name", createOn("macvlan", "new", "parent=eth1", "macvlan_mode=l2"), model.Invalid, `option macvlan_mode: "l2": want bridge, vepa, private or passthru`},
		{"flag", createOn("ipvlan", "new", "parent=eth1", "ipvlan_flag=passthru"), model.Invalid, `option ipvlan_flag: "passthru": want bridge, private or vepa`},
		{"flag of the other", createOn("macvlan", "new", "parent=eth1", "ipvlan-flag=vepa"), model.Invalid, `option "ipvlan-flag": not known to driver macvlan`},
		{"flag and mode", createOn("ipvlan", "new", "parent=eth1", "mode=l3s", "ipvlan-flag=vepa"), model.Invalid, "option ipvlan-flag: vepa: is not for mode l3s"},
		{"too large", createOn("macvlan", "new", "parent=eth1", "mtu=1501"), model.Invalid, "mtu 1501: parent eth1 has 1500"},
		{"same wire", createOn("macvlan", "new", "parent=eth1.10", "10.6.0.8/29"), model.Conflict, "subnet 10.6.0.8/29: overlaps 10.6.0.0/28 of network ten"},
		{"router on the same wire", createOn("macvlan", "new", "parent=eth1.10", "10.6.0.0/28", "host-leg=10.6.0.9"), model.Conflict, "subnet 10.6.0.0/28: address 10.6.0.9: taken by the host on network ten"},
		{"host's network", createOn("macvlan", "new", "parent=eth1", "10.1.0.0/28"), model.Conflict, "subnet 10.1.0.0/28: overlaps 10.1.0.0/28 of network app"},
		{"leg elsewhere", createOn("macvlan", "new", "parent=eth1", "10.8.8.0/28", "host-leg=10.8.9.1"), model.Invalid, "option host-leg: 10.8.9.1: outside subnet 10.8.8.0/28"},
		{"leg of no family", createOn("macvlan", "new", "parent=eth1", "10.8.8.0/28", "host-leg=fd00::1"), model.Invalid, "option host-leg: fd00::1: the network has no subnet of that family"},
		{"two legs", createOn("macvlan", "new", "parent=eth1", "host-leg=10.8.8.1,10.8.8.2"), model.Invalid, "option host-leg: 10.8.8.2: is the second of its family"},
		{"no leg", createOn("macvlan", "new", "parent=eth1", "host-leg=some"), model.Invalid, `option host-leg: "some": want an address for the host`},
		{"leg in private", createOn("macvlan", "new", "parent=eth1", "10.8.8.0/28", "mode=private", "host-leg=10.8.8.1"), model.Invalid, "mode private keeps the host and the containers from each other"},
		{"leg is there", createOn("macvlan", "new", "parent=dummy0", "198.51.100.0/24", "host-leg=198.51.100.9"), model.Conflict, "option host-leg: 198.51.100.9: is the host's already, on device eth0"},
		{"leg and another wire of the host's", createOn("macvlan", "new", "parent=dummy0", "198.51.100.0/24", "host-leg=198.51.100.8"), model.Conflict, "subnet 198.51.100.0/24: overlaps 198.51.100.9/24 on the host's device eth0"},

		{"leg's address", run(SandboxSpec{Networks: []EndpointSpec{{Network: "ten", Addrs: at("10.6.0.9")}}}), model.Conflict, "network ten: address 10.6.0.9: taken by the host"},
		{"second of passthru", run(SandboxSpec{Networks: on("alone")}), model.Conflict, "network alone: sandbox alone0 has parent eth1.20 for itself, by mode passthru"},
		{"hardware address of passthru", run(SandboxSpec{Networks: []EndpointSpec{{Network: "alone", MAC: mac}}}), model.Invalid, "network alone: mac-address " + mac + ": its interfaces have their parent's"},
		{"hardware address of ipvlan", run(SandboxSpec{Networks: []EndpointSpec{{Network: "own", MAC: mac}}}), model.Invalid, "network own: mac-address " + mac + ": its interfaces have their parent's"},
		{"rates", run(SandboxSpec{Networks: []EndpointSpec{{Network: "ten", Limits: model.Limits{Egress: model.Limit{Rate: 1e6}}}}}), model.Unsupported, "network ten: rates are kept at the host's end of a container's interface, which driver macvlan has not"},
		{"same addresses twice", connect("ten0", EndpointSpec{Network: "alone"}), model.Conflict, "subnet 10.6.0.0/28: overlaps 10.6.0.0/28 of network ten, which sandbox ten0 is on"},
		{"ports", publish("ten0", ports("80")...), model.Invalid, "ports cannot be published: network ten: its containers are reached at their own addresses"},
		{"mode for good", func(r *rig) error {
			_, err := r.e.UpdateNetwork(r.ctx, "ten", NetworkUpdate{Options: map[string]string{"mode": "vepa"}})
			return err
		}, model.Invalid, "option mode: cannot change while the network exists"},
	} {
		before := r.all()
		err := c.act(r)
		if err == nil || model.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("%s: %s: %v, want %s: %q", c.name, model.KindOf(err), err, c.kind, c.want)
		}
		r.same(c.name, lines(r.all()), lines(before))
	}
}

// TestParentFeature: what the kernel lacks is told before anything is made.
func TestParentFeature(t *testing.T) {
	r := bare(t)
	r.quiet = true
	r.prepare()
	r.e.cfg.Feature = func(name string) error {
		if name == "macvlan" {
			return nil
		}
		return &kernel.OpError{Err: kernel.ErrUnsupported}
	}
	r.ok(r.e.Start(r.ctx))
	r.give(spare)
	r.ok(createOn("macvlan", "new", "parent=eth1", "10.6.0.0/28")(r))
	for _, make := range []func(*rig) error{
		createOn("ipvlan", "thin", "parent=eth0", "10.7.0.0/28"), createOn("macvlan", "ten", "parent=eth1.10", "10.7.0.0/28"),
	} {
		if err := make(r); model.KindOf(err) != model.Unsupported {
			t.Error(err)
		}
	}
}

// TestHostsAddressesStayItsOwn: what the host has on the parent, and the router it
// knows there, are nobody's to be given.
func TestHostsAddressesStayItsOwn(t *testing.T) {
	r := newRig(t)
	r.ok(createOn("macvlan", "lan", "parent=eth0", "198.51.100.0/28")(r))
	for i := range 12 {
		sb := r.sandbox("sb"+string(rune('a'+i)), SandboxSpec{Networks: on("lan")})
		if a := sb.Endpoints[0].Addrs[0].Addr(); a == netip.MustParseAddr("198.51.100.9") || a == netip.MustParseAddr("198.51.100.1") {
			t.Errorf("%s got %s", sb.Name, a)
		}
	}
	_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "more", Networks: on("lan")})
	if model.KindOf(err) != model.Exhausted {
		t.Error(err)
	}
	r.check()
}

// TestNICsAddress: a NIC keeps its hardware address, also one that comes later, and has
// the one that a user gives, also if it is what an interface of ours would have.
func TestNICsAddress(t *testing.T) {
	r := newRig(t)
	r.give(spare)
	r.ok(createOn("phys", "nic", "parent="+spare.Name, "10.6.0.0/28")(r))
	r.inn.run("docker:web")
	r.k.Remove(spare.Key())
	_, ep, err := r.e.Connect(r.ctx, "docker:later", EndpointSpec{Network: "nic", Await: true}, nil)
	r.ok(err)
	r.equal("one that is not there", ep.MAC, "")
	r.ok(r.e.Disconnect(r.ctx, "docker:later", "nic"))
	r.give(spare)
	derived := model.MACFor(netip.MustParseAddr("10.6.0.7"))
	for given, want := range map[string]string{"": spare.MAC, derived: derived} {
		_, _, err = r.e.Connect(r.ctx, "docker:web", EndpointSpec{Network: "nic", MAC: given, Addrs: []netip.Addr{netip.MustParseAddr("10.6.0.7")}}, nil)
		r.ok(err)
		if dump := r.k.Dump(); !strings.Contains(dump, " type nic parent eth1 mtu 1500 address "+want+" up") {
			t.Errorf("given %q, want %s:\n%s", given, want, dump)
		}
		r.ok(r.e.Disconnect(r.ctx, "docker:web", "nic"))
	}
}

// TestParentGone: the network and its containers say so, and both come back.
func TestParentGone(t *testing.T) {
	r := newRig(t)
	wired(r)
	says := func(want string) {
		t.Helper()
		n, sb := must[*model.Network](r)(r.e.Network("ten")), must[*model.Sandbox](r)(r.e.Sandbox("wired"))
		for ref, st := range map[string]Status{n.Ref(): r.e.NetworkStatus(n), sb.Ref(): r.e.SandboxStatus(sb)} {
			if got := st.State + " " + st.Message; want == "" && st.Message != "" || want != "" && (st.State != StateDegraded || !endsIn(got, want)) {
				t.Errorf("%s: %s, want %q", ref, got, want)
			}
		}
		other := must[*model.Network](r)(r.e.Network("app"))
		if st := r.e.NetworkStatus(other); st.State != StateReady {
			t.Errorf("another network is %s: %s", st.State, st.Message)
		}
	}
	says("")
	r.k.Remove(spare.Key())
	if _, err := r.e.Sync(r.ctx, "test"); err == nil {
		t.Error("no error")
	}
	says("parent eth1: is gone")
	for _, c := range r.e.Doctor(r.ctx) {
		if c.What == "intent" {
			t.Errorf("said once more: %v", c)
		}
	}
	r.give(spare)
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	says("")
	r.check()
	dead := spare
	dead.Up, dead.NoCarrier = true, true
	r.give(dead)
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	says("parent eth1: has no carrier")
}

func endsIn(s, end string) bool { return len(s) >= len(end) && s[len(s)-len(end):] == end }

// TestAlike: the kernel takes a macvtap for a macvlan.
func TestAlike(t *testing.T) {
	for _, c := range []struct {
		of     kstate.LinkType
		driver string
		want   bool
	}{
		{"macvlan", "macvlan", true}, {"macvtap", "macvlan", true}, {"ipvtap", "ipvlan", true},
		{"ipvtap", "macvlan", false}, {"macvlan", "ipvlan", false}, {"", "macvlan", false}, {"vlan", "macvlan", false},
	} {
		if got := alike(c.of, c.driver); got != c.want {
			t.Errorf("%s, %s: %v", c.of, c.driver, got)
		}
	}
}
