package trail

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/netspace"
)

func TestMain(m *testing.M) { netspace.Main(m, stand) }

// stand makes a host with two others behind it, a and b, each by a device of its own:
//
//	a 10.1.0.2 ── va ┐
//	                 host
//	b 10.2.0.2 ── vb ┘
func stand() {
	for _, line := range strings.Split(strings.TrimSpace(`
mount -t tmpfs run /run
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
ip netns add a
ip netns add b
ip link add va type veth peer name eth0 netns a
ip link add vb type veth peer name eth0 netns b
ip address add 10.1.0.1/24 dev va
ip address add 10.2.0.1/24 dev vb
ip link set va up
ip link set vb up
ip -n a address add 10.1.0.2/24 dev eth0
ip -n b address add 10.2.0.2/24 dev eth0
ip -n a link set eth0 up
ip -n b link set eth0 up
ip -n a route add default via 10.1.0.1
ip -n b route add default via 10.2.0.1
sysctl -qw net.ipv6.conf.all.forwarding=1
ip address add fd01::1/64 dev va nodad
ip address add fd02::1/64 dev vb nodad
ip -n a address add fd01::2/64 dev eth0 nodad
ip -n b address add fd02::2/64 dev eth0 nodad
ip -n a route add default via fd01::1
ip -n b route add default via fd02::1
ip -n b link set lo up`), "\n") {
		f := strings.Fields(line)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", line, err, out)
			os.Exit(1)
		}
	}
}

var a, b = kstate.NS{Path: "/run/netns/a"}, kstate.NS{Path: "/run/netns/b"}

// rules gives the host a table, and takes it away at the end.
func rules(t *testing.T, script string) {
	t.Helper()
	ruleset(t, script)
	t.Cleanup(func() { ruleset(t, "flush ruleset") })
}

func ruleset(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("nft", "-a", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	return string(out)
}

func follow(t *testing.T, wait time.Duration, p kernel.Probe) kernel.Trail {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	got, err := Follow(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if left := ruleset(t, "list tables"); strings.Contains(left, "sealane") {
		t.Errorf("left: %s", left)
	}
	return got
}

// told is what others' chains said, a line each.
func told(got kernel.Trail) string {
	var out strings.Builder
	for _, s := range got.Seen {
		if s.Own {
			continue
		}
		fmt.Fprintf(&out, "%v %s %s %s %s %d %q %s in=%s out=%s %s>%s\n", s.Back, s.NS.Path, s.Table.Name, s.Chain, s.Hook, s.Number, s.Rule, s.Verdict, s.In, s.Out, s.Src, s.Dst)
	}
	return out.String()
}

const long = time.Minute // for what is to be answered

func TestEcho(t *testing.T) {
	rules(t, `table inet x { chain f { type filter hook forward priority 0; icmp type echo-request counter accept comment "ping"; }; }`)
	got := follow(t, long, kernel.Probe{From: a, Near: b, Proto: "icmp", To: netip.MustParseAddrPort("10.2.0.2:0")})
	if !got.Answered || got.Src.Addr().String() != "10.1.0.2" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{`false  x f forward 1 "ping" accept in=va out=vb 10.1.0.2:0>10.2.0.2:0`, `true  x f forward 0 "" continue in=vb out=va 10.2.0.2:0>10.1.0.2:0`} {
		if !strings.Contains(told(got), want) {
			t.Errorf("%s is not said:\n%s", want, told(got))
		}
	}
}

func TestDrop(t *testing.T) {
	rules(t, `table inet x { chain f { type filter hook forward priority 0; jump deep; }; chain deep { udp dport 9 drop comment "no"; }; }`)
	got := follow(t, time.Second, kernel.Probe{From: a, Near: b, Proto: "udp", To: netip.MustParseAddrPort("10.2.0.2:9")})
	if got.Answered || got.Refused || !strings.HasSuffix(told(got), "x deep  1 \"no\" drop in= out= invalid AddrPort>invalid AddrPort\n") {
		t.Errorf("%+v\n%s", got, told(got))
	}
}

func TestRefused(t *testing.T) {
	rules(t, `table ip n { chain p { type nat hook prerouting priority -100; ip daddr 10.1.0.1 tcp dport 80 dnat to 10.2.0.2:8080; }; chain o { type nat hook postrouting priority 100; oifname "vb" masquerade; }; }`)
	got := follow(t, long, kernel.Probe{From: a, Proto: "tcp", To: netip.MustParseAddrPort("10.1.0.1:80")})
	if !got.Refused || got.Why != "connection refused" || !strings.Contains(told(got), "dnat") && !strings.Contains(told(got), "n p prerouting 1") {
		t.Errorf("%+v\n%s", got, told(got))
	}
}

// IPv6 is followed as well, and what refuses it by ICMP is heard at once.
func TestIPv6(t *testing.T) {
	rules(t, `table inet x { chain f { type filter hook forward priority 0; udp dport 9 reject with icmpx type admin-prohibited comment "no"; }; }`)
	got := follow(t, long, kernel.Probe{From: a, Near: b, Proto: "icmp", To: netip.MustParseAddrPort("[fd02::2]:0")})
	if !got.Answered || !strings.Contains(told(got), "true  x f forward 0 \"\" continue in=vb out=va [fd02::2]:0>[fd01::2]:0") {
		t.Errorf("%+v\n%s", got, told(got))
	}
	got = follow(t, long, kernel.Probe{From: a, Near: b, Proto: "udp", To: netip.MustParseAddrPort("[fd02::2]:9")})
	if got.Answered || got.Why != "permission denied" || !strings.Contains(told(got), `1 "no" drop in=va out=vb`) {
		t.Errorf("%+v\n%s", got, told(got))
	}
	got = follow(t, long, kernel.Probe{From: a, Near: b, Proto: "udp", To: netip.MustParseAddrPort("[fd02::2]:10")})
	if !got.Refused {
		t.Errorf("%+v\n%s", got, told(got))
	}
	got = follow(t, long, kernel.Probe{From: a, Proto: "tcp", To: netip.MustParseAddrPort("[fd09::1]:9")})
	if got.Why != "network is unreachable" {
		t.Errorf("%+v", got)
	}
}

// Nobody waits for who has gone.
func TestGone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	got, err := Follow(ctx, kernel.Probe{From: a, Proto: "udp", To: netip.MustParseAddrPort("10.2.0.9:9")})
	if err != nil || got.Answered {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := Follow(ctx, kernel.Probe{From: kstate.NS{Path: "/run/netns/nobody"}, Proto: "udp", To: netip.MustParseAddrPort("10.2.0.9:9")}); !errors.Is(err, kernel.ErrNoNamespace) {
		t.Error(err)
	}
}
