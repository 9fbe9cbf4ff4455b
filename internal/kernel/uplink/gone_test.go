package uplink

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/model"
)

// homeless is a host whose NIC is attached to a bridge that somebody has removed.
func homeless(t *testing.T, a *lab.Host) {
	t.Helper()
	script(a, "ip link add br6 type bridge; ip link set br6 up")
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br6"}); err != nil {
		t.Fatal(err)
	}
	script(a, "ip link del br6")
}

// TestBridgeGone kills the process that brings back what went with somebody's bridge
// before each of its changes. The bridge is not made: it was not ours.
func TestBridgeGone(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a, gw := l.Host("a"), l.Host("gw")
	lan := l.Switch("lan")
	a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	gw.Plug(lan, "eth0", "192.0.2.254/24", "2001:db8::fe/64")
	second(t, a, l.Switch("other"))
	script(a, rich)
	script(a, "ip nexthop del id 5") // its routes go with any device
	before := state(a)
	for cut := 0; ; cut++ {
		homeless(t, a)
		os.Setenv(envCut, strconv.Itoa(cut))
		_, err := detachOn(t, a, Move{NIC: "eth0", Timeout: DefaultTimeout})
		os.Unsetenv(envCut)
		if err != nil && err != ErrKilled {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if err == ErrKilled && cut > 1 { // the first change is the record
			takenOn(t, a, "it was detaching when its process ended: detached, for the bridge is gone")
		} else if err == ErrKilled {
			_, _ = detachOn(t, a, Move{NIC: "eth0"})
		}
		sameAgain(t, a, before, "cut "+strconv.Itoa(cut))
		if err == nil {
			t.Logf("killed at %d places", cut)
			return
		}
	}
}

// takenOn has a host take back what was begun, and looks what became of it.
func takenOn(t *testing.T, a *lab.Host, want string) {
	t.Helper()
	done, err := recoverOn(a)
	if err != nil || len(done) != 1 || done[0].What != want {
		t.Fatalf("recovered %+v, %v; want %q", done, err, want)
	}
}

// TestBridgeMadeAnew has somebody make another bridge of that name: what he has on it
// is his, and the NIC's goes to the NIC.
func TestBridgeMadeAnew(t *testing.T) {
	a, _, _ := world(t)
	script(a, "ip route add default via 192.0.2.254")
	homeless(t, a)
	script(a, "ip link add br6 type bridge; ip link set br6 mtu 1400 up; ip addr add 192.0.2.66/24 dev br6; ip addr add 192.0.2.1/24 dev br6; sysctl -qw net.ipv4.conf.br6.rp_filter=1")
	look := "ip -o -4 addr show dev br6; ip -o link show dev br6; cat /proc/sys/net/ipv4/conf/br6/rp_filter"
	before := a.Must("sh", "-c", look)
	if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if got := a.Must("sh", "-c", look); got != before {
		t.Errorf("br6 was\n%sand is\n%s", before, got)
	}
	got := a.Must("sh", "-c", "ip -o addr show dev eth0; ip route show default; ls /var/lib/uplinks")
	for _, want := range []string{" 192.0.2.1/24 ", " 2001:db8::1/64 ", "default via 192.0.2.254 dev eth0", "lock"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestSwitchGone has somebody remove a bridge of Open vSwitch, and make it again with
// the NIC as its port.
func TestSwitchGone(t *testing.T) {
	a := switched(t)
	script(a, `
sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0
ip link set eth0 down; ip link set eth0 up; ip route add default via 192.0.2.254
ip addr add 2001:db8::1/64 dev eth0 nodad; ip -6 route add default via 2001:db8::fe
until ip -6 addr show dev eth0 scope link -tentative | grep -q fe80; do sleep .05; done`)
	look := "ip -o addr show dev eth0; ip route | grep eth0; ip -6 route | grep eth0"
	before := a.Must("sh", "-c", look)
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); err != nil {
		t.Fatal(err)
	}
	script(a, "ovs-vsctl del-br br1; while ip link show br1 2>/dev/null; do sleep .05; done")
	if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if got := a.Must("sh", "-c", look); got != before || merges(t, a, "eth0") != "rx-gro" {
		t.Errorf("before\n%safter, merging %q,\n%s", before, merges(t, a, "eth0"), got)
	}
	if all := a.Must("ls", "/sys/class/net"); strings.Contains(all, "br1") {
		t.Errorf("br1 was made: %s", all)
	}
	script(a, "ovs-vsctl add-br br1 -- set bridge br1 datapath_type=netdev other_config:hwaddr=$(cat /sys/class/net/eth0/address) -- add-port br1 eth0")
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); err == nil || kindOf(err) != model.Conflict {
		t.Errorf("error is %v", err)
	}
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Known: true}); err != nil {
		t.Fatal(err)
	}
	if got := a.Must("ip", "-o", "addr", "show", "dev", "br1"); !strings.Contains(got, " 192.0.2.1/24 ") || !strings.Contains(got, " 2001:db8::1/64 ") {
		t.Errorf("attached again:\n%s", got)
	}
}

