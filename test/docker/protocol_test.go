package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/lab"
)

// plugin speaks to sealaned as dockerd does, and as no dockerd would.
type plugin struct {
	*world
	http *http.Client
}

// newPlugin returns the plugin of a host that has sealaned and no Docker.
func newPlugin(t *testing.T) *plugin {
	t.Helper()
	t.Parallel()
	w := &world{T: t, lab: lab.New(t)}
	w.a = w.lab.Host("a")
	w.a.Daemon()
	socket := fmt.Sprintf("/proc/%d/root/run/docker/plugins/sealane.sock", w.a.Start("sleep", "1000").Pid())
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &plugin{w, &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// call sends a body and returns the object that is always the answer, and the
// error in it.
func (p *plugin) call(method string, body []byte) (answer map[string]any, failed string) {
	p.Helper()
	resp, err := p.http.Post("http://plugin.moby.localhost/"+method, "application/vnd.docker.plugins.v1.2+json", bytes.NewReader(body))
	if err != nil {
		p.Fatalf("%s %.200q: %v", method, body, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/vnd.docker.plugins.v1.") {
		p.Errorf("%s %.200q: %s, %s: %s %v", method, body, resp.Status, resp.Header.Get("Content-Type"), text, err)
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer == nil {
		p.Errorf("%s %.200q: answer %q: %v", method, body, text, err)
	}
	failed, _ = answer[errorField(method)].(string)
	return answer, failed
}

// errorField is where the two protocols have it.
func errorField(method string) string {
	if strings.HasPrefix(method, "IpamDriver.") {
		return "Error"
	}
	return "Err"
}

// object is JSON's.
type object = map[string]any

func (p *plugin) must(method string, in object) object {
	p.Helper()
	body, _ := json.Marshal(in)
	answer, failed := p.call(method, body)
	if failed != "" {
		p.Fatalf("%s %s: %s", method, body, failed)
	}
	return answer
}

// fails wants an error with all words.
func (p *plugin) fails(method string, in object, words ...string) {
	p.Helper()
	body, _ := json.Marshal(in)
	answer, failed := p.call(method, body)
	if failed == "" {
		p.Errorf("%s %s: answered %v, want an error", method, body, answer)
	}
	for _, word := range words {
		if !strings.Contains(failed, word) {
			p.Errorf("%s %s: %q, want %q in it", method, body, failed, word)
		}
	}
}

func (p *plugin) part(name string, f func(p *plugin)) {
	p.Run(name, func(t *testing.T) {
		w := *p.world
		w.T = t
		f(&plugin{&w, p.http})
	})
}

func TestProtocol(t *testing.T) {
	p := newPlugin(t)
	p.part("Constant", constant)
	p.part("Hostile", hostile)
	p.part("Pools", pools)
	p.part("WrongOrder", wrongOrder)
	p.part("Twice", twice)
	p.part("Refused", refusedCalls)
	p.part("KilledBetween", killedBetween)
}

// The methods: those that answer whatever is asked, those that need an ID, and
// RequestPool, which needs nothing.
var (
	constants = []string{"Plugin.Activate", "NetworkDriver.GetCapabilities", "NetworkDriver.GwAllocCheck", "NetworkDriver.DiscoverNew",
		"NetworkDriver.DiscoverDelete", "IpamDriver.GetCapabilities", "IpamDriver.GetDefaultAddressSpaces"}
	methods = []string{"NetworkDriver.AllocateNetwork", "NetworkDriver.FreeNetwork", "NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork",
		"NetworkDriver.CreateEndpoint", "NetworkDriver.DeleteEndpoint", "NetworkDriver.EndpointOperInfo", "NetworkDriver.Join", "NetworkDriver.Leave",
		"NetworkDriver.ProgramExternalConnectivity", "NetworkDriver.RevokeExternalConnectivity",
		"IpamDriver.ReleasePool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress"}
)

// constant answers tell Docker what we are.
func constant(p *plugin) {
	before := p.state()
	for method, want := range map[string]string{
		"Plugin.Activate":                    `{"Implements":["NetworkDriver","IpamDriver"]}`,
		"NetworkDriver.GetCapabilities":      `{"ConnectivityScope":"local","Scope":"local"}`,
		"NetworkDriver.GwAllocCheck":         `{}`,
		"NetworkDriver.DiscoverNew":          `{}`,
		"NetworkDriver.DiscoverDelete":       `{}`,
		"IpamDriver.GetCapabilities":         `{}`,
		"IpamDriver.GetDefaultAddressSpaces": `{"GlobalDefaultAddressSpace":"SealaneGlobal","LocalDefaultAddressSpace":"SealaneLocal"}`,
	} {
		for _, body := range []string{"", "{}", "null", `{"Options":{"a":[1]},"DiscoveryType":1,"DiscoveryData":{"Self":true}}`} {
			answer, _ := p.call(method, []byte(body))
			if got, _ := json.Marshal(answer); string(got) != want {
				p.Errorf("%s %q: %s, want %s", method, body, got, want)
			}
		}
	}
	for _, r := range []struct {
		method, path string
		status       int
	}{{"POST", "/NetworkDriver.Nothing", 404}, {"POST", "/", 404}, {"GET", "/Plugin.Activate", 405}, {"POST", "/NetworkDriver.Join/..", 404}} {
		req, _ := http.NewRequest(r.method, "http://x"+r.path, nil)
		resp, err := p.http.Do(req)
		if err != nil || resp.StatusCode != r.status {
			p.Fatalf("%s %s: %v %v, want %d", r.method, r.path, resp, err, r.status)
		}
		resp.Body.Close()
	}
	p.unchanged(before, "questions")
}

// hostile bodies are refused by every method, and change nothing.
func hostile(p *plugin) {
	before := p.state()
	for _, method := range append(methods, "IpamDriver.RequestPool") {
		for _, body := range []string{
			"{", `{"NetworkID"`, `{"NetworkID":"`, "[]", `"x"`, "1", "true", "\x00", "\xff\xfe", "{}{}", `{"a":1}}`,
			strings.Repeat("[", 100_000), `{"a":` + strings.Repeat(`{"a":`, 20_000), strings.Repeat("9", 100_000),
			`{"NetworkID":1,"PoolID":1,"Pool":1}`, `{"NetworkID":["a"],"PoolID":{},"Pool":[]}`,
			`{"NetworkID":"` + strings.Repeat("g", 1<<20) + `","PoolID":"` + strings.Repeat("g", 1<<20) + `","Pool":"x"}`,
			`{"NetworkID":"../../../etc","EndpointID":"../../../etc","PoolID":"../..","Pool":"../.."}`,
			`{"NetworkID":"0123456789ab\u0000","EndpointID":"0123456789ab\n","PoolID":"10.0.0.0/24\n","Pool":"10.0.0.0/24\u0000"}`,
			`{"NetworkID":"0123456789AB","EndpointID":"0123456789a","PoolID":"10.0.0.0","Pool":"10.0.0.0/33"}`,
			`{"NetworkID":"","EndpointID":"","PoolID":"::/129","Pool":"fe80::1%eth0/64"}`,
		} {
			answer, failed := p.call(method, []byte(body))
			if failed == "" || len(answer) != 1 {
				p.Errorf("%s %.100q: %v, want an error only", method, body, answer)
			}
			if len(failed) > 3<<20 {
				p.Errorf("%s %.100q: an error of %d bytes", method, body, len(failed))
			}
		}
	}
	for _, method := range constants {
		if _, failed := p.call(method, []byte("{")); failed == "" {
			p.Errorf("%s: half an object is answered", method)
		}
	}
	p.unchanged(before, "hostile bodies")
}

// pools is the IPAM protocol alone.
func pools(p *plugin) {
	before := p.state()
	first := p.must("IpamDriver.RequestPool", object{})
	second := p.must("IpamDriver.RequestPool", object{"V6": true})
	if first["Pool"] == second["Pool"] || !strings.Contains(fmt.Sprint(second["Pool"]), ":") {
		p.Errorf("pools %v and %v", first, second)
	}
	fixed := p.must("IpamDriver.RequestPool", object{"Pool": "10.5.0.0/24", "SubPool": "10.5.0.16/30"})["PoolID"]
	p.fails("IpamDriver.RequestPool", object{"Pool": "10.5.0.0/24"}, "10.5.0.0/24", "overlaps")
	p.fails("IpamDriver.RequestPool", object{"Pool": "10.4.0.0/15"}, "10.5.0.0/24", "overlaps")
	p.fails("IpamDriver.RequestPool", object{"Pool": "10.6.0.0/24", "SubPool": "10.7.0.0/25"}, "10.7.0.0/25")
	p.fails("IpamDriver.RequestPool", object{"SubPool": "10.7.0.0/25"}, "10.7.0.0/25")
	p.fails("IpamDriver.RequestPool", object{"Pool": "10.6.0.1/24"}, "10.6.0.")
	p.fails("IpamDriver.RequestPool", object{"Pool": "10.6.0.0/24", "Options": object{"a": "b"}}, "a")
	got := map[any]bool{}
	for range 4 {
		got[p.must("IpamDriver.RequestAddress", object{"PoolID": fixed})["Address"]] = true
	}
	if len(got) != 4 || !got["10.5.0.16/24"] || !got["10.5.0.19/24"] {
		p.Errorf("addresses %v, want the four of the range", got)
	}
	p.fails("IpamDriver.RequestAddress", object{"PoolID": fixed}, "10.5.0.16/30", "none is free")
	p.must("IpamDriver.RequestAddress", object{"PoolID": fixed, "Address": "10.5.0.99", "Options": object{"RequestAddressType": "com.docker.network.gateway"}})
	for _, a := range []string{"10.5.0.99", "10.5.0.16", "10.5.0.0", "10.5.0.255", "10.6.0.1", "fd00::1", "x", "10.5.0.3/33"} {
		p.fails("IpamDriver.RequestAddress", object{"PoolID": fixed, "Address": a}, a)
	}
	for _, a := range []string{"10.5.0.17", "10.5.0.17", "10.5.0.18/24", "10.9.0.1", ""} {
		p.must("IpamDriver.ReleaseAddress", object{"PoolID": fixed, "Address": a})
	}
	p.must("IpamDriver.RequestAddress", object{"PoolID": fixed})
	p.must("IpamDriver.RequestAddress", object{"PoolID": fixed})
	p.fails("IpamDriver.RequestAddress", object{"PoolID": fixed}, "none is free")
	p.fails("IpamDriver.RequestAddress", object{"PoolID": "10.99.0.0/24"}, "10.99.0.0/24", "no such pool")
	p.must("IpamDriver.ReleaseAddress", object{"PoolID": "10.99.0.0/24", "Address": "10.99.0.1"})
	for range 2 {
		for _, id := range []any{first["PoolID"], second["PoolID"], fixed, "10.99.0.0/24"} {
			p.must("IpamDriver.ReleasePool", object{"PoolID": id})
		}
	}
	p.fails("IpamDriver.RequestAddress", object{"PoolID": fixed}, "no such pool")
	p.unchanged(before, "the pools were released")
}

// hex is an ID as Docker makes them.
func hex(digit string) string { return strings.Repeat(digit, 64) }

// theNetwork is one as Docker asks for it.
func theNetwork() object {
	return object{"NetworkID": hex("a"), "Options": object{"com.docker.network.generic": object{}, "com.docker.network.enable_ipv6": false},
		"IPv4Data": []object{{"AddressSpace": "LocalDefault", "Pool": "10.5.0.0/24", "Gateway": "10.5.0.1/24"}}, "IPv6Data": []object{}}
}

// endpoint is one of the network, with more fields.
func endpoint(digit string, more object) object {
	out := object{"NetworkID": hex("a"), "EndpointID": hex(digit)}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// at is an interface with an address.
func at(address string) object { return object{"Interface": object{"Address": address}} }

// bound is the option with a published port.
func bound(proto, port, hostPort int) object {
	return object{"Options": object{"com.docker.network.portmap": []object{{"Proto": proto, "Port": port, "HostPort": hostPort, "HostPortEnd": hostPort}}}}
}

// wrongOrder: what is not there cannot be used, and may be removed.
func wrongOrder(p *plugin) {
	before := p.state()
	box := object{"SandboxKey": "/run/docker/netns/x"}
	p.fails("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.2/24")), "aaaaaaaaaaaa", "no such network")
	p.fails("NetworkDriver.Join", endpoint("b", box), "no such network")
	for _, method := range []string{"EndpointOperInfo", "ProgramExternalConnectivity"} {
		p.fails("NetworkDriver."+method, endpoint("b", nil), "bbbbbbbbbbbb", "no container")
	}
	for _, method := range []string{"Leave", "DeleteEndpoint", "RevokeExternalConnectivity", "DeleteNetwork"} {
		p.must("NetworkDriver."+method, endpoint("b", nil))
	}
	p.unchanged(before, "calls about nothing")
	p.must("NetworkDriver.CreateNetwork", theNetwork())
	made := p.state()
	p.fails("NetworkDriver.Join", endpoint("b", box), "bbbbbbbbbbbb", "not known")
	p.must("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.2/24")))
	p.fails("NetworkDriver.ProgramExternalConnectivity", endpoint("b", bound(6, 80, 8080)), "no container")
	p.fails("NetworkDriver.EndpointOperInfo", endpoint("b", nil), "no container")
	p.must("NetworkDriver.Leave", endpoint("b", nil))
	p.must("NetworkDriver.DeleteEndpoint", endpoint("b", nil))
	p.fails("NetworkDriver.Join", endpoint("b", box), "not known")
	p.unchanged(made, "an endpoint that nobody joined")
	p.must("NetworkDriver.DeleteNetwork", object{"NetworkID": hex("a")})
	p.unchanged(before, "the network went")
}

// twice makes each call as often as Docker may after a time-out: the second time
// the answer is the same, or says that it is done.
func twice(p *plugin) {
	before := p.state()
	box := object{"SandboxKey": "/run/docker/netns/x"}
	p.must("NetworkDriver.CreateNetwork", theNetwork())
	p.must("NetworkDriver.CreateNetwork", theNetwork())
	empty := p.state()
	given := p.must("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.2/24")))
	if given := given["Interface"].(object); len(given) != 1 || given["MacAddress"] != "02:42:0a:05:00:02" {
		p.Errorf("the endpoint gets %v, want what Docker did not say", given)
	}
	p.fails("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.3/24")), "bbbbbbbbbbbb", "already")
	joined := p.must("NetworkDriver.Join", endpoint("b", box))
	once := p.state()
	if again := p.must("NetworkDriver.Join", endpoint("b", box)); fmt.Sprint(again) != fmt.Sprint(joined) {
		p.Errorf("joined as %v, then as %v", joined, again)
	}
	other := theNetwork()
	other["NetworkID"], other["IPv4Data"] = hex("d"), []object{{"Pool": "10.6.0.0/24", "Gateway": "10.6.0.1/24"}}
	p.must("NetworkDriver.CreateNetwork", other)
	elsewhere := endpoint("b", box)
	elsewhere["NetworkID"] = hex("d")
	p.fails("NetworkDriver.Join", elsewhere, "bbbbbbbbbbbb", "on another network")
	p.must("NetworkDriver.DeleteNetwork", object{"NetworkID": hex("d")})
	name := joined["InterfaceName"].(object)
	p.sh("ip link show dev " + name["SrcName"].(string))
	if name["DstPrefix"] != "eth" || joined["Gateway"] != "10.5.0.1" {
		p.Errorf("joined as %v", joined)
	}
	p.fails("NetworkDriver.Join", endpoint("b", object{"SandboxKey": "/run/docker/netns/y"}), "bbbbbbbbbbbb")
	p.fails("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.3/24")), "already")
	p.fails("NetworkDriver.DeleteNetwork", object{"NetworkID": hex("a")}, "still used")
	p.unchanged(once, "the same again")

	p.must("NetworkDriver.ProgramExternalConnectivity", endpoint("b", bound(6, 80, 8080)))
	published := p.state()
	p.must("NetworkDriver.ProgramExternalConnectivity", endpoint("b", bound(6, 80, 8080)))
	p.unchanged(published, "the same port again")
	if info := fmt.Sprint(p.must("NetworkDriver.EndpointOperInfo", endpoint("b", nil))); !strings.Contains(info, "8080") {
		p.Errorf("info is %s", info)
	}
	for range 2 {
		p.must("NetworkDriver.RevokeExternalConnectivity", endpoint("b", nil))
	}
	p.unchanged(once, "the port was taken back")
	for range 2 {
		p.must("NetworkDriver.Leave", endpoint("b", nil))
	}
	for range 2 {
		p.must("NetworkDriver.DeleteEndpoint", endpoint("b", nil))
	}
	p.unchanged(empty, "the endpoint went")
	for range 2 {
		p.must("NetworkDriver.DeleteNetwork", object{"NetworkID": hex("a")})
	}
	p.unchanged(before, "the network went")
}

