package linux

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/feature/featuretest"
	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// node is one of two hosts of a link of Ethernet: 198.51.100.1 and 198.51.100.2.
type node struct {
	*Linux
	dir  string
	ns   kstate.NS
	want kstate.Set
}

// nodes are two hosts on one wire. What one sends the other is counted.
func nodes(t *testing.T) (near, far *node) {
	featuretest.Require(t, feature.VXLAN)
	var out []*node
	for range 2 {
		k, dir := start(t)
		out = append(out, &node{k, dir, kstate.NS{Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), k.host.FD())}, kstate.Set{}})
	}
	near, far = out[0], out[1]
	run(t, "ip link add wire address 02:00:00:00:00:02 type veth peer name wire address 02:00:00:00:00:01 netns %s", near.ns.Path)
	for i, h := range out {
		run(t, "%sip address add 198.51.100.%d/24 dev wire", inNS(h.ns), i+1)
		run(t, "%sip link set wire up", inNS(h.ns))
	}
	run(t, "%sip neighbour add 198.51.100.3 lladdr 02:00:00:00:00:02 dev wire", inNS(near.ns)) // who is not there
	for _, h := range out {
		ready(t, h.ns, "wire")
	}
	near.wants(t, trunk(1)...)
	far.wants(t, trunk(2)...)
	return near, far
}

// trunk is what host i has of the link without any endpoint: a bridge with the gateway's
// addresses, and a port that leads to two others.
func trunk(i int) []kstate.Object {
	objs := []kstate.Object{
		kstate.Link{Name: "slb1", Type: kstate.TypeBridge, MTU: 1450, MAC: mac(0, 1), Up: true},
		kstate.Link{Name: "slx1", Type: kstate.TypeVXLAN, MTU: 1450, MAC: mac(3, i), Up: true, Master: "slb1", Known: true, VXLAN: kstate.VXLAN{
			VNI: 5, Port: 8472, Local: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), NoLearning: true, Proxy: true,
		}},
		kstate.Addr{Dev: "slb1", Prefix: netip.MustParsePrefix("10.0.255.1/16")},
		kstate.Addr{Dev: "slb1", Prefix: netip.MustParsePrefix("2001:db8:5::1/64")},
	}
	for other := range 3 {
		if other+1 != i {
			objs = append(objs, kstate.FDB{Dev: "slx1", MAC: kstate.Everyone, Dst: netip.AddrFrom4([4]byte{198, 51, 100, byte(other + 1)})})
		}
	}
	return objs
}

// addrs are those of endpoint i.
func addrs(i int) [2]netip.Addr {
	return [2]netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:5::%x", i))}
}

// elsewhere is what a host has of endpoint i of another one.
func elsewhere(i int, at string) []kstate.Object {
	a := addrs(i)
	return []kstate.Object{
		kstate.FDB{Dev: "slx1", MAC: mac(2, i), Dst: netip.MustParseAddr(at), Bridged: true},
		kstate.Neigh{Dev: "slx1", Addr: a[0], MAC: mac(2, i)}, kstate.Neigh{Dev: "slx1", Addr: a[1], MAC: mac(2, i)},
	}
}

// wants has a host get more, and checks that it is there.
func (h *node) wants(t *testing.T, objs ...kstate.Object) {
	t.Helper()
	for _, o := range objs {
		h.want[o.Key()] = o
	}
	h.reach(t)
}

// drops has a host get rid of some.
func (h *node) drops(t *testing.T, objs ...kstate.Object) {
	t.Helper()
	for _, o := range objs {
		delete(h.want, o.Key())
	}
	h.reach(t)
}

func (h *node) reach(t *testing.T) {
	t.Helper()
	apply(t, h, h.todo(t)...)
	if left := h.todo(t); len(left) > 0 {
		t.Fatalf("still to do: %s", left)
	}
}

// todo is what is to be done on a host.
func (h *node) todo(t *testing.T) []kstate.Op {
	t.Helper()
	var in []kstate.NS
	for _, o := range h.want {
		if ns, ok := o.(kstate.NetNS); ok {
			in = append(in, ns.NS)
		}
	}
	return kstate.Diff(observe(t, h, in...), h.want)
}

