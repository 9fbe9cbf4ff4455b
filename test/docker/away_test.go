package docker

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// TestMeanwhile: what Docker removes while no sealaned runs is gone from
// Sealane soon after one does. Docker tries for 15 s to tell each thing.
func TestMeanwhile(t *testing.T) {
	w := both(t)
	w.sealane("network create mine --subnet 10.69.0.0/24")
	w.docker("network create -d sealane --subnet 10.70.0.0/24 --internal app")
	w.docker("network create -d sealane --subnet 10.71.0.0/24 --internal back")
	w.docker("network create -d sealane --subnet 10.72.0.0/24 under")
	w.docker("network create -d sealane --ipam-driver sealane --ipv6 --subnet 10.74.0.0/24 --subnet fd74::/64 lent")
	w.run("six", "--network lent --ip6 fd74::9")
	w.run("stays", "--network app")
	w.shows(named, "sealane network ls", " app ", " back ", " under ", " lent ")
	w.shows(named, "sealane ps", " stays ", " six ")
	w.sealane("run -d --name ours --network under -- lab-echo serve -tcp 8000 -name ours")
	w.docker("network create -d bridge --ipam-driver sealane --subnet 10.77.0.0/24 hold")
	before := w.state()
	w.docker("network create -d bridge --ipam-driver sealane foreign")
	foreign := "pool-" + strings.ReplaceAll(w.docker("network inspect -f '{{(index .IPAM.Config 0).Subnet}}' foreign"), "/", "-")
	w.docker("network rm under") // Docker does, whatever we say
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.73.0.0/24 gone")
	// Docker takes an IPv4 address for it, and forgets to give it back.
	w.refused("docker run -d --network lent --ip6 fd74::9 echo /lab-echo serve", "fd74::9")
	w.shows(0, "sealane network inspect --format '{{range .Subnets}}{{.Usage.InUse}} {{end}}' lent", "5 3")
	w.run("web", "--network app")
	w.run("two", "--network app")
	w.docker("network connect back two")
	w.shows(named, "sealane ps", " web ", " two ", "back=")
	w.a.Kill9()
	w.atOnce("rm -f web", "network rm gone", "network disconnect back two", "network rm foreign")
	w.a.Restart()
	w.shows(time.Minute, "sealane ps", "!web", "two", "stays", "!back=")
	w.shows(time.Minute, "sealane network ls", " app ", " back ", "!gone", "under")
	w.reach("stays", "tcp://10.70.0.4:8000 10.70.0.2 two", "tcp://10.70.0.3:8000 no")
	w.shows(time.Minute, "sealane network ls", " pool-10.77.0.0-24 ", "!"+foreign)
	w.docker("rm -f two")
	w.unchanged(before, "all that was removed meanwhile is gone")
	w.sealane("rm -f ours")
	w.shows(10*time.Second, "sealane network ls", "!under", "!docker-")
	w.asIntended()
}

// TestStoppedMeanwhile: what containers had that were stopped while no sealaned ran is
// theirs when they start again, at once.
func TestStoppedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, ipam := range []string{"sealane", "default"} {
		t.Run(ipam, func(t *testing.T) {
			w := both(t)
			w.docker("network create -d sealane --ipam-driver " + ipam + " --subnet 10.70.0.0/24 app")
			w.run("web", "--network app --ip 10.70.0.50 --mac-address 02:00:00:00:00:50 -p 8001:8000")
			w.run("any", "--network app -p 8002:8000")
			w.shows(named, "sealane ps", " web ", " any ")
			w.sealane("port add any 8009:8000")
			w.a.Kill9()
			w.atOnce("stop -t 0 web", "stop -t 0 any")
			w.a.Restart()
			w.docker("start web")
			w.docker("start any")
			w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.1:8002 192.0.2.2 any", "tcp://192.0.2.1:8009 192.0.2.2 any")
			w.reach("a", "tcp://10.70.0.50:8000 10.70.0.1 web")
			w.shows(named, "sealane ps -a", " web ", " any ", "!docker-")
			w.asIntended()
			w.docker("rm -f web any")
			w.docker("network rm app")
			w.shows(0, "sealane network ls", "!app", "!docker-")
		})
	}
}

