package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// create tries to make a network as netSpec reads it.
func create(name string, words ...string) func(*rig) error {
	return func(r *rig) error { _, err := r.e.CreateNetwork(r.ctx, netSpec(name, words...)); return err }
}

func createWith(change func(*NetworkSpec)) func(*rig) error {
	return func(r *rig) error {
		spec := netSpec("new")
		change(&spec)
		_, err := r.e.CreateNetwork(r.ctx, spec)
		return err
	}
}

func run(spec SandboxSpec) func(*rig) error {
	return func(r *rig) error {
		if spec.Name == "" {
			spec.Name = "new"
		}
		_, err := r.e.CreateSandbox(r.ctx, spec)
		return err
	}
}

func connect(ref string, spec EndpointSpec, publish ...string) func(*rig) error {
	return func(r *rig) error { _, _, err := r.e.Connect(r.ctx, ref, spec, ports(publish...)); return err }
}

func publish(ref string, m ...model.PortMapping) func(*rig) error {
	return func(r *rig) error { _, err := r.e.Publish(r.ctx, ref, m); return err }
}

func apply(d Declaration) func(*rig) error {
	return func(r *rig) error { _, err := r.e.Apply(r.ctx, d); return err }
}

func endpoint(sandbox string, spec EndpointSpec, publish ...string) Declaration {
	return Declaration{Endpoints: []EndpointDeclaration{{Sandbox: sandbox, EndpointSpec: spec, Ports: ports(publish...)}}}
}

func networks(specs ...NetworkSpec) Declaration { return Declaration{Networks: specs} }

