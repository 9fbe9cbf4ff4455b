package runtime

import (
	"strings"
	"syscall"
	"testing"

	"github.com/sealane/sealane/internal/lab"
	labcontainerd "github.com/sealane/sealane/internal/lab/containerd"
)

// containerdSetup furnishes a host for containerd, with an image of lab-echo.
const containerdSetup = "set -e\nmount -t tmpfs tmpfs /opt\n" + labcontainerd.Configure + labcontainerd.Image

func TestContainerd(t *testing.T) {
	lab.Needs(t, "containerd", "ctr", "runc")
	h := lab.New(t).Host("a")
	r := observe(t, h, "containerd:web", "containerd:default/db")
	r.await("containerd:web", "error containerd:web: find: containerd does not answer at /run/containerd/containerd.sock")
	h.Must("sh", "-c", containerdSetup)
	start := func() *lab.Process {
		t.Helper()
		p := h.Start("sh", "-c", "exec "+labcontainerd.Command)
		h.Must("sh", "-c", labcontainerd.Ready)
		return p
	}
	p := start()
	r.await("containerd:web", "gone")
	ctr := func(namespace string, args ...string) {
		t.Helper()
		h.Must("ctr", append([]string{"-n", namespace}, args...)...)
	}
	run := func(namespace, id string) { // without shares of a processor: the hosts of the lab have no such controller
		t.Helper()
		ctr(namespace, "run", "-d", "--cpu-shares", "0", "--snapshotter", "native", labcontainerd.Name, id, "/lab-echo", "serve", "-udp", "9")
	}
	end := func(namespace, id string) {
		t.Helper()
		ctr(namespace, "task", "kill", "-s", "SIGKILL", id)
		h.Must("sh", "-c", "until ctr -n "+namespace+" task rm "+id+"; do sleep 0.05; done")
	}
	for _, namespace := range []string{"default", "k8s.io", "moby"} {
		ctr(namespace, "image", "import", "--snapshotter", "native", "/run/image/image.tar")
	}
	run("default", "web")
	at := r.running("containerd:web", seat{})
	if at.inode != inodeOf(h, at.pid) || at.inode == inodeOf(h, "1") {
		t.Errorf("found %+v", at)
	}
	end("default", "web")
	r.await("containerd:web", "stopped")
	ctr("default", "task", "start", "-d", "web")
	again := r.running("containerd:web", at)
	if again.id != at.id {
		t.Errorf("restarted: %+v, was %+v", again, at)
	}
	for _, namespace := range []string{"k8s.io", "moby"} {
		run(namespace, "only")
		end(namespace, "only")
	}
	run("k8s.io", "web")
	end("k8s.io", "web")
	for ref, want := range map[string]string{
		"containerd:default/web": "running default/web default/web " + again.pid,
		"containerd:k8s.io/web":  "stopped k8s.io/web k8s.io/web",
		"containerd:we":          "gone we  0  0 containerd:we: find: it may be default/web or k8s.io/web",
		"containerd:only":        "stopped k8s.io/only k8s.io/only",
		"containerd:moby/onl":    "stopped moby/only moby/only",
		"containerd:none/web":    "gone",
		"containerd:../web":      "gone",
		"containerd:web/../web":  "gone",
		"containerd:w.b":         "gone",
	} {
		if got := r.find(ref); !strings.HasPrefix(got, want) && !strings.Contains(got, strings.TrimPrefix(want, "gone we  0  0 ")) {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}

	// containerd is killed; what runs goes on, and ends with nobody to tell.
	run("default", "db")
	db := r.running("containerd:default/db", seat{})
	p.Signal(syscall.SIGKILL)
	p.Wait()
	if got := r.find("containerd:default/web"); !strings.HasPrefix(got, "running default/web") {
		t.Errorf("without containerd: %s", got)
	}
	if got := r.find("containerd:k8s.io/web"); !strings.Contains(got, "containerd does not answer") {
		t.Errorf("without containerd: %s", got)
	}
	h.Must("kill", "-9", db.pid)
	r.await("containerd:default/db", "error containerd:default/db: find: containerd does not answer")
	start()
	r.await("containerd:default/db", "stopped")
	h.Must("kill", "-9", again.pid)
	r.await("containerd:web", "stopped")
	h.Must("sh", "-c", "ctr task rm -f web; ctr container rm web")
	r.await("containerd:web", "gone")
}
