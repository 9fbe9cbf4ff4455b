package docker

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMacvlan: containers are machines on the LAN, on devices that Docker moves,
// through restarts and kills of either daemon.
func TestMacvlan(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"--ipam-driver sealane", "--ipam-driver default"} {
		t.Run(flags, func(t *testing.T) { both(t, "--live-restore").machines(flags) })
	}
}

// lan makes a network of macvlans on the LAN.
func (w *world) lan(flags string) {
	w.Helper()
	w.docker("network create -d sealane -o driver=macvlan -o parent=eth0 -o host-leg=192.0.2.9 " +
		"--subnet 192.0.2.0/24 --gateway 192.0.2.2 --ip-range 192.0.2.64/26 " + flags + " lan")
	w.shows(named, "sealane network ls", " lan ")
}

// machines walks containers on the LAN through their lives; flags say who gives out
// the addresses.
func (w *world) machines(flags string) {
	w.lan(flags)
	clean := w.state()
	w.run("web", "--network lan --ip 192.0.2.70")
	w.onLAN("web", "192.0.2.70")
	w.shows(named, "sealane ps", " web ", "lan=192.0.2.70")
	before := w.state()
	for _, c := range []struct {
		name   string
		during func()
	}{
		{"kill -9 of sealaned", func() { w.a.Kill9(); w.a.Restart() }},
		{"a restart of dockerd", func() { w.stopDocker(syscall.SIGTERM); w.startDocker() }},
		{"kill -9 of both", func() { w.a.Kill9(); w.stopDocker(syscall.SIGKILL); w.a.Restart(); w.startDocker() }},
	} {
		c.during()
		w.onLAN("web", "192.0.2.70")
		w.unchanged(before, c.name)
		w.asIntended()
	}
	w.docker("restart -t 0 web")
	w.onLAN("web", "192.0.2.70")
	w.run("two", "--network lan")
	w.reach("two", "tcp://web:8000 192.0.2.64 web")
	w.refused("docker run --rm --network lan --ip 192.0.2.1 echo /lab-echo", "192.0.2.1", "is the host's")
	w.docker("network disconnect lan web")
	w.reach("b", "tcp://192.0.2.70:8000 no")
	w.docker("network connect --ip 192.0.2.71 lan web")
	w.onLAN("web", "192.0.2.71")
	w.docker("rm -f web two")
	w.unchanged(clean, "docker rm")
	w.docker("network rm lan")
	w.shows(0, "sealane network ls", "!lan", "!docker")
	w.shows(0, "ip -o link", "!slp", "!slm")
	w.asIntended()
}

// onLAN checks what the container web can at an address of the LAN.
func (w *world) onLAN(name, addr string) {
	w.Helper()
	w.reach("b", fmt.Sprintf("tcp://%s:8000 192.0.2.2 %s", addr, name))
	w.reach("a", fmt.Sprintf("tcp://%s:8000 192.0.2.9 %s", addr, name))
	w.reach(name, fmt.Sprintf("tcp://192.0.2.2:8000 %s b", addr))
	// Docker counts the interfaces that a container has had.
	if got := w.in(name, "ip -4 route show default"); !strings.HasPrefix(got, "default via 192.0.2.2 dev eth") {
		w.Errorf("%s: default route: %q", name, got)
	}
}

// TestMacvlanRestarts: containers that end with dockerd, or with the host, have
// their devices anew, and those that do not come back leave none.
func TestMacvlanRestarts(t *testing.T) {
	w := both(t)
	w.lan("--ipam-driver sealane")
	w.run("web", "--network lan --ip 192.0.2.70 --restart always")
	w.run("gone", "--network lan --ip 192.0.2.71")
	w.shows(named, "sealane ps", " gone ", " web ")
	for _, c := range []struct {
		name   string
		during func()
	}{
		{"kill -9 of dockerd", func() { w.stopDocker(syscall.SIGKILL); w.startDocker() }},
		{"kill -9 of both", func() { w.a.Kill9(); w.stopDocker(syscall.SIGKILL); w.a.Restart(); w.startDocker() }},
		{"a reboot", func() { w.reboot(); w.a.Daemon(); w.startDocker() }},
	} {
		c.during()
		w.within(40*time.Second, func() error {
			if r := w.a.Run("bash", "-c", environment+"docker inspect -f {{.State.Running}} web"); strings.TrimSpace(r.Stdout) != "true" {
				return fmt.Errorf("after %s web runs: %s%s", c.name, r.Stdout, r.Stderr)
			}
			return nil
		})
		w.onLAN("web", "192.0.2.70")
		w.shows(40*time.Second, "sealane ps -a", " web ", "!gone", "!docker-")
		w.shows(0, "ip -o link", "!slp")
		w.asIntended()
		w.docker("start gone")
		w.onLAN("gone", "192.0.2.71")
		w.docker("stop -t 0 gone")
		w.docker("start gone")
	}
}

