package uplink

import (
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// vendor is a host whose NIC has an address of a vendor, as most have: Open vSwitch gives
// a bridge the lowest of its ports', but none that is locally administered.
//
//	a br1  eth0 192.0.2.1 2001:db8::1 ── eth0 192.0.2.254 2001:db8::fe gw
func vendor(t *testing.T) (a, gw *lab.Host) {
	needs(t)
	l := lab.New(t)
	a, gw = l.Host("a"), l.Host("gw")
	lan := l.Switch("lan")
	a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	gw.Plug(lan, "eth0", "192.0.2.254/24", "2001:db8::fe/64")
	if err := a.OVS().Start(); err != nil {
		t.Fatal(err)
	}
	script(a, `
ip link set eth0 down; ip link set eth0 address 50:00:00:00:00:07; ip addr add 2001:db8::1/64 dev eth0 nodad; ip link set eth0 up
ip route add default via 192.0.2.254; ip route add default via 2001:db8::fe
ovs-vsctl add-br br1 -- set bridge br1 datapath_type=netdev
ip link add low type veth peer name far; ip link set low address 40:00:00:00:00:01 up`)
	return a, gw
}

// held says which hardware address a bridge has, and was told to keep.
func held(a *lab.Host) string {
	return strings.Join(strings.Fields(a.Must("sh", "-c", "ovs-vsctl get bridge br1 other_config external_ids; cat /sys/class/net/br1/address")), " ")
}

// TestLowerPort has a port come whose hardware address is lower than the NIC's, and go: the
// bridge has the NIC's all the time, and so keeps its IPv6 addresses and routes.
func TestLowerPort(t *testing.T) {
	a, _ := vendor(t)
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Timeout: DefaultTimeout}); err != nil {
		t.Fatal(err)
	}
	list := "ip -o -6 addr show dev br1; ip -6 route show dev br1; cat /sys/class/net/br1/address"
	before := a.Must("sh", "-c", list)
	for _, change := range []string{"add-port br1 low", "del-port br1 low", "del-port br1 eth0"} {
		a.Must("sh", "-c", "ovs-vsctl "+change)
		if now := a.Must("sh", "-c", list); now != before {
			t.Errorf("after %s it has\n%s and had\n%s", change, now, before)
		}
	}
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Known: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := detachOn(t, a, Move{NIC: "eth0", Timeout: DefaultTimeout}); err != nil {
		t.Fatal(err)
	}
	if got := held(a); !strings.HasPrefix(got, "{} {} ") || strings.HasSuffix(got, "50:00:00:00:00:07") {
		t.Errorf("after the detach: %s", got)
	}
}

// TestHeldByOthers has somebody give the bridge a hardware address, before the attach or
// after it: it is theirs, and stays.
func TestHeldByOthers(t *testing.T) {
	a, gw := vendor(t)
	knows := func(mac string) {
		t.Helper()
		for _, addr := range []string{"192.0.2.1", "2001:db8::1"} {
			gw.Must("sh", "-c", "for i in $(seq 100); do ip neigh show "+addr+" | grep -q "+mac+" && exit; sleep .05; done; ip neigh; exit 1")
		}
	}
	theirs := `{hwaddr="02:00:00:00:00:99"} {} 02:00:00:00:00:99`
	set := "ovs-vsctl set bridge br1 other_config:hwaddr=02\\:00\\:00\\:00\\:00\\:99"
	for _, first := range []bool{true, false} {
		if first {
			a.Must("sh", "-c", set)
		}
		if first {
			gw.Must("lab-echo", "ping", "192.0.2.1")
			gw.Must("lab-echo", "ping", "2001:db8::1")
		}
		if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); err != nil {
			t.Fatal(err)
		}
		if got := held(a); first && got != theirs {
			t.Errorf("attached: %s", got)
		}
		if first { // neighbours hear of it, and nothing is lost
			knows("02:00:00:00:00:99")
			a.Must("lab-echo", "ping", "2001:db8::fe")
			a.Must("sh", "-c", "ip -6 route show default | grep br1")
		} else {
			a.Must("sh", "-c", set)
		}
		if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
			t.Fatal(err)
		}
		if got := held(a); got != theirs {
			t.Errorf("detached: %s", got)
		}
		if first {
			knows("50:00:00:00:00:07")
		}
		a.Must("sh", "-c", "ovs-vsctl clear bridge br1 other_config")
	}
}

