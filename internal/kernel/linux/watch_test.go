package linux

import (
	"context"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// hinted waits for a hint and then for silence.
func hinted(hints <-chan kernel.Hint, wait time.Duration) string {
	what := ""
	for {
		select {
		case h := <-hints:
			what, wait = h.What, 100*time.Millisecond
		case <-time.After(wait):
			return what
		}
	}
}

func watch(t *testing.T, k kernel.Kernel) <-chan kernel.Hint {
	t.Helper()
	hints, err := k.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return hints
}

func TestHintsForOthers(t *testing.T) {
	k, dir := start(t)
	spaces := sandboxes(t, k, dir, 2)
	a := spaces[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	apply(t, k, kerneltest.Adds(endpoint(spaces[1], 1)...)...)
	apply(t, k, kerneltest.Adds(kstate.Table{Family: "inet", Name: "sealane"})...)
	hints := watch(t, k)
	inside := "nsenter --net=" + a.Path
	for _, line := range []string{
		inside + " ip address add 10.9.9.9/32 dev eth0",
		inside + " ip route delete default",
		inside + " ip address delete 10.0.0.2/16 dev eth0",
		"ip address add 192.0.2.1/24 dev slb1",
		"ip route add 203.0.113.0/24 dev slb1",
		"ip route delete 203.0.113.0/24 dev slb1",
		"sysctl -q net.ipv4.ip_forward=1",
		"sysctl -q net.ipv6.conf.all.forwarding=1",
		"nft delete table inet sealane",
		"ip link delete slv0",
		"umount " + spaces[1].Path,
	} {
		run(t, "%s", line)
		if hinted(hints, 20*time.Second) == "" {
			t.Errorf("no hint after %s", line)
		}
	}
}

// Links are reported without saying who changed them: for a moment after a
// change of ours, another's is not told apart.
func TestHintsForChangedLinks(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	hints := watch(t, k)
	time.Sleep(2 * time.Second)
	run(t, "nsenter --net=%s ip link set eth0 promisc on", a.Path)
	if what := hinted(hints, time.Second); what != "" {
		t.Errorf("hint after somebody began to listen: %s", what)
	}
	run(t, "nsenter --net=%s sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1", a.Path)
	run(t, "sysctl -q net.ipv4.conf.slb1.forwarding=1 net.ipv4.conf.default.forwarding=1")
	if what := hinted(hints, time.Second); what != "" {
		t.Errorf("hint after settings that are not the host's, or not for all: %s", what)
	}
	for _, line := range []string{
		"nsenter --net=" + a.Path + " ip link set eth0 address 02:00:5e:10:00:01",
		"ip link set slv0 nomaster", "ip link set slv0 mtu 1300", "ip link set slb1 down",
		"nsenter --net=" + a.Path + " ip link set eth0 down",
	} {
		run(t, "%s", line)
		if hinted(hints, 20*time.Second) == "" {
			t.Errorf("no hint after %s", line)
		}
	}
}

// TestHintsForLentNICs: what somebody does to one in a sandbox is heard soon after it
// came there, and that it came there is no hint.
func TestHintsForLentNICs(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	run(t, "ip link add nic0 type veth peer name nic1")
	hints := watch(t, k)
	nic := kstate.Link{NS: a, Name: "eth0", Type: kstate.TypeNIC, Parent: "nic0", MTU: 1500, Up: true}
	apply(t, k, kerneltest.Adds(nic)...)
	if what := hinted(hints, 2*time.Second); what != "" {
		t.Errorf("after lending: %s", what)
	}
	run(t, "nsenter --net=%s ip link set eth0 name other", a.Path)
	if hinted(hints, time.Second) == "" {
		t.Error("no hint after it was renamed")
	}
	nic.Name = "other"
	apply(t, k, kerneltest.Dels(nic)...)
	if what := hinted(hints, 2*time.Second); what != "" {
		t.Errorf("after it was given back: %s", what)
	}
}

func TestNoHintsForOurselves(t *testing.T) {
	k, dir := start(t)
	hints := watch(t, k)
	spaces := sandboxes(t, k, dir, 20)
	six := func(ns kstate.NS) kstate.Addr {
		return kstate.Addr{NS: ns, Dev: "eth0", Prefix: prefix("2001:db8::2/64")}
	}
	def := func(ns kstate.NS) kstate.Route {
		return kstate.Route{NS: ns, Dst: prefix("::/0"), Via: prefix("2001:db8::1/128").Addr(), Dev: "eth0"}
	}
	for i, ns := range spaces {
		apply(t, k, kerneltest.Adds(append(endpoint(ns, i), six(ns), def(ns))...)...)
	}
	bridge := kstate.Link{Name: "slb2", Type: kstate.TypeBridge, MTU: 1500, Up: true}
	on := kstate.Addr{Dev: "slb2", Prefix: prefix("192.0.2.1/24")}
	on6 := kstate.Addr{Dev: "slb2", Prefix: prefix("2001:db8:2::1/64")}
	apply(t, k, kerneltest.Adds(bridge, on, on6)...)
	if what := hinted(hints, 2*time.Second); what != "" {
		t.Errorf("after making: %s", what)
	}
	l := endpoint(spaces[0], 0)[0].(kstate.Link)
	changed := l
	changed.MTU, changed.Master, changed.Hairpin, changed.Up = 1400, "slb2", false, false
	apply(t, k, kstate.Op{Old: l, New: changed}, kstate.Op{Old: changed, New: l})
	apply(t, k, kerneltest.Dels(six(spaces[1]), endpoint(spaces[2], 2)[2], endpoint(spaces[3], 3)[1])...)
	if what := hinted(hints, 2*time.Second); what != "" {
		t.Errorf("after changing: %s", what)
	}
	apply(t, k, kerneltest.Dels(on)...)
	apply(t, k, kerneltest.Dels(bridge)...)
	for i, ns := range spaces {
		if i < 10 {
			apply(t, k, kerneltest.Dels(endpoint(ns, i)[0])...)
		} else {
			apply(t, k, kerneltest.Dels(kstate.NetNS{NS: ns})...)
		}
	}
	if what := hinted(hints, 2*time.Second); what != "" {
		t.Errorf("after removing: %s", what)
	}
}

func TestWatchEnds(t *testing.T) {
	k, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	hints, err := k.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case _, ok := <-hints:
		if ok {
			t.Error("a hint, of nothing")
		}
	case <-time.After(20 * time.Second):
		t.Error("the channel stays open")
	}
}
