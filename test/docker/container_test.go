package docker

import (
	"strings"
	"testing"
)

func TestContainers(t *testing.T) {
	w := both(t)
	w.sub("Names", names)
	w.sub("World", outside)
	w.sub("Addresses", addresses)
	w.sub("Connect", connect)
	w.sub("LinkLocal", linkLocal)
	w.sub("Restart", restart)
	w.sub("Guard", guard)
}

// app makes the network of most tests here.
func (w *world) app(flags string) {
	w.Helper()
	w.docker("network create -d sealane --ipam-driver sealane --ipv6 --subnet 10.70.0.0/24 --subnet fd70::/64 " + flags + " app")
	w.shows(named, "sealane network ls", " app ")
}

func names(w *world) {
	w.app("")
	w.run("web", "--network app --network-alias www")
	w.run("two", "--network app")
	w.reach("two", "tcp://web:8000 10.70.0.3 web", "udp://www:8000 10.70.0.3 web")
	w.reach("web", "tcp://two:8000 10.70.0.2 two", "tcp://[fd70::3]:8000 fd70::2 two", "ping://10.70.0.3 - -")
	if got := w.in("web", "lab-echo dns -type AAAA two"); !strings.Contains(got, "fd70::3") {
		w.Errorf("AAAA of two: %s", got)
	}
	w.docker("rm -f two")
	w.reach("web", "tcp://two:8000 no", "tcp://10.70.0.3:8000 no", "tcp://192.0.2.2:8000 192.0.2.1 b")
}

func outside(w *world) {
	w.app("")
	w.run("web", "--network app")
	w.reach("web", "tcp://192.0.2.2:8000 192.0.2.1 b", "udp://192.0.2.2:8000 192.0.2.1 b", "ping://192.0.2.2 - -",
		"tcp://[2001:db8::2]:8000 2001:db8::1 b", "udp://[2001:db8::2]:8000 2001:db8::1 b")
	w.must(w.b, "ip route add 10.70.0.0/24 via 192.0.2.1; ip route add fd70::/64 via 2001:db8::1")
	defer w.must(w.b, "ip route del 10.70.0.0/24; ip route del fd70::/64")
	w.reach("b", "tcp://10.70.0.2:8000 no", "udp://10.70.0.2:8000 no", "tcp://[fd70::2]:8000 no")
}

