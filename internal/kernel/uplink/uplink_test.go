package uplink

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/lab"
	"github.com/sealane/sealane/internal/model"
)

// envCut has a worker die before its nth change, counted from 0.
const envCut = "UPLINK_TEST_CUT"

func TestMain(m *testing.M) {
	if os.Args[0] == recoverName {
		if _, err := dir.Recover(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	left, err := strconv.Atoi(os.Getenv(envCut))
	stage(func() {
		if left--; err == nil && left < 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	lab.Main(m)
}

const dir = Dir("/var/lib/uplinks")

// world is a host with a NIC that has all there is to move, and its neighbours.
//
//	a eth0 192.0.2.1 2001:db8::1 ── lan ── 192.0.2.254 2001:db8::fe gw
//	                                  └─── 192.0.2.9 2001:db8::9 peer
func world(t *testing.T) (a, gw, peer *lab.Host) {
	needs(t)
	l := lab.New(t)
	a, gw, peer = l.Host("a"), l.Host("gw"), l.Host("peer")
	lan := l.Switch("lan")
	a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	gw.Plug(lan, "eth0", "192.0.2.254/24", "2001:db8::fe/64", "198.51.100.1/24")
	peer.Plug(lan, "eth0", "192.0.2.9/24", "2001:db8::9/64")
	return a, gw, peer
}

// needs are what the kernel has to have for a NIC, a bridge and what is looked at.
func needs(t *testing.T) {
	t.Helper()
	featuretest.Require(t, feature.Veth, feature.Bridge, feature.IPv6, feature.Nftables)
}

// rich gives eth0 what hosts have on their NICs, and some have nowhere else.
const rich = `
ip addr add 192.0.2.2/24 dev eth0 label eth0:web
ip addr add 192.0.2.3/24 dev eth0 valid_lft 3000 preferred_lft 2000
ip addr add 198.51.100.7/32 dev eth0 noprefixroute
ip addr add 10.99.0.1/24 dev eth0 metric 500
ip addr add 2001:db8::2/64 dev eth0 nodad valid_lft 4000 preferred_lft 1000
ip addr add 2001:db8:9::1/64 dev eth0 nodad noprefixroute
ip route add default via 192.0.2.254
ip route add default via 192.0.2.253 metric 700 proto dhcp
ip route add 203.0.113.0/24 dev eth0 scope link src 192.0.2.2
ip route add 203.0.114.0/24 via 100.64.0.1 dev eth0 onlink mtu 1400
ip route add 203.0.115.0/24 via 192.0.2.254 table 77 metric 5
ip route add default via 192.0.2.254 table 78
ip route add 203.0.116.0/24 nexthop via 192.0.2.254 weight 2 nexthop via 10.50.0.9 dev eth1 weight 3
ip nexthop add id 5 via 192.0.2.254 dev eth0
ip route add 203.0.117.0/24 nhid 5
ip -6 route add default via 2001:db8::fe proto ra metric 100 expires 600
ip -6 route add 2001:db8:5::/48 via 2001:db8::fe src 2001:db8::2
ip -6 route add 2001:db8:6::/48 nexthop via 2001:db8::fe dev eth0 weight 2 nexthop via 2001:db8:50::9 dev eth1
ip -6 route add 2001:db8:7::/48 dev eth0 table 77
ip neigh add proxy 192.0.2.78 dev eth0
ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0
ip neigh add 2001:db8::77 lladdr 02:00:00:00:00:77 dev eth0
ip rule add iif eth0 lookup 77 pref 400
`

// second gives the host a second NIC.
func second(t *testing.T, a *lab.Host, l *lab.Switch) {
	a.Plug(l, "eth1", "10.50.0.1/24", "2001:db8:50::1/64")
}

// look says what the host has, without what changes by itself.
const look = `
ip -o link show | sed 's/^[0-9]*: //; s/ state [A-Z]*//; s/NO-CARRIER,//; s/,LOWER_UP//; s/ qlen [0-9]*//; s/ *\\/ /'
ip -o addr show | sed -E 's/^[0-9]+: //; s/_lft [0-9]{3,}sec/_lft Nsec/g; s/ tentative//'
for t in all; do ip -4 route show table all; ip -6 route show table all; done | grep -v -e fe80 -e ff00 | sed -E 's/ expires [0-9]+sec/ expires Nsec/; s/ linkdown//' | sort
ip nexthop
ip neigh show nud permanent; ip neigh show proxy
ip -4 rule; ip -6 rule
grep '' /proc/sys/net/ipv[46]/conf/eth0/* /proc/sys/net/ipv[46]/conf/br*/* 2>/dev/null | grep -v stable_secret
`

func state(h *lab.Host) string { return h.Must("sh", "-c", look) }

// sameAgain waits until a host has a state again: the kernel takes addresses into use a
// moment after it was told.
func sameAgain(t *testing.T, h *lab.Host, want, when string) {
	t.Helper()
	var diff string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if diff = cmp.Diff(want, state(h)); diff == "" {
			return
		}
	}
	t.Fatalf("%s: before (-) and after (+):\n%s", when, diff)
}

func script(h *lab.Host, lines string) {
	h.Must("sh", "-ec", lines)
}

func attachOn(t *testing.T, h *lab.Host, mv Move) (rep Report, err error) {
	t.Helper()
	return on(h, func() (Report, error) { return dir.Attach(t.Context(), mv) })
}

func detachOn(t *testing.T, h *lab.Host, mv Move) (rep Report, err error) {
	t.Helper()
	return on(h, func() (Report, error) { return dir.Detach(t.Context(), mv) })
}

func on[T any](h *lab.Host, f func() (T, error)) (v T, err error) {
	err = h.Do(func() (err error) {
		v, err = f()
		return err
	})
	return v, err
}

func recoverOn(h *lab.Host) ([]Recovered, error) { return on(h, dir.Recover) }

func TestThereAndBack(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a, gw := l.Host("a"), l.Host("gw")
	lan := l.Switch("lan")
	a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	gw.Plug(lan, "eth0", "192.0.2.254/24", "2001:db8::fe/64")
	second(t, a, l.Switch("other"))
	script(a, rich)
	script(a, "sysctl -qw net.ipv4.conf.eth0.rp_filter=1 net.ipv4.conf.all.rp_filter=1 net.ipv6.conf.eth0.accept_ra=2 net.ipv4.conf.eth0.forwarding=1")
	before := state(a)
	rep, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true, Timeout: DefaultTimeout})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(rep.Answering); got != "[192.0.2.254 2001:db8::fe]" {
		t.Errorf("asked %s", got)
	}
	if w := strings.Join(rep.Warnings, "\n"); !strings.Contains(w, "rule 400 is about packets from eth0") || !strings.Contains(w, "lifetime") {
		t.Errorf("warnings:\n%s", w)
	}
	if diff := cmp.Diff(routesOf(before, "eth0", "br1"), routesOf(state(a), "br1", "br1")); diff != "" {
		t.Errorf("what eth0 had (-) and br1 has (+):\n%s", diff)
	}
	if left := leftOn(state(a), "eth0"); left != "" {
		t.Errorf("left on eth0:\n%s", left)
	}
	for _, to := range []string{"192.0.2.254", "2001:db8::fe"} {
		a.Must("lab-echo", "ping", to)
	}
	gw.Must("lab-echo", "ping", "192.0.2.1")
	if rep, err = detachOn(t, a, Move{NIC: "eth0", Timeout: DefaultTimeout}); err != nil {
		t.Fatal(err)
	}
	sameAgain(t, a, before, "in the end")
	if left := a.Must("ls", string(dir)); left != "lock\n" {
		t.Errorf("left: %s", left)
	}
}

// numbered gives eth0 routes whose next hops are objects of their own, in all forms.
const numbered = `
ip nexthop add id 5 via 192.0.2.254 dev eth0 proto 186
ip nexthop add id 6 via 2001:db8::fe dev eth0
ip nexthop add id 7 via 10.50.0.9 dev eth1
ip nexthop add id 8 dev eth0
ip nexthop add id 9 via 100.64.0.1 dev eth0 onlink
ip nexthop add id 10 group 5,2/7,3
ip nexthop add id 11 via fe80::fe dev eth0
ip nexthop add id 12 blackhole
ip nexthop add id 13 group 6/11
ip route add default nhid 5
ip route add 203.0.113.0/24 nhid 10 src 192.0.2.1
ip route add 203.0.114.0/24 nhid 8
ip route add 203.0.115.0/24 nhid 9 table 77 metric 5
ip route add 203.0.116.0/24 nhid 11
ip route add 203.0.117.0/24 nhid 12
ip -6 route add default nhid 6
ip -6 route add 2001:db8:5::/48 nhid 13
ip -6 route add 2001:db8:6::/48 nhid 11 src 2001:db8::1
`

// TestNumberedNextHops has routes by next hops that are objects (ip-nexthop(8)) follow a
// NIC to its bridge and back, also those of groups, and of both families.
func TestNumberedNextHops(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a, gw := l.Host("a"), l.Host("gw")
	lan := l.Switch("lan")
	a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	gw.Plug(lan, "eth0", "192.0.2.254/24", "2001:db8::fe/64", "198.51.100.1/24")
	second(t, a, l.Switch("other"))
	script(a, numbered)
	before := state(a)
	for range 2 {
		rep, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true, Timeout: DefaultTimeout})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(rep.Answering); got != "[192.0.2.254 2001:db8::fe]" {
			t.Errorf("asked %s", got)
		}
		if diff := cmp.Diff(routesOf(before, "eth0", "br1"), routesOf(state(a), "br1", "br1")); diff != "" {
			t.Errorf("what eth0 had (-) and br1 has (+):\n%s", diff)
		}
		if left := leftOn(state(a), "eth0"); left != "" {
			t.Errorf("left on eth0:\n%s", left)
		}
		a.Must("lab-echo", "ping", "198.51.100.1")
		if _, err := detachOn(t, a, Move{NIC: "eth0", Timeout: DefaultTimeout}); err != nil {
			t.Fatal(err)
		}
		sameAgain(t, a, before, "in the end")
	}
}

