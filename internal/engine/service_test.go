package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// served waits until a host knows of a service's backends what a text says.
func (r *rig) served(ref, want string) Service {
	r.Helper()
	var s Service
	eventually(r.T, ref+": "+want, func() bool {
		var err error
		if s, err = r.e.Service(ref); err != nil {
			return want == ""
		}
		var all []string
		for _, b := range s.Backends {
			all = append(all, fmt.Sprintf("%s/%s:%d*%d %s", b.Host, b.Sandbox, b.Port, b.Weight, b.State))
		}
		return strings.Join(all, ", ") == want
	})
	return s
}

// A service is the same on every host; backends come before and after it, stay when a
// daemon starts again, and stop with their containers.
func TestService(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	_, err := a.overlay("app", nil, "10.1.0.0/24", "fd01::/64")
	a.ok(err)
	b.knows("app", true)
	web := []model.Membership{{Service: "Web", Port: 8080, Weight: 2}}
	sb := a.sandbox("one", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.201", "fd01::201"), Services: web}}})
	if st := MembershipState(a.knows("app", true), &sb.Endpoints[0], web[0]); st != "" {
		t.Errorf("a service that is not there: %s", st)
	}
	made, err := b.e.CreateService(b.ctx, ServiceSpec{Name: "web", Network: "app", Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}}})
	b.ok(err)
	for _, r := range []*rig{a, b} {
		if s := r.served("web", "a/one:8080*2 ready"); s.ID != made.ID || len(s.VIPs) != 2 || s.VIPs[0] != made.VIPs[0] {
			t.Errorf("%+v, want %+v", s.Service, made.Service)
		}
	}
	if st := MembershipState(a.knows("app", true), &sb.Endpoints[0], web[0]); st != model.MemberReady {
		t.Errorf("a service that is there: %s", st)
	}
	if st := b.e.ServiceStatus(b.served("web", "a/one:8080*2 ready")); st.State != StateReady {
		t.Errorf("%+v", st)
	}
	up, err := a.e.UpdateService(a.ctx, "app/web", ServiceUpdate{Drain: []string{"one"}, Ports: []model.ServicePort{{Port: 81, Proto: "udp"}}})
	a.ok(err)
	if up.Backends[0].State != model.MemberDraining || up.Ports[0].Port != 81 {
		t.Errorf("%+v", up.Service)
	}
	b.served("web", "a/one:8080*2 draining")
	_, err = b.e.UpdateService(b.ctx, "web", ServiceUpdate{Undrain: []string{"a/one"}})
	b.ok(err)
	a.served("web", "a/one:8080*2 ready")
	a.again()
	a.served("web", "a/one:8080*2 ready")
	a.checks()
	b.ok(b.e.RemoveService(b.ctx, string(made.ID)))
	eventually(t, "it is gone on a", func() bool { _, err := a.e.Service("web"); return err != nil })
	a.checks()
	b.checks()
}

