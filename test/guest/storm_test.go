// Package guest measures how a real daemon follows containers: many of them, ended
// and started anew at once.
package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "sealane", "sealane-cni", "sealaned") }

// crowd is how many containers there are.
const crowd = 200

// The target is two seconds. A busy machine may take longer without a fault of ours.
const (
	target = 2 * time.Second
	limit  = 5 * target
)

// TestStorm: containers that are started at once all have their connections within
// the target.
func TestStorm(t *testing.T) {
	h := lab.New(t).Host("a")
	h.Daemon()
	storm(t, h, "", func(i int) string { return fmt.Sprintf(", ports: [\"%d:80\"]", 10000+i) })
}

// TestStormOVS is the same on a bridge of Open vSwitch.
func TestStormOVS(t *testing.T) {
	h := lab.New(t).Host("a")
	if err := h.OVS().Start(); err != nil {
		t.Fatal(err)
	}
	h.Daemon()
	storm(t, h, ", driver: ovs, options: {name: ovsbr0, vlan: \"100\"}", func(int) string { return "" })
}

// storm has a crowd start and end on a network. The network is what the word says, an
// endpoint has what more returns for its number.
func storm(t *testing.T, h *lab.Host, network string, more func(i int) string) {
	t.Helper()
	var add, del, file strings.Builder
	fmt.Fprintf(&file, "networks:\n- {name: app, subnets: [{prefix: 10.1.0.0/16}, {prefix: \"fd01::/64\"}]%s}\nendpoints:\n", network)
	for i := range crowd {
		fmt.Fprintf(&add, "netns add c%d\n", i)
		fmt.Fprintf(&del, "netns del c%d\n", i)
		fmt.Fprintf(&file, "- {network: app, sandbox: \"netns:/run/netns/c%d\"%s}\n", i, more(i))
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"add": add.String(), "del": del.String(), "app.yaml": file.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.Must("sealane", "apply", "-f", filepath.Join(dir, "app.yaml"))
	for _, how := range []string{"the first start", "a restart", "another"} {
		await(t, h, "away", crowd)
		began := time.Now()
		h.Must("ip", "-batch", filepath.Join(dir, "add"))
		started := time.Now()
		await(t, h, "running", crowd)
		took := time.Since(started)
		t.Logf("%s: %d namespaces made in %v, all connected %v later", how, crowd, started.Sub(began).Round(time.Millisecond), took.Round(time.Millisecond))
		if took > limit {
			t.Errorf("%s: %v, want %v", how, took, target)
		}
		connected(t, h)
		h.Must("ip", "-batch", filepath.Join(dir, "del"))
	}
	h.Must("ip", "-batch", filepath.Join(dir, "add")) // some before it was seen that they were gone
	connected(t, h)
	if r := h.Run("sealane", "diff"); r.Stdout != "" || r.Code != 0 {
		t.Errorf("diff: %s%s", r.Stdout, r.Stderr)
	}
}

// await waits until so many sandboxes are in a state.
func await(t *testing.T, h *lab.Host, state string, n int) {
	t.Helper()
	var out string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		out = h.Must("sealane", "ps", "--format", "{{.Status.State}}")
		if strings.Count(out, state) == n {
			return
		}
	}
	t.Fatalf("%d are %s, want %d", strings.Count(out, state), state, n)
}

// connected waits until each namespace has its interface, with its address.
func connected(t *testing.T, h *lab.Host) {
	t.Helper()
	have := fmt.Sprintf(`n=0; for i in $(seq 0 %d); do
		nsenter --net=/run/netns/c$i ip -br addr show dev eth1 2>/dev/null | grep -q 10.1. && n=$((n+1))
	done; echo $n`, crowd-1)
	var out string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if out = strings.TrimSpace(h.Must("sh", "-c", have)); out == fmt.Sprint(crowd) {
			return
		}
	}
	t.Fatalf("%s have their interface, want %d", out, crowd)
}