// TestNumberedLater gives the bridge such next hops while it has the NIC: they and their
// routes go to the NIC with it, as others do. One that the bridge had before stays there.
func TestNumberedLater(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a := l.Host("a")
	lan := l.Switch("lan")
	a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	second(t, a, l.Switch("other"))
	script(a, "ip link add v0 type veth peer name v1")
	own := "ip link del br1; ip link add br1 type bridge; ip link set br1 up; ip addr add 10.7.0.1/24 dev br1; ip nexthop add id 20 via 10.7.0.9 dev br1; ip route add 10.8.0.0/24 nhid 20"
	for _, bridge := range []string{"true", own} {
		script(a, bridge)
		before := routesOf(state(a), "br1", "br1")
		if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true}); err != nil {
			t.Fatal(err)
		}
		script(a, strings.ReplaceAll(numbered, "eth0", "br1"))
		script(a, "ip link set v0 master br1 up; ip link set v1 up") // without a carrier, the kernel removes them
		lent := slices.DeleteFunc(routesOf(state(a), "br1", "eth0"), func(line string) bool { return strings.Contains(line, "10.7.0.") || strings.Contains(line, "10.8.0.") })
		if _, err := detachOn(t, a, Move{NIC: "eth0"}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(lent, routesOf(state(a), "eth0", "eth0")); diff != "" {
			t.Errorf("%s: what br1 had for eth0 (-) and eth0 has (+):\n%s", bridge, diff)
		}
		if diff := cmp.Diff(before, routesOf(state(a), "br1", "br1")); diff != "" {
			t.Errorf("%s: what br1 had (-) and has (+):\n%s", bridge, diff)
		}
		a.Must("ip", "nexthop", "flush")
		a.Must("ip", "link", "set", "v1", "down")
	}
}

