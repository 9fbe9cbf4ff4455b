package linux

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// Our address came first and is its subnet's primary one; the kernel would
// remove the others with it.
func TestAddressLeavesForeignOnes(t *testing.T) {
	k, _ := start(t)
	run(t, "ip link add br0 type bridge")
	apply(t, k, kerneltest.Adds(kstate.Addr{Dev: "br0", Prefix: prefix("192.0.2.1/24")})...)
	run(t, "ip address add 192.0.2.2/24 dev br0")
	before := setting(t, "br0")
	apply(t, k, kerneltest.Dels(kstate.Addr{Dev: "br0", Prefix: prefix("192.0.2.1/24")})...)
	if got := run(t, "ip -o -4 address show dev br0"); strings.Contains(got, "192.0.2.1/") || !strings.Contains(got, "192.0.2.2/") {
		t.Errorf("left: %s", got)
	}
	if after := setting(t, "br0"); after != before {
		t.Errorf("promote_secondaries is %s, was %s", after, before)
	}
}

func setting(t *testing.T, dev string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/root/proc/sys/net/ipv4/conf/" + dev + "/promote_secondaries")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestForeignAddressIsNotRemoved(t *testing.T) {
	k, _ := start(t)
	run(t, "ip link add br0 type bridge")
	run(t, "ip address add 192.0.2.1/24 dev br0")
	err := k.Apply(context.Background(), kerneltest.Dels(kstate.Addr{Dev: "br0", Prefix: prefix("192.0.2.1/24")}))
	if !errors.Is(err, kernel.ErrInUse) {
		t.Errorf("error is %v", err)
	}
	if got := run(t, "ip -o -4 address show dev br0"); !strings.Contains(got, "192.0.2.1/24") {
		t.Error("the address is gone")
	}
}

// The entry is there before the address, and goes when the address cannot be,
// or when the address and its device went without us.
func TestJournalOfAddresses(t *testing.T) {
	j := &journal.Memory{}
	k := open(t, Config{RunDir: host(t), Journal: j})
	a := kstate.Addr{Dev: "br0", Prefix: prefix("192.0.2.1/24")}
	entries := func() int { e, _ := j.Entries(); return len(e) }
	if err := k.Apply(context.Background(), kerneltest.Adds(a)); err == nil || entries() != 0 {
		t.Errorf("on no device: %v, %d entries", err, entries())
	}
	run(t, "ip link add br0 type bridge")
	multicast := kstate.Addr{Dev: "br0", Prefix: prefix("ff02::7/128")}
	if err := k.Apply(context.Background(), kerneltest.Adds(multicast)); err == nil || entries() != 0 {
		t.Errorf("an address the kernel refuses: %v, %d entries", err, entries())
	}
	apply(t, k, kerneltest.Adds(a)...)
	run(t, "ip link delete br0")
	if entries() != 1 {
		t.Errorf("%d entries, want 1", entries())
	}
	apply(t, k, kerneltest.Dels(a)...)
	if entries() != 0 {
		t.Errorf("%d entries after the removal", entries())
	}
}

// An address on a sandbox's lo is on a device that is not ours.
func TestAddressOnForeignDeviceOfASandbox(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	vip := kstate.Addr{NS: a, Dev: "lo", Prefix: prefix("192.0.2.7/32")}
	apply(t, k, kerneltest.Adds(vip)...)
	if got := observe(t, k, a)[vip.Key()]; got == nil || kstate.Foreign(got) {
		t.Errorf("seen as %v", got)
	}
	apply(t, k, kerneltest.Dels(vip)...)
	if got := observe(t, k, a)[vip.Key()]; got != nil {
		t.Errorf("left: %v", got)
	}
}

// An address that its owner gave an interface of ours is his, also where we have given it
// none, and the kernel no mark to those of its own: of IPv4 they have none.
func TestOnlyAddressIsForeign(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	run(t, "nsenter --net=%s sysctl -q -w net.ipv6.conf.all.disable_ipv6=1", a.Path)
	all := slices.DeleteFunc(endpoint(a, 0), func(o kstate.Object) bool { _, link := o.(kstate.Link); return !link })
	apply(t, k, kerneltest.Adds(all...)...)
	theirs := kstate.Addr{NS: a, Dev: "eth0", Prefix: prefix("192.0.2.9/24")}
	run(t, "nsenter --net=%s ip address add %s dev eth0", a.Path, theirs.Prefix)
	if got := observe(t, k, a)[theirs.Key()]; got == nil || !kstate.Foreign(got) {
		t.Errorf("seen as %v", got)
	}
}

// A device inside a sandbox that bears our group is its owner's: nested
// installations mark theirs too.
func TestGroupInsideASandboxIsNotOurs(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	run(t, "nsenter --net=%s ip link add slb7 group 24225 type bridge", a.Path)
	l := observe(t, k, a)[kstate.Link{NS: a, Name: "slb7"}.Key()]
	if l == nil || !kstate.Foreign(l) {
		t.Errorf("seen as %v", l)
	}
}

// Only the namespaces tell it from the far end of one of ours.
func TestIndexesOfOursInASandbox(t *testing.T) {
	k, dir := start(t)
	spaces := sandboxes(t, k, dir, 3)
	a, b, c := spaces[0], spaces[1], spaces[2]
	ours := endpoint(a, 0)[0].(kstate.Link)
	apply(t, k, kerneltest.Adds(ours)...)
	near := observe(t, k, a)[ours.Key()].(kstate.Link).Index
	run(t, "nsenter --net=%s ip link add theirs index %d type veth peer name other index %d netns %s", b.Path, near+1, near, c.Path)
	have := observe(t, k, spaces...)
	if l := have[kstate.Link{NS: b, Name: "theirs"}.Key()]; l == nil || !kstate.Foreign(l) {
		t.Errorf("theirs is %v", l)
	}
	if l := have[ours.Key()]; l == nil || l.String() != ours.String() {
		t.Errorf("ours is %v", l)
	}
}

func TestFilesElsewhereAreRefused(t *testing.T) {
	k, dir := start(t)
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		secret, filepath.Join(dir, "sandboxes/hosts"), filepath.Join(dir, "sandboxes/a/b/hosts"),
		filepath.Join(dir, "sandboxes/a/passwd"), dir + "/sandboxes/../x/hosts",
	} {
		f := kstate.File{Path: path, Content: "y"}
		if err := k.Apply(context.Background(), append(kerneltest.Adds(f), kerneltest.Dels(f)...)); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	link := filepath.Join(dir, "sandboxes/a/hosts")
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(secret, link)); err != nil {
		t.Fatal(err)
	}
	if err := k.Apply(context.Background(), kerneltest.Adds(kstate.File{Path: link, Content: "y"})); err == nil {
		t.Error("written through a symbolic link")
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestFilesGoWithTheirDirectory(t *testing.T) {
	k, dir := start(t)
	hosts := kstate.File{Path: filepath.Join(dir, "sandboxes/a/hosts"), Content: "x\n"}
	resolv := kstate.File{Path: filepath.Join(dir, "sandboxes/a/resolv.conf")}
	apply(t, k, kerneltest.Adds(hosts, resolv)...)
	apply(t, k, kerneltest.Dels(hosts)...)
	if _, err := os.Stat(resolv.Path); err != nil {
		t.Error(err)
	}
	apply(t, k, kerneltest.Dels(resolv)...)
	if _, err := os.Stat(filepath.Dir(resolv.Path)); err == nil {
		t.Error("the directory is left")
	}
}
