package dockerd

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

// image is of the program that the lab has on every host.
const image = "echo"

// docker starts dockerd on a new host, with an image that serves echoes.
func docker(t *testing.T, l *lab.Lab, args ...string) (*lab.Host, *Daemon) {
	t.Helper()
	h := l.Host("docker")
	d, err := Start(t.Context(), func(cmd *exec.Cmd) error { _, err := h.StartCmd(cmd); return err }, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if err := d.ImportEcho(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h, d
}

// server is a container that answers on port 8000.
func server(name string) Container {
	return Container{Name: name, Image: image, Cmd: []string{"/lab-echo", "serve", "-tcp", "8000", "-udp", "8000", "-name", name}}
}

func TestPublishedPort(t *testing.T) {
	l := lab.New(t)
	h, d := docker(t, l)
	far := l.Host("far")
	h.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24")
	far.Plug(l.Switch("lan"), "eth0", "192.0.2.2/24")
	c := server("web")
	c.Publish = []string{"8000/tcp", "8000/udp"}
	if err := d.Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		eventually(t, far, "lab-echo", "get", "http://192.0.2.1:8000/"),
		eventually(t, far, "lab-echo", "udp", "192.0.2.1:8000"),
	} {
		if !strings.Contains(got, "name web\n") || !strings.Contains(got, "client 192.0.2.2\n") {
			t.Errorf("far got %q", got)
		}
	}
}

// eventually runs a command until it succeeds: a container that was started
// does not listen yet.
func eventually(t *testing.T, h *lab.Host, name string, args ...string) string {
	t.Helper()
	const again = `for i in $(seq 50); do "$@" 2>/run/last && exit; sleep 0.1; done; cat /run/last >&2; exit 1`
	return h.Must("sh", append([]string{"-c", again, "sh", name}, args...)...)
}

func TestNetworks(t *testing.T) {
	_, d := docker(t, lab.New(t))
	ctx := t.Context()
	subnet := netip.MustParsePrefix("10.99.0.0/24")
	if err := d.CreateNetwork(ctx, "net", subnet); err != nil {
		t.Fatal(err)
	}
	if err := d.Run(ctx, server("web")); err != nil {
		t.Fatal(err)
	}
	if on := networks(t, d, "web"); len(on) != 1 {
		t.Errorf("started on %v", on)
	}
	if err := d.Connect(ctx, "net", "web"); err != nil {
		t.Fatal(err)
	}
	if on := networks(t, d, "web"); len(on) != 2 || !subnet.Contains(netip.MustParseAddr(on["net"])) {
		t.Errorf("connected: on %v", on)
	}
	if err := d.Disconnect(ctx, "net", "web"); err != nil {
		t.Fatal(err)
	}
	if on := networks(t, d, "web"); len(on) != 1 {
		t.Errorf("disconnected: on %v", on)
	}
	if err := d.Remove(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Inspect(ctx, "web"); err == nil || !strings.Contains(err.Error(), "No such container") {
		t.Errorf("removed: %v", err)
	}
}

// networks returns a running container's address on each.
func networks(t *testing.T, d *Daemon, name string) map[string]string {
	t.Helper()
	i, err := d.Inspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if !i.State.Running || i.State.Pid == 0 {
		t.Errorf("%s does not run", name)
	}
	on := map[string]string{}
	for n, s := range i.NetworkSettings.Networks {
		on[n] = s.IPAddress
	}
	return on
}

func TestRefusals(t *testing.T) {
	h := lab.New(t).Host("docker")
	start := func(cmd *exec.Cmd) error { _, err := h.StartCmd(cmd); return err }
	if _, err := Start(t.Context(), start, "--no-such-flag"); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("started with a wrong flag: %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	places := []string{"/etc/docker", "/opt/containerd", "/run/docker.sock", "/run/docker", "/var/lib/docker"}
	before := present(places)
	var network string // of the host
	t.Run("host", func(t *testing.T) {
		h, d := docker(t, lab.New(t))
		if err := d.Run(context.Background(), server("web")); err != nil {
			t.Fatal(err)
		}
		network = strings.TrimSpace(h.Must("readlink", "/proc/1/ns/net"))
	})
	if after := present(places); after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
	procs, err := exec.Command("sh", "-c", "readlink /proc/[0-9]*/ns/net").Output()
	if len(procs) == 0 {
		t.Fatal(err)
	}
	if network == "" || strings.Contains(string(procs), network) {
		t.Errorf("a process is left in the host's network %q", network)
	}
}

// present lists those of the paths that are there.
func present(paths []string) string {
	var there []string
	for _, p := range paths {
		if _, err := os.Lstat(p); err == nil {
			there = append(there, p)
		}
	}
	return strings.Join(there, " ")
}
