package uplink

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/lab"
)

// switched is a host with a bridge of Open vSwitch in user space, and a NIC that merges
// what a gateway sends, which is as a cable carries it: a veth merges only what its other
// end did not leave to be cut (veth_skb_is_eligible_for_gro in drivers/net/veth.c).
//
//	a br1  eth0 192.0.2.1 ── eth0 192.0.2.254 gw
func switched(t *testing.T) *lab.Host {
	needs(t)
	a := lab.New(t).Host("a")
	a.NetNS("gw")
	script(a, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; ip link add eth0 type veth peer name cable")
	a.Whole("cable")
	merge(t, a, map[string]bool{"rx-gro": true})
	script(a, `
ip link set cable netns gw name eth0
ip -n gw addr add 192.0.2.254/24 dev eth0; ip -n gw link set eth0 up
ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.254`)
	if err := a.OVS().Start(); err != nil {
		t.Fatal(err)
	}
	script(a, `ovs-vsctl add-br br1 -- set bridge br1 datapath_type=netdev`)
	return a
}

// merge turns features of eth0 on and off.
func merge(t *testing.T, h *lab.Host, want map[string]bool) {
	t.Helper()
	err := h.Do(func() error {
		f, err := openFeatures()
		if err != nil {
			return err
		}
		defer f.Close()
		return f.set("eth0", want)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// merges returns which of the mergers a device of a host has on.
func merges(t *testing.T, h *lab.Host, dev string) string {
	t.Helper()
	var all map[string]featureState
	err := h.Do(func() (err error) {
		all, err = featuresOf(dev)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.DeleteFunc(slices.Clone(mergers), func(name string) bool { return !all[name].active }), " ")
}

// big is more than the buffers between two ends hold.
const big = 4 << 20

// TestMergedStream sends a stream to a host whose NIC merged what came in. What a packet
// socket gets of it then, user space drops.
func TestMergedStream(t *testing.T) {
	a := switched(t)
	listen(t, a, "ip", "netns", "exec", "gw")
	rep, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Timeout: DefaultTimeout})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Warnings) > 0 {
		t.Errorf("warnings: %q", rep.Warnings)
	}
	if on := merges(t, a, "eth0"); on != "" {
		t.Errorf("attached, it merges: %s", on)
	}
	got := a.Must("sh", "-c", fmt.Sprintf("lab-echo get -timeout 10s http://192.0.2.254/bytes/%d | wc -c", big))
	if strings.TrimSpace(got) != fmt.Sprint(big) {
		t.Errorf("got %s of %d bytes", got, big)
	}
	if _, err := detachOn(t, a, Move{NIC: "eth0", Timeout: DefaultTimeout}); err != nil {
		t.Fatal(err)
	}
	if on := merges(t, a, "eth0"); on != "rx-gro" {
		t.Errorf("detached, it merges: %q", on)
	}
}

// TestMergedKilledAnywhere kills the process before each of its changes, as
// TestKilledAnywhere does.
func TestMergedKilledAnywhere(t *testing.T) {
	a := switched(t)
	look := func() string {
		port := strings.TrimSpace(a.Must("sh", "-c", "ovs-vsctl port-to-br eth0 2>/dev/null || true"))
		return fmt.Sprintf("port of %q, merges %q, keeps %s\n%s", port, merges(t, a, "eth0"), held(a), a.Must("sh", "-c", "ip -4 -o addr show; ip route"))
	}
	same := func(want string) func(string) {
		return func(when string) {
			if diff := cmp.Diff(want, look()); diff != "" {
				t.Fatalf("%s: before (-) and after (+):\n%s", when, diff)
			}
		}
	}
	apart := look()
	if !strings.Contains(apart, `port of "", merges "rx-gro"`) {
		t.Fatal(apart)
	}
	attach := cutEach(t, a, func() error { _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); return err }, same(apart))
	together := look()
	if !strings.Contains(together, `port of "br1", merges ""`) {
		t.Fatal(together)
	}
	detach := cutEach(t, a, func() error { _, err := detachOn(t, a, Move{NIC: "eth0"}); return err }, same(together))
	same(apart)("in the end")
	t.Logf("killed at %d places of an attach and %d of a detach", attach, detach)
}

// TestMergedAgain takes the NIC out by hand, or has it merge again, and attaches it again:
// the record goes on knowing how it was first.
func TestMergedAgain(t *testing.T) {
	a := switched(t)
	attach := func() {
		t.Helper()
		if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1"}); err != nil {
			t.Fatal(err)
		}
		if on := merges(t, a, "eth0"); on != "" {
			t.Fatalf("attached, it merges: %s", on)
		}
	}
	attach()
	script(a, "ovs-vsctl del-port br1 eth0")
	attach()
	merge(t, a, map[string]bool{"rx-gro": true})
	ports, err := on(a, dir.Ports)
	if err != nil || len(ports) != 1 || fmt.Sprint(ports[0].Stray) != "[feature rx-gro]" {
		t.Errorf("ports: %+v, %v", ports, err)
	}
	attach()
	if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if on := merges(t, a, "eth0"); on != "rx-gro" {
		t.Errorf("detached, it merges: %q", on)
	}
	merge(t, a, map[string]bool{"rx-gro": false})
	attach()
	if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
		t.Fatal(err)
	}
	if on := merges(t, a, "eth0"); on != "" {
		t.Errorf("detached, it merges %q, and did not before", on)
	}
}

// TestMergedByKernel has a bridge that merged frames are no harm to: nothing is changed.
func TestMergedByKernel(t *testing.T) {
	a, _, _ := world(t)
	merge(t, a, map[string]bool{"rx-gro": true})
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true}); err != nil {
		t.Fatal(err)
	}
	if on := merges(t, a, "eth0"); on != "rx-gro" {
		t.Errorf("it merges: %q", on)
	}
}

// TestMergedBelow names what merges for a NIC that is made of others.
func TestMergedBelow(t *testing.T) {
	d := map[string]device{
		"bond0": {index: 5, kind: "bond"}, "eth1": {index: 2, master: 5}, "eth0": {index: 1, master: 5},
		"eth2": {index: 3}, "eth2.7": {index: 6, lower: 3, kind: "vlan"}, "veth0": {index: 7, lower: 3, kind: "veth"},
	}
	for dev, want := range map[string]string{"bond0": "[eth0 eth1]", "eth2.7": "[eth2]", "veth0": "[]", "eth2": "[]"} {
		if got := fmt.Sprint(below(d, d[dev])); got != want {
			t.Errorf("%s: %s, want %s", dev, got, want)
		}
	}
}