// TestProxyStays has the cable out for a moment: what the host answers for is the
// bridge's for good, as it was the NIC's.
func TestProxyStays(t *testing.T) {
	a, _, _ := world(t)
	script(a, "ip neigh add proxy 192.0.2.78 dev eth0")
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true}); err != nil {
		t.Fatal(err)
	}
	a.Cut("eth0")
	script(a, "until ip -o link show br1 | grep -q 'state DOWN'; do sleep .01; done")
	a.Mend("eth0")
	if got := a.Must("ip", "neigh", "show", "proxy"); got != "192.0.2.78 dev br1 proxy \n" {
		t.Errorf("proxies: %q", got)
	}
}

// routesOf returns what a state says about a device, under another name, without
// the device itself and its settings.
func routesOf(state, dev, as string) []string {
	var out []string
	for line := range strings.Lines(state) {
		about := regexp.MustCompile(`\b` + dev + `\b`)
		if !about.MatchString(line) || strings.Contains(line, "mtu 1500") || strings.HasPrefix(line, "/proc/") || strings.Contains(line, "fe80") || strings.Contains(line, "lookup") {
			continue
		}
		line = strings.NewReplacer(" nodad", "", " linkdown", "").Replace(line)
		out = append(out, strings.TrimSpace(about.ReplaceAllString(line, as)))
	}
	return out
}

