package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// attachAs puts the given namespace on a network by an interface of some name.
func (r *rig) attachAs(container, network, ifname string, published ...string) *model.Endpoint {
	r.Helper()
	_, ep, err := r.e.Attach(r.ctx, Attachment{Container: container, NetNS: givenNS.Path, Resolver: true,
		EndpointSpec: EndpointSpec{Network: network, IfName: ifname}, Ports: ports(published...)})
	r.ok(err)
	return ep
}

// TestAttachTwice: a container has two interfaces on one network, and each goes
// alone, in any order and after a crash.
func TestAttachTwice(t *testing.T) {
	for _, c := range []struct{ first, second, ports string }{
		{"eth0", "eth1", "[8081:81/tcp]"},
		{"eth1", "eth0", "[8080:80/tcp]"},
	} {
		t.Run("first "+c.first, func(t *testing.T) {
			r, b := withNames(t)
			n := r.network("app", "10.1.0.0/24", "fd01::/64")
			r.attachAs("c1", "app", "eth0", "8080:80")
			r.attachAs("c1", "app", "eth1", "8081:81")
			r.check()
			sb := must[*model.Sandbox](r)(r.e.Sandbox("cni:c1"))
			r.equal("addresses", fmt.Sprint(sb.Endpoints[0].Addrs, sb.Endpoints[1].Addrs), "[10.1.0.2/24 fd01::2/64] [10.1.0.3/24 fd01::3/64]")
			r.equal("settings", fmt.Sprint(sb.Endpoints[0].Sysctls, sb.Endpoints[1].Sysctls), "[] [net.ipv4.conf.IFNAME.rp_filter=2]")
			r.equal("networks that it has names of", len(b.views[string(sb.ID)].Zones), "1")
			r.equal("users", strings.Join(r.e.users(n.ID), " "), "c1")
			r.restart()
			r.check()
			r.ok(r.e.Detach(r.ctx, "c1", "app", c.first))
			r.check()
			left := must[*model.Sandbox](r)(r.e.Sandbox("cni:c1"))
			r.equal("left", fmt.Sprint(len(left.Endpoints), " ", left.Endpoints[0].IfName, " ", left.Ports), "1 "+c.second+" "+c.ports)
			if err := r.e.Detach(r.ctx, "c1", "app", c.first); model.KindOf(err) != model.NotFound {
				t.Errorf("once more: %v", err)
			}
			r.restart()
			r.attachAs("c1", "app", c.first)
			r.check()
			r.ok(r.e.Detach(r.ctx, "c1", "app", "")) // both
			r.equal("nothing left", len(r.e.Sandboxes()), "0")
			r.check()
		})
	}
}

// TestConnectedOnce: users have no second interface on a network, and take a
// sandbox off it with all of its interfaces.
func TestConnectedOnce(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	must3(r)(r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: "app"}, nil))
	r.attachAs("c1", "app", "eth7")
	r.check()
	if _, _, err := r.e.Connect(r.ctx, "cni:c1", EndpointSpec{Network: "app"}, nil); model.KindOf(err) != model.Conflict {
		t.Errorf("again: %v", err)
	}
	_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "web", Networks: on("app", "app")})
	if model.KindOf(err) != model.Conflict {
		t.Errorf("twice: %v", err)
	}
	r.ok(r.e.Disconnect(r.ctx, "cni:c1", "app"))
	r.equal("left", len(r.e.Sandboxes()), "0")
	r.check()
}

// TestAnnouncedAgain: who has heard of an endpoint what is no longer true, hears
// of it again.
func TestAnnouncedAgain(t *testing.T) {
	r := bare(t)
	r.quiet = true
	r.prepare()
	h := herald{}
	r.cfg.Announcer = h
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	r.network("app", "10.1.0.0/24")
	r.network("back", "10.2.0.0/24")
	one, two, other := r.attachAs("c1", "app", "eth0").Device(), r.attachAs("c1", "app", "eth1").Device(), r.attachAs("c1", "back", "eth2").Device()
	r.equal("at first", h, fmt.Sprint(herald{one: announceCount, two: announceCount, other: announceCount}))
	clear(h)
	r.ok(r.e.Detach(r.ctx, "c1", "app", "eth0"))
	r.equal("without its neighbour", h, fmt.Sprint(herald{two: announceCount}))
	clear(h)
	r.setMAC(two, "02:00:5e:10:00:01")
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	r.equal("with another hardware address", h, fmt.Sprint(herald{two: announceCount}))
}