// TestNICGone has the NIC vanish, and the uplink be detached: what it brought to somebody's
// bridge is gone with it, and nothing else.
func TestNICGone(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a := l.Host("a")
	a.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24", "2001:db8::1/64")
	second(t, a, l.Switch("other"))
	script(a, rich)
	script(a, "ip link add br6 type bridge; ip addr add 10.66.0.1/24 dev br6; ip addr add 192.0.2.66/24 dev br6; ip link set br6 up; ip route add 203.0.119.0/24 via 10.66.0.9")
	const has = "(ip addr show dev br6 | grep inet; ip -4 route show table all dev br6; ip -6 route show table all dev br6; ip nexthop; ip neigh show nud permanent; ip neigh show proxy) | grep -v -e fe80 -e ff00 | sed 's/ linkdown//; s/ *$//'"
	script(a, "ip nexthop del id 5") // of eth0
	script(a, "ip neigh del proxy 192.0.2.78 dev eth0; ip neigh del 192.0.2.77 dev eth0; ip neigh del 2001:db8::77 dev eth0")
	before := a.Must("sh", "-c", has)
	script(a, "ip nexthop add id 5 via 192.0.2.254 dev eth0; ip route add 203.0.117.0/24 nhid 5; ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0; ip neigh add proxy 192.0.2.78 dev eth0")
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br6"}); err != nil {
		t.Fatal(err)
	}
	script(a, "ip link del eth0")
	rep, err := detachOn(t, a, Move{NIC: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Must("sh", "-c", has); got != before {
		t.Errorf("before (-) and after (+):\n%s", cmp.Diff(before, got))
	}
	if len(rep.Addresses) > 0 || rep.Routes > 0 || len(rep.Warnings) != 1 || rep.Warnings[0] != "the host has no eth0: what it brought to br6 is gone with it" {
		t.Errorf("report: %+v", rep)
	}
}

// TestNICGoneAnywhere kills the process that does so before each of its changes.
func TestNICGoneAnywhere(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a := l.Host("a")
	lan := l.Switch("lan")
	script(a, "ip link add br6 type bridge; ip link set br6 up")
	const has = "(ip addr show dev br6 | grep inet; ip route show table all; ip -6 route show table all dev br6) | grep -v -e fe80 -e ff00"
	before := a.Run("sh", "-c", has).Stdout
	for cut := 0; ; cut++ {
		a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
		script(a, "ip route add default via 192.0.2.254")
		if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br6"}); err != nil {
			t.Fatal(err)
		}
		script(a, "ip link del eth0")
		os.Setenv(envCut, strconv.Itoa(cut))
		_, err := detachOn(t, a, Move{NIC: "eth0"})
		os.Unsetenv(envCut)
		switch {
		case err != nil && err != ErrKilled:
			t.Fatalf("cut %d: %v", cut, err)
		case err == ErrKilled && cut > 1: // the first change is the record
			takenOn(t, a, "it was detaching when its process ended: detached, for the NIC is gone")
		case err == ErrKilled:
			_, _ = detachOn(t, a, Move{NIC: "eth0"})
		}
		if got := a.Run("sh", "-c", has).Stdout; got != before {
			t.Fatalf("cut %d: before (-) and after (+):\n%s", cut, cmp.Diff(before, got))
		}
		if err == nil {
			t.Logf("killed at %d places", cut)
			return
		}
	}
}

// TestNICRenamed has somebody give the NIC another name while it is a port: what it brought
// is not taken from it.
func TestNICRenamed(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a := l.Host("a")
	a.Plug(l.Switch("lan"), "eth0", "192.0.2.1/24")
	const has = "ip -o -4 addr show dev br6; ls /sys/class/net/br6/brif" // the carrier comes when it comes
	before := state(a)
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br6", Make: true}); err != nil {
		t.Fatal(err)
	}
	script(a, "ip link set eth0 down; ip link set eth0 name lan0 up")
	attached := a.Must("sh", "-c", has)
	_, err := detachOn(t, a, Move{NIC: "eth0"})
	if err == nil || !strings.Contains(err.Error(), "eth0: detach: is called lan0 by now") {
		t.Errorf("detached: %v", err)
	}
	if got := a.Must("sh", "-c", has); got != attached {
		t.Errorf("attached (-) and now (+):\n%s", cmp.Diff(attached, got))
	}
	script(a, "ip link set lan0 down; ip link set lan0 name eth0 up")
	if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
		t.Fatal(err)
	}
	sameAgain(t, a, before, "detached")
}
