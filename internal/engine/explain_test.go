package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/trace"
)

// spanned starts an engine with a network over hosts of which another, b, has
// 10.5.2.0/24, and with sandboxes web on it and other beside it.
func spanned(t *testing.T) (*rig, *model.Network) {
	r := bare(t)
	r.quiet = true // what is taken away stays away
	r.prepare()
	store := cluster.NewMemory(nil)
	other := `{"PublicIP":"198.51.100.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:02"},"Sealane":{"Node":"bbbbbbbbbbbb","Name":"b"}}`
	if _, _, err := store.Commit(r.ctx, cluster.Txn{Put: []cluster.Put{{Key: "/net/subnets/10.5.2.0-24", Value: []byte(other)}}}); err != nil {
		t.Fatal(err)
	}
	r.cfg.Cluster = Cluster{Store: store, Prefix: "/net", Node: flannel.Node{Name: "a"}}
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	spec := NetworkSpec{Name: "pods", Driver: model.DriverFabric, Options: map[string]string{"backend": "vxlan"}}
	spec.Subnets = []model.Subnet{{Prefix: netip.MustParsePrefix("10.5.0.0/16")}}
	n := must[*model.Network](t)(r.e.CreateNetwork(r.ctx, spec))
	r.sandbox("web", SandboxSpec{Networks: on("pods")})
	r.sandbox("other", SandboxSpec{Networks: on("bridge")})
	return r, n
}

// stepText is a way in lines.
func stepText(w trace.Way) string {
	var lines []string
	for _, s := range w.Steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}

func TestExplain(t *testing.T) {
	r, n := spanned(t)
	dev := n.Tunnel(false)
	a := must[trace.Answer](t)(r.e.Explain(r.ctx, "web", "10.5.2.194", ""))
	if !a.There.Arrives || a.Back == nil || !a.Back.Arrives || a.There.MTU != 1400 {
		t.Fatalf("%+v", a)
	}
	for _, want := range []string{
		"route 10.5.2.0/24 via 10.5.2.0 dev " + dev + ", the lease of host b at 198.51.100.2 in network pods, in touch with the cluster since ",
		"neighbour 10.5.2.0 is 0a:00:00:00:00:02", "FDB: 0a:00:00:00:00:02 is at 198.51.100.2",
		"host eth0 (mtu 1450): 198.51.100.9 -> 198.51.100.2 UDP 8472, VNI 1",
	} {
		if !strings.Contains(stepText(a.There), want) {
			t.Errorf("nothing of %s:\n%s", want, stepText(a.There))
		}
	}
	if strings.Contains(stepText(a.There)+stepText(*a.Back), "!") {
		t.Errorf("all is as intended:\n%s\n%s", stepText(a.There), stepText(*a.Back))
	}
	a = must[trace.Answer](t)(r.e.Explain(r.ctx, "other", "web", ""))
	if a.There.Arrives || !strings.Contains(a.There.Why, "chain to_nat") {
		t.Errorf("%+v", a.There)
	}
}

// What is taken out of the kernel is missed where the packet needs it, and nothing is
// put back by asking.
func TestExplainWhatIsMissing(t *testing.T) {
	dst, gateway := netip.MustParsePrefix("10.5.2.0/24"), netip.MustParseAddr("10.5.2.0")
	for _, c := range []struct {
		name    string
		gone    func(dev string) kstate.Object
		missing string
	}{
		{"route", func(string) kstate.Object { return kstate.Route{Dst: dst} }, "missing: route 10.5.2.0/24 via 10.5.2.0 dev slt"},
		{"neighbour", func(dev string) kstate.Object { return kstate.Neigh{Dev: dev, Addr: gateway} }, "missing: neigh 10.5.2.0 lladdr 0a:00:00:00:00:02"},
		{"fdb", func(dev string) kstate.Object { return kstate.FDB{Dev: dev, MAC: "0a:00:00:00:00:02"} }, "missing: fdb 0a:00:00:00:00:02"},
		{"device", func(dev string) kstate.Object { return kstate.Link{Name: dev} }, "missing: route 10.5.2.0/24"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, n := spanned(t)
			r.k.Remove(c.gone(n.Tunnel(false)).Key())
			for range 2 {
				a := must[trace.Answer](t)(r.e.Explain(r.ctx, "web", "10.5.2.194", ""))
				if a.There.Arrives || a.Back != nil || !strings.Contains(stepText(a.There), c.missing) {
					t.Errorf("arrives: %v\n%s", a.There.Arrives, stepText(a.There))
				}
			}
			if _, err := r.e.Sync(r.ctx, "test"); err != nil {
				t.Fatal(err)
			}
			if a := must[trace.Answer](t)(r.e.Explain(r.ctx, "web", "10.5.2.194", "")); !a.There.Arrives {
				t.Errorf("after a pass:\n%s", stepText(a.There))
			}
		})
	}
}

