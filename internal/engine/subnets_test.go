package engine

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/model"
)

// twoOfFour is a network on a NIC that is down, with two subnets of IPv4 and one of IPv6.
func twoOfFour(driver string, options ...string) NetworkSpec {
	spec := lanSpec(driver, "lan", append(options, "parent=eth1", "10.6.0.0/29", "fd00:6::/64", "10.7.0.0/28")...)
	for i, a := range at("10.6.0.1", "fd00:6::1", "10.7.0.1") {
		spec.Subnets[i].Gateway = a
	}
	return spec
}

// where is where a sandbox is: its addresses, and the routers of their families.
func (r *rig) where(name string) string {
	r.Helper()
	sb := must[*model.Sandbox](r)(r.e.Sandbox(name))
	ep := &sb.Endpoints[0]
	n := must[*model.Network](r)(r.e.Network(string(ep.Network)))
	return fmt.Sprint(ep.Addrs, compile.Router(ep, n, false), compile.Router(ep, n, true))
}

// TestSubnetsOfAFamily: an endpoint is in one of them, and has its length and its router,
// whatever becomes of the daemon and of the network's options.
func TestSubnetsOfAFamily(t *testing.T) {
	for _, driver := range []string{model.DriverMacvlan, model.DriverIPvlan} {
		t.Run(driver, func(t *testing.T) {
			r := newRig(t)
			r.give(spare)
			n := must[*model.Network](t)(r.e.CreateNetwork(r.ctx, twoOfFour(driver, "host-leg=10.7.0.14")))
			usage := func(want string) {
				r.Helper()
				got := ""
				for _, u := range r.e.Usage(n) {
					got += fmt.Sprintf("%d/%d ", u.InUse, u.Free)
				}
				r.equal("usage", got, want)
			}
			r.sandbox("asks", SandboxSpec{Networks: []EndpointSpec{{Network: "lan", Addrs: at("10.7.0.2")}}})
			r.equal("asks", r.where("asks"), "[10.7.0.2/28 fd00:6::2/64] 10.7.0.1 fd00:6::1")
			for i := 2; i <= 6; i++ {
				name := fmt.Sprintf("first%d", i)
				r.sandbox(name, SandboxSpec{Networks: on("lan")})
				r.equal(name, r.where(name), fmt.Sprintf("[10.6.0.%d/29 fd00:6::%d/64] 10.6.0.1 fd00:6::1", i, i+1))
			}
			usage("8/0 8/18446744073709551608 5/11 ")
			r.sandbox("second", SandboxSpec{Networks: on("lan")})
			r.equal("second", r.where("second"), "[10.7.0.3/28 fd00:6::8/64] 10.7.0.1 fd00:6::1")
			r.check()
			before := []string{r.where("first2"), r.where("second")}
			r.restart()
			must[*model.Network](t)(r.e.UpdateNetwork(r.ctx, "lan", NetworkUpdate{Options: map[string]string{"mtu": "1400"}}))
			r.equal("after a restart", []string{r.where("first2"), r.where("second")}, fmt.Sprint(before))
			usage("8/0 9/18446744073709551607 6/10 ")

			// The cursors of both are as they were.
			for _, name := range []string{"first3", "second"} {
				r.ok(r.e.RemoveSandbox(r.ctx, name, true))
			}
			r.restart() // which forgets who rests
			r.sandbox("third", SandboxSpec{Networks: on("lan")})
			r.equal("third", r.where("third"), "[10.6.0.3/29 fd00:6::9/64] 10.6.0.1 fd00:6::1")
			r.sandbox("fourth", SandboxSpec{Networks: on("lan")})
			r.equal("fourth", r.where("fourth"), "[10.7.0.4/28 fd00:6::a/64] 10.7.0.1 fd00:6::1")
			r.ok(r.e.Disconnect(r.ctx, "fourth", "lan"))
			_, _, err := r.e.Connect(r.ctx, "fourth", EndpointSpec{Network: "lan", Outside: []netip.Prefix{netip.MustParsePrefix("10.7.0.9/28")}}, nil)
			r.ok(err)
			r.equal("an address with its subnet's length", r.where("fourth"), "[10.7.0.9/28 fd00:6::b/64] 10.7.0.1 fd00:6::1")
			r.check()
		})
	}
}

