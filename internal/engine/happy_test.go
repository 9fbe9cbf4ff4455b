package engine

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// equal compares a value by its text.
func (r *rig) equal(what string, got any, want string) {
	r.Helper()
	if text := fmt.Sprint(got); text != want {
		r.Errorf("%s: %s, want %s", what, text, want)
	}
}

func TestFirstStartMakesTheDefaultNetwork(t *testing.T) {
	r := newRig(t)
	n := must[*model.Network](r)(r.e.Network("bridge"))
	r.equal("subnets", n.Subnets[0].Prefix, "172.17.0.0/16")
	r.equal("gateway", n.Subnets[0].Gateway, "172.17.0.1")
	r.equal("device", n.Device(), "sealane0")
	r.equal("mtu, as the uplink's", n.Options.MTU, "1450")
	r.equal("status", r.e.NetworkStatus(n).State, StateReady)
	r.check()
	id := n.ID
	r.restart()
	r.equal("id after a restart", must[*model.Network](r)(r.e.Network("bridge")).ID, string(id))
	r.check()
}

func TestNetworks(t *testing.T) {
	r := newRig(t)
	r.equal("automatic subnets", r.network("one").Subnets[0].Prefix, "172.18.0.0/20")
	r.equal("the next", r.network("two").Subnets[0].Prefix, "172.18.16.0/20")
	given := r.network("given", "10.1.0.0/28", "fd00:1::/64", "internal", "icc=false", "mtu=1300", "masquerade=false")
	r.equal("given", given.Subnets, "[{10.1.0.0/28 10.1.0.1 invalid Prefix map[] [] invalid Prefix} {fd00:1::/64 fd00:1::1 invalid Prefix map[] [] invalid Prefix}]")
	six := must[*model.Network](r)(r.e.CreateNetwork(r.ctx, NetworkSpec{Name: "six", NoIPv4: true, IPv6: true}))
	if s := six.Subnets; len(s) != 1 || s[0].Prefix.Bits() != 64 || !strings.HasPrefix(s[0].Prefix.String(), "fd") {
		t.Errorf("IPv6 only: %v", s)
	}
	r.check()
	again := must[*model.Network](r)(r.e.CreateNetwork(r.ctx, NetworkSpec{Name: "six2", IPv6: true}))
	if s, _ := again.Subnet(true); s.Prefix.Addr().As16()[5] != six.Subnets[0].Prefix.Addr().As16()[5] {
		t.Errorf("two /48 of our own: %s and %s", s.Prefix, six.Subnets[0].Prefix)
	}
	for _, ref := range []string{"given", string(given.ID), string(given.ID)[:5]} {
		r.equal("found by "+ref, must[*model.Network](r)(r.e.Network(ref)).Name, "given")
	}
	var names []string
	for _, n := range r.e.Networks() {
		names = append(names, n.Name)
	}
	r.equal("list", names, "[bridge given one six six2 two]")
	r.ok(r.e.RemoveNetwork(r.ctx, string(given.ID)))
	r.sandbox("web", SandboxSpec{Networks: on("one")})
	r.equal("pruned", must[[]string](r)(r.e.PruneNetworks(r.ctx, nil)), "[six six2 two]")
	if names := must[[]string](r)(r.e.PruneNetworks(r.ctx, nil)); names != nil {
		t.Errorf("pruned again: %v", names)
	}
	r.check()
}

func TestGatewayOutsideTheRange(t *testing.T) {
	r := newRig(t)
	spec := netSpec("app", "10.1.0.0/28")
	spec.Subnets[0].Range = netip.MustParsePrefix("10.1.0.8/29")
	spec.Subnets[0].Aux = map[string]netip.Addr{"router": netip.MustParseAddr("10.1.0.1")}
	n := must[*model.Network](r)(r.e.CreateNetwork(r.ctx, spec))
	r.equal("gateway", n.Subnets[0].Gateway, "10.1.0.2")
	r.equal("first address", r.sandbox("web", SandboxSpec{Networks: on("app")}).Endpoints[0].Addrs, "[10.1.0.8/28]")
	r.check()
}