// far is the far end of a veth of ours, as it is.
func (r *rig) far(device string) kstate.Link {
	r.Helper()
	have := must[kstate.Set](r)(r.k.Observe(r.ctx, kernel.Scope{NS: r.e.namespaces()}))
	l, ok := have[kstate.Link{Name: device}.Key()].(kstate.Link)
	if !ok {
		r.Fatalf("no device %s", device)
	}
	return l
}

// setMAC sets the hardware address of the far end of a veth, as somebody in the
// namespace does.
func (r *rig) setMAC(device, mac string) {
	r.Helper()
	l := r.far(device)
	l.Peer.MAC = mac
	r.k.Tamper(l)
}

// TestLaterMAC: what a later plugin of a chain sets is the endpoint's own.
func TestLaterMAC(t *testing.T) {
	const mac = "02:00:5e:10:00:01"
	for what, look := range map[string]func(*rig){
		"a pass is first":    func(r *rig) { must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test")) },
		"CHECK is first":     func(r *rig) { r.equal("drift", len(r.drift("cni:c1")), "0") },
		"a restart is first": func(r *rig) { r.restart() },
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.network("app", "10.1.0.0/24", "fd01::/64")
			ep := r.attachAs("c1", "app", "eth0")
			r.setMAC(ep.Device(), mac)
			look(r)
			r.check()
			r.equal("intended", must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Endpoints[0].MAC, mac)
			r.equal("there", r.far(ep.Device()).Peer.MAC, mac)
			r.restart()
			r.check()
			r.equal("after a restart", r.far(ep.Device()).Peer.MAC, mac)
			r.setMAC(ep.Device(), "02:00:5e:10:00:02")
			must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
			r.equal("once only", r.far(ep.Device()).Peer.MAC, mac)
			r.ok(r.e.Detach(r.ctx, "c1", "app", "eth0"))
			r.check()
		})
	}
}

// TestLaterMACWithoutHint: a pass looks also when nothing hints at it any more.
func TestLaterMACWithoutHint(t *testing.T) {
	t.Parallel()
	r := newRig(t) // it gives no hints
	r.network("app", "10.1.0.0/24")
	ep := r.attachAs("c1", "app", "eth0")
	time.Sleep(unsettled + 2*look)
	r.setMAC(ep.Device(), "02:00:5e:10:00:01")
	eventually(t, "it is taken over", func() bool {
		return must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Endpoints[0].MAC == "02:00:5e:10:00:01"
	})
}

// TestLaterMACRefused: nobody is impersonated, and nothing is taken over that
// comes late or from who asked for none.
func TestLaterMACRefused(t *testing.T) {
	const free = "02:00:5e:10:00:01"
	type world struct {
		*rig
		n              *model.Network
		ep, own, other *model.Endpoint
	}
	for what, mac := range map[string]func(world) string{
		"multicast":                   func(world) string { return "03:00:5e:10:00:01" },
		"zero":                        func(world) string { return "00:00:00:00:00:00" },
		"the gateway's":               func(w world) string { return model.MACForID(model.MACBridge, w.n.ID) },
		"its own port's":              func(w world) string { return model.MACForID(model.MACVeth, w.ep.ID) },
		"another container's":         func(w world) string { return w.other.MAC },
		"that of its other interface": func(w world) string { return w.own.MAC },
		"a later container's":         func(world) string { return "02:42:0a:01:00:63" },
		"a later one's, of IPv6":      func(world) string { return "02:43:00:00:00:01" },
		"one that is waited for": func(w world) string {
			r := w.rig
			r.ok(r.e.Expect(r.ctx, "app", model.Waiting{ID: newID(), MAC: free, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.99")}}))
			return free
		},
		"of somebody behind another's port, perhaps": func(w world) string {
			w.k.Tamper(kstate.Link{Name: "vnet0", MTU: 1500, MAC: "02:00:00:00:00:02", Up: true, Master: w.n.Device(), Other: true})
			return free
		},
		"too late": func(w world) string {
			now := w.e.cfg.Now
			w.e.cfg.Now = func() time.Time { return now().Add(chainTime) }
			return free
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			r.crowd = 0
			r.e.cfg.ShardPorts = 0
			n := r.network("app", "10.1.0.0/24", "fd01::/64")
			w := world{r, n, r.attachAs("c1", "app", "eth0"), r.attachAs("c1", "app", "eth1"), &r.sandbox("web", SandboxSpec{Networks: on("app")}).Endpoints[0]}
			r.setMAC(w.ep.Device(), mac(w))
			if ops := r.drift("cni:c1"); len(ops) != 1 || !strings.HasPrefix(ops[0].String(), "~ link "+w.ep.Device()) {
				t.Errorf("drift %v", ops)
			}
			must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
			r.equal("put back", r.far(w.ep.Device()).Peer.MAC, w.ep.MAC)
			r.equal("intended", must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Endpoints[0].MAC, w.ep.MAC)
		})
	}
	t.Run("not by a runtime", func(t *testing.T) {
		r := newRig(t)
		r.network("app", "10.1.0.0/24")
		sb, ep, err := r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: "app"}, nil)
		r.ok(err)
		r.setMAC(ep.Device(), free)
		must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
		r.equal("put back", r.far(sb.Endpoints[0].Device()).Peer.MAC, ep.MAC)
		r.check()
	})
}

