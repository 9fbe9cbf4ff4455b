package linux

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// number returns the number of a device in the host's namespace, or
// fs.ErrNotExist.
func (l *Linux) number(device string) (index int, err error) {
	err = l.host.Do(func() error {
		index, err = ifIndex(device)
		return err
	})
	return index, err
}

func ifIndex(device string) (int, error) {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return 0, fs.ErrNotExist // no device has such a name
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
	if err == unix.ENODEV {
		return 0, fs.ErrNotExist
	}
	return int(req.Uint32()), err
}

// tap reports whether a device in the host's namespace is a tap.
func (l *Linux) tap(device string) (is bool) {
	err := l.host.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		info, err := unix.IoctlGetEthtoolDrvinfo(fd, device)
		is = err == nil && unix.ByteSliceToString(info.Driver[:]) == "tun" && unix.ByteSliceToString(info.Bus_info[:]) == "tap"
		return err
	})
	return err == nil && is
}
