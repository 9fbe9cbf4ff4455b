package pathmtu

import (
	"log/slog"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// The tests are on a host of their own, with one router to another:
//
//	here ── 192.0.2.0/24, 2001:db8:1::/64, 1500 ── router ── 198.51.100.0/24, 2001:db8:2::/64, 1400 ── there
func TestMain(m *testing.M) { netspace.Main(m) }

func routed(t *testing.T) (router, there netspace.Space) {
	t.Helper()
	router, there = netspace.New(t), netspace.New(t)
	netspace.Here(t, "ip link add near type veth peer name near netns %s", router.Path())
	t.Cleanup(func() { exec.Command("ip", "link", "del", "near").Run() })
	router.Run(t, "ip link add far type veth peer name far netns %s", there.Path())
	for _, cmd := range []string{"ip link set lo up", "ip addr add 192.0.2.1/24 dev near", "ip -6 addr add 2001:db8:1::1/64 dev near nodad", "ip link set near up",
		"ip route add default via 192.0.2.254", "ip -6 route add default via 2001:db8:1::ff"} {
		netspace.Here(t, "%s", cmd)
	}
	for _, cmd := range []string{"ip addr add 192.0.2.254/24 dev near", "ip -6 addr add 2001:db8:1::ff/64 dev near nodad", "ip link set near up",
		"ip addr add 198.51.100.254/24 dev far", "ip -6 addr add 2001:db8:2::ff/64 dev far nodad", "ip link set far mtu 1400 up",
		"sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv6.conf.all.forwarding=1"} {
		router.Run(t, "%s", cmd)
	}
	for _, cmd := range []string{"ip addr add 198.51.100.1/24 dev far", "ip -6 addr add 2001:db8:2::1/64 dev far nodad", "ip link set far mtu 1400 up",
		"ip route add default via 198.51.100.254", "ip -6 route add default via 2001:db8:2::ff"} {
		there.Run(t, "%s", cmd)
	}
	return router, there
}

func TestKernel(t *testing.T) {
	router, there := routed(t)
	four := Path{Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("198.51.100.1"), Size: 1500}
	six := Path{Local: netip.MustParseAddr("2001:db8:1::1"), Remote: netip.MustParseAddr("2001:db8:2::1"), Size: 1500}
	foreign := four
	foreign.Local = netip.MustParseAddr("203.0.113.1") // as the others find this host, behind a NAT
	near := Path{Local: four.Local, Remote: netip.MustParseAddr("192.0.2.254"), Size: 1500, Near: true}
	silent := four
	silent.Remote = netip.MustParseAddr("198.51.100.77")

	measure := func(paths map[Path]int, within time.Duration) {
		t.Helper()
		p := New(slog.New(slog.DiscardHandler))
		p.Start(func() {})
		defer p.Close()
		var list []Path
		for path := range paths {
			list = append(list, path)
		}
		p.Want(list)
		began := time.Now()
		for path, want := range paths {
			for {
				got, known := p.MTU(path)
				if got == want && known == (want != 0) {
					break
				}
				if time.Since(began) > within {
					t.Errorf("%v: %d, %v; want %d", path, got, known, want)
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
		t.Logf("%d paths in %v", len(paths), time.Since(began))
	}
	measure(map[Path]int{four: 1400, six: 1400, foreign: 1400, near: 1500, silent: 0}, 30*time.Second)

	// A router that says nothing, and another width.
	router.Run(t, "ip link set far mtu 1337")
	there.Run(t, "ip link set far mtu 1337")
	router.Run(t, "nft add table inet mute")
	router.Run(t, "nft add chain inet mute out {type filter hook output priority 0;}")
	router.Run(t, "nft add rule inet mute out icmp type destination-unreachable drop")
	router.Run(t, "nft add rule inet mute out icmpv6 type packet-too-big drop")
	measure(map[Path]int{four: 1337, six: 1337, near: 1500}, 60*time.Second)
}
