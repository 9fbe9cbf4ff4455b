package server_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/api/server"
	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/cluster/member"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/store"
)

// idle are processes that run until somebody kills them.
type idle struct{}

func (idle) Alive(model.Process) bool                        { return true }
func (idle) Wait(ctx context.Context, _ model.Process) error { <-ctx.Done(); return ctx.Err() }
func (idle) Kill(*model.Process, string) error               { return nil }
func (idle) Run(context.Context, kstate.NS, []string) (engine.Ran, error) {
	return engine.Ran{Stdout: []byte("done\n")}, nil
}

// yard moves NICs by noting so.
type yard struct{ ports []uplink.Port }

func (y *yard) Attach(_ context.Context, mv uplink.Move) (uplink.Report, error) {
	y.ports = append(y.ports, uplink.Port{NIC: mv.NIC, Bridge: mv.Bridge, Made: mv.Make})
	return uplink.Report{Made: mv.Make, Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.9/24")}, Answering: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}, nil
}

func (y *yard) Detach(context.Context, uplink.Move) (uplink.Report, error) {
	y.ports = nil
	return uplink.Report{}, nil
}

func (y *yard) Recover() ([]uplink.Recovered, error) { return nil, nil }
func (y *yard) Ports() ([]uplink.Port, error)        { return y.ports, nil }
func (y *yard) Sweep([]string) ([]string, error)     { return nil, nil }

// club is a cluster that everybody may join and leave.
type club struct{ hosts []member.Record }

func (c *club) Init(context.Context, netip.Addr) (member.Invitation, error) {
	return c.Invite(context.Background(), true)
}

func (c *club) Join(_ context.Context, _, _ string, addr netip.Addr) error {
	c.hosts = append(c.hosts, member.Record{Name: "a", Addrs: []netip.Addr{addr}, Member: true, Joined: time.Now()})
	return nil
}

func (c *club) Leave(context.Context, bool) error { c.hosts = nil; return nil }

func (c *club) Invite(context.Context, bool) (member.Invitation, error) {
	return member.Invitation{Token: "t", Addr: "192.0.2.2:2378", Expires: time.Now().Add(time.Hour)}, nil
}

func (c *club) Status(context.Context) member.Status {
	if len(c.hosts) == 0 {
		return member.Status{}
	}
	return member.Status{
		In: true, Name: "a", Addr: c.hosts[0].Addrs[0], Role: member.RoleVoter, Quorum: true, Hosts: 1, Token: time.Now(), Certificate: time.Now(),
		Members: []member.Member{{Name: "a", URL: "https://192.0.2.1:2379", Voting: true, Leader: true, Healthy: true}},
	}
}

func (c *club) Hosts(context.Context) ([]member.Record, error) { return c.hosts, nil }
func (c *club) Node(context.Context, string) (member.Node, error) {
	return member.Node{
		Record: c.hosts[0], Role: member.RoleVoter, Answers: true, Certificate: time.Now(),
		Leases: []member.NodeLease{{
			Fabric: "/coreos.com/network", Subnet: flannel.Subnet{V4: netip.MustParsePrefix("10.5.1.0/24")}, Public: c.hosts[0].Addrs, Backend: "vxlan",
			Data: []byte(`{"VNI":1}`), Renewed: time.Now(), Ends: time.Now(),
		}},
	}, nil
}

func (c *club) Remove(context.Context, string) error { return nil }

// host is an engine over a kernel in memory, and its API.
type host struct {
	kernel *fake.Kernel
	api    http.Handler
	engine *engine.Engine
	runDir string
}

func newHost(t testing.TB) *host { return hostOf(t, engine.Cluster{}) }

// clustered is a host that is alone in a cluster.
func clustered(t testing.TB) *host {
	return hostOf(t, engine.Cluster{
		Store: cluster.NewMemory(time.Now), Prefix: "/net", Node: flannel.Node{ID: "n-1", Name: "a"}, Uplink: "up0", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	})
}

func hostOf(t testing.TB, c engine.Cluster) *host {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	k := fake.New(&journal.Memory{})
	if c.Store != nil {
		k.Foreign(kstate.Link{Name: c.Uplink, Up: true, MTU: 1500}, kstate.Addr{Dev: c.Uplink, Prefix: netip.PrefixFrom(c.Addrs[0], 24)})
	}
	log := slog.New(slog.DiscardHandler)
	e := engine.New(engine.Config{
		Kernel: k, Cluster: c, Store: s, Processes: idle{}, Runner: idle{}, Host: func() engine.Host { return engine.Host{} },
		Follow: func(_ context.Context, p kernel.Probe) (kernel.Trail, error) {
			return kernel.Trail{Dst: p.To, Answered: true}, nil
		},
		Uplinks: &yard{}, RunDir: filepath.Join(dir, "run"), Now: time.Now, Log: log,
	})
	if err := e.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); s.Close() })
	return &host{k, server.New(e, server.Info{Version: "1.2.3", RunDir: filepath.Join(dir, "run"), Cluster: &club{}}, log), e, filepath.Join(dir, "run")}
}

