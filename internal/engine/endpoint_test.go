package engine

import (
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

func TestEndpointSettings(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24", "fd01::/64")
	r.network("back", "10.2.0.0/24", "fd02::/64")
	sysctls := []string{"net.ipv4.conf.IFNAME.log_martians=1"}
	web := r.sandbox("web", SandboxSpec{Networks: []EndpointSpec{
		{Network: "app", LinkLocal: at("169.254.8.8", "fe80::88"), Sysctls: sysctls},
		{Network: "back", Sysctls: []string{"net.ipv6.conf.IFNAME.disable_ipv6=1"}},
	}})
	r.equal("link-local", web.Endpoints[0].LinkLocal, "[169.254.8.8/16 fe80::88/64]")
	r.equal("settings", web.Endpoints[0].Sysctls, "[net.ipv4.conf.IFNAME.log_martians=1]")
	r.equal("without IPv6", web.Endpoints[1].Addrs, "[10.2.0.2/24]")
	none := r.sandbox("none", SandboxSpec{Networks: on("app"), Sysctls: map[string]string{"net.ipv6.conf.all.disable_ipv6": "1"}})
	r.equal("without any IPv6", none.Endpoints[0].Addrs, "[10.1.0.3/24]")
	r.equal("IPv6 addresses go on from the last one given", r.sandbox("next", SandboxSpec{Networks: on("app")}).Endpoints[0].Addrs, "[10.1.0.4/24 fd01::3/64]")
	r.check()
	r.restart()
	r.check()

	mac := model.LinkLocal(none.Endpoints[0].MAC).Addr()
	for want, try := range map[string]func(*rig) error{
		"sandbox new: create: link-local-ip 169.254.8.8: taken by sandbox web": run(SandboxSpec{Networks: []EndpointSpec{{Network: "app", LinkLocal: at("169.254.8.8")}}}),
		"sandbox new: create: link-local-ip " + mac.String() + ": taken by sandbox none": run(SandboxSpec{
			Networks: []EndpointSpec{{Network: "app", LinkLocal: []netip.Addr{mac}}}}),
		"network app: connect web: is connected already": connect("web", EndpointSpec{Network: "app", LinkLocal: at("169.254.8.9")}),
	} {
		before := r.all()
		if err := try(r); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if after := r.all(); after != before {
			t.Errorf("%s: left traces", want)
		}
	}
	r.ok(r.e.RemoveSandbox(r.ctx, "web", true))
	r.sandbox("heir", SandboxSpec{Networks: []EndpointSpec{{Network: "app", LinkLocal: at("169.254.8.8")}}})
	r.check()
}

// TestLinksOfAnEndpoint come and go with it; the sandbox's own stay.
func TestLinksOfAnEndpoint(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/24")
	r.sandbox("db", SandboxSpec{Networks: on("bridge")})
	r.sandbox("web", SandboxSpec{Networks: on("bridge"), Links: []model.Link{{Target: "db", Alias: "db"}}})
	links := func() (out []string) {
		for _, l := range must[*model.Sandbox](r)(r.e.Sandbox("web")).Links {
			out = append(out, l.Target+":"+l.Alias)
		}
		return out
	}
	r.ok(connect("web", EndpointSpec{Network: "app", Links: []model.Link{{Target: "cache", Alias: "c"}}})(r))
	r.equal("connected", links(), "[db:db cache:c]")
	r.check()
	r.ok(r.e.Disconnect(r.ctx, "web", "app"))
	r.equal("disconnected", links(), "[db:db]")
	err := connect("web", EndpointSpec{Network: "app", Links: []model.Link{{Target: "cache", Alias: "DB"}}})(r)
	if model.KindOf(err) != model.Invalid {
		t.Errorf("one alias of two: %v", err)
	}
	r.equal("refused", links(), "[db:db]")
	r.check()
}

func TestPublishAll(t *testing.T) {
	r := newRig(t)
	web := r.sandbox("web", SandboxSpec{Networks: on("bridge"), PublishAll: true,
		Ports: ports("8080:80", "8053:53/udp"), Expose: ports("79-82", "80", "53/udp", "53", "82-83")})
	r.equal("ports", web.Ports, "[8080:80/tcp 8053:53/udp 20000:79/tcp 20001-20002:81-82/tcp 20003:53/tcp 20004:83/tcp]")
	r.check()
}

func TestUpdateNetwork(t *testing.T) {
	r := newRig(t)
	made := r.network("app", "10.1.0.0/24", "fd01::/64", "icc=false")
	r.given = append(r.given, kstate.Addr{Dev: "eth0", Prefix: netip.MustParsePrefix("2001:db8::1/64"), Other: true})
	r.k.Foreign(r.given...)
	update := func(up NetworkUpdate) (*model.Network, error) { return r.e.UpdateNetwork(r.ctx, "app", up) }
	n := must[*model.Network](r)(update(NetworkUpdate{Labels: map[string]string{"a": "1", "b": ""}, Options: map[string]string{
		"com.docker.network.host_ipv4": "198.51.100.9", "com.docker.network.host_ipv6": "2001:db8::1"}}))
	r.equal("options", n.Options.Map()["source-ip"]+" "+n.Options.Map()["icc"], "198.51.100.9,2001:db8::1 false")
	n = must[*model.Network](r)(update(NetworkUpdate{DropLabels: []string{"a", "none"}, Options: map[string]string{"icc": "", "source-ip": ""}}))
	r.equal("labels", n.Labels, "map[b:]")
	r.equal("the rest", n.Options.MTU, "1450")
	if _, is := n.Options.Map()["source-ip"]; is || n.Options.NoICC || made.ID != n.ID {
		t.Errorf("options: %v", n.Options)
	}
	r.check()
	for want, options := range map[string]map[string]string{
		"network app: update: option icc: given twice, as com.docker.network.bridge.enable_icc and icc": {"icc": "", "com.docker.network.bridge.enable_icc": "true"},
		"network app: update: mtu 1000: IPv6 needs at least 1280 (RFC 8200)":                            {"mtu": "1000"},
		"network app: update: option name: cannot change while the network exists":                      {"name": "br1"},
	} {
		if _, err := update(NetworkUpdate{Options: options}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	r.check()
}

// TestNoGatewayIsGiven: where the bridge has no address, all are for containers.
func TestNoGatewayIsGiven(t *testing.T) {
	r := newRig(t)
	pair := r.network("pair", "internal", "gateway-mode=isolated", "10.1.0.0/31")
	r.equal("gateway", pair.Subnets[0].Gateway.IsValid(), "false")
	_, err := r.e.UpdateNetwork(r.ctx, "pair", NetworkUpdate{Options: map[string]string{"icc": "false"}})
	r.ok(err)
	r.equal("first", r.sandbox("one", SandboxSpec{Networks: on("pair")}).Endpoints[0].Addrs, "[10.1.0.0/31]")
	r.equal("second", r.sandbox("two", SandboxSpec{Networks: on("pair")}).Endpoints[0].Addrs, "[10.1.0.1/31]")
	r.check()
}
