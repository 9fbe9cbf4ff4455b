package docker

import (
	"strings"
	"testing"
)

func TestNetworks(t *testing.T) {
	w := both(t)
	w.sub("OurAddresses", ourAddresses)
	w.sub("DockersAddresses", dockersAddresses)
	w.sub("OthersDrivers", othersDrivers)
	w.sub("Range", addressRange)
	w.sub("Internal", internal)
	w.sub("Options", options)
	w.sub("Mode", mode)
	w.sub("Refused", refusedNetworks)
	w.sub("RefusedAddresses", refusedAddresses)
}

func ourAddresses(w *world) {
	before := w.state()
	w.docker("network create -d sealane --ipam-driver sealane app")
	w.docker("network create -d sealane --ipam-driver sealane --ipv6 --subnet 10.71.0.0/24 --subnet fd71::/64 --label a=b six")
	w.docker("network create -d sealane --ipam-driver sealane --ipv6 both") // Docker says of the gateways one with a length
	w.shows(named, "sealane network ls", "app ", "six ", "both ")
	w.docker("network rm both")
	chosen := w.docker("network inspect -f '{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}' app")
	subnet, gateway, _ := strings.Cut(chosen, " ")
	ours := w.sealane("network inspect app")
	if subnet == "" || !strings.Contains(ours, `"`+subnet+`"`) || !strings.Contains(ours, `"`+gateway+`"`) {
		w.Errorf("Docker says %q and Sealane %s", chosen, ours)
	}
	if ip := w.sh("ip -o addr"); !strings.Contains(ip, " "+gateway+"/") || !strings.Contains(ip, " fd71::1/64") {
		w.Errorf("the gateways %s and fd71::1 are not in %s", gateway, ip)
	}
	w.shows(0, "sealane network inspect six", `"10.71.0.0/24"`, `"fd71::/64"`, `"10.71.0.1"`, `"fd71::1"`)

	w.run("web", "--network six")
	w.shows(0, "docker inspect web", `"IPAddress": "10.71.0.2"`, `"GlobalIPv6Address": "fd71::2"`, `"Gateway": "10.71.0.1"`, `"IPv6Gateway": "fd71::1"`)
	if addrs := w.in("web", "ip -o addr show dev eth0"); !strings.Contains(addrs, " 10.71.0.2/24") || !strings.Contains(addrs, " fd71::2/64") {
		w.Errorf("web has %s", addrs)
	}
	w.reach("a", "tcp://10.71.0.2:8000 10.71.0.1 web", "tcp://[fd71::2]:8000 fd71::1 web")
	w.refused("docker network rm six", "active endpoints")
	w.docker("rm -f web")
	w.docker("network rm app six")
	w.unchanged(before, "the networks went")
	w.asIntended()
}

func dockersAddresses(w *world) {
	before := w.state()
	w.docker("network create -d sealane app")
	w.docker("network create -d sealane --ipv6 --subnet 10.71.0.0/24 --subnet fd71::/64 --gateway 10.71.0.9 six")
	w.run("web", "--network app")
	w.run("two", "--network six --ip6 fd71::77")
	web := w.docker("inspect -f '{{.NetworkSettings.Networks.app.IPAddress}}' web")
	w.reach("a", "tcp://"+web+":8000 "+w.docker("inspect -f '{{.NetworkSettings.Networks.app.Gateway}}' web")+" web",
		"tcp://10.71.0.1:8000 10.71.0.9 two", "tcp://[fd71::77]:8000 fd71::1 two")
	w.shows(named, "sealane ps", "web ", "app="+web, "two ")
	w.docker("rm -f web two")
	w.docker("network rm app six")
	w.unchanged(before, "the networks went")
}

// othersDrivers are Docker's own, with addresses of ours: what has those is no conflict.
func othersDrivers(w *world) {
	before := w.state()
	w.docker("network create -d bridge --ipam-driver sealane --subnet 10.77.0.0/24 plain")
	w.docker("network create -d macvlan -o parent=eth0 --ipam-driver sealane --subnet 10.78.0.0/24 --gateway 10.78.0.254 lan")
	w.run("one", "--network plain")
	w.run("two", "--network lan --ip 10.78.0.9")
	w.run("three", "--network lan")
	w.reach("a", "tcp://10.77.0.2:8000 10.77.0.1 one")
	w.reach("three", "tcp://10.78.0.9:8000 10.78.0.1 two")
	w.refused("docker run --network lan --ip 10.78.0.9 echo /lab-echo serve", "10.78.0.9", "taken")
	w.sh("docker exec one /lab-echo get http://192.0.2.2:8000/")
	w.shows(0, "sealane network ls", "pool-10.77.0.0-24", "pool-10.78.0.0-24", "!conflict")
	w.clear()
	w.unchanged(before, "the networks went")
}

