package linux

import (
	"strconv"
	"testing"

	"github.com/sealane/sealane/internal/lab/openvswitch"
)

// running is which programs run.
type running struct{ server, switching bool }

func (o *outside) OpenVSwitch(t *testing.T, server, switching bool) {
	for _, p := range []struct {
		name      string
		want, has bool
	}{{openvswitch.Switch, switching, o.running.switching}, {openvswitch.Server, server, o.running.server}} {
		if p.has && !p.want {
			o.must(t, o.ovs.End(p.name, "KILL"))
		}
	}
	if server && !o.running.server {
		o.must(t, o.ovs.Start(openvswitch.Server))
	}
	if switching && !o.running.switching {
		o.must(t, o.ovs.Start(openvswitch.Switch))
	}
	o.running = running{server, switching}
}

func (o *outside) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (o *outside) ctl(t *testing.T, command string) {
	t.Helper()
	_, err := o.ovs.Ctl(command)
	o.must(t, err)
}

func (o *outside) OVSBridge(t *testing.T, name string) {
	o.ctl(t, "add-br "+name+" -- set bridge "+name+" datapath_type=netdev")
}

func (o *outside) OVSPort(t *testing.T, device string, vlan int) {
	o.ctl(t, "set port "+device+" vlan_mode=access trunks=[] tag="+strconv.Itoa(vlan))
}

func (o *outside) OVSUnplug(t *testing.T, device string) { o.ctl(t, "del-port "+device) }
