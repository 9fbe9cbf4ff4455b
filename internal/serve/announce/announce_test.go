package announce

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/netspace"
)

const (
	macA = "02:42:0a:00:00:02"
	macB = "02:42:0a:00:00:03"
	macC = "02:42:0a:00:00:04"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func mustAnnounce(t *testing.T, a *Announcer, e Endpoint) {
	t.Helper()
	if err := a.Announce(e); err != nil {
		t.Fatal(err)
	}
}

// soon is within what a message is heard, also on a busy machine; long is how long
// anything may take.
const (
	soon = 1500 * time.Millisecond
	long = 20 * time.Second
)

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// What is on the wire, byte by byte, but for the checksum: that it is right, the
// kernels tell that believe it (TestNeighboursFollow).
func TestFrames(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	heardByY, heardByX := y.listen(), x.listen()
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2", "fd00::2"), Count: 1, Interval: time.Second})
	var got []string
	for _, h := range heardByY.all(soon) {
		got = append(got, h.frame)
	}
	want := []string{
		"ffffffffffff" + "02420a000002" + "0806" + "0001080006040001" + "02420a000002" + "0a000002" + "000000000000" + "0a000002",
		"333300000001" + "02420a000002" + "86dd" + "6000000000203aff" + "fd000000000000000000000000000002" + "ff020000000000000000000000000001" +
			"8800" + "????" + "20000000" + "fd000000000000000000000000000002" + "0201" + "02420a000002",
	}
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d: %v", len(got), len(want), got)
	}
	for i, w := range want {
		if at := strings.Index(w, "????"); at >= 0 {
			w = w[:at] + got[i][at:at+4] + w[at+4:]
		}
		if got[i] != w {
			t.Errorf("frame %d:\n%s, want\n%s", i, got[i], w)
		}
	}
	if back := heardByX.all(50 * time.Millisecond); len(back) > 0 {
		t.Errorf("the container hears its own: %v", back)
	}
}

func TestCountAndInterval(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	for _, c := range []struct {
		count    int
		interval time.Duration
	}{{0, 100 * time.Millisecond}, {1, 100 * time.Millisecond}, {2, 300 * time.Millisecond}, {3, 100 * time.Millisecond}, {-1, time.Second}} {
		e := y.listen()
		began := time.Now()
		mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: c.count, Interval: c.interval})
		got := e.all(c.interval + soon)
		if len(got) != max(c.count, 0) {
			t.Errorf("%d messages, want %d", len(got), c.count)
		}
		for i, h := range got {
			if late := h.at.Sub(began) - time.Duration(i)*c.interval; late < 0 || late > soon {
				t.Errorf("count %d: message %d is %v late", c.count, i, late)
			}
		}
	}
}

// A container is replaced by one with its addresses and another hardware
// address. Neighbours and the host know the old one for sure, and would not ask
// for half a minute.
func TestNeighboursFollow(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	const gone = "02:42:aa:aa:aa:aa"
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		y.ip("neigh replace %s lladdr %s dev eth0 nud reachable", addr, gone)
		ip(t, "neigh replace "+addr+" lladdr "+gone+" dev lan nud reachable")
		if y.reaches(addr) {
			t.Fatalf("%s is reached at an address that nobody has", addr)
		}
	}
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2", "fd00::2"), Count: 1, Interval: time.Second})
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		within(t, "the neighbour knows of "+addr, func() bool { return strings.Contains(y.ip("neigh show %s", addr), macA) })
		within(t, "the host knows of "+addr, func() bool { return strings.Contains(ip(t, "neigh show "+addr), macA) })
		within(t, addr+" is reached", func() bool { return y.reaches(addr) })
	}
}

// reaches reports whether the host at addr answers: that nobody listens.
func (b box) reaches(addr string) bool {
	return errors.Is(b.in(func() error {
		_, err := net.DialTimeout("tcp", net.JoinHostPort(addr, "9"), 300*time.Millisecond)
		return err
	}), unix.ECONNREFUSED)
}

// A bridge that knows the hardware address at another port, where it was
// before, sends everything there until it hears it at the new one.
func TestTheBridgeLearns(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	netspace.Here(t, "bridge fdb replace %s dev %s master dynamic", macA, y.port())
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 1, Interval: time.Second})
	within(t, "the bridge knows", func() bool {
		return strings.Contains(netspace.Here(t, "bridge fdb get %s br lan", macA), "dev "+x.port()+" ")
	})
}

// An isolated container's announcement goes where its packets may go.
func TestIsolatedPorts(t *testing.T) {
	lan(t)
	a, x, y, z := announcer(t), newBox(t, "x", macA, 2), newBox(t, "y", macB, 3), newBox(t, "z", macC, 4)
	for _, b := range []box{x, y} {
		netspace.Here(t, "bridge link set dev %s isolated on", b.port())
	}
	heardByY, heardByZ := y.listen(), z.listen()
	host, err := listen(t, "lan")
	if err != nil {
		t.Fatal(err)
	}
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 1, Interval: time.Second})
	for name, c := range map[string]struct {
		ear  ear
		want int
	}{"an isolated one": {heardByY, 0}, "one that is not": {heardByZ, 1}, "the host": {host, 1}} {
		if got := c.ear.all(soon); len(got) != c.want {
			t.Errorf("%s hears %d, want %d", name, len(got), c.want)
		}
	}
}