// do sends a request and returns the status and the body.
func (h *host) do(method, path, contentType, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	b, _ := io.ReadAll(w.Body)
	return w.Code, strings.TrimSpace(string(b))
}

// must sends JSON and wants success.
func (h *host) must(t testing.TB, method, path, body string) string {
	t.Helper()
	status, got := h.do(method, path, "application/json", body)
	if status >= 300 {
		t.Fatalf("%s %s %s: %d %s", method, path, body, status, got)
	}
	return got
}

func decodeAs[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestNetworks(t *testing.T) {
	h := newHost(t)
	n := decodeAs[api.Network](t, h.must(t, "POST", "/v1/networks",
		`{"name":"app","subnets":[{"prefix":"10.9.0.0/24","gateway":"10.9.0.7","aux":{"printer":"10.9.0.9"}}],"options":{"com.docker.network.driver.mtu":"1400"},"labels":{"tier":"web"}}`))
	if len(n.ID) != model.IDLen || n.Device != "slb"+n.ID || n.Options["mtu"] != "1400" || n.Labels["tier"] != "web" ||
		n.Subnets[0].Gateway.String() != "10.9.0.7" || n.Subnets[0].Aux["printer"].String() != "10.9.0.9" {
		t.Errorf("network: %+v", n)
	}
	var names []string
	for _, n := range decodeAs[[]api.Network](t, h.must(t, "GET", "/v1/networks", "")) {
		names = append(names, n.Name+"/"+n.Driver+"/"+n.Status.State)
	}
	if got := strings.Join(names, " "); got != "app/bridge/ready bridge/bridge/ready host/host/ready none/null/ready" {
		t.Errorf("networks: %s", got)
	}
	if got := h.must(t, "GET", "/v1/networks/"+n.ID[:6], ""); decodeAs[api.Network](t, got).Name != "app" {
		t.Errorf("by the beginning of the ID: %s", got)
	}
	for _, past := range []string{"1700000000", "1700000000.5", "1700000000.123456789", "1.5h", "2001-02-03T04:05:06.7", "2001-02-03T04:05Z", "2001-02-03T04-07:00", "2001-02-03Z", "2001-02-03"} {
		if got := h.must(t, "POST", "/v1/networks/prune?filter=until%3D"+url.QueryEscape(past), ""); got != `{"removed":[]}` {
			t.Errorf("prune until %s: %s", past, got)
		}
	}
	for _, wrong := range []string{"1700000000.1234567890", "1700000000.x", "-1", "+1", "1.-5", "1.+5", ".5", "1700000000.5.5"} {
		if status, got := h.do("POST", "/v1/networks/prune?filter=until%3D"+url.QueryEscape(wrong), "", ""); status != 400 || !strings.Contains(got, "want a time as 2006-01-02T15:04:05") {
			t.Errorf("prune until %s: %d %s", wrong, status, got)
		}
	}
	if got := h.must(t, "POST", "/v1/networks/prune?filter=until%3D4102444800.5", ""); got != `{"removed":["app"]}` {
		t.Errorf("prune: %s", got)
	}
	if got := h.must(t, "POST", "/v1/networks/prune", ""); got != `{"removed":[]}` {
		t.Errorf("prune again: %s", got)
	}
}

// TestUsage: the same in an answer of one network, in a list and after a
// change, and numbers beyond what a float64 holds are exact.
func TestUsage(t *testing.T) {
	h := newHost(t)
	h.must(t, "POST", "/v1/networks", `{"name":"app","subnets":[{"prefix":"10.9.0.0/24","range":"10.9.0.0/28","aux":{"printer":"10.9.0.9"}},{"prefix":"fd09::/64"}]}`)
	h.must(t, "POST", "/v1/sandboxes", `{"name":"web","networks":[{"network":"app","ip":"10.9.0.99"}]}`)
	for _, request := range [][3]string{
		{"GET", "/v1/networks/app"}, {"GET", "/v1/networks?filter=name%3Dapp"}, {"PATCH", "/v1/networks/app", `{"labels":{"a":"b"}}`},
	} {
		got := h.must(t, request[0], request[1], request[2])
		for _, want := range []string{
			`"usage":{"inUse":5,"reserved":4,"free":13,"resting":0}`,
			`"usage":{"inUse":3,"reserved":2,"free":18446744073709551613,"resting":0}`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s %s: %s, want %s", request[0], request[1], got, want)
			}
		}
	}
	h.must(t, "POST", "/v1/networks/app/disconnect", `{"sandbox":"web"}`)
	n := decodeAs[api.Network](t, h.must(t, "GET", "/v1/networks/app", ""))
	if n.Subnets[0].Usage != (api.Usage{InUse: 4, Reserved: 4, Free: 13}) || n.Subnets[1].Usage != (api.Usage{InUse: 2, Reserved: 2, Free: 1<<64 - 2, Resting: 1}) {
		t.Errorf("after a disconnect: %+v", n.Subnets)
	}
}