func TestExplainRefuses(t *testing.T) {
	r, _ := spanned(t)
	for _, c := range []struct {
		from, to string
		kind     model.Kind
		text     string
	}{
		{"nobody", "web", model.NotFound, "no such sandbox"},
		{"web", "nobody", model.NotFound, "sandbox nobody: explain: no such sandbox, and no such service (sealane ps -a and sealane service ls show those there are)"},
		{"web", "host", model.Invalid, "want one of them"},
		{"web", "224.0.0.1", model.Invalid, "want the address of one host"},
		{"web", "127.0.0.1", model.Invalid, "want the address of one host"},
		{"web", "255.255.255.255", model.Invalid, "want the address of one host"},
		{"web", "::", model.Invalid, "want the address of one host"},
		{"web", "fe80::1%eth0", model.Invalid, "want the address of one host"},
		{"web", "2001:db8::1", model.Invalid, "has no IPv6 address"},
	} {
		_, err := r.e.Explain(r.ctx, c.from, c.to, "")
		if model.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}

// Who is on another host of an overlay network has a name and an address here.
func TestExplainOverlay(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b, c := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8"), member(t, m, "c", "198.51.100.7")
	n := must[*model.Network](t)(a.overlay("app", nil, "10.1.0.0/24"))
	for i, r := range []*rig{a, b, c} {
		r.knows("app", true)
		addr := netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 2)}).String()
		r.sandbox([]string{"web", "db", "db"}[i], SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs(addr)}}})
	}
	a.sandbox("other", SandboxSpec{Networks: on("bridge")})
	a.dumps(true, "neigh 10.1.0.3 lladdr 02:42:0a:01:00:03 dev "+n.Trunk(), "neigh 10.1.0.4 lladdr 02:42:0a:01:00:04 dev "+n.Trunk())
	eventually(t, "their names are known", func() bool { // after their addresses
		far := a.knows("app", true).Overlay.Far
		return !slices.ContainsFunc(far, func(f *model.Far) bool { return f.Sandbox == "" })
	})

	for _, q := range []struct{ from, to string }{{"web", "10.1.0.3"}, {"10.1.0.3", "web"}, {"10.1.0.3", "10.1.0.2"}} {
		x := must[trace.Answer](t)(a.e.Explain(a.ctx, q.from, q.to, ""))
		text := stepText(x.There) + "\n"
		if x.Back != nil {
			text += stepText(*x.Back)
		}
		for _, want := range []string{
			"10.1.0.3 is sandbox db's on host b, in touch with the cluster since ", "answers ARP itself: 10.1.0.3 is 02:42:0a:01:00:03",
			"198.51.100.9 -> 198.51.100.8 UDP 8473, VNI 4096", "198.51.100.8 -> 198.51.100.9 UDP 8473, VNI 4096", "chain outer: 198.51.100.8 is another host",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s to %s: nothing of %s:\n%s", q.from, q.to, want, text)
			}
		}
		if !x.There.Arrives || x.Back == nil || !x.Back.Arrives || x.There.MTU != 1400 || strings.Contains(text, "!") {
			t.Errorf("%s to %s: all is as intended:\n%+v", q.from, q.to, x)
		}
	}
	for _, q := range []struct{ from, to, text string }{
		{"web", "db", "sandbox db: there is one on host b and one on host c: want an address"},
		{"10.1.0.3", "10.1.0.4", "sandbox db is on host b, sandbox db on host c: ask there"},
		{"10.1.0.3", "other", "shares no network"},
		{"10.1.0.9", "web", "no such sandbox"},
		{"web", "web:99999", `way from web to web:99999: explain: port "99999": want PORT or PORT/tcp, udp or sctp, PORT from 1 to 65535`},
		{"web", "web:80/icmp", `port "80/icmp": want PORT`},
		{"web", "10.1.0.3:0", `port "0": want PORT`},
		{"web", "[fd01::2]:http", `port "http": want PORT`},
	} {
		if _, err := a.e.Explain(a.ctx, q.from, q.to, ""); err == nil || !strings.Contains(err.Error(), q.text) {
			t.Errorf("%s to %s: %v", q.from, q.to, err)
		}
	}
	if x := must[trace.Answer](t)(b.e.Explain(b.ctx, "db", "web", "")); !x.There.Arrives {
		t.Errorf("b has a db of its own: %+v", x)
	}
}

