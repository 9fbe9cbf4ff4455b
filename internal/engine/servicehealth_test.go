package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/health"
)

// ward is a host's checks, which find what the test says.
type ward struct {
	mu     sync.Mutex
	report func(health.Check, model.HealthState)
	want   []health.Check
}

func (w *ward) Start(f func(health.Check, model.HealthState)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = f
}

func (w *ward) Want(all []health.Check) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want = slices.Clone(all)
}

func (w *ward) Trouble(name string) string { return "trouble of " + name }

// checked waits until a backend is asked, by its address, as a text says: "state"; "": it is
// not.
func (w *ward) checked(t *testing.T, to, want string) (c health.Check) {
	t.Helper()
	eventually(t, to+" is asked as "+want, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		i := slices.IndexFunc(w.want, func(c health.Check) bool { return c.To.String() == to })
		if i < 0 {
			return want == ""
		}
		c = w.want[i]
		return string(c.State) == want
	})
	return c
}

// finds has a check find something.
func (w *ward) finds(c health.Check, s model.HealthState) {
	w.mu.Lock()
	f := w.report
	w.mu.Unlock()
	f(c, s)
}

// nurse gives a host checks, with a new daemon.
func (r *rig) nurse() *ward {
	w := &ward{}
	c := r.cfg.Cluster
	r.die()
	r.prepare()
	r.cfg.Cluster, r.cfg.Checks = c, w
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	return w
}

// checkedHosts are two hosts with a service whose backends each host checks.
func checkedHosts(t *testing.T, h *model.Health) (a, b *rig, at, bt *ward) {
	m := cluster.NewMemory(nil)
	a, b = member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	at, bt = a.nurse(), b.nurse()
	_, err := a.e.CreateNetwork(a.ctx, NetworkSpec{Name: "app", Driver: model.DriverOverlay, Subnets: []model.Subnet{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Range: netip.MustParsePrefix("10.1.0.0/25")}, // backends' are not in it
	}})
	a.ok(err)
	b.knows("app", true)
	_, err = b.e.CreateService(b.ctx, ServiceSpec{Name: "web", Network: "app", Ports: []model.ServicePort{{Port: 53, Proto: "udp"}, {Port: 80, Proto: "tcp"}}, Health: h})
	b.ok(err)
	eventually(t, "a knows the service", func() bool { _, err := a.e.Service("web"); return err == nil })
	return a, b, at, bt
}

func (r *rig) backend(name, addr, port string) *model.Sandbox {
	r.Helper()
	m, err := model.ParseMembership("web" + port)
	r.ok(err)
	return r.sandbox(name, SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs(addr), Services: []model.Membership{m}}}})
}

var tcp = &model.Health{Interval: time.Second, Timeout: time.Second, Retries: 2}

