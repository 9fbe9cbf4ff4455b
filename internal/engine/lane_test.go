package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// lacking has the kernel be without features.
func lacking(names ...string) func(string) error {
	return func(name string) error {
		if slices.Contains(names, name) {
			return &feature.Missing{Name: name, Needs: "CONFIG_" + name, Err: kernel.ErrUnsupported}
		}
		return nil
	}
}

// unsorted is base on a kernel whose bridges do not sort, with a network on a VLAN
// of somebody's bridge, one on a bridge of its own with a container in another
// VLAN, and pipework's on another.
func unsorted(r *rig) {
	base(r)
	r.e.cfg.Feature = lacking(feature.Sorting)
	r.inn.run("docker:db")
	known := lan
	known.MAC = "02:00:00:00:00:0f" // which devices on it have as well
	r.give(known)
	r.network("ten", "name=br0", "vlan=10", "10.7.0.0/28")
	r.network("own", "name=sw0", "vlan=10", "10.8.0.0/28")
	r.ok(connect("web", EndpointSpec{Network: "own", VLAN: 20})(r))
	spec := patched("br1", "192.168.1.1/24")
	spec.VLAN = 10
	r.plug("docker:db", spec)
}

// retag has a container in a VLAN of a device by a command of pipework.
func retag(device string, vlan int) func(*rig) error {
	return func(r *rig) error {
		spec := patched(device, "192.168.9.9/24")
		spec.VLAN, spec.Endpoint.IfName, spec.Command = vlan, "eth5", fmt.Sprint(device, "@", vlan)
		_, _, err := r.e.Plug(r.ctx, "docker:db", spec)
		return err
	}
}

var laneScenarios = []scenario{
	{"create a network on a VLAN of somebody's bridge that does not sort", unsorted, createWith(func(s *NetworkSpec) {
		*s = netSpec("new", "name=br0", "vlan=30", "10.6.0.0/28")
	})},
	{"create one on a bridge of its own", unsorted, createWith(func(s *NetworkSpec) { *s = netSpec("new", "vlan=30", "10.6.0.0/28", "fd00:6::/64") })},
	{"run in a VLAN that is a bridge", unsorted, run(SandboxSpec{Networks: on("own", "ten"), Ports: ports("8060:80")})},
	{"connect to another", unsorted, connect("web", EndpointSpec{Network: "ten", VLAN: 40})},
	{"disconnect the last from one", unsorted, func(r *rig) error { return r.e.Disconnect(r.ctx, "web", "own") }},
	{"remove what is in one", unsorted, func(r *rig) error { return r.e.RemoveSandbox(r.ctx, "web", true) }},
	{"plug a container into a second VLAN of a bridge", unsorted, retag("br1", 20)},
	{"plug it into somebody's", unsorted, retag("br0", 20)},
	{"unplug the last", unsorted, func(r *rig) error { return r.e.Unplug(r.ctx, "docker:db", model.Plug{Device: "br1"}, "") }},
	{"remove a network on a VLAN of somebody's bridge", unsorted, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "ten") }},
	{"remove one on its own", func(r *rig) {
		unsorted(r)
		r.ok(r.e.RemoveSandbox(r.ctx, "web", true))
	}, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "own") }},
}

