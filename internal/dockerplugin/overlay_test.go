package dockerplugin

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// app does what docker network create has the plugin do for the overlay 10.6.0.0/24, and
// returns the refusal.
func (m *member) app(id, request, generic string) string {
	m.Helper()
	const pool = "10.6.0.0/24"
	if _, refused := m.call("IpamDriver.RequestPool", request); refused != "" {
		return refused
	}
	gateway := m.must("IpamDriver.RequestAddress", `{"PoolID":"`+pool+`"}`)["Address"]
	_, refused := m.call("NetworkDriver.CreateNetwork", fmt.Sprintf(`{"NetworkID":"%s","Options":{"com.docker.network.generic":{"driver":"overlay"%s}},"IPv4Data":[{"Pool":"%s","Gateway":"%s"}]}`, id, generic, pool, gateway))
	if refused != "" {
		m.must("IpamDriver.ReleasePool", `{"PoolID":"`+pool+`"}`)
	}
	return refused
}

const appPool, askApp = `"PoolID":"10.6.0.0/24"`, `{"Pool":"10.6.0.0/24"}`

// overlays are the overlay networks that this host has.
func (m *member) overlays() (out []*model.Network) {
	for _, n := range m.engine.Networks() {
		if n.Overlay != nil {
			out = append(out, n)
		}
	}
	return out
}

// until waits until something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// TestOverlay: Docker's network on two hosts is one, on which no two containers have one
// address, and stays when Docker has it no more.
func TestOverlay(t *testing.T) {
	hosts := newMembers(t, 2)
	ids := []string{podsHere, podsThere}
	var made sync.WaitGroup
	for i, id := range ids {
		made.Go(func() {
			if refused := hosts[i].app(id, askApp, ""); refused != "" {
				t.Error(refused)
			}
		})
	}
	made.Wait()
	var lent []string
	seen := map[string]bool{"10.6.0.1/24": true}
	for i, id := range ids {
		m := hosts[i]
		if got := m.overlays(); len(got) != 1 || got[0].Docker != model.ID(id[:model.IDLen]) || len(m.engine.Networks()) != 2 {
			t.Fatalf("host %d has %+v", i, got)
		}
		m.must("NetworkDriver.CreateNetwork", `{"NetworkID":"`+id+`"}`) // asked twice
		for range 3 {
			a := m.must("IpamDriver.RequestAddress", `{`+appPool+`}`)["Address"].(string)
			if seen[a] {
				t.Errorf("address %s: was lent already", a)
			}
			seen[a] = true
			lent = append(lent, netip.MustParsePrefix(a).Addr().String())
		}
	}
	other := func(from int, a, want string) {
		t.Helper()
		if _, refused := hosts[from].call("IpamDriver.RequestAddress", `{`+appPool+`,"Address":"`+a+`"}`); !strings.Contains(refused, want) {
			t.Errorf("%s on host %d: %q, want %q", a, from, refused, want)
		}
	}
	other(1, lent[0], "is taken by Docker of host h1")
	at := `{"NetworkID":"` + podsHere + `","EndpointID":"` + fuzzEndpoint + `","SandboxKey":"/run/docker/netns/x","Interface":{"Address":"` + lent[0] + `/24"},"Options":{"sealane.service":"web:8080*2"}}`
	h := hosts[0]
	h.must("NetworkDriver.CreateEndpoint", at)
	if got := h.must("NetworkDriver.Join", at)["Gateway"]; got != "10.6.0.1" {
		t.Errorf("gateway %v", got)
	}
	if sb := h.engine.ByEndpoint(model.ID(fuzzEndpoint[:model.IDLen])); sb == nil || fmt.Sprint(sb.Endpoints[0].Services) != "[web:8080*2]" {
		t.Errorf("sandbox %+v", sb)
	}
	far := func(from int, a, whose string, stopped bool) func() bool {
		return func() bool {
			for _, f := range hosts[from].overlays()[0].Overlay.Far {
				if len(f.Addrs) == 1 && f.Addrs[0].String() == a {
					return strings.HasPrefix(f.Sandbox, whose) && f.Stopped == stopped
				}
			}
			return whose == ""
		}
	}
	until(t, "the container has it", far(1, lent[0], "docker-", false))
	other(1, lent[0], "of host h1")
	if err := hosts[1].engine.RemoveNetwork(t.Context(), hosts[1].overlays()[0].Name); err == nil || !strings.Contains(err.Error(), "docker network rm") {
		t.Errorf("removed by our API: %v", err)
	}
	h.must("NetworkDriver.DeleteEndpoint", at)
	until(t, "Docker has it again", far(1, lent[0], "Docker", true))
	h.must("IpamDriver.ReleaseAddress", `{`+appPool+`,"Address":"`+lent[0]+`"}`)
	until(t, "nobody has it", far(1, lent[0], "", false))
	hosts[1].must("NetworkDriver.DeleteNetwork", `{"NetworkID":"`+podsThere+`"}`)
	hosts[1].must("IpamDriver.ReleasePool", `{`+appPool+`}`)
	if n := hosts[1].overlays(); len(n) != 1 || n[0].Docker != "" || len(n[0].Subnets[0].Lent) > 0 || len(hosts[1].engine.Networks()) != 2 {
		t.Errorf("after docker network rm: %+v", n)
	}
	until(t, "those are given back", far(0, lent[3], "", false))
	if err := hosts[1].engine.RemoveNetwork(t.Context(), hosts[1].overlays()[0].Name); err == nil || !strings.Contains(err.Error(), "Docker of host h1") {
		t.Errorf("removed while another host's Docker has it: %v", err)
	}
	h.must("NetworkDriver.DeleteNetwork", `{"NetworkID":"`+podsHere+`"}`)
	until(t, "it can be removed", func() bool {
		all := hosts[1].overlays()
		return len(all) == 0 || hosts[1].engine.RemoveNetwork(t.Context(), all[0].Name) == nil
	})
	until(t, "it is gone", func() bool { return len(h.overlays()) == 0 })
}

