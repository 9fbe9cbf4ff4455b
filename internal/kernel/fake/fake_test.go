package fake_test

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

func TestFake(t *testing.T) {
	kerneltest.Run(t, func(*testing.T) kerneltest.Fixture {
		j := &journal.Memory{}
		k := fake.New(j)
		return kerneltest.Fixture{Kernel: k, Journal: j, RunDir: "/run/sealane", Outside: &outside{Kernel: k}}
	})
}

// outside is what kerneltest asks of somebody else, done in memory.
type outside struct {
	*fake.Kernel
	n      int            // namespaces made
	tables []kstate.Table // that somebody else made
}

func (o *outside) Reopen(*testing.T) kernel.Kernel {
	o.Revive()
	return o.Kernel
}

func (o *outside) Bridge(_ *testing.T, name string) {
	o.Foreign(kstate.Link{Name: name, Type: kstate.TypeBridge, MTU: 1500, MAC: "02:00:00:00:00:01", Up: true})
}

func (o *outside) Wire(_ *testing.T, name string, up bool) {
	o.Foreign(kstate.Link{Name: name, Type: kstate.TypeVeth, MTU: 1500, MAC: "02:00:00:00:00:03", Up: up, Peer: kstate.Peer{Name: "far-" + name}})
}

func (o *outside) OnWire(_ *testing.T, dev, name string) {
	o.Foreign(kstate.Link{Name: name, Type: kstate.TypeMacvlan, Mode: "bridge", Parent: dev, MTU: 1500, MAC: "02:00:00:00:00:05", Up: true})
}

