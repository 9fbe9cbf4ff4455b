package compile_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// world is a random intent with what others must have made before it.
type world struct {
	*rand.Rand
	intent  compile.Intent
	facts   compile.Facts
	foreign []kstate.Object
	port    uint16 // the next free host port
}

func random(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 1)), port: 1000,
		intent: compile.Intent{Networks: map[model.ID]*model.Network{}, Sandboxes: map[model.ID]*model.Sandbox{}}}
	w.facts = compile.Facts{RunDir: "/run/sealane", BridgeNetfilter: w.yes(), ProxyPort: uint16(w.IntN(2) * 5353)}
	if w.yes() {
		w.facts.AcceptRA = []string{"eth0"}
		w.foreign = append(w.foreign, kstate.Link{Name: "eth0", Up: true, Other: true})
	}
	for i := range w.IntN(5) {
		w.network(i)
	}
	for i := range w.IntN(6) {
		w.sandbox(i)
	}
	return w
}

func (w *world) yes() bool { return w.IntN(2) == 0 }

func (w *world) network(i int) {
	n := &model.Network{ID: model.ID(fmt.Sprintf("aaaaaaaaaaa%d", i)), Name: fmt.Sprintf("net%d", i), Driver: "bridge", Internal: w.IntN(4) == 0,
		Options: model.Options{MTU: 1400 + i, NoICC: w.yes(), NoMasq: w.yes()}}
	families := w.IntN(3)
	if families != 1 {
		p := netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", i))
		n.Subnets = append(n.Subnets, model.Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	if families != 0 {
		p := netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", i))
		n.Subnets = append(n.Subnets, model.Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	if w.IntN(4) == 0 {
		n.Options.Device, n.Options.Adopted = fmt.Sprintf("br%d", i), true
		w.foreign = append(w.foreign, kstate.Link{Name: n.Options.Device, Type: kstate.TypeBridge, MTU: 1500, Up: true, Other: true})
	}
	w.intent.Networks[n.ID] = n
}

func (w *world) sandbox(i int) {
	id := model.ID(fmt.Sprintf("bbbbbbbbbbb%d", i))
	sb := &model.Sandbox{ID: id, Name: fmt.Sprintf("sb%d", i), Hostname: "h"}
	switch sb.Mode = []model.Mode{model.ModeOwn, model.ModeOwn, model.ModeOther, model.ModeHost}[w.IntN(4)]; sb.Mode {
	case model.ModeOwn:
		sb.NetNS = "/run/sealane/netns/" + string(id)
	case model.ModeOther:
		sb.NetNS, sb.Inode = "/run/netns/"+string(id), uint64(100+i)
		w.foreign = append(w.foreign, kstate.NetNS{NS: compile.NS(sb), Other: true})
	}
	if w.IntN(6) == 0 {
		sb.Exit = &model.Exit{}
	}
	w.intent.Sandboxes[id] = sb
	if sb.Mode == model.ModeHost {
		return
	}
	for _, netID := range slices.Sorted(maps.Keys(w.intent.Networks)) {
		if w.IntN(3) > 0 {
			w.endpoint(sb, w.intent.Networks[netID], i)
		}
	}
	for range w.IntN(4) {
		w.publish(sb)
	}
}

func (w *world) endpoint(sb *model.Sandbox, n *model.Network, i int) {
	ep := model.Endpoint{ID: model.ID(fmt.Sprintf("cccccccccc%d%s", i, n.ID[11:])), Network: n.ID,
		IfName: fmt.Sprintf("eth%d", len(sb.Endpoints)), Priority: w.IntN(3)}
	for _, s := range n.Subnets {
		a := s.Gateway
		for range i + 1 {
			a = a.Next()
		}
		ep.Addrs = append(ep.Addrs, netip.PrefixFrom(a, s.Prefix.Bits()))
	}
	ep.MAC = model.MACFor(ep.Addrs[0].Addr())
	sb.Endpoints = append(sb.Endpoints, ep)
}

func (w *world) publish(sb *model.Sandbox) {
	hosts := []string{"", "", "::", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"}
	m := model.PortMapping{Proto: []string{"tcp", "udp"}[w.IntN(2)], HostPort: w.port, Port: uint16(80 + w.IntN(5)), Count: uint16(1 + w.IntN(3))}
	m.HostIP, _ = netip.ParseAddr(hosts[w.IntN(len(hosts))])
	if w.yes() {
		m.Port = m.HostPort
	}
	w.port += m.Count
	sb.Ports = append(sb.Ports, m)
}

// each runs check on some hundred random intents.
func each(t *testing.T, check func(t *testing.T, w *world, all kstate.Set)) {
	for seed := range uint64(300) {
		w := random(seed)
		all, err := compile.All(w.intent, w.facts)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		t.Run("", func(t *testing.T) { check(t, w, all) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestFragmentsAreDisjointAndAllThereIs(t *testing.T) {
	each(t, func(t *testing.T, w *world, all kstate.Set) {
		union, count := kstate.Set{}, 0
		add := func(s kstate.Set, err error) {
			if err != nil {
				t.Fatal(err)
			}
			if err := union.Merge(s); err != nil {
				t.Fatal(err)
			}
			if count += len(s); len(union) != count {
				t.Fatalf("an object of %v is in another fragment too", s.Sorted())
			}
		}
		add(compile.Host(w.intent, w.facts))
		for _, n := range w.intent.Networks {
			add(compile.Network(n, w.facts))
		}
		for _, sb := range w.intent.Sandboxes {
			add(compile.Sandbox(sb, w.intent, w.facts))
		}
		if union.String() != all.String() {
			t.Errorf("fragments make\n%s\nall is\n%s", union, all)
		}
	})
}

// TestPartsAreDisjoint takes the parts of an overlay network away, one by one: no two have
// an object in common, and what is left is its frame.
func TestPartsAreDisjoint(t *testing.T) {
	at := netip.MustParseAddr
	far := func(i int) *model.Far {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		return &model.Far{ID: model.ID(fmt.Sprintf("e%02d", i)), At: netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 3)}), MAC: model.MACFor(a), Addrs: []netip.Addr{a}}
	}
	o := &model.Overlay{VNI: 4096, Port: 8473, Uplink: "eth0", Local: at("192.0.2.9"), MTU: 1500, Used: true}
	for i := range 12 {
		o.Far = append(o.Far, far(i+2))
	}
	for i := range 6 { // each backend is of three services
		s := &model.Service{ID: model.ID(fmt.Sprint(i)), Name: fmt.Sprint("s", i), VIPs: []netip.Addr{at(fmt.Sprint("10.0.0.10", i))}, Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}}}
		for k := range 6 {
			f := o.Far[(i/2)*3+k]
			s.Backends = append(s.Backends, model.Member{Endpoint: f.ID, Addrs: f.Addrs, State: model.MemberReady})
		}
		o.Services = append(o.Services, s)
	}
	o.Derive()
	n := &model.Network{ID: "aaaaaaaaaaaa", Name: "app", Driver: model.DriverOverlay, Options: model.Options{MTU: 1450}, Overlay: o,
		Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: at("10.0.0.1")}}}
	all, err := compile.Network(n, compile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	left := len(all)
	for len(o.Far)+len(o.Services)+len(o.Servants)+len(o.Hosts) > 0 {
		c, rest := *n, *o
		switch {
		case len(o.Services) > 0:
			rest.Services = o.Services[1:]
		case len(o.Servants) > 0:
			rest.Servants = o.Servants[1:]
		case len(o.Far) > 0:
			rest.Far = o.Far[1:]
		default:
			rest.Hosts = o.Hosts[1:]
		}
		c.Overlay = &rest
		part, none, err := compile.Change(n, &c, compile.Facts{})
		if err != nil || len(none) > 0 || len(part) == 0 {
			t.Fatalf("%v, %v, %v", err, part.Sorted(), none.Sorted())
		}
		for k := range part {
			if _, there := all[k]; !there {
				t.Fatalf("%v is of another part too, or of no network", k)
			}
			delete(all, k)
		}
		left -= len(part)
		n, o = &c, &rest
	}
	if frame, err := compile.Network(n, compile.Facts{}); err != nil || frame.String() != all.String() || left != len(all) {
		t.Errorf("%v: the frame is\n%s\nwant\n%s", err, frame, all)
	}
}

func TestCompileIsDeterministic(t *testing.T) {
	each(t, func(t *testing.T, w *world, all kstate.Set) {
		again, err := compile.All(compile.Intent{Networks: maps.Clone(w.intent.Networks), Sandboxes: maps.Clone(w.intent.Sandboxes)}, w.facts)
		if err != nil || again.String() != all.String() {
			t.Errorf("%v\n%s\nand\n%s", err, all, again)
		}
	})
}

func TestEverythingStandsOnSomething(t *testing.T) {
	each(t, func(t *testing.T, w *world, all kstate.Set) {
		there := map[kstate.Key]bool{}
		note := func(o kstate.Object) {
			there[o.Key()] = true
			switch o := o.(type) {
			case kstate.Link:
				for _, k := range []kstate.Key{o.Key(), o.PeerKey()} {
					there[k] = true
					k.ID += " up"
					there[k] = o.Up
				}
			case kstate.Addr:
				if o.Prefix.Addr().Is4() {
					there[kstate.Key{Kind: kstate.KindAddr, ID: o.NS.String() + " " + o.Dev + " ipv4"}] = true
				}
			}
		}
		for _, o := range append(w.foreign, all.Sorted()...) {
			note(o)
		}
		for _, o := range all {
			for _, k := range o.On() {
				if !there[k] {
					t.Errorf("%s stands on %v, which is not there", o, k)
				}
			}
			if l, ok := o.(kstate.Link); ok && l.Master != "" && !there[kstate.Link{Name: l.Master}.Key()] {
				t.Errorf("%s has no master", o)
			}
		}
	})
}

// TestKernelTakesIt applies each set to a kernel that can say no, and looks at
// it again.
func TestKernelTakesIt(t *testing.T) {
	each(t, func(t *testing.T, w *world, all kstate.Set) {
		k := fake.New(&journal.Memory{})
		k.Foreign(w.foreign...)
		before := k.Dump()
		var scope kernel.Scope
		for _, sb := range w.intent.Sandboxes {
			scope.NS = append(scope.NS, compile.NS(sb))
		}
		reach(t, k, scope, all)
		if ops := reach(t, k, scope, all); len(ops) > 0 {
			t.Errorf("the second time: %v", ops)
		}
		reach(t, k, scope, kstate.Set{})
		if after := k.Dump(); after != before {
			t.Errorf("left:\n%s\nbefore:\n%s", after, before)
		}
	})
}

func reach(t *testing.T, k kernel.Kernel, scope kernel.Scope, want kstate.Set) []kstate.Op {
	t.Helper()
	have, err := k.Observe(t.Context(), scope)
	if err != nil {
		t.Fatal(err)
	}
	ops := kstate.Diff(have, want)
	if err := k.Apply(t.Context(), ops); err != nil {
		t.Fatal(strings.ReplaceAll(err.Error(), "\n", "\n\t"))
	}
	return ops
}
