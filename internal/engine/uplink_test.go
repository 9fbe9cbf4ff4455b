package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	nics "github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/model"
)

// yard moves NICs by noting so.
type yard struct {
	ports []nics.Port
	log   []string
	fail  error            // of the next move
	busy  func()           // called during one
	begun []nics.Recovered // what a process left
}

func (y *yard) Attach(_ context.Context, mv nics.Move) (nics.Report, error) {
	y.log = append(y.log, "attach "+mv.NIC+" "+mv.Bridge)
	if y.busy != nil {
		y.busy()
	}
	if err := y.fail; err != nil {
		y.fail = nil
		return nics.Report{}, err
	}
	y.ports = slices.DeleteFunc(y.ports, func(p nics.Port) bool { return p.NIC == mv.NIC })
	y.ports = append(y.ports, nics.Port{NIC: mv.NIC, Bridge: mv.Bridge, Made: mv.Make, Moved: []netip.Prefix{netip.MustParsePrefix("198.51.100.9/24")}})
	return nics.Report{Made: mv.Make}, nil
}

func (y *yard) Detach(_ context.Context, mv nics.Move) (nics.Report, error) {
	y.log = append(y.log, fmt.Sprint("detach ", mv.NIC, " ", mv.Keep))
	if err := y.fail; err != nil {
		y.fail = nil
		return nics.Report{}, err
	}
	y.ports = slices.DeleteFunc(y.ports, func(p nics.Port) bool { return p.NIC == mv.NIC })
	return nics.Report{}, nil
}

func (y *yard) Recover() ([]nics.Recovered, error) {
	done := y.begun
	y.begun = nil
	return done, nil
}

func (y *yard) Sweep([]string) ([]string, error) { return nil, nil }

func (y *yard) Ports() ([]nics.Port, error) { return slices.Clone(y.ports), nil }

// uplinkRig is a rig whose engine moves NICs in a yard.
func uplinkRig(t *testing.T) (*rig, *yard) {
	r := newRig(t)
	y := &yard{}
	r.e.cfg.Uplinks = y
	return r, y
}

func TestUplinkIsKept(t *testing.T) {
	r, y := uplinkRig(t)
	u, _, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "br7"})
	if err != nil || !u.Made || u.Bridge != "br7" {
		t.Fatal(u, err)
	}
	for _, c := range []struct {
		port       nics.Port
		diff, does string
	}{
		{nics.Port{NIC: "eth0", Bridge: "br7"}, "", ""},
		{nics.Port{NIC: "eth0", Bridge: "br7", Out: true}, "~ uplink eth0 bridge br7", "attach eth0 br7"},
		{nics.Port{NIC: "eth0", Bridge: "br7", Stray: []string{"192.0.2.1/24"}}, "~ uplink eth0 bridge br7", "attach eth0 br7"},
		{nics.Port{NIC: "eth0", Bridge: "br7", Missing: "eth0", Out: true}, "", ""},
		{nics.Port{NIC: "eth1", Bridge: "br7"}, "+ uplink eth0 bridge br7", "attach eth0 br7"},
	} {
		y.ports, y.log = []nics.Port{c.port}, nil
		if c.port.NIC == "eth1" {
			y.ports = nil
		}
		ops, _, err := r.e.Diff(r.ctx)
		if err != nil || len(ops) > 1 || len(ops) == 1 != (c.diff != "") || len(ops) == 1 && ops[0].String() != c.diff {
			t.Errorf("%+v: diff %v, %v", c.port, ops, err)
		}
		if _, err := r.e.Sync(r.ctx, "test"); err != nil {
			t.Error(err)
		}
		if got := strings.Join(y.log, ", "); got != c.does {
			t.Errorf("%+v: did %q", c.port, got)
		}
	}
	// It is intent: the next process knows.
	if err := r.e.loadUplinks(); err != nil || len(r.e.uplinks.list) != 1 || r.e.uplinks.list[0].NIC != "eth0" {
		t.Errorf("%v, %v", r.e.uplinks.list, err)
	}
}

// TestUplinkWithoutItsBridge: what somebody's bridge took with it is the NIC's again,
// until there is a bridge.
func TestUplinkWithoutItsBridge(t *testing.T) {
	r, y := uplinkRig(t)
	must[nics.Report](r)(func() (nics.Report, error) {
		_, rep, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "br7"})
		return rep, err
	}())
	pass := func() string {
		y.log = nil
		_, _ = r.e.Sync(r.ctx, "test")
		return strings.Join(y.log, ", ")
	}
	none := model.Errorf(model.NotFound, "uplink eth0", "attach", "bridge br7 does not exist")
	y.ports, y.fail = []nics.Port{{NIC: "eth0", Bridge: "br7", Out: true, Missing: "br7"}}, none
	if got := pass(); got != "attach eth0 br7, detach eth0 []" {
		t.Errorf("did %s", got)
	}
	y.fail = none
	if got := pass(); got != "attach eth0 br7" {
		t.Errorf("then did %s", got)
	}
	all, err := r.e.Uplinks(r.ctx)
	if err != nil || len(all) != 1 || all[0].Status.State != StateDegraded || !strings.HasSuffix(all[0].Status.Message, "bridge br7 does not exist") {
		t.Errorf("%+v, %v", all, err)
	}
	if !slices.ContainsFunc(r.e.Doctor(r.ctx), func(c Check) bool {
		return c.State == CheckFail && c.What == "uplink eth0" && strings.Contains(c.Why, "bridge br7 does not exist")
	}) {
		t.Errorf("the doctor says %v", r.e.Doctor(r.ctx))
	}
	if got := pass(); got != "attach eth0 br7" || len(y.ports) != 1 {
		t.Errorf("with a bridge did %s", got)
	}
}

