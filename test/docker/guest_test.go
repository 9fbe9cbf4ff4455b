package docker

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// back is how soon after its start a container has its connections again, and late
// when that is no longer a busy machine's fault.
const (
	back = time.Second
	late = 5 * back
)

// guest is a container of Docker's own network that is on one of ours.
func (w *world) guest() {
	w.Helper()
	w.sealane("network create mine --subnet 10.69.0.0/24 --subnet fd69::/64")
	w.run("web", "")
	w.sealane("network connect --ip 10.69.0.7 --ifname lan0 -p 8002:8000 mine web")
	w.sealane("run -d --name ours --network mine -- lab-echo serve -tcp 8000 -name ours")
	w.connected()
}

// connected checks everything that the guest web can. Its default route is Docker's,
// so that who comes by a port of ours seems to be our gateway; of IPv6 it has none.
func (w *world) connected() {
	w.Helper()
	w.reach("b", "tcp://192.0.2.1:8002 10.69.0.1 web", "tcp://[2001:db8::1]:8002 2001:db8::2 web")
	w.reach("sealane:ours", "tcp://10.69.0.7:8000 10.69.0.2 web", "tcp://web:8000 10.69.0.2 web")
	w.reach("web", "tcp://10.69.0.2:8000 10.69.0.7 ours")
}

// soon checks that a container that has just been started is back in time. Docker
// has started it when its command returns.
func (w *world) soon(what string) {
	w.Helper()
	began := time.Now()
	w.within(patience, func() error {
		if r := w.b.Run("lab-echo", "probe", "-timeout", "100ms", "tcp://192.0.2.1:8002"); !strings.HasSuffix(strings.TrimSpace(r.Stdout), " web") {
			return fmt.Errorf("%s: %s", what, r.Stdout)
		}
		return nil
	})
	took := time.Since(began)
	w.Logf("%s: back after %v", what, took)
	if took > late {
		w.Errorf("%s: back after %v, want %v", what, took, back)
	}
}

// TestGuest: what Sealane gave a container of Docker's is there again whenever the
// container is, whoever was away meanwhile, and goes with it.
func TestGuest(t *testing.T) {
	w := both(t)
	w.guest()
	before := w.sh("sealane inspect web --format '{{json .Endpoints}} {{json .Ports}} {{json .Guest}}'")
	w.docker("restart -t 0 web")
	w.soon("restart")
	w.connected()

	w.docker("stop -t 0 web")
	w.shows(patience, "sealane ps", "web ", "away")
	w.shows(patience, "sealane inspect web", "docker: web is stopped")
	w.asIntended()
	w.docker("start web")
	w.soon("stop and start")

	w.docker("kill web")
	w.a.Kill9()
	w.docker("start web")
	w.a.Restart()
	w.soon("without a daemon")
	w.connected()
	for range 5 {
		w.docker("restart -t 0 web")
	}
	w.soon("five restarts")
	if after := w.sh("sealane inspect web --format '{{json .Endpoints}} {{json .Ports}} {{json .Guest}}'"); after != before {
		w.Errorf("it has\n%s\nand had\n%s", after, before)
	}

	w.docker("network create own")
	w.docker("network connect own web")
	w.docker("restart -t 0 web")
	w.soon("with another network of Docker's")

	w.stopDocker(syscall.SIGTERM)
	w.shows(patience, "sealane ps", "web ", "away")
	w.startDocker()
	w.docker("start web")
	w.soon("dockerd's restart")
	w.connected()

	w.docker("rename web front")
	w.shows(named, "sealane ps", " front ", "docker:front")
	w.docker("rm -f front")
	w.shows(patience, "sealane ps -a", "!front", "!docker:")
	w.shows(0, "sealane network inspect mine", "!10.69.0.7")
	w.asIntended()
}

// TestGuestLivesOn: dockerd may go and come back without its containers.
func TestGuestLivesOn(t *testing.T) {
	w := both(t, "--live-restore")
	w.guest()
	w.stream("8002", func() {
		w.stopDocker(syscall.SIGKILL)
		w.connectedByOthers()
		w.startDocker()
	})
	w.connected()
	w.docker("restart -t 0 web")
	w.soon("restart by a new dockerd")
	w.connected()
}

// connectedByOthers is connected as long as Docker cannot be asked.
func (w *world) connectedByOthers() {
	w.Helper()
	w.reach("b", "tcp://192.0.2.1:8002 10.69.0.1 web")
	w.reach("sealane:ours", "tcp://10.69.0.7:8000 10.69.0.2 web")
	w.shows(0, "sealane ps", "web ", "!away")
}

// TestGuestAwaited: a container may be connected before there is one, and is again
// each time there is another.
func TestGuestAwaited(t *testing.T) {
	w := both(t)
	w.sealane("network create mine --subnet 10.69.0.0/24")
	w.refused("sealane network connect mine docker:web", "docker:web: no such container")
	w.refused("sealane network connect mine web", "no such container of docker")
	w.sealane("network connect --await --ip 10.69.0.7 -p 8002:8000 mine docker:web")
	w.shows(0, "sealane inspect docker:web", "docker: web does not exist yet")
	for _, network := range []string{"bridge", "none"} {
		w.run("web", "--network "+network)
		w.soon("network " + network)
		w.docker("rm -f web")
		w.shows(patience, "sealane ps", "away")
	}
	w.run("web", "--network host")
	w.shows(patience, "sealane inspect docker:web", "degraded", "host's own")
	w.docker("rm -f web")
	w.docker("run -d --name side echo /lab-echo serve -tcp 9000 -name side")
	w.run("web", "--network container:side")
	w.soon("another's namespace") // which is nobody's of ours yet
	w.sealane("network disconnect mine docker:web")
	w.shows(0, "sealane ps -a", "!web")
	w.asIntended()
}

// TestGuestOnBoth: a container that Docker put on a network of ours, and its user
// on another, is one thing.
func TestGuestOnBoth(t *testing.T) {
	w := both(t)
	w.app("")
	w.run("web", "--network app")
	w.shows(named, "sealane ps", " web ")
	w.sealane("network create mine --subnet 10.69.0.0/24")
	w.sealane("run -d --name ours --network mine -- lab-echo serve -tcp 8000 -name ours")
	w.sealane("network connect --ip 10.69.0.7 -p 8002:8000 mine web")
	check := func() {
		w.Helper()
		w.shows(named, "sealane ps", " web ", "app=10.70.0.", "mine=10.69.0.7", "docker:web", "8002->8000/tcp", "!docker-web")
		w.reach("b", "tcp://192.0.2.1:8002 10.69.0.1 web")
		w.reach("web", "tcp://10.69.0.2:8000 10.69.0.7 ours", "tcp://192.0.2.2:8000 192.0.2.1 b")
		w.reach("sealane:ours", "tcp://web:8000 10.69.0.2 web")
		w.asIntended()
	}
	check()
	w.docker("restart -t 0 web")
	check()
	w.a.Kill9()
	w.a.Restart()
	check()
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 back")
	w.docker("network connect --ip 10.71.0.9 back web") // which Docker calls eth1
	w.reach("a", "tcp://10.71.0.9:8000 10.71.0.1 web")
	w.docker("restart -t 0 web")
	check()
	w.refused("sealane network connect app web", "docker")
	w.sealane("rm web")
	w.shows(0, "sealane ps", " web ", "app=10.70.0.", "!mine=10.69.0.7")
	w.asIntended()
}
