package ovsdb

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/openvswitch"
)

// stopped has ovs-vswitchd do nothing for a while, as when it lets many ports go.
func (r *rig) stopped(d time.Duration) {
	r.Helper()
	_, err := r.Bash("kill -STOP $(cat " + r.Dir + "/ovs-vswitchd.pid)")
	r.must(err)
	r.T.Cleanup(func() { _, _ = r.Bash("kill -CONT $(cat " + r.Dir + "/ovs-vswitchd.pid)") })
	time.AfterFunc(d, func() { _, _ = r.Bash("kill -CONT $(cat " + r.Dir + "/ovs-vswitchd.pid)") })
}

// A port that goes is not waited for, but by who makes its device, or it, anew.
func TestLetGo(t *testing.T) {
	const busy = 3 * time.Second
	r := running(t, "slv1", "slv2")
	r.add(br, web, flat)
	for name, again := range map[string]func(){
		"the device": func() {
			r.LetGo("slv2", "slv1")
			r.cut("slv1")
			r.veth("slv1")
			r.add(web)
		},
		"the port": func() { r.add(web) },
	} {
		r.stopped(busy)
		began := time.Now()
		r.must(r.Apply(kerneltest.Dels(web)))
		r.holds(br, flat)
		r.LetGo("slv2")
		if took := time.Since(began); took > busy/2 {
			t.Errorf("%s: it took %v to go", name, took)
		}
		again()
		if took := time.Since(began); took < busy {
			t.Errorf("%s: there again after %v, while ovs-vswitchd was busy", name, took)
		}
		r.holds(br, web, flat)
		if out, _ := exec.Command("ip", "link", "show", "slv1").CombinedOutput(); !strings.Contains(string(out), "PROMISC") || !strings.Contains(string(out), ",UP") {
			t.Errorf("%s: ovs-vswitchd has not opened it: %s", name, out)
		}
	}
	if len(r.leaving) != 0 {
		t.Errorf("leaving are %v", r.leaving)
	}
}

// What is waited for in vain is what ovs-vswitchd had before it, or its database,
// began anew.
func TestLetGoForgets(t *testing.T) {
	r := running(t, "slv1")
	r.add(br, web)
	r.stopped(time.Hour)
	r.must(r.Apply(kerneltest.Dels(web)))
	r.must(r.End(openvswitch.Switch, "KILL"))
	r.must(r.End(openvswitch.Server, "KILL"))
	r.must(exec.Command("rm", r.Dir+"/conf.db").Run())
	r.up()
	began := time.Now()
	r.holds()
	r.LetGo(web.Device)
	r.add(kstate.OVSBridge{Name: "ovsbr1", Datapath: "netdev"})
	if took := time.Since(began); took > settleTime/2 {
		t.Errorf("it took %v", took)
	}
}