// TestLaterMACUnguarded: without the guard there is nobody to impersonate.
func TestLaterMACUnguarded(t *testing.T) {
	const mac = "02:00:5e:10:00:01"
	r := newRig(t)
	n := r.network("app", "10.1.0.0/24", "antispoof=false")
	ep := r.attachAs("c1", "app", "eth0")
	r.k.Tamper(kstate.Link{Name: "vnet0", MTU: 1500, MAC: "02:00:00:00:00:02", Up: true, Master: n.Device(), Other: true})
	r.setMAC(ep.Device(), mac)
	r.equal("drift", len(r.drift("cni:c1")), "0")
	r.equal("taken over", must[*model.Sandbox](r)(r.e.Sandbox("cni:c1")).Endpoints[0].MAC, mac)
}

// TestLaterMACNotStored: what the store refuses is put back.
func TestLaterMACNotStored(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	ep := r.attachAs("c1", "app", "eth0")
	r.setMAC(ep.Device(), "02:00:5e:10:00:01")
	r.proc.commits(func(int) error { return errRefused })
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	r.proc.commits(nil)
	r.check()
	r.equal("put back", r.far(ep.Device()).Peer.MAC, ep.MAC)
}

// TestLaterAddress: what others add to an interface stays, whoever asked for it.
func TestLaterAddress(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24", "fd01::/64")
	r.network("back", "10.2.0.0/24")
	r.attachAs("c1", "app", "eth0")
	added := []kstate.Addr{
		{NS: givenNS, Dev: "eth0", Prefix: netip.MustParsePrefix("10.1.0.9/24"), Other: true},
		{NS: givenNS, Dev: "eth0", Prefix: netip.MustParsePrefix("192.0.2.10/24"), Other: true},
		{NS: givenNS, Dev: "eth0", Prefix: netip.MustParsePrefix("fd01::9/64"), Other: true},
	}
	for _, a := range added {
		r.k.Foreign(a)
	}
	r.k.Foreign(kstate.Route{NS: givenNS, Dst: netip.MustParsePrefix("198.51.100.0/24"), Via: netip.MustParseAddr("192.0.2.1"), Dev: "eth0"})
	got := must[Drift](r)(r.e.Drift(r.ctx, "cni:c1"))
	r.equal("drift", got.Ops, "[]")
	if !slices.EqualFunc(got.Added, added, func(a, b kstate.Addr) bool { return pathsOnly(a.String()) == b.String() }) {
		t.Errorf("added: %v", got.Added)
	}
	r.restart()
	r.equal("after a restart", r.left(), "[]")
	r.k.Remove(kstate.Addr{NS: givenNS, Dev: "eth0", Prefix: netip.MustParsePrefix("10.1.0.2/24")}.Key())
	if ops := r.drift("cni:c1"); len(ops) == 0 || !strings.Contains(ops[0].String(), "addr 10.1.0.2/24") {
		t.Errorf("ours: %v", ops)
	}
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	r.attachAs("c1", "app", "eth1")
	r.attachAs("c1", "back", "eth2")
	r.equal("all of it", r.left(), "[]")
	r.ok(r.e.Detach(r.ctx, "c1", "app", "eth0"))
	r.equal("what others added goes with the interface", len(must[Drift](r)(r.e.Drift(r.ctx, "cni:c1")).Added), "0")
}
