package docker

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// stream is a connection from b to a published port that must not break while
// something happens, however long that takes, and a second after. dockerd tries 1, 3,
// 7 and 15 seconds after the first time to reach a plugin, so that on a busy machine
// it starts in one second or in seventeen.
func (w *world) stream(port string, during func()) {
	w.Helper()
	p := w.b.Start("lab-echo", "stream", "-for", "5m", "http://192.0.2.1:"+port+"/")
	during()
	time.Sleep(time.Second)
	p.Signal(syscall.SIGTERM)
	done := make(chan int, 1)
	go func() { done <- p.Wait() }()
	select {
	case code := <-done:
		if code != 0 || strings.Contains(p.Output(), "answers 0\n") {
			w.Errorf("the connection to port %s broke: %s", port, p.Output())
		}
	case <-time.After(patience):
		w.Errorf("the connection to port %s is silent: %s", port, p.Output())
	}
}

// web is a container whose port 8001 answers, on the network app.
func (w *world) web(flags string) {
	w.Helper()
	w.app("")
	w.run("web", "--network app --ip 10.70.0.50 -p 8001:8000 "+flags)
	w.works()
	w.shows(named, "sealane ps", " web ")
}

// works checks everything that the container web can.
func (w *world) works() {
	w.Helper()
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://[2001:db8::1]:8001 2001:db8::2 web")
	w.reach("web", "tcp://192.0.2.2:8000 192.0.2.1 b", "tcp://[2001:db8::2]:8000 2001:db8::1 b")
	w.reach("a", "tcp://10.70.0.50:8000 10.70.0.1 web")
}

// TestSealaneIsKilled: traffic goes on while no daemon runs, and everything is as
// it was when one does again.
func TestSealaneIsKilled(t *testing.T) {
	w := both(t)
	w.web("")
	w.run("two", "--network app")
	w.shows(named, "sealane ps", " two ")
	before := w.state()
	w.stream("8001", func() {
		w.a.Kill9()
		w.works()
		w.reach("two", "tcp://web:8000 10.70.0.2 web")
		w.a.Restart()
	})
	w.unchanged(before, "kill -9 and a start")
	w.asIntended()
	w.docker("restart -t 1 web")
	w.works()
	w.run("three", "--network app")
	w.reach("three", "tcp://two:8000 10.70.0.3 two")
	w.docker("rm -f web two three")
	w.docker("network rm app")
	w.shows(0, "sealane network ls", "!app", "!docker")
}

// TestDockerRestarts: containers end with dockerd, and those that shall start
// again have what they had.
func TestDockerRestarts(t *testing.T) {
	w := both(t)
	w.web("--restart always")
	w.run("gone", "--network app -p 8002:8000")
	w.shows(named, "sealane ps", " gone ")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		w.stopDocker(sig)
		w.startDocker()
		w.works()
		w.shows(named, "sealane ps -a", " web ", "app=10.70.0.50", "!gone", "!docker-")
		w.asIntended()
		w.docker("start gone")
		w.reach("b", "tcp://192.0.2.1:8002 192.0.2.2 gone")
		w.reach("web", "tcp://gone:8000 10.70.0.50 gone")
	}
}

// TestLiveRestore: with it containers go on without dockerd, without either
// daemon, and afterwards, whoever comes back first.
func TestLiveRestore(t *testing.T) {
	w := both(t, "--live-restore")
	w.web("")
	before := w.state()
	for _, c := range []struct {
		name   string
		during func()
	}{
		{"dockerd ends", func() { w.stopDocker(syscall.SIGTERM); w.worksOutside(); w.startDocker() }},
		{"both are killed, sealaned is first", func() {
			w.a.Kill9()
			w.stopDocker(syscall.SIGKILL)
			w.worksOutside()
			w.a.Restart()
			w.startDocker()
		}},
		{"both are killed, dockerd is first", func() {
			w.a.Kill9()
			w.stopDocker(syscall.SIGKILL)
			w.startingDocker(w.a.Restart)
		}},
	} {
		w.stream("8001", c.during)
		w.works()
		w.shows(named, "sealane ps", " web ")
		w.unchanged(before, c.name)
	}
	w.run("two", "--network app")
	w.reach("two", "tcp://web:8000 10.70.0.2 web")
	w.docker("restart -t 1 web")
	w.works()
	w.docker("rm -f web two")
	w.shows(0, "sealane ps -a", "!web", "!two", "!docker-")
	w.reach("b", "tcp://192.0.2.1:8001 no", "tcp://192.0.2.2:8000 192.0.2.2 b")
	w.asIntended()
}

