package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/model"
)

// lxcSetup configures a container. Its first process is in a cgroup of its own in
// the container's, as systemd's is.
const lxcSetup = `mkdir -p /var/lib/lxc/$2
cat >/var/lib/lxc/$2/config <<END
lxc.rootfs.path = dir:$1
lxc.uts.name = $2
lxc.net.0.type = empty
lxc.init.cmd = /lab-echo serve -udp 9
lxc.apparmor.profile = unconfined
END
`

func TestLXC(t *testing.T) {
	lab.Needs(t, "lxc-start")
	h := lab.New(t).Host("a")
	r := observe(t, h, "lxc:web")
	r.await("lxc:web", "gone")
	configure := func(name string) {
		t.Helper()
		h.Must("sh", "-c", lab.Root+lxcSetup, "sh", "/run/root", name)
	}
	configure("web")
	r.await("lxc:web", "stopped web web")
	start := func(name string) {
		t.Helper()
		h.Must("lxc-start", "-n", name, "-d")
	}
	start("web")
	at := r.running("lxc:web", seat{})
	if want := strings.TrimSpace(h.Must("lxc-info", "-n", "web", "-pH")); at.pid != want || at.inode != inodeOf(h, want) || at.inode == inodeOf(h, "1") {
		t.Errorf("found %+v, want process %s", at, want)
	}
	h.Must("lxc-stop", "-n", "web", "-k")
	r.await("lxc:web", "stopped")
	start("web")
	again := r.running("lxc:web", at)

	// Another whose name begins so, which runs while the first does not.
	configure("web-1")
	start("web-1")
	h.Must("kill", "-9", again.pid)
	r.await("lxc:web", "stopped")
	if got := r.find("lxc:web-1"); !strings.HasPrefix(got, "running web-1 web-1") {
		t.Errorf("web-1: %s", got)
	}
	// A cgroup that was left over: the next one gets another.
	h.Must("sh", "-c", "lxc-wait -n web -s STOPPED; cd /sys/fs/cgroup; test -d lxc.payload.web || mkdir lxc.payload.web")
	start("web")
	again = r.running("lxc:web", again)
	if want := strings.TrimSpace(h.Must("lxc-info", "-n", "web", "-pH")); again.pid != want {
		t.Errorf("found %+v, want process %s", again, want)
	}
	// Its first process moves to a cgroup below, as systemd does.
	h.Must("sh", "-c", "for d in /sys/fs/cgroup/lxc.payload.web*; do grep -qx $0 $d/cgroup.procs || continue; mkdir $d/init.scope; echo $0 >$d/init.scope/cgroup.procs; done", again.pid)
	if got := r.find("lxc:web"); !strings.HasPrefix(got, "running web web "+again.pid+" ") {
		t.Errorf("below: %s", got)
	}
	h.Must("sh", "-c", "lxc-stop -n web -k; rm -r /var/lib/lxc/web")
	r.await("lxc:web", "gone")
	for _, ref := range []string{"lxc:..", "lxc:web/../web-1", "lxc:" + strings.Repeat("x", 300)} {
		if got := r.find(ref); !strings.HasPrefix(got, "gone") {
			t.Errorf("%s: %s", ref, got)
		}
	}
}

// TestLXCEntered has a cgroup that its container enters only later.
func TestLXCEntered(t *testing.T) {
	lab.Needs(t, "unshare")
	h := lab.New(t).Host("a")
	h.Must("sh", "-c", "mkdir -p /var/lib/lxc/web; touch /var/lib/lxc/web/config")
	r := observe(t, h, "lxc:web")
	r.await("lxc:web", "stopped")
	for range 3 {
		h.Must("sh", "-c", "mkdir /sys/fs/cgroup/lxc.payload.web; sleep 0.1")
		p := h.Start("unshare", "-n", "sh", "-c", "echo $$ >/sys/fs/cgroup/lxc.payload.web/cgroup.procs; exec lab-echo serve -udp 9")
		r.running("lxc:web", seat{})
		p.Signal(syscall.SIGKILL)
		p.Wait()
		r.await("lxc:web", "stopped")
		h.Must("rmdir", "/sys/fs/cgroup/lxc.payload.web")
	}
}

// TestLXCBegins has a container whose first process is still LXC's own for a while.
func TestLXCBegins(t *testing.T) {
	lab.Needs(t, "lxc-start")
	h := lab.New(t).Host("a")
	h.Must("sh", "-c", lab.Root+lxcSetup+"printf 'lxc.hook.version = 1\nlxc.hook.pre-mount = /bin/sleep 6\n' >>/var/lib/lxc/$2/config", "sh", "/run/root", "web")
	r := observe(t, h, "lxc:web")
	r.await("lxc:web", "stopped")
	p := h.Start("lxc-start", "-n", "web", "-d")
	h.Must("sh", "-c", "until grep -q populated.1 /sys/fs/cgroup/lxc.payload.web/cgroup.events; do sleep 0.02; done")
	if got := r.find("lxc:web"); !strings.HasSuffix(got, "lxc:web: find: it is being started") {
		t.Errorf("begins: %s", got)
	}
	p.Wait()
	if got := r.find("lxc:web"); !strings.HasPrefix(got, "running web web ") {
		t.Errorf("began: %s", got)
	}
}

func TestForked(t *testing.T) {
	for stat, want := range map[string]bool{
		"12 (lxc-start) S 10 12 12 0 -1 1077936192 0 0":   true, // 0x40400040
		"12 (a) b (c) R 10 12 12 0 -1 64 0 0":             true,
		"12 (sleep) S 10 12 12 0 -1 4194304 0 0":          false,
		"12 (sh) 64 64 64 64 64) S 10 12 12 0 -1 0 64 64": false,
		"12 (sh) S 10": false,
		"":             false,
	} {
		if forked([]byte(stat)) != want {
			t.Errorf("%q: want %t", stat, want)
		}
	}
}

// TestLXCOfIncus has no file of a configuration.
func TestLXCOfIncus(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "containers")
	if err := os.MkdirAll(filepath.Join(dir, "web"), 0o755); err != nil {
		t.Fatal(err)
	}
	f := New(Config{LXC: []string{dir}, Cgroup: []string{t.TempDir()}})
	for name, want := range map[string]State{"web": Stopped, "db": Gone} {
		if c, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimeLXC, Name: name}); err != nil || c.State != want {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}