// TestMacvlanKilledBetween: sealaned dies around each step of a container's start
// and end.
func TestMacvlanKilledBetween(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"CreateEndpoint", "Join", "Leave", "DeleteEndpoint"} {
		t.Run(step, func(t *testing.T) {
			w := newWorld(t)
			w.a.Daemon("--docker-plugin", "/run/sealane-plugin.sock")
			kills := w.between("/NetworkDriver."+step, func() {
				w.a.Kill9()
				w.a.Restart()
			})
			w.startDocker()
			w.image()
			w.lan("")
			w.run("web", "--network lan --ip 192.0.2.70")
			w.onLAN("web", "192.0.2.70")
			w.docker("restart -t 0 web")
			w.onLAN("web", "192.0.2.70")
			w.docker("rm -f web")
			w.shows(0, "ip -o link", "!slp")
			w.shows(0, "sealane ps -a", "!web", "!docker")
			w.asIntended()
			if kills() == 0 {
				t.Error("sealaned was never killed")
			}
		})
	}
}

// TestOtherDrivers: networks on Open vSwitch by Docker, and what is refused.
func TestOtherDrivers(t *testing.T) {
	w := both(t)
	w.sub("Open vSwitch", func(w *world) {
		if err := w.a.OVS().Start(); err != nil {
			w.Fatal(err)
		}
		w.docker("network create -d sealane --ipam-driver sealane -o driver=ovs -o name=ovsbr0 -o vlan=5 --subnet 10.70.0.0/24 --gateway 10.70.0.254 app")
		w.pair()
	})
	w.sub("phys", func(w *world) {
		w.refused("docker network create -d sealane -o driver=phys -o parent=eth1 --subnet 192.0.3.0/24 nic", "driver phys", "sealane network connect")
	})
}

// TestIPv6 by Docker on the drivers that have no bridge of ours: each family is reached,
// from both IPAM drivers, and again after restarts.
func TestIPv6(t *testing.T) {
	w := both(t)
	if err := w.a.OVS().Start(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, flags string
		four, six   string // the beginning of the containers' addresses
		outside     string // who is reached without the host, as reach has it; "" nobody
	}{
		{"macvlan", "-o driver=macvlan -o parent=eth0 --subnet 192.0.2.0/24 --gateway 192.0.2.2 --ip-range 192.0.2.64/26 --subnet 2001:db8::/64 --gateway 2001:db8::2",
			"192.0.2.7", "2001:db8::7", "b"},
		{"macvlan without a parent", "-o driver=macvlan --internal --subnet 192.0.3.0/24 --subnet 2001:db8:3::/64", "192.0.3.7", "2001:db8:3::7", ""},
		{"Open vSwitch", "-o driver=ovs -o name=ovsbr0 --subnet 10.7.0.0/24 --subnet fd07::/64", "10.7.0.7", "fd07::7", ""},
		{"Open vSwitch's VLAN", "-o driver=ovs -o name=ovsbr0 -o vlan=7 --internal --subnet 10.7.0.0/24 --subnet fd07::/64", "10.7.0.7", "fd07::7", ""},
	} {
		for _, ipam := range []string{"sealane", "default"} {
			w.sub(c.name+", "+ipam, func(w *world) {
				clean := w.state()
				w.docker("network create -d sealane --ipam-driver " + ipam + " --ipv6 " + c.flags + " app")
				w.run("web", "--network app --ip "+c.four+"0 --ip6 "+c.six+"0")
				w.run("two", "--network app --ip "+c.four+"1 --ip6 "+c.six+"1")
				meet := func() {
					w.Helper()
					w.reach("two", "tcp://"+c.four+"0:8000 "+c.four+"1 web", "tcp://["+c.six+"0]:8000 "+c.six+"1 web")
					if c.outside != "" {
						w.reach(c.outside, "tcp://["+c.six+"0]:8000 2001:db8::2 web")
						w.reach("web", "tcp://[2001:db8::2]:8000 "+c.six+"0 "+c.outside)
					}
					w.shows(named, "sealane ps", " web ", " two ", c.six+"0")
					w.asIntended()
				}
				meet()
				w.shows(0, "docker inspect web", `"GlobalIPv6Address": "`+c.six+`0"`)
				w.a.Kill9()
				w.a.Restart()
				w.docker("restart -t 0 web two")
				meet()
				w.docker("rm -f web two")
				w.docker("network rm app")
				w.unchanged(clean, "docker rm")
			})
		}
	}
}

