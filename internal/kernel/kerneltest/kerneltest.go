// Package kerneltest is the suite that every kernel.Kernel passes, the one in
// memory and the real one. Each case states one rule of the contract. The suite
// knows no implementation: what it needs done behind the kernel's back it asks
// of a [Fixture].
package kerneltest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
)

// Fixture is a kernel under test, freshly booted and empty of ours.
type Fixture struct {
	Kernel  kernel.Kernel
	Journal journal.Journal
	RunDir  string // our run directory: namespaces of ours are in netns/ under it
	Outside Outside
	// Require skips the test where the kernel lacks a feature; nil where it has all.
	Require func(t *testing.T, features ...string)
}

// Outside does to the host what somebody else would, who knows nothing of us.
// What cannot be done fails the test.
type Outside interface {
	// Reopen lets our process die and returns the kernel of a new one, with
	// the same journal.
	Reopen(t *testing.T) kernel.Kernel
	// Bridge makes a bridge that is not ours and sets it up.
	Bridge(t *testing.T, name string)
	// Wire makes an Ethernet device of the host's that is not ours, with a
	// carrier while it is up.
	Wire(t *testing.T, name string, up bool)
	// OnWire makes a macvlan on a device of the host's, and sets it up.
	OnWire(t *testing.T, dev, name string)
	// SetUp sets a device of the host up or down.
	SetUp(t *testing.T, dev string, up bool)
	// Addr puts an address on a device of the host.
	Addr(t *testing.T, dev string, p netip.Prefix)
	// AddrIn puts an address on a device in a namespace.
	AddrIn(t *testing.T, ns kstate.NS, dev string, p netip.Prefix)
	// SetMAC gives a device in a namespace another hardware address.
	SetMAC(t *testing.T, ns kstate.NS, dev, mac string)
	// Route puts an on-link route on a device of the host.
	Route(t *testing.T, dst netip.Prefix, dev string)
	// Unroute deletes the route that the kernel made with an address.
	Unroute(t *testing.T, ns kstate.NS, dev string, p netip.Prefix)
	// DefaultIn puts a default route without a metric on a device in a namespace.
	DefaultIn(t *testing.T, ns kstate.NS, via netip.Addr, dev string)
	// Delete deletes any device of the host.
	Delete(t *testing.T, dev string)
	// Unplug takes a device of the host out of its bridge.
	Unplug(t *testing.T, dev string)
	// Plug makes a device of the host a port of a bridge.
	Plug(t *testing.T, dev, bridge string)
	// Sort makes a bridge sort frames by VLAN.
	Sort(t *testing.T, bridge string)
	// Untag takes a port of a bridge out of all VLANs.
	Untag(t *testing.T, dev string)
	// Take moves a device of the host into a namespace, under another name, and
	// sets it up.
	Take(t *testing.T, dev string, ns kstate.NS, name string)
	// Bring moves a device that was taken back, under the name dev, and down.
	Bring(t *testing.T, ns kstate.NS, name, dev string)
	// Unshape deletes what is at the root of a device of the host, and with
	// its filters what is where frames come in.
	Unshape(t *testing.T, dev string)
	// Shape puts another queue than ours at the root of a device of the host.
	Shape(t *testing.T, dev string)
	// Shaped reports whether that is there.
	Shaped(t *testing.T, dev string) bool
	// Flush deletes all nftables tables.
	Flush(t *testing.T)
	// Chain makes an nftables chain in a table that is not ours, and the
	// table. The type of one that drops at its end is "filter policy drop".
	Chain(t *testing.T, c kstate.Chain)
	// DropTable deletes a table with all that is in it.
	DropTable(t *testing.T, table kstate.Table)
	// NetNS makes a namespace with a path outside our run directory, and
	// says its inode.
	NetNS(t *testing.T) kstate.NS
	// DropNetNS removes a namespace and its path.
	DropNetNS(t *testing.T, ns kstate.NS)
	// Listen binds a port as another program until the test ends. It returns
	// the program's name as errors should have it, and why it could not.
	Listen(t *testing.T, proto string, at netip.AddrPort) (program string, err error)
	// Sysctl and SetSysctl read and write a setting.
	Sysctl(t *testing.T, name string) string
	SetSysctl(t *testing.T, name, value string)
	Switching
	Tunnelling
}

// Run runs every case on a kernel of its own.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, group := range []struct {
		name  string
		cases []testcase
	}{
		{"objects", objectCases}, {"change", changeCases}, {"refuse", refuseCases},
		{"outside", outsideCases}, {"aside", asideCases}, {"shaper", shaperCases}, {"lower", lowerCases}, {"handed", handedCases}, {"trunk", trunkCases}, {"nic", nicCases}, {"tunnel", tunnelCases}, {"overlay", overlayCases}, {"neigh", neighCases}, {"way", wayCases}, {"rule", ruleCases}, {"choice", choiceCases}, {"ovs", ovsCases}, {"guest", guestCases}, {"whole", wholeCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.rule, func(t *testing.T) { c.check(&suite{T: t, Fixture: open(t)}) })
			}
		})
	}
}

// testcase is one rule and its proof.
type testcase struct {
	rule  string
	check func(*suite)
}