func TestAdoptedBridge(t *testing.T) {
	r := newRig(t)
	n := r.network("lan", "name=br0")
	r.equal("subnet", n.Subnets, "[{10.9.0.0/28 10.9.0.7 invalid Prefix map[] [] invalid Prefix}]")
	r.equal("mtu", n.Options.MTU, "1400")
	r.sandbox("web", SandboxSpec{Networks: on("lan")})
	r.check()
	r.ok(r.e.RemoveSandbox(r.ctx, "web", false))
	r.ok(r.e.RemoveNetwork(r.ctx, "lan"))
	r.check()
	n = r.network("lan", "name=br0", "10.9.0.0/28", "fd00:9::/64")
	r.equal("gateways", n.Subnets, "[{10.9.0.0/28 10.9.0.7 invalid Prefix map[] [] invalid Prefix} {fd00:9::/64 fd00:9::1 invalid Prefix map[] [] invalid Prefix}]")
	r.check()
}

func TestSandboxLife(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.network("dual", "10.2.0.0/28", "fd00:2::/64")
	p := model.Process{PID: 7, Start: 8}
	sb := r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{
		{Network: "app", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.9")}, MAC: "02:00:00:00:00:0A", Aliases: []string{"www"}},
		{Network: "dual", IfName: "lan0", Priority: 5}},
		Ports: ports("8080:80", "9000-9002:9000-9002/udp"), PublishAll: true, Expose: ports("81"), Process: &p, Command: []string{"sleep"}})
	r.equal("first endpoint", sb.Endpoints[0].Addrs[0].String()+" "+sb.Endpoints[0].MAC+" "+sb.Endpoints[0].IfName, "10.1.0.9/28 02:00:00:00:00:0a eth0")
	r.equal("second", sb.Endpoints[1].Addrs, "[10.2.0.2/28 fd00:2::2/64]")
	r.equal("name", sb.Endpoints[1].IfName, "lan0")
	r.equal("ports", sb.Ports, "[8080:80/tcp 9000-9002:9000-9002/udp 20000:81/tcp]")
	r.equal("hostname", sb.Hostname, "web")
	r.check()
	for _, ref := range []string{"web", string(sb.ID), string(sb.ID)[:4], "netns:" + sb.NetNS} {
		r.equal("found by "+ref, must[*model.Sandbox](r)(r.e.Sandbox(ref)).ID, string(sb.ID))
	}
	r.equal("status", r.e.SandboxStatus(sb).State, StateRunning)
	r.restart()
	r.check()

	next := model.Process{PID: 9, Start: 10}
	r.ok(r.e.SetProcess(r.ctx, "web", next))
	r.cmds.end(p) // the client; another is the process by now
	r.ok(r.e.Exited(r.ctx, "web", model.Exit{Code: 3, At: r.cfg.Now()}))
	r.ok(r.e.Exited(r.ctx, "web", model.Exit{Code: 4, At: r.cfg.Now()})) // the first report counts
	sb = must[*model.Sandbox](r)(r.e.Sandbox("web"))
	r.equal("after its end", fmt.Sprint(sb.Exit.Code, len(sb.Ports), len(sb.Endpoints)), "3 0 2")
	r.equal("status", r.e.SandboxStatus(sb), fmt.Sprint(Status{StateExited, "exit status 3", sb.Exit.At}))
	r.check()
	r.ok(r.e.RemoveSandbox(r.ctx, "web", false))
	r.check()
	if len(r.e.Sandboxes()) != 0 || r.ports == 0 {
		t.Errorf("left: %v; the proxy was told %d times", r.e.Sandboxes(), r.ports)
	}
}

func TestConnectAndDisconnect(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.network("dual", "10.2.0.0/28", "fd00:2::/64")
	r.sandbox("web", SandboxSpec{Networks: on("app"), Ports: ports("8080:80")})
	route := func() string {
		var out []string
		for _, l := range lines(r.k.Dump()) {
			if strings.HasPrefix(l, "netns "+r.runDir) && strings.Contains(l, " route default") || strings.Contains(l, " ports4 {") && strings.HasPrefix(l, "element") {
				out = append(out, l[strings.LastIndex(l, "/")+14:])
			}
		}
		return strings.Join(out, "\n")
	}
	first := route()
	_, ep, err := r.e.Connect(r.ctx, "web", EndpointSpec{Network: "dual"}, ports("8081:81"))
	r.ok(err)
	r.equal("endpoint", fmt.Sprint(ep.IfName, ep.Addrs), "eth1[10.2.0.2/28 fd00:2::2/64]")
	r.check()
	if second := route(); second == first || !strings.Contains(second, "10.2.0.1 dev eth1") {
		t.Errorf("the way out was\n%s\nand is\n%s", first, second)
	}
	at := netip.MustParseAddrPort("192.0.2.1:8080")
	to, ok := r.e.Target("tcp", netip.Addr{}, at)
	r.equal("target", fmt.Sprint(to, ok), "10.2.0.2:80 true")
	r.ok(r.e.Disconnect(r.ctx, "web", "dual"))
	r.check()
	to, ok = r.e.Target("tcp", netip.Addr{}, at)
	r.equal("target after", fmt.Sprint(to, ok), "10.1.0.2:80 true")
	to, ok = r.e.Target("tcp", netip.Addr{}, netip.MustParseAddrPort("[2001:db8::1]:8080"))
	r.equal("target of an IPv6 client", fmt.Sprint(to, ok), "10.1.0.2:80 true")
	if _, ok := r.e.Target("udp", netip.Addr{}, at); ok {
		t.Error("a target of a port that is not published")
	}
	r.ok(r.e.Disconnect(r.ctx, "web", "app"))
	if _, ok = r.e.Target("tcp", netip.Addr{}, at); ok {
		t.Error("a target without a network")
	}
	r.check()
}

