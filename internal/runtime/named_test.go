package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
	labcontainerd "github.com/sealane/sealane/internal/lab/containerd"
	labpodman "github.com/sealane/sealane/internal/lab/podman"
	"github.com/sealane/sealane/internal/model"
)

// TestNamed has runtimes that leave files.
func TestNamed(t *testing.T) {
	config, _ := fakePodman(t, `[{"id":"abc","names":["web"]},{"id":"abd","names":["db"]}]`)
	dir := t.TempDir()
	config.Docker, config.Containerd = "unix://"+dir+"/docker.sock", dir+"/containerd.sock"
	config.LXC, config.Cgroup = []string{dir + "/lxc"}, []string{dir + "/cgroup"}
	config.Machines, config.Images, config.NSpawn = dir+"/run", dir+"/machines", []string{dir + "/nspawn"}
	for _, file := range []string{"lxc/web/config", "machines/web/etc/hostname", "machines/box/etc/hostname"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f := New(config)
	for name, want := range map[string]string{
		"web":                "podman:web lxc:web machine:web",
		"db":                 "podman:db",
		"box":                "machine:box",
		"abc":                "podman:web",
		"none":               "",
		"":                   "",
		"..":                 "",
		"lxc/../web":         "",
		"web\n":              "",
		"1":                  "",
		"/proc/self/ns/net":  "netns:/proc/self/ns/net",
		"/proc/self/ns/none": "",
	} {
		found, err := f.Named(t.Context(), name)
		var got []string
		for _, c := range found {
			got = append(got, c.Guest.String())
		}
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%q: %v, %v, want %s", name, got, err, want)
		}
	}
	found, err := f.Named(t.Context(), "ab")
	if len(found) != 0 || err == nil || err.Error() != "podman:ab: find: 2 containers have an ID that begins so" {
		t.Errorf("the begin of two: %v, %v", found, err)
	}
	// A Docker that is there and does not answer.
	if err := os.WriteFile(dir+"/docker.sock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	found, err = f.Named(t.Context(), "db")
	if len(found) != 1 || err == nil || !strings.HasPrefix(err.Error(), "docker:db: find: dockerd does not answer at unix://") {
		t.Errorf("without dockerd: %v, %v", found, err)
	}
}

func TestNoSuchRuntime(t *testing.T) {
	if c, err := New(Config{}).Find(t.Context(), model.Guest{Runtime: "rkt", Name: "web"}); err == nil {
		t.Errorf("found %v", c)
	}
}

// TestSameName has a container of that name in each of two runtimes.
func TestSameName(t *testing.T) {
	lab.Needs(t, "dockerd", "podman", "runc", "lxc-start")
	h := lab.New(t).Host("a")
	d, _ := startDocker(t, h)
	dockerImage(t, d)
	h.Must("sh", "-c", labpodman.Furnish)
	r := observe(t, h, "docker:web", "podman:web", "lxc:web")
	r.await("lxc:web", "gone")
	if err := d.Run(t.Context(), server("web", "none")); err != nil {
		t.Fatal(err)
	}
	inDocker := r.running("docker:web", seat{})
	r.order("named web")
	if got, want := r.await("named", "web"), "web docker:web=running error <nil>"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	h.Must("podman", labpodman.Args("run", "-d", "--name", "web", "--network", "none", "echo", "/lab-echo", "serve", "-udp", "9")...)
	inPodman := r.running("podman:web", seat{})
	if inDocker.inode == inPodman.inode || inDocker.id == inPodman.id {
		t.Errorf("%+v, %+v", inDocker, inPodman)
	}
	h.Must("sh", "-c", lab.Root+lxcSetup, "sh", "/run/root", "web")
	r.await("lxc:web", "stopped")
	r.order("named web")
	if got, want := r.await("named", "web"), "web docker:web=running podman:web=running lxc:web=stopped error <nil>"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	h.Must("podman", labpodman.Args("rm", "-f", "-t", "0", "web")...)
	r.await("podman:web", "gone")
	if got := r.find("docker:web"); !strings.HasPrefix(got, "running web "+inDocker.id+" "+inDocker.pid) {
		t.Errorf("the other: %s", got)
	}
}

// TestIdle has all runtimes watched while nothing happens.
func TestIdle(t *testing.T) {
	lab.Needs(t, "dockerd", "containerd", "podman", "lxc-start")
	h := lab.New(t).Host("a")
	d, _ := startDocker(t, h)
	dockerImage(t, d)
	h.Must("sh", "-c", labpodman.Furnish)
	h.Must("sh", "-c", lab.Root+lxcSetup, "sh", "/run/root", "web")
	h.Must("sh", "-c", lab.Root, "sh", "/var/lib/machines/web")
	h.Must("sh", "-c", "mkdir -p /run/systemd/machines; ip netns add web")
	h.Must("sh", "-c", containerdSetup)
	h.Start("sh", "-c", "exec "+labcontainerd.Command)
	h.Must("sh", "-c", labcontainerd.Ready)
	if err := d.Run(t.Context(), server("web", "none")); err != nil {
		t.Fatal(err)
	}
	h.Must("podman", labpodman.Args("run", "-d", "--name", "web", "--network", "none", "echo", "/lab-echo", "serve", "-udp", "9")...)
	h.Must("lxc-start", "-n", "web", "-d")
	r := observe(t, h, "docker:web", "podman:web", "containerd:web", "lxc:web", "machine:web", "pid:1", "netns:/run/netns/web")
	for _, ref := range []string{"docker:web", "podman:web", "lxc:web", "pid:1", "netns:/run/netns/web"} {
		r.running(ref, seat{})
	}
	r.await("containerd:web", "gone")
	r.await("machine:web", "stopped")
	h.Must("sleep", "1") // hints of what was just started
	measure := func() (cpu, hints int) {
		t.Helper()
		r.order("cpu")
		if _, err := fmt.Sscan(r.await("cpu", ""), &cpu, &hints); err != nil {
			t.Fatal(err)
		}
		return cpu, hints
	}
	cpu, hints := measure()
	h.Must("sleep", "10")
	cpuAfter, hintsAfter := measure()
	t.Logf("user and system time in 10 s: %d µs, %d hints", cpuAfter-cpu, hintsAfter-hints)
	if cpuAfter-cpu > 20_000 || hintsAfter != hints {
		t.Errorf("idle: %d µs in 10 s, %d hints", cpuAfter-cpu, hintsAfter-hints)
	}
}