// A service is asked for by its name, its address and a port; each of its backends is
// tried.
func TestExplainService(t *testing.T) {
	m := cluster.NewMemory(nil)
	a, b := member(t, m, "a", "198.51.100.9"), member(t, m, "b", "198.51.100.8")
	must[*model.Network](t)(a.overlay("app", nil, "10.1.0.0/24"))
	a.knows("app", true)
	b.knows("app", true)
	serving := []model.Membership{{Service: "web", Port: 8080}}
	a.sandbox("one", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.2"), Services: serving}}})
	a.sandbox("cli", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.3")}}})
	a.sandbox("other", SandboxSpec{Networks: on("bridge")})
	b.sandbox("two", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: addrs("10.1.0.4"), Services: serving}}})
	s, err := a.e.CreateService(a.ctx, ServiceSpec{Name: "web", Network: "app", Ports: []model.ServicePort{{Port: 80, Proto: "tcp"}, {Port: 53, Proto: "udp"}}})
	a.ok(err)
	eventually(t, "both are backends", func() bool {
		s, err := a.e.Service("web")
		return err == nil && len(s.Backends) == 2 && s.Backends[0].Sandbox != "" && s.Backends[1].Sandbox != ""
	})
	at := s.VIPs[0].String()
	for _, c := range []struct{ from, to, backend, said string }{
		{"cli", "web", "", "choice " + at + ":80: one of 2 by chance"}, {"cli", "web:53/udp", "", at + " port 53/udp: goto pick2"},
		{"cli", "WEB.app:80", "", "asks 127.0.0.11 for web: " + at}, {"cli", "app/web", "two", at + " port 80 becomes 10.1.0.4 port 8080"},
		{"cli", at, "a/one", at + " port 80 becomes 10.1.0.2 port 8080"}, {"cli", at + ":53/udp", "b/two", "10.1.0.4 port 8080 becomes " + at + " port 53 again"},
		{"cli", "one:8080/udp", "", "10.1.0.2 port 8080/udp is where a backend answers"}, {"one", "web:53/udp", "one", "a backend that chose itself"},
		{"one", "web", "one", "10.1.0.2 is its own address"},
	} {
		x := must[trace.Answer](t)(a.e.Explain(a.ctx, c.from, c.to, c.backend))
		text := stepText(x.There) + "\n"
		if x.Back != nil {
			text += stepText(*x.Back)
		}
		if !x.There.Arrives || x.Back == nil || !x.Back.Arrives || !strings.Contains(text, c.said) || strings.Contains(text, "!") {
			t.Errorf("%s to %s by %s: want %s:\n%s", c.from, c.to, c.backend, c.said, text)
		}
	}
	for _, q := range []struct{ from, to, backend, text string }{
		{"cli", "web", "nobody", "service web: explain: backend nobody: no such backend"}, {"cli", "one", "one", "only services have backends"},
		{"cli", "web:0", "", `port "0": want PORT`}, {"two", "web", "", "is on host b, which chooses a backend of service web for it: ask there"},
		{"cli", "host:80", "", "want one of them"}, {"cli", ":80", "", "want one of them before the port"}, {"world", ":80", "", "want one of them before the port"},
		{"world:224.0.0.1", ":80", "", "want world:ADDRESS"}, {"world:web", ":80", "", "want world:ADDRESS"}, {"world:192.0.2.9", ":80", "one", "only services have backends"}, {"cli", "224.0.0.1:80", "", "want the address of one host"},
	} {
		if _, err := a.e.Explain(a.ctx, q.from, q.to, q.backend); err == nil || !strings.Contains(err.Error(), q.text) {
			t.Errorf("%s to %s by %q: %v", q.from, q.to, q.backend, err)
		}
	}
	for _, q := range []struct{ from, to, why string }{
		{"other", "web", "nobody on its networks is called web"}, {"host", "web", "the host itself is no client"}, {"cli", "web:81", "has no port 81/tcp, but 80/tcp, 53/udp"},
		{"world:198.51.100.1", "cli", "only answers and published ports may enter"},
	} {
		if x := must[trace.Answer](t)(a.e.Explain(a.ctx, q.from, q.to, "")); x.There.Arrives || !strings.Contains(x.There.Why, q.why) {
			t.Errorf("%s to %s: %+v", q.from, q.to, x.There)
		}
	}
	must[Service](t)(a.e.UpdateService(a.ctx, "web", ServiceUpdate{Drain: []string{"two"}}))
	if x := must[trace.Answer](t)(a.e.Explain(a.ctx, "cli", "web", "")); !strings.Contains(stepText(x.There), "sandbox two on host b drains") || !x.There.Arrives {
		t.Errorf("%+v", x.There)
	}
}

func TestParseTarget(t *testing.T) {
	addr := netip.MustParseAddr
	for text, want := range map[string]target{
		"web": {name: "web"}, "web:80": {name: "web", port: 80, proto: "tcp"}, "app/web:53/udp": {name: "app/web", port: 53, proto: "udp"},
		"10.1.0.2": {addr: addr("10.1.0.2")}, "10.1.0.2:80": {name: "10.1.0.2", addr: addr("10.1.0.2"), port: 80, proto: "tcp"},
		"fd01::2": {addr: addr("fd01::2")}, "fd01::80": {addr: addr("fd01::80")}, "[fd01::2]:80": {name: "[fd01::2]", addr: addr("fd01::2"), port: 80, proto: "tcp"},
		"docker:80": {name: "docker:80"}, "pid:80": {name: "pid:80"}, "docker:web:80": {name: "docker:web", port: 80, proto: "tcp"},
		"netns:/run/a:80": {name: "netns:/run/a:80"}, "cni:80": {name: "cni:80"}, "web:0": {name: "web:0"}, "web:http": {name: "web:http"}, ":80": {port: 80, proto: "tcp"},
	} {
		if got := parseTarget(text); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
}