func addresses(w *world) {
	w.app("")
	w.run("web", "--network app --ip 10.70.0.50 --ip6 fd70::50 --mac-address 02:00:00:00:00:77")
	link := w.in("web", "sh -c 'ip -o addr show dev eth0; ip -o link show dev eth0'")
	for _, word := range []string{" 10.70.0.50/24 ", " fd70::50/64 ", " 02:00:00:00:00:77 "} {
		if !strings.Contains(link, word) {
			w.Errorf("web has %s, want%s", link, word)
		}
	}
	w.shows(named, "sealane ps", "web ", "app=10.70.0.50")
	before := w.state()
	for flags, words := range map[string][]string{
		"--ip 10.70.0.50":  {"10.70.0.50"},
		"--ip 10.70.0.1":   {"10.70.0.1"},
		"--ip 10.70.0.255": {"10.70.0.255"},
		"--ip 10.99.0.1":   {"10.99.0.1"},
		"--network-alias a --mac-address 02:00:00:00:00:77": {"02:00:00:00:00:77"},
		"--network-alias a --mac-address 03:00:00:00:00:01": {"03:00:00:00:00:01"},
	} {
		w.refused("docker run -d --network app "+flags+" echo /lab-echo serve", words...)
		w.unchanged(before, flags)
	}
	w.refused("docker run -d --network app --ip6 fd70::50 echo /lab-echo serve", "fd70::50")
	w.run("two", "--network app --ip 10.70.0.51")
	w.reach("web", "tcp://two:8000 10.70.0.50 two", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.docker("rm -f web")
	w.run("three", "--network app --ip 10.70.0.50")
	w.reach("two", "tcp://10.70.0.50:8000 10.70.0.51 three")
}

// connect puts a container that runs on a second network, and takes it off.
func connect(w *world) {
	w.app("")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 back")
	w.run("web", "--network app")
	w.run("db", "--network back")
	w.shows(named, "sealane ps", " web ", " db ")
	before := w.state()
	w.reach("web", "tcp://10.71.0.2:8000 no", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.docker("network connect --alias front --ip 10.71.0.9 back web")
	w.reach("web", "tcp://db:8000 10.71.0.9 db", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.reach("db", "tcp://front:8000 10.71.0.2 web", "tcp://10.70.0.2:8000 no")
	w.shows(named, "sealane ps", "app=10.70.0.2", "back=10.71.0.9")
	w.refused("docker network connect back web", "already")
	w.refused("docker network connect --driver-opt sealane.servce=www app db", `"sealane.servce"`, "sealane.service")
	w.docker("network disconnect back web")
	w.reach("web", "tcp://10.71.0.2:8000 no", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.unchanged(before, "web was connected and disconnected")

	w.docker("network connect back web")
	w.docker("network disconnect app web")
	w.reach("web", "tcp://db:8000 10.71.0.3 db", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.docker("network disconnect back web")
	w.shows(0, "sealane ps", "!web")
	w.docker("network connect app web")
	w.reach("web", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.docker("rm -f web db")
	w.shows(0, "sealane ps -a", "!web", "!db", "!docker")
	w.asIntended()
}

// linkLocal: a container is reached at the link-local addresses that it was given, of
// both families, and another may not use them.
func linkLocal(w *world) {
	w.app("")
	for _, name := range []string{"web", "two"} {
		w.run(name, "--network bridge")
	}
	w.docker("network connect --link-local-ip 169.254.9.9 --link-local-ip fe80::99 app web")
	w.docker("network connect --link-local-ip 169.254.9.10 app two")
	w.reach("two", "tcp://169.254.9.9:8000 169.254.9.10 web", "tcp://[fe80::99%eth1]:8000 fe80::42:aff:fe46:3 web")
	w.shows(0, "sealane inspect web", `"169.254.9.9/16"`, `"fe80::99/64"`)
	w.in("two", "ip addr add 169.254.9.11/16 dev eth1")
	w.in("two", "ip route add 169.254.9.9 dev eth1 src 169.254.9.11")
	w.reach("two", "tcp://169.254.9.9:8000 no")
	w.in("two", "ip route del 169.254.9.9")
	w.docker("restart -t 0 web") // its hardware address is another now
	w.reach("two", "tcp://169.254.9.9:8000 169.254.9.10 web")
	w.asIntended()
}

// restart: what was asked for stays, again and again.
func restart(w *world) {
	w.app("")
	w.run("web", "--network app --ip 10.70.0.50 -p 8000:8000")
	w.reach("b", "tcp://192.0.2.1:8000 192.0.2.2 web")
	w.shows(named, "sealane ps", "web ")
	before := w.state()
	for range 3 {
		w.docker("restart -t 1 web")
	}
	w.reach("b", "tcp://192.0.2.1:8000 192.0.2.2 web")
	w.reach("a", "tcp://10.70.0.50:8000 10.70.0.1 web")
	w.shows(named, "sealane ps", "web ", "app=10.70.0.50", "!docker-")
	if now := w.state(); len(now) != len(before) {
		w.Errorf("after restarts there is\n%s\nand is no more\n%s", without(now, before), without(before, now))
	}
	w.docker("stop -t 1 web")
	w.shows(0, "sealane ps -a", "!web", "!docker-")
	w.docker("start web")
	w.reach("a", "tcp://10.70.0.50:8000 10.70.0.1 web")
	w.asIntended()
}

// guard: a container sends from its own addresses only. On a network without
// the guard the same frames arrive.
func guard(w *world) {
	w.app("")
	w.docker("network create -d sealane --ipam-driver sealane -o antispoof=false --subnet 10.71.0.0/24 open")
	for network, n := range map[string]string{"app": "10.70.0.", "open": "10.71.0."} {
		w.run("evil-"+network, "--network "+network)
		w.run("peer-"+network, "--network "+network)
		evil, peer := "evil-"+network, "tcp://"+n+"3:8000 "
		w.reach(evil, peer+n+"2 peer-"+network)
		answer := map[string]string{"app": "no", "open": n + "77 peer-" + network}[network]
		w.in(evil, "sh -c 'ip addr add "+n+"77/24 dev eth0; ip route add "+n+"3 dev eth0 src "+n+"77'")
		w.reach(evil, peer+answer)
		w.in(evil, "sh -c 'ip route del "+n+"3; ip addr del "+n+"77/24 dev eth0'")
		w.reach(evil, peer+n+"2 peer-"+network)

		answer = map[string]string{"app": "no", "open": n + "2 peer-" + network}[network]
		mac := strings.Fields(w.in(evil, "ip -br link show dev eth0"))[2]
		w.in(evil, "sh -c 'ip link set eth0 address 02:00:00:00:00:66; ip neigh flush dev eth0'")
		w.reach(evil, peer+answer)
		w.in(evil, "sh -c 'ip link set eth0 address "+mac+"; ip neigh flush dev eth0'")
		w.reach(evil, peer+n+"2 peer-"+network)
	}
}
