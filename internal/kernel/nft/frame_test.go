package nft

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
	"golang.org/x/sys/unix"
)

// Frames as they come from a container. Checksums are left out: nobody looks
// at them on the way.
const (
	mac1, mac2 = "\x02\x42\x0a\x00\x00\x02", "\x02\x42\x0a\x00\x00\x03"
	everyone   = "\xff\xff\xff\xff\xff\xff"
)

func ether(src, typ, payload string) string { return everyone + src + typ + payload }

func octets(addr string) string { return string(netip.MustParseAddr(addr).AsSlice()) }

// arp is a request of RFC 826.
func arp(src, sender, addr string) string {
	return ether(src, "\x08\x06", "\x00\x01\x08\x00\x06\x04\x00\x01"+sender+octets(addr)+"\x00\x00\x00\x00\x00\x00"+octets("192.0.2.1"))
}

// udp is a datagram of RFC 768 in IPv4 or IPv6.
func udp(src, from string, sport, dport byte) string {
	data := string([]byte{0, sport, 0, dport, 0, 8, 0, 0})
	if strings.Contains(from, ":") {
		return ipv6(src, from, 17, data)
	}
	return ether(src, "\x08\x00", "\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00"+octets(from)+octets("192.0.2.1")+data)
}

func ipv6(src, from string, next byte, data string) string {
	return ether(src, "\x86\xdd", string([]byte{0x60, 0, 0, 0, 0, byte(len(data)), next, 255})+octets(from)+octets("ff02::1")+data)
}

// advert is a neighbour advertisement of RFC 4861.
func advert(src, from, target string) string {
	return ipv6(src, from, 58, "\x88\x00\x00\x00\x20\x00\x00\x00"+octets(target))
}

func icmpv6(from string, typ byte) string {
	return ipv6(mac1, from, 58, string([]byte{typ, 0, 0, 0, 0, 0, 0, 0})+octets("::"))
}

// TestFrames: the rules of a bridge's guard match the frames they are meant for.
func TestFrames(t *testing.T) {
	c := open(t)
	shell(t, `ip link add br0 type bridge && ip link set br0 up && ip link add va type veth peer name vb &&
		ip link set vb master br0 && ip link set va addrgenmode none up && ip link set vb addrgenmode none up && ip link set br0 addrgenmode none`)
	b := kstate.Table{Family: "bridge", Name: "sealane"}
	guarded := &kstate.NftSet{Table: b, Name: "guarded", Type: "ifname"}
	macs := &kstate.NftSet{Table: b, Name: "macs", Type: "ifname . ether_addr"}
	own4 := &kstate.NftSet{Table: b, Name: "own4", Type: "ifname . ether_addr . ipv4_addr"}
	own6 := &kstate.NftSet{Table: b, Name: "own6", Type: "ifname . ether_addr . ipv6_addr"}
	rules := []string{
		"iifname != @guarded counter accept",
		"iifname . ether saddr != @macs counter drop",
		"ip saddr 0.0.0.0 udp dport 67 counter accept",
		"udp sport 67 counter drop",
		"udp sport 547 counter drop",
		"iifname . ether saddr . ip saddr @own4 counter accept",
		"arp saddr ip 0.0.0.0 counter accept",
		"iifname . arp saddr ether . arp saddr ip @own4 counter accept",
		"ether type arp counter drop",
		"icmpv6 type nd-router-advert counter drop",
		"icmpv6 type nd-neighbor-advert iifname . ether saddr . icmpv6 taddr @own6 counter accept",
		"icmpv6 type nd-neighbor-advert counter drop",
		"ip6 saddr :: icmpv6 type nd-neighbor-solicit counter accept",
		"iifname . ether saddr . ip6 saddr @own6 counter accept",
		"ether type ip6 counter drop",
		"meta protocol ip counter drop",
		"counter drop",
	}
	const mac = "02:42:0a:00:00:02"
	apply(t, c, kerneltest.Adds(b, *guarded, *macs, *own4, *own6,
		kstate.Chain{Table: b, Name: "guard", Type: "filter", Hook: "prerouting", Priority: -300, Rules: rules},
		elem(guarded, "vb", ""), elem(macs, "vb . "+mac, ""), elem(own4, "vb . "+mac+" . 192.0.2.2", ""),
		elem(own6, "vb . "+mac+" . 2001:db8::2", ""), elem(own6, "vb . "+mac+" . fe80::2", ""))...)
	send := wire(t, "va")
	counts := counters(t, len(rules), "bridge", "guard")
	for _, f := range []struct{ name, frame, rule string }{
		{"another's hardware address", udp(mac2, "192.0.2.2", 9, 53), rules[1]},
		{"DHCP request", udp(mac1, "0.0.0.0", 68, 67), rules[2]},
		{"DHCP offer", udp(mac1, "192.0.2.2", 67, 68), rules[3]},
		{"own address", udp(mac1, "192.0.2.2", 9, 53), rules[5]},
		{"another's address", udp(mac1, "192.0.2.3", 9, 53), rules[15]},
		{"ARP probe", arp(mac1, mac1, "0.0.0.0"), rules[6]},
		{"ARP", arp(mac1, mac1, "192.0.2.2"), rules[7]},
		{"ARP for another's address", arp(mac1, mac1, "192.0.2.3"), rules[8]},
		{"ARP for another's hardware address", arp(mac1, mac2, "192.0.2.2"), rules[8]},
		{"router advertisement", icmpv6("fe80::2", 134), rules[9]},
		{"advertisement", advert(mac1, "fe80::2", "2001:db8::2"), rules[10]},
		{"advertisement of another's address", advert(mac1, "2001:db8::2", "2001:db8::3"), rules[11]},
		{"address detection", icmpv6("::", 135), rules[12]},
		{"solicitation", icmpv6("fe80::2", 135), rules[13]},
		{"own IPv6 address", udp(mac1, "2001:db8::2", 9, 53), rules[13]},
		{"another's IPv6 address", udp(mac1, "2001:db8::3", 9, 53), rules[14]},
		{"no IP", ether(mac1, "\x88\xcc", strings.Repeat("x", 46)), rules[16]},
		{"ARP with a tag of VLAN 5", ether(mac1, "\x81\x00", "\x00\x05\x08\x06"+arp(mac1, mac1, "192.0.2.2")[14:]), rules[16]},
	} {
		send(f.frame)
		after := counters(t, len(rules), "bridge", "guard")
		for i, r := range rules {
			if got, want := after[i]-counts[i], map[bool]int{r == f.rule: 1}[true]; got != want {
				t.Errorf("%s: %q counted %d, want %d", f.name, r, got, want)
			}
		}
		counts = after
	}
}

// wire returns what sends frames out of a device.
func wire(t *testing.T, dev string) func(string) {
	t.Helper()
	i, err := net.InterfaceByName(dev)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(frame string) {
		t.Helper()
		if err := unix.Sendto(fd, []byte(frame), 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
			t.Fatal(err)
		}
	}
}

// counters reads how many packets each rule of a chain has counted.
func counters(t *testing.T, n int, family, chain string) []int {
	t.Helper()
	out, err := exec.Command("nft", "list", "chain", family, "sealane", chain).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, m := range regexp.MustCompile(`counter packets (\d+)`).FindAllStringSubmatch(string(out), -1) {
		count := 0
		if _, err := fmt.Sscan(m[1], &count); err != nil {
			t.Fatal(err)
		}
		all = append(all, count)
	}
	if len(all) != n {
		t.Fatalf("%d counters, want %d:\n%s", len(all), n, out)
	}
	return all
}
