package docker

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// joint makes Docker's network app on a host.
func (w *world) joint(flags string) {
	w.Helper()
	w.docker("network create -d sealane --ipam-driver sealane -o driver=overlay --subnet 10.6.0.0/24 " + flags + " app")
}

// at is the address of a container on its network.
func (w *world) at(name string) string {
	w.Helper()
	return strings.TrimSpace(w.docker("inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' " + name))
}

// greet checks that web, of host one, and db, of host two, reach each other and the
// outside, and that their ports are published.
func (h *hosts) greet() {
	h.one.Helper()
	web, db := h.one.at("web"), h.two.at("db")
	h.one.reach("web", "tcp://"+db+":8000 "+web+" db", "udp://"+db+":8000 "+web+" db", "tcp://192.0.2.2:8000 192.0.2.1 b")
	h.two.reach("db", "tcp://"+web+":8000 "+db+" web", "tcp://192.0.2.2:8000 192.0.2.3 b")
	h.one.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.3:8002 192.0.2.2 db")
}

// TestOverlay: a network of Docker's that is one link on two hosts, through its life.
func TestOverlay(t *testing.T) {
	h := newHosts(t, "--live-restore")
	h.one.refused("docker network create -d sealane -o driver=overlay --subnet 10.6.0.0/24 app", "subnet 10.6.0.0/24: driver overlay", "add --ipam-driver sealane")
	h.one.joint("-o mtu=1400")
	h.one.shows(named, "sealane network ls", " app ")
	h.two.shows(named, "sealane network ls", " app ", "!docker-")
	h.two.refused("docker network create -d sealane --ipam-driver sealane -o driver=overlay --subnet 10.6.0.0/24 -o vni=7 app", "option vni=7: the network of the cluster has 4096")
	h.two.joint("")
	h.one.run("web", "--network app -p 8001:8000")
	h.two.run("db", "--network app -p 8002:8000")
	h.greet()
	h.one.shows(named, "sealane ps", " web ", "app="+h.one.at("web"))
	h.one.shows(0, h.one.enter("web", true)+"ip addr", h.one.at("web")+"/24", "mtu 1400")
	h.one.shows(0, h.one.enter("web", true)+"ip route", "default via 10.6.0.1 dev eth0")
	h.one.refused("docker run --rm --network app --ip "+h.two.at("db")+" echo /lab-echo", "is taken by db of host")
	h.one.asIntended()
	h.sub("restarts", h.again)
	h.sub("services", h.serve)
	h.sub("mesh", h.mesh)
	h.sub("apart", h.apart)
	h.sub("both families", h.bothFamilies)
	h.sub("removal", h.leave)
}

// bothFamilies: a network with IPv6, whose containers reach each other on both hosts,
// and the outside.
func (h *hosts) bothFamilies() {
	for _, w := range []*world{h.one, h.two} {
		w.docker("network create -d sealane --ipam-driver sealane -o driver=overlay --ipv6 --subnet 10.16.0.0/24 --subnet fd16::/64 six")
		w.shows(named, "sealane network ls", " six ", "!docker-")
	}
	h.one.run("here", "--network six --ip 10.16.0.70 --ip6 fd16::70")
	h.two.run("there", "--network six --ip6 fd16::71")
	for range 2 {
		h.one.reach("here", "tcp://[fd16::71]:8000 fd16::70 there", "udp://[fd16::71]:8000 fd16::70 there", "tcp://[2001:db8::2]:8000 2001:db8::1 b")
		h.two.reach("there", "tcp://[fd16::70]:8000 fd16::71 here", "tcp://10.16.0.70:8000 "+h.two.at("there")+" here", "tcp://[2001:db8::2]:8000 2001:db8::3 b")
		h.one.refused("docker run --rm --network six --ip6 fd16::71 echo /lab-echo", "fd16::71", "there")
		h.one.a.Kill9()
		h.one.a.Restart()
		h.one.docker("restart -t 0 here")
	}
	h.one.docker("rm -f here")
	h.two.docker("rm -f there")
	h.one.docker("network rm six")
	h.two.docker("network rm six")
	h.one.shows(time.Minute, "sealane network rm six 2>&1 || true; sealane network ls", "!six ")
	h.two.shows(time.Minute, "sealane network ls", "!six ")
}

