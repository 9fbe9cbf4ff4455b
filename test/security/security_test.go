// Package security holds the security matrix: who can reach what in each
// gateway mode, and what containers may put on the wire. docs/security.md is
// its prose, and its first table says the same as the matrix.
//
//	remote    192.0.2.2 (no routes) ──┐                        ┌── attacker 192.0.2.3 (routes to all
//	                                  ├──────── lan ───────────┤             containers and 127.0.0.1)
//	                                  │ eth0 192.0.2.1         │
//	                              ┌───┴──────────────────┐
//	                              │ h      sealaned      │
//	                              └─┬─┬─┬─┬─┬─┬─┬──────┬─┘
//	                                │ │ │ …            │ eth1 198.51.100.1
//	  networks 10.N.0.0/24, fdN::/64,                  └── side ── neighbour 198.51.100.2
//	  each with web .2 and peer .3
//
// web serves 80 (published), 81 (not published) and 83 (published on loopback).
package security

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "sealane", "sealane-cni", "sealaned") }

// network is one of the host's: 10.N.0.0/24 and fdN::/64, its bridge and its
// sandboxes are called after it.
type network struct {
	name  string
	n     int
	flags []string
}

func (n network) bridge() string { return "br-" + n.name }
func (n network) web() string    { return "web-" + n.name }
func (n network) peer() string   { return "peer-" + n.name }

// addr is the address of a host of the network.
func (n network) addr(host int, is6 bool) string {
	if is6 {
		return fmt.Sprintf("fd%02d::%d", n.n, host)
	}
	return fmt.Sprintf("10.%d.0.%d", n.n, host)
}

// The hosts of a network.
const (
	gateway, web, peer = 1, 2, 3
	nobody             = 254 // where hand-made routes lead
)

// modes are the columns of the matrix.
var modes = []network{
	{"nat", 1, nil},
	{"routed", 2, []string{"-o", "gateway-mode=routed"}},
	{"open", 3, []string{"-o", "gateway-mode=nat-unprotected"}},
	{"internal", 4, []string{"--internal"}},
	{"isolated", 5, []string{"--internal", "-o", "gateway-mode=isolated"}},
}

// others are networks beside them.
var (
	other     = network{"other", 6, nil}
	trusted   = network{"trusted", 7, []string{"-o", "trusted-interfaces=eth1"}}
	apart     = network{"apart", 8, []string{"-o", "icc=false"}}
	apartOpen = network{"apart-open", 9, []string{"-o", "icc=false", "-o", "gateway-mode=nat-unprotected"}}
	apartWay  = network{"apart-way", 10, []string{"-o", "icc=false", "-o", "gateway-mode=routed"}}
	shut      = network{"shut", 11, []string{"-o", "host-access=off"}}
	shutIn    = network{"shut-in", 12, []string{"-o", "host-access=off", "--internal"}}
	loose     = network{"loose", 13, []string{"-o", "antispoof=off"}}
	others    = []network{other, trusted, apart, apartOpen, apartWay, shut, shutIn, loose}
)

// world is the lab with everything in it.
type world struct {
	*testing.T
	lab                            *lab.Lab
	h, remote, attacker, neighbour *lab.Host
}

// newWorld makes the hosts, the networks and the sandboxes.
func newWorld(t *testing.T) *world {
	l := lab.New(t)
	w := &world{t, l, l.Host("h"), l.Host("remote"), l.Host("attacker"), l.Host("neighbour")}
	lan, side := l.Switch("lan"), l.Switch("side")
	w.h.Plug(lan, "eth0", "192.0.2.1/24", "2001:db8::1/64", "fe80::1/64")
	w.h.Plug(side, "eth1", "198.51.100.1/24", "2001:db8:1::1/64")
	w.remote.Plug(lan, "eth0", "192.0.2.2/24", "2001:db8::2/64", "fe80::2/64")
	w.attacker.Plug(lan, "eth0", "192.0.2.3/24", "2001:db8::3/64")
	w.neighbour.Plug(side, "eth0", "198.51.100.2/24", "2001:db8:1::2/64")
	for _, r := range []struct {
		host         *lab.Host
		gate4, gate6 string
	}{{w.attacker, "192.0.2.1", "2001:db8::1"}, {w.neighbour, "198.51.100.1", "2001:db8:1::1"}} {
		r.host.Route("10.0.0.0/8", r.gate4)
		r.host.Route("fd00::/8", r.gate6)
	}
	w.serve(w.attacker, "", "attacker", "-tcp", "80")
	w.attacker.Must("sh", "-c", `ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 192.0.2.1 dev eth0 src 192.0.2.3
		echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet`)
	w.serve(w.h, "", "host", "-tcp", "7000")
	w.h.Daemon()
	for _, n := range append(append([]network{}, modes...), others...) {
		w.populate(n)
	}
	return w
}