// box makes endpoint i on a host, with a namespace of that name.
func (h *node) box(t *testing.T, name string, i int) kstate.NS {
	t.Helper()
	ns, a := kstate.NS{Path: filepath.Join(h.dir, "netns", name)}, addrs(i)
	h.wants(t, kstate.NetNS{NS: ns}, kstate.Link{
		Name: "slv" + name, Type: kstate.TypeVeth, MTU: 1450, MAC: mac(1, i), Up: true, Master: "slb1",
		Peer: kstate.Peer{NS: ns, Name: "eth0", MAC: mac(2, i)},
	}, kstate.Addr{NS: ns, Dev: "eth0", Prefix: netip.PrefixFrom(a[0], 16)}, kstate.Addr{NS: ns, Dev: "eth0", Prefix: netip.PrefixFrom(a[1], 64)})
	ready(t, ns, "eth0")
	ready(t, h.ns, "slv"+name)
	return ns
}

// ready waits until a device carries frames, of which the kernel takes notice up to a
// second late.
func ready(t *testing.T, ns kstate.NS, dev string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(run(t, "%sip link show %s", inNS(ns), dev), "state UP"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s carries no frames", dev)
		}
	}
}

// counts has a host count what it sends others by the tunnel: match is of the packet
// there, whose inner frame begins at bit 128 of the transport header.
func (h *node) counts(t *testing.T, name, match string) {
	t.Helper()
	for _, line := range []string{
		"add table ip overlay", "add chain ip overlay out { type filter hook output priority 0 ; }",
		"add counter ip overlay " + name, "add rule ip overlay out udp dport 8472 " + match + " counter name " + name,
	} {
		run(t, "%snft %s", inNS(h.ns), line)
	}
}

