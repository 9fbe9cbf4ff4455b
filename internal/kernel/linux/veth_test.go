package linux

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// shown is what `ip -d -j` says of a device.
type shown struct {
	Ifindex  int
	Ifname   string
	Ifalias  string
	MTU      int
	Group    string
	Flags    []string
	Mode     string `json:"inet6_addr_gen_mode"`
	Queues   int    `json:"num_tx_queues"`
	NSID     int    `json:"link_netnsid"`
	LinkInfo struct {
		SlaveData struct{ Hairpin, Isolated bool } `json:"info_slave_data"`
		Data      struct {
			Snooping int `json:"mcast_snooping"`
			STP      int `json:"stp_state"`
		} `json:"info_data"`
	} `json:"linkinfo"`
	Addrs []struct{ Local, Broadcast string } `json:"addr_info"`
}

// show asks ip about a device in a namespace, "" for the host's.
func show(t testing.TB, ns, dev string) shown {
	t.Helper()
	got := make([]shown, 1)
	for _, line := range []string{"ip -d -j address show dev " + dev, "ip -d -j link show dev " + dev} {
		if ns != "" {
			line = "nsenter --net=" + ns + " " + line
		}
		if err := json.Unmarshal([]byte(run(t, "%s", line)), &got); err != nil || len(got) != 1 {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return got[0]
}

func observe(t testing.TB, k kernel.Kernel, ns ...kstate.NS) kstate.Set {
	t.Helper()
	got, err := k.Observe(context.Background(), kernel.Scope{NS: ns})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestVethAsIpShowsIt(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	near, far := show(t, "", "slv0"), show(t, a.Path, "eth0")
	if near.Ifalias != "sealane bench" || near.Group != "24225" || far.Group != "default" {
		t.Errorf("alias %q, groups %s and %s", near.Ifalias, near.Group, far.Group)
	}
	if !near.LinkInfo.SlaveData.Hairpin || near.LinkInfo.SlaveData.Isolated {
		t.Errorf("port is %+v", near.LinkInfo.SlaveData)
	}
	for _, d := range []shown{near, far} {
		if d.Mode != "none" || d.Queues != 1 {
			t.Errorf("%s: address generation %s, %d queues", d.Ifname, d.Mode, d.Queues)
		}
	}
	if len(near.Addrs) != 0 || len(far.Addrs) != 1 || far.Addrs[0].Broadcast != "10.0.255.255" {
		t.Errorf("addresses %v and %v", near.Addrs, far.Addrs)
	}
	if br := show(t, "", "slb1"); br.LinkInfo.Data.Snooping != 0 || br.LinkInfo.Data.STP != 0 || br.Mode != "none" || len(br.Addrs) != 0 {
		t.Errorf("bridge is %+v", br)
	}
}

// The kernel finds the lowest number first, and each notification about a port
// has it look for that of the far end's namespace.
func TestNewestNamespaceIsFoundFirst(t *testing.T) {
	k, dir := start(t)
	before := -1
	for i, ns := range sandboxes(t, k, dir, 3) {
		objs := endpoint(ns, i)
		apply(t, k, kerneltest.Adds(objs...)...)
		got := show(t, "", objs[0].(kstate.Link).Name).NSID
		if i > 0 && got >= before {
			t.Errorf("namespace %d has number %d, and the one before it %d", i, got, before)
		}
		before = got
	}
}

// For each new port the kernel looks through such routes of all others.
func TestPortsHaveNoMulticastRoute(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	routes := func() string { return run(t, "ip -6 route show table local") }
	eventually(t, "the bridge has its route", func() bool { return strings.Contains(routes(), "ff00::/8 dev slb1") })
	if got := routes(); strings.Contains(got, "dev slv0") {
		t.Errorf("routes are\n%s", got)
	}
}

func TestBridgeKeepsItsMTU(t *testing.T) {
	for _, mtu := range []int{1500, 1400, 9000} {
		k, _ := start(t)
		b := kstate.Link{Name: "slb1", Type: kstate.TypeBridge, MTU: mtu, Up: true}
		apply(t, k, kerneltest.Adds(b)...)
		run(t, "ip link add port mtu 1450 master slb1 type veth peer name other")
		if got := show(t, "", "slb1").MTU; got != mtu {
			t.Errorf("with a port of 1450: %d, want %d", got, mtu)
		}
		run(t, "ip link delete port")
		if got := show(t, "", "slb1").MTU; got != mtu {
			t.Errorf("without ports: %d, want %d", got, mtu)
		}
	}
}

func TestMTUIsOfBothEnds(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	was := endpoint(a, 0)[0].(kstate.Link)
	will := was
	will.MTU, will.Peer.MAC = 1400, mac(3, 3)
	apply(t, k, kstate.Op{New: was}, kstate.Op{Old: was, New: will})
	if near, far := show(t, "", "slv0").MTU, show(t, a.Path, "eth0").MTU; near != 1400 || far != 1400 {
		t.Errorf("MTU %d and %d", near, far)
	}
	if got := observe(t, k, a)[will.Key()]; got.String() != will.String() {
		t.Errorf("there is %s", got)
	}
}

// hears reports whether a datagram from one namespace arrives in another.
func hears(t *testing.T, from, to kstate.NS, at netip.Addr) bool {
	t.Helper()
	var in, out net.PacketConn
	open := func(ns kstate.NS, addr string, c *net.PacketConn) {
		h, err := netns.Open(ns)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		if err := h.Do(func() (err error) { *c, err = net.ListenPacket("udp4", addr); return err }); err != nil {
			t.Fatal(err)
		}
	}
	open(to, netip.AddrPortFrom(at, 7).String(), &in)
	defer in.Close()
	open(from, "0.0.0.0:0", &out)
	defer out.Close()
	for range 5 {
		if _, err := out.WriteTo([]byte("x"), in.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		in.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, _, err := in.ReadFrom(make([]byte, 9)); err == nil && n == 1 {
			return true
		}
	}
	return false
}

func TestIsolatedPortsAreIsolated(t *testing.T) {
	k, dir := start(t)
	spaces := sandboxes(t, k, dir, 3)
	var at []netip.Addr
	for i, ns := range spaces {
		objs := endpoint(ns, i)
		l := objs[0].(kstate.Link)
		l.Isolated = i < 2
		objs[0] = l
		at = append(at, objs[1].(kstate.Addr).Prefix.Addr())
		apply(t, k, kerneltest.Adds(objs...)...)
	}
	if !hears(t, spaces[0], spaces[2], at[2]) || !hears(t, spaces[2], spaces[1], at[1]) {
		t.Error("an isolated port and one that is not cannot talk")
	}
	if hears(t, spaces[0], spaces[1], at[1]) {
		t.Error("two isolated ports talk")
	}
}

func TestFarEndSetDown(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	objs := endpoint(a, 0)
	l := objs[0].(kstate.Link)
	apply(t, k, kerneltest.Adds(objs...)...)
	run(t, "nsenter --net=%s ip link set eth0 down", a.Path)
	have := observe(t, k, a)
	if got := have[l.Key()].(kstate.Link); got.Up {
		t.Error("seen as up")
	}
	want := kstate.Set{}
	for k, o := range have {
		want[k] = o
	}
	for _, o := range objs {
		want[o.Key()] = o
	}
	apply(t, k, kstate.Diff(have, want)...)
	if got := observe(t, k, a); got.String() != want.String() {
		t.Errorf("there is:\n%swant:\n%s", got, want)
	}
}

func TestFarEndOutOfSight(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	l := endpoint(a, 0)[0].(kstate.Link)
	apply(t, k, kerneltest.Adds(l)...)
	hidden := exec.Command("unshare", "--net", "sh", "-c", "echo; exec sleep 30")
	out, err := hidden.StdoutPipe()
	if err := errors.Join(err, hidden.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hidden.Process.Kill(); hidden.Wait() })
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is in its namespace now
		t.Fatal(err)
	}
	run(t, "nsenter --net=%s ip link set eth0 netns %d", a.Path, hidden.Process.Pid)
	have := observe(t, k, a)
	got, ok := have[l.Key()].(kstate.Link)
	if !ok || got.Peer.NS != (kstate.NS{}) || got.Peer.Name != "" {
		t.Errorf("there is %v", got)
	}
	ops := kstate.Diff(have, kstate.Set{l.Key(): l})
	if len(ops) < 2 || ops[0].Old == nil {
		t.Errorf("to do: %v", ops)
	}
}

// The namespace of an attached sandbox ends, and another begins under the same
// name before the kernel has cleaned up.
func TestNameOfADyingVeth(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	for range 5 {
		apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
		run(t, "umount %s", a.Path)
		apply(t, k, kerneltest.Adds(kstate.NetNS{NS: a})...)
	}
	apply(t, k, kerneltest.Adds(endpoint(a, 0)...)...)
	if got := observe(t, k, a); got[endpoint(a, 0)[0].Key()].String() != endpoint(a, 0)[0].String() {
		t.Errorf("there is:\n%s", got)
	}
}

func TestErrorsHaveTheKernelsWords(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	r := kstate.Route{NS: a, Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1"), Dev: "lo"}
	err := k.Apply(context.Background(), kerneltest.Adds(r))
	if err == nil || err.Error() != "+ "+r.String()+": Nexthop has invalid gateway (network is unreachable)" {
		t.Errorf("error is %v", err)
	}
	if !errors.Is(err, kernel.ErrMissing) {
		t.Errorf("%v is no %v", err, kernel.ErrMissing)
	}
}

// More namespaces than a pass keeps open at once.
func TestManyNamespacesInOneApply(t *testing.T) {
	k, dir := start(t)
	spaces := sandboxes(t, k, dir, 450)
	var links, addrs, routes []kstate.Object
	for i, ns := range spaces {
		o := endpoint(ns, i)
		links, addrs, routes = append(links, o[0]), append(addrs, o[1]), append(routes, o[2])
	}
	all := append(append(links, addrs...), routes...)
	apply(t, k, kerneltest.Adds(all...)...)
	have := observe(t, k, spaces...)
	for _, o := range all {
		if got := have[o.Key()]; got == nil || got.String() != o.String() {
			t.Fatalf("there is %v, want %s", got, o)
		}
	}
}

func TestCordAndPinAsIpShowsThem(t *testing.T) {
	k, dir := start(t)
	a := sandboxes(t, k, dir, 1)[0]
	v := endpoint(a, 0)[0].(kstate.Link)
	v.Master, v.Pinned = "slb2", true
	cord := kstate.Link{Name: "slu", Type: kstate.TypeVeth, MTU: 1400, Up: true, Master: "slb1", Isolated: true,
		Peer: kstate.Peer{Name: "sld", Master: "slb2"}}
	apply(t, k, kerneltest.Adds(kstate.Link{Name: "slb2", Type: kstate.TypeBridge, MTU: 1400, Up: true, NoARP: true}, cord, v)...)
	for _, name := range []string{"slb2", "slu", "sld"} {
		if d := show(t, "", name); d.Mode != "none" || len(d.Addrs) != 0 || d.Group != "24225" || d.MTU != 1400 {
			t.Errorf("%s: address generation %s, addresses %v, group %s, MTU %d", name, d.Mode, d.Addrs, d.Group, d.MTU)
		}
	}
	if near, far := show(t, "", "slu").LinkInfo.SlaveData, show(t, "", "sld").LinkInfo.SlaveData; !near.Isolated || far.Isolated {
		t.Errorf("ports are %+v and %+v", near, far)
	}
	pinned := func(mac string) bool {
		for line := range strings.Lines(run(t, "bridge fdb show br slb2")) {
			if strings.HasPrefix(line, mac+" dev "+v.Name+" ") && strings.Contains(line, "sticky") && strings.Contains(line, "static") {
				return true
			}
		}
		return false
	}
	if !pinned(v.Peer.MAC) {
		t.Errorf("%s is not pinned", v.Peer.MAC)
	}
	will := v
	will.Peer.MAC = mac(3, 3)
	apply(t, k, kstate.Op{Old: v, New: will})
	if pinned(v.Peer.MAC) || !pinned(will.Peer.MAC) {
		t.Errorf("after a change: old pinned %v, new %v", pinned(v.Peer.MAC), pinned(will.Peer.MAC))
	}
	run(t, "ip link set %s nomaster", v.Name)
	apply(t, k, kstate.Op{Old: observe(t, k, a)[will.Key()], New: will})
	if !pinned(will.Peer.MAC) {
		t.Errorf("back in its bridge %s is not pinned", will.Peer.MAC)
	}
}
