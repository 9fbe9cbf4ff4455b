package script

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// containerd furnishes a host with a containerd that has its plugins and networks
// where Debian's has them, and an image of lab-echo.
const containerd = `set -e
mkdir -p /run/etc/up /run/etc/work /run/image
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work overlay /etc
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin /etc/cni/net.d
ln -s $(command -v sealane-cni) /opt/cni/bin/
cat >/etc/cni/net.d/10-sealane.conflist <<'END'
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "sealane-cni", "subnet": "10.88.0.0/16", "options": {"gateway-mode": "nat"}}]}
END
cat >/run/containerd.toml <<'END'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
END
cd /run/image
mkdir root
cp $(command -v lab-echo) root/
tar -C root -cf layer.tar .
sum=$(sha256sum layer.tar)
echo '{"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ["sha256:'${sum%% *}'"]}}' >config.json
echo '[{"Config": "config.json", "RepoTags": ["lab.example/echo:1"], "Layers": ["layer.tar"]}]' >manifest.json
tar -cf image.tar manifest.json config.json layer.tar
exec containerd -l warn -c /run/containerd.toml`

// TestContainerd runs a container of the real containerd on a network.
func TestContainerd(t *testing.T) {
	for _, program := range []string{"containerd", "ctr", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("needs %s: make packages installs it", program)
		}
	}
	h := lab.New(t).Host("a")
	h.Daemon()
	h.Start("bash", "-c", containerd)
	h.Must("bash", "-c", "until ctr version >/dev/null 2>&1; do sleep 0.05; done; ctr image import --no-unpack /run/image/image.tar")
	// Without shares of a processor: the hosts of the lab have no such controller.
	run := h.Start("ctr", "run", "--rm", "--cni", "--cpu-shares", "0", "--snapshotter", "native", "lab.example/echo:1", "web", "/lab-echo", "serve", "-tcp", "80", "-name", "web")
	url := h.Must("bash", "-c", `until a=$(sealane ps | grep -o '10\.88\.[0-9.]*'); do sleep 0.05; done; echo http://$a/`)
	got := ""
	for end := time.Now().Add(10 * time.Second); !strings.Contains(got, "name web\n") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
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
