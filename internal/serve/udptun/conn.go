package udptun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bufferBytes is how much a socket may hold, in either direction: 7 MB carry the
// stream of a long path over a pause of the process.
const bufferBytes = 7 << 20

// none is no descriptor.
const none = -1

// offload is what the kernel takes from the device beyond single packets.
type offload struct {
	uso bool // UDP cut by the receiver: Linux 6.2
}

// attach opens a queue of a TUN device that is there.
func attach(device string) (fd int, o offload, err error) {
	_, err = netlink.LinkByName(device)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return none, o, errNotPersistent
	}
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return none, o, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if o, err = take(fd, device); err != nil {
		return none, o, errors.Join(err, unix.Close(fd))
	}
	return fd, o, nil
}

func take(fd int, device string) (o offload, err error) {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return o, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return o, fmt.Errorf("attach: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, req); err != nil {
		return o, fmt.Errorf("flags: %w", err)
	}
	if req.Uint16()&unix.IFF_PERSIST == 0 {
		return o, errNotPersistent
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetLen); err != nil {
		return o, fmt.Errorf("header length: %w", err)
	}
	const tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
		return offload{uso: true}, nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp); err != nil {
		return o, fmt.Errorf("offload: %w", err)
	}
	return o, nil
}

// errNotPersistent is also what comes of a device that was not there: attaching to
// it would make one that goes with the descriptor, of which all who watch would hear.
var errNotPersistent = errors.New("no persistent device of that name")

// listen opens a socket, one of several (shared) at the same address.
func listen(local netip.AddrPort, shared bool) (fd int, err error) {
	domain := unix.AF_INET
	if local.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return none, os.NewSyscallError("udp socket", err)
	}
	if err := bind(fd, local, shared); err != nil {
		return none, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func bind(fd int, local netip.AddrPort, shared bool) error {
	if shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("reuse port", err)
		}
	}
	if local.Addr().Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return os.NewSyscallError("ipv6 only", err)
		}
	}
	enlarge(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF)
	enlarge(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF)
	// Without it, as before Linux 5.0, datagrams come one by one.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	var name [unix.SizeofSockaddrInet6]byte
	n := putName(&name, local)
	_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(n))
	if errno != 0 {
		return fmt.Errorf("bind %v: %w", local, errno)
	}
	return nil
}

// enlarge sets a buffer past the system's limit, or up to it where that takes a
// privilege that we lack. Less will do.
func enlarge(fd, force, ask int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bufferBytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, ask, bufferBytes)
	}
}

// How long the kernel may take to work off the news that the device has a carrier.
// Until then it drops what is sent there.
const (
	carrierTime  = time.Second
	carrierPause = 2 * time.Millisecond
)

// awaitCarrier waits until a device that is up takes packets; not for ever. The
// answer comes when the news is worked off entirely: both hold the same lock.
func awaitCarrier(device string) {
	for end := time.Now().Add(carrierTime); time.Now().Before(end); time.Sleep(carrierPause) {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return
		}
		if flags := link.Attrs().RawFlags; flags&unix.IFF_UP == 0 || flags&unix.IFF_RUNNING != 0 {
			return
		}
	}
}
