package dockerplugin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/store"
)

// newEngine returns an engine on a fake kernel.
func newEngine(t testing.TB) *engine.Engine {
	t.Helper()
	e, _ := newEngineOn(t)
	return e
}

// newEngineOn returns one with its kernel, whose host has the NIC eth7.
func newEngineOn(t testing.TB) (*engine.Engine, *fake.Kernel) {
	t.Helper()
	return newEngineIn(t, engine.Cluster{})
}

// newEngineIn returns one in a cluster.
func newEngineIn(t testing.TB, c engine.Cluster) (*engine.Engine, *fake.Kernel) {
	t.Helper()
	k := fake.New(&journal.Memory{})
	k.Foreign(kstate.Link{Name: "eth7", Type: "ether", MTU: 1500, MAC: "02:00:00:00:00:07", Up: true})
	dir := t.TempDir()
	s, err := store.Open(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Config{
		Kernel: k, Store: s, Processes: noProcesses{}, Host: func() engine.Host { return engine.Host{} },
		RunDir: filepath.Join(dir, "run"), Now: time.Now, Log: slog.New(slog.DiscardHandler), Cluster: c,
	})
	if err := e.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(); s.Close() })
	return e, k
}

// ask sends a body to a path.
func ask(h http.Handler, path, body string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	text, _ := io.ReadAll(w.Body)
	return w.Code, string(text)
}

const fuzzNetwork, fuzzEndpoint = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"

