package engine

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// publishAs are ports to publish, each as model.ParsePublish has it.
func publishAs(t *testing.T, texts ...string) (out []model.Publish) {
	t.Helper()
	for _, text := range texts {
		p, err := model.ParsePublish(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p...)
	}
	return out
}

// takes waits until a published port of a service is taken on a host by who a text says,
// "" by nobody.
func (r *rig) takes(ref string, port uint16, want string) {
	r.Helper()
	eventually(r.T, ref+": "+want, func() bool {
		s, err := r.e.Service(ref)
		if err != nil {
			return false
		}
		for _, p := range s.Publish {
			if p.Port == port {
				return p.Taken == want
			}
		}
		return false
	})
}

// keepsPort says who is said to have a port, to a container that wants it.
func (r *rig) keepsPort(port, want string) {
	r.Helper()
	_, err := r.e.CreateSandbox(r.ctx, SandboxSpec{Name: "thief", Networks: on("bridge"), Ports: ports(port)})
	if model.KindOf(err) != model.Conflict || !strings.Contains(err.Error(), want) {
		r.Errorf("port %s: %v, want %s", port, err, want)
	}
}

// A published port is the service's on every host, from its creation to its end; what
// containers have, on whatever host, no service gets.
func TestPublishService(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	_, err := a.overlay("app", nil, "10.1.0.0/24")
	a.ok(err)
	b.knows("app", true)
	b.sandbox("db", SandboxSpec{Networks: on("bridge"), Ports: ports("7000-7001:70-71")})
	spec := ServiceSpec{Name: "web", Network: "app", Publish: publishAs(t, "7001:80")}
	eventually(t, "a knows what b's container has", func() bool {
		s, err := a.e.CreateService(a.ctx, spec)
		if err == nil {
			a.ok(a.e.RemoveService(a.ctx, string(s.ID)))
			return false
		}
		return model.KindOf(err) == model.Conflict && strings.Contains(err.Error(), "service web: create: port 7001/tcp: container db of host b has it")
	})
	_, err = b.e.CreateService(b.ctx, spec)
	if err == nil || !strings.Contains(err.Error(), "port 7001/tcp: container db of host b has it") {
		t.Errorf("b's own: %v", err)
	}
	spec.Publish = publishAs(t, "8080:80", "8081:80/udp", "8082:80,mode=host")
	made, err := a.e.CreateService(a.ctx, spec)
	a.ok(err)
	if len(made.Ports) != 2 || made.Ports[1].Proto != "udp" {
		t.Errorf("its ports are %v", made.Ports)
	}
	for _, r := range []*rig{a, b} {
		r.takes("web", 8080, "")
		r.keepsPort("8080:80", "port 8080/tcp: published by service web")
		r.keepsPort("127.0.0.1:8081:80/udp", "port 8081/udp: published by service web")
		r.checks()
	}
	// With mode=host it is reserved where a backend is.
	a.sandbox("mine", SandboxSpec{Networks: on("bridge"), Ports: ports("8082:80")})
	b.sandbox("one", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Services: []model.Membership{{Service: "web"}}}}})
	eventually(t, "b's backend is known", func() bool {
		s, err := b.e.Service("web")
		return err == nil && len(s.Backends) == 1 && s.Backends[0].Node > 0
	})
	b.keepsPort("8082:80", "published by service web")
	if s, err := b.e.Service("web"); err != nil || s.Backends[0].Node != b.e.HostNumber(b.e.cfg.Cluster.Node.ID) {
		t.Errorf("%+v, %v", s.Backends, err)
	}

	// A daemon that starts again keeps them, also when nobody tells it.
	b.again()
	b.keepsPort("8080:80", "published by service web")
	b.checks()
	_, err = b.e.UpdateService(b.ctx, "web", ServiceUpdate{PublishRm: []model.ServicePort{{Port: 9, Proto: "tcp"}}})
	if model.KindOf(err) != model.NotFound || !strings.Contains(err.Error(), "service web: update: port 9/tcp: is not published") {
		t.Errorf("%v", err)
	}
	nearby := true
	up, err := b.e.UpdateService(b.ctx, "web", ServiceUpdate{PublishRm: []model.ServicePort{{Port: 8080, Proto: "tcp"}}, Publish: publishAs(t, "9090:80"), Nearby: &nearby})
	b.ok(err)
	if !up.Nearby || len(up.Publish) != 3 || up.Publish[2].Port != 9090 {
		t.Errorf("%+v", up.Service)
	}
	a.takes("web", 9090, "")
	a.sandbox("late", SandboxSpec{Networks: on("bridge"), Ports: ports("8080:80")})
	a.keepsPort("9090:80", "published by service web")
	b.ok(b.e.RemoveService(b.ctx, "web"))
	eventually(t, "it is gone on a", func() bool { _, err := a.e.Service("web"); return err != nil })
	a.sandbox("later", SandboxSpec{Networks: on("bridge"), Ports: ports("9090:80")})
	a.checks()
	b.checks()
}