func TestForeignNamespace(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	r.network("lan2", "10.2.0.0/28")
	ref := "netns:" + givenNS.Path
	sb, ep, err := r.e.Connect(r.ctx, ref, EndpointSpec{Network: "app"}, ports("8080:80"))
	r.ok(err)
	r.equal("made", string(sb.Mode)+" "+ep.IfName, "other eth0")
	again, ep, err := r.e.Connect(r.ctx, ref, EndpointSpec{Network: "lan2"}, nil)
	r.ok(err)
	r.equal("the same", fmt.Sprint(again.ID == sb.ID)+" "+ep.IfName, "true eth1")
	r.check()
	r.ok(r.e.Disconnect(r.ctx, ref, "app"))
	r.ok(r.e.Disconnect(r.ctx, ref, "lan2"))
	r.equal("left", r.e.Sandboxes(), "[]")
	r.check()
	r.sandbox("given", SandboxSpec{Mode: model.ModeOther, NetNS: givenNS.Path, Networks: on("app")})
	r.check()
	r.k.Remove(kstate.NetNS{NS: givenNS}.Key())
	_, err = r.e.Sync(r.ctx, "test")
	r.ok(err)
	lost := must[*model.Sandbox](r)(r.e.Sandbox("given"))
	r.equal("after its end", r.e.SandboxStatus(lost).Message, "its network namespace is gone")
	r.ok(r.e.Disconnect(r.ctx, ref, "app"))
	r.equal("left", r.e.Sandboxes(), "[]")
}

func TestOwnNamespaceByPath(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/28")
	web := r.sandbox("web", SandboxSpec{})
	sb, _, err := r.e.Connect(r.ctx, "netns:"+web.NetNS, EndpointSpec{Network: "app"}, nil)
	r.ok(err)
	r.equal("connected", sb.ID, string(web.ID))
	r.check()
}

func TestSharedAndHostNamespaces(t *testing.T) {
	r := newRig(t)
	donor := r.sandbox("donor", SandboxSpec{Networks: on("bridge")})
	one := r.sandbox("one", SandboxSpec{Mode: model.ModeShared, Donor: "donor"})
	two := r.sandbox("two", SandboxSpec{Mode: model.ModeShared, Donor: "one"})
	r.sandbox("host", SandboxSpec{Mode: model.ModeHost})
	r.equal("donors", fmt.Sprint(one.Donor == donor.ID, two.Donor == donor.ID, two.NetNS == donor.NetNS), "true true true")
	r.check()
	r.ok(r.e.RemoveSandbox(r.ctx, "donor", true))
	_, err := r.e.Sync(r.ctx, "test")
	r.ok(err)
	for _, name := range []string{"one", "two", "host"} {
		sb := must[*model.Sandbox](r)(r.e.Sandbox(name))
		r.equal(name, r.e.SandboxStatus(sb).State, map[bool]string{true: StateRunning, false: StateLost}[name == "host"])
	}
	r.check()
}

