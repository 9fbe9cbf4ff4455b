package docker

import (
	"context"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// TestActivated: where systemd has the socket of sealane-docker.socket, dockerd starts
// without sealaned, the first call starts that, and what Docker asks while sealaned
// starts anew waits for it.
func TestActivated(t *testing.T) {
	lab.Needs(t, "systemd-socket-activate")
	w := newWorld(t)
	socket := w.activate()
	w.startDocker()
	w.image()
	w.shows(0, "ls /run/sealaned.pid 2>&1 || true", "No such file")
	w.web("")
	if got := w.sh("stat -c %a " + socket); strings.TrimSpace(got) != "600" {
		t.Errorf("%s has mode %s", socket, got)
	}
	const kill = "kill -9 $(cat /run/sealaned.pid) && "
	for range 3 {
		w.sh(kill + "docker restart -t 0 web")
		w.works()
		w.shows(named, "sealane ps -a", " web ", "!docker-")
		w.asIntended()
	}
	w.sh(kill + "docker rm -f web")
	w.sh(kill + "docker network rm app")
	w.shows(named, "sealane ps -a", "!web", "!docker-")
	w.shows(named, "sealane network ls", "!app", "!docker-")
	w.asIntended()
}

// activate holds the plugin's socket as systemd does: it starts sealaned by the first
// call, and again whenever that ends. It returns the socket's path.
func (w *world) activate() string {
	w.Helper()
	unit := w.unit("../../init/sealane-docker.socket")
	w.sh("mkdir -p " + path.Dir(unit["ListenStream"]))
	const service = `chmod 0$MODE $SOCKET
		while :; do (echo $BASHPID >/run/sealaned.pid; LISTEN_PID=$BASHPID exec sealaned); sleep 0.1; done`
	p := w.a.Start("systemd-socket-activate", "--listen="+unit["ListenStream"], "--fdname="+unit["FileDescriptorName"],
		"--setenv=PATH", "--setenv=SOCKET="+unit["ListenStream"], "--setenv=MODE="+unit["SocketMode"], "bash", "-c", service)
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return strings.HasPrefix(line, "Listening on ") }); err != nil {
		w.Fatalf("systemd-socket-activate: %v\n%s", err, p.Output())
	}
	return unit["ListenStream"]
}

// unit reads the settings of a unit of systemd's.
func (w *world) unit(file string) map[string]string {
	w.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		w.Fatal(err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			settings[key] = value
		}
	}
	return settings
}