// TestUplinkTurns: its status says since when it is so.
func TestUplinkTurns(t *testing.T) {
	r, y := uplinkRig(t)
	now := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	r.e.cfg.Now = func() time.Time { now = now.Add(time.Minute); return now }
	attach := func() {
		_, _, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "br7"})
		r.ok(err)
	}
	status := func(state string) Status {
		t.Helper()
		all, err := r.e.Uplinks(r.ctx)
		if err != nil || len(all) != 1 || all[0].Status.State != state {
			t.Fatalf("%+v, %v, want %s", all, err, state)
		}
		return all[0].Status
	}
	attach()
	began := status(StateReady).Since
	y.ports[0].Out = true
	out := status(StateDegraded).Since
	if !out.After(began) || status(StateDegraded).Since != out {
		t.Errorf("degraded since %s, ready since %s", out, began)
	}
	y.fail = model.Errorf(model.Internal, "uplink eth0", "attach", "no")
	_, _ = r.e.Sync(r.ctx, "test")
	if got := status(StateDegraded).Since; got != out {
		t.Errorf("for another reason since %s, want %s", got, out)
	}
	_, err := r.e.Sync(r.ctx, "test")
	r.ok(err)
	if got := status(StateReady).Since; !got.After(out) {
		t.Errorf("again ready since %s", got)
	}
	_, _, err = r.e.DetachUplink(r.ctx, "eth0", 0)
	r.ok(err)
	attach()
	if s := status(StateReady); s.Since != r.e.uplinks.list[0].Created {
		t.Errorf("attached anew, since %s", s.Since)
	}
}

func TestUplinkOfADeadDaemon(t *testing.T) {
	r, y := uplinkRig(t)
	y.ports = []nics.Port{{NIC: "eth0", Bridge: "br7", Made: true}}
	y.begun = []nics.Recovered{{NIC: "eth1", Bridge: "br8", What: "taken back"}}
	if _, err := r.e.Sync(r.ctx, "test"); err != nil {
		t.Fatal(err)
	}
	all, err := r.e.Uplinks(r.ctx)
	if err != nil || len(all) != 1 || all[0].NIC != "eth0" || !all[0].Made || all[0].Status.State != StateReady || len(y.log) > 0 {
		t.Errorf("%+v, %v, did %v", all, err, y.log)
	}
}

func TestUplinkFails(t *testing.T) {
	r, y := uplinkRig(t)
	y.fail = model.Errorf(model.Conflict, "uplink eth0", "attach", "192.0.2.254 does not answer")
	_, _, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "br7"})
	if err == nil || err.Error() != "uplink eth0: attach: 192.0.2.254 does not answer" {
		t.Error(err)
	}
	y.fail = nics.ErrKilled
	_, _, err = r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "br7"})
	if !errors.Is(err, nics.ErrKilled) || model.KindOf(err) != model.Internal {
		t.Error(err)
	}
	y.busy = func() {
		y.busy = nil
		_, _, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth1", Bridge: "br8"})
		if err == nil || err.Error() != "uplink eth1: attach: another attach or detach is under way" {
			t.Error(err)
		}
		if ops, _, err := r.e.Diff(r.ctx); err != nil || len(ops) > 0 {
			t.Errorf("while it moves: %v, %v", ops, err)
		}
	}
	if _, _, err = r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "br7"}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ nic, bridge, want string }{
		{"eth0", "br8", "uplink eth0: attach: is attached to br7 already"},
		{"eth1", "br7", "uplink eth1: attach: eth0 is attached to bridge br7 already: two of them would be a loop"},
		{"all", "br8", `uplink all: attach: interface name "all": the kernel keeps it for settings of all interfaces`},
	} {
		if _, _, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: c.nic, Bridge: c.bridge}); err == nil || err.Error() != c.want {
			t.Errorf("%s %s: %v", c.nic, c.bridge, err)
		}
	}
	y.fail = errors.New("no")
	if _, _, err := r.e.DetachUplink(r.ctx, "eth0", 0); err == nil || len(r.e.uplinks.list) != 1 {
		t.Error(err, r.e.uplinks.list)
	}
	if _, _, err := r.e.DetachUplink(r.ctx, "eth0", 0); err != nil || len(r.e.uplinks.list) != 0 {
		t.Error(err, r.e.uplinks.list)
	}
}

// TestUplinkOnANetwork has a network's own bridge take a NIC: it gets the NIC's
// hardware address, keeps its own addresses, and cannot go.
func TestUplinkOnANetwork(t *testing.T) {
	r, y := uplinkRig(t)
	n, err := r.e.CreateNetwork(r.ctx, NetworkSpec{Name: "app", Subnets: []model.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/24")}}})
	if err != nil {
		t.Fatal(err)
	}
	u, _, err := r.e.AttachUplink(r.ctx, UplinkSpec{NIC: "eth0", Bridge: "app"})
	if err != nil || u.Bridge != n.Device() || u.Made {
		t.Fatal(u, err)
	}
	if err := r.e.RemoveNetwork(r.ctx, "app"); model.KindOf(err) != model.InUse {
		t.Error(err)
	}
	if names, err := r.e.PruneNetworks(r.ctx, nil); err != nil || len(names) > 0 {
		t.Error(names, err)
	}
	y.log = nil
	if _, _, err := r.e.DetachUplink(r.ctx, "eth0", 0); err != nil || strings.Join(y.log, "") != "detach eth0 [10.1.0.1/24]" {
		t.Error(err, y.log)
	}
	if err := r.e.RemoveNetwork(r.ctx, "app"); err != nil {
		t.Error(err)
	}
}
