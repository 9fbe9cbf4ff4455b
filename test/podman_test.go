package script

import (
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/podman"
)

// podmanNetwork gives Podman a network of ours by its CNI back-end, as Debian's
// containers.conf(5) sets it.
const podmanNetwork = `set -e
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin /etc/cni/net.d /etc/containers/containers.conf.d
ln -s $(command -v sealane-cni) /opt/cni/bin/
cat >/etc/containers/containers.conf.d/cni.conf <<'END'
[network]
cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
network_config_dir = "/etc/cni/net.d"
END
cat >/etc/cni/net.d/20-app.conflist <<'END'
{"cniVersion": "0.4.0", "name": "app", "plugins": [
  {"type": "sealane-cni", "subnet": "10.50.0.0/24", "capabilities": {"portMappings": true, "aliases": true, "ips": true, "mac": true}},
  {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1"}}
]}
END
cat >/etc/cni/net.d/21-back.conflist <<'END'
{"cniVersion": "0.4.0", "name": "back", "plugins": [
  {"type": "sealane-cni", "subnets": ["10.51.0.0/24", "fd51::/64"], "capabilities": {"portMappings": true, "aliases": true, "ips": true, "mac": true}}
]}
END`

// TestPodman runs containers of the real Podman on networks: with a published
// port, which Podman binds as well, with a fixed address, again after a restart, and
// on several networks, as they begin and while they run.
func TestPodman(t *testing.T) {
	lab.Needs(t, strings.Fields(podman.Programs)...)
	l := lab.New(t)
	h, far := l.Host("a"), l.Host("far")
	h.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24")
	far.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24")
	h.Daemon()
	h.Must("bash", "-c", podman.Furnish+podmanNetwork)
	run := func(args ...string) {
		t.Helper()
		h.Must("podman", podman.Args(args...)...)
	}
	answers := func(name string) {
		t.Helper()
		got := ""
		for end := time.Now().Add(30 * time.Second); !strings.Contains(got, "name "+name+"\n") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
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

	if got := h.Must("sealane", "ps", "-a", "--format", "{{.Name}} {{.Origin}}"); got != "fixed cni\nweb cni\n" {
		t.Errorf("names: %s", got)
	}
	h.Must("sealane", "network", "create", "extra")
	h.Must("sealane", "network", "connect", "extra", "podman:web")
	if got := h.Must("sealane", "ps", "-a", "--format", "{{.Name}} {{len .Endpoints}}"); got != "fixed 1\nweb 2\n" {
		t.Errorf("web on one more network: %s", got)
	}
	h.Must("sealane", "network", "disconnect", "extra", "web")
	h.Must("sealane", "port", "add", "web", "8091:80")

	shows := func(words ...string) {
		t.Helper()
		got := h.Must("sealane", "ps", "--format", "{{range .Endpoints}}{{.Network}} {{.IfName}} {{.Addresses}} {{.MAC}} {{.Aliases}}; {{end}}")
		for _, word := range words {
			if !strings.Contains(got, word) {
				t.Errorf("there is no %s in\n%s", word, got)
			}
		}
	}
	run("network", "connect", "--alias", "front", "--ip", "10.51.0.66", "--ip6", "fd51::66", "--mac-address", "02:00:00:00:00:66", "back", "web")
	run("run", "-d", "--name", "two", "--network", "back:ip=fd51::77,interface_name=eth100,alias=rear", "--network", "app:interface_name=eth7",
		"echo", "/lab-echo", "serve", "-tcp", "80", "-name", "two")
	shows("back eth1 [10.51.0.66/24 fd51::66/64] 02:00:00:00:00:66 [", "front", "back eth100 [10.51.0.2/24 fd51::77/64]", "rear", "app eth7 [10.50.0.")
	for url, name := range map[string]string{"http://10.51.0.66/": "web", "http://[fd51::77]/": "two"} {
		if got := h.Must("podman", podman.Args("exec", map[string]string{"web": "two", "two": "web"}[name], "/lab-echo", "get", "-timeout", "20s", url)...); !strings.Contains(got, "name "+name+"\n") {
			t.Errorf("%s: %s", url, got)
		}
	}
	answers("web")
	run("network", "reload", "-a")
	shows("back eth1 [10.51.0.66/24 fd51::66/64]", "back eth100 [10.51.0.", "app eth7 [10.50.0.")
	answers("web")
	run("network", "disconnect", "back", "web")
	answers("web")
	run("rename", "web", "site") // which nobody tells
	names := ""
	for end := time.Now().Add(time.Minute); !strings.Contains(names, "site\n") && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		names = h.Must("sealane", "ps", "--format", "{{.Name}}")
	}
	if !strings.Contains(names, "site\n") || strings.Contains(names, "web\n") {
		t.Errorf("after a rename: %s", names)
	}
	run("rm", "-f", "-t", "0", "site", "fixed", "two")
	if got := h.Must("sealane", "ps", "-a", "-o", "json"); got != "[]\n" {
		t.Errorf("left: %s", got)
	}
	if got := h.Must("sealane", "diff"); got != "" {
		t.Errorf("not as intended: %s", got)
	}
}