// seeds are calls in an order that Docker may make them in.
var seeds = []struct{ method, body string }{
	{"IpamDriver.RequestPool", `{"Pool":"10.5.0.0/24","SubPool":"10.5.0.16/30"}`},
	{"IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/24","Address":"10.5.0.1"}`},
	{"NetworkDriver.CreateNetwork", `{"NetworkID":"` + fuzzNetwork + `","Options":{"com.docker.network.generic":{"mtu":"1400"},"com.docker.network.internal":false},"IPv4Data":[{"Pool":"10.5.0.0/24","Gateway":"10.5.0.1/24","AuxAddresses":{"a":"10.5.0.9"}}],"IPv6Data":[{"Pool":"fd05::/64"}]}`},
	{"IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/24"}`},
	{"NetworkDriver.CreateEndpoint", `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `","Interface":{"Address":"10.5.0.16/24","AddressIPv6":"fd05::2/64","MacAddress":"02:42:0a:05:00:02"}}`},
	{"NetworkDriver.Join", `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `","SandboxKey":"/run/docker/netns/x"}`},
	{"NetworkDriver.ProgramExternalConnectivity", `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `","Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostIP":"127.0.0.1","HostPort":8080,"HostPortEnd":8090},{"Proto":17,"Port":53}]}}`},
	{"NetworkDriver.EndpointOperInfo", `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `"}`},
	{"NetworkDriver.RevokeExternalConnectivity", `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `"}`},
	{"NetworkDriver.Leave", `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `"}`},
	{"NetworkDriver.DeleteEndpoint", `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `"}`},
	{"IpamDriver.ReleaseAddress", `{"PoolID":"10.5.0.0/24","Address":"10.5.0.16"}`},
	{"NetworkDriver.DeleteNetwork", `{"NetworkID":"` + fuzzNetwork + `"}`},
	{"IpamDriver.ReleasePool", `{"PoolID":"10.5.0.0/24"}`},
}

// A call that Docker repeats without its arguments is refused: RequestPool would be one
// for any pool.
func TestCutOff(t *testing.T) {
	e := newEngine(t)
	p, before := New(e), intent(e)
	for _, s := range seeds {
		if status, text := ask(p, "/"+s.method, ""); status != http.StatusOK || !strings.Contains(text, errCutOff.Error()) {
			t.Errorf("%s: %d %s", s.method, status, text)
		}
	}
	if after := intent(e); after != before {
		t.Errorf("was\n%s\nis\n%s", before, after)
	}
}

// FuzzCalls sends any body to any method, in a world where the seeds' network and
// endpoint are there or not. The answer is always one JSON object, with an error
// in words or without; one with an error has changed nothing, and whatever was
// made can be removed again.
func FuzzCalls(f *testing.F) {
	for _, s := range seeds {
		f.Add(s.method, s.body, true)
		f.Add(s.method, s.body, false)
		f.Add(s.method, s.body[:len(s.body)/2], true)
	}
	f.Add("NetworkDriver.Join", `{"NetworkID":null,"EndpointID":"\u0000","Options":[]}`, true)
	f.Add("IpamDriver.RequestPool", `{"V6":true,"Pool":"::ffff:10.0.0.0/104"}`, false)
	f.Add("NetworkDriver.ProgramExternalConnectivity", `{"EndpointID":"`+fuzzEndpoint+`","Options":{"com.docker.network.portmap":[{"Proto":132,"Port":65535,"HostPort":65535,"HostPortEnd":1}]}}`, true)
	e := newEngine(f)
	f.Fuzz(func(t *testing.T, method, body string, made bool) {
		p := New(e)
		if _, ok := p.routes["/"+method]; !ok {
			return
		}
		if made {
			for _, s := range seeds[:7] {
				if _, text := ask(p, "/"+s.method, s.body); strings.Contains(text, `"Err`) {
					t.Fatalf("%s: %s", s.method, text)
				}
			}
		}
		before := intent(e)
		status, text := ask(p, "/"+method, body)
		var answer map[string]any
		if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK || answer == nil {
			t.Fatalf("%d %q: %v", status, text, err)
		}
		field := "Err"
		if strings.HasPrefix(method, "IpamDriver.") {
			field = "Error"
		}
		if said, failed := answer[field]; failed {
			if said == "" || strings.Contains(fmt.Sprint(said), "\n") || len(answer) != 1 {
				t.Fatalf("answer %q", text)
			}
			if after := intent(e); after != before {
				t.Fatalf("refused with %s, and there is\n%s\nwhere was\n%s", said, after, before)
			}
		}
		sweep(t, p, e)
	})
}

// intent is all that the engine has of Docker's, as text.
func intent(e *engine.Engine) string {
	var b strings.Builder
	for _, n := range e.Networks() {
		if n.Origin == model.OriginDocker {
			fmt.Fprintf(&b, "%s %s %+v %+v %+v\n", n.Name, n.Driver, n.Subnets, n.Options, n.Waiting)
		}
	}
	for _, sb := range e.Sandboxes() {
		fmt.Fprintf(&b, "%s %+v %+v\n", sb.Name, sb.Endpoints, sb.Ports)
	}
	return b.String()
}

// sweep removes everything by the protocol, as Docker would.
func sweep(t *testing.T, p *Plugin, e *engine.Engine) {
	t.Helper()
	remove := func(method, key, id string) {
		if _, text := ask(p, "/"+method, fmt.Sprintf("{%q:%q}", key, id)); text != "{}\n" {
			t.Fatalf("%s %s: %s", method, id, text)
		}
	}
	for _, n := range e.Networks() {
		for _, w := range n.Waiting {
			remove("NetworkDriver.DeleteEndpoint", "EndpointID", string(w.ID))
		}
	}
	for _, sb := range e.Sandboxes() {
		for _, ep := range sb.Endpoints {
			remove("NetworkDriver.DeleteEndpoint", "EndpointID", string(ep.ID))
		}
	}
	for _, n := range e.Networks() {
		switch {
		case n.Origin != model.OriginDocker:
		case n.Driver == model.DriverPool:
			remove("IpamDriver.ReleasePool", "PoolID", n.Subnets[0].Prefix.String())
		default:
			remove("NetworkDriver.DeleteNetwork", "NetworkID", string(n.ID))
		}
	}
	if left := intent(e); left != "" {
		t.Fatalf("left:\n%s", left)
	}
}

// noProcesses is a host on which nothing runs.
type noProcesses struct{}

// Alive says that nothing does.
func (noProcesses) Alive(model.Process) bool { return false }

// Wait has nothing to wait for.
func (noProcesses) Wait(context.Context, model.Process) error { return nil }

// Kill has nothing to end.
func (noProcesses) Kill(*model.Process, string) error { return nil }
