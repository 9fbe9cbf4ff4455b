package script

import (
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	labcontainerd "github.com/sealane/sealane/internal/lab/containerd"
)

// furnish gives a host the places where Debian's containerd has its plugins and
// networks, and an image of lab-echo, which waits if it is told nothing.
const furnish = `set -e
mkdir -p /run/etc/up /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work overlay /etc
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin /etc/cni/net.d
mount -t tmpfs tmpfs /etc/cni/net.d
ln -s $(command -v sealane-cni) /usr/lib/cni/loopback /opt/cni/bin/
` + labcontainerd.Image

// containerd furnishes a host and becomes a containerd without Kubernetes' part.
const containerd = furnish + `
cat >/etc/cni/net.d/10-sealane.conflist <<'END'
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "sealane-cni", "subnet": "10.88.0.0/16", "options": {"gateway-mode": "nat"}}]}
END
` + labcontainerd.Configure + "exec " + labcontainerd.Command

// TestContainerd runs a container of the real containerd on a network.
func TestContainerd(t *testing.T) {
	lab.Needs(t, "containerd", "ctr", "runc")
	h := lab.New(t).Host("a")
	h.Daemon()
	h.Start("bash", "-c", containerd)
	h.Must("bash", "-c", labcontainerd.Ready+"ctr image import --no-unpack /run/image/image.tar")
	// Without shares of a processor: the hosts of the lab have no such controller.
	run := h.Start("ctr", "run", "--rm", "--cni", "--cpu-shares", "0", "--snapshotter", "native", labcontainerd.Name, "web", "/lab-echo", "serve", "-tcp", "80", "-name", "web")
	url := h.Must("bash", "-c", `until a=$(sealane ps | grep -o '10\.88\.[0-9.]*'); do sleep 0.05; done; echo http://$a/`)
	got := ""
	for end := time.Now().Add(30 * time.Second); !strings.Contains(got, "name web\n") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = h.Run("lab-echo", "get", "-timeout", "2s", strings.TrimSpace(url)).Stdout
	}
	if !strings.Contains(got, "name web\n") {
		t.Fatalf("no answer: %s\n%s", got, run.Output())
	}
	if got := h.Must("sealane", "ps", "--format", "{{.Origin}} {{.Mode}}"); got != "cni other\n" {
		t.Errorf("sandboxes: %s", got)
	}
	h.Must("ctr", "task", "kill", "-s", "SIGKILL", "web")
	run.Wait()
	if got := h.Must("sealane", "ps", "-a", "-o", "json"); got != "[]\n" {
		t.Errorf("left: %s\n%s", got, run.Output())
	}
	if got := h.Must("sealane", "diff"); got != "" {
		t.Errorf("not as intended: %s", got)
	}
}
