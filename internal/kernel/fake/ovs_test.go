package fake_test

import (
	"testing"

	"github.com/sealane/sealane/internal/kstate"
)

func (o *outside) OpenVSwitch(_ *testing.T, server, switching bool) {
	o.Kernel.OpenVSwitch(server, switching)
}

func (o *outside) OVSBridge(_ *testing.T, name string) {
	o.Foreign(kstate.OVSBridge{Name: name, Datapath: "netdev"})
}

func (o *outside) OVSPort(t *testing.T, device string, vlan int) {
	o.Tamper(kstate.OVSPort{Bridge: "ovsbr0", Device: device, Tag: vlan})
}

func (o *outside) OVSUnplug(_ *testing.T, device string) {
	o.Remove(kstate.OVSPort{Device: device}.Key())
}
