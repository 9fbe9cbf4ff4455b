package engine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Sockets of a container choose from its start on; those of a container engine's once it is
// seen to run, as nobody knows its namespace before.
func TestWhoChooses(t *testing.T) {
	r := member(t, cluster.NewMemory(nil), "a", "198.51.100.9")
	_, err := r.overlay("app", nil, "10.1.0.0/24")
	r.ok(err)
	r.knows("app", true)
	own := r.sandbox("web", SandboxSpec{Networks: on("app")})
	chooses := func(netns string, want bool) {
		t.Helper()
		if got := strings.Contains(r.k.Dump(), "netns "+netns+" chooser id 4096\n"); got != want {
			t.Errorf("%s chooses: %v", netns, got)
		}
	}
	chooses(own.NetNS, true)

	const netns, endpoint = "/var/run/docker/netns/7", model.ID("ab0000000001")
	sb, _, err := r.e.Join(r.ctx, netns, model.OriginDocker, EndpointSpec{ID: endpoint, Network: "app", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.9")}})
	r.ok(err)
	r.ok(r.e.NameSandbox(r.ctx, sb.ID, ContainerNames{Name: "db", Hostname: "db"}))
	chooses(netns, false)
	r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: netns, Inode: 7}})
	r.ok(r.e.NameSandbox(r.ctx, sb.ID, ContainerNames{Name: "db", Hostname: "db"}))
	chooses(netns, true)

	// After a reboot, until the engine says what it runs, there is nothing to repair.
	r.k.Remove(kstate.NetNS{NS: kstate.NS{Path: netns, Inode: 7}}.Key())
	_, err = r.e.Sync(r.ctx, "test")
	r.ok(err)
	ops, err := r.e.Sync(r.ctx, "test")
	r.ok(err)
	if len(ops) > 0 {
		t.Errorf("without the namespace a pass has %v", ops)
	}
	r.ok(r.e.Part(r.ctx, endpoint))
	chooses(netns, false)
}
