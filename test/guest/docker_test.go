package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/dockerd"
	labpodman "github.com/sealane/sealane/internal/lab/podman"
)

// containers is how many of Docker's are restarted at once.
const containers = 50

// hung is after how long Docker is taken to hang over them. It has been seen to hang, idle
// and for good, with none of its calls for us to answer.
const hung = 3 * time.Minute

// TestDockerStorm: of many containers that Docker restarts at once, each has its
// interface back within the target after its own start.
func TestDockerStorm(t *testing.T) {
	h := lab.New(t).Host("a")
	h.Daemon()
	d := docker(t, h)
	file := "networks:\n- {name: app, subnets: [{prefix: 10.50.0.0/24}]}\nendpoints:\n"
	for i := range containers {
		file += fmt.Sprintf("- {network: app, sandbox: \"docker:c%d\", ports: [\"%d:80\"]}\n", i, 10000+i)
	}
	declared := filepath.Join(t.TempDir(), "app.yaml")
	if err := os.WriteFile(declared, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	h.Must("sealane", "apply", "-f", declared)
	all(t, 4, func(name string) error {
		return d.Run(context.Background(), dockerd.Container{Name: name, Image: "echo", Cmd: []string{"/lab-echo", "serve", "-tcp", "80"}, Network: "none"})
	})
	await(t, h, "running", containers)
	var hangs atomic.Bool
	for _, how := range []string{"a restart", "another"} {
		before := len(h.DaemonLog())
		began := time.Now()
		all(t, containers, func(name string) error {
			ctx, cancel := context.WithTimeout(t.Context(), hung)
			defer cancel()
			err := d.Call(ctx, "POST", "/containers/"+name+"/restart?t=0", nil, nil)
			if err != nil { // Docker's own, of fifty at once on a small machine: what it killed is not gone yet
				t.Log(name, err)
			}
			if ctx.Err() != nil {
				hangs.Store(true)
			}
			return nil
		})
		if hangs.Load() {
			t.Logf("Docker itself has not restarted its containers in %v: nothing to see", hung)
			return
		}
		took := time.Since(began)
		waits := delays(t, h, d, before)
		middle, longest := waits[len(waits)/2], waits[len(waits)-1]
		t.Logf("%s: %d containers restarted in %v; from a container's start to its interface: median %v, at most %v", how, containers,
			took.Round(time.Millisecond), middle.Round(time.Millisecond), longest.Round(time.Millisecond))
		if longest > limit {
			t.Errorf("%s: %v, want %v", how, longest, target)
		}
	}
	if r := h.Run("sealane", "diff"); r.Stdout != "" || r.Code != 0 {
		t.Errorf("diff: %s%s", r.Stdout, r.Stderr)
	}
}

// docker starts dockerd on a host, with an image of lab-echo.
func docker(t *testing.T, h *lab.Host) *dockerd.Daemon {
	t.Helper()
	lab.Needs(t, "dockerd")
	d, err := dockerd.Start(t.Context(), func(cmd *exec.Cmd) error { _, err := h.StartCmd(cmd); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	if err := d.ImportEcho(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// all does something to every container, so many at once.
func all(t *testing.T, abreast int, do func(name string) error) {
	t.Helper()
	var done sync.WaitGroup
	turns, errs := make(chan struct{}, abreast), make([]error, containers)
	for i := range containers {
		turns <- struct{}{}
		done.Go(func() {
			errs[i] = do(fmt.Sprintf("c%d", i))
			<-turns
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// delays waits until every container is connected where it runs now, and returns
// how long after its start each was by the daemon's log since a place, the shortest
// first.
func delays(t *testing.T, h *lab.Host, d *dockerd.Daemon, since int) (waits []time.Duration) {
	t.Helper()
	all(t, 1, func(name string) error {
		var is struct {
			State struct {
				Pid       int
				StartedAt time.Time
			}
		}
		if err := d.Call(context.Background(), "GET", "/containers/"+name+"/json", nil, &is); err != nil {
			return err
		}
		if is.State.Pid == 0 {
			t.Log(name, "was not started by Docker")
			return nil
		}
		words := fmt.Sprintf(`msg="container connected" sandbox=%s netns=/proc/%d/ns/net`, name, is.State.Pid)
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			for line := range strings.Lines(h.DaemonLog()[since:]) {
				if !strings.Contains(line, words) {
					continue
				}
				at, err := time.Parse("time=2006-01-02T15:04:05.999Z07:00", strings.Fields(line)[0])
				if err != nil {
					return err
				}
				waits = append(waits, at.Sub(is.State.StartedAt))
				return has(h, is.State.Pid)
			}
		}
		return fmt.Errorf("%s: no %s", name, words)
	})
	if slices.Sort(waits); len(waits) < containers/2 {
		t.Fatalf("%d of %d containers run", len(waits), containers)
	}
	return waits
}

// has checks that a process has an interface with an address of the network.
func has(h *lab.Host, pid int) error {
	out := h.Run("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pid), "ip", "-br", "-4", "addr").Stdout
	if !strings.Contains(out, " 10.50.0.") {
		return fmt.Errorf("process %d: %s", pid, out)
	}
	return nil
}

// TestTwoRuntimes: a name that containers of Docker and of Podman both have is refused
// with a line that lists them, also while one of the two does not run. What says which is
// meant is taken, and so is a name that one of the two has.
func TestTwoRuntimes(t *testing.T) {
	lab.Needs(t, strings.Fields(labpodman.Programs)...)
	h := lab.New(t).Host("a")
	h.Daemon()
	d := docker(t, h)
	h.Must("sh", "-c", labpodman.Furnish)
	for _, name := range []string{"web", "db"} {
		if err := d.Run(t.Context(), dockerd.Container{Name: name, Image: "echo", Cmd: []string{"/lab-echo", "serve", "-tcp", "80"}, Network: "none"}); err != nil {
			t.Fatal(err)
		}
	}
	h.Must("podman", labpodman.Args("run", "-d", "--network", "none", "--name", "web", "echo", "/lab-echo", "serve", "-tcp", "80")...)
	h.Must("sealane", "network", "create", "--subnet", "10.50.0.0/24", "app")
	ambiguous := func() {
		t.Helper()
		r := h.Run("sealane", "network", "connect", "app", "web")
		if want := "web means docker:web and podman:web (say which)"; r.Code != 1 || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("exit status %d, want 1 and %q: %s%s", r.Code, want, r.Stdout, r.Stderr)
		}
		if got := h.Must("sealane", "ps", "-a", "-q"); got != "" {
			t.Errorf("left: %s", got)
		}
	}
	ambiguous()
	h.Must("podman", labpodman.Args("stop", "-t", "0", "web")...)
	ambiguous()
	h.Must("podman", labpodman.Args("start", "web")...)
	for ref, want := range map[string]string{"db": "docker db running", "podman:web": "podman web running", "docker:web": "docker web running"} {
		h.Must("sealane", "network", "connect", "app", ref)
		if got := h.Must("sealane", "inspect", "--format", "{{.Guest.Runtime}} {{.Guest.Name}} {{.Status.State}}", ref); got != want+"\n" {
			t.Errorf("%s: %s, want %s", ref, got, want)
		}
	}
}
