package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// wide is an overlay network of a stack.
func wide(name string, prefixes ...string) NetworkSpec {
	spec := netSpec(name, prefixes...)
	spec.Driver = model.DriverOverlay
	return spec
}

// shop is a service of a stack, with ports as --port has them and publishes with a colon.
func shop(name, network string, words ...string) ServiceSpec {
	s := ServiceSpec{Name: name, Network: network}
	for _, w := range words {
		if strings.Contains(w, ":") {
			p, err := model.ParsePublish(w)
			if err != nil {
				panic(err)
			}
			s.Publish = append(s.Publish, p...)
			continue
		}
		p, err := model.ParseServicePort(w)
		if err != nil {
			panic(err)
		}
		s.Ports = append(s.Ports, p)
	}
	return s
}

// stackLines are the steps of a plan.
func stackLines(steps []Step, err error) string {
	var out []string
	for _, s := range steps {
		out = append(out, s.Line)
	}
	if err != nil {
		out = append(out, "! "+err.Error())
	}
	return strings.Join(out, "\n")
}

// stages are states of one stack, each with what leads to it from the one before.
func stages() []struct {
	Stack
	plan string
} {
	web := shop("web", "app", "80", "443", "8080:80", "8443:443,mode=host")
	api := shop("api", "app", "90", "9090:90")
	db := shop("db", "app", "5432")
	db.DNSRR = true
	web.Health = &model.Health{Interval: 2 * time.Second, Timeout: time.Second, Retries: 3}
	back := netSpec("back", "10.7.0.0/24")
	first := Stack{Name: "shop", Networks: []NetworkSpec{wide("app", "10.1.0.0/24"), back}, Services: []ServiceSpec{web, api, db}}

	web2 := shop("web", "app", "80", "9090:80")
	web2.Health = &model.Health{Path: "/up", Interval: 500 * time.Millisecond, Timeout: 200 * time.Millisecond, Retries: 5}
	web2.Balance, web2.Nearby, web2.Labels = model.BalanceHash, true, map[string]string{"team": "x"}
	api2 := shop("api", "app", "90", "91/udp", "8080:90")
	api2.Health = &model.Health{Interval: 500 * time.Millisecond, Timeout: 500 * time.Millisecond, Retries: 3}
	back2, app2 := back, first.Networks[0]
	back2.Options, back2.Labels = map[string]string{"icc": "false", "mtu": "1300"}, map[string]string{"a": "b"}
	app2.Labels = map[string]string{"a": "b"}
	second := Stack{Name: "shop", Networks: []NetworkSpec{app2, back2}, Services: []ServiceSpec{web2, api2}}

	third := Stack{Name: "shop", Networks: []NetworkSpec{wide("other", "10.2.0.0/24")}, Services: []ServiceSpec{shop("web", "other", "80", "9090:80")}}
	return []struct {
		Stack
		plan string
	}{
		{first, `+ network app: driver overlay, subnet 10.1.0.0/24
+ network back: driver bridge, subnet 10.7.0.0/24
+ service web on app: port 80/tcp 443/tcp, publish +8080:80/tcp +8443:443/tcp,mode=host, health tcp
+ service api on app: port 90/tcp, publish +9090:90/tcp
+ service db on app: port 5432/tcp, endpoint_mode dnsrr`},
		{second, `~ network app: label +a=b
~ network back: option icc=false, option mtu=1300, label +a=b
- service db on app
~ service web on app: publish -8080:80/tcp -8443:443/tcp,mode=host +9090:80/tcp, port -443/tcp, lb hash, publish-local-first true, health http:/up, health-interval 500ms, health-timeout 200ms, health-retries 5, label +team=x
~ service api on app: publish -9090:90/tcp +8080:90/tcp, port +91/udp, health tcp, health-interval 500ms`},
		{first, `~ network app: label -a
~ network back: option icc=true, label -a
~ service web on app: publish -9090:80/tcp +8080:80/tcp +8443:443/tcp,mode=host, port +443/tcp, lb random, publish-local-first false, health tcp, label -team
~ service api on app: publish -8080:90/tcp +9090:90/tcp, port -91/udp, health none
+ service db on app: port 5432/tcp, endpoint_mode dnsrr`},
		{third, `+ network other: driver overlay, subnet 10.2.0.0/24
- service db on app
- service web on app
+ service web on other: port 80/tcp
~ service api on app: publish -9090:90/tcp
~ service web on other: publish +9090:80/tcp
- service api on app
- network app
- network back`},
		{Stack{Name: "shop"}, `- service web on other
- network other`},
	}
}

