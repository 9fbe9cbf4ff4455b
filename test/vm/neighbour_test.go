package vm

import "testing"

// Only the first namespace of a machine has the settings of the kernel's table of neighbours:
// who is on an overlay network has room there, and what was is put back.
func TestNeighbourRoom(t *testing.T) {
	m := newMachine(t)
	room := func(when, want string) {
		t.Helper()
		if got := m.sh("cat /proc/sys/net/ipv4/neigh/default/gc_thresh3 /proc/sys/net/ipv6/neigh/default/gc_thresh3 | tr '\\n' ' '"); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
	}
	m.sh("ip link set eth0 up && ip addr add 192.0.2.1/24 dev eth0 && ip route add default via 192.0.2.2 && echo 2048 >/proc/sys/net/ipv6/neigh/default/gc_thresh3")
	m.kill()
	m.sh("echo guest >/proc/sys/kernel/hostname") // it has no name, and a host of a cluster has one
	m.start()
	m.sh("sealane cluster init >/dev/null && sealane network create -d overlay --subnet 10.1.0.0/24 app")
	room("nobody is on it", "1024 2048")
	m.sh("sealane run -d --name one --network app")
	room("somebody is", "65536 65536")
	m.kill()
	m.start()
	room("a daemon later", "65536 65536")
	m.kill()
	m.sh("sealane daemon --teardown")
	room("after the last", "1024 2048")
	m.sh("rm -rf /var/lib/sealane && ip route del default && ip addr flush dev eth0")
	m.start()
}
