package compile_test

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// devices are the objects of one network that a container on it has to do with:
// links, addresses, what is set up, and what the container may send.
func devices(t *testing.T, n *model.Network) kstate.Set {
	t.Helper()
	n.ID, n.Name, n.Driver = "aaaaaaaaaaaa", "ten", model.DriverBridge
	if err := n.Validate(); err != nil {
		t.Fatal(err)
	}
	ep := model.Endpoint{ID: "cccccccccccc", Network: n.ID, IfName: "eth1", MAC: "02:42:c0:00:02:02"}
	sb := &model.Sandbox{ID: "bbbbbbbbbbbb", Name: "web", Mode: model.ModeOther, NetNS: "/run/netns/web", Endpoints: []model.Endpoint{ep}}
	in := compile.Intent{Networks: map[model.ID]*model.Network{n.ID: n}, Sandboxes: map[model.ID]*model.Sandbox{sb.ID: sb}}
	all, err := compile.All(in, compile.Facts{RunDir: "/run/sealane"})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLaneIsBridgeOnParent: a VLAN of somebody's bridge that does not sort is made of
// what a bridge on that VLAN of a parent is made of. Only the host is kept out of it.
func TestLaneIsBridgeOnParent(t *testing.T) {
	parent := devices(t, &model.Network{Options: model.Options{Parent: "br0", VLAN: 10, MTU: 1500, NoIPAM: true}})
	lane := devices(t, &model.Network{Options: model.Options{Device: "br0", VLAN: 10, MTU: 1500, NoIPAM: true, Adopted: true}, Lanes: []int{10}})
	bridge := kstate.Link{Name: "slbaaaaaaaaaaaa"}.Key()
	own := parent[bridge].(kstate.Link)
	own.NoARP = true
	parent[bridge] = own
	for _, e := range []struct{ set, key, value string }{
		{"inside", "slbaaaaaaaaaaaa . slbaaaaaaaaaaaa", "goto pass"}, {"egress", "slbaaaaaaaaaaaa", "goto stay"},
		{"to_host4", "slbaaaaaaaaaaaa", "drop"}, {"to_host6", "slbaaaaaaaaaaaa", "drop"},
	} {
		found := false
		for key, o := range lane {
			if elem, ok := o.(kstate.Elem); ok && elem.Set.Name == e.set && elem.At == e.key && elem.Value == e.value {
				delete(lane, key)
				found = true
			}
		}
		if !found {
			t.Errorf("no element %s { %s : %s }", e.set, e.key, e.value)
		}
	}
	if d := gocmp.Diff(parent.String(), lane.String()); d != "" {
		t.Errorf("- option parent, + lane:\n%s", d)
	}
}
