package linux

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// doomed lists the devices that wait for the reaper.
func doomed(t testing.TB) string { return strings.TrimSpace(run(t, "ip -o link show group 24226")) }

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatal("did not happen: ", what)
}

func TestDetach(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	clean := observe(t, k, a)
	objs := endpoint(a, 0)
	apply(t, k, kerneltest.Adds(objs...)...)
	apply(t, k, kerneltest.Dels(objs[0])...)
	// Seen at once, whether the reaper came already or not.
	if now := observe(t, k, a); len(now) != len(clean) || now.String() != clean.String() {
		t.Errorf("there is:\n%v\nbefore:\n%v", now.Sorted(), clean.Sorted())
	}
	eventually(t, "the device is gone", func() bool {
		return doomed(t) == "" && !strings.Contains(run(t, "nsenter --net=%s ip -o link", a.Path), "eth0")
	})
}

// A detached device is in nobody's way: neither its names nor its routes.
func TestAttachAfterDetach(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	for range 10 {
		apply(t, k, append(kerneltest.Dels(endpoint(a, 0)[0]), kerneltest.Adds(endpoint(a, 0)...)...)...)
	}
	for i := range 10 {
		i++
		apply(t, k, append(kerneltest.Dels(endpoint(a, i-1)[0]), kerneltest.Adds(endpoint(a, i)...)...)...)
	}
	if n := strings.Count(observe(t, k, a).String(), " type veth "); n != 1 {
		t.Errorf("%d links, want 1", n)
	}
}

func TestDefaultRouteChangesDevice(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	first, second := endpoint(a, 0), endpoint(a, 1)
	l := second[0].(kstate.Link)
	l.Peer.Name = "eth1"
	addr := kstate.Addr{NS: a, Dev: "eth1", Prefix: netip.MustParsePrefix("10.1.0.2/16")}
	def := kstate.Route{NS: a, Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1"), Dev: "eth1"}
	apply(t, k, kerneltest.Adds(first...)...)
	apply(t, k, kerneltest.Adds(l, addr)...)
	apply(t, k, kstate.Op{Old: first[0]}, kstate.Op{New: def})
	if got := observe(t, k, a)[def.Key()]; got == nil || got.String() != def.String() {
		t.Errorf("default route is %v", got)
	}
}

func TestNamespaceTakesItsLinksAlong(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	run(t, "ip link show slv0")
	// Somebody is inside, so the namespace itself lives on.
	run(t, "nsenter --net=%s setsid -f sleep 2", a.Path)
	apply(t, k, kerneltest.Dels(kstate.NetNS{NS: a})...)
	if got := observe(t, k, a); strings.Contains(got.String(), "slv0") {
		t.Errorf("there is:\n%s", got)
	}
	eventually(t, "the device is gone", func() bool { return !strings.Contains(run(t, "ip -o link"), "slv0") })
}

func TestReapWhatAnEarlierProcessDoomed(t *testing.T) {
	dir := host(t)
	run(t, "ip link add slv9 group 24226 type veth peer name other")
	k := open(t, Config{RunDir: dir, Journal: &journal.Memory{}})
	eventually(t, "the device is gone", func() bool { return doomed(t) == "" })
	if got := observe(t, k); got.String() != "" {
		t.Errorf("there is:\n%s", got)
	}
}

// The reaper leaves the kernel's lock to those who detach one endpoint after
// another, but not for ever.
func TestReaperWaitsForAPause(t *testing.T) {
	k, dir := start(t)
	spaces := sandboxes(t, k, dir, 40)
	// detach detaches the first n and returns the longest time between two.
	detach := func(n int, pause time.Duration) (gap, all time.Duration) {
		for i, ns := range spaces[:n] {
			apply(t, k, kerneltest.Adds(endpoint(ns, i)...)...)
		}
		begin := time.Now()
		last := begin
		for i, ns := range spaces[:n] {
			apply(t, k, kerneltest.Dels(endpoint(ns, i)[0])...)
			gap, last = max(gap, time.Since(last)), time.Now()
			time.Sleep(pause)
		}
		return gap, time.Since(begin)
	}
	eventually(t, "all wait", func() bool {
		gap, all := detach(10, 2*time.Millisecond) // twice as long as the reaper waits for one
		n := strings.Count(doomed(t), "slv")
		quick := gap < 8*time.Millisecond && all < 40*time.Millisecond // else the machine was busy
		eventually(t, "the devices are gone", func() bool { return doomed(t) == "" })
		return quick && n == 10
	})
	detach(40, 3*time.Millisecond)
	if n := strings.Count(doomed(t), "slv"); n == 40 {
		t.Error("nothing was reaped before the end")
	}
}

// Devices that wait for the reaper still have their ports of the bridge.
func TestAttachToAFullBridge(t *testing.T) {
	k, _ := start(t)
	full := make([]kstate.Object, 1, 1024)
	full[0] = kstate.Link{Name: "slb1", Type: kstate.TypeBridge, Up: true}
	for i := range 1024 {
		full = append(full, kstate.Link{
			Name: fmt.Sprintf("slv%d", i), Type: kstate.TypeVeth, Master: "slb1", Peer: kstate.Peer{Name: fmt.Sprintf("slw%d", i)},
		})
	}
	apply(t, k, kerneltest.Adds(full[:1024]...)...)
	apply(t, k, kerneltest.Dels(full[1:3]...)...)
	apply(t, k, kerneltest.Adds(full[1024])...)
}

func TestCloseReaps(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	apply(t, k, kerneltest.Dels(endpoint(a, 0)[0])...)
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if left := doomed(t); left != "" {
		t.Errorf("left: %s", left)
	}
	if err := k.Close(); err != nil { // twice is fine
		t.Error(err)
	}
}

// A socket that was kept open would keep the namespace, and with it the veth.
func TestNothingKeepsANamespace(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	observe(t, k, a)
	run(t, "umount %s", filepath.Join(dir, "netns", "0"))
	eventually(t, "the veth goes with its namespace", func() bool {
		return !strings.Contains(run(t, "ip -o link"), "slv0")
	})
}