func TestPublishAndUnpublish(t *testing.T) {
	r := newRig(t)
	r.sandbox("web", SandboxSpec{Networks: on("bridge"), Ports: ports("8000:80")})
	got := must[[]model.PortMapping](r)(r.e.Publish(r.ctx, "web", ports("81", "82", "8001-8009:83", "127.0.0.1:8000:80/udp")))
	r.equal("published", got, "[20000:81/tcp 20001:82/tcp 8001:83/tcp 127.0.0.1:8000:80/udp]")
	r.check()
	r.ok(r.e.Unpublish(r.ctx, "web", ports("8000:80", "82", "80/udp")))
	r.equal("left", must[*model.Sandbox](r)(r.e.Sandbox("web")).Ports, "[20000:81/tcp 8001:83/tcp]")
	r.check()
	r.sandbox("other", SandboxSpec{Networks: on("bridge"), Ports: ports("8000:80", "8501-8503:91-93")})
	if err := r.e.Unpublish(r.ctx, "other", ports("8502:92")); model.KindOf(err) != model.NotFound ||
		!strings.HasSuffix(err.Error(), "port 8502:92/tcp is not published (it is one of 8501-8503:91-93/tcp, which goes as a whole)") {
		t.Errorf("one of a range: %v", err)
	}
	r.check()
}

func TestPortsInUseElsewhereAreLeftOut(t *testing.T) {
	r := newRig(t)
	for _, at := range []string{"0.0.0.0:20000", "127.0.0.1:20001", "0.0.0.0:8001"} {
		must[func()](r)(r.k.Listen("tcp", netip.MustParseAddrPort(at), "httpd"))
	}
	others := r.k.Dump()
	sb := r.sandbox("web", SandboxSpec{Networks: on("bridge"), Ports: ports("80", "8001-8003:81")})
	r.equal("made", sb.Ports, "[20002:80/tcp 8002:81/tcp]")
	r.equal("addresses were not used up", sb.Endpoints[0].Addrs, "[172.17.0.2/16]")
	got := must[[]model.PortMapping](r)(r.e.Publish(r.ctx, "web", ports("8001-8003:82")))
	r.equal("published", got, "[8003:82/tcp]")
	r.network("app", "10.1.0.0/28")
	decl := Declaration{Endpoints: []EndpointDeclaration{{Sandbox: "web", EndpointSpec: EndpointSpec{Network: "app"}, Ports: ports("8000-8009:90")}}}
	must[func()](r)(r.k.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:8000"), "httpd"))
	must[[]kstate.Op](r)(r.e.Apply(r.ctx, decl))
	r.equal("applied", must[*model.Sandbox](r)(r.e.Sandbox("web")).Ports, "[20002:80/tcp 8002:81/tcp 8003:82/tcp 8004:90/tcp]")
	r.ok(r.e.RemoveSandbox(r.ctx, "web", false))
	r.ok(r.e.RemoveNetwork(r.ctx, "app"))
	r.same("the kernel", lines(r.k.Dump()), lines(others+"socket tcp 0.0.0.0:8000 by httpd\n"))
}

func TestApplyAndPlan(t *testing.T) {
	r := newRig(t)
	r.sandbox("web", SandboxSpec{})
	decl := Declaration{
		Networks: []NetworkSpec{netSpec("app", "10.1.0.0/28"), netSpec("dual", "10.2.0.0/28", "fd00:2::/64", "icc=false")},
		Endpoints: []EndpointDeclaration{
			{Sandbox: "web", EndpointSpec: EndpointSpec{Network: "app", MAC: "0200.0000.00AA", Aliases: []string{"www"}, Priority: 1}, Ports: ports("8080:80")},
			{Sandbox: "web", EndpointSpec: EndpointSpec{Network: "dual", Addrs: []netip.Addr{netip.MustParseAddr("10.2.0.9")}}},
			{Sandbox: "netns:" + givenNS.Path, EndpointSpec: EndpointSpec{Network: "app"}, Ports: ports("81")},
		}}
	before := r.all()
	plan := must[[]kstate.Op](r)(r.e.Plan(r.ctx, decl))
	r.same("a plan", lines(r.all()), lines(before))
	ops := must[[]kstate.Op](r)(r.e.Apply(r.ctx, decl))
	if len(plan) != len(ops) || len(ops) == 0 {
		t.Errorf("planned %d ops, did %d", len(plan), len(ops))
	}
	var addrs [2][]string // are what the plan said, though made later
	for i, list := range [][]kstate.Op{plan, ops} {
		for _, op := range list {
			if a, ok := op.New.(kstate.Addr); ok && !a.NS.IsHost() {
				addrs[i] = append(addrs[i], a.String())
			}
		}
		slices.Sort(addrs[i])
	}
	r.equal("addresses", addrs[1], fmt.Sprint(addrs[0]))
	r.check()
	if ops := must[[]kstate.Op](r)(r.e.Apply(r.ctx, decl)); len(ops) > 0 {
		t.Errorf("applied again: %v", ops)
	}
	r.check()
}

func TestTeardown(t *testing.T) {
	r := newRig(t)
	before, _ := split(r.k.Dump(), r.runDir)
	if len(before) == 0 {
		t.Fatal("nothing to tear down")
	}
	r.network("lan", "name=br0", "10.9.0.0/28", "fd00:9::/64")
	r.sandbox("web", SandboxSpec{Networks: on("lan", "bridge"), Ports: ports("8080:80"), Process: &model.Process{PID: 3, Start: 4}})
	r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: "bridge"}, nil)
	r.check()
	web := must[*model.Sandbox](r)(r.e.Sandbox("web"))
	r.die()
	r.prepare()
	r.ok(Teardown(r.ctx, r.cfg))
	ours, others := split(r.k.Dump(), r.runDir)
	r.same("the kernel", slices.DeleteFunc(ours, func(l string) bool { return l == "" }), nil)
	r.same("what others have", others, r.others())
	entries, _ := r.store.Entries()
	r.equal("journal", entries, "map[]")
	r.equal("forwarding", r.k.Sysctl("net.ipv4.ip_forward")+r.k.Sysctl("net.ipv6.conf.eth0.accept_ra"), "01")
	r.equal("ended", slices.Contains(r.cmds.kills, "3 "+filepath.Base(web.NetNS)), "true")
	r.start()
	r.check()
	var names []string
	for _, n := range r.e.Networks() {
		names = append(names, n.Name)
	}
	r.equal("networks", names, "[bridge lan]")
	r.equal("sandboxes", r.e.Sandboxes(), "[]")
}

