package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// inNamespaces moves the test to a network and a mount namespace of its own,
// which end with its thread, and returns a directory for a bpffs.
func inNamespaces(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bpf")
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// open opens a Holder and sees to it that it is of the kind asked for.
func open(t testing.TB, dir string, opts ...Option) *Holder {
	t.Helper()
	h, err := Open(dir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	if len(opts) == 0 && h.Why() != nil {
		t.Fatalf("held by sockets: %v", h.Why())
	}
	return h
}

// hold reads a hold in the form of its String without the first word, such as
// "tcp *:80-90".
func hold(s string) kstate.Hold {
	proto, rest, _ := strings.Cut(s, " ")
	i := strings.LastIndexByte(rest, ':')
	h := kstate.Hold{Proto: proto}
	if rest[:i] != "*" {
		h.Addr = netip.MustParseAddr(strings.Trim(rest[:i], "[]"))
	}
	if n, _ := fmt.Sscanf(rest[i+1:], "%d-%d", &h.First, &h.Last); n == 1 {
		h.Last = h.First
	}
	return h
}

func add(holds ...string) (ops []kstate.Op) {
	for _, s := range holds {
		ops = append(ops, kstate.Op{New: hold(s)})
	}
	return ops
}

func remove(holds ...string) (ops []kstate.Op) {
	for _, s := range holds {
		ops = append(ops, kstate.Op{Old: hold(s)})
	}
	return ops
}

func apply(t testing.TB, h *Holder, ops ...kstate.Op) {
	t.Helper()
	if err := h.Apply(ops); err != nil {
		t.Fatal(err)
	}
}

func observed(t testing.TB, h *Holder) (out []string) {
	t.Helper()
	objs, err := h.Observe()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		out = append(out, strings.TrimPrefix(o.String(), "hold "))
	}
	slices.Sort(out)
	return out
}

// bindTo binds as any program would, to "tcp 192.0.2.1:80"; the address need
// not be there. An address in brackets is bound through an IPv6 socket.
func bindTo(t testing.TB, where string) (fd int, err error) {
	t.Helper()
	proto, at, _ := strings.Cut(where, " ")
	typ := unix.SOCK_STREAM
	if proto == "udp" {
		typ = unix.SOCK_DGRAM
	}
	a := netip.MustParseAddrPort(at)
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(a.Port())})
	if a.Addr().Is4() {
		sa.(*unix.SockaddrInet4).Addr = a.Addr().As4()
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if family == unix.AF_INET {
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1)
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err = unix.Bind(fd, sa); err != nil {
		_ = unix.Close(fd)
		fd = -1
	}
	return fd, err
}

// wantBind checks what bind(2) answers.
func wantBind(t testing.TB, where string, want error) {
	t.Helper()
	fd, err := bindTo(t, where)
	if err == nil {
		_ = unix.Close(fd)
	}
	if !errors.Is(err, want) {
		t.Errorf("bind %s: %v: want %v", where, err, want)
	}
}

// bothWays runs a test with programs and with sockets.
func bothWays(t *testing.T, f func(t *testing.T, h *Holder)) {
	t.Run("programs", func(t *testing.T) { f(t, open(t, inNamespaces(t))) })
	t.Run("sockets", func(t *testing.T) { f(t, open(t, inNamespaces(t), Sockets())) })
}

var bindTable = []struct{ hold, refused, allowed string }{
	{"tcp *:80",
		"tcp 0.0.0.0:80|tcp 192.0.2.1:80|tcp 127.0.0.1:80|tcp [::]:80|tcp [::1]:80|tcp [2001:db8::1]:80|tcp [::ffff:192.0.2.1]:80|tcp [::ffff:0.0.0.0]:80",
		"tcp 0.0.0.0:81|tcp [::]:79|udp 0.0.0.0:80|udp [::]:80|tcp 0.0.0.0:0|tcp [::]:0"},
	{"udp *:53-100",
		"udp 0.0.0.0:53|udp 127.0.0.1:64|udp [::]:99|udp [2001:db8::1]:100|udp [::ffff:192.0.2.1]:77",
		"udp 0.0.0.0:52|udp [::]:101|tcp 0.0.0.0:53|udp 0.0.0.0:0|udp [::1]:0"},
	{"tcp 192.0.2.1:80",
		"tcp 192.0.2.1:80|tcp 0.0.0.0:80|tcp [::]:80|tcp [::ffff:192.0.2.1]:80|tcp [::ffff:0.0.0.0]:80",
		"tcp 192.0.2.2:80|tcp [::1]:80|tcp [::ffff:192.0.2.2]:80|udp 192.0.2.1:80|tcp 192.0.2.1:81"},
	{"udp 192.0.2.1:1000-1009",
		"udp 192.0.2.1:1000|udp 0.0.0.0:1009|udp [::]:1005|udp [::ffff:192.0.2.1]:1003",
		"udp 192.0.2.1:999|udp 192.0.2.1:1010|udp 192.0.2.2:1000|udp [2001:db8::1]:1000"},
	{"tcp [2001:db8::1]:80",
		"tcp [2001:db8::1]:80|tcp [::]:80",
		"tcp 0.0.0.0:80|tcp [2001:db8::2]:80|tcp [::1]:80|tcp 192.0.2.1:80|tcp [::ffff:192.0.2.1]:80"},
	{"tcp [::]:80",
		"tcp [::]:80|tcp [::1]:80|tcp [2001:db8::1]:80",
		"tcp 0.0.0.0:80|tcp 127.0.0.1:80|tcp [::ffff:192.0.2.1]:80"},
	{"udp 0.0.0.0:80",
		"udp 0.0.0.0:80|udp 127.0.0.1:80|udp [::]:80|udp [::ffff:192.0.2.1]:80",
		"udp [::1]:80|udp [2001:db8::1]:80"},
	{"tcp [::ffff:192.0.2.1]:80",
		"tcp 192.0.2.1:80|tcp 0.0.0.0:80|tcp [::]:80",
		"tcp 192.0.2.2:80|tcp [::1]:80"},
}

