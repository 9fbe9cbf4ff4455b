package script

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/store"
)

// unsort has the daemon of a host find the networks in its store as they are made on
// a kernel whose bridges do not sort: the host was started anew with this one.
func unsort(t *testing.T, h *lab.Host) {
	t.Helper()
	h.Stop()
	err := h.Do(func() error {
		s, err := store.Open("/var/lib/sealane/sealane.db")
		if err != nil {
			return err
		}
		defer s.Close()
		snap, err := s.Load()
		if err != nil {
			return err
		}
		var change store.Change
		for _, n := range snap.Networks {
			if vlans := vlansOf(n, snap.Sandboxes); len(vlans) > 0 {
				n.Tagged, n.Lanes = false, vlans
				change.Networks = append(change.Networks, store.Revision{New: n})
			}
		}
		if len(change.Networks) == 0 {
			return fmt.Errorf("no network has a VLAN")
		}
		return s.Commit(change)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Daemon()
}

// vlansOf are the VLANs of a network and the endpoints on it, in order.
func vlansOf(n *model.Network, all []*model.Sandbox) []int {
	seen := map[int]bool{}
	if n.Options.VLAN != 0 {
		seen[n.Options.VLAN] = true
	}
	for _, sb := range all {
		for _, ep := range sb.Endpoints {
			if ep.Network == n.ID && ep.VLAN != 0 {
				seen[ep.VLAN] = true
			}
		}
	}
	var out []int
	for v := range seen {
		out = append(out, v)
	}
	slices.Sort(out)
	return out
}

// lanes is a pair of hosts with a wire, and what is asked of them.
type lanes struct {
	*testing.T
	a, b *lab.Host
}

// newLanes returns hosts of which each has a NIC as a port of br1, that nobody's
// daemon made, and a daemon.
func newLanes(t *testing.T) lanes {
	featuretest.Require(t, feature.VLAN, feature.Sorting)
	l := lab.New(t)
	p := lanes{t, l.Host("a"), l.Host("b")}
	for _, h := range []*lab.Host{p.a, p.b} {
		h.Plug(l.Switch("lan"), "eth1")
		h.Must("sh", "-c", "ip link add br1 type bridge; ip link set eth1 master br1; ip link set br1 up")
		h.Daemon()
	}
	return p
}

// meet checks who of the containers of both hosts answers one in a namespace of a's.
func (p lanes) meet(from string, want ...string) {
	p.Helper()
	for _, far := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.11", "10.0.0.12", "10.0.0.13"} {
		expected := slices.Contains(want, far)
		timeout := 700 * time.Millisecond
		if expected {
			timeout = 10 * time.Second
		}
		got := p.a.Run("ip", "netns", "exec", from, "lab-echo", "ping", "-timeout", timeout.String(), far).Code == 0
		if got != expected {
			p.Errorf("%s to %s: answered %v, want %v", from, far, got, expected)
		}
	}
}

func (p lanes) devices() string { return p.a.Must("ls", "/sys/class/net") }

func (p lanes) sorts(want string) {
	p.Helper()
	if got := strings.TrimSpace(p.a.Must("cat", "/sys/class/net/br1/bridge/vlan_filtering")); got != want {
		p.Errorf("br1 sorts: %s, want %s", got, want)
	}
}

// settled checks that a pass has nothing to do.
func (p lanes) settled() {
	p.Helper()
	if left := p.a.Must("sealane", "diff"); left != "" {
		p.Errorf("to do:\n%s", left)
	}
}

// TestPipeworkInLanes has commands put containers into VLANs of a bridge that does not
// sort, where the other host's does.
//
//	a: c1 ─ slw ─ br1.10 ┐                              ┌ d1 tag 10
//	   c2 ─ slw ─ br1.20 ┼ br1 ── eth1 ── lan ── eth1 ─ br1 ─ d2 tag 20  b
//	   c3, no tag        ┘                              └ d3, no tag
func TestPipeworkInLanes(t *testing.T) {
	p := newLanes(t)
	for i, vlan := range []string{"@10", "@20", ""} {
		d := p.b.NetNS(fmt.Sprint("d", i+1))
		p.b.Must("sh", "-c", fmt.Sprintf("pipework br1 netns:%s 10.0.0.1%d/24 %s", d, i+1, vlan))
		p.a.NetNS(fmt.Sprint("c", i+1))
	}
	before := p.devices()
	p.a.Must("pipework", "br1", "netns:/run/netns/c1", "10.0.0.1/24", "@10")
	p.sorts("1")
	unsort(t, p.a)
	p.sorts("0")
	p.settled()
	for range 2 {
		p.a.Must("pipework", "br1", "netns:/run/netns/c1", "10.0.0.1/24", "@10")
		p.a.Must("pipework", "br1", "netns:/run/netns/c2", "10.0.0.2/24", "@20")
		p.a.Must("pipework", "br1", "netns:/run/netns/c3", "10.0.0.3/24")
	}
	p.sorts("0")
	if out := p.a.Must("ip", "-d", "link", "show", "dev", "br1.20"); !strings.Contains(out, "vlan protocol 802.1Q id 20") {
		t.Errorf("br1.20 is\n%s", out)
	}
	all := func() {
		t.Helper()
		p.meet("c1", "10.0.0.1", "10.0.0.11")
		p.meet("c2", "10.0.0.2", "10.0.0.12")
		p.meet("c3", "10.0.0.3", "10.0.0.13")
	}
	all()
	p.a.Kill9()
	p.meet("c1", "10.0.0.1", "10.0.0.11")
	p.a.Must("ip", "link", "del", "br1.20")
	p.a.Daemon()
	p.settled()
	all()
	p.a.Must("pipework", "--undo", "br1", "netns:/run/netns/c2", "10.0.0.2/24", "@20")
	if p.a.Run("ip", "link", "show", "dev", "br1.20").Code == 0 {
		t.Error("br1.20 is there without a container")
	}
	p.meet("c1", "10.0.0.1", "10.0.0.11")
	p.a.Must("pipework", "--undo", "br1", "netns:/run/netns/c1")
	p.a.Must("pipework", "--undo", "br1", "netns:/run/netns/c3")
	after := p.devices()
	for end := time.Now().Add(30 * time.Second); after != before && time.Now().Before(end); after = p.devices() {
		time.Sleep(50 * time.Millisecond)
	}
	if after != before {
		t.Errorf("left:\n%s\nwas:\n%s", after, before)
	}
}

// TestNetworkInLanes has a network with a VLAN on a bridge of its own, and containers
// in that and another, on a kernel whose bridges do not sort. The NIC that somebody
// plugs in carries both with their tags.
//
//	a: host 10.10.0.254, web ── slb ── sw0.10 ┬ sw0 ── eth2 ── wire ── eth2.10, eth2.20 (in ns d) b
//	                     far ── slw ── sw0.20 ┘
func TestNetworkInLanes(t *testing.T) {
	featuretest.Require(t, feature.VLAN, feature.Sorting)
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	a.Plug(l.Switch("wire"), "eth2")
	b.Plug(l.Switch("wire"), "eth2")
	b.NetNS("d")
	b.Must("sh", "-c", `ip link add link eth2 name eth2.10 type vlan id 10; ip link add link eth2 name eth2.20 type vlan id 20
		ip addr add 10.10.0.9/24 dev eth2.10; ip link set eth2.10 up
		ip link set eth2.20 netns d; ip -n d addr add 10.10.0.8/24 dev eth2.20; ip -n d link set eth2.20 up`)
	a.Daemon()
	a.Must("sealane", "network", "create", "-o", "name=sw0", "-o", "vlan=10", "--subnet", "10.10.0.0/24", "--gateway", "10.10.0.254", "ten")
	unsort(t, a)
	web, far := a.NetNS("web"), a.NetNS("far")
	a.Must("sealane", "network", "connect", "--ip", "10.10.0.1", "ten", "netns:"+web)
	a.Must("sealane", "network", "connect", "--ip", "10.10.0.2", "-o", "vlan=20", "ten", "netns:"+far)
	a.Must("ip", "link", "set", "eth2", "master", "sw0")
	ping := func(h *lab.Host, ns, to string, want bool) {
		t.Helper()
		args := []string{"lab-echo", "ping", "-timeout", "700ms", to}
		if want {
			args[3] = "10s"
		}
		if ns != "" {
			args = append([]string{"ip", "netns", "exec", ns}, args...)
		}
		if got := h.Run(args[0], args[1:]...).Code == 0; got != want {
			t.Errorf("%s %s to %s: answered %v, want %v", h.Name, ns, to, got, want)
		}
	}
	ping(a, "web", "10.10.0.9", true)
	ping(a, "web", "10.10.0.8", false)
	ping(a, "web", "10.10.0.2", false)
	ping(a, "far", "10.10.0.8", true)
	ping(a, "far", "10.10.0.9", false)
	ping(a, "", "10.10.0.1", true)
	ping(a, "", "10.10.0.2", false)
	ping(b, "", "10.10.0.254", true)
	ping(b, "d", "10.10.0.254", false)

	// The host is no part of VLAN 20, also for one who knows its hardware address.
	lane := strings.TrimSpace(a.Must("sh", "-c", `basename $(dirname $(ls -d /sys/class/net/*/brif/sw0.20 | xargs dirname))`))
	mac := strings.TrimSpace(a.Must("cat", "/sys/class/net/"+lane+"/address"))
	a.Must("ip", "-n", "far", "neigh", "replace", "10.10.0.254", "lladdr", mac, "dev", "eth0")
	ping(a, "far", "10.10.0.254", false)
	if out := a.Must("sealane", "diff"); out != "" {
		t.Errorf("to do:\n%s", out)
	}
}
