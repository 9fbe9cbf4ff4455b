package linux

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// inNS is what runs a command in a namespace.
func inNS(ns kstate.NS) string {
	if ns.IsHost() {
		return ""
	}
	return "nsenter --net=" + ns.Path + " "
}

func (o *outside) Neigh(t *testing.T, n kstate.Neigh, permanent bool) {
	state := map[bool]string{true: "permanent", false: "reachable"}[permanent]
	run(t, "%sip neighbour replace %s lladdr %s dev %s nud %s", inNS(n.NS), n.Addr, n.MAC, n.Dev, state)
}

func (o *outside) DropNeigh(t *testing.T, n kstate.Neigh) {
	run(t, "%sip neighbour del %s dev %s", inNS(n.NS), n.Addr, n.Dev)
}

func (o *outside) DropFDB(t *testing.T, f kstate.FDB) {
	run(t, "bridge fdb del %s dev %s dst %s self", f.MAC, f.Dev, f.Dst)
}

func (o *outside) Unbridge(t *testing.T, f kstate.FDB) {
	run(t, "bridge fdb del %s dev %s master", f.MAC, f.Dev)
}

func (o *outside) Known(t *testing.T, dev string, on bool) {
	how := map[bool]string{true: "off", false: "on"}[on]
	run(t, "bridge link set dev %s learning %s flood %s", dev, how, how)
}

func (o *outside) DropRoute(t *testing.T, r kstate.Route) {
	run(t, "%sip route del %s table %d", inNS(r.NS), r.Dst, cmp.Or(r.Table, unix.RT_TABLE_MAIN))
}

func (o *outside) Rule(t *testing.T, r kstate.Rule) { run(t, "ip %s", ruleText("add", r)) }

func (o *outside) DropRule(t *testing.T, r kstate.Rule) { run(t, "ip %s", ruleText("del", r)) }

// ruleText is what ip-rule(8) is told of a rule.
func ruleText(verb string, r kstate.Rule) string {
	family, word, text := "", "", ""
	if r.Is6 {
		family = "-6 "
	}
	if r.Not {
		word = "not "
	}
	if r.Mask != 0 {
		text = fmt.Sprintf("fwmark %#x/%#x ", r.Mark, r.Mask)
	}
	switch {
	case r.Goto != 0:
		text += fmt.Sprintf("goto %d", r.Goto)
	case r.Table != 0:
		text += fmt.Sprintf("lookup %d", r.Table)
	default:
		text += "nop"
	}
	return fmt.Sprintf("%srule %s %spref %d %s", family, verb, word, r.Priority, text)
}

func (o *outside) Detour(t *testing.T, dev string, on bool) {
	value := map[bool]string{true: "0", false: "1"}[on]
	o.SetSysctl(t, "net.ipv4.conf."+dev+".rp_filter", value)
	o.SetSysctl(t, "net.ipv4.conf."+dev+".send_redirects", value)
}

// A program that comes later attaches two queues, and the device outlives it.
func TestTUNQueues(t *testing.T) {
	featuretest.Require(t, feature.TUN)
	k, _ := start(t)
	apply(t, k, kerneltest.Adds(kstate.Link{Name: "slt1", Type: kstate.TypeTUN, MTU: 1472, Up: true})...)
	if got := carrier(t, "slt1", false); !strings.Contains(got, "pi off vnet_hdr on multi_queue") || !strings.Contains(got, "persist on user root") {
		t.Errorf("it is\n%s", got)
	}
	queue := func() *os.File {
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		req, err := unix.NewIfreq("slt1")
		if err != nil {
			t.Fatal(err)
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
		if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req); err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b := queue(), queue()
	if got := carrier(t, "slt1", true); !strings.Contains(got, "numqueues 2") {
		t.Errorf("with two queues it is\n%s", got)
	}
	a.Close()
	b.Close()
	run(t, "ip link show slt1")
}

// carrier waits until a device has a carrier or has none, of which the kernel takes
// notice up to a second late, and returns what ip says of it.
func carrier(t *testing.T, dev string, has bool) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := run(t, "ip -d link show %s", dev)
		if strings.Contains(got, "NO-CARRIER") != has {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("a carrier should be: %v, it is\n%s", has, got)
		}
	}
}

// UDP over IPv4 has no checksum, and over IPv6 one that others need not have.
func TestVXLANChecksums(t *testing.T) {
	featuretest.Require(t, feature.VXLAN)
	k, _ := start(t)
	for local, want := range map[string]string{
		"192.0.2.1": "noudpcsum noudp6zerocsumtx noudp6zerocsumrx", "2001:db8::1": "noudpcsum noudp6zerocsumtx udp6zerocsumrx",
	} {
		l := kstate.Link{Name: "slx1", Type: kstate.TypeVXLAN, Up: true, VXLAN: kstate.VXLAN{VNI: 1, Port: 8472, Local: netip.MustParseAddr(local), NoLearning: true}}
		apply(t, k, kerneltest.Adds(l)...)
		if got := run(t, "ip -d link show slx1"); !strings.Contains(got, want) || !strings.Contains(got, "addrgenmode none") {
			t.Errorf("%s: want %s in\n%s", local, want, got)
		}
		apply(t, k, kerneltest.Dels(l)...)
	}
}

// A device of somebody's with the same VNI, as one that flanneld left, is called by its name.
func TestVXLANOfAnother(t *testing.T) {
	featuretest.Require(t, feature.VXLAN)
	k, _ := start(t)
	run(t, "ip link add flannel.2 type vxlan id 2 dstport 8472")
	run(t, "ip link add other.1 type vxlan id 1 dstport 8473")
	run(t, "ip link add flannel.1 type vxlan id 1 dstport 8472")
	l := kstate.Link{Name: "slx1", Type: kstate.TypeVXLAN, Up: true, VXLAN: kstate.VXLAN{VNI: 1, Port: 8472, Local: netip.MustParseAddr("192.0.2.1"), NoLearning: true}}
	err := k.Apply(t.Context(), kerneltest.Adds(l))
	if want := ": vni 1 at port 8472: is device flannel.1's: remove that, or choose another (file exists)"; err == nil || !errors.Is(err, kernel.ErrInUse) || !strings.HasSuffix(err.Error(), want) {
		t.Fatalf("%v\nwant %s", err, want)
	}
	run(t, "ip link del flannel.1")
	apply(t, k, kerneltest.Adds(l)...)
}