// TestSubnetsFill: an address that rests is given when no subnet has another, also where
// the wire is asked.
func TestSubnetsFill(t *testing.T) {
	for _, ask := range []bool{false, true} {
		r := bare(t)
		r.quiet = true
		r.prepare()
		l := &lanHosts{has: map[string]bool{"10.6.0.3": true, "10.7.0.2": true}}
		var late atomic.Int64
		clock := r.cfg.Now
		r.cfg.Now = func() time.Time { return clock().Add(time.Duration(late.Load())) }
		want := []string{"10.6.0.2", "10.6.0.3", "10.7.0.2", "10.7.0.3"}
		if ask {
			r.cfg.Probe = l.probe
			want = []string{"10.6.0.2", "10.7.0.3"}
		}
		r.e = New(r.cfg)
		r.ok(r.e.Start(r.ctx))
		r.give(spare)
		spec := lanSpec("macvlan", "lan", "parent=eth1", "10.6.0.0/24", "10.7.0.0/24")
		for i, p := range []string{"10.6.0.2/31", "10.7.0.2/31"} {
			spec.Subnets[i].Range = netip.MustParsePrefix(p)
		}
		must[*model.Network](t)(r.e.CreateNetwork(r.ctx, spec))
		next := func(name, want string) {
			t.Helper()
			sb := r.sandbox(name, SandboxSpec{Networks: on("lan")})
			r.equal("ask "+fmt.Sprint(ask)+": "+name, sb.Endpoints[0].Addrs, "["+want+"/24]")
		}
		for _, a := range want {
			next("at-"+a, a)
		}
		if ask {
			before := r.all()
			r.refused(run(SandboxSpec{Networks: on("lan")})(r), model.Exhausted, "subnet 10.6.0.0/24 and 10.7.0.0/24: none is free: others have all 2 addresses that were tried")
			r.equal("left", r.all() == before, "true")
		} else {
			r.refused(run(SandboxSpec{Networks: on("lan")})(r), model.Exhausted, "addresses of 10.6.0.2/31 and 10.7.0.2/31: none is free")
		}
		r.ok(r.e.RemoveSandbox(r.ctx, "at-10.6.0.2", true))
		late.Add(int64(time.Second))
		r.ok(r.e.RemoveSandbox(r.ctx, "at-10.7.0.3", true))
		late.Add(int64(ipam.Quarantine - time.Second/2)) // of the second one half a second is left
		next("rested", "10.6.0.2")
		next("rests", "10.7.0.3")
		r.check()
	}
}

// TestSubnetsBeside: another network on the device may have one of the subnets, with
// addresses of its own; engines and declarations find each.
func TestSubnetsBeside(t *testing.T) {
	r := newRig(t)
	r.give(spare)
	must[*model.Network](t)(r.e.CreateNetwork(r.ctx, twoOfFour("macvlan")))
	r.ok(createOn("macvlan", "beside", "parent=eth1", "10.7.0.0/28")(r))
	r.sandbox("db", SandboxSpec{Networks: on("beside")}) // .2: the other's router is the other's
	r.equal("db", r.where("db"), "[10.7.0.2/28] invalid IP invalid IP")
	r.refused(run(SandboxSpec{Networks: []EndpointSpec{{Network: "lan", Addrs: at("10.7.0.2")}}})(r), model.Conflict, "network lan: address 10.7.0.2: taken by sandbox db")
	n := must[*model.Network](t)(r.e.Network("lan"))
	r.ok(r.e.Expect(r.ctx, "lan", model.Waiting{ID: "feedfeedfeed", MAC: "02:00:00:00:00:77", Addrs: at("10.7.0.5")}))
	r.refused(run(SandboxSpec{Networks: []EndpointSpec{{Network: "beside", Addrs: at("10.7.0.5")}}})(r), model.Conflict, "taken by ")
	r.refused(r.e.Expect(r.ctx, "lan", model.Waiting{ID: "feedfeedfeee", MAC: "02:00:00:00:00:77", Addrs: at("10.7.0.15")}), model.Invalid, "broadcast")
	r.equal("usage", r.e.Usage(n)[2].InUse, "5")

	apply := func(spec NetworkSpec) error {
		_, err := r.e.Apply(r.ctx, Declaration{Networks: []NetworkSpec{spec}})
		return err
	}
	r.ok(apply(twoOfFour("macvlan")))
	other := twoOfFour("macvlan")
	other.Subnets[2].Gateway = netip.MustParseAddr("10.7.0.9")
	r.refused(apply(other), model.Conflict, "is there with gateway 10.7.0.1, not 10.7.0.9")
	other.Subnets[2] = model.Subnet{Prefix: netip.MustParsePrefix("10.8.0.0/28")}
	r.refused(apply(other), model.Conflict, "is there with subnet 10.6.0.0/29, not 10.8.0.0/28")
	r.check()
}

