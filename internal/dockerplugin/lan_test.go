package dockerplugin

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/model"
)

// lanNetwork is a call that makes a network on the LAN: 10.5.0.0/24 and fd05::/64.
func lanNetwork(driver, more, generic string) string {
	return `{"NetworkID":"` + fuzzNetwork + `","Options":{"com.docker.network.generic":{"driver":"` + driver + `"` + generic + `}` + more + `},` +
		`"IPv4Data":[{"Pool":"10.5.0.0/24","Gateway":"10.5.0.1/24"}],"IPv6Data":[{"Pool":"fd05::/64","Gateway":"fd05::1/64"}]}`
}

const (
	lanEndpoint = `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + fuzzEndpoint + `","Interface":{"Address":"10.5.0.16/24","AddressIPv6":"fd05::2/64"%s}}`
	lanInternal = `,"com.docker.network.internal":true`
)

// TestLAN: what Docker is told of a container's device, hardware address and way
// out, by driver and mode.
func TestLAN(t *testing.T) {
	const parent = `,"parent":"eth7"`
	both := map[string]any{"Gateway": "10.5.0.1", "GatewayIPv6": "fd05::1", "DisableGatewayService": false}
	none := map[string]any{"DisableGatewayService": true}
	points := map[string]any{"DisableGatewayService": true, "StaticRoutes": []any{
		map[string]any{"Destination": "0.0.0.0/0", "RouteType": 1.0}, map[string]any{"Destination": "::/0", "RouteType": 1.0},
	}}
	for _, c := range []struct {
		name, driver, more, generic string
		mac                         string // that Docker gets; "" is none
		way                         map[string]any
	}{
		{"macvlan", "macvlan", "", parent, "02:42:0a:05:00:10", both},
		{"passthru", "macvlan", "", parent + `,"mode":"passthru"`, "", both},
		{"macvlan, internal", "macvlan", lanInternal, parent, "02:42:0a:05:00:10", none},
		{"macvlan without a parent", "macvlan", lanInternal, "", "02:42:0a:05:00:10", none},
		{"ipvlan", "ipvlan", "", parent, "", both},
		{"ipvlan l3", "ipvlan", "", parent + `,"ipvlan_mode":"l3"`, "", points},
		{"ipvlan l3s", "ipvlan", "", parent + `,"mode":"l3s"`, "", points},
		{"ipvlan l3, internal", "ipvlan", lanInternal, parent + `,"mode":"l3"`, "", none},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, k := newEngineOn(t)
			p := New(e)
			say := func(method, body string) map[string]any {
				t.Helper()
				var out map[string]any
				_, text := ask(p, "/NetworkDriver."+method, body)
				if err := json.Unmarshal([]byte(text), &out); err != nil || out["Err"] != nil {
					t.Fatalf("%s: %s", method, text)
				}
				return out
			}
			say("CreateNetwork", lanNetwork(c.driver, c.more, c.generic))
			if !strings.HasPrefix(c.mac, "02") {
				if _, text := ask(p, "/NetworkDriver.CreateEndpoint", fmt.Sprintf(lanEndpoint, `,"MacAddress":"02:00:00:00:00:01"`)); !strings.Contains(text, "its interfaces have their parent's") {
					t.Errorf("a hardware address: %s", text)
				}
			}
			made := say("CreateEndpoint", fmt.Sprintf(lanEndpoint, ""))["Interface"].(map[string]any)
			if mac, _ := made["MacAddress"].(string); mac != c.mac {
				t.Errorf("hardware address %q, want %q", mac, c.mac)
			}
			got := say("Join", seeds[callJoin].body)
			want := map[string]any{"InterfaceName": map[string]any{"SrcName": "slp" + fuzzEndpoint[:model.IDLen], "DstPrefix": "eth"}}
			for key, v := range c.way {
				want[key] = v
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Join: %v\nwant %v", got, want)
			}
			device := "link slp" + fuzzEndpoint[:model.IDLen] + " type " + c.driver + " "
			if !strings.Contains(k.Dump(), device) {
				t.Errorf("no %sin\n%s", device, k.Dump())
			}
			if again := say("Join", seeds[callJoin].body); !reflect.DeepEqual(again, got) {
				t.Errorf("Join again: %v", again)
			}
			if info := say("EndpointOperInfo", seeds[callJoin].body)["Value"].(map[string]any); info["sealane.device"] != nil {
				t.Errorf("a host's end: %v", info)
			}
			if _, text := ask(p, "/NetworkDriver.ProgramExternalConnectivity", seeds[callPublish].body); !strings.Contains(text, "its containers are reached at their own addresses") {
				t.Errorf("ports: %s", text)
			}
			say("Leave", seeds[callJoin].body)
			say("DeleteEndpoint", seeds[callJoin].body)
			if strings.Contains(k.Dump(), device) {
				t.Errorf("left:\n%s", k.Dump())
			}
			say("DeleteNetwork", seeds[callJoin].body)
		})
	}
}

