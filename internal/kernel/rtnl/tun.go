package rtnl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// cloneDevice is where TUN devices are made: rtnetlink can only remove them.
const cloneDevice = "/dev/net/tun"

// tunFlags are what a program that attaches to a device of ours must ask for too.
const tunFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE

// makeTUN makes a TUN device in the host's namespace under an index of our choice.
// It goes with the file until it is told to stay, and that is the last step: so
// none is ever there without our mark.
func (p *pass) makeTUN(name string, index int) error {
	p.flush() // what has the name may be on its way out
	_, err := p.host().device(name)
	if err == nil {
		return &refusal{errno: unix.EEXIST}
	}
	if !errors.Is(err, kernel.ErrMissing) {
		return err
	}
	f, err := p.openTUN()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := attach(f, name, index); err != nil {
		return err
	}
	m := change(index, false, false).u32(unix.IFLA_GROUP, groupOurs)
	if err := p.host().sock.send([]*message{m})[0]; err != nil {
		return err
	}
	return os.NewSyscallError("TUNSETPERSIST", unix.IoctlSetInt(int(f.Fd()), unix.TUNSETPERSIST, 1))
}

// openTUN opens a file whose device will be in the host's namespace.
func (p *pass) openTUN() (f *os.File, err error) {
	err = p.c.host.Do(func() error {
		f, err = os.OpenFile(cloneDevice, os.O_RDWR, 0)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("%w: %w", kernel.ErrUnsupported, err)
	}
	return f, err
}

// attach makes the device of a file. With an owner nobody but him may attach, nor
// without the right to administer the network (tun_capable in drivers/net/tun.c).
func attach(f *os.File, name string, index int) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("device name %q: %w", name, err)
	}
	req.SetUint16(tunFlags | unix.IFF_TUN_EXCL)
	fd := int(f.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETIFINDEX, index); err != nil {
		return os.NewSyscallError("TUNSETIFINDEX", err)
	}
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("make a tun device: %w", &refusal{errno: errnoOf(err)})
	}
	return os.NewSyscallError("TUNSETOWNER", unix.IoctlSetInt(fd, unix.TUNSETOWNER, 0))
}

// errnoOf returns what a system call failed with.
func errnoOf(err error) unix.Errno {
	errno, _ := errors.AsType[unix.Errno](err)
	return errno
}