func TestBind(t *testing.T) {
	bothWays(t, func(t *testing.T, h *Holder) {
		for _, c := range bindTable {
			apply(t, h, add(c.hold)...)
			apply(t, h, add(c.hold)...) // twice is once
			if got := observed(t, h); !slices.Equal(got, []string{c.hold}) {
				t.Errorf("%s: observed %v", c.hold, got)
			}
			for _, b := range strings.Split(c.refused, "|") {
				wantBind(t, b, unix.EADDRINUSE)
			}
			for _, b := range strings.Split(c.allowed, "|") {
				wantBind(t, b, nil)
			}
			apply(t, h, remove(c.hold)...)
			apply(t, h, remove(c.hold)...)
			for _, b := range strings.Split(c.refused, "|") {
				wantBind(t, b, nil)
			}
			if got := observed(t, h); len(got) != 0 {
				t.Errorf("%s: observed %v after the release", c.hold, got)
			}
			if t.Failed() {
				t.Fatalf("with hold %s", c.hold)
			}
		}
	})
}

// The conflicts: what listens, what is held, and where the error says it is.
var conflictTable = []struct{ socket, hold, where string }{
	{"tcp 0.0.0.0:80", "tcp *:80", "port 80/tcp is held by WHO on 0.0.0.0:80"},
	{"tcp 127.0.0.1:80", "tcp *:78-90", "port 80/tcp is held by WHO on 127.0.0.1:80"},
	{"tcp [::]:80", "tcp 192.0.2.1:80", "port 80/tcp is held by WHO on [::]:80"},
	{"tcp [::ffff:192.0.2.1]:80", "tcp 192.0.2.1:80", "port 80/tcp is held by WHO on 192.0.2.1:80"},
	{"tcp [2001:db8::1]:80", "tcp [2001:db8::1]:80", "port 80/tcp is held by WHO on [2001:db8::1]:80"},
	{"udp 0.0.0.0:53", "udp 192.0.2.1:53", "port 53/udp is held by WHO on 0.0.0.0:53"},
	{"udp [::]:53", "udp *:53", "port 53/udp is held by WHO on [::]:53"},
	{"tcp 192.0.2.1:80", "tcp 192.0.2.2:80", ""},
	{"tcp 0.0.0.0:80", "tcp [2001:db8::1]:80", ""},
	{"udp [::1]:53", "udp 0.0.0.0:53", ""},
	{"tcp 0.0.0.0:80", "udp *:80", ""},
	{"tcp 0.0.0.0:80", "tcp *:81-90", ""},
}

// foreign binds as bindTo does, listens, and leaves the socket to another
// process: who it is, and how to end it.
func foreign(t testing.TB, where string, listen bool) (who string, end func()) {
	t.Helper()
	fd, err := bindTo(t, where)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), where)
	defer f.Close()
	if listen && strings.HasPrefix(where, "tcp") {
		if err := unix.Listen(fd, 1); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sleep (pid %d)", cmd.Process.Pid), func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func TestConflict(t *testing.T) {
	bothWays(t, func(t *testing.T, h *Holder) {
		for _, c := range conflictTable {
			who, end := foreign(t, c.socket, true)
			err := h.Apply(add(c.hold))
			end()
			if c.where == "" {
				if err != nil {
					t.Errorf("%s and %s: %v", c.socket, c.hold, err)
				}
				apply(t, h, remove(c.hold)...)
				continue
			}
			want := "+ hold " + c.hold + ": " + strings.Replace(c.where, "WHO", who, 1)
			var op *kernel.OpError
			if err == nil || err.Error() != want || !errors.Is(err, kernel.ErrInUse) || !errors.As(err, &op) {
				t.Errorf("%s and %s:\ngot  %v\nwant %s", c.socket, c.hold, err, want)
			}
			if got := observed(t, h); len(got) != 0 {
				t.Errorf("held in spite of the conflict: %v", got)
			}
			wantBind(t, c.socket, nil) // nothing of the hold is left
		}
	})
}

