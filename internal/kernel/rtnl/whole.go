package rtnl

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolCommand is struct ethtool_value of linux/ethtool.h, interfaceRequest
// struct ifreq of linux/if.h with a pointer to it.
type (
	ethtoolCommand   struct{ cmd, value uint32 }
	interfaceRequest struct {
		name  [unix.IFNAMSIZ]byte
		value unsafe.Pointer
		_     [16]byte // of the union
	}
)

// SendWhole has a device of the thread's namespace leave nothing of what it sends
// to hardware that is not there: checksums, and with them cutting TCP's segments
// into frames (netdev_fix_features in net/core/dev.c).
func SendWhole(dev string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	off := &ethtoolCommand{cmd: unix.ETHTOOL_STXCSUM}
	req := interfaceRequest{value: unsafe.Pointer(off)}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(off)
	if errno != 0 {
		return fmt.Errorf("device %s: turn checksum offload off: %w", dev, errno)
	}
	return nil
}