// TestSubnetsOfAFamily: of two subnets of a family containers are in the first while it
// has room, or where --ip says, and each has its own subnet's length and router, whoever
// gives out the addresses. Here b is both routers.
func TestSubnetsOfAFamily(t *testing.T) {
	w := both(t)
	w.must(w.b, "sysctl -w net.ipv4.ip_forward=1; for a in 10.1.0.1/24 10.2.0.1/25 fd01::1/64 fd02::1/64; do ip addr add $a dev eth0 nodad; done")
	for _, ipam := range []string{"sealane", "default"} {
		w.sub(ipam, func(w *world) {
			clean := w.state()
			type object = map[string]any
			create := object{ // by the client their order would be any
				"Name": "lan", "Driver": "sealane", "EnableIPv6": true, "Options": object{"driver": "macvlan", "parent": "eth0"},
				"IPAM": object{"Driver": ipam, "Config": []object{
					{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1", "IPRange": "10.1.0.2/31"},
					{"Subnet": "10.2.0.0/25", "Gateway": "10.2.0.1", "AuxiliaryAddresses": object{"printer": "10.2.0.2"}},
					{"Subnet": "fd01::/64", "Gateway": "fd01::1"}, {"Subnet": "fd02::/64", "Gateway": "fd02::1"},
				}}}
			if err := w.d.Call(w.Context(), "POST", "/networks/create", create, nil); err != nil {
				w.Fatal(err)
			}
			w.run("asks", "--network lan --ip 10.2.0.3 --ip6 fd02::77")
			at := map[string][2]string{"asks": {"10.2.0.3/25", "fd02::77/64"}}
			for i, addr := range []string{"10.1.0.2/24", "10.1.0.3/24", "10.2.0.4/25"} {
				name := fmt.Sprintf("web%d", i)
				w.run(name, "--network lan --restart always")
				at[name] = [2]string{addr, "fd01::"}
			}
			meet := func() {
				w.Helper()
				for name, addrs := range at {
					own := w.in(name, "ip -o addr show up scope global")
					for _, a := range addrs {
						if !strings.Contains(own, " "+a) {
							w.Errorf("%s has %s, want %s", name, own, a)
						}
					}
					four, _, _ := strings.Cut(addrs[0], "/")
					w.reach(name, "tcp://192.0.2.2:8000 "+four+" b")
					w.reach("b", "tcp://"+four+":8000 "+four[:len("10.0.0.")]+"1 "+name)
					routes := w.in(name, "sh -c 'ip route; ip -6 route'")
					for _, a := range []string{four[:len("10.0.0.")], addrs[1][:len("fd00::")]} {
						if !strings.Contains(routes, "default via "+a+"1 dev eth0") {
							w.Errorf("%s has routes %s, want by %s1", name, routes, a)
						}
					}
				}
				w.reach("asks", "tcp://web0:8000 10.2.0.3 web0")
				w.shows(named, "sealane ps", " asks ", " web0 ", " web1 ", "lan="+strings.Split(at["web2"][0], "/")[0])
				w.asIntended()
			}
			meet()
			w.shows(0, "docker network inspect lan", `"10.1.0.0/24"`, `"10.2.0.0/25"`, `"10.2.0.4/25"`)
			w.shows(0, "sealane network inspect lan", `"10.1.0.0/24"`, `"10.2.0.1"`, `"fd02::/64"`)
			before := w.state()
			w.a.Kill9()
			w.a.Restart()
			w.unchanged(before, "kill -9 of sealaned")
			for _, name := range []string{"web2", "asks"} {
				w.docker("restart -t 0 " + name)
			}
			at["web2"] = [2]string{strings.TrimSpace(w.docker("inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}}{{end}}' web2")), "fd01::"}
			if !strings.HasPrefix(at["web2"][0], "10.2.0.") {
				w.Errorf("web2 has %s", at["web2"][0])
			}
			meet()
			w.refused("docker run --rm --network lan --ip 10.2.0.3 echo /lab-echo", map[string]string{"sealane": "10.2.0.3: taken by", "default": "in use"}[ipam])
			w.refused("docker run --rm --network lan --ip 10.2.0.2 echo /lab-echo", map[string]string{"sealane": "taken by aux-address printer", "default": "in use"}[ipam])
			w.docker("rm -f asks web0 web1 web2")
			w.shows(0, "sealane network inspect --format '{{range .Subnets}}{{.Usage.InUse}} {{end}}' lan", "3 4 2 2")
			w.docker("network rm lan")
			w.unchanged(clean, "docker rm")
		})
	}
}

// pair has two containers on the network app that reach each other, whatever ends
// in between.
func (w *world) pair() {
	w.Helper()
	w.shows(named, "sealane network ls", " app ")
	clean := w.state()
	w.run("web", "--network app --ip 10.70.0.50")
	w.run("two", "--network app --ip 10.70.0.51")
	meet := func() {
		w.Helper()
		w.reach("two", "tcp://web:8000 10.70.0.51 web", "tcp://10.70.0.50:8000 10.70.0.51 web")
	}
	meet()
	w.shows(named, "sealane ps", " web ", " two ")
	w.asIntended()
	before := w.state()
	w.a.Kill9()
	w.a.Restart()
	meet()
	w.unchanged(before, "kill -9 of sealaned")
	w.docker("restart -t 0 web two")
	meet()
	w.docker("rm -f web two")
	w.unchanged(clean, "docker rm")
	w.docker("network rm app")
	w.asIntended()
}