func leftOn(state, dev string) string { return strings.Join(routesOf(state, dev, dev), "\n") }

// TestBack has the gateway fall silent at the moment of the move: everything goes
// back by itself, in the time given and a little.
func TestBack(t *testing.T) {
	a, gw, _ := world(t)
	script(a, "ip route add default via 192.0.2.254; ip link add br1 type bridge; ip addr add 10.7.0.1/24 dev br1; ip link set br1 up")
	// A bridge that lets nothing through to the host: what a wrong VLAN does.
	script(a, "nft 'add table bridge wall { chain in { type filter hook prerouting priority -400; iifname eth0 drop; }; }'")
	before := state(a)
	began := time.Now()
	_, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Timeout: time.Second})
	took := time.Since(began)
	if err == nil || kindOf(err) != model.Conflict || !strings.Contains(err.Error(), "192.0.2.254 answered before and does not within 1s by br1; everything is as it was") {
		t.Errorf("error is %v", err)
	}
	t.Logf("back after %v, of which a second was for the gateway", took.Round(time.Millisecond))
	sameAgain(t, a, before, "in the end")
	gw.Must("lab-echo", "ping", "192.0.2.1")
	if left := a.Must("ls", string(dir)); left != "lock\n" {
		t.Errorf("left: %s", left)
	}
}

// TestKilledAnywhere kills the process before each of its changes, in both
// directions, and looks that whoever comes next finds all as it was before, or done.
func TestKilledAnywhere(t *testing.T) {
	needs(t)
	l := lab.New(t)
	a, gw := l.Host("a"), l.Host("gw")
	lan := l.Switch("lan")
	a.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64")
	gw.Plug(lan, "eth0", "192.0.2.254/24", "2001:db8::fe/64")
	second(t, a, l.Switch("other"))
	script(a, rich)
	apart := state(a)
	mv := Move{NIC: "eth0", Bridge: "br1", Make: true}
	cuts := cutAll(t, a, func() error { _, err := attachOn(t, a, mv); return err }, apart)
	together := state(a)
	cuts += cutAll(t, a, func() error { _, err := detachOn(t, a, Move{NIC: "eth0"}); return err }, together)
	sameAgain(t, a, apart, "in the end")
	t.Logf("killed at %d places", cuts)
	if cuts < 60 {
		t.Errorf("only %d places", cuts)
	}
}

// cutAll does something with a process that dies before its first change, then
// before its second and so on, until it lives. Each time what was begun is taken back.
func cutAll(t *testing.T, a *lab.Host, do func() error, before string) int {
	t.Helper()
	return cutEach(t, a, do, func(when string) { t.Helper(); sameAgain(t, a, before, when) })
}

// recoverName is argv[0] of a process that recovers: Open vSwitch is found by those of
// the host's own process namespace only.
const recoverName = "uplink-recover"

// takeBack recovers in such a process.
func takeBack(t *testing.T, a *lab.Host) {
	t.Helper()
	if res, err := a.RunCmd(&exec.Cmd{Path: "/proc/self/exe", Args: []string{recoverName}}); err != nil || res.Code != 0 {
		t.Fatalf("recover: %v %s", err, res.Stdout)
	}
}

// cutEach is cutAll with another look at what was taken back.
func cutEach(t *testing.T, a *lab.Host, do func() error, same func(when string)) int {
	t.Helper()
	for cut := 0; ; cut++ {
		os.Setenv(envCut, strconv.Itoa(cut))
		err := do()
		os.Unsetenv(envCut)
		if err == nil {
			return cut
		}
		if err != ErrKilled {
			t.Fatalf("cut %d: %v", cut, err)
		}
		takeBack(t, a)
		same(fmt.Sprintf("cut %d", cut))
	}
}