// refusedCalls are well-formed and cannot be.
func refusedCalls(p *plugin) {
	before := p.state()
	for what, change := range map[string]object{
		"wrong type of options": {"Options": object{"com.docker.network.generic": 1}},
		"want a string":         {"Options": object{"com.docker.network.generic": object{"mtu": 1}}},
		"one subnet of each":    {"IPv4Data": []object{{"Pool": "10.5.0.0/24"}, {"Pool": "10.6.0.0/24"}}},
		"10.9.0.1":              {"IPv4Data": []object{{"Pool": "10.5.0.0/24", "Gateway": "10.9.0.1/24"}}},
		"aux-address x":         {"IPv4Data": []object{{"Pool": "10.5.0.0/24", "AuxAddresses": object{"x": "y"}}}},
		"null":                  {"IPv4Data": []object{{"Pool": "0.0.0.0/0"}}},
		"10.5.0.0/33":           {"IPv4Data": []object{{"Pool": "10.5.0.0/33"}}},
		"dead:":                 {"IPv6Data": []object{{"Pool": "dead:"}}},
	} {
		in := theNetwork()
		for k, v := range change {
			in[k] = v
		}
		if what == "wrong type of options" {
			what = "want an object"
		}
		p.fails("NetworkDriver.CreateNetwork", in, what)
		p.unchanged(before, what)
	}
	p.must("NetworkDriver.CreateNetwork", theNetwork())
	p.sealane("run -d --name ours -p 8090:80 -- sleep 1000")
	made := p.state()
	box := object{"SandboxKey": "/run/docker/netns/x"}
	for _, in := range []object{{}, at("x"), at("10.5.0.2/99"), at("fe80::1%eth0/64"), {"Interface": object{"Address": "10.5.0.2/24", "MacAddress": "03:00:00:00:00:01"}},
		{"Interface": object{"Address": "10.5.0.2/24", "MacAddress": "x"}}} {
		p.fails("NetworkDriver.CreateEndpoint", endpoint("b", in))
	}
	for _, address := range []string{"10.5.0.1/24", "10.5.0.0/24", "10.5.0.255/24", "10.6.0.2/24", "fd00::2/64"} {
		p.fails("NetworkDriver.CreateEndpoint", endpoint("c", at(address)), strings.Split(address, "/")[0])
	}
	p.must("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.2/24")))
	p.fails("NetworkDriver.CreateEndpoint", endpoint("c", at("10.5.0.2/24")), "10.5.0.2", "endpoint bbbbbbbbbbbb")
	for _, key := range []string{"", "x", "../x"} {
		p.fails("NetworkDriver.Join", endpoint("b", object{"SandboxKey": key}), "sandbox key")
	}
	p.must("NetworkDriver.DeleteEndpoint", endpoint("b", nil))
	p.unchanged(made, "refused endpoints")
	p.must("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.2/24")))
	p.must("NetworkDriver.Join", endpoint("b", box))
	p.must("NetworkDriver.ProgramExternalConnectivity", endpoint("b", bound(6, 80, 8080)))
	joined := p.state()
	for _, ports := range []object{bound(1, 80, 8081), bound(6, 0, 8081), bound(6, 80, 8090), {"Options": object{"com.docker.network.portmap": "x"}},
		{"Options": object{"com.docker.network.portmap": []object{{"Proto": 6, "Port": 80, "HostIP": "x", "HostPort": 8081}}}},
		{"Options": object{"com.docker.network.portmap": []object{{"Proto": 6, "Port": 81, "HostPort": 8082}, {"Proto": 6, "Port": 80, "HostPort": 8090}}}}} {
		p.fails("NetworkDriver.ProgramExternalConnectivity", endpoint("b", ports))
		p.unchanged(joined, fmt.Sprint(ports))
	}
	p.must("NetworkDriver.DeleteEndpoint", endpoint("b", nil))
	p.unchanged(made, "the endpoint went")
	p.fails("NetworkDriver.AllocateNetwork", theNetwork(), "swarm")
	p.fails("NetworkDriver.FreeNetwork", object{"NetworkID": hex("a")}, "swarm")
	p.must("NetworkDriver.DeleteNetwork", object{"NetworkID": hex("a")})
	p.sealane("rm -f ours")
	p.unchanged(before, "the network went")
	p.asIntended()
}

