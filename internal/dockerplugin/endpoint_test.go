package dockerplugin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// TestPortsOfTwo: Docker's ports come and go as it says, those that a user added stay;
// and what is refused leaves both as they were, at the address that the network gives
// them.
func TestPortsOfTwo(t *testing.T) {
	e := newEngine(t)
	r := &rig{T: t, Plugin: New(e), e: e}
	at := func(port int) string {
		return strings.Replace(port8088, "8088", fmt.Sprint(port), 1)
	}
	program := func(endpoint string, port int) call {
		return call{"NetworkDriver.ProgramExternalConnectivity", about(endpoint, at(port))}
	}
	bound := strings.Replace(seeds[callNetwork].body, `"mtu":"1400"`, `"host-binding":"127.0.0.1"`, 1)
	r.makes([]call{
		{"NetworkDriver.CreateNetwork", bound}, {"NetworkDriver.CreateEndpoint", seeds[callEndpoint].body}, {"NetworkDriver.Join", seeds[callJoin].body},
		{"NetworkDriver.CreateEndpoint", about(otherEndpoint, `"Interface":{"Address":"10.5.0.17/24"}`)},
		{"NetworkDriver.Join", about(otherEndpoint, `"SandboxKey":"/run/docker/netns/y"`)},
		program(fuzzEndpoint, 8088), program(otherEndpoint, 8089),
	}, false)
	sb := e.ByEndpoint(model.ID(fuzzEndpoint[:model.IDLen]))
	user, err := model.ParsePort("8090:81")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Publish(t.Context(), string(sb.ID), []model.PortMapping{user}); err != nil {
		t.Fatal(err)
	}
	ports := func(want string) {
		t.Helper()
		sb := e.ByEndpoint(model.ID(fuzzEndpoint[:model.IDLen]))
		var got []string
		for _, m := range sb.Ports {
			got = append(got, fmt.Sprintf("%s added=%v bound=%v", m, m.Added, m.Bound))
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("there is %v, want %s", got, want)
		}
	}
	const users = "127.0.0.1:8090:81/tcp added=true bound=true"
	ports("127.0.0.1:8088:80/tcp added=false bound=true, " + users)
	r.makes([]call{program(fuzzEndpoint, 8089)}, true)
	ports(users + ", 127.0.0.1:8088:80/tcp added=false bound=true")
	r.makes([]call{program(fuzzEndpoint, 8090)}, true)
	ports(users + ", 127.0.0.1:8088:80/tcp added=false bound=true")
	r.makes([]call{program(fuzzEndpoint, 8091)}, false)
	ports(users + ", 127.0.0.1:8091:80/tcp added=false bound=true")
	r.makes([]call{{"NetworkDriver.RevokeExternalConnectivity", about(fuzzEndpoint, `"Options":{}`)}}, false)
	ports(users)
}

// TestPortsInOrder: ports are in order, whatever order Docker has them in, so that those
// without a port of the host's get the same ones each time.
func TestPortsInOrder(t *testing.T) {
	tcp := func(port, host int) map[string]any { return map[string]any{"Proto": 6, "Port": port, "HostPort": host} }
	option := []any{
		tcp(82, 92), tcp(80, 0), map[string]any{"Proto": 17, "Port": 80, "HostPort": 8080}, tcp(80, 8080),
		map[string]any{"Proto": 6, "Port": 80, "HostIP": "127.0.0.1", "HostPort": 8080}, tcp(80, 8080),
	}
	ports, err := portMappings(option)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(ports), "[80/tcp 8080:80/tcp 127.0.0.1:8080:80/tcp 8080:80/udp 92:82/tcp]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
