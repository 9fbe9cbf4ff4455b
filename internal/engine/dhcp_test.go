package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/dhcp"
)

// office is a client of DHCP whose servers are a function: it keeps what is
// wanted, as the real one does, and asks once for each.
type office struct {
	*rig
	give func(dhcp.Want) (model.Lease, error) // nil: no server answers

	mu       sync.Mutex // protects the following
	handler  dhcp.Handler
	wanted   map[dhcp.Key]dhcp.Want
	asked    []dhcp.Want
	released []dhcp.Want
	answers  map[dhcp.Key]error // what the handler said
	work     sync.WaitGroup
}

// leasing returns a rig whose engine asks an office.
func leasing(t *testing.T, give func(dhcp.Want) (model.Lease, error)) *office {
	r := bare(t)
	r.quiet = true
	o := &office{rig: r, give: give}
	o.begin()
	return o
}

func (o *office) begin() {
	o.prepare()
	o.cfg.Leases = o
	o.wanted, o.answers = map[dhcp.Key]dhcp.Want{}, map[dhcp.Key]error{}
	o.e = New(o.cfg)
	o.ok(o.e.Start(o.ctx))
}

// Start is of Leases, as the others are.
func (o *office) Start(h dhcp.Handler) { o.handler = h }

func (o *office) Want(list []dhcp.Want) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := map[dhcp.Key]dhcp.Want{}
	for _, w := range list {
		now[w.Key] = w
		if old, ok := o.wanted[w.Key]; ok && old.NS == w.NS {
			continue
		}
		o.asked = append(o.asked, w)
		if o.give != nil {
			o.work.Go(func() { o.lease(w) })
		}
	}
	o.wanted = now
}