// serve: a container is a backend by an option of its endpoint. Parts of the firewall for
// services stay as long as the daemon runs, so what restarts comes before.
func (h *hosts) serve() {
	h.one.sealane("service create --name www --network app --port 8000")
	h.two.run("later", "--network app")
	h.two.docker("network disconnect app later")
	h.two.docker("network connect --driver-opt sealane.service=www app later")
	h.two.run("now", "--network name=app,driver-opt=sealane.service=www:8000*2")
	h.one.shows(time.Minute, `sealane service inspect --format '{{range .Backends}}{{.Sandbox}} {{.Port}} {{.Weight}} {{.State}}, {{end}}' www`, "later 0 ", "now 8000 2 ready")
	vip := h.one.sealane("service inspect --format '{{index .VIPs 0}}' www")
	h.one.shows(time.Minute, "sealane explain web www", "connect(2): choice "+vip+":8000")
	h.two.docker("rm -f now")
	h.two.docker("network disconnect app later")
	h.two.refused("docker network connect --driver-opt sealane.service=www:0 app later", "option sealane.service", "www:0")
	h.two.docker("network connect --driver-opt sealane.service=WWW app later")
	h.one.shows(time.Minute, `sealane service inspect --format '{{len .Backends}}' www`, "1")
	h.one.reach("web", "tcp://"+vip+":8000 "+h.one.at("web")+" later")
	h.two.run("labelled", "--network app --label sealane.service=www")
	h.one.shows(time.Minute, `sealane service inspect --format '{{range .Backends}}{{.Sandbox}} {{.State}}, {{end}}' www`, "labelled ready", "later ready")
	h.two.docker("rm -f later labelled")
	h.one.sealane("service rm www")
}

// mesh: a container that is a backend by its label is behind the service's port at every
// host, and again after each way to start it anew.
func (h *hosts) mesh() {
	h.one.sealane("service create --name www --network app --port 80 --port 80/udp --publish 8080:80 --publish 8080:80/udp")
	h.one.reach("b", "tcp://192.0.2.1:8080 no", "tcp://192.0.2.3:8080 no")
	h.two.run("labelled", "--network app --label sealane.service=www:8000")
	served := func() {
		h.one.Helper()
		h.one.reach("b", "tcp://192.0.2.1:8080 192.0.2.2 labelled", "tcp://192.0.2.3:8080 192.0.2.2 labelled",
			"udp://192.0.2.1:8080 192.0.2.2 labelled", "udp://192.0.2.3:8080 192.0.2.2 labelled")
		h.one.shows(patience, `sealane service inspect --format '{{range .Backends}}{{.Sandbox}} {{.Port}} {{.State}}, {{end}}' www`, "labelled 8000 ready")
	}
	served()
	for _, start := range []func(){
		func() { h.two.docker("restart -t 0 labelled") },
		func() {
			h.two.docker("stop -t 0 labelled")
			h.one.reach("b", "tcp://192.0.2.1:8080 no", "tcp://192.0.2.3:8080 no")
			h.two.docker("start labelled")
		},
		func() {
			h.two.docker("kill labelled")
			h.two.a.Kill9()
			h.two.a.Restart()
			h.two.docker("start labelled")
		},
		func() { h.two.stopDocker(syscall.SIGTERM); h.two.startDocker() }, // it lives on
		func() { h.two.docker("rename labelled other"); h.two.docker("rename other labelled") },
		func() {
			h.two.docker("network disconnect app labelled")
			h.one.reach("b", "tcp://192.0.2.1:8080 no", "tcp://192.0.2.3:8080 no")
			h.two.docker("network connect app labelled")
		},
	} {
		start()
		served()
	}
	h.one.asIntended()
	h.two.asIntended()
	h.two.docker("rm -f labelled")
	h.one.reach("b", "tcp://192.0.2.1:8080 no", "tcp://192.0.2.3:8080 no")
	h.one.sealane("service rm www")
}