// TestDockersFamilies: options that stand for ipv4 and ipv6.
func TestDockersFamilies(t *testing.T) {
	h := newHost(t)
	const four, six = `"com.docker.network.enable_ipv4":`, `"com.docker.network.enable_ipv6":`
	for options, want := range map[string]string{
		`{` + four + `"0",` + six + `"true"}`: "fd",
		`{` + six + `"true"}`:                 "1fd",
		`{` + four + `"true","mtu":"1400"}`:   "1",
	} {
		n := decodeAs[api.Network](t, h.must(t, "POST", "/v1/networks", `{"name":"x","options":`+options+`}`))
		got := ""
		for _, s := range n.Subnets {
			if got += "1"; s.Prefix.Addr().Is6() {
				got = got[:len(got)-1] + "fd"
			}
		}
		if got != want {
			t.Errorf("%s: %v", options, n.Subnets)
		}
		h.must(t, "DELETE", "/v1/networks/x", "")
	}
	for body, want := range map[string]string{
		`{"name":"x","ipv4":true,"options":{` + four + `"false"}}`: "the request says otherwise",
		`{"name":"x","ipv6":true,"options":{` + six + `"false"}}`:  "the request says otherwise",
		`{"name":"x","options":{` + six + `"maybe"}}`:              "want true or false",
	} {
		if status, got := h.do("POST", "/v1/networks", "application/json", body); status != http.StatusBadRequest || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s", body, status, got)
		}
	}
}

