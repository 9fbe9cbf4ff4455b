package script

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
	labcontainerd "github.com/sealane/sealane/internal/lab/containerd"
	"github.com/sealane/sealane/internal/lab/podman"
)

// installed does what docs/cni.md tells a reader to, with the project's directory at $1
// and the built commands at $2, and gives Podman and containerd what they need besides.
const installed = podman.Furnish + `
for dir in /opt /usr/local /run/here; do mkdir -p $dir; mount -t tmpfs tmpfs $dir; done
mkdir -p /etc/cni/net.d /etc/containers/containers.conf.d
mount -t tmpfs tmpfs /etc/cni/net.d
cd /run/here
ln -s $1/Makefile $1/init .
ln -s $2 bin
make -o build install
cp /usr/local/share/sealane/10-sealane.conflist /etc/cni/net.d/
ln -s /usr/lib/cni/loopback /opt/cni/bin/
cat >/etc/containers/containers.conf.d/cni.conf <<'END'
[network]
cni_plugin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
network_config_dir = "/etc/cni/net.d"
END
` + labcontainerd.Image + labcontainerd.Configure

// TestInstalledExample has each runtime run a container on the network that make
// install brings an example of, with all that it declares.
func TestInstalledExample(t *testing.T) {
	lab.Needs(t, append(strings.Fields(podman.Programs), "make", "containerd", "ctr")...)
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	tools := cnitool(t)
	h := lab.New(t).Host("a")
	h.Daemon()
	h.Must("bash", "-c", installed, "bash", root, os.Getenv(lab.EnvBin))

	c1 := h.NetNS("c1")
	tool := func(command string) string {
		return h.Must("env", "PATH="+tools+":"+os.Getenv("PATH"), "CNI_PATH=/opt/cni/bin", "NETCONFPATH=/etc/cni/net.d", `CAP_ARGS={"aliases":["db"],
			"portMappings":[{"hostPort":8091,"containerPort":80,"protocol":"tcp"}],"bandwidth":{"ingressRate":8000000,"ingressBurst":80000},
			"dns":{"searches":["a.example"]},"mac":"02:00:00:00:00:77"}`, "cnitool", command, "pods", c1)
	}
	if out := tool("add"); !strings.Contains(out, "02:00:00:00:00:77") || !strings.Contains(out, "a.example") || !strings.Contains(out, "127.0.0.11") {
		t.Errorf("cnitool: %s", out)
	}
	h.Start("ip", "netns", "exec", "c1", "lab-echo", "serve", "-tcp", "80", "-name", "c1")
	h.Must("bash", "-c", "until lab-echo get -timeout 2s http://127.0.0.1:8091/ | grep 'name c1'; do sleep 0.02; done")
	tool("check")
	tool("del")

	h.Must("podman", podman.Args("run", "-d", "--name", "web", "--network", "pods", "-p", "8090:80", "echo", "/lab-echo", "serve", "-tcp", "80", "-name", "web")...)
	h.Must("bash", "-c", "until lab-echo get -timeout 2s http://127.0.0.1:8090/ | grep 'name web'; do sleep 0.02; done")
	h.Must("podman", podman.Args("rm", "-f", "-t", "0", "web")...)

	h.Start("bash", "-c", labcontainerd.Command)
	h.Must("bash", "-c", labcontainerd.Ready+"ctr image import --no-unpack /run/image/image.tar")
	run := h.Start("ctr", "run", "--rm", "--cni", "--cpu-shares", "0", "--snapshotter", "native", labcontainerd.Name, "ctr", "/lab-echo", "serve", "-tcp", "80", "-name", "ctr")
	h.Must("bash", "-c", `until a=$(sealane network inspect --format '{{range .Endpoints}}{{(index .Addresses 0).Addr}}{{end}}' pods) && test -n "$a" && lab-echo get -timeout 2s http://$a/ | grep 'name ctr'; do sleep 0.05; done`)
	h.Must("ctr", "task", "kill", "-s", "SIGKILL", "ctr")
	run.Wait()
	if got := h.Must("sealane", "ps", "-a", "-o", "json"); got != "[]\n" {
		t.Errorf("left: %s", got)
	}
}
