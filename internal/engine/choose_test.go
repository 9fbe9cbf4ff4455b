package engine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
)

// lanHosts answer probes: the wire by device, and who has which address there.
type lanHosts struct {
	mu    sync.Mutex // protects asked
	asked []string
	has   map[string]bool // by address
}

func (l *lanHosts) probe(_ context.Context, w announce.Wire, a netip.Addr) (net.HardwareAddr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, w.Device+" "+a.String())
	if l.has[a.String()] {
		return net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, nil
	}
	return nil, nil
}

// wereAsked returns what was asked since the last time, sorted.
func (l *lanHosts) wereAsked() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asked
	l.asked = nil
	slices.Sort(asked)
	return strings.Join(asked, ", ")
}

// onLAN is an engine beside hosts that have addresses.
func onLAN(t *testing.T, has ...string) (*rig, *lanHosts) {
	r := bare(t)
	r.quiet = true
	r.prepare()
	l := &lanHosts{has: map[string]bool{}}
	for _, a := range has {
		l.has[a] = true
	}
	r.cfg.Probe = l.probe
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	r.give(spare)
	return r, l
}

// TestChosen gives addresses of a network's pool where others have some of them.
func TestChosen(t *testing.T) {
	r, l := onLAN(t, "10.6.0.1", "10.6.0.2", "fd00:6::1")
	r.ok(createOn("macvlan", "lan", "parent=eth1", "10.6.0.0/28", "fd00:6::/64")(r))
	r.ok(createOn("macvlan", "trust", "parent=eth1", "vlan=7", "dad=off", "10.7.0.0/28")(r))
	r.ok(createOn("macvlan", "alone", "internal", "10.8.0.0/28")(r))
	r.ok(createOn("ipvlan", "routed", "mode=l3", "parent=eth1", "vlan=8", "10.9.0.0/28")(r))
	r.network("app", "10.1.0.0/24")
	addrs := func(ep model.Endpoint) string { return strings.Trim(fmt.Sprint(ep.Addrs), "[]") }

	sb := r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "lan"}, {Network: "app"}, {Network: "trust"}, {Network: "alone"}, {Network: "routed"}}})
	if got, want := addrs(sb.Endpoints[0]), "10.6.0.3/28 fd00:6::2/64"; got != want {
		t.Errorf("web has %s, want %s", got, want)
	}
	if got, want := l.wereAsked(), "eth1 10.6.0.1, eth1 10.6.0.2, eth1 10.6.0.3, eth1 fd00:6::1, eth1 fd00:6::2"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}

	r.sandbox("db", SandboxSpec{Networks: []EndpointSpec{{Network: "app"}}})
	for _, not := range []string{"10.5.0.1", "fd00:7::1"} { // who cannot have it anyway is told at once
		if _, _, err := r.e.Connect(r.ctx, "db", EndpointSpec{Network: "lan", Addrs: []netip.Addr{netip.MustParseAddr(not)}}, nil); model.KindOf(err) != model.Invalid || !strings.Contains(err.Error(), "address "+not+": outside subnet") {
			t.Errorf("%v", err)
		}
	}
	if got := l.wereAsked(); got != "" {
		t.Errorf("in vain asked %s", got)
	}
	before := r.all()
	if _, _, err := r.e.Connect(r.ctx, "db", EndpointSpec{Network: "lan", Addrs: []netip.Addr{netip.MustParseAddr("10.6.0.3")}}, nil); err == nil {
		t.Error("an address was given twice")
	}
	if r.all() != before {
		t.Errorf("it left (- before, + after)\n%s", cmp.Diff(before, r.all()))
	}
	l.wereAsked()
	_, ep, err := r.e.Connect(r.ctx, "db", EndpointSpec{Network: "lan", Addrs: []netip.Addr{netip.MustParseAddr("10.6.0.9")}}, nil)
	r.ok(err)
	if got := addrs(*ep); !strings.HasPrefix(got, "10.6.0.9/28 fd00:6::") || strings.Contains(got, "::1/") {
		t.Errorf("db has %s", got)
	}
	if got := l.wereAsked(); !strings.HasPrefix(got, "eth1 10.6.0.9, eth1 fd00:6::") || strings.Count(got, ",") != 1 {
		t.Errorf("asked %s", got)
	}
	r.check()
}