// addressRange has three addresses for containers, and one that a user keeps.
func addressRange(w *world) {
	for _, ipam := range []string{"sealane", "default"} {
		w.docker("network create -d sealane --ipam-driver " + ipam + " --subnet 10.72.0.0/24 --ip-range 10.72.0.128/30 --gateway 10.72.0.200 --aux-address printer=10.72.0.129 app")
		got := map[string]bool{}
		for _, name := range []string{"one", "two", "three"} {
			w.run(name, "--network app")
			got[w.docker("inspect -f '{{.NetworkSettings.Networks.app.IPAddress}}' "+name)] = true
		}
		if len(got) != 3 || !got["10.72.0.128"] || !got["10.72.0.130"] || !got["10.72.0.131"] {
			w.Errorf("IPAM of %s: addresses %v", ipam, got)
		}
		w.reach("one", "tcp://three:8000 "+w.docker("inspect -f '{{.NetworkSettings.Networks.app.IPAddress}}' one")+" three", "tcp://192.0.2.2:8000 192.0.2.1 b")
		said := w.refused("docker run -d --network app echo /lab-echo serve", map[string]string{"sealane": "none is free", "default": "no available"}[ipam])
		if ipam == "sealane" && !strings.Contains(said, "10.72.0.128/30") {
			w.Errorf("the range is not in %q", said)
		}
		w.clear()
	}
}

// internal has no way out: neither by Sealane, nor by a bridge of Docker's.
func internal(w *world) {
	w.docker("network create -d sealane --ipam-driver sealane --internal --ipv6 --subnet 10.73.0.0/24 --subnet fd73::/64 app")
	w.run("web", "--network app")
	w.run("two", "--network app")
	if links := strings.Fields(w.in("web", "sh -c 'ip -o link | cut -d: -f2 | cut -d@ -f1'")); len(links) != 2 {
		w.Errorf("web has devices %v, want lo and eth0", links)
	}
	if routes := w.in("web", "sh -c 'ip route; ip -6 route'"); strings.Contains(routes, "default") {
		w.Errorf("web has routes %s", routes)
	}
	if all := w.docker("network ls"); strings.Contains(all, "gwbridge") {
		w.Errorf("Docker has networks %s", all)
	}
	w.reach("web", "tcp://two:8000 10.73.0.2 two")
	w.in("web", "ip route add default via 10.73.0.1")
	w.in("web", "ip -6 route add default via fd73::1")
	w.reach("web", "tcp://192.0.2.2:8000 no", "udp://192.0.2.2:8000 no", "tcp://[2001:db8::2]:8000 no", "tcp://10.73.0.3:8000 10.73.0.2 two")
	w.must(w.b, "ip route add 10.73.0.0/24 via 192.0.2.1")
	defer w.must(w.b, "ip route del 10.73.0.0/24")
	w.reach("b", "tcp://10.73.0.2:8000 no")
}

