package compile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// TestAsPipework: a port says what the script's would.
func TestAsPipework(t *testing.T) {
	n := &model.Network{Driver: model.DriverOVS, Options: model.Options{Device: "ovsbr0"}}
	e := &model.Endpoint{ID: "e1", Alias: "up", VLAN: 10, Plug: &model.Plug{}}
	sb := &model.Sandbox{NetNS: "/proc/77/ns/net", Guest: &model.Guest{Runtime: model.RuntimeDocker, Name: "web", ID: "abc"}}
	s := kstate.Set{}
	port := kstate.OVSPort{Device: "up", IDs: map[string]string{"sealane.network": "lan"}}
	must(s.Add(port))
	asPipework(s, sb, e, n)
	want := map[string]string{
		"sealane.network": "lan", "pipework.interface": "up", "pipework.bridge": "ovsbr0", "pipework.vlan": "10",
		"pipework.containerid": "abc", "pipework.containername": "/web", "pipework.nspid": "77",
	}
	if diff := cmp.Diff(want, port.IDs); diff != "" {
		t.Error(diff)
	}
}
