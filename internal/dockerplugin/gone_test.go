package dockerplugin

import (
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kstate"
)

// call is one of Docker's.
type call struct{ method, body string }

const (
	otherNetwork, otherEndpoint = "cccccccccccccccc", "eeeeeeeeeeeeeeee"
	port8088                    = `"Options":{"com.docker.network.portmap":[{"Proto":6,"Port":80,"HostPort":8088}]}`
)

// about is a request about an endpoint on the seeds' network.
func about(endpoint, more string) string {
	return `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + endpoint + `",` + more + `}`
}

var (
	anyAddress  = call{"IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/24"}`}
	itsAddress  = call{"IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/24","Address":"10.5.0.16"}`}
	itsEndpoint = call{"NetworkDriver.CreateEndpoint", seeds[callEndpoint].body}
	itsPort     = call{"NetworkDriver.ProgramExternalConnectivity", about(fuzzEndpoint, port8088)}
)

// inTheWay lists what Docker asks for, at last, that something else has.
var inTheWay = []struct {
	name  string
	seeds []int
	had   []call // besides the seeds'
	asks  []call
	knows func(*docker) // how Docker has it, if not as the seeds' network with a container
	lost  func(*docker) // how it has not
}{
	{name: "lent address", seeds: []int{callPool, callNetwork}, had: []call{itsAddress}, asks: []call{itsAddress}},
	{name: "lent address of an endpoint", seeds: []int{callPool, callNetwork}, had: []call{itsAddress, itsEndpoint}, asks: []call{itsAddress}},
	{name: "last address", seeds: []int{callPool, callNetwork}, had: []call{anyAddress, anyAddress, anyAddress, anyAddress, itsEndpoint}, asks: []call{anyAddress}},
	{name: "address that waits", seeds: []int{callNetwork, callEndpoint}, asks: []call{{"NetworkDriver.CreateEndpoint", about(otherEndpoint, `"Interface":{"Address":"10.5.0.16/24"}`)}}},
	{name: "address", seeds: []int{callNetwork, callEndpoint, callJoin}, asks: []call{{"NetworkDriver.CreateEndpoint", about(otherEndpoint, `"Interface":{"Address":"10.5.0.16/24"}`)}}},
	{name: "hardware address", seeds: []int{callNetwork, callEndpoint, callJoin},
		asks: []call{{"NetworkDriver.CreateEndpoint", about(otherEndpoint, `"Interface":{"Address":"10.5.0.17/24","MacAddress":"02:42:0a:05:00:02"}`)}}},
	{name: "port", seeds: []int{callNetwork, callEndpoint, callJoin}, had: []call{itsPort}, asks: []call{
		{"NetworkDriver.CreateEndpoint", about(otherEndpoint, `"Interface":{"Address":"10.5.0.17/24"}`)},
		{"NetworkDriver.Join", about(otherEndpoint, `"SandboxKey":"/run/docker/netns/y"`)},
		{"NetworkDriver.ProgramExternalConnectivity", about(otherEndpoint, port8088)},
	}},
	{name: "subnet of a pool", seeds: []int{callPool}, asks: []call{{"IpamDriver.RequestPool", `{"Pool":"10.5.0.0/24"}`}},
		knows: func(d *docker) { d.network("foreign", map[string]any{"Subnet": "10.5.0.0/24"})() }, lost: func(d *docker) { d.networks = nil }},
	{name: "subnet of a network", seeds: []int{callNetwork}, asks: []call{{"NetworkDriver.CreateNetwork", strings.Replace(seeds[callNetwork].body, fuzzNetwork, otherNetwork, 1)}},
		lost: func(d *docker) { d.networks = nil }},
}

// TestInTheWay: what Docker asks for is not refused for something that it had before
// sealaned began or dockerd ended, and has no more; but for what it has, or told of since.
func TestInTheWay(t *testing.T) {
	for _, c := range inTheWay {
		if c.knows == nil {
			c.knows = func(d *docker) { d.network("app")(); d.container("c0", "web")() }
		}
		if c.lost == nil {
			c.lost = func(d *docker) { d.network("app")() }
		}
		for when, refused := range map[string]bool{"gone": false, "dockerd ended since": false, "of late": true, "known": true, "Docker does not answer": true} {
			t.Run(c.name+" "+when, func(t *testing.T) {
				docker := newDocker(t)
				r := newRig(t, docker.URL)
				r.made(c.seeds...)
				r.makes(c.had, false)
				switch when {
				case "of late":
				case "dockerd ended since":
					r.d.remember()
				default:
					r.Plugin = New(r.e)
					if _, err := NewDirectory(r.Plugin); err != nil {
						t.Fatal(err)
					}
				}
				docker.change("", func() { c.lost(docker) })
				if when == "known" {
					docker.change("", func() { c.knows(docker) })
				}
				if when == "Docker does not answer" {
					docker.Close()
				}
				r.makes(c.asks, refused)
			})
		}
	}
}

// TestSilentDocker: a Docker that starts answers nobody, and starts containers. They get
// what those have had that run no more, and nothing else; only the first waits for Docker.
func TestSilentDocker(t *testing.T) {
	docker := newDocker(t)
	docker.network("app")()
	r := newRig(t, docker.URL)
	r.made(callPool, callNetwork)
	r.makes([]call{
		itsAddress, itsEndpoint, {"NetworkDriver.Join", seeds[callJoin].body}, itsPort,
		{"IpamDriver.RequestAddress", `{"PoolID":"10.5.0.0/24","Address":"10.5.0.17"}`},
		{"NetworkDriver.CreateEndpoint", about(otherEndpoint, `"Interface":{"Address":"10.5.0.17/24"}`)},
		{"NetworkDriver.Join", about(otherEndpoint, `"SandboxKey":"/run/docker/netns/y"`)},
	}, false)
	r.k.Foreign(kstate.NetNS{NS: kstate.NS{Path: "/run/docker/netns/y"}}) // which runs
	r.Plugin = New(r.e)
	d, err := NewDirectory(r.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	silent := make(chan struct{})
	docker.change("", func() { docker.silent = silent })
	d.listen(t.Context())
	time.Sleep(100 * time.Millisecond) // until it waits for Docker
	began := time.Now()
	r.makes([]call{itsAddress}, false)
	r.makes([]call{itsAddress}, true) // somebody has it now
	its := strings.NewReplacer("10.5.0.16", "10.5.0.17", fuzzEndpoint, "ffffffffffffffff")
	for _, c := range []call{itsAddress, itsEndpoint} {
		r.makes([]call{{c.method, its.Replace(c.body)}}, true)
	}
	r.makes([]call{itsEndpoint, {"NetworkDriver.Join", seeds[callJoin].body}, itsPort}, false)
	if took := time.Since(began); took > askTime+time.Second {
		t.Errorf("a silent Docker was waited for in %v, want one wait of %v", took, askTime)
	}
	close(silent)
	docker.change("", docker.container("c0", "web"))
	asked := func() int {
		docker.mu.Lock()
		defer docker.mu.Unlock()
		return docker.asked["networks"]
	}
	if _, err := d.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := asked()
	r.makes([]call{itsAddress}, true)
	if asked() == before {
		t.Error("a Docker that answers again is not asked")
	}
}

// makes makes calls, of which the last is refused or not.
func (r *rig) makes(calls []call, refused bool) {
	r.Helper()
	for i, c := range calls {
		_, text := ask(r.Plugin, "/"+c.method, c.body)
		if got := strings.Contains(text, `"Err`); got != (refused && i == len(calls)-1) {
			r.Errorf("%s: %s", c.method, text)
		}
	}
}
