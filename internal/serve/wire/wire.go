// Package wire sends and receives Ethernet frames on one device, in the host's
// namespace or in a sandbox's, past the addresses and the firewall there
// (packet(7)).
package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// Place is a device: of the namespace NS, or of the caller's if that is zero.
type Place struct {
	NS     kstate.NS
	Device string
}

// Do calls fn in the place's namespace.
func (p Place) Do(fn func() error) error {
	if p.NS.IsHost() {
		return fn()
	}
	space, err := netns.Open(p.NS)
	if err != nil {
		return err
	}
	defer space.Close()
	return space.Do(fn)
}

// Socket is open on one device. It holds no namespace and no thread.
type Socket struct {
	Index int              // of the device
	MAC   net.HardwareAddr // of the device, when the socket was opened
	file  *os.File
	raw   syscall.RawConn
}

// Frame is what Receive returns.
type Frame struct {
	Data     []byte // from the hardware addresses on, without a VLAN tag
	Outgoing bool   // sent by this machine
	VLAN     int    // 0 without a tag
}

// Open opens a socket that receives what passes the filter, all that is sent on
// the device included. It waits up to patience for a device that is not ready to
// carry frames, and opens it even so. An error may be a kernel.ErrNoNamespace.
func Open(ctx context.Context, p Place, patience time.Duration, filter []bpf.Instruction) (*Socket, error) {
	s := &Socket{}
	if err := p.Do(func() error { return s.open(p.Device, filter) }); err != nil {
		return nil, fmt.Errorf("device %s: %w", p.Device, err)
	}
	// The socket is of its namespace, wherever it is asked from.
	for end := time.Now().Add(patience); !s.Running(p.Device) && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(pause)
	}
	return s, nil
}

// pause is the time between looks at a device that is not ready.
const pause = 5 * time.Millisecond

func (s *Socket) open(device string, filter []bpf.Instruction) error {
	// Of no protocol: until the filter is there, nothing is received.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("packet socket", err)
	}
	s.file = os.NewFile(uintptr(fd), "packet socket")
	s.raw, err = s.file.SyscallConn()
	for _, step := range []func() error{
		func() error { return err },
		func() error { return s.identify(fd, device) },
		func() error { return prepare(fd, s.Index, filter) },
	} {
		if err := step(); err != nil {
			return errors.Join(err, s.file.Close())
		}
	}
	return nil
}

// identify finds the device's number and hardware address.
func (s *Socket) identify(fd int, device string) error {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return err
	}
	s.Index = int(req.Uint32())
	hw := hardware{}
	copy(hw.name[:], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&hw)))
	switch {
	case errno != 0:
		return errno
	case hw.kind != unix.ARPHRD_ETHER:
		return errors.New("is no Ethernet device")
	}
	s.MAC = net.HardwareAddr(append([]byte(nil), hw.addr[:]...))
	return nil
}

// hardware is struct ifreq with a struct sockaddr (netdevice(7)).
type hardware struct {
	name [unix.IFNAMSIZ]byte
	kind uint16
	addr [6]byte
	_    [16]byte
}

// prepare binds the socket once it has its filter.
func prepare(fd, index int, filter []bpf.Instruction) error {
	code, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	prog := make([]unix.SockFilter, len(code))
	for i, in := range code {
		prog[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return os.NewSyscallError("attach filter", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return os.NewSyscallError("auxdata", err)
	}
	// Multicasts for the host come in although nobody else wants them.
	all := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_ALLMULTI}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &all); err != nil {
		return os.NewSyscallError("multicasts", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: index}))
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// Running reports whether the device, by its name, carries frames.
func (s *Socket) Running(device string) (yes bool) {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return false
	}
	_ = s.raw.Control(func(fd uintptr) {
		yes = unix.IoctlIfreq(int(fd), unix.SIOCGIFFLAGS, req) == nil && req.Uint16()&unix.IFF_RUNNING != 0
	})
	return yes
}

// Send sends a frame, which begins with the hardware addresses.
func (s *Socket) Send(frame []byte) error {
	var err error
	cerr := s.raw.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), frame, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: s.Index})
	})
	return errors.Join(os.NewSyscallError("send", err), cerr)
}

// Receive returns the next frame, read into b, which cuts a longer one. When
// until has come it is an os.ErrDeadlineExceeded; when ctx ends, ctx's error.
func (s *Socket) Receive(ctx context.Context, until time.Time, b []byte) (Frame, error) {
	if err := s.file.SetReadDeadline(until); err != nil {
		return Frame{}, err
	}
	stop := context.AfterFunc(ctx, func() { s.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var f Frame
	var err error
	cerr := s.raw.Read(func(fd uintptr) bool {
		f, err = receive(int(fd), b)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case ctx.Err() != nil:
		return Frame{}, ctx.Err()
	case cerr != nil:
		return Frame{}, cerr
	}
	return f, os.NewSyscallError("receive", err)
}

func receive(fd int, b []byte) (Frame, error) {
	var control [64]byte
	n, m, _, from, err := unix.Recvmsg(fd, b, control[:], unix.MSG_DONTWAIT)
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Data: b[:n], VLAN: tag(control[:m])}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		f.Outgoing = ll.Pkttype == unix.PACKET_OUTGOING
	}
	return f, nil
}

// Of struct tpacket_auxdata in include/uapi/linux/if_packet.h.
const (
	auxBytes   = 20
	auxStatus  = 0
	auxTag     = 16
	tagIsValid = 1 << 4 // TP_STATUS_VLAN_VALID
	tagIDs     = 0xfff
)

// tag reads the VLAN from a control message.
func tag(control []byte) int {
	msgs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range msgs {
		if m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < auxBytes {
			continue
		}
		if binary.NativeEndian.Uint32(m.Data[auxStatus:])&tagIsValid != 0 {
			return int(binary.NativeEndian.Uint16(m.Data[auxTag:])) & tagIDs
		}
	}
	return 0
}

// Close closes the socket.
func (s *Socket) Close() error { return s.file.Close() }
