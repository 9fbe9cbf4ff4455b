package probe

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// TUN asks for devices whose packets a program carries, with several queues.
func TUN() error {
	return apart(func() error {
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil {
			return sure(err, fs.ErrNotExist, unix.ENODEV, unix.ENXIO)
		}
		defer f.Close() // and with it the device
		req, err := unix.NewIfreq("probe0")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
		if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req); err != nil {
			return sure(fmt.Errorf("make a tun device: %w", err), unix.EINVAL)
		}
		return nil
	})
}
