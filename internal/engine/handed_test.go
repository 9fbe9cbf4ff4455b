package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// onParent has Docker make a network of a driver on the spare NIC.
func onParent(r *rig, driver string, options map[string]string) {
	r.Helper()
	r.give(spare)
	spec := dockerSpec
	spec.Driver, spec.Options = driver, map[string]string{"parent": "eth1"}
	maps.Copy(spec.Options, options)
	must[*model.Network](r)(r.e.CreateNetwork(r.ctx, spec))
}

// parentAnnounced is a host where an endpoint waits for a container of Docker's.
func parentAnnounced(r *rig) {
	r.Helper()
	base(r)
	onParent(r, model.DriverMacvlan, nil)
	r.ok(announced(r, "ab0000000001", dockerNet, "10.6.0.3"))
}

// handedDevice is the device of the endpoint while Docker has not taken it.
const handedDevice = "slpab0000000001"

// inHost reports whether that is in the host's namespace.
func (r *rig) inHost() bool { return strings.Contains("\n"+r.k.Dump(), "\nlink "+handedDevice+" ") }

// calm checks that a pass has nothing to do.
func (r *rig) calm(when string) {
	r.Helper()
	if ops := must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test")); len(ops) > 0 {
		r.Errorf("%s a pass did %v", when, ops)
	}
}

// TestHanded: a device that Docker takes as a whole is made once, for one Join, and
// never missed; nor is it left when Docker does not take it, or brings it back.
func TestHanded(t *testing.T) {
	cases := []struct {
		driver  string
		options map[string]string
	}{
		{model.DriverMacvlan, nil},
		{model.DriverMacvlan, map[string]string{"mode": "passthru"}},
		{model.DriverMacvlan, map[string]string{"vlan": "10", "host-leg": "10.6.0.9"}},
		{model.DriverIPvlan, nil},
		{model.DriverIPvlan, map[string]string{"mode": "l3"}},
	}
	container := kstate.NS{Path: "/run/docker/netns/d1"}
	for _, c := range cases {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			r := newRig(t)
			base(r)
			onParent(r, c.driver, c.options)
			clean := r.k.Dump()
			joins := func() { r.ok(join(r, "d1", "10.6.0.3", "ab0000000001", dockerNet)) }
			there := func(want bool, when string) {
				t.Helper()
				if r.inHost() != want {
					t.Errorf("%s: in the host: %v\n%s", when, !want, r.k.Dump())
				}
			}
			parts := func(when string) {
				t.Helper()
				r.ok(r.e.Part(r.ctx, "ab0000000001"))
				r.same(when, lines(r.k.Dump()), lines(clean))
				r.check()
			}
			joins()
			there(true, "joined")
			r.check()
			parts("nobody came for it")

			joins()
			r.restart()
			joins() // the answer was lost
			there(true, "joined after a restart")
			r.check()
			r.k.Foreign(kstate.NetNS{NS: container})
			r.k.Take(handedDevice, container, "eth0")
			r.calm("once taken")
			r.restart()
			r.calm("after a restart")
			there(false, "taken")
			r.k.Bring(container, "eth0", handedDevice)
			r.calm("once brought back")
			joins()
			r.k.Take(handedDevice, container, "eth0")
			r.k.Remove(kstate.Link{NS: container, Name: "eth0"}.Key()) // with the namespace
			r.calm("once lost")
			joins()
			there(true, "asked for again")
			r.k.Take(handedDevice, container, "eth0")
			r.k.Bring(container, "eth0", handedDevice)
			r.ok(r.e.Part(r.ctx, "ab0000000001"))
			there(false, "left and removed")
			r.check()
		})
	}
}

// TestHandedAfterReboot: what is of containers that are no more is not made again.
func TestHandedAfterReboot(t *testing.T) {
	r := newRig(t)
	parentAnnounced(r)
	r.ok(join(r, "d1", "10.6.0.3", "ab0000000001", dockerNet))
	r.die()
	r.reboot()
	r.k.Foreign(spare)
	r.start()
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	if r.inHost() {
		t.Error("its device is there, and nobody to take it")
	}
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	r.check()
}

// TestHandedParentGone: the device goes with its parent, and another parent of that
// name has none for nobody.
func TestHandedParentGone(t *testing.T) {
	r := newRig(t)
	parentAnnounced(r)
	r.ok(join(r, "d1", "10.6.0.3", "ab0000000001", dockerNet))
	r.k.Remove(spare.Key())
	_, _ = r.e.Sync(r.ctx, "test") // says that the parent is gone
	if s := r.e.SandboxStatus(r.e.ByEndpoint("ab0000000001")); s.State != StateDegraded || !strings.Contains(s.Message, "parent eth1: is gone") {
		t.Errorf("without the parent: %+v", s)
	}
	r.give(spare)
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	if r.inHost() {
		t.Error("it is there again, and nobody to take it")
	}
	r.ok(r.e.Part(r.ctx, "ab0000000001"))
	r.check()
}

// TestPoolOfALAN: Docker can ask for the host's own subnet, for a network on that
// wire, and gets none of the addresses there that the host has or knows; a bridge
// network cannot have it.
func TestPoolOfALAN(t *testing.T) {
	r := newRig(t)
	r.give(spare)
	r.give(kstate.Addr{Dev: "eth1", Prefix: netip.MustParsePrefix("10.6.0.3/28")})
	must[netip.Prefix](r)(r.e.RequestPool(r.ctx, model.Subnet{Prefix: dockerPool}))
	must[netip.Prefix](r)(r.e.RequestAddress(r.ctx, dockerPool, dockerSpec.Subnets[0].Gateway))
	if _, err := r.e.CreateNetwork(r.ctx, dockerSpec); err == nil || !strings.Contains(err.Error(), "overlaps 10.6.0.3/28 on the host's device eth1") {
		t.Errorf("a bridge network: %v", err)
	}
	spec := dockerSpec
	spec.Driver, spec.Options = model.DriverMacvlan, map[string]string{"parent": "eth1"}
	must[*model.Network](r)(r.e.CreateNetwork(r.ctx, spec))
	must[[]kstate.Op](r)(r.e.Sync(r.ctx, "test"))
	for _, want := range []string{"10.6.0.2", "10.6.0.4"} {
		if got := must[netip.Prefix](r)(r.e.RequestAddress(r.ctx, dockerPool, netip.Addr{})); got.Addr().String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	r.check()
}