func (o *office) lease(w dhcp.Want) {
	l, err := o.give(w)
	if err != nil {
		o.handler.Trouble(w.Key, err)
		return
	}
	err = o.handler.Leased(w.Key, l)
	if err != nil {
		o.handler.Trouble(w.Key, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[w.Key] = err
}

func (o *office) Release(w dhcp.Want) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.released = append(o.released, w)
	return nil
}

// lan is the lease of a usual server: each client has an address of its own.
func lanLease(last int) model.Lease {
	return model.Lease{Addr: netip.MustParsePrefix(fmt.Sprintf("192.168.5.%d/24", last)), Server: netip.MustParseAddr("192.168.5.1"),
		Router: netip.MustParseAddr("192.168.5.1"), DNS: []netip.Addr{netip.MustParseAddr("192.168.5.3")}, Search: []string{"lan.example"}, MTU: 1300,
		Routes:  []model.Route{{Dst: netip.MustParsePrefix("203.0.113.0/24"), Via: netip.MustParseAddr("192.168.5.2")}},
		Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func fixed(last int) func(dhcp.Want) (model.Lease, error) {
	return func(dhcp.Want) (model.Lease, error) { return lanLease(last), nil }
}

var byDHCP = EndpointSpec{Network: "lan", DHCP4: true, DHCP: model.DHCPOptions{Timeout: time.Second}}

func TestLeaseIsIntent(t *testing.T) {
	o := leasing(t, fixed(50))
	o.network("lan", "ipam=none")
	sb := o.sandbox("web", SandboxSpec{Networks: []EndpointSpec{byDHCP}})
	text := o.k.Dump()
	for _, object := range o.rig.wanted() {
		if f, ok := object.(kstate.File); ok {
			text += f.Content
		}
	}
	for _, line := range []string{
		"addr 192.168.5.50/24 dev eth0", "route default via 192.168.5.1 dev eth0", "route 203.0.113.0/24 via 192.168.5.2", "mtu 1300",
		"nameserver 127.0.0.11", "search lan.example", "192.168.5.50\tweb",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	o.check()
	w := o.asked[0]
	if w.Request.Hostname != "web" || w.Device != "eth0" || w.MAC != sb.Endpoints[0].MAC || w.Name != "web on lan" {
		t.Errorf("asked: %+v", w)
	}
	if v := o.e.dnsView(sb); len(v.Servers) != 1 || v.Servers[0].String() != "192.168.5.3:53" {
		t.Errorf("asks %v for names", v.Servers)
	}

	// Another address takes the place of all that came with the first.
	o.ok(o.handler.Leased(w.Key, model.Lease{Addr: netip.MustParsePrefix("192.168.6.60/24"), Server: netip.MustParseAddr("192.168.6.1")}))
	if dump := o.k.Dump(); strings.Contains(dump, "192.168.5.") || strings.Contains(dump, "mtu 1300") || !strings.Contains(dump, "192.168.6.60/24") {
		t.Errorf("after a change:\n%s", dump)
	}
	o.check()

	// The daemon dies: the lease is there, and is what the client begins with.
	o.die()
	o.asked = nil
	o.give = nil
	o.begin()
	if len(o.asked) != 1 || o.asked[0].Request.Lease.Addr.String() != "192.168.6.60/24" {
		t.Errorf("asked after a crash: %+v", o.asked)
	}
	o.check()

	o.handler.Lost(w.Key, errors.New("the lease ended"))
	if sb := must[*model.Sandbox](o.rig)(o.e.Sandbox("web")); len(sb.Endpoints[0].Outside) != 0 || o.e.SandboxStatus(sb).Message != "network lan: dhcp: the lease ended" {
		t.Errorf("%+v, %+v", sb.Endpoints[0], o.e.SandboxStatus(sb))
	}
	o.check()
}

// What the user said is not the server's to change.
func TestUserGoesFirst(t *testing.T) {
	o := leasing(t, fixed(50))
	o.network("lan", "ipam=none")
	mine := netip.MustParseAddr("192.168.5.9")
	spec := byDHCP
	spec.Routers, spec.MTU = []netip.Addr{mine}, 1200
	spec.Routes = []model.Route{{Dst: netip.MustParsePrefix("203.0.113.0/24"), Via: mine}}
	sb := o.sandbox("web", SandboxSpec{Networks: []EndpointSpec{spec}})
	check := func() {
		t.Helper()
		ep := must[*model.Sandbox](o.rig)(o.e.Sandbox("web")).Endpoints[0]
		if ep.Router(false) != mine || ep.MTU != 1200 || len(ep.Routes) != 1 || ep.Routes[0].Via != mine {
			t.Errorf("%+v", ep)
		}
	}
	check()
	o.handler.Lost(dhcp.Key{Endpoint: sb.Endpoints[0].ID}, errors.New("gone"))
	check()
	o.check()
}

// Without a lease nothing stays, and the cause is told.
func TestNoLease(t *testing.T) {
	for name, c := range map[string]struct {
		give func(dhcp.Want) (model.Lease, error)
		want string
	}{
		"silent": {nil, "network lan: connect web: dhcp: no server answered within 1s"},
		"wrong": {func(dhcp.Want) (model.Lease, error) {
			return model.Lease{}, errors.New("server 192.168.5.1: offers nonsense")
		}, "dhcp: server 192.168.5.1: offers nonsense"},
	} {
		o := leasing(t, c.give)
		o.network("lan", "ipam=none")
		o.network("app", "10.1.0.0/24")
		o.sandbox("web", SandboxSpec{Networks: on("app")})
		before := o.summary() + o.k.Dump()
		_, _, err := o.e.Connect(o.ctx, "web", byDHCP, ports("8080:80"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if after := o.summary() + o.k.Dump(); after != before {
			t.Errorf("%s: it left (- before, + after)\n%s", name, cmp.Diff(before, after))
		}
		if _, err := o.e.CreateSandbox(o.ctx, SandboxSpec{Name: "db", Networks: []EndpointSpec{byDHCP}}); err == nil || !strings.Contains(err.Error(), "sandbox db: create: network lan: dhcp: ") {
			t.Errorf("%s: %v", name, err)
		}
		if len(o.e.Sandboxes()) != 1 || len(o.wanted) != 0 {
			t.Errorf("%s: left: %v", name, o.wanted)
		}
		o.check()
	}
}

// TestEndedWithoutLease: whose container ends while a server is waited for is told so
// at once.
func TestEndedWithoutLease(t *testing.T) {
	o := leasing(t, nil)
	o.network("lan", "ipam=none")
	o.inn.run("docker:web", "docker:db")
	before := o.summary()
	end := map[string]func(string){"docker:web": o.inn.remove, "docker:db": func(ref string) { o.inn.stop(ref) }}
	patient := byDHCP
	patient.DHCP.Timeout = time.Minute
	for name, connect := range map[string]func() error{
		"docker:web": func() error { _, _, err := o.e.Connect(o.ctx, "docker:web", patient, nil); return err },
		"docker:db": func() error {
			_, _, err := o.e.Plug(o.ctx, "docker:db", PlugSpec{Device: "br1", Command: "br1 -i eth1 db dhcp", Endpoint: EndpointSpec{IfName: "eth1", DHCP4: true, DHCP: patient.DHCP}})
			return err
		},
	} {
		told := make(chan error)
		go func() { told <- connect() }()
		eventually(t, "the lease is waited for", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return len(o.wanted) == 1 })
		end[name](name)
		o.inn.hint(name)
		select {
		case err := <-told:
			if model.KindOf(err) != model.Gone || !strings.HasSuffix(err.Error(), "connect "+name+": dhcp: the container ended, or was disconnected, before a server answered") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal(name, "is waited for")
		}
	}
	if after := o.summary(); after != before {
		t.Errorf("it left (- before, + after)\n%s", cmp.Diff(before, after))
	}
}

// The same pipework command again, after one that was cut off, waits for the lease
// too, and takes away nothing that it did not make.
func TestPlugAgainWithoutLease(t *testing.T) {
	o := leasing(t, nil)
	o.network("app", "10.1.0.0/24")
	o.sandbox("web", SandboxSpec{Networks: on("app")})
	spec := PlugSpec{Device: "br1", Command: "br1 -i eth1 web dhcp", Endpoint: EndpointSpec{IfName: "eth1", DHCP4: true, DHCP: byDHCP.DHCP}}
	who := must[answer](o.rig)(o.e.askRunning(o.ctx, "device br1", "connect web", "web", nil))
	if _, _, made, err := o.e.plugIn(o.ctx, who, spec); !made || err != nil {
		t.Fatal(made, err)
	}
	_, _, err := o.e.Plug(o.ctx, "web", spec)
	if err == nil || err.Error() != "device br1: connect web: dhcp: no server answered within 1s" {
		t.Errorf("again, no server: %v", err)
	}
	if sb := must[*model.Sandbox](o.rig)(o.e.Sandbox("web")); len(sb.Endpoints) != 2 {
		t.Fatal("the endpoint of the first command is gone")
	}
	o.mu.Lock()
	o.give = fixed(7)
	wanted := maps.Clone(o.wanted)
	o.mu.Unlock()
	for _, w := range wanted {
		o.lease(w)
	}
	if _, ep, err := o.e.Plug(o.ctx, "web", spec); err != nil || len(ep.Outside) != 1 {
		t.Errorf("again, with a lease: %+v, %v", ep, err)
	}
}

// An address that another container of ours has is refused, and its server told.
func TestLeaseOfAnothers(t *testing.T) {
	o := leasing(t, fixed(50))
	o.network("lan", "ipam=none")
	o.sandbox("first", SandboxSpec{Networks: []EndpointSpec{byDHCP}})
	_, err := o.e.CreateSandbox(o.ctx, SandboxSpec{Name: "second", Networks: []EndpointSpec{byDHCP}})
	if err == nil || !strings.Contains(err.Error(), "192.168.5.50: used by sandbox first") {
		t.Error(err)
	}
	o.work.Wait()
	for _, said := range o.answers {
		if said != nil && model.KindOf(said) != model.Conflict {
			t.Errorf("the client hears %v", said)
		}
	}
	o.check()
}

// A container that stops keeps its lease; what goes for good gives it back first.
func TestRelease(t *testing.T) {
	o := leasing(t, fixed(50))
	o.network("lan", "ipam=none")
	o.inn.run("docker:web")
	_, ep, err := o.e.Connect(o.ctx, "docker:web", byDHCP, nil)
	o.ok(err)
	o.inn.stop("docker:web")
	o.ok(func() error { _, err := o.e.Sync(o.ctx, "test"); return err }())
	if len(o.released) != 0 || len(o.wanted) != 0 {
		t.Errorf("stopped: released %v, wanted %v", o.released, o.wanted)
	}
	o.give = nil
	o.inn.start("docker:web")
	o.e.Kick("test")
	eventually(t, "asked again", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.asked) == 2 && o.asked[1].Request.Lease != nil && o.asked[1].MAC == ep.MAC
	})
	o.ok(o.e.Disconnect(o.ctx, "docker:web", "lan"))
	if len(o.released) != 1 || o.released[0].Request.Lease.Addr.String() != "192.168.5.50/24" || len(o.wanted) != 0 {
		t.Errorf("released %+v, wanted %v", o.released, o.wanted)
	}
	o.check()
}

func TestRefusedDHCP(t *testing.T) {
	o := leasing(t, fixed(50))
	o.network("lan", "ipam=none")
	o.network("app", "10.1.0.0/24")
	o.sandbox("web", SandboxSpec{})
	for want, change := range map[string]func(*EndpointSpec){
		"the host gives its addresses": func(s *EndpointSpec) { s.Network = "app" },
		"is given an address":          func(s *EndpointSpec) { s.Outside = []netip.Prefix{netip.MustParsePrefix("192.168.5.9/24")} },
		"is not asked of a server":     func(s *EndpointSpec) { s.DHCP4 = false },
		"disable_ipv6 turns IPv6 off":  func(s *EndpointSpec) { s.DHCP6 = true; s.Sysctls = []string{"net.ipv6.conf.IFNAME.disable_ipv6=1"} },
		"connect web: no such network": func(s *EndpointSpec) { s.Network = "nosuch" },
		"no such sandbox":              nil,
	} {
		spec, ref := byDHCP, "web"
		if change == nil {
			ref = "nobody"
		} else {
			change(&spec)
		}
		if _, _, err := o.e.Connect(o.ctx, ref, spec, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	o.check()
}

// An address that a neighbour has is not used; those of our own are not asked about.
func TestProbed(t *testing.T) {
	r := bare(t)
	r.quiet = true
	r.prepare()
	var mu sync.Mutex
	var asked []string
	r.cfg.Probe = func(_ context.Context, w announce.Wire, a netip.Addr) (net.HardwareAddr, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, w.Device+" "+a.String())
		if a.As4()[3] == 5 {
			return net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, nil
		}
		return nil, nil
	}
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	r.network("lan", "ipam=none", "name=br0")
	r.network("app", "10.1.0.0/24")
	at := func(text string) EndpointSpec {
		return EndpointSpec{Network: "lan", Outside: []netip.Prefix{netip.MustParsePrefix(text)}}
	}
	r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.5")}}}})
	before := r.all()
	if _, _, err := r.e.Connect(r.ctx, "web", at("192.168.1.5/24"), nil); err == nil || err.Error() != "network lan: connect web: address 192.168.1.5: used by 52:54:00:01:02:03" || model.KindOf(err) != model.Conflict {
		t.Error(err)
	}
	if r.all() != before {
		t.Errorf("it left (- before, + after)\n%s", cmp.Diff(before, r.all()))
	}
	_, _, err := r.e.Connect(r.ctx, "web", at("192.168.1.6/24"), nil)
	r.ok(err)
	if _, _, err := r.e.Connect(r.ctx, "web", at("192.168.1.6/24"), nil); err == nil || strings.Contains(err.Error(), "used by") {
		t.Errorf("its own: %v", err)
	}
	off := at("192.168.2.5/24")
	off.NoDAD = true
	r.sandbox("db", SandboxSpec{Networks: []EndpointSpec{off}})
	if want := []string{"br0 192.168.1.5", "br0 192.168.1.6"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	r.check()
}