// TestUpgrade: with live-restore containers go on while sealaned becomes another program,
// and its socket goes and comes back before, while and after dockerd starts anew.
func TestUpgrade(t *testing.T) {
	w := both(t, "--live-restore")
	w.web("")
	before := w.state()
	restart := func() { w.stopDocker(syscall.SIGTERM); w.worksOutside(); w.startDocker() }
	unlink := func() { w.sh("rm /run/docker/plugins/sealane.sock") }
	for _, c := range []struct {
		name   string
		during func(upgraded func())
	}{
		{"after it", func(upgraded func()) { restart(); upgraded() }},
		{"before it", func(upgraded func()) { upgraded(); restart() }},
		{"while it is away", func(upgraded func()) {
			unlink()
			w.stopDocker(syscall.SIGKILL)
			w.worksOutside()
			upgraded()
			w.startDocker()
		}},
		{"while it starts", func(upgraded func()) { unlink(); w.stopDocker(syscall.SIGTERM); w.startingDocker(upgraded) }},
	} {
		was := w.program()
		w.stream("8001", func() {
			w.a.Stop()
			c.during(func() { w.upgrade(); w.a.Restart() })
		})
		if now := w.program(); now == was {
			t.Errorf("%s: sealaned is the program that it was, %s", c.name, now)
		}
		w.works()
		w.shows(named, "sealane ps", " web ", "!docker-")
		w.unchanged(before, "an upgrade "+c.name)
		w.asIntended()
		w.run("two", "--network app -p 8002:8000")
		w.reach("two", "tcp://web:8000 10.70.0.2 web")
		w.reach("b", "tcp://192.0.2.1:8002 192.0.2.2 two")
		w.docker("rm -f two")
	}
	w.docker("restart -t 1 web")
	w.works()
}

// upgrade puts another file where host a has the daemon.
func (w *world) upgrade() {
	w.Helper()
	w.sh("at=$(readlink -f $(command -v sealaned)) && new=$(mktemp -p /run) && cp -p $at $new && mount --bind $new $at")
}

// program is the file that runs as sealaned.
func (w *world) program() string {
	w.Helper()
	return strings.TrimSpace(w.sh("for p in /proc/[0-9]*; do if grep -qx sealaned $p/comm; then stat -Lc %i $p/exe; fi; done"))
}

// worksOutside is works without dockerd, which says where a container is.
func (w *world) worksOutside() {
	w.Helper()
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://[2001:db8::1]:8001 2001:db8::2 web")
	w.reach("a", "tcp://10.70.0.50:8000 10.70.0.1 web")
}

// TestDockerFirst: dockerd starts without sealaned, also when it has networks of
// ours, and all works once sealaned is there.
func TestDockerFirst(t *testing.T) {
	w := both(t)
	w.web("")
	w.docker("stop -t 1 web")
	w.stopDocker(syscall.SIGTERM)
	w.a.Stop()
	w.startDocker() // takes 15 s, for which it tries to reach us
	w.a.Restart()
	w.docker("start web")
	w.works()
	w.shows(named, "sealane ps", " web ", "app=10.70.0.50")
	w.asIntended()
}

// startingDocker starts dockerd, which waits for us, and does something a moment
// later.
func (w *world) startingDocker(then func()) {
	w.Helper()
	done := make(chan error, 1)
	go func() { done <- w.launch() }()
	time.Sleep(time.Second)
	then()
	if err := <-done; err != nil {
		w.Fatal(err)
	}
}

// TestReboot: a host with the same disk, and else nothing of what was, has its
// containers back, whichever daemon is first.
func TestReboot(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"sealaned", "dockerd"} {
		t.Run(first, func(t *testing.T) {
			w := both(t)
			w.web("--restart always")
			w.run("gone", "--network app -p 8002:8000")
			w.shows(named, "sealane ps", " gone ")
			w.reboot()
			if first == "sealaned" {
				w.a.Daemon()
				w.startDocker()
			} else {
				w.startingDocker(func() { w.a.Daemon() })
			}
			w.within(40*time.Second, func() error {
				if r := w.a.Run("bash", "-c", environment+"docker inspect -f {{.State.Running}} web"); strings.TrimSpace(r.Stdout) != "true" {
					return fmt.Errorf("web runs: %s%s", r.Stdout, r.Stderr)
				}
				return nil
			})
			w.works()
			w.shows(40*time.Second, "sealane ps -a", " web ", "app=10.70.0.50", "!gone", "!docker-")
			w.asIntended()
			w.docker("start gone")
			w.reach("b", "tcp://192.0.2.1:8002 192.0.2.2 gone")
		})
	}
}

// reboot makes a new host of a's disk.
func (w *world) reboot() {
	w.Helper()
	old := w.a
	disk := func(h *lab.Host) string { return fmt.Sprintf("/proc/%d/root/var/lib/", h.Start("sleep", "1000").Pid()) }
	w.a.Kill9()
	w.stopDocker(syscall.SIGKILL)
	w.a = w.lab.Host("a again")
	if out, err := exec.Command("cp", "-a", disk(old)+".", disk(w.a)).CombinedOutput(); err != nil {
		w.Fatalf("disk: %v: %s", err, out)
	}
	old.Cut("eth0")
	w.a.Plug(w.lab.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	w.must(w.b, "ip neigh flush dev eth0")
}