func TestSandboxes(t *testing.T) {
	h := newHost(t)
	sb := decodeAs[api.Sandbox](t, h.must(t, "POST", "/v1/sandboxes",
		`{"name":"web","networks":[{"network":"bridge","aliases":["www"]}],"ports":["8080:80","[::1]::53/udp"],"command":["nginx"],"process":{"pid":7,"start":9}}`))
	if sb.Mode != "own" || sb.PID != 7 || sb.Hostname != "web" || len(sb.Endpoints) != 1 || len(sb.Ports) != 2 || sb.Status.State != "running" ||
		sb.Endpoints[0].Network != "bridge" || !sb.Endpoints[0].Gateway.IsValid() || sb.Dir != filepath.Join(h.runDir, "sandboxes", sb.ID) {
		t.Errorf("sandbox: %+v", sb)
	}
	if got := sb.Ports[0].String(); got != "8080->80/tcp" {
		t.Errorf("port: %s", got)
	}
	n := decodeAs[api.Network](t, h.must(t, "GET", "/v1/networks/bridge", ""))
	if len(n.Endpoints) != 1 || n.Endpoints[0].Sandbox != "web" || n.Endpoints[0].MAC != sb.Endpoints[0].MAC {
		t.Errorf("network's endpoints: %+v", n.Endpoints)
	}

	h.must(t, "POST", "/v1/networks", `{"name":"back","internal":true}`)
	c := decodeAs[api.Connection](t, h.must(t, "POST", "/v1/networks/back/connect", `{"sandbox":"web","ifname":"net9"}`))
	if c.Sandbox != sb.ID || c.Endpoint.IfName != "net9" || c.Endpoint.Network != "back" || c.Endpoint.Gateway.IsValid() || len(c.Ports) != 2 {
		t.Errorf("connection: %+v", c)
	}
	h.must(t, "POST", "/v1/networks/back/disconnect", `{"sandbox":"web"}`)

	got := decodeAs[[]api.Port](t, h.must(t, "POST", "/v1/sandboxes/web/ports", `{"ports":["9090:90"]}`))
	if len(got) != 1 || got[0].HostPort != 9090 {
		t.Errorf("publish: %+v", got)
	}
	h.must(t, "DELETE", "/v1/sandboxes/web/ports?port=9090:90", "")
	h.must(t, "DELETE", "/v1/sandboxes/web/ports", `{"ports":["8080:80"]}`)
	if sb = decodeAs[api.Sandbox](t, h.must(t, "GET", "/v1/sandboxes/web", "")); len(sb.Ports) != 1 {
		t.Errorf("ports left: %+v", sb.Ports)
	}

	h.must(t, "PUT", "/v1/sandboxes/web/process", `{"pid":8,"start":18446744073709551615}`)
	if status, body := h.do("DELETE", "/v1/sandboxes/web", "", ""); status != http.StatusConflict || !strings.Contains(body, `"kind":"in-use"`) {
		t.Errorf("remove one that runs: %d %s", status, body)
	}
	h.must(t, "PUT", "/v1/sandboxes/web/exit", `{"code":137,"signal":"killed"}`)
	if got := h.must(t, "GET", "/v1/sandboxes", ""); got != "[]" {
		t.Errorf("ended, in the list: %s", got)
	}
	all := decodeAs[[]api.Sandbox](t, h.must(t, "GET", "/v1/sandboxes?all=true", ""))
	if len(all) != 1 || all[0].Exit == nil || all[0].Exit.Code != 137 || all[0].PID != 0 || all[0].Status.Message != "exit status 137, killed" {
		t.Errorf("ended: %+v", all)
	}
	h.must(t, "DELETE", "/v1/sandboxes/web", "")
	if got := h.must(t, "GET", "/v1/diff", ""); got != `{"ops":[]}` {
		t.Errorf("diff: %s", got)
	}
}

// TestForeignReference sends a path as one segment.
func TestForeignReference(t *testing.T) {
	h := newHost(t)
	h.kernel.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/x", Inode: 77}})
	h.must(t, "POST", "/v1/networks/bridge/connect", `{"sandbox":"netns:/run/netns/x"}`)
	ref := url.PathEscape("netns:/run/netns/x")
	sb := decodeAs[api.Sandbox](t, h.must(t, "GET", "/v1/sandboxes/"+ref, ""))
	if sb.Mode != "other" || sb.NetNS != "/run/netns/x" {
		t.Errorf("sandbox: %+v", sb)
	}
	h.must(t, "POST", "/v1/sandboxes/"+ref+"/ports", `{"ports":["8080:80"]}`)
	h.must(t, "DELETE", "/v1/sandboxes/"+ref, "")
}

const declarationYAML = `
networks:
- name: app
  subnets:
  - prefix: 10.9.0.0/24
    aux: {a: 10.9.0.5}
  ipv6: true
  options: {mtu: 1400, icc: false}
endpoints:
- network: app
  sandbox: netns:/run/netns/x
  ip: 10.9.0.20
  ports: [8080:80, 81]
`

func TestDeclaration(t *testing.T) {
	h := newHost(t)
	h.kernel.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/netns/x", Inode: 77}})
	before := h.kernel.Dump()
	send := func(path string) api.Ops {
		status, body := h.do("POST", path, "application/yaml; charset=utf-8", declarationYAML)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		return decodeAs[api.Ops](t, body)
	}
	planned := send("/v1/plan")
	if len(planned.Ops) < 10 || !strings.HasPrefix(planned.Ops[0], "+ ") {
		t.Errorf("plan: %q", planned.Ops)
	}
	if after := h.kernel.Dump(); after != before {
		t.Errorf("plan changed the kernel:\n%s", after)
	}
	if got := send("/v1/apply"); len(got.Ops) != len(planned.Ops) {
		t.Errorf("apply did %d ops, planned were %d", len(got.Ops), len(planned.Ops))
	}
	if got := send("/v1/apply"); len(got.Ops) != 0 {
		t.Errorf("apply again: %q", got.Ops)
	}
	n := decodeAs[api.Network](t, h.must(t, "GET", "/v1/networks/app", ""))
	if n.Options["mtu"] != "1400" || n.Options["icc"] != "false" || len(n.Subnets) != 2 || n.Endpoints[0].Addresses[0].String() != "10.9.0.20/24" {
		t.Errorf("network: %+v", n)
	}
}