// TestStoppedBeforeDockerStarts: so it is for those that dockerd starts as it begins, when
// it says to nobody what it has.
func TestStoppedBeforeDockerStarts(t *testing.T) {
	w := both(t)
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.70.0.0/24 app")
	w.docker("network create -d sealane --subnet 10.71.0.0/24 back")
	w.docker("network create -d sealane --ipam-driver sealane -o driver=macvlan -o parent=eth0 --subnet 192.0.2.0/24 --gateway 192.0.2.254 --ip-range 192.0.2.128/26 lan")
	w.run("web", "--restart always --network app --ip 10.70.0.50 --mac-address 02:00:00:00:00:50 -p 8001:8000")
	w.run("any", "--restart always --network back -p 8002:8000")
	w.run("direct", "--restart always --network lan --ip 192.0.2.150")
	w.shows(named, "sealane ps", " web ", " any ", " direct ")
	w.a.Kill9()
	w.atOnce("stop -t 0 web", "stop -t 0 any", "stop -t 0 direct")
	w.stopDocker(syscall.SIGTERM)
	w.a.Restart()
	w.startDocker()
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.1:8002 192.0.2.2 any")
	w.reach("a", "tcp://10.70.0.50:8000 10.70.0.1 web")
	w.reach("b", "tcp://192.0.2.150:8000 192.0.2.2 direct")
	w.shows(named, "sealane ps -a", " web ", " any ", " direct ", "!docker-")
	w.asIntended()
}

// TestCutOff: sealaned dies each time that Docker takes an endpoint back, which Docker
// does not ask for again, and is in nobody's way.
func TestCutOff(t *testing.T) {
	w := newWorld(t)
	w.a.Daemon("--docker-plugin", "/run/sealane-plugin.sock")
	again := false
	kills := w.between("/NetworkDriver.DeleteEndpoint", func() {
		if again = !again; again {
			w.a.Kill9()
			w.a.Restart()
			panic(http.ErrAbortHandler) // and Docker repeats the call, without its arguments
		}
	})
	w.startDocker()
	w.image()
	w.docker("network create -d sealane --subnet 10.70.0.0/24 app")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 back")
	w.run("web", "--network app -p 8001:8000")
	w.run("db", "--network back --ip 10.71.0.50 -p 8002:8000")
	for range 3 {
		w.docker("restart -t 0 web db")
		w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.1:8002 192.0.2.2 db")
	}
	w.reach("a", "tcp://10.70.0.2:8000 10.70.0.1 web", "tcp://10.71.0.50:8000 10.71.0.1 db")
	w.shows(named, "sealane ps -a", " web ", " db ", "!docker-")
	w.asIntended()
	if n := kills(); n != 12 {
		t.Errorf("Docker took endpoints back in %d calls, want 6, each twice", n)
	}
}

// TestUntold: what Docker takes back without our hearing of it goes soon after, by its
// events.
func TestUntold(t *testing.T) {
	w := newWorld(t)
	w.a.Daemon("--docker-plugin", "/run/sealane-plugin.sock")
	w.between("/NetworkDriver.DeleteEndpoint", func() { panic(http.ErrAbortHandler) })
	w.startDocker()
	w.image()
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.70.0.0/24 app")
	w.docker("network create -d sealane --subnet 10.71.0.0/24 back")
	w.run("web", "--network app -p 8001:8000")
	w.run("two", "--network back")
	w.docker("network connect app two")
	w.shows(named, "sealane ps", " web ", " two ", "!docker-")
	w.docker("rm -f web")
	w.shows(10*time.Second, "sealane ps -a", "!web", " two ")
	w.docker("network disconnect app two")
	w.shows(10*time.Second, "sealane ps -a", "!app=", "back=")
	w.reach("b", "tcp://192.0.2.1:8001 no")
	w.asIntended()
}

// atOnce runs commands of Docker's client that take long, and waits for all.
func (w *world) atOnce(lines ...string) {
	w.Helper()
	var all []*lab.Process
	for _, line := range lines {
		all = append(all, w.a.Start("bash", "-c", environment+"docker "+line))
	}
	for i, p := range all {
		if code := p.Wait(); code != 0 {
			w.Errorf("docker %s: exit %d: %s", lines[i], code, p.Output())
		}
	}
}