func at(addrs ...string) (out []netip.Addr) {
	for _, a := range addrs {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// crowded has everything that the refusals below are about.
func crowded(r *rig) {
	base(r)
	r.network("lan", "name=br0")
	r.network("tiny", "10.5.0.0/30")
	r.sandbox("small", SandboxSpec{Networks: on("tiny")})
	r.sandbox("secret", SandboxSpec{Networks: on("inner")})
	r.sandbox("over", SandboxSpec{Networks: on("app"), Process: &model.Process{PID: 5}})
	r.ok(r.e.Exited(r.ctx, "over", model.Exit{}))
	r.sandbox("busy", SandboxSpec{Process: &model.Process{PID: 6}})
	r.sandbox("host", SandboxSpec{Mode: model.ModeHost})
	r.sandbox("given", SandboxSpec{Mode: model.ModeOther, NetNS: givenNS.Path})
	r.sandbox("guest", SandboxSpec{Mode: model.ModeShared, Donor: "secret"})
	must[func()](r)(r.k.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:8050"), "httpd"))
}

// TestRefusals: what cannot be done says so, in words that name what is in the
// way, and changes nothing.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	crowded(r)
	for _, c := range []struct {
		name string
		act  func(*rig) error
		kind model.Kind
		want string
	}{
		// networks
		{"name taken", create("app"), model.Conflict, "network app: create: the name is taken (by network "},
		{"built in", create("host"), model.Conflict, "the name is built in"},
		{"built in, Docker's word", create("default"), model.Conflict, "the name is built in"},
		{"built in, default", create("bridge"), model.Conflict, "the name is built in"},
		{"bad name", create("a b"), model.Invalid, `name "a b": want letters`},
		{"driver", createWith(func(s *NetworkSpec) { s.Driver = "ghost" }), model.Invalid, `driver "ghost": not known (there is bridge, macvlan, ipvlan`},
		{"unknown option", create("new", "iccc=true"), model.Invalid, `option "iccc": not known to driver bridge, which knows advertise-count, advertise-interval, antispoof`},
		{"bad option", create("new", "mtu=1"), model.Invalid, "want 68 to 65535 bytes"},
		{"source", create("new", "10.6.0.0/24", "source-ip=192.0.2.99"), model.Invalid, "network new: create: option source-ip: 192.0.2.99 is no address of this host"},
		{"new source", func(r *rig) error {
			_, err := r.e.UpdateNetwork(r.ctx, "app", NetworkUpdate{Options: map[string]string{"source-ip": "192.0.2.99"}})
			return err
		}, model.Invalid, "network app: update: option source-ip: 192.0.2.99 is no address of this host"},
		{"mode of no family", create("new", "10.6.0.0/24", "internal", "gateway-mode-ipv6=isolated"), model.Invalid, "network new: create: gateway-mode-ipv6 isolated: the network has no subnet of that family"},
		{"mode of a family that is off", createWith(func(s *NetworkSpec) {
			s.NoIPv4, s.IPv6, s.Options = true, true, map[string]string{"gateway-mode-ipv4": "routed"}
		}), model.Invalid, "gateway-mode-ipv4 routed: the network has no subnet of that family"},
		{"bad subnet", create("new", "10.6.0.1/24"), model.Invalid, "host bits are set, should be 10.6.0.0/24"},
		{"no family", createWith(func(s *NetworkSpec) { s.NoIPv4 = true }), model.Invalid, "no subnet: both address families are off"},
		{"two of a family", create("new", "10.6.0.0/24", "10.7.0.0/24"), model.Invalid, "takes one subnet of each address family"},
		{"overlap", create("new", "10.0.0.0/8"), model.Conflict, "subnet 10.0.0.0/8: overlaps 10."},
		{"overlap inside", create("new", "10.1.0.8/29"), model.Conflict, "subnet 10.1.0.8/29: overlaps 10.1.0.0/28 of network app"},
		{"overlap of IPv6", create("new", "fd00:2::/80"), model.Conflict, "overlaps fd00:2::/64 of network dual"},
		{"host address", create("new", "198.51.100.128/25"), model.Conflict, "overlaps 198.51.100.9/24 on the host's device eth0"},
		{"host route", create("new", "203.0.112.0/23"), model.Conflict, "overlaps the host's route to 203.0.113.0/24 by device dummy0"},
		{"no bridge", create("new", "name=dummy0"), model.Conflict, "device dummy0: exists and is a plain device, not a bridge"},
		{"lo", create("new", "name=lo"), model.Conflict, "device lo: exists and is a loopback, not a bridge"},
		{"device of another", create("new", "name=br0"), model.Conflict, "device br0: belongs to network lan"},
		{"mtu for IPv6", create("new", "fd00:6::/64", "mtu=1000"), model.Invalid, "IPv6 needs at least 1280"},
		{"gateway", createWith(func(s *NetworkSpec) {
			s.Subnets = []model.Subnet{{Prefix: netip.MustParsePrefix("10.6.0.0/24"), Gateway: netip.MustParseAddr("10.7.0.1")}}
		}), model.Invalid, "gateway 10.7.0.1: outside subnet 10.6.0.0/24"},
		{"remove unknown", func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "nope") }, model.NotFound, "network nope: remove: no such network (sealane network ls"},
		{"remove used", func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "app") }, model.InUse, "network app: remove: still used by over, web"},
		{"remove built in", func(r *rig) error { return r.e.RemoveNetwork(r.ctx, "bridge") }, model.Denied, "is built in and stays"},
		{"remove built in by ID", func(r *rig) error {
			return r.e.RemoveNetwork(r.ctx, string(must[*model.Network](r)(r.e.Network("bridge")).ID))
		}, model.Denied, "is built in and stays"},
		{"find", func(r *rig) error { _, err := r.e.Network("nope"); return err }, model.NotFound, "network nope: find: no such network"},

		// sandboxes
		{"sandbox name taken", run(SandboxSpec{Name: "web"}), model.Conflict, "sandbox web: create: the name is taken by sandbox"},
		{"sandbox bad name", run(SandboxSpec{Name: "-"}), model.Invalid, "want letters"},
		{"mode", run(SandboxSpec{Mode: "else"}), model.Invalid, `mode "else": not known`},
		{"hostname", run(SandboxSpec{Hostname: "a b"}), model.Invalid, "want DNS labels"},
		{"dns of no one device", run(SandboxSpec{DNS: model.DNS{Servers: at("fe80::1")}}), model.Invalid, "dns fe80::1: is of no one device, and leads nowhere: want another address of the server"},
		{"sysctl", run(SandboxSpec{Sysctls: map[string]string{"vm.swappiness": "1"}}), model.Invalid, "want a setting of the network"},
		{"sysctl of another's namespace", run(SandboxSpec{Mode: model.ModeHost, Sysctls: map[string]string{"net.core.somaxconn": "1"}}), model.Invalid, "sysctls are for a namespace of its own"},
		{"host with a network", run(SandboxSpec{Mode: model.ModeHost, Networks: on("app")}), model.Invalid, "in the host's namespace has no networks"},
		{"shared with ports", run(SandboxSpec{Mode: model.ModeShared, Donor: "web", Ports: ports("80")}), model.Invalid, "in the other sandbox's namespace has no"},
		{"donor unknown", run(SandboxSpec{Mode: model.ModeShared, Donor: "nope"}), model.NotFound, "nope: no such sandbox, and no such container of docker"},
		{"donor ended", run(SandboxSpec{Mode: model.ModeShared, Donor: "over"}), model.Gone, "sandbox over: has ended"},
		{"no namespace", run(SandboxSpec{Mode: model.ModeOther, NetNS: "/run/netns/nope"}), model.NotFound, "/run/netns/nope: not a network namespace (want a path like"},
		{"namespace of another", run(SandboxSpec{Mode: model.ModeOther, NetNS: givenNS.Path}), model.Conflict, "is the namespace of sandbox given"},
		{"network unknown", run(SandboxSpec{Networks: on("app", "nope")}), model.NotFound, "no such network"},
		{"network host", run(SandboxSpec{Networks: on("host")}), model.Invalid, "network host: cannot be joined"},
		{"twice on one network", run(SandboxSpec{Networks: on("app", "app")}), model.Conflict, "network app: is connected already"},
		{"address taken", run(SandboxSpec{Networks: []EndpointSpec{{Network: "dual"}, {Network: "app", Addrs: at("10.1.0.2")}}}), model.Conflict, "network app: address 10.1.0.2: taken by sandbox web"},
		{"address of the gateway", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.1.0.1")}}}), model.Conflict, "taken by the gateway"},
		{"address outside", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.2.0.2")}}}), model.Invalid, "address 10.2.0.2: outside subnet 10.1.0.0/28"},
		{"broadcast", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.1.0.15")}}}), model.Invalid, "is the network or broadcast address"},
		{"second address taken", run(SandboxSpec{Networks: []EndpointSpec{{Network: "dual", Addrs: at("10.2.0.9", "fd00:2::1")}}}), model.Conflict, "address fd00:2::1: taken by the gateway"},
		{"two addresses of a family", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.1.0.8", "10.1.0.9")}}}), model.Invalid, "address 10.1.0.9: an endpoint has one address of each family"},
		{"no such family", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("fd00::2")}}}), model.Invalid, "network app has no subnet of that family"},
		{"exhausted", run(SandboxSpec{Networks: on("app", "tiny")}), model.Exhausted, "network tiny: addresses of 10.5.0.0/30: none is free"},
		{"mac", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", MAC: "01:00:00:00:00:00"}}}), model.Invalid, "is a multicast address"},
		{"ifname", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", IfName: "a/b"}}}), model.Invalid, "interface name"},
		{"ifname taken", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", IfName: "eth0"}, {Network: "dual", IfName: "eth0"}}}), model.Conflict, "interface eth0: exists in the sandbox"},
		{"ifname lo", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", IfName: "lo"}}}), model.Conflict, "interface lo: exists in the sandbox"},
		{"alias", run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", Aliases: []string{"a b"}}}}), model.Invalid, "alias: host name"},
		{"link to nobody", run(SandboxSpec{Networks: on("bridge"), Links: []model.Link{{Target: "nosuch", Alias: "db"}}}), model.NotFound, "link nosuch: no such sandbox"},
		{"find sandbox", func(r *rig) error { _, err := r.e.Sandbox("nope"); return err }, model.NotFound, "sandbox nope: find: no such sandbox (sealane ps -a"},
		{"remove running", func(r *rig) error { return r.e.RemoveSandbox(r.ctx, "busy", false) }, model.InUse, "its command is running (rm -f ends it)"},
		{"remove donor", func(r *rig) error { return r.e.RemoveSandbox(r.ctx, "secret", false) }, model.InUse, "sandbox guest shares its namespace"},
		{"remove nobody", func(r *rig) error { return r.e.RemoveSandbox(r.ctx, "nope", true) }, model.NotFound, "no such sandbox"},
		{"process of one that ended", func(r *rig) error { return r.e.SetProcess(r.ctx, "over", model.Process{PID: 1}) }, model.Gone, "has ended"},
		{"process of nobody", func(r *rig) error { return r.e.SetProcess(r.ctx, "nope", model.Process{PID: 1}) }, model.NotFound, "no such sandbox"},
		{"end of nobody", func(r *rig) error { return r.e.Exited(r.ctx, "nope", model.Exit{}) }, model.NotFound, "no such sandbox"},

		// endpoints
		{"connect to no runtime", connect("foo:bar", EndpointSpec{Network: "app"}), model.NotFound, "network app: connect foo:bar: foo is no runtime: before a colon there is docker, podman, containerd, lxc, machine, netns, pid or cni"},
		{"connect nobody", connect("nope", EndpointSpec{Network: "app"}), model.NotFound, "nope: no such sandbox, and no such container of docker"},
		{"connect to nothing", connect("web", EndpointSpec{Network: "nope"}), model.NotFound, "network nope: connect web: no such network"},
		{"connect twice", connect("web", EndpointSpec{Network: "app"}), model.Conflict, "is connected already"},
		{"connect one that ended", connect("over", EndpointSpec{Network: "dual"}), model.Gone, "sandbox over: has ended"},
		{"connect with a link to nobody", connect("web", EndpointSpec{Network: "bridge", Links: []model.Link{{Target: "nosuch", Alias: "db"}}}), model.NotFound, "link nosuch: no such sandbox"},
		{"connect the host", connect("host", EndpointSpec{Network: "dual"}), model.Invalid, "lives in the host's namespace"},
		{"connect a guest", connect("guest", EndpointSpec{Network: "dual"}), model.Invalid, "shares another's namespace (connect that one)"},
		{"connect a bad path", connect("netns:run/x", EndpointSpec{Network: "app"}), model.Invalid, "netns:run/x: want an absolute path"},
		{"connect a bad process", connect("pid:self", EndpointSpec{Network: "app"}), model.Invalid, "pid:self: want a process number"},
		{"connect no namespace", connect("pid:99", EndpointSpec{Network: "app"}), model.NotFound, "pid:99: no such process"},
		{"connect with a taken port", connect("web", EndpointSpec{Network: "dual"}, "8080:80"), model.Conflict, "port 8080/tcp: published by web"},
		{"connect the given one, exhausted", connect("netns:"+givenNS.Path, EndpointSpec{Network: "tiny"}), model.Exhausted, "none is free"},
		{"disconnect nobody", func(r *rig) error { return r.e.Disconnect(r.ctx, "nope", "app") }, model.NotFound, "no such sandbox"},
		{"disconnect from nothing", func(r *rig) error { return r.e.Disconnect(r.ctx, "web", "nope") }, model.NotFound, "no such network"},
		{"disconnect where it is not", func(r *rig) error { return r.e.Disconnect(r.ctx, "web", "dual") }, model.NotFound, "network dual: disconnect web: sandbox web is not on it"},
		{"disconnect no namespace", func(r *rig) error { return r.e.Disconnect(r.ctx, "netns:/nope", "app") }, model.NotFound, "no such sandbox"},

		// ports
		{"port taken", publish("web", ports("8070:1", "8080:80")...), model.Conflict, "sandbox web: publish: port 8080/tcp: published by web"},
		{"port taken at one address", run(SandboxSpec{Networks: on("app"), Ports: ports("127.0.0.1:9003:80")}), model.Conflict, "port 9003/tcp: published by web"},
		{"port taken in a range", publish("web", ports("9003-9004:1-2")...), model.Conflict, "port 9003/tcp: published by web"},
		{"port at an address the host does not have", publish("web", ports("203.0.113.9:81:80")...), model.Invalid, "203.0.113.9 is no address of this host"},
		{"port at a link-local address the host does not have", run(SandboxSpec{Networks: on("app"), Ports: ports("169.254.169.254:8061:80")}), model.Invalid, "169.254.169.254 is no address of this host"},
		{"port at a link-local address of IPv6 that it does not have", publish("web", ports("[fe80::99]:8061:80")...), model.Invalid, "port [fe80::99]:8061:80/tcp: fe80::99 is no address of this host"},
		{"port wanted twice", run(SandboxSpec{Networks: on("app"), Ports: ports("8061:80", "8061:80")}), model.Conflict, "sandbox new: create: port 8061/tcp: is wanted twice"},
		{"new port wanted twice", publish("web", ports("8061:80", "8060-8062:81-83")...), model.Conflict, "port 8061/tcp: is wanted twice"},
		{"unpublish another host port", func(r *rig) error { return r.e.Unpublish(r.ctx, "web", ports("9999:80")) }, model.NotFound, "sandbox web: unpublish: port 9999:80/tcp is not published"},
		{"port range full", publish("web", ports("9000-9003:80")...), model.Exhausted, "host ports 9000-9003/tcp: none is free"},
		{"port of another program", publish("web", ports("8050:80")...), model.Conflict, "port 8050: in use by httpd"},
		{"port of another program, new", run(SandboxSpec{Networks: on("dual"), Ports: ports("22:22")}), model.Conflict, "in use by sshd"},
		{"port range of another program", publish("web", ports("8050-8050:80")...), model.Conflict, "in use by httpd"},
		{"port of no container", publish("web", model.PortMapping{Proto: "tcp", HostPort: 80}), model.Invalid, "want ports from 1 to 65535"},
		{"protocol", publish("web", model.PortMapping{Proto: "icmp", Port: 80, Count: 1}), model.Invalid, `protocol "icmp": want tcp, udp or sctp`},
		{"port of an internal network", publish("secret", ports("80")...), model.Invalid, "ports cannot be published: the sandbox is on no network that leads outside"},
		{"new port of an internal network", run(SandboxSpec{Networks: on("inner"), Ports: ports("80")}), model.Invalid, "ports cannot be published: the sandbox is on no network that leads outside"},
		{"port of nobody", publish("nope", ports("80")...), model.NotFound, "no such sandbox"},
		{"port of one that ended", publish("over", ports("80")...), model.Gone, "has ended"},
		{"port of the host", publish("host", ports("80")...), model.Invalid, "lives in the host's namespace"},
		{"unpublish what is not", func(r *rig) error { return r.e.Unpublish(r.ctx, "web", ports("8080:80", "80/udp")) }, model.NotFound, "port 80/udp is not published"},
		{"unpublish twice", func(r *rig) error { return r.e.Unpublish(r.ctx, "web", ports("80", "80")) }, model.NotFound, "port 80/tcp is not published"},
		{"unpublish of nobody", func(r *rig) error { return r.e.Unpublish(r.ctx, "nope", ports("80")) }, model.NotFound, "no such sandbox"},

		// declarations
		{"declared driver", apply(networks(NetworkSpec{Name: "app", Driver: "ghost"})), model.Conflict, "network app: apply: is there with driver bridge, not ghost (remove it first)"},
		{"declared subnet", apply(networks(netSpec("fresh", "10.6.0.0/28"), netSpec("app", "10.7.0.0/28"))), model.Conflict, "is there with subnet 10.1.0.0/28, not 10.7.0.0/28"},
		{"declared IPv6", apply(networks(NetworkSpec{Name: "app", IPv6: true})), model.Conflict, "is there with ipv6 false, not true"},
		{"declared internal", apply(networks(netSpec("app", "internal"))), model.Conflict, "is there with internal false, not true"},
		{"declared option", apply(networks(netSpec("app", "icc=false"))), model.Conflict, "is there with option icc true, not false"},
		{"declared unknown option", apply(networks(netSpec("app", "x=1"))), model.Invalid, `option "x": not known`},
		{"declared gateway", apply(networks(NetworkSpec{Name: "app", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/28"), Gateway: at("10.1.0.2")[0]}}})), model.Conflict, "is there with gateway 10.1.0.1, not 10.1.0.2"},
		{"declared range", apply(networks(NetworkSpec{Name: "app", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/28"), Range: netip.MustParsePrefix("10.1.0.8/29")}}})), model.Conflict, "ip-range"},
		{"declared overlap of each other", apply(networks(netSpec("x", "10.6.0.0/24"), netSpec("y", "10.6.0.0/28"))), model.Conflict, "subnet 10.6.0.0/28: overlaps 10.6.0.0/24 of network x"},
		{"declared twice", apply(networks(netSpec("x", "10.6.0.0/24"), netSpec("x", "10.7.0.0/24"))), model.Conflict, "is there with subnet 10.6.0.0/24"},
		{"declared address", apply(endpoint("web", EndpointSpec{Network: "app", Addrs: at("10.1.0.9")})), model.Conflict, "endpoint of web on app: apply: is connected otherwise: interface eth0, addresses [10.1.0.2/28]"},
		{"declared mac", apply(endpoint("web", EndpointSpec{Network: "app", MAC: "02:00:00:00:00:01"})), model.Conflict, "is connected otherwise"},
		{"declared ifname", apply(endpoint("web", EndpointSpec{Network: "app", IfName: "eth7"})), model.Conflict, "is connected otherwise"},
		{"declared alias", apply(endpoint("web", EndpointSpec{Network: "app", Aliases: []string{"www"}})), model.Conflict, "is connected otherwise"},
		{"declared nobody", apply(endpoint("nope", EndpointSpec{Network: "app"})), model.NotFound, "no such sandbox"},
		{"declared network unknown", apply(endpoint("web", EndpointSpec{Network: "nope"})), model.NotFound, "no such network"},
		{"declared for one that ended", apply(endpoint("over", EndpointSpec{Network: "app"})), model.Gone, "has ended"},
		{"declared port taken", apply(endpoint("given", EndpointSpec{Network: "app"}, "8080:80")), model.Conflict, "published by web"},
		{"declared port in use", apply(endpoint("given", EndpointSpec{Network: "app"}, "8050:80")), model.Conflict, "in use by httpd"},
	} {
		before := r.all()
		err := c.act(r)
		if err == nil || model.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || strings.ContainsAny(err.Error(), "\n") {
			t.Errorf("%s: %s: %v, want %s: %q", c.name, model.KindOf(err), err, c.kind, c.want)
		}
		r.same(c.name, lines(r.all()), lines(before))
		if t.Failed() {
			t.FailNow()
		}
	}
}

// TestNamespaceThatVanishes: a namespace goes while it is being connected.
func TestNamespaceThatVanishes(t *testing.T) {
	r := newRig(t)
	base(r)
	before := r.all()
	r.proc.refuseAt(func(n int, op kstate.Op) bool {
		if n == 0 {
			r.k.Remove(kstate.NetNS{NS: givenNS}.Key())
		}
		return false
	})
	_, _, err := r.e.Connect(r.ctx, "netns:"+givenNS.Path, EndpointSpec{Network: "app"}, nil)
	r.proc.refuseAt(nil)
	if want := "network app: connect netns:/run/netns/given: /run/netns/given"; model.KindOf(err) != model.Gone ||
		!strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), ": network namespace is gone") || strings.Contains(err.Error(), " link ") {
		t.Error(err)
	}
	gone := func(l string) bool { return strings.HasPrefix(l, "netns "+givenNS.Path) }
	r.same("the world", lines(r.all()), slices.DeleteFunc(lines(before), gone))
}

// TestReferences: an ID means its owner, whoever has it for a name.
func TestReferences(t *testing.T) {
	r := newRig(t)
	base(r)
	web := must[*model.Sandbox](r)(r.e.Sandbox("web"))
	app := must[*model.Network](r)(r.e.Network("app"))
	thief := r.sandbox(string(web.ID), SandboxSpec{})
	net := r.network(string(app.ID), "10.6.0.0/28")
	r.equal("sandbox by ID", must[*model.Sandbox](r)(r.e.Sandbox(string(web.ID))).Name, "web")
	r.equal("network by ID", must[*model.Network](r)(r.e.Network(string(app.ID))).Name, "app")
	r.ok(r.e.RemoveSandbox(r.ctx, string(thief.ID), false))
	r.ok(r.e.RemoveNetwork(r.ctx, string(net.ID)))
	r.ok(r.e.RemoveSandbox(r.ctx, string(web.ID), false))
	r.ok(r.e.RemoveNetwork(r.ctx, string(app.ID)))
	r.check()
}

// TestBeginningsOfIDs: as much of an ID as no other begins with is enough, names come
// before, and of several that begin so all are said. A declaration means no beginnings.
func TestBeginningsOfIDs(t *testing.T) {
	r := newRig(t)
	base(r)
	sandbox := func(id model.ID, name string) {
		sb := *r.by("web")
		sb.ID, sb.Name, sb.Endpoints, sb.Ports = id, name, nil, nil
		r.e.intent.Sandboxes[id] = &sb
	}
	sandbox("abcdef012345", "one")
	sandbox("abcde7012345", "two")
	failsWith := func(err error, kind model.Kind, text string) {
		t.Helper()
		if model.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
			t.Errorf("%v; want %v, %s", err, kind, text)
		}
	}
	for ref, want := range map[string]string{"abcdef": "one", "abcde7": "two", "abcdef012345": "one"} {
		r.equal(ref, must[*model.Sandbox](r)(r.e.Sandbox(ref)).Name, want)
	}
	const both = "several IDs begin with that: abcde7012345 (two), abcdef012345 (one)"
	for _, ref := range []string{"abcd", "abcde"} {
		_, err := r.e.Sandbox(ref)
		failsWith(err, model.Conflict, "sandbox "+ref+": find: "+both)
		failsWith(r.e.RemoveSandbox(r.ctx, ref, true), model.Conflict, "sandbox "+ref+": remove: "+both)
		_, _, err = r.e.Connect(r.ctx, ref, EndpointSpec{Network: "inner"}, nil)
		failsWith(err, model.Conflict, both)
	}
	for _, ref := range []string{"", "a", "abc", "abcdf", "abcdef0123456"} {
		_, err := r.e.Sandbox(ref)
		failsWith(err, model.NotFound, "no such sandbox")
	}
	failsWith(apply(endpoint("abcdef01", EndpointSpec{Network: "inner"}))(r), model.NotFound, "no such sandbox")
	sandbox("012345abcdef", "abcd")
	r.e.sandboxID["abcd"] = "012345abcdef"
	r.equal("a name", must[*model.Sandbox](r)(r.e.Sandbox("abcd")).Name, "abcd")

	inner := must[*model.Network](r)(r.e.Network("inner"))
	r.equal("a network", must[*model.Network](r)(r.e.Network(string(inner.ID[:8]))).Name, "inner")
	twin := *inner
	twin.ID, twin.Name = inner.ID[:8]+"0000", "twin"
	r.e.intent.Networks[twin.ID] = &twin
	_, err := r.e.Network(string(inner.ID[:8]))
	failsWith(err, model.Conflict, "several IDs begin with that: ")
	failsWith(r.e.RemoveNetwork(r.ctx, string(inner.ID[:8])), model.Conflict, "several IDs begin with that: ")
}

// TestExhaustedSubnets: with every automatic subnet taken, only a given one is
// possible.
func TestExhaustedSubnets(t *testing.T) {
	r := newRig(t)
	for _, p := range []string{"10.128.0.1/9", "172.16.0.1/12", "192.168.0.1/16"} {
		r.k.Foreign(kstate.Addr{Dev: "eth0", Prefix: netip.MustParsePrefix(p), Other: true})
	}
	err := create("new")(r)
	if model.KindOf(err) != model.Exhausted || !strings.Contains(err.Error(), "give one with --subnet") {
		t.Error(err)
	}
	r.network("given", "10.1.0.0/28")
}
