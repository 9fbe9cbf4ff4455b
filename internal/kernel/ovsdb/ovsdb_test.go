package ovsdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/openvswitch"
)

var (
	br   = kstate.OVSBridge{Name: "ovsbr0", Datapath: "netdev"}
	web  = kstate.OVSPort{Bridge: "ovsbr0", Device: "slv1", Tag: 100, IDs: map[string]string{"sealane.endpoint": "e1"}}
	flat = kstate.OVSPort{Bridge: "ovsbr0", Device: "slv2"}
	both = kstate.OVSPort{Bridge: "ovsbr0", Device: "slv3", Tag: 7, Trunks: []int{100, 200}}
	all  = kstate.OVSPort{Bridge: "ovsbr0", Device: "slv4", All: true}
)

func TestComesAndGoes(t *testing.T) {
	r := running(t, "slv1", "slv2", "slv3", "slv4")
	began := time.Now()
	r.add(br, web, flat, both, all)
	t.Logf("a bridge and four ports: %v", time.Since(began))
	r.holds(br, web, flat, both, all)
	for column, want := range map[string]string{
		"port slv1 tag vlan_mode": "100\naccess", "port slv2 tag vlan_mode": "0\naccess", "port slv3 tag trunks": "7\n[100, 200]", "port slv4 tag trunks vlan_mode": "[]\n[]\n[]",
		"port slv1 external_ids:owner external_ids:sealane.endpoint": "sealane\ne1", "bridge ovsbr0 external_ids:owner": "sealane",
	} {
		r.says("get "+column, want)
	}
	r.add(br, web, flat, both, all) // again: nothing
	moved := web
	moved.Tag, moved.Trunks = 0, []int{5}
	began = time.Now()
	r.must(r.Apply([]kstate.Op{{Old: web, New: moved}}))
	t.Logf("a change: %v", time.Since(began))
	r.holds(br, moved, flat, both, all)
	began = time.Now()
	r.must(r.Apply(kerneltest.Dels(moved)))
	t.Logf("a port goes: %v", time.Since(began))
	began = time.Now()
	r.add(web)
	t.Logf("a port comes: %v", time.Since(began))
	r.must(r.Apply(kerneltest.Dels(web, flat, both, all, br)))
	r.holds()
	r.says("list-br", "")
}

