package docker

import "testing"

func TestTogether(t *testing.T) {
	w := both(t)
	w.sub("Shown", shown)
	w.sub("Clash", clash)
	w.sub("LeftAlone", leftAlone)
	w.sub("Joined", joined)
	w.sub("JoinedWithDockersAddresses", joinedForeign)
	w.sub("FarEnd", farEnd)
	w.sub("FullSubnet", fullSubnet)
}

// shown: Docker's names, hosts names and aliases are ours within five seconds.
func shown(w *world) {
	w.docker("network create -d sealane --ipam-driver sealane idle")
	w.shows(named, "sealane network ls", " idle ", "!docker-")
	w.app("")
	w.run("web", "--network app --hostname front --network-alias www -p 8001:8000")
	w.shows(named, "sealane ps", "web ", "running", "app=10.70.0.2", "8001->8000/tcp", "!docker-")
	w.shows(0, "sealane inspect web", `"origin": "docker"`, `"hostname": "front"`, `"www"`)
	w.shows(0, "sealane network inspect app", `"sandbox": "web"`, `"origin": "docker"`)
	w.shows(0, "sealane network inspect bridge", "!origin")
	w.shows(0, "sealane exec web -- ip -o addr show dev eth0", " 10.70.0.2/24 ")
	w.docker("network connect idle web")
	w.shows(named, "sealane ps", "web ", "idle=")
}

// clash: who has a name keeps it.
func clash(w *world) {
	w.sealane("network create app --subnet 10.69.0.0/24")
	w.sealane("run -d --name web --network app -- sleep 1000")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.70.0.0/24 app")
	w.run("web", "--network app")
	w.shows(named, "sealane network ls", " app ", " docker-app ")
	w.shows(named, "sealane ps", " web ", "app=10.69.0.2", " docker-web ", "docker-app=10.70.0.2")
	w.docker("network create -d sealane --ipam-driver sealane host2")
	w.shows(named, "sealane network ls", " host2 ")
	w.refused("sealane network create host2", "host2", "taken")
	w.refused("sealane run -d --name docker-web -- sleep 1000", "docker-web", "taken")
	w.sealane("rm -f web")
	w.shows(0, "sealane ps", "web ", "docker-app=10.70.0.2", "!app=10.69.0.2") // its own name is free again: it has it when Docker is next asked
	w.docker("rm -f web")
	w.docker("network rm app")
	w.shows(0, "sealane network ls", " app ", "!docker-app")
}

// leftAlone: what Docker made is removed there, not here.
func leftAlone(w *world) {
	w.app("-o name=hisbridge")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 idle")
	w.shows(named, "sealane network ls", " idle ")
	w.sealane("network create mine --subnet 10.69.0.0/24")
	w.run("web", "--network app -p 8001:8000")
	w.shows(named, "sealane ps", "web ")
	before := w.state()
	w.refused("sealane network rm idle", "idle", "docker")
	w.refused("sealane network rm app", "app", "docker")
	w.refused("sealane rm web", "web", "docker")
	w.refused("sealane network disconnect app web", "web", "docker")
	w.refused("sealane network connect app web", "web", "docker")
	w.unchanged(before, "what is Docker's was not touched")
	w.sealane("network connect mine web") // what is ours is not Docker's
	w.shows(0, "sealane ps", "web ", "app=10.70.0.2", "mine=10.69.0.2", "!docker-web")
	w.shows(0, "sealane network inspect mine", `"sandbox": "web"`)
	w.asIntended()
	w.sealane("network disconnect mine web")
	w.unchanged(before, "off our network")
	w.sealane("network prune")
	w.shows(0, "sealane network ls", " idle ", " app ", "!mine")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web")
	w.asIntended()
}

