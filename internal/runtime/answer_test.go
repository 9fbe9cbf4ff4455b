package runtime_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/lab/dockerd"
	"github.com/sealane/sealane/internal/lab/podman"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
	"github.com/sealane/sealane/internal/runtime/runtimetest"
)

// envInside is set in a host of the lab, where the test binary runs again: a Finder
// answers for the host that it is in.
const envInside = "SEALANE_RUNTIME_INSIDE"

func TestDockerAnswers(t *testing.T) {
	inside(t, func(t *testing.T) {
		log, err := os.Create("/run/dockerd.log")
		if err != nil {
			t.Fatal(err)
		}
		k := &docker{}
		k.daemon, err = dockerd.Start(t.Context(), func(cmd *exec.Cmd) error {
			k.cmd, cmd.Stdout, cmd.Stderr = cmd, log, log
			return cmd.Start()
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if text, _ := os.ReadFile(log.Name()); t.Failed() {
				t.Logf("dockerd:\n%s", text)
			}
		})
		if err := k.daemon.ImportEcho(t.Context()); err != nil {
			t.Fatal(err)
		}
		runtimetest.Run(t, runtimetest.World{Finder: runtime.New(runtime.Config{}), Runtime: model.RuntimeDocker, Keeper: k})
	})
}

func TestPodmanAnswers(t *testing.T) {
	inside(t, func(t *testing.T) {
		command(t, "sh", "-c", podman.Furnish)
		runtimetest.Run(t, runtimetest.World{Finder: runtime.New(runtime.Config{}), Runtime: model.RuntimePodman, Keeper: podmen{}})
	})
}

// inside runs a test in a host of the lab.
func inside(t *testing.T, test func(*testing.T)) {
	if os.Getenv(envInside) != "" {
		test(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), envInside+"=1")
	p, err := lab.New(t).Host("a").StartCmd(cmd) // whose output the lab logs
	if err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(); code != 0 || !strings.Contains(p.Output(), "--- PASS: "+t.Name()+"/") {
		t.Errorf("inside: exit %d", code)
	}
}

func command(t *testing.T, words ...string) {
	t.Helper()
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", words, err, out)
	}
}

// lxc has containers that nobody starts.
type lxc struct{}

func (lxc) Twin(t *testing.T, name string) {
	t.Helper()
	command(t, "sh", "-c", "mkdir -p /var/lib/lxc/$0 && touch /var/lib/lxc/$0/config", name)
}

// docker is dockerd in the host where we are.
type docker struct {
	lxc
	daemon *dockerd.Daemon
	cmd    *exec.Cmd
}

func (k *docker) call(t *testing.T, method, path string, in any) {
	t.Helper()
	if err := k.daemon.Call(t.Context(), method, path, in, nil); err != nil {
		t.Fatal(err)
	}
}

func (k *docker) Create(t *testing.T, name string) {
	t.Helper()
	k.call(t, "POST", "/containers/create?name="+name, map[string]any{
		"Image": "echo", "Cmd": []string{"/lab-echo", "serve", "-udp", "9000"}, "HostConfig": map[string]string{"NetworkMode": "none"},
	})
}

func (k *docker) Start(t *testing.T, name string) {
	t.Helper()
	k.call(t, "POST", "/containers/"+name+"/start", nil)
}

func (k *docker) Stop(t *testing.T, name string) {
	t.Helper()
	k.call(t, "POST", "/containers/"+name+"/stop?t=0", nil)
}

func (k *docker) Rename(t *testing.T, name, to string) {
	t.Helper()
	k.call(t, "POST", "/containers/"+name+"/rename?name="+to, nil)
}

func (k *docker) Remove(t *testing.T, name string) {
	t.Helper()
	k.call(t, "DELETE", "/containers/"+name+"?force=true", nil)
}

// Shut kills dockerd, which leaves its socket.
func (k *docker) Shut(t *testing.T) {
	t.Helper()
	if err := k.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = k.cmd.Wait() // that it was killed
}

// podmen is Podman in the host where we are.
type podmen struct{ lxc }

func (podmen) do(t *testing.T, args ...string) {
	t.Helper()
	command(t, append([]string{"podman"}, podman.Args(args...)...)...)
}

func (k podmen) Create(t *testing.T, name string) {
	t.Helper()
	k.do(t, "create", "--network", "none", "--name", name, "echo", "/lab-echo", "serve", "-udp", "9000")
}

func (k podmen) Start(t *testing.T, name string) { t.Helper(); k.do(t, "start", name) }

func (k podmen) Stop(t *testing.T, name string) { t.Helper(); k.do(t, "stop", "-t", "0", name) }

func (k podmen) Rename(t *testing.T, name, to string) { t.Helper(); k.do(t, "rename", name, to) }

func (k podmen) Remove(t *testing.T, name string) { t.Helper(); k.do(t, "rm", "-f", "-t", "0", name) }

// Shut leaves a list that says nothing.
func (podmen) Shut(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(podman.Containers, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
}
