package docker

import "testing"

func TestPorts(t *testing.T) {
	w := both(t)
	w.sub("Published", published)
	w.sub("Chosen", chosen)
	w.sub("Taken", taken)
	w.sub("Added", added)
	w.sub("SecondNetwork", secondNetwork)
}

func published(w *world) {
	w.app("")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 four")
	w.shows(named, "sealane network ls", " four ")
	before := w.state()
	w.run("web", "--network app -p 8001:8000 -p 8001:8000/udp -p 127.0.0.1:8002:8000 -p 192.0.2.1:8003:8000 -p 8004-8005:8000-8001")
	w.run("old", "--network four -p 8006:8000")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "udp://192.0.2.1:8001 192.0.2.2 web",
		"tcp://[2001:db8::1]:8001 2001:db8::2 web", "udp://[2001:db8::1]:8001 2001:db8::2 web",
		"tcp://192.0.2.1:8002 no", "tcp://192.0.2.1:8003 192.0.2.2 web", "tcp://[2001:db8::1]:8003 no",
		"tcp://192.0.2.1:8004 192.0.2.2 web", "tcp://192.0.2.1:8006 192.0.2.2 old", "tcp://[2001:db8::1]:8006 10.71.0.1 old")
	w.reach("a", "tcp://127.0.0.1:8001 10.70.0.1 web", "udp://127.0.0.1:8001 10.70.0.1 web",
		"tcp://[::1]:8001 fd70::1 web", "tcp://127.0.0.1:8002 10.70.0.1 web", "tcp://[::1]:8002 no",
		"tcp://192.0.2.1:8003 192.0.2.1 web", "tcp://127.0.0.1:8003 no", "tcp://127.0.0.1:8006 10.71.0.1 old", "tcp://[::1]:8006 10.71.0.1 old")
	w.reach("old", "tcp://192.0.2.1:8001 10.71.0.2 web")
	w.shows(named, "sealane ps", "8001->8000/tcp", "8001->8000/udp", "127.0.0.1:8002->8000/tcp")
	w.docker("rm -f web old")
	w.reach("b", "tcp://192.0.2.1:8001 no", "udp://192.0.2.1:8001 no", "tcp://192.0.2.1:8006 no", "tcp://192.0.2.2:8000 192.0.2.2 b")
	w.unchanged(before, "the containers went")
	w.asIntended()
}

// chosen are ports without a number: Sealane says which they are.
func chosen(w *world) {
	w.app("")
	w.run("web", "--network app -P --expose 8000 --expose 8000/udp")
	w.run("two", "--network app -p 8000")
	w.shows(named, "sealane ps", "web ", "two ")
	for _, name := range []string{"web", "two"} {
		port := w.sealane(`port ls --format '{{if eq .Protocol "tcp"}}{{.HostPort}}{{end}}' ` + name)
		w.reach("b", "tcp://192.0.2.1:"+port+" 192.0.2.2 "+name)
	}
}

// taken: a port that somebody has is refused with a sentence, whoever has it,
// and nothing is left of the try. Docker's own drivers find ours taken.
func taken(w *world) {
	w.app("")
	w.run("web", "--network app -p 8001:8000")
	w.run("theirs", "-p 8002:8000")
	w.serve(w.a, "-tcp", "8003")
	w.sealane("run -d --name ours --network app -p 8004:8000 -- sleep 1000")
	w.shows(named, "sealane ps", "web ")
	before := w.state()
	for port, words := range map[string][]string{
		"8001": {"port 8001/tcp", "web"}, "8002": {"8002/tcp"}, "8003": {"8003/tcp", "held by lab-echo"}, "8004": {"port 8004/tcp", "ours"},
		"198.51.100.1:8005": {"198.51.100.1", "no address of this host"},
	} {
		w.refused("docker run -d --name late --network app -p "+port+":8000 echo /lab-echo serve", words...)
		w.docker("rm -f late")
		w.unchanged(before, "port "+port)
	}
	w.refused("docker run -d --name late -p 8001:8000 echo /lab-echo serve", "8001")
	w.docker("rm -f late")
	w.refused("sealane port add web 8002:8000", "8002/tcp")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.1:8002 192.0.2.2 theirs")
	w.docker("rm -f web")
	w.run("late", "-p 8001:8000")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 late")
}

// secondNetwork: the ports are on the network that leads outside, and move.
func secondNetwork(w *world) {
	w.app("")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 back")
	w.run("web", "--network app -p 8001:8000")
	w.docker("network connect back web")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web")
	w.docker("network disconnect app web")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web")
	w.reach("web", "tcp://192.0.2.2:8000 192.0.2.1 b")
	w.docker("network connect app web")
	w.docker("network disconnect back web")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://[2001:db8::1]:8001 2001:db8::2 web")
	w.docker("network disconnect app web")
	w.reach("b", "tcp://192.0.2.1:8001 no", "tcp://192.0.2.2:8000 192.0.2.2 b")
	w.serve(w.a, "-tcp", "8001", "-name", "a")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 a")
}

// added is a port that a user gave to a container of Docker's: it stays and comes back,
// whatever Docker does with its own, until it is taken back or the container is removed.
func added(w *world) {
	w.app("")
	w.docker("network create -d sealane --ipam-driver sealane --subnet 10.71.0.0/24 back")
	w.run("web", "--network app -p 8001:8000")
	w.shows(named, "sealane ps", " web ")
	w.sealane("port add web 8009:8000")
	answers := func() {
		w.Helper()
		w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.1:8009 192.0.2.2 web")
		w.shows(named, "sealane port ls web", "8001", "8009")
		w.shows(named, "sealane ps -a", " web ", "!docker-")
		w.asIntended()
	}
	answers()
	w.docker("network connect back web")
	answers()
	w.docker("network disconnect app web")
	answers()
	w.docker("network disconnect back web")
	w.reach("b", "tcp://192.0.2.1:8001 no", "tcp://192.0.2.1:8009 no")
	w.docker("network connect app web")
	answers()
	for range 3 {
		w.docker("restart -t 0 web")
	}
	answers()
	w.docker("stop -t 0 web")
	w.shows(patience, "sealane ps -a", " web ", "docker:web", "away")
	w.docker("rename web front")
	w.docker("rename front web")
	w.a.Kill9()
	w.a.Restart()
	w.docker("start web")
	answers()
	w.sealane("network create mine --subnet 10.69.0.0/24")
	w.sealane("network connect --ip 10.69.0.7 -p 8002:8000 mine web")
	w.docker("restart -t 0 web")
	answers()
	w.reach("b", "tcp://192.0.2.1:8002 10.69.0.1 web")
	w.docker("stop -t 0 web")
	w.shows(patience, "sealane ps -a", "docker:web", "away")
	w.sealane("port rm web 8009:8000")
	w.docker("start web")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.1:8009 no", "tcp://192.0.2.1:8002 10.69.0.1 web")
	w.sealane("network disconnect mine web")
	w.sealane("port add web 8009:8000")
	w.docker("rm -f web")
	w.shows(patience, "sealane ps -a", "!web")
	w.run("web", "--network app -p 8001:8000")
	w.reach("b", "tcp://192.0.2.1:8001 192.0.2.2 web", "tcp://192.0.2.1:8009 no")
	w.asIntended()
}