func TestPowerLoss(t *testing.T) {
	a, _, _ := world(t)
	os.Setenv(envCut, "12")
	_, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br1", Make: true})
	os.Unsetenv(envCut)
	if err != ErrKilled {
		t.Fatal(err)
	}
	// The host comes up as its own configuration has it.
	script(a, `sed -i 's/"boot":"[^"]*"/"boot":"another"/' /var/lib/uplinks/eth0.json; ip link del br1; ip addr flush dev eth0; ip addr add 192.0.2.1/24 dev eth0`)
	before := state(a)
	done, err := recoverOn(a)
	if err != nil || len(done) != 1 || !strings.Contains(done[0].What, "when the host went down: forgotten") {
		t.Errorf("%v, %v", done, err)
	}
	sameAgain(t, a, before, "in the end")
}

// TestExistingBridge has a bridge with addresses, ports and settings of its own.
func TestExistingBridge(t *testing.T) {
	a, gw, _ := world(t)
	a.NetNS("c1")
	script(a, `
ip link add br0 type bridge mcast_snooping 0
echo 0 > /proc/sys/net/ipv6/conf/br0/accept_dad
ip addr add 10.7.0.1/24 dev br0; ip addr add fd07::1/64 dev br0 nodad; ip link set br0 mtu 1450 up
ip link add v0 type veth peer name eth0 netns c1; ip link set v0 master br0 up
ip -n c1 addr add 10.7.0.2/24 dev eth0; ip -n c1 addr add 192.0.2.50/24 dev eth0; ip -n c1 addr add fd07::2/64 dev eth0 nodad; ip -n c1 link set eth0 up
ip route add default via 192.0.2.254; ip route add 10.8.0.0/24 via 10.7.0.2; ip neigh add 10.7.0.3 lladdr 02:00:00:00:00:03 dev br0
sysctl -qw net.ipv4.conf.br0.rp_filter=0 net.ipv4.conf.eth0.rp_filter=1 net.ipv6.conf.eth0.accept_ra=2
until ip netns exec c1 lab-echo ping -timeout 200ms 10.7.0.1 && ip netns exec c1 lab-echo ping -timeout 200ms fd07::1; do :; done
ip neigh flush nud reachable; ip neigh flush nud stale`)
	before := state(a)
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br0", Timeout: DefaultTimeout}); err != nil {
		t.Fatal(err)
	}
	now := state(a)
	for _, want := range []string{"mtu 1500 qdisc noqueue mode", "10.7.0.1/24", "192.0.2.1/24", "10.8.0.0/24 via 10.7.0.2 dev br0",
		"/proc/sys/net/ipv4/conf/br0/rp_filter:1", "/proc/sys/net/ipv6/conf/br0/accept_ra:2", "10.7.0.3 dev br0"} {
		if !strings.Contains(now, want) {
			t.Errorf("no %q in\n%s", want, now)
		}
	}
	gw.Must("lab-echo", "ping", "192.0.2.50")
	a.Must("ip", "netns", "exec", "c1", "lab-echo", "ping", "10.7.0.1")
	a.Must("ip", "netns", "exec", "c1", "lab-echo", "ping", "fd07::1")
	a.Must("ip", "netns", "exec", "c1", "lab-echo", "ping", "192.0.2.254")
	if _, err := detachOn(t, a, Move{NIC: "eth0", Timeout: DefaultTimeout}); err != nil {
		t.Fatal(err)
	}
	sameAgain(t, a, before, "in the end")
	a.Must("ip", "netns", "exec", "c1", "lab-echo", "ping", "10.7.0.1") // which had another hardware address
	a.Must("ip", "netns", "exec", "c1", "lab-echo", "ping", "fd07::1")
}