// A stack becomes what its file says, again and again, in the steps that the plan told;
// what is of nobody's file stays.
func TestStack(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	a.network("mine", "10.3.0.0/24")
	for i, s := range stages() {
		for range 2 {
			if got := stackLines(a.e.PlanStack(a.ctx, s.Stack)); got != s.plan {
				t.Fatalf("plan %d:\n%s\nwant\n%s", i, got, s.plan)
			}
		}
		if got := stackLines(a.e.ApplyStack(a.ctx, s.Stack)); got != s.plan {
			t.Fatalf("apply %d:\n%s\nwant\n%s", i, got, s.plan)
		}
		if got := stackLines(a.e.PlanStack(a.ctx, s.Stack)); got != "" {
			t.Fatalf("after %d there is left\n%s", i, got)
		}
		abroad := s.Stack // what is of this host alone has another one's own
		abroad.Networks = slices.DeleteFunc(slices.Clone(s.Networks), func(n NetworkSpec) bool { return n.Name == "back" })
		eventually(t, "the other host knows", func() bool { return stackLines(b.e.PlanStack(b.ctx, abroad)) == "" })
	}
	if got := a.e.Stacks(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	a.knows("mine", true)
	a.checks()
	b.checks()
}

// TestStackCutOff ends an apply after each step: the next one does the rest.
func TestStackCutOff(t *testing.T) {
	all := stages()
	for i := range all[:len(all)-1] {
		for cut := range strings.Count(all[i+1].plan, "\n") + 1 {
			a := member(t, cluster.NewMemory(nil), "a", "198.51.100.9")
			_, err := a.e.ApplyStack(a.ctx, all[i].Stack)
			a.ok(err)
			steps, err := a.e.PlanStack(a.ctx, all[i+1].Stack)
			a.ok(err)
			for _, s := range steps[:cut] {
				a.ok(s.do(a.ctx))
			}
			a.again()
			_, err = a.e.ApplyStack(a.ctx, all[i+1].Stack)
			a.ok(err)
			eventually(t, fmt.Sprintf("stage %d, cut at %d: nothing is left", i+1, cut), func() bool { // of what it was told at its start either
				return stackLines(a.e.PlanStack(a.ctx, all[i+1].Stack)) == ""
			})
			a.e.Close()
		}
	}
}

// TestStackRefused is what a stack cannot be, beside what there is: nothing is done.
func TestStackRefused(t *testing.T) {
	a := member(t, cluster.NewMemory(nil), "a", "198.51.100.9")
	a.network("mine", "10.3.0.0/24")
	_, err := a.overlay("theirs", nil, "10.5.0.0/24")
	a.ok(err)
	_, err = a.e.CreateService(a.ctx, shop("web", "theirs", "80"))
	a.ok(err)
	app, back := wide("app", "10.1.0.0/24"), netSpec("back", "10.7.0.0/24")
	app.Options = map[string]string{"icc": "false", "vni": "4711"}
	_, err = a.e.ApplyStack(a.ctx, Stack{Name: "shop", Networks: []NetworkSpec{app, back}, Services: []ServiceSpec{shop("db", "app", "1")}})
	a.ok(err)
	if got := fmt.Sprint(a.e.Stacks()); got != "[{shop [app back] [db]}]" {
		t.Error(got)
	}
	before := stackLines(a.e.PlanStack(a.ctx, Stack{Name: "shop"}))
	on := func(n NetworkSpec, change func(*NetworkSpec)) Stack {
		change(&n)
		return Stack{Name: "shop", Networks: []NetworkSpec{wide("fresh"), n}}
	}
	vni, inner := wide("vni"), wide("inner")
	vni.Options, inner.Internal = map[string]string{"vni": "4711"}, true
	var many []string
	for i := range 33 {
		many = append(many, fmt.Sprintf("%d:80", 7000+i))
	}
	serving := func(s ServiceSpec) Stack {
		return Stack{Name: "shop", Networks: []NetworkSpec{wide("fresh")}, Services: []ServiceSpec{shop("first", "fresh", "1"), s}}
	}
	_, err = a.e.CreateService(a.ctx, shop("pub", "theirs", "90:90"))
	a.ok(err)
	a.sandbox("own", SandboxSpec{Networks: []EndpointSpec{{Network: "theirs"}}, Ports: []model.PortMapping{{Proto: "tcp", HostPort: 80, Port: 80, Count: 1}}})
	called := Stack{Name: "shop", External: []string{"theirs"}, Services: []ServiceSpec{shop("own", "theirs", "80")}}
	for _, s := range []Stack{called, serving(shop("x", "fresh", "80:80"))} {
		eventually(t, "the cluster knows of the container", func() bool { _, err := a.e.PlanStack(a.ctx, s); return err != nil })
	}
	dnsrr := shop("db", "app", "1")
	dnsrr.DNSRR = true
	for _, c := range []struct {
		s    Stack
		kind model.Kind
		says string
	}{
		{Stack{Name: "a b"}, model.Invalid, "stack a b: apply: "},
		{Stack{Name: "shop", External: []string{"none-such"}}, model.NotFound, "network none-such: apply: no such network (it is external to stack shop: make it first)"},
		{Stack{Name: "shop", Networks: []NetworkSpec{wide("mine")}}, model.Conflict, "network mine: apply: is there, and of no stack (external: true takes it as it is;"},
		{Stack{Name: "cafe", Networks: []NetworkSpec{app}}, model.Conflict, "network app: apply: is there, and of stack shop ("},
		{Stack{Name: "shop", External: []string{"theirs"}, Services: []ServiceSpec{shop("web", "theirs", "80")}}, model.Conflict, "service web: apply: is there, and of no stack (give the stack's another name, or sealane service rm theirs/web)"},
		{Stack{Name: "shop", Networks: []NetworkSpec{app, back}, Services: []ServiceSpec{dnsrr}}, model.Conflict, "service db: apply: endpoint_mode is vip and cannot be dnsrr (sealane service rm app/db, then apply again)"},
		{on(app, func(n *NetworkSpec) { n.Driver = "bridge" }), model.Conflict, "network app: apply: is there with driver overlay, not bridge (sealane network rm app, once nobody is on it"},
		{on(app, func(n *NetworkSpec) { n.Internal = true }), model.Conflict, "internal false, not true"},
		{on(app, func(n *NetworkSpec) { n.IPv6 = true }), model.Conflict, "ipv6 false, not true"},
		{on(app, func(n *NetworkSpec) { n.NoIPv4, n.Subnets = true, nil }), model.Conflict, "is there with subnet 10.1.0.0/24, not without one of that family"},
		{on(app, func(n *NetworkSpec) { n.Subnets = []model.Subnet{{Prefix: netip.MustParsePrefix("10.2.0.0/24")}} }), model.Conflict, "subnet 10.1.0.0/24, not 10.2.0.0/24"},
		{on(app, func(n *NetworkSpec) { n.Options = map[string]string{"vni": "4711"} }), model.Conflict, "option icc is false and cannot be true"},
		{on(app, func(n *NetworkSpec) { n.Options = map[string]string{"icc": "false", "vni": "4712"} }), model.Conflict, "is there with VNI 4711 at UDP port 8473, as it was made"},
		{on(app, func(n *NetworkSpec) { n.Options = map[string]string{"icc": "false", "vni": "4711", "encrypted": ""} }), model.Conflict, "option encrypted is the default and cannot be true"},
		{on(back, func(n *NetworkSpec) { n.Options = map[string]string{"name": "br9"} }), model.Conflict, "option name is "},
		{Stack{Name: "shop", Networks: []NetworkSpec{wide("fresh"), netSpec("over", "10.3.0.0/25")}}, model.Conflict, "network over: create: subnet 10.3.0.0/25: overlaps"},
		{Stack{Name: "shop", Networks: []NetworkSpec{wide("fresh"), wide("over", "10.5.0.0/25")}}, model.Conflict, "network over: create: subnet 10.5.0.0/25: overlaps"},
		{Stack{Name: "shop", Networks: []NetworkSpec{wide("fresh")}, Services: []ServiceSpec{shop("x", "fresh", "81", "80:80")}}, model.Invalid, "service x: create: publish 80:80/tcp: the service has no port 80/tcp"},
		{Stack{Name: "shop", Networks: []NetworkSpec{wide("x", "10.8.0.0/24"), wide("y", "10.8.0.0/16")}}, model.Conflict, "network y: create: subnet 10.8.0.0/16: overlaps 10.8.0.0/24 of network x"},
		{Stack{Name: "shop", Networks: []NetworkSpec{wide("x", "10.8.0.0/24"), netSpec("y", "10.8.0.0/16")}}, model.Conflict, "network y: create: subnet 10.8.0.0/16: overlaps 10.8.0.0/24 of network x"},
		{on(vni, func(n *NetworkSpec) {}), model.Conflict, "network vni: create: vni 4711 is taken by network app"},
		{Stack{Name: "shop", Networks: []NetworkSpec{inner, app}, Services: []ServiceSpec{shop("db", "app", "1", "81:1"), shop("x", "inner", "80:80")}}, model.Invalid, "service x: create: publish 80:80/tcp: its network is internal"},
		{serving(shop("x", "fresh", many...)), model.Invalid, "service x: create: 33 published ports: a service has up to 32"},
		{serving(shop("x", "fresh", "80:80")), model.Conflict, "service x: create: port 80/tcp: container own of host a has it"},
		{serving(shop("x", "fresh", "90:90")), model.Conflict, "service x: create: port 90/tcp: service pub of network theirs has it"},
		{called, model.Conflict, "service own: create: own of host a is asked for by that name on network theirs"},
		{serving(shop("x", "nope", "90")), model.NotFound, "service x: create: network nope: no such network"},
		{Stack{Name: "shop", External: []string{"mine"}, Services: []ServiceSpec{shop("x", "mine", "90")}}, model.Invalid, "service x: create: network mine: services are of overlay networks"},
		{on(back, func(n *NetworkSpec) { n.Options = map[string]string{"nmae": "br9"} }), model.Invalid, "nmae"},
	} {
		steps, err := a.e.ApplyStack(a.ctx, c.s)
		if len(steps) > 0 || model.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("%v, %v %v\nwant %s", steps, model.KindOf(err), err, c.says)
		}
	}
	if got := stackLines(a.e.PlanStack(a.ctx, Stack{Name: "shop"})); got != before {
		t.Errorf("something was done:\n%s\nwas\n%s", got, before)
	}
	if err := a.e.RemoveStack(a.ctx, "none"); model.KindOf(err) != model.NotFound {
		t.Error(err)
	}

	// A network that somebody is on stays, and what came before it is done.
	a.sandbox("user", SandboxSpec{Networks: []EndpointSpec{{Network: "back"}}})
	err = a.e.RemoveStack(a.ctx, "shop")
	if model.KindOf(err) != model.InUse || !strings.Contains(err.Error(), "network back: remove: still used by user") {
		t.Error(err)
	}
	if e, ok := errors.AsType[*model.UnfinishedError](err); !ok || fmt.Sprint(e.Done, e.Left) != "[- service db on app - network app] [- network back]" {
		t.Errorf("%+v", e)
	}
	a.ok(a.e.RemoveSandbox(a.ctx, "user", true))
	a.ok(a.e.RemoveStack(a.ctx, "shop"))
	if _, err := a.e.Service("theirs/web"); err != nil {
		t.Error(err)
	}
	a.checks()
}
