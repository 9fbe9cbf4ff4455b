package runtime

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/dockerd"
)

// startDocker starts dockerd on a host, and returns it and its process.
func startDocker(t *testing.T, h *lab.Host, args ...string) (*dockerd.Daemon, *lab.Process) {
	t.Helper()
	var p *lab.Process
	d, err := dockerd.Start(t.Context(), func(cmd *exec.Cmd) (err error) { p, err = h.StartCmd(cmd); return err }, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d, p
}

// dockerImage makes an image of lab-echo.
func dockerImage(t *testing.T, d *dockerd.Daemon) {
	t.Helper()
	if err := d.ImportEcho(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// server is a container that runs on; those that share a namespace have names of
// different lengths.
func server(name, network string) dockerd.Container {
	return dockerd.Container{Name: name, Image: "echo", Network: network, Cmd: []string{"/lab-echo", "serve", "-udp", fmt.Sprint(9000 + len(name))}}
}

func TestDocker(t *testing.T) {
	lab.Needs(t, "dockerd", "runc")
	h := lab.New(t).Host("a")
	r := observe(t, h, "docker:web")
	r.await("docker:web", "error docker:web: find: dockerd does not answer")
	d, _ := startDocker(t, h)
	r.await("docker:web", "gone")
	dockerImage(t, d)
	call := func(method, path string) {
		t.Helper()
		if err := d.Call(t.Context(), method, path, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name, network string) {
		t.Helper()
		if err := d.Run(t.Context(), server(name, network)); err != nil {
			t.Fatal(err)
		}
	}
	run("web", "none")
	at := r.running("docker:web", seat{})
	if at.inode != inodeOf(h, at.pid) || at.inode == inodeOf(h, "1") || at.name != "web" || len(at.id) != 64 {
		t.Errorf("found %+v", at)
	}
	call("POST", "/containers/web/restart?t=0")
	again := r.running("docker:web", at)
	if again.id != at.id || again.pid == at.pid {
		t.Errorf("restarted: %+v, was %+v", again, at)
	}
	call("POST", "/containers/web/stop?t=0")
	r.await("docker:web", "stopped")
	call("POST", "/containers/web/start")
	again = r.running("docker:web", again)
	call("POST", "/containers/web/pause")
	if got := r.find("docker:web"); !strings.HasPrefix(got, "running web "+at.id) {
		t.Errorf("paused: %s", got)
	}
	call("POST", "/containers/web/unpause")
	call("POST", "/containers/web/rename?name=site")
	if got := r.running("docker:web", again); got.name != "site" || got.id != at.id || got.pid != again.pid {
		t.Errorf("renamed: %+v", got)
	}
	run("shares", "container:site")
	run("hosts", "host")
	for ref, want := range map[string]string{
		"docker:" + at.id:       "running site " + at.id + " " + again.pid,
		"docker:" + at.id[:10]:  "running site " + at.id + " " + again.pid,
		"docker:/site":          "running site " + at.id,
		"docker:web":            "gone",
		"docker:../info":        "gone",
		"docker:site/../shares": "gone",
	} {
		if got := r.find(ref); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
	r.order("watch " + "docker:" + at.id[:10])
	r.await("docker:"+at.id[:10], "gone") // what is awaited is not known by what IDs of others begin with
	r.order("watch docker:" + at.id)
	r.await("docker:"+at.id, "running site "+at.id)
	for ref, inode := range map[string]string{"docker:shares": again.inode, "docker:hosts": inodeOf(h, "1")} {
		if got := r.find(ref); !strings.HasSuffix(got, "/ns/net "+inode+" <nil>") || !strings.HasPrefix(got, "running") {
			t.Errorf("%s: %s, want %s", ref, got, inode)
		}
	}
	call("DELETE", "/containers/site?force=true")
	r.await("docker:web", "gone")
	run("web", "none")
	if got := r.running("docker:web", again); got.id == at.id {
		t.Errorf("another container of that name has the ID of the one before")
	}
}

// TestDockerDies kills dockerd, whose containers then run on until it is back: it
// ends them, or takes them up again if it was told to (live restore).
func TestDockerDies(t *testing.T) {
	lab.Needs(t, "dockerd", "runc")
	for name, args := range map[string][]string{"": nil, "live restore": {"--live-restore"}} {
		t.Run(name, func(t *testing.T) {
			h := lab.New(t).Host("a")
			d, p := startDocker(t, h, args...)
			dockerImage(t, d)
			for _, name := range []string{"web", "db"} {
				if err := d.Run(t.Context(), server(name, "none")); err != nil {
					t.Fatal(err)
				}
			}
			r := observe(t, h, "docker:web", "docker:db")
			web, db := r.running("docker:web", seat{}), r.running("docker:db", seat{})
			p.Signal(syscall.SIGKILL)
			p.Wait()
			if got := r.find("docker:web"); !strings.Contains(got, "dockerd does not answer at unix:///run/docker.sock") {
				t.Errorf("without dockerd: %s", got)
			}
			h.Must("kill", "-9", db.pid) // nobody is there to tell
			r.await("docker:db", "error docker:db: find: dockerd does not answer")
			d, _ = startDocker(t, h, args...)
			r.await("docker:db", "stopped")
			if name == "" {
				r.await("docker:web", "stopped")
				return
			}
			if got := r.find("docker:web"); !strings.HasPrefix(got, "running web "+web.id+" "+web.pid) {
				t.Errorf("live restored: %s, was %+v", got, web)
			}
			if err := d.Call(t.Context(), "POST", "/containers/web/restart?t=0", nil, nil); err != nil {
				t.Fatal(err)
			}
			r.running("docker:web", web)
		})
	}
}