// What cannot be is refused with a line.
func TestServiceRefused(t *testing.T) {
	a := member(t, cluster.NewMemory(nil), "a", "198.51.100.9")
	_, err := a.overlay("app", nil, "10.1.0.0/29")
	a.ok(err)
	a.network("local", "10.7.0.0/24")
	port := []model.ServicePort{{Port: 80, Proto: "tcp"}}
	for what, c := range map[string]struct {
		spec ServiceSpec
		kind model.Kind
		says string
	}{
		"network": {ServiceSpec{Name: "x", Network: "none-such", Ports: port}, model.NotFound, "network none-such: no such network"},
		"host's":  {ServiceSpec{Name: "x", Network: "host", Ports: port}, model.Invalid, "network host: services are of overlay networks"},
		"driver":  {ServiceSpec{Name: "x", Network: "local", Ports: port}, model.Invalid, "services are of overlay networks"},
		"name":    {ServiceSpec{Name: "a b", Network: "app", Ports: port}, model.Invalid, "name"},
		"ports":   {ServiceSpec{Name: "x", Network: "app"}, model.Invalid, "port: missing"},
	} {
		_, err := a.e.CreateService(a.ctx, c.spec)
		if model.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v", what, model.KindOf(err), err)
		}
	}
	for _, spec := range []EndpointSpec{
		{Network: "local", Services: []model.Membership{{Service: "x"}}},
		{Network: "app", Services: []model.Membership{{Service: "x"}, {Service: "X"}}},
	} {
		if _, err := a.e.CreateSandbox(a.ctx, SandboxSpec{Name: "web", Networks: []EndpointSpec{spec}}); model.KindOf(err) != model.Invalid {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	for _, name := range []string{"first", "b", "c", "d", "e"} { // which rest, of those refused above, too
		_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: name, Network: "app", Ports: port})
		a.ok(err)
	}
	_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: "second", Network: "app", Ports: port})
	if model.KindOf(err) != model.Exhausted {
		t.Errorf("no address is left: %v", err)
	}
	if _, err := a.e.UpdateService(a.ctx, "first", ServiceUpdate{Drain: []string{"x"}}); model.KindOf(err) != model.NotFound {
		t.Errorf("drain nobody: %v", err)
	}
	if err := a.e.RemoveNetwork(a.ctx, "app"); model.KindOf(err) != model.InUse || !strings.Contains(err.Error(), "still used by service b, service c, service d, service e, service first (disconnect them or remove them first)") {
		t.Errorf("remove: %v", err)
	}
	a.checks()
}

// TestMembers is how backends are, and what the names of their service mean.
func TestMembers(t *testing.T) {
	at := netip.MustParseAddr
	end := func(id, host string, stopped bool, addr string, m ...overlay.Membership) *overlay.Endpoint {
		return &overlay.Endpoint{ID: model.ID(id), Host: host, Stopped: stopped, Addrs: []netip.Addr{at(addr)}, Services: m, Sandbox: overlay.Sandbox{Name: "box" + id}}
	}
	web, api := overlay.Membership{Name: "WEB", Weight: 99}, overlay.Membership{Name: "api", Port: 9}
	v := &overlay.View{Hosts: map[string]overlay.Peer{"n1": {Host: overlay.Host{Name: "a"}}, "n2": {Host: overlay.Host{Name: "b"}, Alive: true}, "n3": {Host: overlay.Host{Name: "c"}}}}
	rec := &overlay.Part{
		Endpoints: []*overlay.Endpoint{
			end("1", "n1", false, "10.0.0.1", web), end("2", "n2", false, "10.0.0.2", web, api), end("3", "n3", false, "10.0.0.3", web), end("4", "n2", true, "10.0.0.4", web),
			end("5", "n2", false, "10.0.0.5", web), end("6", "n9", false, "10.0.0.6", web), end("7", "n2", false, "10.0.0.7"), end("8", "n2", false, "10.0.0.8", overlay.Membership{Name: "other"}),
		},
		Services: []*overlay.Service{
			{Service: model.Service{ID: "s1", Name: "api", DNSRR: true}},
			{Service: model.Service{ID: "s2", Name: "web", VIPs: []netip.Addr{at("10.0.0.9")}, Draining: []model.ID{"4", "5"}}},
		},
	}
	c := newCompany("n1", nil)
	c.take(v, rec, nil)
	got := c.parts.Services
	text := ""
	for _, s := range got {
		text += s.Name
		for _, b := range s.Backends {
			text += fmt.Sprintf(" %s/%s=%s", b.Host, b.Sandbox, b.State)
		}
		for _, h := range serviceHosts(s) {
			text += fmt.Sprintf(" %v%v", h.Names, h.Addrs)
		}
		text += "\n"
	}
	want := "api b/box2=ready [api][10.0.0.2] [tasks.api][10.0.0.2]\n" +
		"web a/box1=ready b/box2=ready c/box3=away b/box4=stopped b/box5=draining n9/box6=away [web][10.0.0.9] [tasks.web][10.0.0.1 10.0.0.2]\n"
	if text != want {
		t.Errorf("got\n%swant\n%s", text, want)
	}
	if b := got[1].Backends[0]; !b.Local || b.Weight != model.MaxWeight || got[0].Backends[0].Port != 9 {
		t.Errorf("%+v", b)
	}
}