// populate makes a network with web and peer.
func (w *world) populate(n network) {
	w.h.Must("sealane", append([]string{"network", "create", "-o", "name=" + n.bridge(),
		"--subnet", n.addr(0, false) + "/24", "--subnet", strings.TrimSuffix(n.addr(0, true), "0") + "/64", n.name}, n.flags...)...)
	run := func(name string, host int, more ...string) {
		w.h.Must("sealane", append([]string{"run", "--name", name,
			"--network", fmt.Sprintf("name=%s,ip=%s,ip6=%s", n.name, n.addr(host, false), n.addr(host, true))}, more...)...)
	}
	publish := []string{"-p", n.port(8000) + ":80", "-p", n.port(8000) + ":80/udp", "-p", "127.0.0.1:" + n.port(9000) + ":83", "-p", "[::1]:" + n.port(9000) + ":83",
		"-p", "published=" + n.port(8500) + ",target=84,from=192.0.2.2/32;2001:db8::2/128"}
	if slices.Contains(n.flags, "--internal") { // where that is an error
		publish = nil
	}
	run(n.web(), web, publish...)
	run(n.peer(), peer)
	w.serve(w.h, n.web(), n.web(), "-tcp", "80,81,83,84", "-udp", "80,81")
}

// port is the network's among host ports.
func (n network) port(base int) string { return fmt.Sprint(base + n.n) }

// in returns a command that runs in a sandbox, or on the host itself for "".
func in(sandbox string, args ...string) []string {
	if sandbox == "" {
		return args
	}
	return append([]string{"sealane", "exec", sandbox, "--"}, args...)
}

func (w *world) must(sandbox string, args ...string) string {
	w.Helper()
	c := in(sandbox, args...)
	return w.h.Must(c[0], c[1:]...)
}

// serve starts a server and waits until it listens.
func (w *world) serve(h *lab.Host, sandbox, name string, flags ...string) {
	w.Helper()
	w.start(h, in(sandbox, append([]string{"lab-echo", "serve", "-name", name}, flags...)...))
}

// start starts what says that it is ready.
func (w *world) start(h *lab.Host, args []string) *lab.Process {
	w.Helper()
	p := h.Start(args[0], args[1:]...)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.Await(ctx, func(line string) bool { return line == "ready" }); err != nil {
		w.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, p.Output())
	}
	return p
}

// mac returns the hardware address of an interface of a sandbox or the host.
func (w *world) mac(sandbox, ifname string) net.HardwareAddr {
	w.Helper()
	a, err := net.ParseMAC(strings.TrimSpace(w.must(sandbox, "cat", "/sys/class/net/"+ifname+"/address")))
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// escape gives a sandbox routes past what it was given: to everywhere, by the
// hardware address of its network's bridge.
func (w *world) escape(n network, sandbox string) {
	mac := w.mac("", n.bridge()).String()
	for _, is6 := range []bool{false, true} {
		w.must(sandbox, "ip", "neigh", "replace", n.addr(nobody, is6), "lladdr", mac, "nud", "permanent", "dev", "eth0")
		w.must(sandbox, "ip", "route", "replace", "default", "via", n.addr(nobody, is6), "dev", "eth0")
	}
}

// bridgeNetfilter turns the IP firewall's view of bridged packets on or off, and
// waits until the daemon has noticed.
func (w *world) bridgeNetfilter(on string) {
	w.h.Must("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do echo "+on+" > $f || exit 1; done")
	w.h.Must("sealane", "network", "create", "--subnet", "10.99.0.0/24", "wake")
	w.h.Must("sealane", "network", "rm", "wake")
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r := w.h.Run("sealane", "diff"); r.Code == 0 && r.Stdout == "" {
			return
		} else if time.Now().After(end) {
			w.Fatalf("not as intended: %s%s", r.Stdout, r.Stderr)
		}
	}
}

// TestSecurity is one world, looked at with and without bridged packets in the
// IP firewall.
func TestSecurity(t *testing.T) {
	w := newWorld(t)
	for _, n := range modes[3:] {
		w.escape(n, n.web())
		w.escape(n, n.peer())
	}
	w.escape(shutIn, shutIn.web())
	for _, calls := range []string{"0", "1"} {
		t.Run("br_netfilter="+calls, func(t *testing.T) {
			w := *w
			w.T = t
			w.bridgeNetfilter(calls)
			w.matrix()
			t.Run("frames", func(t *testing.T) { w.T = t; w.frames(calls == "0") })
			t.Run("strays", func(t *testing.T) { w.T = t; w.astray() })
		})
	}
	t.Run("S18", func(t *testing.T) { w.T = t; w.windows() })
}