func TestOthers(t *testing.T) {
	r := running(t, "slv1", "eth1")
	r.ctl("add-br ovsbr0 -- set bridge ovsbr0 datapath_type=netdev -- add-port ovsbr0 eth1")
	objs, err := r.Observe()
	r.must(err)
	if len(objs) != 1 || !kstate.Foreign(objs[0]) || objs[0].String() != "ovs-bridge ovsbr0 datapath netdev" {
		t.Fatalf("observed %v", objs)
	}
	r.add(web)
	for _, bad := range [][]kstate.Op{kerneltest.Adds(br), kerneltest.Dels(br), kerneltest.Dels(kstate.OVSPort{Bridge: "ovsbr0", Device: "eth1"}), kerneltest.Adds(kstate.OVSPort{Bridge: "ovsbr0", Device: "eth1"})} {
		if err := r.Apply(bad); !errors.Is(err, kernel.ErrInUse) {
			t.Errorf("%s: %v", bad[0], err)
		}
	}
	for _, bad := range []kstate.OVSPort{{Bridge: "nobr", Device: "eth1p"}, {Bridge: "ovsbr0", Device: "nodev"}} {
		if err := r.Apply(kerneltest.Adds(bad)); !errors.Is(err, kernel.ErrMissing) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := r.Apply(kerneltest.Adds(kstate.OVSBridge{Name: "slv1p", Datapath: "netdev"})); !errors.Is(err, kernel.ErrInUse) {
		t.Errorf("a bridge with a device's name: %v", err)
	}
	r.holds(web)
	r.must(r.Apply(kerneltest.Dels(web)))
	r.says("list-ports ovsbr0", "eth1")
}

// A bridge of ours that others have ports on is left to them.
// TestWays: by which devices a VLAN leaves a bridge, with which tag.
func TestWays(t *testing.T) {
	r := running(t, "slv1", "eth1", "eth2", "eth3", "eth4", "eth5", "eth6", "eth7", "eth8")
	r.ctl("add-br ovsbr0 -- set bridge ovsbr0 datapath_type=netdev -- add-br other -- set bridge other datapath_type=netdev" +
		" -- add-port other eth8 -- add-port ovsbr0 eth1 -- add-port ovsbr0 eth2 tag=100 -- add-port ovsbr0 eth3 trunks=100,200" +
		" -- add-port ovsbr0 eth4 tag=100 vlan_mode=native-untagged -- add-port ovsbr0 eth5 tag=100 vlan_mode=native-tagged" +
		" -- add-bond ovsbr0 bond0 eth6 eth7 tag=200")
	r.add(web)
	for vlan, want := range map[int]string{
		0:   "map[eth1:0 eth4:0 eth5:0]",
		100: "map[eth1:100 eth2:0 eth3:100 eth4:0 eth5:100]",
		200: "map[eth1:200 eth3:200 eth4:200 eth5:200 eth6:0 eth7:0]",
	} {
		if got, err := r.Ways("ovsbr0", vlan); err != nil || fmt.Sprint(got) != want {
			t.Errorf("VLAN %d: %v, %v, want %s", vlan, got, err, want)
		}
	}
	if got, err := r.Ways("nobody", 0); err != nil || len(got) > 0 {
		t.Errorf("no such bridge: %v, %v", got, err)
	}
}

func TestHandOver(t *testing.T) {
	r := running(t, "slv1", "eth1")
	r.add(br, web)
	r.ctl("add-port ovsbr0 eth1")
	r.must(r.Apply(kerneltest.Dels(br)))
	r.holds()
	r.says("list-ports ovsbr0", "eth1")
	r.says("get bridge ovsbr0 external_ids", "{}")
	r.must(r.DelPort("eth1"))
	r.add(web)
	r.must(r.Apply(kerneltest.Dels(web)))
	r.ctl("del-br ovsbr0")
	r.add(br, web)
	r.must(r.Apply(kerneltest.Dels(br)))
	r.says("list-br", "")
}

// One that cannot be keeps no other from being done.
func TestEachByItself(t *testing.T) {
	r := running(t, "slv1", "slv2")
	r.ctl("add-br other -- set bridge other datapath_type=netdev -- add-port other slv2")
	err := r.Apply(kerneltest.Adds(br, web, flat, kstate.OVSBridge{Name: "x.too-long-a-name-for-a-device", Datapath: "netdev"}))
	if !errors.Is(err, kernel.ErrInUse) || !strings.Contains(err.Error(), "slv2") {
		t.Errorf("error is %v", err)
	}
	if err := r.Apply(kerneltest.Dels(kstate.OVSBridge{Name: "x.too-long-a-name-for-a-device"})); err != nil {
		t.Error(err)
	}
	r.holds(br, web)
}

// TestBrokenBridge: what is wrong with a bridge is not said of its ports.
func TestBrokenBridge(t *testing.T) {
	r := running(t, "slv1")
	r.ctl("--no-wait add-br ovsbr0 -- set bridge ovsbr0 datapath_type=nonsense")
	want := "Open vSwitch: bridge ovsbr0: ovs-vswitchd has not taken it up, as its log says"
	if err := r.Apply(kerneltest.Adds(web)); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestMarkless(t *testing.T) {
	r := running(t, "eth1")
	r.add(br)
	nic := kstate.OVSPort{Bridge: "ovsbr0", Device: "eth1", All: true}
	r.must(r.AddPort(nic))
	r.must(r.AddPort(nic))
	r.holds(br)
	if got, err := r.PortOf("eth1"); got != "ovsbr0" || err != nil {
		t.Errorf("it is a port of %q, %v", got, err)
	}
	nic.All = false
	if err := r.AddPort(nic); !errors.Is(err, kernel.ErrInUse) {
		t.Errorf("otherwise: %v", err)
	}
	if b, ok, err := r.Bridge("ovsbr0"); !ok || err != nil || b.String() != br.String() {
		t.Errorf("bridge is %v, %v, %v", b, ok, err)
	}
	r.must(r.DelPort("eth1"))
	r.must(r.DelPort("eth1"))
	r.says("list-ports ovsbr0", "")
	if err := r.AddPort(kstate.OVSPort{Bridge: "ovsbr0", Device: "nodev"}); !errors.Is(err, kernel.ErrMissing) {
		t.Errorf("without a device: %v", err)
	}
}

// A device that is made anew under its name is not what the port leads to.
func TestAnotherDevice(t *testing.T) {
	r := running(t, "slv1")
	r.add(br, web)
	r.cut("slv1")
	gone := web
	gone.Stale = true
	r.holds(br, gone)
	r.veth("slv1")
	r.holds(br, gone)
	old := r.ctl("get port slv1 _uuid")
	r.must(r.Apply([]kstate.Op{{Old: gone, New: web}}))
	r.holds(br, web)
	if now := r.ctl("get port slv1 _uuid"); now == old {
		t.Error("the port is the same")
	}
	if out, _ := exec.Command("ip", "link", "show", "slv1").CombinedOutput(); !strings.Contains(string(out), "PROMISC") {
		t.Errorf("ovs-vswitchd has not opened it: %s", out)
	}
}

func TestNotRunning(t *testing.T) {
	r := start(t)
	r.veth("slv1")
	r.holds()
	err := r.Apply(kerneltest.Adds(br))
	if !errors.Is(err, kernel.ErrNotRunning) || !strings.HasSuffix(err.Error(), "Open vSwitch: not running: no socket "+r.Socket()) {
		t.Errorf("error is %v", err)
	}
	r.up()
	r.add(br, web)
	r.must(r.End(openvswitch.Switch, "KILL"))
	dead, b := web, br
	dead.Broken, b.Broken = noSwitch, noSwitch
	r.holds(b, dead)
	began := time.Now()
	if err := r.Apply(kerneltest.Adds(kstate.OVSPort{Bridge: "ovsbr0", Device: "slv1p"})); !errors.Is(err, kernel.ErrNotRunning) || time.Since(began) > 5*time.Second {
		t.Errorf("without ovs-vswitchd, after %v: %v", time.Since(began), err)
	}
	r.must(r.Apply(kerneltest.Dels(web)))
	r.up(openvswitch.Switch)
	r.holds(br)
	r.must(r.End(openvswitch.Server, "KILL"))
	if err := r.Apply(kerneltest.Adds(web)); !errors.Is(err, kernel.ErrNotRunning) {
		t.Errorf("without ovsdb-server: %v", err)
	}
	r.holds()
	r.up(openvswitch.Server)
	for end := time.Now().Add(20 * time.Second); !r.back(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("ovs-vswitchd does not come back")
		}
	}
	r.add(br, web)
	r.holds(br, web)
}

// A database that was lost has no bridge, but ovs-vswitchd has left its device: it
// takes that up again, and no other.
func TestDatabaseLost(t *testing.T) {
	r := running(t, "slv1", "ovsbr1")
	r.add(br, web)
	r.must(r.End(openvswitch.Switch, "KILL"))
	r.must(r.End(openvswitch.Server, "KILL"))
	r.must(os.Remove(r.Dir + "/conf.db"))
	r.up()
	r.must(exec.Command("ip", "link", "show", "ovsbr0").Run())
	r.add(br, web)
	r.holds(br, web)

	// A port says when its bridge cannot be.
	err := r.Apply(kerneltest.Adds(kstate.OVSBridge{Name: "ovsbr1", Datapath: "netdev"}, kstate.OVSPort{Bridge: "ovsbr1", Device: "slv1p"}))
	if !errors.Is(err, kernel.ErrInUse) || !errors.Is(err, kernel.ErrMissing) || !strings.Contains(err.Error(), "bridge ovsbr1 does not exist") {
		t.Errorf("error is %v", err)
	}
	r.holds(br, web)
}

// A server that hangs is not waited for again and again.
func TestHangs(t *testing.T) {
	r := running(t)
	r.add(br)
	_, err := r.Bash("kill -STOP $(cat " + r.Dir + "/ovsdb-server.pid)")
	r.must(err)
	defer func() { _, _ = r.Bash("kill -CONT $(cat " + r.Dir + "/ovsdb-server.pid)") }()
	began := time.Now()
	r.holds()
	if err := r.Apply(kerneltest.Adds(br)); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("error is %v", err)
	}
	r.holds()
	if took := time.Since(began); took > 2*answerTime {
		t.Errorf("it took %v", took)
	}
}