func options(w *world) {
	w.docker("network create -d sealane --ipam-driver sealane -o com.docker.network.driver.mtu=1300 -o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.name=hisbridge -o com.docker.network.container_iface_prefix=lan --subnet 10.74.0.0/24 app")
	w.run("web", "--network app -p 8074:8000")
	w.run("two", "--network app")
	link := w.in("web", "ip -o link show dev lan0")
	if !strings.Contains(link, "mtu 1300 ") {
		w.Errorf("web has %s", link)
	}
	w.sh("ip link show dev hisbridge | grep 'mtu 1300 '")
	w.reach("a", "tcp://10.74.0.3:8000 10.74.0.1 two")
	w.reach("web", "tcp://two:8000 no", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.docker("network create -d sealane --ipam-driver sealane -o mtu=1280 --subnet 10.75.0.0/24 plain")
	w.docker("network connect plain web")
	w.docker("network connect plain two")
	w.sh(w.enter("web", true) + "ip -o link | grep 'mtu 1280 '")
	w.reach("web", "tcp://10.75.0.3:8000 10.75.0.2 two")
}

// mode: who is routed keeps his address, and who is isolated has no gateway.
func mode(w *world) {
	w.docker("network create -d sealane --ipam-driver sealane -o gateway-mode=routed --subnet 10.76.0.0/24 routed")
	w.docker("network create -d sealane --ipam-driver sealane --internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated --subnet 10.77.0.0/24 alone")
	w.run("web", "--network routed -p 8000")
	w.run("one", "--network alone")
	w.run("two", "--network alone")
	w.must(w.b, "ip route add 10.76.0.0/24 via 192.0.2.1")
	defer w.must(w.b, "ip route del 10.76.0.0/24")
	w.reach("web", "tcp://192.0.2.2:8000 10.76.0.2 b")
	w.reach("b", "tcp://10.76.0.2:8000 192.0.2.2 web", "udp://10.76.0.2:8000 no")
	w.reach("one", "tcp://two:8000 10.77.0.2 two")
	if addrs := w.sh("ip -o addr"); strings.Contains(addrs, "10.77.0.1/") {
		w.Errorf("the host has an address on the isolated network: %s", addrs)
	}
}

// refusedNetworks: Docker's user reads why, and nothing is left of the try.
func refusedNetworks(w *world) {
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.78.0.0/24 app")
	w.docker("network create -d sealane --ipam-driver sealane -o name=hisbridge --subnet 10.79.0.0/24 named")
	w.docker("network create --subnet 10.90.0.0/24 theirs") // Docker's own
	w.shows(named, "sealane network ls", "app ", "named ")
	before := w.state()
	for flags, words := range map[string][]string{
		"-o nonsense=1":                             {`"nonsense"`, "not known"},
		"-o mtu=big":                                {"mtu", `"big"`},
		"-o driver=nothing":                         {"driver", `"nothing"`},
		"-o gateway-mode=sideways":                  {"gateway-mode", `"sideways"`},
		"-o name=hisbridge":                         {"hisbridge", "network named"},
		"--subnet 10.80.0.0/24 --gateway 10.99.0.1": {"10.99.0.1"},
		"--subnet 192.0.2.0/25":                     {"192.0.2.0/25", "eth0"},
		"--subnet 10.90.0.0/25":                     {"overlaps"},
	} {
		for _, ipam := range []string{"sealane", "default"} {
			w.refused("docker network create -d sealane --ipam-driver "+ipam+" "+flags+" bad", words...)
			w.unchanged(before, flags+" with IPAM of "+ipam)
		}
	}
	if all := w.docker("network ls"); strings.Contains(all, "bad") {
		w.Errorf("Docker has %s", all)
	}
}

// refusedAddresses are subnets, of our IPAM.
func refusedAddresses(w *world) {
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.78.0.0/24 app")
	w.docker("network create --subnet 10.90.0.0/24 theirs") // Docker's own
	w.shows(named, "sealane network ls", "app ")
	before := w.state()
	for flags, words := range map[string][]string{
		"--ipam-driver sealane --subnet 10.90.0.0/25":                       {"10.90.0.0/25", "10.90.0.1/24", "br-"},
		"--ipam-driver sealane --subnet 10.90.0.0/16":                       {"10.90.0.0/16", "br-"},
		"--ipam-driver sealane --subnet 10.78.0.0/16":                       {"10.78.0.0/16", "network app"},
		"--ipam-driver sealane --subnet 10.80.0.0/24 --ipam-opt speed=high": {"speed"},
		"--ipam-driver sealane --subnet 10.80.0.0/24 --subnet 10.81.0.0/24": {"a bridge network takes one subnet of each address family"},
		"--ipam-driver sealane --subnet 10.80.0.0/32":                       {"10.80.0.0/32"},
		"--ipam-driver sealane --subnet 224.0.0.0/24":                       {"224.0.0.0/24"},
		"--ipam-driver null": {"null"},
	} {
		w.refused("docker network create -d sealane "+flags+" bad", words...)
		w.unchanged(before, flags)
	}
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.80.0.0/24 good")
}
