package engine

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// crowdWalk changes at random what a cluster says of a network.
type crowdWalk struct {
	*testing.T
	*rand.Rand
	view      *overlay.View
	endpoints map[string]*overlay.Endpoint // by keys
	services  map[string]*overlay.Service
	shared    bool // hosts take each other's addresses
}

func (w *crowdWalk) host() string { return fmt.Sprintf("n%d", w.IntN(4)) }

func (w *crowdWalk) addr() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, 0, byte(2 + w.IntN(12))})
}

func (w *crowdWalk) endpoint() {
	i := w.IntN(10)
	a := netip.AddrFrom4([4]byte{10, 1, 0, byte(20 + i)})
	ep := &overlay.Endpoint{ID: model.ID(fmt.Sprintf("e%d", i)), Host: fmt.Sprintf("n%d", i%4), MAC: model.MACFor(a), Stopped: w.IntN(5) == 0, Sandbox: overlay.Sandbox{Name: "box"}}
	if w.shared && w.IntN(4) == 0 {
		ep.Host, a = w.host(), netip.AddrFrom4([4]byte{10, 1, 0, byte(20 + w.IntN(10))})
		ep.MAC = model.MACFor(a)
	}
	ep.Addrs = []netip.Addr{a}
	if w.IntN(3) > 0 {
		ep.Addrs = append(ep.Addrs, netip.MustParseAddr(fmt.Sprintf("fd01::%d", a.As4()[3])))
	}
	for range w.IntN(4) {
		ep.Services = append(ep.Services, overlay.Membership{Name: strings.ToUpper(w.service()), Port: w.IntN(2) * 8080, Weight: w.IntN(3)})
	}
	key := endpointKey(ep)
	if w.endpoints[key] == nil || w.IntN(3) > 0 {
		w.endpoints[key] = ep
	} else {
		delete(w.endpoints, key)
	}
}

func (w *crowdWalk) service() string { return fmt.Sprintf("s%d", w.IntN(6)) }

func (w *crowdWalk) offer() {
	name := w.service()
	s := &overlay.Service{Service: model.Service{ID: model.ID("id" + name), Name: name, Ports: []model.ServicePort{{Port: uint16(80 + w.IntN(2)), Proto: "tcp"}}}}
	switch w.IntN(5) {
	case 0:
		s.DNSRR = true
	case 1:
		s.VIPs = []netip.Addr{netip.MustParseAddr("fd01::f" + name[1:])}
	default:
		s.VIPs = []netip.Addr{netip.MustParseAddr("10.1.0.10" + name[1:]), netip.MustParseAddr("fd01::f" + name[1:])}
	}
	if w.IntN(3) == 0 {
		s.Draining = []model.ID{model.ID(fmt.Sprintf("e%d", w.IntN(10)))}
	}
	if w.IntN(4) == 0 {
		s.Balance = model.BalanceHash
	}
	if w.IntN(3) == 0 {
		s.Publish = []model.Publish{{Port: 8000 + uint16(name[1]), Target: 80, Proto: "tcp", Local: w.IntN(3) == 0}}
	}
	if w.services[name] == nil || w.IntN(3) > 0 {
		w.services[name] = s
	} else {
		delete(w.services, name)
	}
}

func (w *crowdWalk) peer() {
	hosts, id := maps.Clone(w.view.Hosts), w.host()
	hosts[id] = overlay.Peer{Host: overlay.Host{ID: id, Name: w.service(), Public4: netip.AddrFrom4([4]byte{192, 0, 2, byte(w.IntN(3))})}, Alive: w.IntN(3) > 0}
	if w.IntN(4) == 0 {
		delete(hosts, id)
	}
	w.view = &overlay.View{Hosts: hosts}
}

// step changes one thing or several, and returns what is known of the network then.
func (w *crowdWalk) step() *overlay.Part {
	for range 1 + w.IntN(3) {
		[]func(){w.endpoint, w.endpoint, w.endpoint, w.offer, w.peer}[w.IntN(5)]()
	}
	p := &overlay.Part{}
	for _, k := range slices.Sorted(maps.Keys(w.endpoints)) {
		p.Endpoints = append(p.Endpoints, w.endpoints[k])
	}
	for _, k := range slices.Sorted(maps.Keys(w.services)) {
		p.Services = append(p.Services, w.services[k])
	}
	return p
}