func TestForwardingIsPutBackAsItWas(t *testing.T) {
	r := bare(t)
	r.quiet = true
	r.k.Foreign(kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"})
	r.start()
	r.k.Foreign(kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "0"}) // somebody turns it off
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	r.equal("forwarding", r.k.Sysctl("net.ipv4.ip_forward"), "1")
	r.die()
	r.prepare()
	r.ok(Teardown(r.ctx, r.cfg))
	r.equal("forwarding after, as before", r.k.Sysctl("net.ipv4.ip_forward"), "1")
}

func TestIPv6SettingsGoWithTheLastIPv6Network(t *testing.T) {
	r := newRig(t)
	r.network("six", "fd00:6::/64")
	r.equal("settings", r.k.Sysctl("net.ipv6.conf.all.forwarding")+r.k.Sysctl("net.ipv6.conf.eth0.accept_ra"), "12")
	r.ok(r.e.RemoveNetwork(r.ctx, "six"))
	r.equal("settings after", r.k.Sysctl("net.ipv6.conf.all.forwarding")+r.k.Sysctl("net.ipv6.conf.eth0.accept_ra"), "01")
	r.check()
}

func TestEndsOfCommands(t *testing.T) {
	r := newRig(t)
	p := func(pid int) *model.Process { return &model.Process{PID: pid, Start: 1} }
	told := r.sandbox("told", SandboxSpec{Process: p(1), Command: []string{"x"}})
	r.sandbox("untold", SandboxSpec{Process: p(2), Command: []string{"x"}})
	r.sandbox("away", SandboxSpec{Process: p(3), AutoRemove: true})
	r.ok(os.MkdirAll(filepath.Join(r.runDir, "sandboxes", string(told.ID)), 0o700))
	stray := filepath.Join(r.runDir, "sandboxes", "eeeeeeeeeeee")
	r.ok(os.MkdirAll(stray, 0o700))
	r.die() // the ends happen while no daemon runs
	r.ok(os.WriteFile(filepath.Join(r.runDir, "sandboxes", string(told.ID), "exit"), []byte(`{"code":5,"at":"2026-01-01T00:00:00Z"}`), 0o600))
	for i := range 3 {
		r.cmds.end(*p(i + 1))
	}
	r.start()
	eventually(t, "all have ended", func() bool {
		list := r.e.Sandboxes()
		return len(list) == 2 && list[0].Exit != nil && list[1].Exit != nil
	})
	r.equal("told", r.e.SandboxStatus(must[*model.Sandbox](r)(r.e.Sandbox("told"))).Message, "exit status 5")
	r.equal("untold", r.e.SandboxStatus(must[*model.Sandbox](r)(r.e.Sandbox("untold"))).Message, "nobody saw it end")
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("files of a sandbox that is not there: %v", err)
	}
	r.check()
}