// TestSubnetsOfAFamily: a container has the router of the subnet that it is in. What
// takes one subnet only says so.
func TestSubnetsOfAFamily(t *testing.T) {
	const create = `{"NetworkID":"` + fuzzNetwork + `","Options":{"com.docker.network.generic":{"driver":"%s"%s}},` +
		`"IPv4Data":[{"Pool":"10.5.0.0/24","Gateway":"10.5.0.1/24"},{"Pool":"10.6.0.0/25","Gateway":"10.6.0.1/25"}],` +
		`"IPv6Data":[{"Pool":"fd05::/64","Gateway":"fd05::1/64"},{"Pool":"fd06::/64","Gateway":"fd06::1/64"}]}`
	for driver, options := range map[string]string{"macvlan": `,"parent":"eth7"`, "ipvlan": `,"parent":"eth7"`} {
		p := New(newEngine(t))
		if _, text := ask(p, "/NetworkDriver.CreateNetwork", fmt.Sprintf(create, driver, options)); text != "{}\n" {
			t.Fatalf("%s: %s", driver, text)
		}
		for id, c := range map[string]struct{ four, six, gateway, gateway6 string }{
			"bbbbbbbbbbbb": {"10.5.0.9/24", "fd06::9/64", "10.5.0.1", "fd06::1"},
			"cccccccccccc": {"10.6.0.9/25", "fd05::9/64", "10.6.0.1", "fd05::1"},
		} {
			about := `{"NetworkID":"` + fuzzNetwork + `","EndpointID":"` + id + `"`
			if _, text := ask(p, "/NetworkDriver.CreateEndpoint", about+`,"Interface":{"Address":"`+c.four+`","AddressIPv6":"`+c.six+`"}}`); strings.Contains(text, "Err") {
				t.Fatalf("%s: %s", driver, text)
			}
			_, text := ask(p, "/NetworkDriver.Join", about+`,"SandboxKey":"/run/docker/netns/`+id+`"}`)
			if want := `"Gateway":"` + c.gateway + `","GatewayIPv6":"` + c.gateway6 + `"`; !strings.Contains(text, want) {
				t.Errorf("%s: %s: %s, want %s in it", driver, id, text, want)
			}
		}
	}
	for driver, options := range map[string]string{"bridge": "", "ovs": `,"name":"ovsbr0"`} {
		e := newEngine(t)
		_, text := ask(New(e), "/NetworkDriver.CreateNetwork", fmt.Sprintf(create, driver, options))
		if !strings.Contains(text, "subnet 10.6.0.0/25: a "+driver+" network takes one subnet of each address family") {
			t.Errorf("%s: %s", driver, text)
		}
	}
}

// TestNoNIC: a NIC itself is not Docker's to move.
func TestNoNIC(t *testing.T) {
	e, _ := newEngineOn(t)
	_, text := ask(New(e), "/NetworkDriver.CreateNetwork", lanNetwork("phys", "", `,"parent":"eth7"`))
	if !strings.Contains(text, "driver phys: ") || !strings.Contains(text, "sealane network connect") {
		t.Error(text)
	}
}
