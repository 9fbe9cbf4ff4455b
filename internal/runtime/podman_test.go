package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	labpodman "github.com/sealane/sealane/internal/lab/podman"
	"github.com/sealane/sealane/internal/model"
)

func TestPodman(t *testing.T) {
	lab.Needs(t, strings.Fields(labpodman.Programs)...)
	h := lab.New(t).Host("a")
	r := observe(t, h, "podman:web")
	r.await("podman:web", "gone")
	h.Must("sh", "-c", labpodman.Furnish)
	podman := func(args ...string) string {
		t.Helper()
		return strings.TrimSpace(h.Must("podman", labpodman.Args(args...)...))
	}
	run := func(name, network string, args ...string) string {
		t.Helper()
		all := append([]string{"run", "-d", "--network", network, "--name", name}, args...)
		return podman(append(all, "echo", "/lab-echo", "serve", "-udp", fmt.Sprint(9000+len(name)))...)
	}
	id := run("web", "none")
	at := r.running("podman:web", seat{})
	if want := podman("inspect", "-f", "{{.State.Pid}}", "web"); at.pid != want || at.id != id || at.inode != inodeOf(h, want) || at.name != "web" {
		t.Errorf("found %+v, want process %s, ID %s", at, want, id)
	}
	podman("restart", "-t", "0", "web")
	again := r.running("podman:web", at)
	if again.id != id || again.pid == at.pid {
		t.Errorf("restarted: %+v, was %+v", again, at)
	}
	podman("stop", "-t", "0", "web")
	r.await("podman:web", "stopped")
	podman("start", "web")
	again = r.running("podman:web", again)
	podman("rename", "web", "site")
	if got := r.running("podman:web", again); got.name != "site" || got.id != id {
		t.Errorf("renamed: %+v", got)
	}
	other := run("web", "none", "--rm")
	shares := run("shares", "container:site")
	for ref, want := range map[string]string{
		"podman:site":    "running site " + id,
		"podman:" + id:   "running site " + id,
		"podman:web":     "running web " + other,
		"podman:shares":  "running shares " + shares,
		"podman:../site": "gone",
		"podman:none":    "gone",
	} {
		if got := r.find(ref); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
	if got := r.find("podman:" + id[:10]); !strings.HasPrefix(got, "running site "+id) {
		t.Errorf("by the begin of its ID: %s", got)
	}
	r.order("watch " + "podman:" + id[:10])
	r.await("podman:"+id[:10], "gone") // what is awaited is not known by what IDs of others begin with
	if got := r.find("podman:shares"); !strings.HasSuffix(got, again.inode+" <nil>") {
		t.Errorf("shares: %s, want %s", got, again.inode)
	}
	// Whoever watches over the container is killed, and then the container.
	monitor := strings.TrimSpace(h.Must("sh", "-c", "awk '/^PPid/ {print $2}' /proc/"+again.pid+"/status"))
	h.Must("kill", "-9", monitor)
	if got := r.find("podman:site"); !strings.HasPrefix(got, "running site "+id) {
		t.Errorf("without its monitor: %s", got)
	}
	h.Must("kill", "-9", again.pid)
	r.await("podman:web", "stopped")
	podman("rm", "-f", "-t", "0", "shares")
	podman("rm", "-f", "-t", "0", "site")
	r.await("podman:web", "gone")
	if got := r.running("podman:web", again); got.id != other { // of that name there is another
		t.Errorf("the other: %+v, want %s", got, other)
	}
	podman("stop", "-t", "0", "web") // run with --rm
	r.await("podman:web", "gone")
}

// fakePodman is a storage with the containers that list says.
func fakePodman(t *testing.T, list string) (Config, string) {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "storage/overlay-containers")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(at, "containers.json")
	if err := os.WriteFile(file, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	return Config{PodmanStorage: filepath.Join(dir, "storage"), PodmanRun: filepath.Join(dir, "run")}, file
}

func TestPodmanList(t *testing.T) {
	for _, tt := range []struct{ list, name, id, want string }{
		{`[{"id":"abc","names":["web"]}]`, "web", "", "stopped web abc"},
		{`[{"id":"abc","names":["web"]}]`, "ab", "", "stopped web abc"},
		{`[{"id":"abc","names":["web"]}]`, "x", "abc", "stopped web abc"},
		{`[{"id":"abc","names":["web"]}]`, "abc", "ab", "gone abc "},
		{`[{"id":"abc"}]`, "abc", "", "stopped abc abc"},
		{`[{"id":"abc","names":["web"]},{"id":"abd","names":["db"]}]`, "ab", "", "error podman:ab: find: 2 containers have an ID that begins so"},
		{`[{"id":"abc","names":["web"]},{"id":"def","names":["ab"]}]`, "ab", "", "stopped ab def"}, // a name is more than the begin of an ID
		{`[{"id":"abc","names":["web"]},{"id":"ab","names":["db"]}]`, "ab", "", "stopped db ab"},
		{`[{"id":"../../etc","names":["web"]}]`, "web", "", "gone web "},
		{`[{"id":"","names":["web"]}]`, "web", "", "gone web "},
		{`[{"id":"abc","names":["a\nb"]}]`, "abc", "", "stopped abc abc"},
		{`[]`, "web", "", "gone web "},
		{`null`, "web", "", "gone web "},
		{`[{"id":"abc","na`, "web", "", "error podman:web: find: FILE: unexpected end of JSON input"},
		{``, "web", "abc", "error podman:web: find: FILE: unexpected end of JSON input"},
		{`{"id":"abc"}`, "web", "", "error podman:web: find: FILE: json: cannot unmarshal object into Go value of type []runtime.entry"},
	} {
		config, file := fakePodman(t, tt.list)
		c, err := New(config).Find(t.Context(), model.Guest{Runtime: model.RuntimePodman, Name: tt.name, ID: tt.id})
		got := fmt.Sprintf("%s %s %s", c.State, c.Guest.Name, c.Guest.ID)
		if err != nil {
			got = "error " + strings.ReplaceAll(err.Error(), file, "FILE")
		}
		if got != tt.want {
			t.Errorf("%s: %q %q: %s, want %s", tt.list, tt.name, tt.id, got, tt.want)
		}
	}
}

// TestPodmanUnmounted has a storage that is not there yet: that says nothing of a
// container that was there.
func TestPodmanUnmounted(t *testing.T) {
	f := New(Config{PodmanStorage: t.TempDir(), PodmanRun: t.TempDir()})
	if _, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimePodman, Name: "web", ID: "abc"}); err == nil || !strings.Contains(err.Error(), "is it mounted") {
		t.Errorf("one that was there: %v", err)
	}
	if c, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimePodman, Name: "web"}); err != nil || c.State != Gone {
		t.Errorf("one that was not: %v, %v", c, err)
	}
}

// TestPodmanMany has ten thousand containers.
func TestPodmanMany(t *testing.T) {
	var list strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&list, `,{"id":"%064x","names":["c%d"],"metadata":"{\"image-name\":\"localhost/bb:latest\"}"}`, i, i)
	}
	config, _ := fakePodman(t, "["+list.String()[1:]+"]")
	f := New(config)
	began := time.Now()
	const times = 200
	for i := range times {
		c, err := f.Find(t.Context(), model.Guest{Runtime: model.RuntimePodman, Name: fmt.Sprintf("c%d", i*50)})
		if err != nil || c.State != Stopped || c.Guest.ID != fmt.Sprintf("%064x", i*50) {
			t.Fatal(c, err)
		}
	}
	if took := time.Since(began); took > 5*time.Second { // a tenth of a second, if the list is read once
		t.Errorf("%d looks took %s", times, took)
	}
}
