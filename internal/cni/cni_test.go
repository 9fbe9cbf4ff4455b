package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// daemon answers as its table says, by method and path, and notes what it was asked.
type daemon struct {
	socket  string
	asked   []string
	answers map[string]any // *model.Error is one; nil is no content
}

// on starts a daemon.
func on(t *testing.T, answers map[string]any) *daemon {
	t.Helper()
	d := &daemon{socket: filepath.Join(t.TempDir(), "s"), answers: answers}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return d
}

// ServeHTTP gives the first of several answers once, and the last for ever.
func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v1")
	d.asked = append(d.asked, what)
	answer := d.answers[what]
	if list, ok := answer.([]any); ok {
		if answer = list[0]; len(list) > 1 {
			d.answers[what] = list[1:]
		}
	}
	switch a := answer.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case *model.Error:
		w.WriteHeader(api.StatusOf(a.Kind))
		json.NewEncoder(w).Encode(api.ErrorBody{Error: api.ErrorDetail{Kind: a.Kind, Message: a.Error()}})
	default:
		json.NewEncoder(w).Encode(a)
	}
}

// call executes the plugin for interface eth0 of container c1, whose namespace is
// NETNS in the configuration, unless the environment has something else.
func (d *daemon) call(t *testing.T, command, config string, other ...string) (map[string]any, int) {
	t.Helper()
	netns := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(netns, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{envCommand: command, envContainer: "c1", envNetNS: netns, envIfName: "eth0", "SEALANE_SOCKET": d.socket}
	for _, pair := range other {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	var out, errs bytes.Buffer
	status := Run(t.Context(), Console{strings.NewReader(strings.ReplaceAll(config, "NETNS", netns)), &out, &errs, func(name string) string { return env[name] }})
	if out.Len() == 0 {
		return nil, status
	}
	var answer map[string]any
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		t.Fatalf("%s: %s: %v", command, out.String(), err)
	}
	return answer, status
}

// missing is what the daemon says of what is not there.
func missing(ref string) *model.Error {
	return model.Errorf(model.NotFound, ref, "attach c1", "no such network")
}

// connection is what the daemon answers to an attachment.
func connection() api.Connection {
	return api.Connection{Sandbox: "0123456789ab", Endpoint: api.Endpoint{
		ID: "abcdefabcdef", Network: "app", IfName: "eth0", MAC: "02:42:0a:01:00:02", Container: "c1",
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/16"), netip.MustParsePrefix("fd01::2/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd01::1")},
		Device:    "slvabcdefabcdef", DeviceMAC: "fe:00:00:00:00:01", MTU: 1400,
		Routes: []api.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")}},
	}}
}

const attachApp = "POST /networks/app/attach"

func TestResults(t *testing.T) {
	d := on(t, map[string]any{attachApp: connection()})
	for _, v := range versions() {
		got, status := d.call(t, "ADD", strings.Replace(written(`"dns":{"nameservers":["192.0.2.53"],"domain":"a.example"},"runtimeConfig":{"dns":{"searches":["b.example"]}},
			"prevResult":{"cniVersion":"0.3.1","interfaces":[{"name":"other"}],"ips":[{"version":"4","address":"192.0.2.9/24","interface":0}],"dns":{"nameservers":["192.0.2.54"],"options":["ndots:2"]}}`), "1.1.0", v, 1))
		if status != 0 {
			t.Errorf("%s: %v", v, got)
			continue
		}
		text, _ := json.Marshal(got)
		result, err := version.NewResult(v, text)
		if err != nil || result.Version() != v {
			t.Errorf("%s: %s: %v", v, text, err)
		}
		ips, mtu := `{"address":"10.1.0.2/16","gateway":"10.1.0.1","interface":2}`, ``
		if v < "1.0.0" {
			ips = `{"address":"10.1.0.2/16","gateway":"10.1.0.1","interface":2,"version":"4"}`
		}
		if v == newest {
			mtu = `"mtu":1400,`
		}
		for _, part := range []string{
			`"interfaces":[{"name":"other"},{"mac":"fe:00:00:00:00:01",` + mtu + `"name":"slvabcdefabcdef"},{"mac":"02:42:0a:01:00:02",` + mtu + `"name":"eth0","sandbox":"/`,
			ips, `"gateway":"fd01::1","interface":2`, `"address":"192.0.2.9/24","interface":0`, `"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}]`,
			`"dns":{"domain":"a.example","nameservers":["192.0.2.53"],"options":["ndots:2"],"search":["b.example"]}`,
		} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s: %s\nlacks %s", v, text, part)
			}
		}
	}
}

