package fake_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/fake"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

var (
	table   = kstate.Table{Family: "inet", Name: "sealane"}
	bridges = &kstate.NftSet{Table: table, Name: "bridges", Type: "ifname"}
	web     = kstate.NS{Path: "/run/sealane/netns/web"}
	slb1    = kstate.Link{Name: "slb1", Type: kstate.TypeBridge, MTU: 1500, MAC: "02:00:00:00:00:01", Up: true}
	slv1    = kstate.Link{
		Name: "slv1", Type: kstate.TypeVeth, MTU: 1500, MAC: "02:00:00:00:00:02", Up: true, Master: "slb1",
		Peer: kstate.Peer{NS: web, Name: "eth0", MAC: "02:00:00:00:00:03"},
	}
	world = []kstate.Object{
		kstate.NetNS{NS: web}, slb1, slv1, kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"},
		kstate.Addr{NS: web, Dev: "eth0", Prefix: netip.MustParsePrefix("192.0.2.2/24")},
		kstate.Hold{Proto: "tcp", First: 80, Last: 80},
		table, *bridges, kstate.Elem{Set: bridges, At: "slb1"}, kstate.File{Path: "/run/sealane/hosts"},
	}
)

// open returns a kernel that holds world.
func open(t *testing.T) (*fake.Kernel, *journal.Memory) {
	t.Helper()
	j := &journal.Memory{}
	k := fake.New(j)
	if err := k.Apply(t.Context(), kerneltest.Adds(world...)); err != nil {
		t.Fatal(err)
	}
	return k, j
}

func checkDump(t *testing.T, k *fake.Kernel, want string) {
	t.Helper()
	if got := k.Dump(); got != want {
		t.Errorf("world is\n%s\nwant\n%s", got, want)
	}
}

const loopback = "link lo type loopback mtu 65536 up # foreign\n"

func TestDump(t *testing.T) {
	k, _ := open(t)
	k.Foreign(kstate.Link{Name: "br0", Type: kstate.TypeBridge})
	if _, err := k.Listen("tcp", netip.MustParseAddrPort("0.0.0.0:22"), "sshd"); err != nil {
		t.Fatal(err)
	}
	checkDump(t, k, `netns /run/sealane/netns/web
link br0 type bridge # foreign
link slb1 type bridge mtu 1500 address 02:00:00:00:00:01 up
link lo type loopback mtu 65536 up # foreign
link slv1 type veth mtu 1500 address 02:00:00:00:00:02 master slb1 up peer eth0 address 02:00:00:00:00:03 netns /run/sealane/netns/web
netns /run/sealane/netns/web link lo type loopback mtu 65536 up # foreign
sysctl net.ipv4.ip_forward=1
netns /run/sealane/netns/web addr 192.0.2.2/24 dev eth0
hold tcp *:80
table inet sealane
set inet sealane bridges { type ifname; }
element inet sealane bridges { slb1 }
file /run/sealane/hosts 0 bytes e3b0c44298fc
socket tcp 0.0.0.0:22 by sshd
`)
}

func TestRebootLeavesTheJournal(t *testing.T) {
	k, j := open(t)
	k.Reboot()
	checkDump(t, k, loopback)
	if e, _ := j.Entries(); e["sysctl/net.ipv4.ip_forward"] != "0" {
		t.Errorf("journal has %v", e)
	}
	if err := k.Apply(t.Context(), kerneltest.Adds(world...)); err != nil {
		t.Errorf("everything anew: %v", err)
	}
}

func TestCutCountsATransactionAsItsOps(t *testing.T) {
	k := fake.New(&journal.Memory{})
	for n := range 4 { // before slb1, and at each op of the transaction
		k.Cut(n)
		if err := k.Apply(t.Context(), kerneltest.Adds(slb1, table, *bridges, kstate.Elem{Set: bridges, At: "slb1"})); !errors.Is(err, fake.ErrDead) {
			t.Fatalf("cut %d: %v", n, err)
		}
		want := ""
		if n > 0 {
			want = slb1.String() + "\n"
		}
		checkDump(t, k, want+loopback)
		if err := k.Apply(t.Context(), nil); !errors.Is(err, fake.ErrDead) {
			t.Errorf("a dead process applies: %v", err)
		}
		if _, err := k.Watch(t.Context()); !errors.Is(err, fake.ErrDead) {
			t.Errorf("a dead process watches: %v", err)
		}
		k.Revive()
	}
	before := k.Steps()
	k.Cut(4)
	if err := k.Apply(t.Context(), kerneltest.Adds(slb1, table, *bridges, kstate.Elem{Set: bridges, At: "slb1"})); err != nil {
		t.Errorf("cut after the last step: %v", err)
	}
	if n := k.Steps() - before; n != 4 {
		t.Errorf("%d steps, want 4", n)
	}
}

func TestTamper(t *testing.T) {
	k, _ := open(t)
	down := slb1
	down.Up = false
	k.Tamper(down, kstate.Chain{Table: table, Name: "extra", Rules: []string{"drop"}})
	have, err := k.Observe(context.Background(), kernel.Scope{NS: []kstate.NS{web}})
	if err != nil {
		t.Fatal(err)
	}
	want := kstate.Set{}
	if err := want.Add(world...); err != nil {
		t.Fatal(err)
	}
	ops := kstate.Diff(have, want)
	if err := k.Apply(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	if ops[0].String() != "~ "+slb1.String() {
		t.Errorf("first op is %s", ops[0])
	}
	if have, _ = k.Observe(context.Background(), kernel.Scope{NS: []kstate.NS{web}}); have.String() != want.String() {
		t.Errorf("world is\n%s", have)
	}
}