func TestRefusals(t *testing.T) {
	a, _, _ := world(t)
	script(a, `
ip link add br0 type bridge; ip link add v0 type veth peer name v1; ip link add v2 type veth peer name v3
ip link set v0 master br0; ip link add link v2 name mv0 type macvlan; ip tuntap add tun0 mode tun
ip link add slv0 type veth peer name far0; ip link set slv0 group 24225`)
	before := state(a)
	for _, c := range []struct {
		nic, bridge string
		make        bool
		kind        model.Kind
		want        string
	}{
		{"lo", "br0", false, model.Invalid, "uplink lo: attach: is the loopback device"},
		{"no0", "br0", false, model.NotFound, "uplink no0: attach: no such device (it has to be in the host's own network namespace)"},
		{"br0", "br0", false, model.Invalid, "uplink br0: attach: is the bridge itself"},
		{"br0", "br1", true, model.Invalid, "uplink br0: attach: is a bridge"},
		{"v0", "br1", true, model.Conflict, "uplink v0: attach: is a port of br0 already"},
		{"v0", "br0", false, model.Conflict, "uplink v0: attach: is a port of br0 already"},
		{"v2", "br0", false, model.InUse, "uplink v2: attach: device mv0 is on it, and takes what comes in before a bridge could"},
		{"tun0", "br0", false, model.Unsupported, "uplink tun0: attach: is no Ethernet device, and cannot be a port of a bridge"},
		{"slv0", "br0", false, model.Invalid, "uplink slv0: attach: is a device that Sealane made"},
		{"eth0", "v1", true, model.Conflict, "uplink eth0: attach: v1: exists and is a veth, not a bridge"},
		{"eth0", "lo", true, model.Conflict, "uplink eth0: attach: lo: exists and is the loopback device, not a bridge"},
		{"eth0", "br7", false, model.NotFound, "uplink eth0: attach: bridge br7 does not exist"},
	} {
		_, err := attachOn(t, a, Move{NIC: c.nic, Bridge: c.bridge, Make: c.make})
		if err == nil || err.Error() != c.want || kindOf(err) != c.kind {
			t.Errorf("%s %s: %v (%s), want %s (%s)", c.nic, c.bridge, err, kindOf(err), c.want, c.kind)
		}
	}
	if _, err := detachOn(t, a, Move{NIC: "eth0"}); err == nil || err.Error() != "uplink eth0: detach: is attached to no bridge" {
		t.Errorf("error is %v", err)
	}
	unlock, err := on(a, dir.lock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attachOn(t, a, Move{NIC: "eth0", Bridge: "br0"}); err == nil || err.Error() != "uplink eth0: attach: another attach or detach is under way" {
		t.Errorf("error is %v", err)
	}
	unlock()
	sameAgain(t, a, before, "in the end")
	if left := a.Must("ls", string(dir)); left != "lock\n" {
		t.Errorf("left: %s", left)
	}
}

func TestWireless(t *testing.T) {
	sys := t.TempDir()
	for _, d := range []string{"wlan0/phy80211", "old0/wireless", "eth0/queues"} {
		if err := os.MkdirAll(sys+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for dev, want := range map[string]bool{"wlan0": true, "old0": true, "eth0": false, "none": false} {
		if got := wireless(sys, dev); got != want {
			t.Errorf("%s: %v", dev, got)
		}
	}
}

func TestSolicitation(t *testing.T) {
	mac := []byte{2, 0, 0, 0, 0, 1}
	got := fmt.Sprintf("%x", solicitation(mac, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::12:3456")))
	want := "3333ff123456" + "020000000001" + "86dd" + "6000000000203aff" + "20010db8000000000000000000000001" + "ff0200000000000000000001ff123456" +
		"8700" + "b35a" + "00000000" + "20010db8000000000000000000123456" + "0101020000000001"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzItems has the readers of what a record holds meet anything.
func FuzzItems(f *testing.F) {
	f.Add([]byte{2, 24, 0x80, 0, 2, 0, 0, 0, 8, 0, 2, 0, 192, 0, 2, 1, 9, 0, 3, 0, 'e', 't', 'h', '0', 0, 0, 0, 0}, 2, 3)
	f.Add([]byte{10, 0, 0, 0, 254, 9, 0, 1, 0, 0, 0, 0, 8, 0, 4, 0, 2, 0, 0, 0, 12, 0, 9, 0, 8, 0, 0, 0, 2, 0, 0, 0}, 2, 3)
	f.Fuzz(func(t *testing.T, b []byte, from, to int) {
		if len(b) < sizeofNdMsg {
			return
		}
		x := item(b)
		d := device{index: to, name: "br1"}
		x.on(d, true).prefix()
		x.removal(d)
		for _, r := range x.forms(from) {
			r.moved(from, to, true).via(to)
			r.replaced(from, to).by(to)
		}
		if n, ok := neighbour(b, from, 0); ok {
			n.neighbourOn(d).neighbourAddr()
		}
		x.nextHopBy(to)
		parseDevice(b)
		answer(b)
		names(b, "eth0")
	})
}

func kindOf(err error) model.Kind { return model.KindOf(err) }