// network is the network with the parts of a company; now and then its frame is another.
func (w *crowdWalk) network(c *company) *model.Network {
	prefix := func(s string) model.Subnet {
		p := netip.MustParsePrefix(s)
		return model.Subnet{Prefix: p, Gateway: p.Addr().Next()}
	}
	o := c.parts
	o.VNI, o.Port, o.Uplink, o.MTU, o.Local = 5000, model.OverlayPort, "eth0", 1450, netip.MustParseAddr("198.51.100.9")
	if o.Used = w.IntN(12) > 0; w.IntN(12) > 0 {
		o.Mesh = &model.Mesh{ID: "n0", Local: o.Local, Uplink: o.Uplink, MTU: o.MTU, Hosts: []model.MeshHost{{ID: "n1", Name: "b", At: netip.MustParseAddr("198.51.100.8")}}}
	}
	return &model.Network{ID: "aaaaaaaaaaaa", Name: "app", Driver: model.DriverOverlay, Overlay: &o,
		Subnets: []model.Subnet{prefix("10.1.0.0/24"), prefix("fd01::/64")}, Options: model.Options{MTU: 1400 - 50*(w.IntN(12)/11)}}
}

// facts are as the engine keeps them.
func hostFacts(e *Engine) compile.Facts {
	f := e.facts
	f.RunDir = "/run/sealane"
	return f
}