// suite is a test with its kernel and short words.
type suite struct {
	*testing.T
	Fixture
}

// apply carries ops out, all of which must work.
func (s *suite) apply(ops ...kstate.Op) {
	s.Helper()
	if err := s.Kernel.Apply(context.Background(), ops); err != nil {
		s.Fatalf("apply:\n%v", err)
	}
}

// add makes objects, in the order given.
func (s *suite) add(objs ...kstate.Object) { s.Helper(); s.apply(Adds(objs...)...) }

// del removes objects, in the order given.
func (s *suite) del(objs ...kstate.Object) { s.Helper(); s.apply(Dels(objs...)...) }

// fails carries ops out and returns the failures; there must be one at least,
// and each must be an OpError about one of the ops.
func (s *suite) fails(ops ...kstate.Op) error {
	s.Helper()
	err := s.Kernel.Apply(context.Background(), ops)
	var oe *kernel.OpError
	if !errors.As(err, &oe) {
		s.Fatalf("apply: %v, want an OpError", err)
	}
	if !slices.ContainsFunc(ops, func(op kstate.Op) bool { return op.String() == oe.Op.String() }) {
		s.Errorf("error is about %q, which was not asked for", oe.Op)
	}
	return err
}

// refuses adds o, which must fail for a cause, or any if that is nil.
func (s *suite) refuses(cause error, o kstate.Object) error {
	s.Helper()
	before := s.text(o)
	err := s.fails(kstate.Op{New: o})
	if cause != nil && !errors.Is(err, cause) {
		s.Errorf("error is %q, want one that is %q", err, cause)
	}
	if after := s.text(o); after != before {
		s.Errorf("something changed all the same:\n%s\nwas:\n%s", after, before)
	}
	return err
}

// observe looks at the host and at the namespaces that objects are in.
func (s *suite) observe(objs ...kstate.Object) kstate.Set {
	s.Helper()
	have, err := s.Kernel.Observe(context.Background(), kernel.Scope{NS: namespaces(objs)})
	if err != nil {
		s.Fatalf("observe: %v", err)
	}
	return have
}

func (s *suite) text(objs ...kstate.Object) string { s.Helper(); return s.observe(objs...).String() }

// holds checks that exactly these objects are there, besides what is not ours.
func (s *suite) holds(objs ...kstate.Object) {
	s.Helper()
	want := set(objs...).String()
	if got := s.text(objs...); got != want {
		s.Fatalf("there is:\n%swant:\n%s%s", got, want, delta(got, want))
	}
}

// reach leads the host to want as the engine does: look, compare, apply. Then
// all of want must be there and nothing be left to do.
func (s *suite) reach(want kstate.Set, also ...kstate.Object) []kstate.Op {
	s.Helper()
	objs := append(want.Sorted(), also...)
	ops := kstate.Diff(s.observe(objs...), want)
	s.apply(ops...)
	have := s.observe(objs...)
	if got := have.String(); got != want.String() {
		s.Fatalf("after\n%sthere is, against what is wanted:\n%s", lines(ops), delta(got, want.String()))
	}
	if left := kstate.Diff(have, want); len(left) > 0 {
		s.Fatalf("still to do:\n%s", lines(left))
	}
	return ops
}

// set makes a set of objects that do not contradict each other.
func set(objs ...kstate.Object) kstate.Set {
	s := kstate.Set{}
	for _, o := range objs {
		s[o.Key()] = o
	}
	return s
}

func namespaces(objs []kstate.Object) []kstate.NS {
	var out []kstate.NS
	for _, o := range objs {
		of := []kstate.NS{}
		switch o := o.(type) {
		case kstate.NetNS:
			of = append(of, o.NS)
		case kstate.Link:
			of = append(of, o.NS, o.Peer.NS)
		case kstate.Addr:
			of = append(of, o.NS)
		case kstate.Route:
			of = append(of, o.NS)
		case kstate.Neigh:
			of = append(of, o.NS)
		case kstate.Aside:
			of = append(of, o.NS)
		}
		for _, ns := range of {
			if !ns.IsHost() && !slices.Contains(out, ns) {
				out = append(out, ns)
			}
		}
	}
	return out
}

func lines(ops []kstate.Op) string {
	var b strings.Builder
	for _, op := range ops {
		b.WriteString(op.String() + "\n")
	}
	return b.String()
}

// delta lists the lines that only one text has.
func delta(got, want string) string {
	var b strings.Builder
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, l := range g {
		if !slices.Contains(w, l) {
			b.WriteString("too many: " + l + "\n")
		}
	}
	for _, l := range w {
		if !slices.Contains(g, l) {
			b.WriteString("missing:  " + l + "\n")
		}
	}
	return b.String()
}

// watch starts to watch and returns a func that says whether there was a hint
// within a time.
func (s *suite) watch() func(time.Duration) bool {
	s.Helper()
	hints, err := s.Kernel.Watch(s.Context())
	if err != nil {
		s.Fatalf("watch: %v", err)
	}
	return func(d time.Duration) bool {
		select {
		case _, ok := <-hints:
			return ok
		case <-time.After(d):
			return false
		}
	}
}