// apart: containers that may not reach each other are refused at once by a service too, by
// both families, and reach the outside.
func (h *hosts) apart() {
	h.one.docker("network create -d sealane --ipam-driver sealane -o driver=overlay -o icc=false --ipv6 --subnet 10.17.0.0/24 --subnet fd17::/64 shy")
	h.one.sealane("service create --name coy --network shy --port 8000")
	h.one.run("client", "--network shy --ip6 fd17::70")
	h.one.run("backend", "--network shy --label sealane.service=coy")
	h.one.shows(patience, "sealane service inspect --format '{{range .Backends}}{{.State}}{{end}}' coy", "ready")
	h.one.reach("client", "tcp://[2001:db8::2]:8000 2001:db8::1 b", "tcp://192.0.2.2:8000 192.0.2.1 b")
	vips := strings.Fields(h.one.sealane("service inspect --format '{{range .VIPs}}{{.}} {{end}}' coy"))
	for _, at := range []string{vips[0], "[" + vips[1] + "]"} {
		h.one.shows(0, h.one.enter("client", true)+"lab-echo get -timeout 2s http://"+at+":8000/ 2>&1 || true", "connection refused")
	}
	h.one.docker("restart -t 0 client")
	h.one.reach("client", "tcp://[2001:db8::2]:8000 2001:db8::1 b")
	h.one.asIntended()
	h.one.docker("rm -f client backend")
	h.one.sealane("service rm coy")
	h.one.docker("network rm shy")
	h.one.shows(time.Minute, "sealane network rm shy 2>&1 || true; sealane network ls", "!shy ")
}

// again: all stays through kills of either daemon, and containers can start again.
func (h *hosts) again() {
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
		h.greet()
		h.one.unchanged(before, c.name)
		h.one.asIntended()
	}
	h.etcd.Signal(syscall.SIGKILL)
	h.etcd.Wait()
	h.one.refused("docker run --rm --network app echo /lab-echo", "the store does not answer")
	h.greet()
	h.one.a.Kill9()
	h.one.a.Restart()
	h.greet()
	h.startEtcd()
	h.one.shows(time.Minute, "sealane network inspect --format '{{.Status.State}}' app", "ready")
	h.one.docker("restart -t 0 web")
	h.two.shows(time.Minute, "sealane network inspect --format '{{range .Overlay.Members}}{{range .Endpoints}}{{.Sandbox}}={{.Addresses}} {{end}}{{end}}' app", "web=["+h.one.at("web")+"]")
	h.greet()
}

// leave: Docker's network goes on each host for itself, and the overlay by our API.
func (h *hosts) leave() {
	h.one.refused("docker network rm app", "app", "active endpoints")
	h.one.refused("sealane network rm app", "Docker of this host has it too", "docker network rm")
	h.one.docker("rm -f web")
	h.one.docker("network rm app")
	h.one.refused("sealane network rm app", "db of host")
	h.one.sealane("run -d --name ours --network app -- lab-echo serve -tcp 8000 -name ours")
	at := h.one.sealane("inspect --format '{{(index (index .Endpoints 0).Addresses 0).Addr}}' ours")
	h.two.reach("db", "tcp://"+at+":8000 "+h.two.at("db")+" ours")
	h.one.sealane("rm -f ours")
	h.two.docker("rm -f db")
	h.one.refused("sealane network rm app", "Docker of host")
	h.two.docker("network rm app")
	h.two.shows(time.Minute, "sealane network rm app 2>&1 || true; sealane network ls", "!app ")
	h.one.shows(time.Minute, "sealane network ls", "!app")
	h.one.shows(0, "ip route", "!10.6.")
}