func (o *outside) SetUp(t *testing.T, dev string, up bool) {
	have, err := o.Observe(t.Context(), kernel.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	l := have[kstate.Link{Name: dev}.Key()].(kstate.Link)
	l.Up = up
	o.Tamper(l)
}

func (o *outside) Addr(_ *testing.T, dev string, p netip.Prefix) {
	o.Foreign(kstate.Addr{Dev: dev, Prefix: p})
}

func (o *outside) AddrIn(_ *testing.T, ns kstate.NS, dev string, p netip.Prefix) {
	o.Foreign(kstate.Addr{NS: ns, Dev: dev, Prefix: p})
}

func (o *outside) SetMAC(t *testing.T, ns kstate.NS, dev, mac string) {
	have, err := o.Observe(t.Context(), kernel.Scope{NS: []kstate.NS{ns}})
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range have {
		if l, ok := obj.(kstate.Link); ok && l.Peer.NS == ns && l.Peer.Name == dev {
			l.Peer.MAC = mac
			o.Tamper(l)
		}
	}
}

func (o *outside) Route(_ *testing.T, dst netip.Prefix, dev string) {
	o.Foreign(kstate.Route{Dst: dst, Dev: dev})
}

func (o *outside) Unroute(_ *testing.T, ns kstate.NS, dev string, p netip.Prefix) {
	o.Tamper(kstate.Addr{NS: ns, Dev: dev, Prefix: p, Cut: true})
}

func (o *outside) DefaultIn(_ *testing.T, ns kstate.NS, via netip.Addr, dev string) {
	o.Foreign(kstate.Route{NS: ns, Dst: kstate.Aside{}.Dst(), Via: via, Dev: dev})
}

func (o *outside) Delete(_ *testing.T, dev string) { o.Remove(kstate.Link{Name: dev}.Key()) }

func (o *outside) Unplug(_ *testing.T, dev string) { o.Kernel.Unplug(dev) }

// link lets somebody change a link.
func (o *outside) link(t *testing.T, dev string, change func(*kstate.Link)) {
	t.Helper()
	have, err := o.Observe(t.Context(), kernel.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	l := have[kstate.Link{Name: dev}.Key()].(kstate.Link)
	change(&l)
	o.Tamper(l)
}

func (o *outside) Plug(t *testing.T, dev, bridge string) {
	o.link(t, dev, func(l *kstate.Link) { l.Master = bridge })
}

func (o *outside) Sort(t *testing.T, bridge string) {
	o.link(t, bridge, func(l *kstate.Link) { l.Sorting = true })
}

func (o *outside) Untag(t *testing.T, dev string) {
	o.link(t, dev, func(l *kstate.Link) { l.Tag, l.Tags = 0, kstate.NoTags })
}

func (o *outside) Take(_ *testing.T, dev string, ns kstate.NS, name string) {
	o.Kernel.Take(dev, ns, name)
}

func (o *outside) Bring(_ *testing.T, ns kstate.NS, name, dev string) { o.Kernel.Bring(ns, name, dev) }

func (o *outside) Shape(_ *testing.T, dev string) { o.Kernel.Shape(dev) }

func (o *outside) Shaped(_ *testing.T, dev string) bool { return o.Kernel.Shaped(dev) }

func (o *outside) Unshape(_ *testing.T, dev string) { o.Kernel.Unshape(dev) }

func (o *outside) Flush(*testing.T) {
	o.Remove(kstate.Table{Family: "inet", Name: "sealane"}.Key(), kstate.Table{Family: "bridge", Name: "sealane"}.Key())
	for _, table := range o.tables {
		o.Remove(table.Key())
	}
}

func (o *outside) Chain(_ *testing.T, c kstate.Chain) {
	o.tables = append(o.tables, c.Table)
	o.Foreign(c.Table, c)
}

func (o *outside) DropTable(_ *testing.T, table kstate.Table) { o.Remove(table.Key()) }

func (o *outside) NetNS(*testing.T) kstate.NS {
	o.n++
	ns := kstate.NS{Path: "/run/netns/foreign" + strconv.Itoa(o.n), Inode: uint64(100 + o.n)}
	o.Foreign(kstate.NetNS{NS: ns})
	return ns
}

func (o *outside) DropNetNS(_ *testing.T, ns kstate.NS) { o.Remove(kstate.NetNS{NS: ns}.Key()) }

func (o *outside) Listen(t *testing.T, proto string, at netip.AddrPort) (string, error) {
	stop, err := o.Kernel.Listen(proto, at, "nginx")
	if err == nil {
		t.Cleanup(stop)
	}
	return "nginx", err
}

func (o *outside) Sysctl(_ *testing.T, name string) string { return o.Kernel.Sysctl(name) }

func (o *outside) SetSysctl(_ *testing.T, name, value string) {
	o.Foreign(kstate.Sysctl{Name: name, Value: value})
}

// The process dies also inside an op, between the journal and the change.
func TestCutInsideJournaledOps(t *testing.T) {
	ctx := context.Background()
	want := kstate.Set{}
	for _, o := range []kstate.Object{
		kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"},
		kstate.Addr{Dev: "br0", Prefix: netip.MustParsePrefix("192.0.2.1/24")},
	} {
		want[o.Key()] = o
	}
	for _, c := range []struct {
		name     string
		from, to kstate.Set
	}{{"up", nil, want}, {"down", want, nil}} {
		for n := 0; ; n++ {
			j := &journal.Memory{}
			k := fake.New(j)
			(&outside{Kernel: k}).Bridge(t, "br0")
			bare := k.Dump()
			reach(t, k, c.from)
			k.Cut(n)
			have, err := k.Observe(ctx, kernel.Scope{})
			if err != nil {
				t.Fatal(err)
			}
			died := k.Apply(ctx, kstate.Diff(have, c.to))
			if died != nil && !errors.Is(died, fake.ErrDead) {
				t.Fatal(died)
			}
			if _, err := k.Observe(ctx, kernel.Scope{}); died != nil && !errors.Is(err, fake.ErrDead) {
				t.Fatalf("a dead process observes: %v", err)
			}
			k.Revive()
			reach(t, k, c.to)
			reach(t, k, nil)
			if k.Dump() != bare {
				t.Fatalf("%s, cut %d: left\n%s", c.name, n, k.Dump())
			}
			if err := k.Revive(); err != nil {
				t.Fatal(err)
			}
			entries, _ := j.Entries()
			if len(entries) > 0 {
				t.Fatalf("%s, cut %d: journal has %v", c.name, n, entries)
			}
			if died == nil {
				if n != 4 {
					t.Errorf("%s: %d steps, want 4", c.name, n)
				}
				break
			}
		}
	}
}

// reach applies what is missing until nothing is.
func reach(t *testing.T, k kernel.Kernel, want kstate.Set) {
	t.Helper()
	for range 2 {
		have, err := k.Observe(context.Background(), kernel.Scope{})
		if err != nil {
			t.Fatal(err)
		}
		if have.String() == want.String() {
			return
		}
		if err := k.Apply(context.Background(), kstate.Diff(have, want)); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("not reached:\n%s", want)
}