// TestCompany takes in Views at random: the parts are those that somebody makes who sees
// the last View only, and what is compiled of the difference leaves what is compiled of
// all. What did not change is the same value.
func TestCompany(t *testing.T) {
	for seed := range uint64(40) {
		w := &crowdWalk{T: t, Rand: rand.New(rand.NewPCG(seed, 5)), view: &overlay.View{Hosts: map[string]overlay.Peer{}},
			endpoints: map[string]*overlay.Endpoint{}, services: map[string]*overlay.Service{}, shared: seed%2 == 1}
		w.walk(seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (w *crowdWalk) walk(seed uint64) {
	k, e := fake.New(&journal.Memory{}), New(Config{})
	k.Foreign(foreign...)
	var now *model.Network
	c := newCompany("n0", nil)
	refused := 0
	for step := range 60 {
		p := w.step()
		c.take(w.view, p, publics(w.view, false))
		w.fresh(c, p)
		next := w.network(c)
		if err := w.become(k, e, now, next); err != nil {
			if _, conflict := errors.AsType[*kstate.ConflictError](err); !conflict || !w.shared {
				w.Fatalf("step %d: %v", step, err)
			}
			if refused++; now == nil {
				c = newCompany("n0", nil)
			} else {
				c = newCompany("n0", now.Overlay)
			}
			continue
		}
		now = next
		if w.Failed() {
			w.Fatalf("step %d", step)
		}
	}
	if refused > 50 {
		w.Errorf("seed %d: %d steps were refused", seed, refused)
	}
}

// fresh compares the parts with those that are made of nothing else.
func (w *crowdWalk) fresh(c *company, p *overlay.Part) {
	other := newCompany("n0", nil)
	other.take(w.view, p, publics(w.view, false))
	derived := c.parts
	derived.Derive()
	for what, o := range map[string]*model.Overlay{"fresh": &other.parts, "derived": &derived} {
		if len(c.parts.Far)+len(o.Far) > 0 && !reflect.DeepEqual(c.parts.Far, o.Far) || len(c.parts.Services)+len(o.Services) > 0 && !reflect.DeepEqual(c.parts.Services, o.Services) {
			w.Errorf("%s: far and services are others", what)
		}
		if len(c.parts.Servants)+len(o.Servants) > 0 && !reflect.DeepEqual(c.parts.Servants, o.Servants) {
			w.Errorf("%s: servants %s, want %s", what, texts(c.parts.Servants), texts(o.Servants))
		}
		if !slices.Equal(c.parts.Hosts, o.Hosts) {
			w.Errorf("%s: hosts %v, want %v", what, c.parts.Hosts, o.Hosts)
		}
	}
	same := newCompany("n0", &c.parts)
	if same.take(w.view, p, publics(w.view, false)); !w.shared && !same.parts.SameParts(&c.parts) {
		w.Error("what is equal is another value")
	}
}

func texts(all []*model.Servant) (out []string) {
	for _, s := range all {
		out = append(out, fmt.Sprintf("%+v", *s))
	}
	return out
}

// become changes a kernel by what is not the same, and compares it with all.
func (w *crowdWalk) become(k *fake.Kernel, e *Engine, from, to *model.Network) error {
	before, after, err := compile.Change(from, to, hostFacts(e))
	if err != nil {
		return err
	}
	in := func(n *model.Network) compile.Intent {
		all := compile.Intent{Networks: map[model.ID]*model.Network{}}
		if n != nil {
			all.Networks[n.ID] = n
		}
		return all
	}
	if !compile.LeavesHost(from, to, hostFacts(e)) {
		for n, s := range map[*model.Network]kstate.Set{from: before, to: after} {
			host, err := compile.Host(in(n), hostFacts(e))
			if err != nil {
				return err
			}
			if err := s.Merge(host); err != nil {
				return err
			}
		}
	}
	ops := kstate.Diff(before, after)
	if err := k.Apply(w.Context(), ops); err != nil {
		return err
	}
	e.noteParts(from, to)
	have, err := k.Observe(w.Context(), kernel.Scope{})
	if err != nil {
		return err
	}
	want, err := compile.All(in(to), hostFacts(e))
	if err != nil {
		return err
	}
	if left := kstate.Diff(have, want); len(left) > 0 {
		w.Errorf("ops\n%v\nleft to do\n%v", ops, left)
	}
	return nil
}

// TestCompanyOfMany takes in few after few what another takes in at once, two halves beside
// each other, and compiles both.
func TestCompanyOfMany(t *testing.T) {
	const n = 1100
	w := &crowdWalk{T: t, Rand: rand.New(rand.NewPCG(7, 5)), view: &overlay.View{Hosts: map[string]overlay.Peer{}}}
	for range 10 {
		w.peer()
	}
	at := func(net byte, i int) netip.Addr { return netip.AddrFrom4([4]byte{10, net, byte(i >> 8), byte(i)}) }
	p := &overlay.Part{}
	for i := range n {
		name := fmt.Sprintf("s%04d", i)
		p.Services = append(p.Services, &overlay.Service{Service: model.Service{ID: model.ID("id" + name), Name: name, VIPs: []netip.Addr{at(1, i)}, Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}}}})
		ep := &overlay.Endpoint{ID: model.ID(fmt.Sprintf("e%04d", i)), Host: w.host(), MAC: model.MACFor(at(2, i)), Addrs: []netip.Addr{at(2, i)}}
		for range 3 {
			ep.Services = append(ep.Services, overlay.Membership{Name: fmt.Sprintf("s%04d", w.IntN(n))})
		}
		p.Endpoints = append(p.Endpoints, ep)
	}
	c := newCompany("n0", nil)
	before, few := (*model.Network)(nil), kstate.Set{}
	for i := 100; i <= n; i += 100 {
		some := &overlay.Part{Endpoints: p.Endpoints[:i], Services: p.Services[:i]}
		c.take(w.view, some, publics(w.view, false))
		parts := c.parts
		parts.Used, parts.VNI = true, 5000
		now := &model.Network{ID: "aaaaaaaaaaaa", Name: "app", Driver: model.DriverOverlay, Overlay: &parts}
		was, is, err := compile.Change(before, now, compile.Facts{})
		if err != nil {
			t.Fatal(err)
		}
		for k := range was {
			delete(few, k)
		}
		if err := few.Merge(is); err != nil {
			t.Fatal(err)
		}
		before = now
	}
	w.fresh(c, p)
	many, err := compile.Network(before, compile.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if few.String() != many.String() {
		t.Errorf("few by few there are %d objects, at once %d", len(few), len(many))
	}
}