// crossed is what was counted.
func (h *node) crossed(t *testing.T, name string) (n int) {
	t.Helper()
	_, rest, _ := strings.Cut(run(t, "%snft list counter ip overlay %s", inNS(h.ns), name), "packets ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// inside calls f in a namespace.
func inside(t *testing.T, ns kstate.NS, f func() error) {
	t.Helper()
	h, err := netns.Open(ns)
	if err == nil {
		defer h.Close()
		err = h.Do(f)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// talks waits until a datagram got from one namespace to an address in another and
// back.
func talks(t *testing.T, from, to kstate.NS, at netip.Addr) {
	t.Helper()
	var in net.PacketConn
	var out net.Conn
	inside(t, to, func() (err error) { in, err = net.ListenPacket("udp", netip.AddrPortFrom(at, 7).String()); return err })
	defer in.Close()
	go func() {
		b := make([]byte, 9)
		for {
			n, from, err := in.ReadFrom(b)
			if err != nil {
				return
			}
			in.WriteTo(b[:n], from)
		}
	}()
	inside(t, from, func() (err error) { out, err = net.Dial("udp", in.LocalAddr().String()); return err })
	defer out.Close()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		out.Write([]byte("x")) // refused while nobody answers ARP
		out.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := out.Read(make([]byte, 9)); err == nil && n == 1 {
			return
		}
	}
	t.Fatalf("no answer from %s", at)
}

// protoTest is an EtherType for experiments (IEEE 802, ETH_P_802_EX1).
const protoTest = 0x88b5

// raw is a packet socket on a namespace's eth0 that frames of protoTest come to.
type raw struct{ fd, index int }

func listen(t *testing.T, ns kstate.NS) raw {
	t.Helper()
	var s raw
	proto := binary.NativeEndian.Uint16([]byte{protoTest >> 8, protoTest & 0xff})
	inside(t, ns, func() error {
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		s.index = dev.Index
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: s.index})
	})
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// send sends a frame with a word in it.
func (s raw) send(t *testing.T, from, to, word string) {
	t.Helper()
	frame := make([]byte, 0, 60)
	for _, hw := range []string{to, from} {
		b, err := net.ParseMAC(hw)
		if err != nil {
			t.Fatal(err)
		}
		frame = append(frame, b...)
	}
	frame = append(append(frame, protoTest>>8, protoTest&0xff), word...)
	if err := unix.Sendto(s.fd, frame[:60], 0, &unix.SockaddrLinklayer{Ifindex: s.index}); err != nil {
		t.Fatal(err)
	}
}

// next waits for a frame that came in and returns its word.
func (s raw) next(t *testing.T) string {
	t.Helper()
	tv := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	for {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("no frame: %v", err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && n > 14 {
			return strings.TrimRight(string(b[14:n]), "\x00")
		}
	}
}

// hears checks which words come next.
func (s raw) hears(t *testing.T, words ...string) {
	t.Helper()
	for _, want := range words {
		if got := s.next(t); got != want {
			t.Fatalf("%q came, want %q", got, want)
		}
	}
}

// Endpoints of two hosts find each other without a question that crosses the tunnel,
// and so does one that asks for an address which is the bridge's own.
func TestOverlayAnswersItself(t *testing.T) {
	near, far := nodes(t)
	a, b := near.box(t, "a", 2), far.box(t, "b", 3)
	for _, h := range []*node{near, far} {
		h.counts(t, "questions", "@th,224,16 0x0806")
		h.counts(t, "solicitations", "@th,224,16 0x86dd @th,288,8 58 @th,560,8 135")
		h.counts(t, "everything", "")
	}
	near.wants(t, elsewhere(3, "198.51.100.2")...)
	far.wants(t, elsewhere(2, "198.51.100.1")...)
	near.wants(t, kstate.Neigh{Dev: "slx1", Addr: addrs(200)[0], MAC: mac(0, 1)}, kstate.Neigh{Dev: "slx1", Addr: addrs(200)[1], MAC: mac(0, 1)})
	for family := range 2 {
		talks(t, a, b, addrs(3)[family])
		talks(t, b, a, addrs(2)[family])
		resolves(t, a, addrs(3)[family], mac(2, 3))
		resolves(t, a, addrs(200)[family], mac(0, 1))
	}
	talks(t, a, near.ns, netip.MustParseAddr("10.0.255.1")) // the bridge is still where it was
	resolves(t, a, netip.MustParseAddr("10.0.255.1"), mac(0, 1))
	for _, h := range []*node{near, far} {
		if arp, ns, all := h.crossed(t, "questions"), h.crossed(t, "solicitations"), h.crossed(t, "everything"); arp != 0 || ns != 0 || all == 0 {
			t.Errorf("%d ARP packets and %d solicitations of %d packets crossed", arp, ns, all)
		}
	}
}

// resolves waits until somebody who sends to an address has found out where that is.
func resolves(t *testing.T, ns kstate.NS, at netip.Addr, mac string) {
	t.Helper()
	var out net.Conn
	inside(t, ns, func() (err error) { out, err = net.Dial("udp", netip.AddrPortFrom(at, 9).String()); return err })
	defer out.Close()
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		out.Write([]byte("x"))
		if got = run(t, "%sip neighbour show to %s dev eth0", inNS(ns), at); strings.Contains(got, "lladdr "+mac) {
			return
		}
	}
	t.Fatalf("%s is %q, want %s", at, got, mac)
}

// Frames to all cross once for each host, those to nobody known never, and none
// between isolated ports.
func TestOverlayCarriesFrames(t *testing.T) {
	near, far := nodes(t)
	a, c, b := listen(t, near.box(t, "a", 2)), listen(t, near.box(t, "c", 4)), listen(t, far.box(t, "b", 3))
	const all, nobody = "ff:ff:ff:ff:ff:ff", "02:5e:a1:02:00:63"
	near.counts(t, "second", "ip daddr 198.51.100.2 @th,224,16 0x88b5 @th,128,48 0xffffffffffff")
	near.counts(t, "third", "ip daddr 198.51.100.3 @th,224,16 0x88b5 @th,128,48 0xffffffffffff")
	near.counts(t, "nobody", "@th,128,48 0x025ea1020063")
	near.wants(t, elsewhere(3, "198.51.100.2")...)
	a.send(t, mac(2, 2), all, "all")
	c.hears(t, "all")
	b.hears(t, "all")
	a.send(t, mac(2, 2), nobody, "nobody")
	c.hears(t, "nobody")
	a.send(t, mac(2, 2), mac(2, 3), "known")
	b.hears(t, "known") // and nothing before
	if n, m, x := near.crossed(t, "second"), near.crossed(t, "third"), near.crossed(t, "nobody"); n != 1 || m != 1 || x != 0 {
		t.Errorf("to all: %d and %d times, to nobody: %d times", n, m, x)
	}
	for _, name := range []string{"slx1", "slva"} {
		l := near.want[kstate.Link{Name: name}.Key()].(kstate.Link)
		l.Isolated = true
		near.wants(t, l)
	}
	a.send(t, mac(2, 2), mac(2, 3), "isolated")
	a.send(t, mac(2, 2), mac(2, 4), "here")
	c.hears(t, "here")
	c.send(t, mac(2, 4), mac(2, 3), "not isolated")
	b.hears(t, "not isolated")
}

// An address is where its FDB says, whoever else sends from it, and at a port of the
// host as soon as that is gone.
func TestOverlayAddressMoves(t *testing.T) {
	near, far := nodes(t)
	a, b := listen(t, near.box(t, "a", 2)), listen(t, far.box(t, "b", 3))
	at := elsewhere(3, "198.51.100.2")
	near.wants(t, at...)
	a.send(t, mac(2, 2), mac(2, 3), "there")
	b.hears(t, "there")
	moved := listen(t, near.box(t, "m", 3))
	moved.send(t, mac(2, 3), mac(2, 2), "here I am")
	a.hears(t, "here I am")
	if ops := near.todo(t); len(ops) > 0 {
		t.Errorf("to be repaired: %s", ops)
	}
	a.send(t, mac(2, 2), mac(2, 3), "still there")
	b.hears(t, "still there")
	near.drops(t, at...)
	a.send(t, mac(2, 2), mac(2, 3), "here")
	moved.hears(t, "here")
	near.wants(t, at...)
	a.send(t, mac(2, 2), mac(2, 3), "there again")
	b.hears(t, "there again")
}

// What a bridge learnt, and its own addresses, are no objects and stay as they are.
func TestOverlayLeavesWhatABridgeLearnt(t *testing.T) {
	near, _ := nodes(t)
	a, c := listen(t, near.box(t, "a", 2)), listen(t, near.box(t, "c", 4))
	near.wants(t, elsewhere(3, "198.51.100.2")...)
	a.send(t, mac(2, 2), mac(2, 4), "learn")
	c.hears(t, "learn")
	table := func() string { return run(t, "%sbridge fdb show br slb1", inNS(near.ns)) }
	for _, line := range []string{mac(2, 2) + " dev slva master slb1", mac(0, 1) + " dev slb1 master slb1 permanent", mac(3, 1) + " dev slx1 master slb1 permanent",
		mac(2, 3) + " dev slx1 sticky master slb1 static", mac(2, 3) + " dev slx1 dst 198.51.100.2 self sticky static"} {
		if got := table(); !strings.Contains(got, line) {
			t.Errorf("%q is not in\n%s", line, got)
		}
	}
	near.drops(t, elsewhere(3, "198.51.100.2")...)
	if got := table(); strings.Contains(got, mac(2, 3)) || !strings.Contains(got, mac(2, 2)+" dev slva master slb1") || !strings.Contains(got, mac(3, 1)+" dev slx1 master slb1 permanent") {
		t.Errorf("afterwards:\n%s", got)
	}
}

// 10,000 endpoints on other hosts come, are looked at, move and go. How long each takes
// is printed.
func TestOverlayOfMany(t *testing.T) {
	featuretest.Require(t, feature.VXLAN)
	n := 10000
	if testing.Short() {
		n = 300
	}
	k, _ := start(t)
	many := func(at string) kstate.Set {
		out := kstate.Set{}
		for i := range n {
			mac, ip := mac(4, i), netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
			for _, o := range []kstate.Object{kstate.FDB{Dev: "slx1", MAC: mac, Dst: netip.MustParseAddr(at), Bridged: true}, kstate.Neigh{Dev: "slx1", Addr: ip, MAC: mac}} {
				out[o.Key()] = o
			}
		}
		for _, o := range trunk(1) {
			out[o.Key()] = o
		}
		return out
	}
	bare := kstate.Set{}
	for _, o := range trunk(1) {
		bare[o.Key()] = o
	}
	apply(t, k, kerneltest.Adds(bare.Sorted()...)...)
	for _, step := range []struct {
		name string
		want kstate.Set
	}{{"all come", many("198.51.100.2")}, {"all move", many("198.51.100.3")}, {"all go", bare}} {
		ops := kstate.Diff(observe(t, k), step.want)
		began := time.Now()
		apply(t, k, ops...)
		applied := time.Now()
		have := observe(t, k)
		t.Logf("%-8s %5d ops: apply %v, observe %v", step.name, len(ops), ms(applied.Sub(began)), ms(time.Since(applied)))
		if left := kstate.Diff(have, step.want); len(left) > 0 {
			t.Fatalf("%s: %d ops are left, the first is %s", step.name, len(left), left[0])
		}
	}
}
