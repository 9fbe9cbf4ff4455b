package docker

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/sealane/sealane/internal/feature/featuretest"
)

// behind is a network of ipvlans on eth0: what it is made with, the addresses of its
// containers web and two, that of the host's leg, and where the default route leads.
type behind struct{ flags, web, web6, two, leg, way string }

// TestOtherKernel has dockerd where the kernel has ipvlan. The same containers go from
// network to network, for dockerd takes long to start one there. Docker's own rules
// are left out for the same reason: TestMacvlan and others have them.
func TestOtherKernel(t *testing.T) {
	featuretest.Require(t, "ipvlan")
	w := both(t, "--live-restore", "--iptables=false", "--bridge=none")
	w.must(w.b, "ip route add 198.51.100.0/24 via 192.0.2.1; ip route add 2001:db8:1::/64 via 2001:db8::1")
	bare := w.state()
	w.onLink()
	w.routed()
	w.routedSeen()
	w.bridged()
	w.docker("rm -f web two")
	w.unchanged(bare, "docker rm")
	w.asIntended()
}

// onLink has them on the LAN, while both daemons are killed, and web restarts.
func (w *world) onLink() {
	w.Helper()
	l2 := behind{
		flags: "--ipam-driver sealane --gateway 192.0.2.2 -o host-leg=192.0.2.9 --subnet 192.0.2.0/24",
		web:   "192.0.2.70", two: "192.0.2.71", leg: "192.0.2.9", way: "default via 192.0.2.2 dev eth",
	}
	w.behind(l2)
	w.run("web", "--network lan --ip "+l2.web)
	w.run("two", "--network lan --ip "+l2.two)
	w.meet(l2)
	w.shows(named, "sealane ps", " web ", "lan="+l2.web, " two ")
	w.shows(0, "docker inspect web", `"IPAddress": "`+l2.web+`"`)
	before := w.state()
	w.a.Kill9()
	w.stopDocker(syscall.SIGKILL)
	w.a.Restart()
	w.startDocker()
	w.meet(l2)
	w.unchanged(before, "kill -9 of both")
	w.asIntended()
	w.refused("docker run --rm --network lan --mac-address 02:00:00:00:00:07 echo /lab-echo", "its interfaces have their parent's")
	w.refused("docker network create -d sealane -o driver=ipvlan -o parent=eth0 -o mode=l3 --subnet 198.51.100.0/24 more", "in mode l2")
	w.docker("restart -t 0 web")
	w.meet(l2)
	w.alone("lan")
}

// routed has them beyond the host, with both families, while sealaned is killed, and
// web restarts.
func (w *world) routed() {
	w.Helper()
	l3 := behind{
		flags: "--ipam-driver sealane -o mode=l3 --subnet 198.51.100.0/24 --ipv6 --subnet 2001:db8:1::/64",
		web:   "198.51.100.70", web6: "2001:db8:1::70", two: "198.51.100.71", way: "default dev eth",
	}
	w.behind(l3)
	w.docker("network connect --ip " + l3.web + " --ip6 " + l3.web6 + " lan web")
	w.docker("network connect --ip " + l3.two + " --ip6 2001:db8:1::71 lan two")
	w.meet(l3)
	w.shows(0, "docker inspect web", `"GlobalIPv6Address": "`+l3.web6+`"`)
	w.a.Kill9()
	w.meet(l3)
	w.a.Restart()
	w.docker("restart -t 0 web")
	w.meet(l3)
	w.asIntended()
	w.alone("lan")
}

// routedSeen has them there in mode l3s, with addresses from Docker's own IPAM.
func (w *world) routedSeen() {
	w.Helper()
	l3s := behind{flags: "-o mode=l3s --subnet 198.51.100.0/24", web: "198.51.100.70", two: "198.51.100.71", way: "default dev eth"}
	w.behind(l3s)
	w.docker("network connect --ip " + l3s.web + " lan web")
	w.docker("network connect --ip " + l3s.two + " lan two")
	w.meet(l3s)
	w.asIntended()
	w.alone("lan")
}

// bridged has them on a bridge of that kernel.
func (w *world) bridged() {
	w.Helper()
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.70.0.0/24 app")
	w.docker("network connect --ip 10.70.0.50 app web")
	w.docker("network connect --ip 10.70.0.51 app two")
	w.reach("two", "tcp://web:8000 10.70.0.51 web", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.asIntended()
	w.alone("app")
}

// behind makes the network, as lan.
func (w *world) behind(n behind) {
	w.Helper()
	w.docker("network create -d sealane -o driver=ipvlan -o parent=eth0 " + n.flags + " lan")
	w.shows(named, "sealane network ls", " lan ")
}

// alone takes the containers off a network and removes it.
func (w *world) alone(network string) {
	w.Helper()
	w.docker("network disconnect " + network + " web")
	w.docker("network disconnect " + network + " two")
	w.docker("network rm " + network)
	w.shows(0, "ip -o link", "!slp", "!slm")
}

// meet checks who reaches whom, and by which way out.
func (w *world) meet(n behind) {
	w.Helper()
	in := []string{fmt.Sprintf("tcp://%s:8000 192.0.2.2 web", n.web)}
	out := []string{fmt.Sprintf("tcp://192.0.2.2:8000 %s b", n.web)}
	if n.web6 != "" {
		in = append(in, fmt.Sprintf("tcp://[%s]:8000 2001:db8::2 web", n.web6))
		out = append(out, fmt.Sprintf("tcp://[2001:db8::2]:8000 %s b", n.web6))
	} else {
		w.reach("two", fmt.Sprintf("tcp://web:8000 %s web", n.two))
	}
	w.reach("b", in...)
	w.reach("web", out...)
	w.reach("two", fmt.Sprintf("tcp://%s:8000 %s web", n.web, n.two))
	if n.leg != "" {
		w.reach("a", fmt.Sprintf("tcp://%s:8000 %s web", n.web, n.leg))
	}
	if got := w.in("web", "ip -4 route show default"); !strings.HasPrefix(got, n.way) {
		w.Errorf("default route: %q", got)
	}
}
