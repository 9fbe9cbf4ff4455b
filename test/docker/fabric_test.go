package docker

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

// hosts are two with dockerd that share an etcd; c has no part in either.
//
//	one a 192.0.2.1, 10.5.1.0/24 ─┐
//	two a 192.0.2.3, 10.5.3.0/24 ─┼─ lan ── 192.0.2.9 e (etcd)
//	    b 192.0.2.2 ──────────────┘
type hosts struct {
	one, two *world
	e        *lab.Host
	etcd     *lab.Process
}

const etcdURL = "http://192.0.2.9:2379"

// newHosts returns them with all daemons.
func newHosts(t *testing.T, args ...string) *hosts {
	t.Helper()
	h := layHosts(t, args...)
	for i, w := range []*world{h.one, h.two} {
		h.ctl("put", fmt.Sprintf("/coreos.com/network/subnets/10.5.%d.0-24", 2*i+1), fmt.Sprintf(`{"PublicIP":"192.0.2.%d"}`, 2*i+1))
		w.a.Daemon("--etcd", etcdURL, "--uplink", "eth0")
		w.startDocker()
		w.image()
	}
	return h
}

// layHosts returns them with an etcd alone.
func layHosts(t *testing.T, args ...string) *hosts {
	t.Helper()
	lab.Needs(t, "etcd", "etcdctl")
	h := &hosts{one: newWorld(t, args...)}
	l := h.one.lab
	h.two = &world{T: t, lab: l, a: l.Host("c"), b: h.one.b, args: args}
	h.two.a.Plug(l.Switch("lan"), "eth0", "192.0.2.3/24", "2001:db8::3/64")
	h.e = l.Host("e")
	h.e.Plug(l.Switch("lan"), "eth0", "192.0.2.9/24")
	h.startEtcd()
	return h
}

func (h *hosts) startEtcd() {
	h.one.Helper()
	h.etcd = h.e.Start("etcd", "--data-dir", "/var/lib/etcd", "--unsafe-no-fsync", "--listen-peer-urls", "http://127.0.0.1:2380",
		"--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", etcdURL)
	h.one.within(patience, func() error {
		if r := h.e.Run("etcdctl", "--endpoints", "http://127.0.0.1:2379", "get", "/"); r.Code != 0 {
			return fmt.Errorf("etcd: %s", r.Stderr)
		}
		return nil
	})
}

func (h *hosts) ctl(args ...string) string {
	h.one.Helper()
	return h.one.must(h.e, "ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:2379 '"+strings.Join(args, "' '")+"'")
}

// sub runs a part of a test on the same hosts.
func (h *hosts) sub(name string, part func()) {
	whole := h.one.T
	whole.Run(name, func(t *testing.T) {
		h.one.T, h.two.T = t, t
		defer func() { h.one.T, h.two.T = whole, whole }()
		part()
	})
}

// pods makes Docker's network pods on a host.
func (w *world) pods(flags string) {
	w.Helper()
	w.docker("network create -d sealane --ipam-driver sealane -o driver=fabric --subnet 10.5.0.0/16 " + flags + " pods")
}

// meet checks that web, of host one, and db, of host two, reach each other and the
// outside, and that their ports are published.
func (h *hosts) meet() {
	h.one.Helper()
	h.one.reach("web", "tcp://10.5.3.2:8000 10.5.1.2 db", "udp://10.5.3.2:8000 10.5.1.2 db", "tcp://192.0.2.2:8000 192.0.2.1 b")
	h.two.reach("db", "tcp://10.5.1.2:8000 10.5.3.2 web", "tcp://192.0.2.2:8000 192.0.2.3 b")
	h.one.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.3:8002 192.0.2.2 db")
}

// TestFabric: a network of Docker's that two hosts have, through its life.
func TestFabric(t *testing.T) {
	h := newHosts(t, "--live-restore")
	h.one.pods("-o icc=true")
	h.one.shows(named, "sealane network ls", " pods ")
	h.two.shows(named, "sealane network ls", " pods ", "!docker-")
	h.two.pods("")
	h.one.run("web", "--network pods -p 8001:8000 --network-alias www")
	h.two.run("db", "--network pods -p 8002:8000")
	h.meet()
	h.one.shows(named, "sealane ps", " web ", "pods=10.5.1.2")
	h.one.shows(0, "docker inspect web", `"IPAddress": "10.5.1.2"`, `"IPPrefixLen": 24`, `"Gateway": "10.5.1.1"`)
	h.one.shows(0, "docker network inspect pods", `"Subnet": "10.5.0.0/16"`, `"IPv4Address": "10.5.1.2/24"`, `"driver": "fabric"`)
	h.one.shows(0, h.one.enter("web", true)+"ip addr", "10.5.1.2/24", "mtu 1450", "!10.5.1.2/16")
	h.one.shows(0, h.one.enter("web", true)+"ip route", "default via 10.5.1.1 dev eth0")
	h.one.run("near", "--network pods --ip 10.5.1.77")
	h.one.reach("near", "tcp://www:8000 10.5.1.77 web", "tcp://10.5.3.2:8000 10.5.1.77 db")
	h.one.asIntended()
	h.one.refused("docker run --rm --network pods --ip 10.5.9.9 echo /lab-echo", "address 10.5.9.9: not of 10.5.1.0/24, which is this host's subnet of network pods")
	h.one.refused("docker network create -d sealane --ipam-driver sealane -o driver=fabric --subnet 10.5.0.0/16 again", "network pods, which Docker of this host has already")
	h.sub("restarts", h.restarts)
	h.sub("both families", h.families)
	h.sub("another subnet", h.moves)
	h.sub("removal", h.removal)
}