func TestCancel(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	for name, stop := range map[string]func(){
		"cancelled": func() { a.Cancel(x.port()) },
		"replaced by none": func() {
			mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 0, Interval: time.Second})
		},
	} {
		e := y.listen()
		mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 3, Interval: soon})
		if _, ok := e.next(long); !ok {
			t.Fatal("no first message")
		}
		stop()
		if rest := e.all(soon * 3 / 2); len(rest) > 0 {
			t.Errorf("%s: %d more", name, len(rest))
		}
	}
	a.Cancel("nobody")
	if n := a.running(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// A container that changes its own hardware address is not announced under
// the old one again, and one that keeps it is.
func TestTheContainerChangesItsAddress(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	for mac, want := range map[string]int{macA: 2, macC: 0} {
		x.ip("link set eth0 address %s", macA)
		e := y.listen()
		mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 3, Interval: soon})
		if _, ok := e.next(long); !ok {
			t.Fatal("no first message")
		}
		x.ip("link set eth0 address %s", mac)
		if rest := e.all(2 * soon); len(rest) != want {
			t.Errorf("now %s: %d more, want %d", mac, len(rest), want)
		}
	}
}

func TestTheDeviceGoes(t *testing.T) {
	lan(t)
	a, x := announcer(t), newBox(t, "x", macA, 2)
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 1000, Interval: 100 * time.Millisecond})
	if a.running() != 1 {
		t.Fatal("not announced")
	}
	ip(t, "link del "+x.port())
	for end := time.Now().Add(long); a.running() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it goes on")
		}
	}
}

func (a *Announcer) running() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.runs)
}

// What replaces an announcement is what neighbours hear last.
func TestReplace(t *testing.T) {
	lan(t)
	a, x, y := announcer(t), newBox(t, "x", macC, 2), newBox(t, "y", macB, 3)
	e := y.listen()
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 3, Interval: 100 * time.Millisecond})
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macC, Addrs: addrs("10.0.0.2"), Count: 3, Interval: 100 * time.Millisecond})
	got := e.all(soon)
	if len(got) < 3 {
		t.Fatalf("%d messages, want 3 at least", len(got))
	}
	for _, h := range got[len(got)-3:] {
		if !strings.Contains(h.frame, "02420a000004") {
			t.Errorf("heard %s", h.frame)
		}
	}
}

// A port of a moment ago does not carry packets yet: the message waits for it.
func TestRightAfterAttach(t *testing.T) {
	lan(t)
	a, y := announcer(t), newBox(t, "y", macB, 3)
	e := y.listen()
	lost := 0
	for range 10 {
		x := attach(t, "x", macA, 2)
		mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2"), Count: 1, Interval: time.Second})
		if _, ok := e.next(long); !ok {
			lost++
		}
		ip(t, "link del "+x.port())
	}
	if lost > 0 {
		t.Errorf("%d of 10 were lost", lost)
	}
}

// Without BPF the neighbours hear it nevertheless.
func TestSecondBest(t *testing.T) {
	lan(t)
	x, y := newBox(t, "x", macA, 2), newBox(t, "y", macB, 3)
	p, err := openPorts()
	if err != nil {
		t.Fatal(err)
	}
	out, err := newRaw(p)
	if err != nil {
		t.Fatal(err)
	}
	a := start(slog.New(slog.NewTextHandler(t.Output(), nil)), p, out)
	defer a.Close()
	e := y.listen()
	mustAnnounce(t, a, Endpoint{Device: x.port(), MAC: macA, Addrs: addrs("10.0.0.2", "fd00::2"), Count: 2, Interval: 100 * time.Millisecond})
	if got := e.all(soon); len(got) != 4 {
		t.Errorf("%d messages, want 4", len(got))
	}
}

func TestImpossible(t *testing.T) {
	a := announcer(t)
	for _, mac := range []string{"", "x", "02:42:0a:00:00", "02:42:0a:00:00:00:00:02"} {
		if err := a.Announce(Endpoint{Device: "v", MAC: mac, Addrs: addrs("10.0.0.2"), Count: 3, Interval: time.Second}); err == nil || !strings.Contains(err.Error(), "want six bytes") {
			t.Errorf("%q: %v", mac, err)
		}
	}
	// There is no such device, or none can have the name.
	for _, device := range []string{"nobody", strings.Repeat("x", 40), ""} {
		mustAnnounce(t, a, Endpoint{Device: device, MAC: macA, Addrs: addrs("10.0.0.2"), Count: 1, Interval: time.Second})
	}
}

// In a burst the callers wait for nothing, and everyone is announced once
// before anyone is a second time.
func TestBurst(t *testing.T) {
	lan(t)
	a, y := announcer(t), newBox(t, "y", macB, 3)
	const n = 200
	stubs(t, n)
	e := y.listen()
	began := time.Now()
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		mustAnnounce(t, a, Endpoint{Device: fmt.Sprint("b", i), MAC: macA, Addrs: []netip.Addr{addr}, Count: 2, Interval: 2 * soon})
	}
	if took := time.Since(began); took > soon {
		t.Errorf("%d calls took %v", n, took)
	}
	seen := map[string]bool{}
	for i, h := range e.all(3 * soon) {
		if i < n && seen[h.frame] {
			t.Fatalf("message %d is the second of its endpoint", i)
		}
		seen[h.frame] = true
	}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		mac, _ := net.ParseMAC(macA)
		if !seen[hex.EncodeToString(announcement(mac, addr))] {
			t.Errorf("%s is not announced", addr)
		}
	}
}

// stubs makes n ports b0… of the bridge that lead nowhere.
func stubs(t *testing.T, n int) {
	t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "link add b%d type veth peer name c%d\nlink set b%d addrgenmode none\nlink set c%d up\nlink set b%d master lan up group 77\n", i, i, i, i, i)
	}
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip: %v: %s", err, out)
	}
	t.Cleanup(func() { ip(t, "link del group 77") })
}
