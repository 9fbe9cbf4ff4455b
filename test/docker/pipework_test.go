package docker

import (
	"strings"
	"testing"
)

// TestPipework: containers of Docker's own networks get what pipework commands
// give them, and have it again after each start, until they are removed.
func TestPipework(t *testing.T) {
	w := both(t)
	w.docker("run -d --name web --hostname web echo /lab-echo serve -tcp 8000 -name web")
	w.docker("run -d --name two --hostname two echo /lab-echo serve -tcp 8000 -name two")
	w.sh(`pipework br1 web 192.168.1.1/24
		pipework br1 web 192.168.1.1/24
		pipework br1 docker:two 192.168.1.2/24@192.168.1.1 U:two
		pipework route web add 10.9.0.0/16 via 192.168.1.2`)
	before := w.sh("pipework --list")
	inside := func(c, command string) string {
		w.Helper()
		return w.sh("nsenter --net=/proc/$(docker inspect -f '{{.State.Pid}}' " + c + ")/ns/net " + command)
	}
	works := func() {
		w.Helper()
		w.sh(`for i in $(seq 100); do nsenter --net=/proc/$(docker inspect -f '{{.State.Pid}}' two)/ns/net lab-echo get -timeout 200ms http://192.168.1.1:8000/ && exit; sleep 0.05; done; exit 1`)
		if got := inside("two", "ip route get 203.0.113.7"); !strings.Contains(got, "via 192.168.1.1 dev eth1") {
			w.Errorf("two goes out by %s", got)
		}
		w.sh(`for i in $(seq 100); do nsenter --net=/proc/$(docker inspect -f '{{.State.Pid}}' web)/ns/net ip route show 10.9.0.0/16 | grep -q 192.168.1.2 && exit; sleep 0.05; done; exit 1`)
		if now := w.sh("pipework --list"); now != before {
			w.Errorf("there is\n%s\nwas\n%s", now, before)
		}
	}
	works()
	w.docker("restart -t 0 web two")
	works()
	w.a.Kill9()
	w.docker("restart -t 0 web")
	w.a.Restart()
	works()
	w.asIntended()

	w.sh("pipework --undo br1 two")
	if got := inside("two", "ip route show default"); !strings.Contains(got, "dev eth0") || strings.Contains(got, "metric") {
		w.Errorf("two has not its own way out again: %s", got)
	}
	w.docker("stop -t 0 web two")
	for _, name := range []string{"two", "docker:two", "web", "docker:web"} {
		if got := w.sh("pipework br1 -i eth9 " + name + " 192.168.9.2/24 2>&1 && echo done || true"); !strings.HasSuffix(strings.TrimSpace(got), "Docker inspect returned invalid PID 0") {
			w.Errorf("%s, which is stopped: %s", name, got)
		}
	}
	w.sh("pipework --list | grep -q . && pipework --list | sh -ex") // what is there already is
	w.docker("rm -f web two")
	w.sh(`for i in $(seq 100); do test -z "$(pipework --list)" && ! ip link show dev br1 && exit; sleep 0.05; done; exit 1`)
}