// restarts: all stays through kills of either daemon, and of etcd.
func (h *hosts) restarts() {
	before := h.one.state()
	for _, c := range []struct {
		name   string
		during func()
	}{
		{"kill -9 of sealaned", func() { h.one.a.Kill9(); h.one.a.Restart() }},
		{"a restart of dockerd", func() { h.one.stopDocker(syscall.SIGTERM); h.one.startDocker() }},
		{"kill -9 of both", func() {
			h.one.a.Kill9()
			h.one.stopDocker(syscall.SIGKILL)
			h.one.a.Restart()
			h.one.startDocker()
		}},
	} {
		c.during()
		h.meet()
		h.one.unchanged(before, c.name)
		h.one.asIntended()
	}
	h.etcd.Signal(syscall.SIGKILL)
	h.etcd.Wait()
	h.one.docker("restart -t 0 near")
	h.one.run("late", "--network pods")
	h.one.reach("late", "tcp://web:8000 10.5.1.3 web", "tcp://10.5.3.2:8000 10.5.1.3 db")
	h.one.docker("rm -f late")
	h.startEtcd()
	for _, w := range []*world{h.one, h.two} {
		w.shows(time.Minute, "sealane network inspect --format '{{.Fabric.InTouch}}' pods", "true")
	}
}

// families: a second network, of both, beside the first one.
func (h *hosts) families() {
	const both = "docker network create -d sealane --ipam-driver sealane -o driver=fabric --ipv6 --subnet 10.6.0.0/16 --subnet fd06::/48 "
	h.one.refused(both+"both", "vni 1 at port 8472: is pods's")
	h.one.sh(both + "-o vni=2 both")
	h.two.shows(named, "sealane network ls", " both ")
	h.two.refused("docker network create -d sealane --ipam-driver sealane -o driver=fabric --subnet 10.6.0.0/16 -o vni=2 both", "subnet 10.6.0.0/16: overlaps those of network both of the cluster, [10.6.0.0/16 fd06::/48]")
	h.two.sh(both + "both")
	h.one.run("six", "--network both")
	h.two.run("seven", "--network both")
	at := map[*world][]string{}
	for w, name := range map[*world]string{h.one: "six", h.two: "seven"} {
		at[w] = strings.Fields(w.docker("inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}' " + name))
	}
	one, two := at[h.one], at[h.two]
	h.one.reach("six", "tcp://"+two[0]+":8000 "+one[0]+" seven", "tcp://["+two[1]+"]:8000 "+one[1]+" seven")
	h.two.reach("seven", "tcp://["+one[1]+"]:8000 "+two[1]+" six")
	for w, name := range map[*world]string{h.one: "six", h.two: "seven"} {
		w.docker("rm -f " + name)
		w.docker("network rm both")
	}
	h.one.sealane("network rm both")
	h.two.shows(patience, "sealane network ls", "!both")
}

// moves: a host whose subnet another one takes has the next one when no container is
// there, and Docker goes on with that.
func (h *hosts) moves() {
	h.one.docker("rm -f web near")
	const lease = "/coreos.com/network/subnets/10.5.1.0-24"
	h.ctl("put", lease, `{"PublicIP":"192.0.2.77","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:77"}}`)
	h.one.a.Kill9()
	h.one.a.Restart()
	h.one.shows(patience, "sealane network inspect --format '{{(index .Subnets 0).Prefix}} {{.Status.State}}' pods", "!10.5.1.0", "ready")
	h.one.run("web", "--network pods")
	at := h.one.docker("inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web")
	if !strings.HasPrefix(at, "10.5.") || strings.HasPrefix(at, "10.5.1.") {
		h.one.Errorf("after the host has another subnet: %s", at)
	}
	h.two.reach("db", "tcp://"+at+":8000 10.5.3.2 web")
}

// removal: Docker's network goes on each host for itself, and the fabric by our API.
func (h *hosts) removal() {
	h.one.refused("docker network rm pods", "pods", "active endpoints")
	h.one.refused("sealane network rm pods", "Docker of this host has it too", "docker network rm")
	h.one.docker("rm -f web")
	h.one.refused("sealane network rm pods", "Docker of this host has it too")
	h.one.docker("network rm pods")
	h.one.shows(0, "sealane network ls", " pods ")
	h.two.reach("b", "tcp://192.0.2.3:8002 192.0.2.2 db")
	h.one.sealane("run -d --name ours --network pods -- lab-echo serve -tcp 8000 -name ours")
	at := h.one.sealane("inspect --format '{{(index (index .Endpoints 0).Addresses 0).Addr}}' ours")
	h.two.reach("db", "tcp://10.5.1.2:8000 no", "tcp://"+at+":8000 10.5.3.2 ours")
	h.one.sealane("rm -f ours")
	h.one.sealane("network rm pods")
	h.two.shows(patience, "sealane network inspect pods", "was removed from the cluster")
	h.two.docker("rm -f db")
	h.two.docker("network rm pods")
	h.two.shows(patience, "sealane network ls", "!pods")
	h.one.shows(0, "ip route", "!10.5.")
	h.two.shows(patience, "ip route", "!10.5.")
}
