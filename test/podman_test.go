package script

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// podman furnishes a host for Podman with its CNI back-end, as Debian's
// containers.conf(5) sets it, and an image of lab-echo. The hosts of the lab lack
// the controller for a limit of processes, and crun wants to set one of memory.
const podman = `set -e
mkdir -p /run/etc/up /run/etc/work /run/image
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work overlay /etc
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin /etc/cni/net.d /etc/containers
ln -s $(command -v sealane-cni) /opt/cni/bin/
cat >/etc/containers/containers.conf <<'END'
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
network_config_dir = "/etc/cni/net.d"
[containers]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
cat >/etc/cni/net.d/20-app.conflist <<'END'
{"cniVersion": "0.4.0", "name": "app", "plugins": [
  {"type": "sealane-cni", "subnet": "10.50.0.0/24", "capabilities": {"portMappings": true, "aliases": true, "ips": true, "mac": true}},
  {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1"}}
]}
END
cp $(command -v lab-echo) /run/image/
tar -C /run/image -c . | podman --storage-driver vfs import - echo`

// TestPodman runs containers of the real Podman on a network: with a published
// port, which Podman binds as well, with a fixed address, and again after a
// restart.
func TestPodman(t *testing.T) {
	for _, program := range []string{"podman", "runc", "conmon"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("needs %s: make packages installs it", program)
		}
	}
	l := lab.New(t)
	h, far := l.Host("a"), l.Host("far")
	h.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24")
	far.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24")
	h.Daemon()
	h.Must("bash", "-c", podman)
	run := func(args ...string) {
		t.Helper()
		h.Must("podman", append([]string{"--storage-driver", "vfs"}, args...)...)
	}
	answers := func(name string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(10 * time.Second); !strings.Contains(got, "name "+name+"\n") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			got = far.Run("lab-echo", "get", "-timeout", "2s", "http://192.0.2.1:8090/").Stdout
		}
		if !strings.Contains(got, "name "+name+"\n") || !strings.Contains(got, "client 192.0.2.2\n") {
			t.Errorf("port 8090: got %q", got)
		}
	}
	run("run", "-d", "--name", "web", "--network", "app", "-p", "8090:80", "echo", "/lab-echo", "serve", "-tcp", "80", "-name", "web")
	answers("web")
	run("run", "-d", "--name", "fixed", "--network", "app:ip=10.50.0.77,mac=02:00:00:00:00:77", "echo", "/lab-echo", "serve", "-tcp", "80")
	if got := h.Must("sealane", "network", "inspect", "app"); !strings.Contains(got, "10.50.0.77/24") || !strings.Contains(got, "02:00:00:00:00:77") {
		t.Errorf("fixed: %s", got)
	}
	run("restart", "-t", "0", "web")
	answers("web")
	run("rm", "-f", "-t", "0", "web", "fixed")
	if got := h.Must("sealane", "ps", "-a", "-o", "json"); got != "[]\n" {
		t.Errorf("left: %s", got)
	}
	if got := h.Must("sealane", "diff"); got != "" {
		t.Errorf("not as intended: %s", got)
	}
}
