package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/model"
)

func states(all []Check) (out []string) {
	for _, c := range all {
		out = append(out, c.State+" "+c.What)
		if (c.State == CheckOK) != (c.Right == "") {
			out = append(out, "what would be right: "+c.Right)
		}
	}
	return out
}

func TestVitals(t *testing.T) {
	table := func(used int) facts.Table { return facts.Table{Used: used, Most: 1000} }
	roomy := facts.Volume{Path: "/s", Free: 1 << 30, Size: 1 << 40}
	for _, c := range []struct {
		name string
		v    facts.Vitals
		want string
	}{
		{"nothing is known", facts.Vitals{StateDir: roomy}, "ok state directory"},
		{"empty", facts.Vitals{StateDir: roomy, MostConnections: 1000, Files: table(1)}, "ok state directory,ok connections,ok files"},
		{"fullish", facts.Vitals{StateDir: facts.Volume{Free: little - 1}, Connections: 800, MostConnections: 1000, Files: table(969)}, "warn state directory,warn connections,warn files"},
		{"full", facts.Vitals{StateDir: facts.Volume{Free: 0}, Connections: 970, MostConnections: 1000, Files: table(1001),
			Neighbours: map[string]facts.Table{"IPv4": table(799), "IPv6": table(1000)}}, "fail state directory,fail connections,ok neighbours,fail neighbours,fail files"},
		{"read-only", facts.Vitals{StateDir: facts.Volume{Free: 1 << 40, Err: errors.New("read-only file system")}}, "fail state directory"},
	} {
		if got := strings.Join(states(judgeVitals(c.v)), ","); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestFullness(t *testing.T) {
	n, sub := &model.Network{Name: "app"}, "10.0.0.0/24"
	for _, c := range []struct {
		used, free uint64
		want       []string
	}{{10, 246, nil}, {229, 27, nil}, {231, 25, []string{"warn network app"}}, {256, 0, []string{"fail network app"}}} {
		if got := states(fullness(n, sub, c.used, c.free)); !slices.Equal(got, c.want) {
			t.Errorf("%d of %d: %s, want %s", c.used, c.used+c.free, got, c.want)
		}
	}
}

// TestDoctorForwarding: the host passes on what containers send where it is their way, and
// not what is on a wire with others, also if it has a leg there.
func TestDoctorForwarding(t *testing.T) {
	r := newRig(t)
	r.give(spare)
	r.ok(createOn("macvlan", "lan", "parent=eth1", "fd00:6::/64", "host-leg=fd00:6::9")(r))
	r.e.cfg.Health.Forwarding = func() map[string]bool { return map[string]bool{"IPv4": true, "IPv6": false} }
	if got, want := strings.Join(states(r.e.checkForwarding()), ","), "ok forwarding"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	r.network("app", "10.1.0.0/24", "fd01::/64")
	if got, want := strings.Join(states(r.e.checkForwarding()), ","), "ok forwarding,fail forwarding"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// What is wrong with the store that hosts share is told on a host that has no network of it.
func TestDoctorStore(t *testing.T) {
	m := cluster.NewMemory(nil)
	a := member(t, m, "a", "198.51.100.9")
	says := func(want string) {
		t.Helper()
		eventually(t, want, func() bool {
			return slices.ContainsFunc(a.e.Doctor(a.ctx), func(c Check) bool {
				return strings.HasPrefix(c.State+" "+c.What+": "+c.Why, want)
			})
		})
	}
	says("ok cluster: the store answers")
	m.SetAway(true)
	says("warn cluster: ")
	m.SetAway(false)
	says("ok cluster: the store answers")
}
