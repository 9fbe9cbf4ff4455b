package metrics

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dns"
	"github.com/sealane/sealane/internal/serve/proxy"
	"github.com/sealane/sealane/internal/store"
)

// idle are processes that run until somebody kills them.
type idle struct{}

func (idle) Alive(model.Process) bool                        { return true }
func (idle) Wait(ctx context.Context, _ model.Process) error { <-ctx.Done(); return ctx.Err() }
func (idle) Kill(*model.Process, string) error               { return nil }

// nobody serves no port.
type nobody struct{}

func (nobody) Target(string, netip.Addr, netip.AddrPort) (netip.AddrPort, bool) {
	return netip.AddrPort{}, false
}

// world is a host in a cluster, whose kernel is in memory.
type world struct {
	*engine.Engine
	kernel *fake.Kernel
	store  *cluster.Memory
	srv    *http.Server
}

func newWorld(t testing.TB) *world {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := store.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddr("192.0.2.1")
	w := &world{kernel: fake.New(&journal.Memory{}), store: cluster.NewMemory(time.Now)}
	w.kernel.Foreign(kstate.Link{Name: "eth0", Up: true, MTU: 1500}, kstate.Addr{Dev: "eth0", Prefix: netip.PrefixFrom(addr, 24)})
	names := dns.New(log)
	px, err := proxy.Start(t.Context(), nobody{}, 0, log)
	if err != nil {
		t.Fatal(err)
	}
	w.Engine = engine.New(engine.Config{
		Kernel: w.kernel, Store: s, Processes: idle{}, Host: func() engine.Host { return engine.Host{} }, RunDir: dir, Now: time.Now, Log: log,
		Cluster: engine.Cluster{Store: w.store, Prefix: "/c", Node: flannel.Node{Name: "a"}, Uplink: "eth0", Addrs: []netip.Addr{addr}},
	})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); s.Close(); px.Close(); names.Close() })
	w.srv = Server(Source{Engine: w.Engine, Names: names, Proxy: px, Devices: w.devices, Version: "1.2.3", Log: log})
	return w
}

// devices are those that the kernel in memory has.
func (w *world) devices() (map[string]facts.Traffic, error) {
	all := map[string]facts.Traffic{}
	for _, n := range w.Networks() {
		for _, dev := range devicesOf(n) {
			all[dev] = facts.Traffic{Received: facts.Passed{Bytes: 1 << 60, Packets: 2, Errors: 3, Dropped: 4}, Sent: facts.Passed{Bytes: 5, Packets: 6, Errors: 7, Dropped: 8}}
		}
	}
	return all, nil
}

// ask asks for the metrics.
func (w *world) ask(method, path string) (int, string) {
	rec := httptest.NewRecorder()
	w.srv.Handler.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
	b, _ := io.ReadAll(rec.Body)
	return rec.Code, string(b)
}

// fill makes a network of each kind, sandboxes and a service.
func (w *world) fill(t testing.TB) {
	ctx := context.Background()
	for _, spec := range []engine.NetworkSpec{
		{Name: "app", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/24")}, {Prefix: netip.MustParsePrefix("fd01::/64")}}},
		{Name: "mesh", Driver: model.DriverOverlay},
		{Name: "lan", Driver: model.DriverMacvlan, Options: map[string]string{"parent": "eth0"}},
		{Name: "wide", Driver: model.DriverFabric, Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.128.0.0/16")}}},
	} {
		if _, err := w.CreateNetwork(ctx, spec); err != nil {
			t.Fatalf("network %s: %v", spec.Name, err)
		}
	}
	if _, err := w.CreateService(ctx, engine.ServiceSpec{Name: "www", Network: "mesh", Ports: []model.ServicePort{{Proto: "tcp", Port: 80}}}); err != nil {
		t.Fatal(err)
	}
	spec := engine.SandboxSpec{Name: "web", Mode: model.ModeOwn, Networks: []engine.EndpointSpec{{Network: "app"}},
		Ports: []model.PortMapping{{Proto: "tcp", HostPort: 8080, Port: 80, Count: 3}}}
	if _, err := w.CreateSandbox(ctx, spec); err != nil {
		t.Fatal(err)
	}
}

// crowd puts so many sandboxes on three networks.
func (w *world) crowd(t testing.TB, count int) {
	ctx := context.Background()
	for i := range 3 {
		spec := engine.NetworkSpec{Name: fmt.Sprint("n", i), Subnets: []model.Subnet{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i + 1), 0, 0}), 16)}}}
		if _, err := w.CreateNetwork(ctx, spec); err != nil {
			t.Fatal(err)
		}
	}
	for i := range count {
		spec := engine.SandboxSpec{Name: fmt.Sprint("s", i), Mode: model.ModeOwn, Networks: []engine.EndpointSpec{{Network: fmt.Sprint("n", i%3)}}}
		if _, err := w.CreateSandbox(ctx, spec); err != nil {
			t.Fatal(err)
		}
	}
}