func TestFirstUse(t *testing.T) {
	taken := model.Errorf(model.Conflict, "network app", "create", "the name is taken")
	for _, c := range []struct {
		name    string
		answers map[string]any
		asked   int
		code    float64
	}{
		{"there", map[string]any{attachApp: connection()}, 1, 0},
		{"not there", map[string]any{attachApp: []any{missing("network app"), connection()}, "GET /networks/app": missing("network app"), "POST /networks": api.Network{}}, 4, 0},
		{"made by another", map[string]any{attachApp: []any{missing("network app"), connection()}, "GET /networks/app": missing("network app"), "POST /networks": taken}, 4, 0},
		{"taken otherwise", map[string]any{attachApp: missing("network app"), "GET /networks/app": missing("network app"), "POST /networks": taken}, 4, float64(codeConflict)},
		{"impossible", map[string]any{attachApp: missing("network app"), "GET /networks/app": missing("network app"),
			"POST /networks": model.Errorf(model.Invalid, "network app", "create", "no")}, 3, float64(codeConfig)},
		{"no namespace", map[string]any{attachApp: missing("/run/netns/x"), "GET /networks/app": api.Network{}}, 3, float64(codeContainer)},
		{"made between two calls", map[string]any{attachApp: []any{missing("network app"), connection()}, "GET /networks/app": api.Network{}}, 3, 0},
	} {
		d := on(t, c.answers)
		got, status := d.call(t, "ADD", written(""))
		if code, _ := got["code"].(float64); code != c.code || (status == 0) != (c.code == 0) || len(d.asked) != c.asked {
			t.Errorf("%s: status %d, %v after %q", c.name, status, got, d.asked)
		}
	}
}