// Where a container was quicker the service does not answer, and says so, until that
// gives the port back.
func TestPublishTaken(t *testing.T) {
	m := cluster.NewMemory(nil)
	away := make(chan bool, 1)
	away <- false
	a := member(t, m, "a", "198.51.100.9")
	b := member(t, switchable{m, func() bool { v := <-away; away <- v; return v }}, "b", "198.51.100.8")
	_, err := a.overlay("app", nil, "10.1.0.0/24")
	a.ok(err)
	b.knows("app", true)
	<-away
	away <- true // it cannot say what its containers have
	b.sandbox("db", SandboxSpec{Networks: on("bridge"), Ports: ports("8080:80")})
	_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: "web", Network: "app", Publish: publishAs(t, "8080:80", "8081:80")})
	a.ok(err)
	b.takes("web", 8080, "container db has it")
	b.takes("web", 8081, "")
	if st := b.e.ServiceStatus(must[Service](b)(b.e.Service("web"))); st.State != StateDegraded || st.Message != "port 8080/tcp: container db has it" {
		t.Errorf("%+v", st)
	}
	b.checks()
	<-away
	away <- false
	b.again()
	b.takes("web", 8080, "container db has it")
	a.takes("web", 8080, "")
	b.ok(b.e.RemoveSandbox(b.ctx, "db", true))
	b.takes("web", 8080, "")
	b.keepsPort("8080:80", "published by service web")
	b.checks()
}

// What another program has hinders no other port, and nothing else of the network.
func TestPublishSquatted(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	_, err := a.overlay("app", nil, "10.1.0.0/24")
	a.ok(err)
	b.knows("app", true)
	stop := must[func()](b)(b.k.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:8080"), "httpd"))
	_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: "web", Network: "app", Publish: publishAs(t, "8080:80", "8081:80")})
	a.ok(err)
	b.takes("web", 8080, squat)
	b.takes("web", 8081, "")
	b.sandbox("one", SandboxSpec{Networks: on("app")})
	b.checks()
	b.e.retrySquatted(b.ctx)
	b.takes("web", 8080, squat)
	b.again()
	b.takes("web", 8080, squat)
	stop()
	b.e.retrySquatted(b.ctx)
	b.takes("web", 8080, "")
	b.checks()
}

// A network whose service gives a port up leaves it to one of another network.
func TestPublishPassedOn(t *testing.T) {
	a := member(t, cluster.NewMemory(nil), "a", "198.51.100.9")
	for name, prefix := range map[string]string{"app": "10.1.0.0/24", "more": "10.2.0.0/24"} {
		_, err := a.overlay(name, nil, prefix)
		a.ok(err)
		_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: "web", Network: name, Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}}})
		a.ok(err)
	}
	from, to := "app/web", "more/web"
	for range 6 {
		_, err := a.e.UpdateService(a.ctx, from, ServiceUpdate{Publish: publishAs(t, "8080:80")})
		a.ok(err)
		_, err = a.e.UpdateService(a.ctx, to, ServiceUpdate{Publish: publishAs(t, "8080:80")})
		if model.KindOf(err) != model.Conflict || !strings.Contains(err.Error(), "port 8080/tcp: service web of network "+strings.TrimSuffix(from, "/web")+" has it") {
			t.Errorf("%v", err)
		}
		a.takes(from, 8080, "")
		_, err = a.e.UpdateService(a.ctx, from, ServiceUpdate{PublishRm: []model.ServicePort{{Port: 8080, Proto: "tcp"}}})
		a.ok(err)
		from, to = to, from
	}
	a.checks()
}

// A host that drops what the mesh brings says so as long as it does, of what goes by the
// mesh and of nothing else.
func TestStrictPaths(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	_, err := a.overlay("app", nil, "10.1.0.0/24")
	a.ok(err)
	_, err = a.e.CreateNetwork(a.ctx, NetworkSpec{Name: "six", Driver: model.DriverOverlay, NoIPv4: true, IPv6: true})
	a.ok(err)
	b.knows("app", true)
	wishes := map[string]string{"web": "8080:80", "near": "8081:80,mode=host", "there": "198.51.100.8:8082:80", "plain": ""}
	for name, publish := range wishes {
		spec := ServiceSpec{Name: name, Network: "app", Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}}}
		if publish != "" {
			spec.Publish = publishAs(t, publish)
		}
		_, err := a.e.CreateService(a.ctx, spec)
		a.ok(err)
	}
	_, err = a.e.CreateService(a.ctx, ServiceSpec{Name: "web6", Network: "six", Publish: publishAs(t, "8083:80")})
	a.ok(err)
	eventually(t, "a way by the mesh", func() bool { o := a.knows("app", true).Overlay; return o.Mesh != nil && len(o.Mesh.Hosts) == 1 })
	host := a.e.cfg.Host
	for _, strict := range []bool{true, false} {
		a.e.work.Lock()
		a.e.cfg.Host = func() Host { h := host(); h.StrictPaths = strict; return h }
		a.e.work.Unlock()
		must[[]kstate.Op](t)(a.e.Sync(a.ctx, "test"))
		told := map[string]Status{"network app": a.e.NetworkStatus(a.knows("app", true)), "network six": a.e.NetworkStatus(a.knows("six", true))}
		for _, s := range a.e.Services() {
			told[s.Name] = a.e.ServiceStatus(s)
		}
		for name, st := range told {
			said := st.State == StateDegraded && strings.HasPrefix(st.Message, "net.ipv4.conf.all.rp_filter is 1: ") && !st.Since.IsZero()
			if want := strict && (name == "network app" || name == "web" || name == "there"); said != want {
				t.Errorf("strict %v: %s: %+v", strict, name, st)
			}
		}
	}
	if st := b.e.NetworkStatus(b.knows("app", true)); st.State != StateReady {
		t.Errorf("another host: %+v", st)
	}
}