// joined: a sandbox of ours on a network of Docker's is one of its containers.
func joined(w *world) {
	w.app("")
	w.run("web", "--network app --network-alias www")
	w.shows(named, "sealane ps", " web ")
	w.sealane("run -d --name ours --network app -p 8001:8000 -- lab-echo serve -tcp 8000 -udp 8000 -name ours")
	w.run("late", "--network app")
	w.shows(named, "sealane ps", " late ")
	w.reach("sealane:ours", "tcp://web:8000 10.70.0.3 web", "udp://www:8000 10.70.0.3 web", "tcp://late:8000 10.70.0.3 late",
		"tcp://[fd70::2]:8000 fd70::3 web", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.reach("web", "tcp://10.70.0.3:8000 10.70.0.2 ours", "tcp://[fd70::3]:8000 fd70::2 ours")
	w.reach("late", "tcp://10.70.0.3:8000 10.70.0.4 ours")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 ours")
	w.sealane("rm -f ours")
	w.reach("web", "tcp://10.70.0.3:8000 no", "tcp://late:8000 10.70.0.2 late")
}

// joinedForeign: where Docker gives out the addresses it does not know of ours.
// A container that gets the same one is refused, and another address works.
func joinedForeign(w *world) {
	w.docker("network create -d sealane --subnet 10.70.0.0/24 app")
	w.run("web", "--network app")
	w.shows(named, "sealane ps", " web ")
	w.sealane("run -d --name ours --network app --ip 10.70.0.3 -- lab-echo serve -tcp 8000 -name ours")
	w.reach("web", "tcp://10.70.0.3:8000 10.70.0.2 ours")
	before := w.state()
	w.refused("docker run -d --name late --network app --ip 10.70.0.3 echo /lab-echo serve", "taken by sandbox ours")
	w.unchanged(before, "a container with our address")
	w.docker("rm -f late")
	w.run("late", "--network app --ip 10.70.0.4")
	w.reach("late", "tcp://10.70.0.3:8000 10.70.0.4 ours")
}

// farEnd: Docker counts up and Sealane down, so that neither comes upon the
// other's addresses; a range of Docker's is left to it wherever it is.
func farEnd(w *world) {
	w.docker("network create -d sealane --ipv6 --subnet 10.70.0.0/24 --subnet fd70::/64 app")
	w.docker("network create -d sealane --subnet 10.71.0.0/24 --ip-range 10.71.0.240/28 --gateway 10.71.0.240 back")
	w.shows(named, "sealane network ls", " app ", " back ")
	w.sealane("run -d --name ours --network app --network back -- lab-echo serve -tcp 8000 -name ours")
	w.shows(0, "sealane ps", "app=10.70.0.254,fd70::ffff:ffff:ffff:ffff", "back=10.71.0.239")
	for _, name := range []string{"one", "two", "three"} {
		w.run(name, "--network app")
		w.docker("network connect back " + name)
	}
	w.sealane("run -d --name more --network app --network back -- sleep 1000")
	w.shows(named, "sealane ps", " three ", "app=10.70.0.4,fd70::4", "back=10.71.0.243", "app=10.70.0.253,", "back=10.71.0.238")
	w.reach("one", "tcp://10.70.0.254:8000 10.70.0.2 ours", "tcp://[fd70::ffff:ffff:ffff:ffff]:8000 fd70::2 ours", "tcp://10.71.0.239:8000 10.71.0.241 ours")
	w.docker("rm -f one")
	w.run("four", "--network app")
	w.shows(named, "sealane ps", " four ", "app=10.70.0.2,fd70::2")
	w.a.Kill9()
	w.a.Restart()
	w.sealane("run -d --name again --network app --network back -- sleep 1000")
	w.shows(0, "sealane ps", "app=10.70.0.252,", "back=10.71.0.237")
}

// fullSubnet: they meet when nothing is left, and who comes then reads so.
func fullSubnet(w *world) {
	w.docker("network create -d sealane --subnet 10.70.0.0/29 app") // 1 is the gateway, 2 to 6 are free
	w.shows(named, "sealane network ls", " app ")
	w.run("one", "--network app")
	for _, name := range []string{"a", "b"} {
		w.sealane("run -d --name " + name + " --network app -- sleep 1000")
	}
	w.run("two", "--network app")
	w.run("three", "--network app")
	w.refused("sealane run --network app -- true", "10.70.0.0/29", "none is free")
	w.refused("docker run -d --network app echo /lab-echo serve", "10.70.0.5", "taken by sandbox b")
	w.asIntended()
}