func TestSubnetsRefused(t *testing.T) {
	r := newRig(t)
	r.give(spare)
	r.network("app", "10.1.0.0/24")
	must[*model.Network](t)(r.e.CreateNetwork(r.ctx, twoOfFour("macvlan")))
	before := r.all()
	for _, c := range []struct {
		what string
		act  func(*rig) error
		kind model.Kind
		want string
	}{
		{"its own", createOn("macvlan", "new", "parent=eth1", "10.8.0.0/16", "10.8.1.0/24"), model.Invalid, "network new: create: subnet 10.8.1.0/24: overlaps 10.8.0.0/16 of the same network"},
		{"another's, in the second", createOn("ipvlan", "new", "internal", "10.8.0.0/16", "10.1.0.0/25"), model.Conflict, "subnet 10.1.0.0/25: overlaps 10.1.0.0/24 of network app"},
		{"a part of one on the device", createOn("macvlan", "new", "parent=eth1", "10.8.0.0/16", "10.7.0.0/29"), model.Conflict, "subnet 10.7.0.0/29: overlaps 10.7.0.0/28 of network lan"},
		{"the host's, in the second", createOn("macvlan", "new", "parent=eth1", "10.8.0.0/16", "203.0.112.0/23", "host-leg=10.8.0.9"), model.Conflict, "subnet 203.0.112.0/23: overlaps the host's route to 203.0.113.0/24"},
		{"Open vSwitch", createOn("ovs", "new", "name=br9", "10.8.0.0/24", "10.9.9.0/24"), model.Invalid, "takes one subnet of each address family"},
		{"none of them", run(SandboxSpec{Networks: []EndpointSpec{{Network: "lan", Addrs: at("10.9.0.1")}}}), model.Invalid, "network lan: address 10.9.0.1: outside subnet 10.6.0.0/29 and 10.7.0.0/28"},
		{"the second's router", run(SandboxSpec{Networks: []EndpointSpec{{Network: "lan", Addrs: at("10.7.0.1")}}}), model.Conflict, "address 10.7.0.1: taken by the gateway"},
		{"one in each", run(SandboxSpec{Networks: []EndpointSpec{{Network: "lan", Addrs: at("10.6.0.2", "10.7.0.2")}}}), model.Invalid, "address 10.7.0.2: an endpoint has one address of each family"},
		{"another length in the second", run(SandboxSpec{Networks: []EndpointSpec{{Network: "lan", Outside: []netip.Prefix{netip.MustParsePrefix("10.7.0.9/24")}}}}), model.Invalid, "address 10.7.0.9/24: is of subnet 10.7.0.0/28"},
	} {
		err := c.act(r)
		r.refused(err, c.kind, c.want)
		if r.all() != before {
			t.Fatalf("%s: it left something", c.what)
		}
	}
	auto := must[*model.Network](t)(r.e.CreateNetwork(r.ctx, lanSpec("macvlan", "auto", "internal", "0.0.0.0/24", "0.0.0.0/24")))
	r.equal("any two", prefixes(auto.Subnets), "[172.18.0.0/24 172.18.1.0/24]")
	r.check()
}

// TestSubnetsLent: a container engine that asks for any address of the first subnet of a
// network's family gets one of the next when that is full, and may give it back as one of
// the first: it is sure to ask no further.
func TestSubnetsLent(t *testing.T) {
	for _, driver := range []string{model.DriverMacvlan, model.DriverIPvlan} {
		r := newRig(t)
		r.give(spare)
		spec := twoOfFour(driver)
		spec.ID, spec.Origin, spec.FromPools = "d0c0d0c0d0c0", model.OriginDocker, true
		for _, s := range spec.Subnets {
			r.equal("pool", must[netip.Prefix](t)(r.e.RequestPool(r.ctx, model.Subnet{Prefix: s.Prefix})), s.Prefix.String())
		}
		must[*model.Network](t)(r.e.CreateNetwork(r.ctx, spec))
		first, second := spec.Subnets[0].Prefix, spec.Subnets[2].Prefix
		ask := func(from netip.Prefix, want netip.Addr, got string) {
			t.Helper()
			r.equal(driver, must[netip.Prefix](t)(r.e.RequestAddress(r.ctx, from, want)), got)
		}
		before := r.all()
		for i := 2; i <= 6; i++ {
			ask(first, netip.Addr{}, fmt.Sprintf("10.6.0.%d/29", i))
		}
		ask(first, netip.Addr{}, "10.7.0.2/28")
		ask(second, at("10.7.0.5")[0], "10.7.0.5/28")
		ask(first, netip.Addr{}, "10.7.0.3/28")
		_, err := r.e.RequestAddress(r.ctx, second, at("10.7.0.3")[0])
		r.refused(err, model.Conflict, "address 10.7.0.3: taken by a container engine")
		_, err = r.e.RequestAddress(r.ctx, first, at("10.7.0.6")[0])
		r.refused(err, model.Exhausted, "address 10.7.0.6: outside subnet 10.6.0.0/29")
		r.restart()
		ask(first, netip.Addr{}, "10.7.0.4/28")
		for _, a := range at("10.6.0.2", "10.6.0.3", "10.6.0.4", "10.6.0.5", "10.6.0.6", "10.7.0.2", "10.7.0.3", "10.7.0.4") {
			r.ok(r.e.ReleaseAddress(r.ctx, first, a))
		}
		r.ok(r.e.ReleaseAddress(r.ctx, second, at("10.7.0.5")[0]))
		r.equal("given back", r.all() == before, "true")
		r.check()
	}
}