func TestServiceHealth(t *testing.T) {
	a, b, at, bt := checkedHosts(t, tcp)
	a.backend("one", "10.1.0.201", ":8080")
	b.backend("two", "10.1.0.202", "")
	sorted := func(one, two string) {
		t.Helper()
		for _, r := range []*rig{a, b} {
			eventually(t, one+", "+two, func() bool {
				s, err := r.e.Service("web")
				var all []string
				for _, b := range s.Backends {
					all = append(all, fmt.Sprintf("%s/%s %s", b.Host, b.Sandbox, b.State))
				}
				slices.Sort(all)
				return err == nil && strings.Join(all, ", ") == "a/one "+one+", b/two "+two
			})
		}
	}

	// They begin as starting; each host asks its own, where they serve.
	sorted("starting", "starting")
	one, two := at.checked(t, "10.1.0.201:8080", "starting"), bt.checked(t, "10.1.0.202:80", "starting")
	at.checked(t, "10.1.0.202:80", "")
	s, err := a.e.Service("web")
	a.ok(err)
	if st := a.e.ServiceStatus(s); st.State != StateDegraded || st.Message != "no backend is ready: 2 starting" {
		t.Errorf("%+v", st)
	}
	at.finds(one, model.HealthUp)
	sorted("ready", "starting")
	bt.finds(two, model.HealthDown)
	sorted("ready", "unhealthy")
	s, err = b.e.Service("web")
	b.ok(err)
	for _, m := range s.Backends {
		if (m.Since.IsZero()) || m.Local != (b.e.BackendTrouble(s.Service, &m) != "") {
			t.Errorf("%+v", m)
		}
	}
	if st := b.e.ServiceStatus(s); st.State != StateReady {
		t.Errorf("%+v", st)
	}

	// A daemon that starts again goes on with what it knew. What another check found, of
	// what was there before, is nothing.
	before := two
	bt = b.nurse()
	two = bt.checked(t, "10.1.0.202:80", "unhealthy")
	before.Seat += "x"
	bt.finds(before, model.HealthUp)
	at.finds(one, model.HealthDown)
	sorted("unhealthy", "unhealthy")
	bt.finds(two, model.HealthUp)
	sorted("unhealthy", "ready")

	// What cannot be stored is tried again.
	refused := false
	b.proc.commits(func(int) error {
		if refused {
			return nil
		}
		refused = true
		return errors.New("refused by the test")
	})
	bt.finds(two, model.HealthDown)
	sorted("unhealthy", "unhealthy")
	bt.finds(two, model.HealthUp)
	sorted("unhealthy", "ready")
	a.checks()
	b.checks()

	// Without checks all have their share, and keep it when there are some again.
	_, err = b.e.UpdateService(b.ctx, "web", ServiceUpdate{Health: model.HealthWish{What: "none"}})
	b.ok(err)
	sorted("ready", "ready")
	at.checked(t, "10.1.0.201:8080", "")
	_, err = a.e.UpdateService(a.ctx, "web", ServiceUpdate{Health: model.HealthWish{What: "http:/up", Retries: 9}})
	a.ok(err)
	eventually(t, "it is asked", func() bool { one = at.checked(t, "10.1.0.201:8080", ""); return one.Path == "/up" && one.Retries == 9 })
	sorted("ready", "ready")
	at.finds(one, model.HealthUp)
	at.checked(t, "10.1.0.201:8080", "healthy")
	sorted("ready", "ready")
	for _, bad := range []ServiceUpdate{{Ports: []model.ServicePort{{Port: 53, Proto: "udp"}}}, {Health: model.HealthWish{Interval: 1}}} {
		if _, err := a.e.UpdateService(a.ctx, "web", bad); model.KindOf(err) != model.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	a.checks()
	b.checks()
}

// TestServiceHealthAnew: a container that starts again begins anew, at once.
func TestServiceHealthAnew(t *testing.T) {
	a, b, at, _ := checkedHosts(t, tcp)
	a.inn.run("docker:one")
	_, _, err := a.e.Connect(a.ctx, "docker:one", EndpointSpec{Network: "app", Addrs: addrs("10.1.0.201"), Services: []model.Membership{{Service: "web"}}}, nil)
	a.ok(err)
	c := at.checked(t, "10.1.0.201:80", "starting")
	at.finds(c, model.HealthUp)
	b.served("web", "a/one:0*0 ready")
	a.inn.restart("docker:one")
	again := at.checked(t, "10.1.0.201:80", "starting")
	if again.Seat == c.Seat {
		t.Errorf("%+v", again)
	}
	at.finds(c, model.HealthUp) // late
	b.served("web", "a/one:0*0 starting")
	at.finds(again, model.HealthUp)
	b.served("web", "a/one:0*0 ready")
	a.inn.stop("docker:one")
	b.served("web", "a/one:0*0 stopped")
	at.checked(t, "10.1.0.201:80", "")
	a.checks()
}

// TestServiceHealthPort: a backend that becomes ready may need a port of the host that
// another program has.
func TestServiceHealthPort(t *testing.T) {
	a, _, at, _ := checkedHosts(t, tcp)
	_, err := a.e.UpdateService(a.ctx, "web", ServiceUpdate{Publish: publishAs(t, "8080:80,mode=host")})
	a.ok(err)
	a.backend("one", "10.1.0.201", "")
	c := at.checked(t, "10.1.0.201:80", "starting")
	stop := must[func()](a)(a.k.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:8080"), "httpd"))
	defer stop()
	at.finds(c, model.HealthUp)
	a.served("web", "a/one:0*0 ready")
	a.takes("web", 8080, squat)
	a.checks()
}

// TestKeepHealth is what hosts make of what others say, and of what they knew.
func TestKeepHealth(t *testing.T) {
	now, then := time.Unix(9, 0), time.Unix(1, 0)
	for _, c := range []struct {
		local     bool
		says, was model.HealthState
		there     bool
		want      model.HealthState
		since     time.Time
	}{
		{true, "", "", false, model.HealthStarting, now},
		{true, model.HealthUp, "", false, model.HealthStarting, now},
		{true, model.HealthUp, model.HealthDown, true, model.HealthDown, then},
		{true, model.HealthUp, "", true, "", then},
		{false, "", "", false, model.HealthStarting, now},
		{false, "", "", true, "", time.Time{}},
		{false, "", model.HealthStarting, true, model.HealthStarting, then},
		{false, "", model.HealthDown, true, model.HealthStarting, then},
		{false, model.HealthUp, model.HealthDown, true, model.HealthUp, time.Time{}},
	} {
		before := &model.Service{ID: "s", Name: "web", Health: tcp}
		if c.there {
			before.Backends = []model.Member{{Endpoint: "e", Local: c.local, Health: c.was, Since: then}}
		}
		s := model.Service{ID: "s", Name: "web", Health: tcp, Backends: []model.Member{{Endpoint: "e", Local: c.local, Health: c.says, State: model.MemberReady}}}
		keepHealth(&s, before, now)
		if b := s.Backends[0]; b.Health != c.want || b.Since != c.since {
			t.Errorf("%+v: %+v", c, b)
		}
	}
	for _, before := range []*model.Service{nil, {ID: "before", Name: "web", Backends: []model.Member{{Endpoint: "e"}}}} {
		s := model.Service{ID: "s", Name: "web", Health: tcp, Backends: []model.Member{{Endpoint: "e"}}}
		if keepHealth(&s, before, now); s.Backends[0].Health != model.HealthStarting {
			t.Errorf("%+v", s)
		}
	}
}
