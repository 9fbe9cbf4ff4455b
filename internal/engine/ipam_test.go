package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

func (r *rig) refused(err error, kind model.Kind, want string) {
	r.Helper()
	if err == nil || model.KindOf(err) != kind || !strings.Contains(err.Error(), want) {
		r.Errorf("%v, want %s, %q", err, kind, want)
	}
}

// An address belongs to the sandbox for as long as that is known, ended or
// not, and then rests.
func TestAddressesStayReserved(t *testing.T) {
	r := newRig(t)
	r.network("app", "10.1.0.0/29", "fd01::/64") // 10.1.0.2 to .6
	fixed := []EndpointSpec{{Network: "app", Addrs: at("10.1.0.4", "fd01::4")}}
	r.sandbox("fixed", SandboxSpec{Networks: fixed})
	first := r.sandbox("auto", SandboxSpec{Networks: on("app")})
	mine := first.Endpoints[0].Addrs[0].Addr()
	r.equal("automatic", mine, "10.1.0.2")
	for _, name := range []string{"fixed", "auto"} {
		r.ok(r.e.Exited(r.ctx, name, model.Exit{}))
	}
	for _, again := range []bool{false, true} {
		if again {
			r.restart()
		}
		for addr, owner := range map[string]string{"10.1.0.4": "fixed", "fd01::4": "fixed", "10.1.0.2": "auto"} {
			spec := SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at(addr)}}}
			r.refused(run(spec)(r), model.Conflict, "address "+addr+": taken by sandbox "+owner)
		}
	}
	for _, want := range []string{"10.1.0.3", "10.1.0.5", "10.1.0.6"} {
		sb := r.sandbox("at-"+want[7:], SandboxSpec{Networks: on("app")})
		r.equal("next", sb.Endpoints[0].Addrs[0].Addr(), want)
	}
	r.refused(run(SandboxSpec{Networks: on("app")})(r), model.Exhausted, "none is free")

	// Of two that are free, the one that rested long enough goes first; whoever
	// asks for one by name gets it.
	r.ok(r.e.RemoveSandbox(r.ctx, "at-5", false))
	r.ok(r.e.RemoveSandbox(r.ctx, "auto", false))
	r.sandbox("asks", SandboxSpec{Networks: []EndpointSpec{{Network: "app", Addrs: at("10.1.0.2")}}})
	r.equal("last resort", r.sandbox("late", SandboxSpec{Networks: on("app")}).Endpoints[0].Addrs[0].Addr(), "10.1.0.5")
}

// Subnets that are asked for by their size, and those without a gateway, are as
// they were after a restart, and so is what comes next.
func TestSubnetsAfterARestart(t *testing.T) {
	r := newRig(t)
	sized := r.network("sized", "0.0.0.0/24", "::/120")
	r.equal("IPv4", sized.Subnets[0].Prefix.Bits(), "24")
	r.equal("IPv6", sized.Subnets[1].Prefix.Bits(), "120")
	pair := r.network("pair", "10.1.0.0/31", "fd01::/127", "internal", "gateway-mode=isolated")
	for _, name := range []string{"left", "right"} {
		r.sandbox(name, SandboxSpec{Networks: on("pair")})
	}
	r.restart()
	for _, n := range []*model.Network{sized, pair} {
		again := must[*model.Network](t)(r.e.Network(n.Name))
		r.equal(n.Name, again.Subnets, fmt.Sprint(n.Subnets))
	}
	r.refused(run(SandboxSpec{Networks: on("pair")})(r), model.Exhausted, "none is free")
	r.ok(r.e.RemoveNetwork(r.ctx, "sized"))
	r.equal("the place is free again", r.network("sized", "0.0.0.0/24", "::/120").Subnets, fmt.Sprint(sized.Subnets))
}

// Automatic subnets stay away from what the host has and reaches: addresses,
// routes in every table, name servers.
func TestAutomaticSubnetsStayAway(t *testing.T) {
	r := bare(t)
	r.quiet = true
	r.k.Foreign(
		kstate.Addr{Dev: "eth0", Prefix: netip.MustParsePrefix("172.17.9.9/24"), Other: true},
		kstate.Route{Dst: netip.MustParsePrefix("172.18.0.0/19"), Via: netip.MustParseAddr("198.51.100.7"), Dev: "dummy0"},
	)
	r.prepare()
	r.cfg.SideRoutes = func() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("172.18.40.0/24")} }
	host := r.cfg.Host
	r.cfg.Host = func() Host {
		h := host()
		h.Resolv.Servers = append(h.Resolv.Servers, netip.MustParseAddr("172.18.50.53"))
		return h
	}
	r.e = New(r.cfg)
	r.ok(r.e.Start(r.ctx))
	r.equal("default network", must[*model.Network](t)(r.e.Network("bridge")).Subnets[0].Prefix, "172.18.64.0/20")
	r.equal("the next", r.network("app").Subnets[0].Prefix, "172.18.80.0/20")
}

// Three hundred networks that nobody chose a subnet for overlap nothing. What
// finding one takes, BenchmarkNextSubnet tells.
func TestManyNetworks(t *testing.T) {
	r := newRig(t)
	const n = 300
	for i := range n {
		r.network(fmt.Sprint("n", i))
	}
	all := r.e.Networks()
	r.equal("networks", len(all), fmt.Sprint(n+1))
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Subnets[0].Prefix.Overlaps(b.Subnets[0].Prefix) {
				t.Errorf("%s of %s overlaps %s of %s", a.Subnets[0].Prefix, a.Name, b.Subnets[0].Prefix, b.Name)
			}
		}
	}
}
