package bpf

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/lab/cgroup"
)

const testVNI = 4096

// hall is a namespace whose sockets choose, as they are told by choosers.
type hall struct {
	t      testing.TB
	dir    string
	holder *Holder
	*Choosers
	ns kstate.NS
}

func newHall(t testing.TB) *hall {
	dir := inNamespaces(t)
	if err := unix.IoctlIfreq(loopback(t)); err != nil {
		t.Fatal(err)
	}
	h := &hall{t: t, dir: dir, holder: open(t, dir), ns: kstate.NS{Path: fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())}}
	h.reopen()
	h.do(kstate.Op{New: kstate.Chooser{NS: h.ns, VNI: testVNI}})
	return h
}

// loopback is what sets lo up.
func loopback(t testing.TB) (fd int, req uint, up *unix.Ifreq) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	up, err = unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	up.SetUint16(unix.IFF_UP)
	return fd, unix.SIOCSIFFLAGS, up
}

// reopen is a new process's part.
func (h *hall) reopen() {
	h.t.Helper()
	if h.Choosers != nil {
		if err := h.Choosers.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	c, err := NewChoosers(h.dir, h.holder)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Choosers = c
	h.t.Cleanup(func() { _ = c.Close() })
}

func (h *hall) do(ops ...kstate.Op) {
	h.t.Helper()
	if err := h.Apply(ops); err != nil {
		h.t.Fatal(err)
	}
}

// listen listens at an address of the namespace's own, and answers with its port.
func (h *hall) listen(addr string) netip.AddrPort {
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.LocalAddr())
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// ask connects, and returns whom the answer is from. The peer must be whom it asked.
func (h *hall) ask(network string, to netip.AddrPort) string {
	h.t.Helper()
	c, err := net.Dial(network, to.String())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != to.String() {
		h.t.Errorf("asked %s, the peer is %s", to, got)
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}

func choice(at string, backends ...netip.AddrPort) kstate.Choice {
	return kstate.Choice{VNI: testVNI, At: netip.MustParseAddrPort(at), Turns: true, Backends: backends}
}

func TestSocketsChoose(t *testing.T) {
	for _, c := range []struct{ network, service, at string }{
		{"tcp4", "10.9.0.1:80", "127.0.0.1"}, {"tcp6", "[fd00::9]:80", "::1"},
	} {
		t.Run(c.network, func(t *testing.T) {
			h := newHall(t)
			a, b := h.listen(c.at), h.listen(c.at)
			o := choice(c.service, a, b, b)
			h.do(kstate.Op{New: o})
			var got []string
			for range 6 {
				got = append(got, h.ask(c.network, o.At))
			}
			want := []string{a.String(), b.String(), b.String(), a.String(), b.String(), b.String()}
			if !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			less := choice(c.service, b)
			h.do(kstate.Op{Old: o, New: less})
			for range 3 {
				if got := h.ask(c.network, o.At); got != b.String() {
					t.Errorf("%s, want %s", got, b)
				}
			}
			h.do(kstate.Op{Old: less})
			if got := h.ask(c.network, o.At); !errors.Is(noWay(c.network, o.At), unix.ENETUNREACH) {
				t.Errorf("%s: want no way there", got)
			}
		})
	}
}

// noWay is why there is no connection.
func noWay(network string, to netip.AddrPort) error {
	c, err := net.Dial(network, to.String())
	if err == nil {
		c.Close()
	}
	return err
}

// TestSocketOfBothFamilies has a socket of IPv6 ask for an IPv4 address.
func TestSocketOfBothFamilies(t *testing.T) {
	h := newHall(t)
	a := h.listen("127.0.0.1")
	h.do(kstate.Op{New: choice("10.9.0.1:80", a)})
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet6{Port: 80, Addr: netip.MustParseAddr("10.9.0.1").As16()}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	peer, err := unix.Getpeername(fd)
	if got, ok := peer.(*unix.SockaddrInet6); err != nil || !ok || got.Addr != to.Addr || got.Port != to.Port {
		t.Errorf("peer %v: %v", peer, err)
	}
}

// TestChoiceIsForItsOwn: by UDP, at another port, in another namespace and for another
// network nothing is chosen.
func TestChoiceIsForItsOwn(t *testing.T) {
	h := newHall(t)
	a := h.listen("127.0.0.1")
	h.do(kstate.Op{New: choice("10.9.0.1:80", a)})
	other := choice("10.9.0.2:80", a)
	other.VNI++
	h.do(kstate.Op{New: other})
	for _, c := range []struct{ network, at string }{{"udp4", "10.9.0.1:80"}, {"tcp4", "10.9.0.1:81"}, {"tcp4", "10.9.0.2:80"}} {
		if err := noWay(c.network, netip.MustParseAddrPort(c.at)); !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("%s %s: %v, want no way there", c.network, c.at, err)
		}
	}
	if err := noWay("tcp4", netip.MustParseAddrPort("10.9.0.1:80")); err != nil {
		t.Error(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := noWay("tcp4", netip.MustParseAddrPort("10.9.0.1:80")); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("elsewhere: %v, want no way there", err)
	}
}

// TestFlowsOfChosen lists connections while they are there.
func TestFlowsOfChosen(t *testing.T) {
	h := newHall(t)
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := choice("10.9.0.1:80", l.Addr().(*net.TCPAddr).AddrPort())
	h.do(kstate.Op{New: o})
	c, err := net.Dial("tcp4", o.At.String())
	if err != nil {
		t.Fatal(err)
	}
	flows, err := h.Flows()
	if err != nil || len(flows) != 1 || flows[0].Asked != o.At || flows[0].Served != o.Backends[0] || flows[0].Proto != "tcp" {
		t.Errorf("%v, %v", flows, err)
	}
	c.Close()
	if flows, err := h.Flows(); err != nil || len(flows) != 0 {
		t.Errorf("after its end: %v, %v", flows, err)
	}
}

// observed are the texts of what is there.
func (h *hall) observed() (out []string) {
	h.t.Helper()
	cookie, err := netnsCookie()
	if err != nil {
		h.t.Fatal(err)
	}
	objs, err := h.Observe(map[uint64]kstate.NS{cookie: h.ns})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, o := range objs {
		out = append(out, o.String())
	}
	slices.Sort(out)
	return out
}

// TestChooserByAnotherPath: who chooses is observed as it was applied, also where the namespace
// is known by another path too.
func TestChooserByAnotherPath(t *testing.T) {
	h := newHall(t)
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(h.ns.Path, path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	other := kstate.Chooser{NS: kstate.NS{Path: path}, VNI: testVNI + 1}
	h.do(kstate.Op{New: other})
	want := []string{kstate.Chooser{NS: h.ns, VNI: testVNI}.String(), other.String()}
	slices.Sort(want)
	if diff := cmp.Diff(want, h.observed()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	other.NS = h.ns // by what it is known still
	if got := h.observed(); !slices.Contains(got, other.String()) {
		t.Errorf("%v: want %s", got, other)
	}
}

// TestChoicesOutliveProcess: a new process finds them, repairs what a crash left, and
// sockets choose all the time.
func TestChoicesOutliveProcess(t *testing.T) {
	h := newHall(t)
	a := h.listen("127.0.0.1")
	o := choice("10.9.0.1:80", a, a)
	six := choice("[fd00::9]:80", netip.MustParseAddrPort("[::1]:80"))
	h.do(kstate.Op{New: o}, kstate.Op{New: six})
	want := h.observed()
	if len(want) != 3 {
		t.Fatalf("%v: want two choices and a chooser", want)
	}
	left := []seat{seatOf(placeOf(o.At), 2), seatOf(placeOf(netip.MustParseAddrPort("10.9.0.7:80")), 0)}
	if _, err := h.maps.seats.put(left, make([]place, 2)); err != nil {
		t.Fatal(err)
	}
	if err := h.Choosers.Close(); err != nil {
		t.Fatal(err)
	}
	if got := h.ask("tcp4", o.At); got != a.String() {
		t.Errorf("without a process: %s", got)
	}
	h.Choosers = nil
	h.reopen()
	if diff := cmp.Diff(want, h.observed()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var p place
	for _, s := range left {
		if err := h.maps.seats.Lookup(s, &p); err == nil {
			t.Errorf("seat %d of %s is there still", s.number(), s.service().addrPort())
		}
	}
	if got := h.ask("tcp4", o.At); got != a.String() {
		t.Errorf("with another process: %s", got)
	}
}

// TestNoRoom: what does not fit fails alone, and takes no room; of what it was to take the place
// of nothing is chosen any more.
func TestNoRoom(t *testing.T) {
	h := newHall(t)
	a := h.listen("127.0.0.1")
	seats, err := openTable[seat, place](h.dir, "sealane_few", 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.maps.seats.Close(); err != nil {
		t.Fatal(err)
	}
	h.maps.seats = seats
	small, large := choice("10.9.0.1:80", a), choice("10.9.0.2:80", a, a, a)
	h.failsFor(large, kstate.Op{New: small}, kstate.Op{New: large})
	if got := h.observed(); !slices.Contains(got, small.String()) || slices.Contains(got, large.String()) {
		t.Errorf("%v: want the smaller", got)
	}
	third := choice("10.9.0.3:80", a)
	h.do(kstate.Op{New: third})
	larger := choice("10.9.0.1:80", a, a, a)
	h.failsFor(larger, kstate.Op{Old: small, New: larger})
	if got := h.observed(); len(got) != 2 || !slices.Contains(got, third.String()) {
		t.Errorf("%v: want the third alone, and the chooser", got)
	}
	h.do(kstate.Op{New: choice("10.9.0.4:80", a)})
}

// failsFor has a choice of ops fail, and none of the others.
func (h *hall) failsFor(o kstate.Choice, ops ...kstate.Op) {
	h.t.Helper()
	err := h.Apply(ops)
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 1 || !strings.Contains(err.Error(), o.String()) {
		h.t.Errorf("%v: want that %s fails", err, o)
	}
}

// TestChoicesOfNobody: where what a former process left cannot be taken over, nothing of it
// chooses on.
func TestChoicesOfNobody(t *testing.T) {
	h := newHall(t)
	o := choice("10.9.0.1:80", h.listen("127.0.0.1"))
	h.do(kstate.Op{New: o})
	if err := h.Choosers.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(h.dir, seatsFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(h.dir, seatsFile), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Choosers = nil
	h.reopen()
	if h.Why() == nil {
		t.Error("it says that sockets choose")
	}
	if err := noWay("tcp4", o.At); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("%v: want no way there", err)
	}
}

// TestChoicesOfNoDaemon: what a former process left does not choose on where this one cannot
// have sockets choose, nor without the map by which it is found.
func TestChoicesOfNoDaemon(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(*hall)
	}{
		{"programs cannot be had", func(h *hall) { h.holder = &Holder{why: unix.EPERM} }},
		{"the first map is gone", func(h *hall) {
			if err := os.Remove(filepath.Join(h.dir, ballotsFile)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHall(t)
			o := choice("10.9.0.1:80", h.listen("127.0.0.1"))
			h.do(kstate.Op{New: o})
			c.lose(h)
			h.reopen()
			if err := noWay("tcp4", o.At); !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("%v: want no way there", err)
			}
		})
	}
}

// TestHookOfAnother: where somebody has a hook for a program alone, sockets do not choose, and
// that is known before anything is to be chosen.
func TestHookOfAnother(t *testing.T) {
	dir := inNamespaces(t)
	hook := aloneInCgroup(t)
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet6Connect, Instructions: allow()})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(hook.Fd()), Program: prog, Attach: ebpf.AttachCGroupInet6Connect})
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewChoosers(dir, open(t, dir))
	if err != nil || !errors.Is(c.Why(), unix.EPERM) {
		t.Errorf("%v, why %v: want that they cannot", err, c.Why())
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*_conn*")); err != nil || len(left) > 0 {
		t.Errorf("%v, %v: want nothing left", left, err)
	}
}

// aloneInCgroup makes a cgroup, and has the thread take it for the root of the hierarchy.
func aloneInCgroup(t *testing.T) *os.File {
	t.Helper()
	own, err := cgroup.New("bpf-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Remove() })
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range cgroupMounts(string(mounts)) {
		if err := unix.Mount(own.Path(), path, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	}
	root, err := cgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// TestChoosersRemove leaves nothing behind.
func TestChoosersRemove(t *testing.T) {
	h := newHall(t)
	h.do(kstate.Op{New: choice("10.9.0.1:80", h.listen("127.0.0.1"))})
	if err := h.Choosers.Remove(); err != nil {
		t.Error(err)
	}
	for _, pattern := range []string{"*_conn*", "*_peer*", "*_ballots", "*_seats", "*_chooser", "*_sockets"} {
		if left, err := filepath.Glob(filepath.Join(h.dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("%v, %v: want nothing left", left, err)
		}
	}
	if err := h.holder.Remove(); err != nil {
		t.Error(err)
	}
	if err := noWay("tcp4", netip.MustParseAddrPort("10.9.0.1:80")); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("%v: want no way there", err)
	}
}

// TestWrongChoices are refused, and the others of a run are made.
func TestWrongChoices(t *testing.T) {
	h := newHall(t)
	good := choice("10.9.0.1:80", netip.MustParseAddrPort("10.9.0.2:80"))
	err := h.Apply([]kstate.Op{
		{New: choice("10.9.0.3:80")},
		{New: good},
		{New: choice("10.9.0.4:80", netip.MustParseAddrPort("[fd00::1]:80"))},
		{New: kstate.Chooser{NS: kstate.NS{Path: "/nowhere"}, VNI: testVNI}},
		{Old: kstate.Chooser{NS: kstate.NS{Path: "/nowhere"}, VNI: testVNI}},
		{New: kstate.Table{}},
	})
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 3 {
		t.Errorf("%v: want three failures", err)
	}
	if got := h.observed(); !slices.Contains(got, good.String()) || len(got) != 2 {
		t.Errorf("%v", got)
	}
}