func TestWatch(t *testing.T) {
	r := running(t, "slv1")
	r.holds() // connects
	news, err := r.Watch(t.Context())
	r.must(err)
	hinted := func(d time.Duration) string {
		select {
		case what := <-news:
			return what
		case <-time.After(d):
			return ""
		}
	}
	r.add(br, web)
	r.holds(br, web)
	r.must(r.Apply([]kstate.Op{{Old: web, New: kstate.OVSPort{Bridge: "ovsbr0", Device: "slv1", Tag: 4}}}))
	if what := hinted(700 * time.Millisecond); what != "" {
		t.Errorf("a hint for our own changes: %s", what)
	}
	r.holds(br, kstate.OVSPort{Bridge: "ovsbr0", Device: "slv1", Tag: 4})
	for i, act := range []func(){
		func() { r.ctl("set port slv1 tag=9") },
		func() { r.ctl("clear port slv1 external_ids") },
		func() { r.ctl("del-port slv1"); hinted(100 * time.Millisecond); r.add(web); r.ctl("del-port slv1") },
		func() { r.ctl("add-br theirs -- set bridge theirs datapath_type=netdev") },
		func() { r.must(r.End(openvswitch.Switch, "KILL")) },
		func() { r.up(openvswitch.Switch) },
	} {
		act()
		if hinted(20*time.Second) == "" {
			t.Errorf("no hint for act %d", i)
		}
		for hinted(400*time.Millisecond) != "" {
		}
	}
	r.must(r.End(openvswitch.Server, "KILL"))
	if what := hinted(20 * time.Second); what == "" {
		t.Error("no hint for the end of ovsdb-server")
	}
	r.up(openvswitch.Server)
	if what := hinted(20 * time.Second); what != "Open vSwitch is back" {
		t.Errorf("hint %q", what)
	}
}