// TestChosenOnBridges: neighbours of who is on a bridge that was there before, or that has
// a NIC of the host's, may be machines of others; on a bridge of our own nobody is.
func TestChosenOnBridges(t *testing.T) {
	r, l := onLAN(t, "10.9.0.1", "10.6.0.2", "10.1.0.2")
	r.e.cfg.Uplinks = &yard{}
	r.network("theirs", "10.9.0.0/28", "name=br0")
	r.network("nic", "10.6.0.0/28", "name=br7")
	r.network("app", "10.1.0.0/28")
	if _, _, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "br7"}); err != nil {
		t.Fatal(err)
	}
	sb := r.sandbox("web", SandboxSpec{Networks: on("theirs", "nic", "app")})
	got := ""
	for _, ep := range sb.Endpoints {
		got += ep.Addrs[0].String() + " "
	}
	r.equal("addresses", got, "10.9.0.2/28 10.6.0.3/28 10.1.0.2/28 ")
	r.equal("asked", l.wereAsked(), "br0 10.9.0.1, br0 10.9.0.2, br7 10.6.0.2, br7 10.6.0.3")
	_, _, err := r.e.Connect(r.ctx, r.sandbox("db", SandboxSpec{}).Name, EndpointSpec{Network: "theirs", Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}, nil)
	if model.KindOf(err) != model.Conflict || !strings.Contains(fmt.Sprint(err), "address 10.9.0.1: used by ") {
		t.Errorf("one that is asked for: %v", err)
	}
}

// TestChosenOfNone has others with every address.
func TestChosenOfNone(t *testing.T) {
	r, l := onLAN(t)
	for i := range 16 {
		l.has[fmt.Sprintf("10.6.0.%d", i)] = true
	}
	r.ok(createOn("macvlan", "lan", "parent=eth1", "10.6.0.0/28")(r))
	r.sandbox("web", SandboxSpec{})
	before := r.all()
	_, _, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "lan"}, nil)
	if want := "network lan: connect web: subnet 10.6.0.0/28: none is free: others have all 14 addresses that were tried (--ip-range of the network says which are Sealane's)"; err == nil || err.Error() != want || model.KindOf(err) != model.Exhausted {
		t.Errorf("error is %v, want %s", err, want)
	}
	if r.all() != before {
		t.Errorf("it left (- before, + after)\n%s", cmp.Diff(before, r.all()))
	}
	delete(l.has, "10.6.0.7") // whose owner has gone: resting is better than none
	_, ep, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "lan"}, nil)
	r.ok(err)
	if got := ep.Addrs[0].String(); got != "10.6.0.7/28" {
		t.Errorf("web has %s", got)
	}
	r.check()
}

// TestChosenAtOnce has many containers come at the same time: each has its own.
func TestChosenAtOnce(t *testing.T) {
	r, _ := onLAN(t, "10.6.0.2", "10.6.0.4", "10.6.0.6")
	r.ok(createOn("macvlan", "lan", "parent=eth1", "10.6.0.0/27")(r))
	var group sync.WaitGroup
	failed := make([]error, 20)
	for i := range failed {
		group.Go(func() {
			_, failed[i] = r.e.CreateSandbox(r.ctx, SandboxSpec{Name: fmt.Sprintf("c%d", i), Networks: []EndpointSpec{{Network: "lan"}}})
		})
	}
	group.Wait()
	for _, err := range failed {
		r.ok(err)
	}
	r.check()
}

// TestChosenElsewhere chooses for declarations, for runtimes and for container
// engines.
func TestChosenElsewhere(t *testing.T) {
	r, l := onLAN(t, "10.6.0.1", "10.6.0.3")
	r.ok(createOn("macvlan", "lan", "parent=eth1", "10.6.0.0/28")(r))
	sb := r.sandbox("web", SandboxSpec{})
	decl := Declaration{Endpoints: []EndpointDeclaration{{Sandbox: "web", EndpointSpec: EndpointSpec{Network: "lan"}}}}
	must[any](r)(r.e.Apply(r.ctx, decl))
	sb = must[*model.Sandbox](r)(r.e.Sandbox(string(sb.ID)))
	if got := sb.Endpoints[0].Addrs[0].String(); got != "10.6.0.2/28" {
		t.Errorf("web has %s", got)
	}
	l.wereAsked()
	must[any](r)(r.e.Apply(r.ctx, decl))
	if got := l.wereAsked(); got != "" {
		t.Errorf("what is there already: asked %s", got)
	}
	_, ep, err := r.e.Attach(r.ctx, Attachment{Container: "pod", NetNS: givenNS.Path, EndpointSpec: EndpointSpec{Network: "lan"}})
	r.ok(err)
	if got := ep.Addrs[0].String(); got != "10.6.0.4/28" {
		t.Errorf("pod has %s", got)
	}
	l.has["10.6.0.5"] = true
	if got := must[netip.Prefix](r)(r.e.RequestAddress(r.ctx, netip.MustParsePrefix("10.6.0.0/28"), netip.Addr{})); got.String() != "10.6.0.6/28" {
		t.Errorf("lent %s", got)
	}
	r.check()
}