// TestOverlayIsNamed: the name that Docker says later is that of all hosts, if no other
// network has it.
func TestOverlayIsNamed(t *testing.T) {
	hosts := newMembers(t, 2)
	if refused := hosts[0].app(podsHere, askApp, ""); refused != "" {
		t.Fatal(refused)
	}
	until(t, "both know it", func() bool { return len(hosts[1].overlays()) == 1 })
	for _, name := range []string{"app", "other"} {
		if err := hosts[0].engine.NameNetwork(t.Context(), hosts[0].overlays()[0].ID, name, model.OriginDocker); err != nil {
			t.Error(err)
		}
		for _, m := range hosts {
			until(t, "it is called app", func() bool { return m.overlays()[0].Name == "app" })
		}
	}
}

// TestOverlayRefusals: what Docker cannot have of an overlay is said in a sentence, and
// leaves nothing.
func TestOverlayRefusals(t *testing.T) {
	alone := &member{T: t, engine: newEngine(t)}
	alone.plugin = New(alone.engine)
	hosts := newMembers(t, 2)
	if refused := hosts[0].app(podsHere, askApp, `,"mtu":"1400"`); refused != "" {
		t.Fatal(refused)
	}
	for _, c := range []struct {
		name             string
		m                *member
		request, generic string
		want             string
	}{
		{"no cluster", alone, askApp, "", "this host is in no cluster (sealane cluster init, or sealane daemon --etcd URL)"},
		{"no such option", hosts[1], askApp, `,"parent":"eth0"`, `option "parent": not known to driver overlay`},
		{"another VNI", hosts[1], askApp, `,"vni":"7"`, "option vni=7: the network of the cluster has 4096 (leave out what is to be as it is)"},
		{"another rule", hosts[1], askApp, `,"icc":"false"`, "option icc=false: the network of the cluster has"},
		{"a range", hosts[1], `{"Pool":"10.6.0.0/24","SubPool":"10.6.0.128/25"}`, "", "gateway 10.6.0.128: the network of the cluster has 10.6.0.1"},
		{"twice", hosts[0], askApp, "", "which Docker of this host has already"},
	} {
		before := len(c.m.engine.Networks())
		if refused := c.m.app(podsThere, c.request, c.generic); !strings.Contains(refused, c.want) || strings.Contains(refused, "\n") {
			t.Errorf("%s: got %q, want %q", c.name, refused, c.want)
		}
		if after := len(c.m.engine.Networks()); after != before {
			t.Errorf("%s: %d networks, were %d", c.name, after, before)
		}
	}
	m := hosts[1]
	body := `{"NetworkID":"` + podsThere + `","Options":{"com.docker.network.generic":{"driver":"overlay"}},"IPv4Data":[{"Pool":"%s"}]}`
	if _, refused := m.call("NetworkDriver.CreateNetwork", fmt.Sprintf(body, "10.7.0.0/24")); !strings.Contains(refused, "(add --ipam-driver sealane)") {
		t.Errorf("another IPAM: %q", refused)
	}
	chosen := m.must("IpamDriver.RequestPool", `{}`)["Pool"].(string)
	if _, refused := m.call("NetworkDriver.CreateNetwork", fmt.Sprintf(body, chosen)); !strings.Contains(refused, "add it, as --subnet 10.6.0.0/24") {
		t.Errorf("no subnet: %q", refused)
	}
	if refused := m.app(podsThere, askApp, `,"mtu":"1400","vni":"4096","icc":"true"`); refused != "" {
		t.Errorf("as it is: %s", refused)
	}
	if _, refused := m.call("IpamDriver.RequestAddress", `{`+appPool+`,"Address":"10.9.0.9"}`); !strings.Contains(refused, "is not of the network") {
		t.Errorf("an address of another subnet: %q", refused)
	}
}

