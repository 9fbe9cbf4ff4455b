package docker

import (
	"strings"
	"syscall"
	"testing"
)

// fabricConfig puts the config of a network over hosts, of both families.
func (h *hosts) fabricConfig(backend string) {
	h.one.Helper()
	h.ctl("put", "/coreos.com/network/config", `{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"`+backend+`"}}`)
}

// bip starts Docker with the options that the daemon has written.
func (w *world) bip() {
	w.Helper()
	w.shows(patience, "cat /run/docker_opts.env || true", "DOCKER_OPTS=")
	w.args = append([]string{"--live-restore"}, strings.Fields(w.sh(". /run/docker_opts.env; echo $DOCKER_OPTS"))...)
	w.startDocker()
}

// rules are Docker's in iptables.
func (w *world) rules() string {
	w.Helper()
	return w.sh("for s in iptables-save ip6tables-save; do $s | grep -v '^#' | sed 's/ \\[.*//' | grep -v 'made by sealane'; done")
}

// TestBip: Docker's own bridge has this host's subnet of a network over hosts, on two hosts,
// as Flannel's users have it.
func TestBip(t *testing.T) {
	h := layHosts(t)
	h.fabricConfig("vxlan")
	h.ctl("put", "/coreos.com/network/subnets/10.5.1.0-24&fd05:0:0:1::-64", `{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1"}`)
	h.ctl("put", "/coreos.com/network/subnets/10.5.3.0-24&fd05:0:0:3::-64", `{"PublicIP":"192.0.2.3","PublicIPv6":"2001:db8::3"}`)
	for _, w := range []*world{h.one, h.two} {
		w.a.Daemon("--etcd", etcdURL, "--uplink", "eth0", "--fabric-bridge", "docker0", "--docker-opts", "/run/docker_opts.env")
		w.bip()
		w.sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP") // as where Docker is first
		w.image()
	}
	h.one.run("web", "-p 8001:8000")
	h.two.run("db", "-p 8002:8000")
	h.own("vxlan")
	h.one.shows(0, h.one.enter("web", true)+"ip addr", "10.5.1.2/24", "mtu 1430")
	h.one.shows(0, "sealane network inspect flannel", `"bridge": "docker0"`, `"state": "ready"`, `"exceptions": [`)
	h.one.shows(0, "ip link", "!slb")
	h.one.refused("sealane run --rm --network flannel -- true", "network flannel: join: is on docker0 here")
	h.one.refused("docker network create -d sealane --ipam-driver sealane -o driver=fabric --subnet 10.5.0.0/16 --subnet fd05::/48 --ipv6 pods", "network flannel: join: is on docker0 here")
	h.sub("others", h.kept)
	h.sub("restarts", h.lives)
	h.fabricConfig("host-gw")
	for _, w := range []*world{h.one, h.two} {
		w.shows(patience, "ip route; ip -6 route", "10.5.0.0/16", "dev eth0 proto 83", "!slt")
		w.shows(patience, "cat /run/docker_opts.env", "--mtu=1500")
	}
	h.own("host-gw")
	h.sub("another subnet", h.anew)
}

// own checks that containers reach each other with their own addresses, of both families,
// and the outside and are reached as always.
func (h *hosts) own(backend string) {
	h.one.Helper()
	h.meet()
	six := func(w *world, name string) string {
		return w.docker("inspect -f {{.NetworkSettings.GlobalIPv6Address}} " + name)
	}
	web, db := six(h.one, "web"), six(h.two, "db")
	h.one.reach("web", "tcp://["+db+"]:8000 "+web+" db")
	h.two.reach("db", "tcp://["+web+"]:8000 "+db+" web", "tcp://[2001:db8::2]:8000 2001:db8::3 b")
	h.one.reach("a", "tcp://10.5.3.2:8000 "+map[string]string{"vxlan": "10.5.1.0", "host-gw": "192.0.2.1"}[backend]+" db")
	h.one.asIntended()
	h.two.asIntended()
}