func TestConflictLeavesOthers(t *testing.T) {
	bothWays(t, func(t *testing.T, h *Holder) {
		_, end := foreign(t, "udp 127.0.0.1:105", false)
		defer end()
		apply(t, h, add("udp 192.0.2.1:100-107")...)
		err := h.Apply(append(add("udp 127.0.0.1:104-107", "tcp *:105"), remove("udp *:1")...))
		if !errors.Is(err, kernel.ErrInUse) {
			t.Errorf("%v: want in use", err)
		}
		want := []string{"tcp *:105", "udp 192.0.2.1:100-107"}
		if diff := cmp.Diff(want, observed(t, h)); diff != "" {
			t.Error(diff)
		}
		wantBind(t, "udp 0.0.0.0:104", unix.EADDRINUSE) // shared key of the one that stays
		wantBind(t, "udp 127.0.0.1:104", nil)
	})
}

// A bound socket that does not listen is found when many ports are taken.
func TestConflictBound(t *testing.T) {
	bothWays(t, func(t *testing.T, h *Holder) {
		_, end := foreign(t, "tcp 127.0.0.1:5000", false)
		defer end()
		if err := h.Apply(add("tcp *:4900-5200")); !errors.Is(err, kernel.ErrInUse) {
			t.Errorf("%v: want in use", err)
		}
	})
}

// A socket of this very process is in nobody's way at the one port that is spared, where
// the daemon's proxy has some; a foreign one there is, and one of ours at another.
func TestOwnSocket(t *testing.T) {
	bothWays(t, func(t *testing.T, h *Holder) {
		h.Spare(5000)
		for _, c := range []struct{ socket, hold, refused string }{
			{"tcp [::]:5000", "tcp *:4990-5010", "tcp 0.0.0.0:5000"},
			{"tcp [::]:5000", "tcp *:5000", "tcp 127.0.0.1:5000"},
			{"tcp 0.0.0.0:5000", "tcp 127.0.0.1:5000", "tcp 127.0.0.1:5000"},
			{"udp [::]:5000", "udp *:4500-5500", "udp 0.0.0.0:5499"},
		} {
			fd, err := bindTo(t, c.socket)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(c.socket, "tcp") {
				if err := unix.Listen(fd, 1); err != nil {
					t.Fatal(err)
				}
			}
			apply(t, h, add(c.hold)...)
			if got := observed(t, h); !slices.Equal(got, []string{c.hold}) {
				t.Errorf("%s: observed %v", c.hold, got)
			}
			wantBind(t, c.refused, unix.EADDRINUSE)
			apply(t, h, remove(c.hold)...)
			_ = unix.Close(fd)
			wantBind(t, c.socket, nil)
		}
		fd, err := bindTo(t, "udp 127.0.0.1:5000")
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		who, end := foreign(t, "udp 127.0.0.2:5000", false)
		defer end()
		err = h.Apply(add("udp *:5000"))
		if !errors.Is(err, kernel.ErrInUse) || !strings.Contains(err.Error(), who) {
			t.Errorf("%v: want in use by %s", err, who)
		}
		served, err := bindTo(t, "udp 127.0.0.1:6000")
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(served)
		if err := h.Apply(add("udp *:6000")); !errors.Is(err, kernel.ErrInUse) {
			t.Errorf("%v: want in use by this process", err)
		}
	})
}

// Connections left over from a server that is gone are in nobody's way.
func TestLeftoverConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, h *Holder) {
		loopbackUp(t)
		l, err := net.Listen("tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_ = l.Close()
		apply(t, h, add("tcp *:80")...)
		wantBind(t, "tcp 0.0.0.0:80", unix.EADDRINUSE)
	})
}

func loopbackUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}

func TestInvalidOps(t *testing.T) {
	bothWays(t, func(t *testing.T, h *Holder) {
		for _, o := range []kstate.Object{
			kstate.Hold{Proto: "sctp", First: 1, Last: 1},
			kstate.Hold{Proto: "tcp", First: 0, Last: 1},
			kstate.Hold{Proto: "tcp", First: 2, Last: 1},
			kstate.Hold{Proto: "tcp", First: 1, Last: 1, Addr: netip.MustParseAddr("fe80::1%eth0")},
			kstate.Sysctl{Name: "a", Value: "b"},
		} {
			err := h.Apply(append([]kstate.Op{{New: o}}, add("tcp *:80")...))
			var op *kernel.OpError
			if !errors.As(err, &op) || op.Op.New != o {
				t.Errorf("%s: %v", o, err)
			}
			apply(t, h, remove("tcp *:80")...)
		}
		change := []kstate.Op{{Old: hold("tcp *:1"), New: hold("tcp *:2")}}
		if h.Apply(change) == nil {
			t.Error("a hold was changed in place")
		}
	})
}