// lanes are the VLANs with bridges by network.
func (r *rig) lanes() string {
	var out []string
	for _, n := range r.e.Networks() {
		if len(n.Lanes) > 0 || n.Sorts() {
			out = append(out, fmt.Sprintf("%s %v sorts %v", n.Name, n.Lanes, n.Sorts()))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestLanesAreKept: on a kernel whose bridges sort, networks that were made without
// stay as they are, also for further VLANs; new ones sort.
func TestLanesAreKept(t *testing.T) {
	r := newRig(t)
	unsorted(r)
	if got := r.lanes(); got != "br1 [10] sorts false, own [10 20] sorts false, ten [10] sorts false" {
		t.Fatal(got)
	}
	before := pathsOnly(r.k.Dump())
	r.restart() // with every feature
	if after := pathsOnly(r.k.Dump()); after != before {
		t.Errorf("restarted:\n%s\nwas:\n%s", after, before)
	}
	r.sandbox("late", SandboxSpec{})
	r.ok(connect("late", EndpointSpec{Network: "own", VLAN: 30})(r))
	r.network("new", "name=sw9", "vlan=10", "10.6.0.0/28")
	if got := r.lanes(); got != "br1 [10] sorts false, new [] sorts true, own [10 20 30] sorts false, ten [10] sorts false" {
		t.Error(got)
	}
	if err := connect("late", EndpointSpec{Network: "ten", Trunks: "all"})(r); model.KindOf(err) != model.Conflict || !strings.Contains(err.Error(), "each VLAN of network ten has a bridge of its own") {
		t.Error(err)
	}
	r.ok(r.e.RemoveNetwork(r.ctx, "new"))
	for _, name := range []string{"web", "late"} {
		r.ok(r.e.Disconnect(r.ctx, name, "own"))
	}
	r.check()
	if n := must[*model.Network](r)(r.e.Network("own")); len(n.Lanes) != 1 {
		t.Errorf("VLANs %v have bridges and nobody in them", n.Lanes)
	}
}

// TestSortingIsKept: a network that sorts does so on a kernel that cannot as well,
// which then says so; a new one has bridges for its VLANs.
func TestSortingIsKept(t *testing.T) {
	r := newRig(t)
	r.network("old", "name=sw0", "vlan=10", "10.7.0.0/28")
	r.sandbox("web", SandboxSpec{})
	r.e.cfg.Feature = lacking(feature.Sorting)
	if err := connect("web", EndpointSpec{Network: "old", VLAN: 20})(r); model.KindOf(err) != model.Unsupported {
		t.Error(err)
	}
	r.network("new", "vlan=10", "10.6.0.0/28")
	if got := r.lanes(); got != "new [10] sorts false, old [] sorts true" {
		t.Error(got)
	}
	if left, _, err := r.e.Diff(r.ctx); len(left) > 0 || err != nil {
		t.Errorf("to do %v, %v", left, err)
	}
}

// TestPlugInTwoLanes: commands of pipework on one bridge share a network, whose VLANs
// go with their last containers, and it with its last.
func TestPlugInTwoLanes(t *testing.T) {
	r := newRig(t)
	r.e.cfg.Feature = lacking(feature.Sorting)
	r.inn.run("docker:web", "docker:db")
	before := r.k.Dump()
	for i, ref := range []string{"web", "db"} {
		spec := patched("br1", fmt.Sprintf("192.168.1.%d/24", i+1))
		spec.VLAN = 10 * (i + 1)
		r.plug(ref, spec)
		steps := r.k.Steps()
		if r.plug(ref, spec); r.k.Steps() != steps {
			t.Errorf("the same command for %s changes the kernel", ref)
		}
	}
	r.check()
	if got := r.custom() + ": " + r.lanes(); got != "br1 bridge: br1 [10 20] sorts false" {
		t.Error(got)
	}
	r.unplug("web", "br1")
	r.check()
	if got := r.lanes(); got != "br1 [20] sorts false" {
		t.Error(got)
	}
	r.unplug("db", "br1")
	if after := r.k.Dump(); r.custom() != "" || after != before {
		t.Errorf("left: %s\n%s\nwas:\n%s", r.custom(), after, before)
	}
}

// TestLaneRefusals: what cannot be is told with what stands in the way.
func TestLaneRefusals(t *testing.T) {
	r := newRig(t)
	unsorted(r)
	r.sandbox("bare", SandboxSpec{})
	r.give(kstate.Link{Name: "br0.50", Type: kstate.TypeVLAN, Parent: "br0", VLAN: 50, MTU: 1400, Up: true})
	for _, c := range []struct {
		name  string
		lacks []string
		act   func(*rig) error
		kind  model.Kind
		want  string
	}{
		{"neither", []string{feature.Sorting, feature.VLAN}, createOn("bridge", "new", "vlan=30"), model.Unsupported,
			"VLANs of a bridge take one of two: vlan-filtering: needs CONFIG_vlan-filtering: not supported by this kernel; or vlan: needs CONFIG_vlan: not supported"},
		{"neither, for a container", []string{feature.Sorting, feature.VLAN}, connect("bare", EndpointSpec{Network: "app", VLAN: 30, IfName: "eth5"}), model.Unsupported,
			"VLANs of a bridge take one of two: vlan-filtering: needs"},
		{"neither, for a command", []string{feature.Sorting, feature.VLAN}, retag("br7", 30), model.Unsupported, "VLANs of a bridge take one of two: vlan-filtering: needs"},
		{"no 802.1Q any more", []string{feature.Sorting, feature.VLAN}, connect("bare", EndpointSpec{Network: "own", VLAN: 30, IfName: "eth5"}), model.Unsupported, "vlan: needs CONFIG_vlan"},
		{"trunks", []string{feature.Sorting}, createOn("bridge", "new", "vlan=30", "trunks=40"), model.Unsupported, "option trunks: 40: takes a bridge that sorts by VLAN: vlan-filtering: needs"},
		{"a container's trunks", []string{feature.Sorting}, connect("bare", EndpointSpec{Network: "dual", Trunks: "40"}), model.Unsupported, "option trunks: 40: takes a bridge that sorts by VLAN: vlan-filtering: needs"},
		{"trunks of bridges for VLANs", []string{feature.Sorting}, connect("bare", EndpointSpec{Network: "ten", Trunks: "40"}), model.Conflict,
			"option trunks: 40: each VLAN of network ten has a bridge of its own"},
		{"trunks later", nil, func(r *rig) error {
			_, err := r.e.UpdateNetwork(r.ctx, "own", NetworkUpdate{Options: map[string]string{"trunks": "40"}})
			return err
		}, model.Invalid, "option trunks: 40: each VLAN of the network has a bridge of its own, which has no tags"},
		{"trunks of a bridge that sorts nothing", []string{feature.Sorting}, func(r *rig) error {
			_, err := r.e.UpdateNetwork(r.ctx, "app", NetworkUpdate{Options: map[string]string{"trunks": "40"}})
			return err
		}, model.Unsupported, "option trunks: 40: takes a bridge that sorts by VLAN: vlan-filtering: needs"},
		{"theirs", []string{feature.Sorting}, createOn("bridge", "new", "name=br0", "vlan=50"), model.Conflict, "option vlan: 50: device br0.50 exists already, as a vlan"},
		{"another's", []string{feature.Sorting}, createOn("bridge", "new", "parent=br0", "vlan=10"), model.Conflict, "option vlan: 10: network ten has device br0.10"},
		{"macvlan's", []string{feature.Sorting}, createOn("macvlan", "new", "parent=br0", "vlan=10"), model.Conflict, "parent br0.10: network ten has it as a port of its bridge"},
		{"the same", []string{feature.Sorting}, createOn("bridge", "new", "name=br0", "vlan=10"), model.Conflict, "device br0: belongs to network ten"},
		{"our bridge", []string{feature.Sorting}, createOn("macvlan", "new", "parent=sw0"), model.Invalid, "parent sw0: is the bridge of network own"},
		{"too large", []string{feature.Sorting}, createOn("bridge", "new", "name=br0", "vlan=60", "mtu=1500"), model.Invalid, "mtu 1500: bridge br0 has 1400"},
	} {
		r.e.cfg.Feature = lacking(c.lacks...)
		before := r.all()
		err := c.act(r)
		if err == nil || model.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("%s: %s: %v, want %s: %q", c.name, model.KindOf(err), err, c.kind, c.want)
		}
		r.same(c.name, lines(r.all()), lines(before))
	}
}