// kept: who has no part in the network comes to Docker's containers as Docker says, and no
// rule of Docker's is another.
func (h *hosts) kept() {
	h.one.must(h.one.b, "ip route add 10.5.1.0/24 via 192.0.2.1; ip -6 route add fd05:0:0:1::/64 via 2001:db8::1")
	h.one.docker("network create apart")
	h.one.run("far", "--network apart")
	at := h.one.docker("inspect -f {{.NetworkSettings.Networks.apart.IPAddress}} far")
	h.one.sealane("run -d --name ours -- lab-echo serve -tcp 8000 -name ours")
	ours := h.one.sealane("inspect --format '{{(index (index .Endpoints 0).Addresses 0).Addr}}' ours")
	web := h.one.docker("inspect -f {{.NetworkSettings.GlobalIPv6Address}} web")
	// Docker lets who has a route come to the port that is published, and to no other.
	h.one.reach("b", "udp://10.5.1.2:8000 no", "tcp://["+web+"]:8000 no", "tcp://192.0.2.1:8001 192.0.2.2 web")
	h.one.reach("far", "udp://10.5.1.2:8000 no", "tcp://10.5.3.2:8000 no")
	h.one.reach("web", "tcp://"+at+":8000 no", "tcp://"+ours+":8000 no")
	h.two.reach("db", "tcp://"+at+":8000 no", "tcp://"+ours+":8000 no")
	h.one.reach("sealane:ours", "udp://10.5.1.2:8000 no", "tcp://10.5.3.2:8000 no", "tcp://192.0.2.3:8002 192.0.2.1 db")
	h.one.docker("rm -f far")
	h.one.docker("network rm apart")
	h.one.sealane("rm -f ours")

	with := h.one.rules()
	h.one.a.Stop()
	h.one.sh("sealane daemon --teardown --etcd " + etcdURL)
	if without := h.one.rules(); without != with {
		h.one.Errorf("rules of Docker's with Sealane:\n%s\nwithout:\n%s", with, without)
	}
	h.one.a.Restart()
	h.own("vxlan")
}

// lives: all stays through ends of either daemon, in any order.
func (h *hosts) lives() {
	before := h.one.state()
	for _, c := range []struct {
		name   string
		during func(w *world)
	}{
		{"sealaned is away for a while", func(w *world) { w.a.Kill9(); h.meet(); w.a.Restart() }},
		{"dockerd starts again", func(w *world) { w.stopDocker(syscall.SIGTERM); w.startDocker() }},
		{"both are killed, dockerd is there first", func(w *world) {
			w.a.Kill9()
			w.stopDocker(syscall.SIGKILL)
			w.startDocker()
			w.a.Restart()
		}},
		{"both are killed, sealaned is there first", func(w *world) {
			w.a.Kill9()
			w.stopDocker(syscall.SIGKILL)
			w.a.Restart()
			w.startDocker()
		}},
		{"the bridge is gone", func(w *world) {
			w.docker("stop -t 0 web")
			w.stopDocker(syscall.SIGTERM)
			w.sh("ip link del docker0")
			w.startDocker()
			w.docker("start web")
		}},
	} {
		c.during(h.one)
		h.own("vxlan")
		h.one.unchanged(before, c.name)
	}
}

// anew: the host has another subnet, and Docker is to be started with that.
func (h *hosts) anew() {
	const lease = "/coreos.com/network/subnets/10.5.1.0-24&fd05:0:0:1::-64"
	h.one.a.Kill9()
	h.ctl("put", lease, `{"PublicIP":"192.0.2.77","PublicIPv6":"2001:db8::77","BackendType":"host-gw"}`)
	h.one.a.Restart()
	h.one.shows(patience*6, "sealane network inspect flannel", `"state": "degraded"`, "bridge docker0: has 10.5.1.1/24, and this host's subnet is 10.5.")
	h.one.docker("rm -f web")
	h.one.stopDocker(syscall.SIGTERM)
	h.one.bip()
	h.one.shows(patience, "ip route", "10.5.1.0/24 via 192.0.2.77")
	h.one.shows(patience, "sealane network inspect flannel", "subnet fd05:0:0:1::/64: another program's bridge on this host has that subnet")
	h.one.sh("ip -6 route del fd05:0:0:1::/64 dev docker0") // which Docker leaves there
	h.one.shows(patience, "sealane network inspect flannel", `"state": "ready"`)
	h.one.run("web", "")
	at := h.one.docker("inspect -f {{.NetworkSettings.IPAddress}} web")
	if !strings.HasPrefix(at, "10.5.") || strings.HasPrefix(at, "10.5.1.") {
		h.one.Errorf("after the host has another subnet: %s", at)
	}
	h.two.reach("db", "tcp://"+at+":8000 10.5.3.2 web")
	h.one.reach("web", "tcp://10.5.3.2:8000 "+at+" db")
}