// TestGone has the NIC vanish, and the uplink be detached: the switch has forgotten it.
func TestGone(t *testing.T) {
	a, _ := vendor(t)
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); err != nil {
		t.Fatal(err)
	}
	script(a, "ip link del eth0")
	if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if got := a.Must("sh", "-c", "ovs-vsctl list-ports br1") + held(a); !strings.HasPrefix(got, "{} {} ") {
		t.Errorf("left: %s", got)
	}
}

// TestForgottenPort has the host lose its power while a NIC is moved: the database is on
// disk, and must not have the NIC, whose addresses nobody moves then.
func TestForgottenPort(t *testing.T) {
	a, _ := vendor(t)
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); err != nil {
		t.Fatal(err)
	}
	script(a, `sed -i 's/"boot":"[^"]*"/"boot":"another"/; s/"phase":"attached"/"phase":"attaching"/' /var/lib/uplinks/eth0.json`)
	if res := a.Must("sh", "-c", "ovs-vsctl list-ports br1"); res != "eth0\n" {
		t.Fatal(res)
	}
	takeBack(t, a)
	if got := a.Must("sh", "-c", "ovs-vsctl list-ports br1") + held(a); !strings.HasPrefix(got, "{} {} ") {
		t.Errorf("left: %s", got)
	}
}

// TestForgottenLater is the same with Open vSwitch starting after the record was looked at,
// and with a NIC that is detached meanwhile.
func TestForgottenLater(t *testing.T) {
	for name, cut := range map[string]string{
		"power lost while attached": `s/"boot":"[^"]*"/"boot":"another"/`,
		"while it was attached":     `s/"boot":"[^"]*"/"boot":"another"/; s/"phase":"attached"/"phase":"attaching"/`,
		"while it was detached":     `s/"boot":"[^"]*"/"boot":"another"/; s/"phase":"attached"/"phase":"detaching"/`,
		"Open vSwitch stopped":      ``,
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := vendor(t)
			if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); err != nil {
				t.Fatal(err)
			}
			for _, program := range []string{"ovs-vswitchd", "ovsdb-server"} {
				if err := a.OVS().End(program, "TERM"); err != nil {
					t.Fatal(err)
				}
			}
			script(a, "ip link del br1 2>/dev/null || true; rm -rf /run/openvswitch; sed -i '"+cut+"' /var/lib/uplinks/eth0.json")
			if strings.Contains(cut, "phase") {
				takeBack(t, a)
			} else if rep, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil || !strings.HasPrefix(strings.Join(rep.Warnings, "\n"), "Open vSwitch does not run and still has eth0 as a port of br1") {
				t.Fatal(rep.Warnings, err)
			}
			if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br2", Make: true}); err == nil || !strings.Contains(err.Error(), "Open vSwitch") {
				t.Errorf("attached to another bridge: %v", err)
			}
			takeBack(t, a)
			if err := a.OVS().Start(); err != nil {
				t.Fatal(err)
			}
			takeBack(t, a)
			if got := a.Must("sh", "-c", "ovs-vsctl list-ports br1") + held(a); !strings.HasPrefix(got, "{} {} ") {
				t.Errorf("left: %s", got)
			}
			if got := a.Must("ls", "/var/lib/uplinks"); got != "lock\n" {
				t.Errorf("left: %s", got)
			}
			if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Timeout: DefaultTimeout}); err != nil {
				t.Error(err)
			}
		})
	}
}