// TestOverlayOfBothFamilies: Docker has two pools of one network, and a container an
// address of each.
func TestOverlayOfBothFamilies(t *testing.T) {
	hosts := newMembers(t, 2)
	const six = `{"Pool":"fd06::/64","V6":true}`
	for i, id := range []string{podsHere, podsThere} {
		m := hosts[i]
		m.must("IpamDriver.RequestPool", askApp)
		m.must("IpamDriver.RequestPool", six)
		m.must("NetworkDriver.CreateNetwork", `{"NetworkID":"`+id+`","Options":{"com.docker.network.generic":{"driver":"overlay"}},"IPv4Data":[{"Pool":"10.6.0.0/24","Gateway":"10.6.0.1/24"}],"IPv6Data":[{"Pool":"fd06::/64"}]}`)
		four := m.must("IpamDriver.RequestAddress", `{`+appPool+`}`)["Address"].(string)
		more := m.must("IpamDriver.RequestAddress", `{"PoolID":"fd06::/64"}`)["Address"].(string)
		at := `{"NetworkID":"` + id + `","EndpointID":"` + fuzzEndpoint + `","SandboxKey":"/run/docker/netns/x","Interface":{"Address":"` + four + `","AddressIPv6":"` + more + `"}}`
		m.must("NetworkDriver.CreateEndpoint", at)
		m.must("NetworkDriver.Join", at)
		until(t, "the other host knows it", func() bool {
			for _, n := range hosts[1-i].overlays() {
				for _, f := range n.Overlay.Far {
					if len(f.Addrs) == 2 && !f.Stopped {
						return true
					}
				}
			}
			return false
		})
	}
	if all := hosts[1].overlays(); len(all) != 1 || len(hosts[1].engine.Networks()) != 2 {
		t.Errorf("%d overlays: %+v", len(all), hosts[1].engine.Networks())
	}
}
