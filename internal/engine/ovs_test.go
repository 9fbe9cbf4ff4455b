package engine

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// theirs is a bridge of Open vSwitch that is not ours.
var theirs = kstate.OVSBridge{Name: "ovsbr9", Datapath: "netdev", Other: true}

// switched is base with two networks on a bridge of ours, and one on somebody's.
func switched(r *rig) {
	base(r)
	r.k.OpenVSwitch(true, true)
	r.give(theirs)
	for _, n := range []NetworkSpec{
		netSpec("green", "name=ovsbr0", "vlan=100", "10.7.0.0/28", "fd00:7::/64"),
		netSpec("red", "name=ovsbr0", "trunks=200,300-302", "10.7.0.0/28"), netSpec("wide", "name=ovsbr9", "10.8.0.0/28"),
	} {
		n.Driver = model.DriverOVS
		must[*model.Network](r)(r.e.CreateNetwork(r.ctx, n))
	}
	r.ok(connect("web", EndpointSpec{Network: "green"})(r))
}

var ovsScenarios = []scenario{
	{"create a network on a new bridge of Open vSwitch", func(r *rig) { base(r); r.k.OpenVSwitch(true, true) }, createOn("ovs", "new", "vlan=7", "10.7.0.0/28")},
	{"create one on a bridge that is there", func(r *rig) { base(r); r.k.OpenVSwitch(true, true); r.give(theirs) }, createOn("ovs", "new", "name=ovsbr9", "10.7.0.0/28")},
	{"create a second one on a bridge of ours", switched, createOn("ovs", "new", "name=ovsbr0", "vlan=9", "10.7.0.0/28")},
	{"run on it", switched, run(SandboxSpec{Networks: on("wide", "app", "red"), Ports: ports("8060:80")})},
	{"connect to it with a VLAN", switched, connect("web", EndpointSpec{Network: "wide", VLAN: 200})},
	{"update what it carries", switched, func(r *rig) error {
		_, err := r.e.UpdateNetwork(r.ctx, "red", NetworkUpdate{Options: map[string]string{"trunks": "all"}})
		return err
	}},
	{"disconnect from it", switched, func(r *rig) error { return r.e.Disconnect(r.ctx, "web", "green") }},
	{"remove what is on it", switched, func(r *rig) error { return r.e.RemoveSandbox(r.ctx, "web", true) }},
	{"remove one of two networks on it", switched, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "red") }},
	{"remove the last network on it", func(r *rig) {
		switched(r)
		r.ok(r.e.RemoveNetwork(r.ctx, "red"))
		r.ok(r.e.RemoveSandbox(r.ctx, "web", true))
	}, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "green") }},
	{"remove the network on somebody's", switched, func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "wide") }},
}

// TestSwitchRefusals: what cannot be on Open vSwitch is told in one line, and
// leaves nothing.
func TestSwitchRefusals(t *testing.T) {
	r := newRig(t)
	switched(r)
	r.sandbox("bare", SandboxSpec{})
	r.give(kstate.OVSBridge{Name: "ovsbr8", Datapath: "netdev", Other: true})
	r.e.cfg.Feature = func(name string) error {
		if name == feature.OpenVSwitch {
			return &feature.Missing{Name: name, Needs: "CONFIG_OPENVSWITCH (module openvswitch)", Err: kernel.ErrUnsupported}
		}
		return nil
	}
	for _, c := range []struct {
		act  func(*rig) error
		kind model.Kind
		text string
	}{
		{createOn("ovs", "new", "datapath=system"), model.Unsupported, "network new: create: openvswitch: needs CONFIG_OPENVSWITCH (module openvswitch): not supported by this kernel"},
		{createOn("ovs", "new", "name=ovsbr0", "datapath=netdev"), model.Conflict, "network new: create: option datapath: netdev: bridge ovsbr0 has system"},
		{createOn("ovs", "new", "name=ovsbr9", "datapath=system"), model.Conflict, "option datapath: system: bridge ovsbr9 has netdev"},
		{createOn("ovs", "new", "name=br0"), model.Conflict, "device br0: exists and is a bridge, not a bridge of Open vSwitch"},
		{createOn("bridge", "new", "name=ovsbr8"), model.Conflict, "device ovsbr8: is a bridge of Open vSwitch (use -d ovs)"},
		{createOn("bridge", "new", "name=ovsbr0"), model.Conflict, "device ovsbr0: belongs to network "},
		{createOn("ovs", "new", "name=ovsbr0", "vlan=100", "10.7.0.0/24"), model.Conflict, "subnet 10.7.0.0/24: overlaps 10.7.0.0/28 of network green"},
		{createOn("ovs", "new", "vlan=5", "trunks=5"), model.Invalid, "option trunks: VLAN 5: has no tag, as option vlan says"},
		{createOn("ovs", "new", "icc=false"), model.Invalid, `option "icc": not known to driver ovs`},
		{connect("bare", EndpointSpec{Network: "green", Limits: model.Limits{Ingress: model.Limit{Rate: 1e6}}}), model.Unsupported, "network green: connect bare: rates are Open vSwitch's own business there"},
		{run(SandboxSpec{Networks: on("green"), Ports: ports("80")}), model.Invalid, "ports cannot be published: network green: its containers are reached at their own addresses"},
	} {
		before := r.k.Dump()
		err := c.act(r)
		e, ok := errors.AsType[*model.Error](err)
		if !ok || e.Kind != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v, want %s: %s", err, c.kind, c.text)
		}
		if after := r.k.Dump(); after != before {
			t.Errorf("after %v there is\n%s\nwas\n%s", err, after, before)
		}
		r.check()
	}
}

// TestSwitchAway: networks on Open vSwitch say that it is not there, others do not
// notice, and what it then is is as it was.
func TestSwitchAway(t *testing.T) {
	r := newRig(t)
	base(r)
	err := createOn("ovs", "new", "name=ovsbr0", "10.7.0.0/28")(r)
	if err == nil || err.Error() != "network new: create: Open vSwitch: not running: no socket" {
		t.Errorf("without Open vSwitch: %v", err)
	}
	r.check()
	switched2 := netSpec("green", "name=ovsbr0", "10.7.0.0/28")
	switched2.Driver = model.DriverOVS
	r.k.OpenVSwitch(true, true)
	n := must[*model.Network](r)(r.e.CreateNetwork(r.ctx, switched2))
	one := r.sandbox("one", SandboxSpec{Networks: on("green")})
	for _, still := range []struct{ server, switching bool }{{true, false}, {false, false}} {
		r.k.OpenVSwitch(still.server, still.switching)
		if _, err := r.e.Sync(r.ctx, "test"); !errors.Is(err, kernel.ErrNotRunning) {
			t.Errorf("pass: %v", err)
		}
		for name, s := range map[string]Status{n.Ref(): r.e.NetworkStatus(n), one.Ref(): r.e.SandboxStatus(one)} {
			if s.State != StateDegraded || !strings.Contains(s.Message, "not running") {
				t.Errorf("%s is %s: %s", name, s.State, s.Message)
			}
		}
		app := must[*model.Network](r)(r.e.Network("app"))
		if s := r.e.NetworkStatus(app); s.State != StateReady {
			t.Errorf("network app is %s: %s", s.State, s.Message)
		}
		r.sandbox("other", SandboxSpec{Networks: on("app")})
		r.ok(r.e.RemoveSandbox(r.ctx, "other", true))
	}
	r.k.OpenVSwitch(true, true)
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	if s := r.e.NetworkStatus(n); s.State != StateReady {
		t.Errorf("network green is %s: %s", s.State, s.Message)
	}
	r.check()
}