// killedBetween: what was created can be joined whatever became of the daemon
// meanwhile, or deleted, or goes with its network; until then its address is taken.
func killedBetween(p *plugin) {
	before := p.state()
	p.must("NetworkDriver.CreateNetwork", theNetwork())
	empty := p.state()
	p.must("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.2/24")))
	p.must("NetworkDriver.CreateEndpoint", endpoint("c", object{"Interface": object{"Address": "10.5.0.3/24", "MacAddress": "02:00:00:00:00:77"}}))
	p.again()
	p.fails("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.4/24")), "bbbbbbbbbbbb", "already")
	p.shows(0, "sealane network inspect --format '{{range .Subnets}}{{.Usage.InUse}}{{end}}' docker-"+hex("a")[:12], "5")
	p.refused("sealane run --name thief --network docker-"+hex("a")[:12]+" --ip 10.5.0.2 -- true", "10.5.0.2", "endpoint bbbbbbbbbbbb")
	joined := p.must("NetworkDriver.Join", endpoint("b", object{"SandboxKey": "/run/docker/netns/x"}))
	if device := joined["InterfaceName"].(object)["SrcName"]; device != "slpbbbbbbbbbbbb" {
		p.Errorf("joined as %v", joined)
	}
	p.must("NetworkDriver.Join", endpoint("c", object{"SandboxKey": "/run/docker/netns/y"}))
	p.sh("ip -o link show dev slpcccccccccccc | grep 02:00:00:00:00:77")
	p.asIntended()
	p.must("NetworkDriver.DeleteEndpoint", endpoint("b", nil))
	p.must("NetworkDriver.DeleteEndpoint", endpoint("c", nil))
	p.unchanged(empty, "the endpoints went")
	p.must("NetworkDriver.CreateEndpoint", endpoint("b", at("10.5.0.2/24")))
	p.must("NetworkDriver.CreateEndpoint", endpoint("d", at("10.5.0.4/24")))
	p.again()
	p.must("NetworkDriver.DeleteEndpoint", endpoint("b", nil))
	p.fails("NetworkDriver.Join", endpoint("b", object{"SandboxKey": "/run/docker/netns/x"}), "not known")
	p.must("NetworkDriver.DeleteNetwork", object{"NetworkID": hex("a")})
	p.unchanged(before, "the network went, with an endpoint that waited")
	p.asIntended()
}

// again is kill -9 of the daemon, and a start.
func (p *plugin) again() {
	p.Helper()
	p.a.Kill9()
	p.a.Restart()
	p.http.CloseIdleConnections()
}
