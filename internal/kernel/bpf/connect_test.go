package bpf

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// socket is one of IPv4, which the caller closes.
func (h *hall) socket(proto int) int {
	h.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		h.t.Fatal(err)
	}
	return fd
}

func sockaddr4(a netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

// connected connects a socket, and sees that it says that its peer is whom it asked.
func (h *hall) connected(fd int, to netip.AddrPort) {
	h.t.Helper()
	if err := unix.Connect(fd, sockaddr4(to)); err != nil {
		h.t.Fatalf("%s: %v", to, err)
	}
	h.says(fd, to)
}

// says sees that a socket says that its peer is whom it asked.
func (h *hall) says(fd int, to netip.AddrPort) {
	h.t.Helper()
	name, err := unix.Getpeername(fd)
	if four, ok := name.(*unix.SockaddrInet4); err != nil || !ok || netip.AddrPortFrom(netip.AddrFrom4(four.Addr), uint16(four.Port)) != to {
		h.t.Errorf("asked %s, the peer is %v: %v", to, name, err)
	}
}

// dissolve gives a socket's connection up, and leaves the socket (connect(2)).
func (h *hall) dissolve(fd int) {
	h.t.Helper()
	nobody := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, err := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nobody)), unix.SizeofSockaddrInet4); err != 0 {
		h.t.Fatal(err)
	}
}

// TestSocketConnectsAgain: what a socket had chosen before does not count any more, neither
// when that was refused nor when it was given up.
func TestSocketConnectsAgain(t *testing.T) {
	h := newHall(t)
	a, gone := h.listen("127.0.0.1"), netip.MustParseAddrPort("127.0.0.2:1")
	o, none := choice("10.9.0.1:80", a), choice("10.9.0.2:80", gone)
	h.do(kstate.Op{New: o}, kstate.Op{New: none})
	fd := h.socket(0)
	defer unix.Close(fd)
	if err := unix.Connect(fd, sockaddr4(none.At)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("%v: want it refused", err)
	}
	h.connected(fd, o.At)
	if err := unix.Connect(fd, sockaddr4(o.At)); !errors.Is(err, unix.EISCONN) {
		t.Errorf("again: %v", err)
	}
	h.dissolve(fd)
	h.connected(fd, a)
	if flows, err := h.Flows(); err != nil || len(flows) != 0 {
		t.Errorf("%v, %v: want none", flows, err)
	}
	h.dissolve(fd)
	h.connected(fd, o.At)
}

// TestSocketRemembers: what a socket asked for is known to later processes of ours as well,
// and when nobody is led there any more.
func TestSocketRemembers(t *testing.T) {
	h := newHall(t)
	o := choice("10.9.0.1:80", h.listen("127.0.0.1"))
	h.do(kstate.Op{New: o})
	fd := h.socket(0)
	defer unix.Close(fd)
	h.connected(fd, o.At)
	h.reopen()
	h.says(fd, o.At)
	h.do(kstate.Op{Old: o})
	h.says(fd, o.At)
}

// TestFlowsOfMultipath: sockets of the kernel's own connect too, and nobody is told of their
// end. Those of MPTCP are such.
func TestFlowsOfMultipath(t *testing.T) {
	h := newHall(t)
	o := choice("10.9.0.1:80", h.listen("127.0.0.1"))
	h.do(kstate.Op{New: o})
	fd := h.socket(unix.IPPROTO_MPTCP)
	if err := unix.Connect(fd, sockaddr4(o.At)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if flows, err := h.Flows(); err != nil || len(flows) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("after its end there is a connection")
}

// TestFirstData: data may go with what begins a connection, without connect(2).
func TestFirstData(t *testing.T) {
	h := newHall(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := choice("10.9.0.1:80", l.Addr().(*net.TCPAddr).AddrPort())
	h.do(kstate.Op{New: o})
	fd := h.socket(0)
	defer unix.Close(fd)
	if err := unix.Sendto(fd, []byte("first"), unix.MSG_FASTOPEN, sockaddr4(o.At)); err != nil {
		t.Fatal(err)
	}
	n, err := 0, error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 60_000)
	}
	if n != 1 || err != nil {
		t.Fatalf("%d, %v: want it connected", n, err)
	}
	h.says(fd, o.At)
}

// TestRefusedStaysRefused: what a program of somebody else's at the same hook refuses is
// refused, whichever of the two is first.
func TestRefusedStaysRefused(t *testing.T) {
	h := newHall(t)
	o := choice("10.9.0.1:80", h.listen("127.0.0.1"))
	h.do(kstate.Op{New: o})
	refuse(t)
	for range 2 {
		if err := noWay("tcp4", o.At); !errors.Is(err, unix.EPERM) {
			t.Errorf("%v: want it refused", err)
		}
		if err := h.Remove(); err != nil {
			t.Fatal(err)
		}
		h.reopen()
		h.do(kstate.Op{New: kstate.Chooser{NS: h.ns, VNI: testVNI}}, kstate.Op{New: o})
	}
}

// refuse has all connect(2) refused by IPv4 in the thread's network namespace.
func refuse(t *testing.T) {
	t.Helper()
	root, err := cgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	here, err := netnsCookie()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, Instructions: append(asm.Instructions{
		asm.FnGetNetnsCookie.Call(),
		asm.LoadImm(asm.R1, int64(here), asm.DWord),
		asm.JNE.Reg(asm.R0, asm.R1, "allow"),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}, allow()...)})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: root.Name(), Attach: ebpf.AttachCGroupInet4Connect, Program: prog})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}