// TestErrors: every kind of the daemon's errors has a code, and errors that are
// no answer at all say that it should be tried again.
func TestErrors(t *testing.T) {
	for kind, code := range map[model.Kind]uint{
		model.Invalid: 7, model.NotFound: 3, model.Gone: 3, model.Conflict: 100, model.InUse: 101, model.Exhausted: 102,
		model.Unsupported: 103, model.Denied: 104, model.Internal: 999, "new": 999,
	} {
		d := on(t, map[string]any{attachApp: model.Errorf(kind, "network app", "attach c1", "why"), "GET /networks/app": api.Network{}})
		got, status := d.call(t, "ADD", written(""))
		if status != 1 || got["code"] != float64(code) || got["msg"] != "network app: attach c1: why" || got["cniVersion"] != "1.1.0" {
			t.Errorf("%s: status %d, %v", kind, status, got)
		}
	}
	away := &daemon{socket: filepath.Join(t.TempDir(), "none")}
	dying := on(t, nil)
	l, err := net.Listen("unix", dying.socket+"2")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dying.socket += "2"
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			c.Close()
		}
	}()
	for _, d := range []*daemon{away, dying} {
		for command, code := range map[string]uint{"ADD": 11, "DEL": 11, "STATUS": 50, "GC": 11} {
			got, status := d.call(t, command, written(`"cni.dev/valid-attachments":[]`))
			if status != 1 || got["code"] != float64(code) {
				t.Errorf("%s: status %d, %v, want %d", command, status, got, code)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	intended := api.Sandbox{Endpoints: []api.Endpoint{connection().Endpoint}}
	prev := `"prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"slvabcdefabcdef"},{"name":"eth0","mac":"02:42:0a:01:00:02","sandbox":"NETNS"}],
		"ips":[{"address":"10.1.0.2/16","interface":1},{"address":"fd01::2/64","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"},{"dst":"192.0.2.0/24","gw":"10.1.0.9"}]}`
	slow := connection().Endpoint
	slow.EndpointLimits = api.EndpointLimits{IngressRate: 8000000, EgressRate: 5000000}
	limited := api.Sandbox{Endpoints: []api.Endpoint{slow}}
	published := intended
	published.Ports = []api.Port{{Protocol: "tcp", HostPort: 8080, Port: 80, Count: 2}, {Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, Port: 53, Count: 1},
		{Protocol: "tcp", Port: 90, Count: 1, Idle: true}}
	kept := api.Network{Name: "app", Subnets: []api.Subnet{{Usage: api.Usage{Free: 1}}}, Status: api.Status{State: "ready"}, Endpoints: []api.NetworkEndpoint{
		{IfName: "eth0", Container: "c1"}, {IfName: "eth1", Container: "c1"}, {IfName: "eth0", Container: "c2"}, {IfName: "eth0"}}}
	const detach, network, sandbox, diff = "POST /networks/app/detach", "GET /networks/app", "GET /sandboxes/cni:c1", "GET /sandboxes/cni:c1/diff"
	valid := `"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]`
	for _, c := range []struct {
		name, command, keys string
		answers             map[string]any
		code                float64
		says                string
		asked               int
	}{
		{"delete", "DEL", ``, nil, 0, "", 1},
		{"delete what is gone", "DEL", `"nothing":1`, map[string]any{detach: missing("network app")}, 0, "", 1},
		{"delete, refused", "DEL", ``, map[string]any{detach: model.Errorf(model.Internal, "network app", "detach c1", "disk full")}, 999, "disk full", 1},
		{"check", "CHECK", prev, map[string]any{sandbox: intended, diff: api.Drift{}}, 0, "", 2},
		{"check without a result", "CHECK", ``, nil, 7, "prevResult: missing", 0},
		{"check, drifted", "CHECK", prev, map[string]any{sandbox: intended, diff: api.Drift{Ops: []string{"+ link slv1", "~ link slv2", "- addr 10.0.0.1/8"}}}, 105,
			"missing: link slv1; not as here: link slv2; not intended: addr 10.0.0.1/8", 2},
		{"check, deaf", "CHECK", prev, map[string]any{sandbox: intended, diff: api.Drift{Deaf: true}}, 105, "missing: the rules in the container that lead questions for names to the resolver", 2},
		{"check, all gone", "CHECK", prev, map[string]any{sandbox: intended, diff: api.Drift{Ops: slices.Repeat([]string{"+ link slv1"}, 300)}}, 105, "missing: link slv1; and 290 more, which sealane diff shows", 2},
		{"check, another address", "CHECK", strings.Replace(prev, "10.1.0.2", "10.1.0.3", 1), map[string]any{sandbox: intended, diff: api.Drift{}}, 105,
			"address 10.1.0.3/16: prevResult says so, intended is [10.1.0.2/16 fd01::2/64]; address 10.1.0.2/16: prevResult does not have it", 2},
		{"check, one more address", "CHECK", strings.Replace(prev, `"ips":[`, `"ips":[{"address":"192.0.2.9/24","interface":1},`, 1),
			map[string]any{sandbox: intended, diff: api.Drift{Added: []api.AddedAddress{{IfName: "eth0", Address: netip.MustParsePrefix("192.0.2.9/24")}}}}, 0, "", 2},
		{"check, one more address elsewhere", "CHECK", strings.Replace(prev, `"ips":[`, `"ips":[{"address":"192.0.2.9/24","interface":1},`, 1),
			map[string]any{sandbox: intended, diff: api.Drift{Added: []api.AddedAddress{{IfName: "eth1", Address: netip.MustParsePrefix("192.0.2.9/24")}}}}, 105, "address 192.0.2.9/24: prevResult says so", 2},
		{"check, another mac", "CHECK", strings.Replace(prev, "0a:01", "0a:09", 1), map[string]any{sandbox: intended, diff: api.Drift{}}, 105, "prevResult says mac 02:42:0a:09:00:02", 2},
		{"check, another device", "CHECK", strings.Replace(prev, "slvabc", "slvdef", 1), map[string]any{sandbox: intended, diff: api.Drift{}}, 105, "interface slvabcdefabcdef: prevResult does not have it", 2},
		{"check, another interface", "CHECK", strings.Replace(prev, "eth0", "eth7", 1), map[string]any{sandbox: intended, diff: api.Drift{}}, 105, "prevResult: has no interface eth0", 2},
		{"check, no IPv6 route", "CHECK", strings.Replace(prev, `0.0.0.0/0","gw":"10.1.0.1`, `::/0","gw":"fd01::1`, 1), map[string]any{sandbox: intended, diff: api.Drift{}}, 105, "route ::/0 via fd01::1: is not intended", 2},
		{"check, the rate", "CHECK", prev + `,"runtimeConfig":{"bandwidth":{"ingressRate":8000000,"egressRate":0}}`, map[string]any{sandbox: limited, diff: api.Drift{}}, 0, "", 2},
		{"check, another rate", "CHECK", prev + `,"runtimeConfig":{"bandwidth":{"ingressRate":8000000,"egressRate":4000000,"egressBurst":7}}`, map[string]any{sandbox: limited, diff: api.Drift{}}, 105,
			"bandwidth: runtimeConfig says egressRate 4000000, intended is 5000000; bandwidth: runtimeConfig says egressBurst 7, intended is 0", 2},
		{"check, the ports", "CHECK", prev + `,"runtimeConfig":{"portMappings":[{"hostPort":8081,"containerPort":81,"protocol":"TCP"},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"},{"hostPort":9000,"containerPort":90}]}`,
			map[string]any{sandbox: published, diff: api.Drift{}}, 0, "", 2},
		{"check, another port", "CHECK", prev + `,"runtimeConfig":{"portMappings":[{"hostPort":8082,"containerPort":81},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"::1"},{"hostPort":8083,"containerPort":83}]}`,
			map[string]any{sandbox: published, diff: api.Drift{}}, 105, "portMappings: runtimeConfig says 8082:81, which is not published; portMappings: runtimeConfig says [::1]:53:53/udp, which is not published; portMappings: runtimeConfig says 8083:83, which", 2},
		{"check, not on it", "CHECK", prev, map[string]any{sandbox: api.Sandbox{}, diff: api.Drift{}}, 3, "has no interface eth0 on network app", 2},
		{"check, unknown", "CHECK", prev, map[string]any{diff: missing("sandbox cni:c1")}, 3, "sandbox cni:c1", 1},
		{"check, junk", "CHECK", `"prevResult":7`, nil, 6, "prevResult: want an object, not a number", 0},
		{"add, no version", "ADD", `"prevResult":{"ips":[]}`, nil, 6, "prevResult: cniVersion: missing", 0},
		{"add, another's version", "ADD", `"prevResult":{"cniVersion":"3.0.0"}`, nil, 6, "prevResult: ", 0},
		{"collect", "GC", valid, map[string]any{network: kept}, 0, "", 3},
		{"collect, no network", "GC", valid, map[string]any{network: missing("network app")}, 0, "", 1},
		{"collect, refused once", "GC", valid, map[string]any{network: kept, detach: []any{model.Errorf(model.Internal, "network app", "detach c1", "disk full"), missing("it")}}, 999, "disk full", 3},
		{"collect, from no interface", "GC", `"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"},{"containerID":"c1"}]`, nil, 7, `valid-attachments: container "c1", interface "": want both`, 0},
		{"collect, from nobody", "GC", ``, nil, 7, "valid-attachments: missing", 0},
		{"status", "STATUS", ``, map[string]any{network: kept}, 0, "", 1},
		{"status, no network", "STATUS", ``, map[string]any{network: missing("network app")}, 0, "", 1},
		{"status, degraded", "STATUS", ``, map[string]any{network: api.Network{Name: "app", Status: api.Status{State: "degraded", Message: "no bridge"}}}, 51, "network app: degraded: no bridge", 1},
		{"status, full", "STATUS", ``, map[string]any{network: api.Network{Name: "app", Subnets: []api.Subnet{{}}}}, 50, "network app: no address is left", 1},
		{"status, disturbed", "STATUS", ``, map[string]any{network: api.Network{Name: "app", Status: api.Status{State: "conflict", Message: "a route"}}}, 0, "", 1},
		{"status, over hosts", "STATUS", `"driver":"fabric"`, map[string]any{network: missing("network app"), "GET /cluster/networks/app": api.ClusterNetwork{}}, 0, "", 2},
		{"status, one link over hosts", "STATUS", `"driver":"overlay"`, map[string]any{network: missing("network app"),
			"GET /cluster/networks/app": api.ClusterNetwork{Problem: "in no cluster"}}, 50, "in no cluster", 2},
		{"status, no cluster", "STATUS", `"driver":"fabric"`, map[string]any{network: missing("network app"),
			"GET /cluster/networks/app": api.ClusterNetwork{Problem: "in no cluster"}}, 50, "in no cluster", 2},
		{"status, store away", "STATUS", ``, map[string]any{network: api.Network{Name: "app", Status: api.Status{State: "degraded", Message: "away"}, Fabric: &api.Fabric{Error: "away"}}}, 0, "", 1},
		{"status, more than that", "STATUS", ``, map[string]any{network: api.Network{Name: "app", Status: api.Status{State: "degraded", Message: "no bridge"}, Fabric: &api.Fabric{Error: "away"}}}, 51, "no bridge", 1},
		{"status, subnet lost", "STATUS", ``, map[string]any{network: api.Network{Name: "app", Status: api.Status{State: "conflict", Message: "is another's"}, Fabric: &api.Fabric{InTouch: true, Lost: true}}}, 51, "is another's", 1},
		{"unknown", "PING", ``, nil, 4, `CNI_COMMAND "PING": not known`, 0},
		{"nothing", "", ``, nil, 4, "CNI_COMMAND: missing", 0},
	} {
		d := on(t, c.answers)
		got, status := d.call(t, c.command, written(c.keys))
		code, _ := got["code"].(float64)
		says, _ := got["msg"].(string)
		if code != c.code || (status == 0) != (c.code == 0) || !strings.Contains(says, c.says) || len(d.asked) != c.asked {
			t.Errorf("%s: status %d, %v after %q; want code %v, %q", c.name, status, got, d.asked, c.code, c.says)
		}
	}
}

// TestVersionOfErrors: an error is in the version that the runtime speaks, also
// where the configuration is not what it is about.
func TestVersionOfErrors(t *testing.T) {
	d := &daemon{}
	for _, c := range []struct {
		command, env string
		code         float64
	}{
		{"ADD", envIfName + "=", 4}, {"ADD", envIfName + "=a/b", 4}, {"ADD", envContainer + "=-", 4}, {"ADD", envNetNS + "=x", 4}, {"ADD", envArgs + "=IP", 4},
		{"ADD", envArgs + "=ANY=1", 4}, {"CHECK", envNetNS + "=", 4}, {"DEL", envIfName + "=..", 4}, {"PING", "", 4}, {"", "", 4}, {"ADD", "", 11},
	} {
		for _, v := range versions() {
			config := strings.Replace(written(""), "1.1.0", v, 1)
			if got, _ := d.call(t, c.command, config, c.env); got["code"] != c.code || got["cniVersion"] != v {
				t.Errorf("%s %s in %s: %v", c.command, c.env, v, got)
			}
		}
		for _, config := range []string{"", "{", `{"cniVersion":"9.9.9"}`, `{"cniVersion":7}`} {
			if got, _ := d.call(t, c.command, config, c.env); got["cniVersion"] != newest || c.code == 4 && got["code"] != 4.0 {
				t.Errorf("%s %s with %q: %v", c.command, c.env, config, got)
			}
		}
	}
}

func TestVersions(t *testing.T) {
	d := &daemon{}
	for config, want := range map[string]string{"": "1.1.0", " \n": "1.1.0", `{"cniVersion":"0.4.0"}`: "0.4.0", `{"cniVersion":"9.9.9"}`: "9.9.9", `{}`: "1.1.0"} {
		got, status := d.call(t, "VERSION", config)
		list, _ := got["supportedVersions"].([]any)
		if status != 0 || got["cniVersion"] != want || !slices.Equal(list, []any{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
			t.Errorf("%q: status %d, %v", config, status, got)
		}
	}
	if got, status := d.call(t, "VERSION", "junk"); status != 1 || got["code"] != 6.0 {
		t.Errorf("junk: status %d, %v", status, got)
	}
	for _, c := range []struct {
		command, version string
		code             float64
	}{{"ADD", "0.3.0", 1}, {"ADD", "2.0.0", 1}, {"CHECK", "0.3.1", 1}, {"CHECK", "0.4.0", 7}, {"GC", "1.0.0", 1}, {"STATUS", "1.0.0", 1}, {"STATUS", "1.1.0", 50}} {
		got, status := d.call(t, c.command, strings.Replace(written(""), "1.1.0", c.version, 1))
		if status != 1 || got["code"] != c.code {
			t.Errorf("%s %s: status %d, %v", c.command, c.version, status, got)
		}
	}
}
