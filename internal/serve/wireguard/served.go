package wireguard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/sealane/sealane/internal/serve/notice"
)

// served is a TUN device that wireguard-go serves in this process. It sends and
// receives at all addresses of the host, as the kernel's own devices do.
type served struct {
	dev *device.Device
	tun *ours
}

// serve attaches to a TUN device of the process' network namespace. It was made
// persistent, with IFF_MULTI_QUEUE, IFF_NO_PI and IFF_VNET_HDR, and outlasts this
// process: what is routed there meanwhile is lost, the routes are not.
func serve(name string, log *device.Logger) (*served, error) {
	fd, err := attach(name)
	if err != nil {
		return nil, err
	}
	dev, _, err := tun.CreateUnmonitoredTUNFromFD(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	t := &ours{Device: dev, events: make(chan tun.Event, 1)}
	return &served{device.NewDevice(t, conn.NewDefaultBind(), log), t}, nil
}

// attach opens the one queue of a device that is used.
func attach(name string) (fd int, err error) {
	_, err = netlink.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return -1, fmt.Errorf("device %s: %w", name, os.ErrNotExist) // it would be made, and go with us
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err == nil {
		// The size that wireguard-go has; backend udp leaves another one behind.
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, sizeofVirtioNetHdr)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("attach to %s: %w", name, err), unix.Close(fd))
	}
	return fd, nil
}

// sizeofVirtioNetHdr is that of struct virtio_net_hdr, without its later fields
// (linux/virtio_net.h).
const sizeofVirtioNetHdr = 10

// ours is the device as wireguard-go sees it. It is never down: whether packets come
// is the engine's business.
type ours struct {
	tun.Device
	events chan tun.Event

	mu     sync.Mutex // protects the following
	closed bool
}

// measure has wireguard-go look at the device's MTU.
func (o *ours) measure() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	select {
	case o.events <- tun.EventMTUUpdate:
	default:
	}
}

// Events implements tun.Device.
func (o *ours) Events() <-chan tun.Event { return o.events }

// Close implements tun.Device. The device itself stays.
func (o *ours) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		close(o.events)
	}
	o.closed = true
	return o.Device.Close()
}

// read implements keeping.
func (s *served) read() (state, error) {
	s.tun.measure()
	text, err := s.dev.IpcGet()
	if err != nil {
		return state{}, err
	}
	return parseState(text)
}

// change implements keeping. The first one opens the socket.
func (s *served) change(c change) error {
	if err := s.dev.IpcSet(change{Private: c.Private, port: c.port}.text()); err != nil {
		return err
	}
	if err := s.dev.Up(); err != nil {
		return err
	}
	return s.dev.IpcSet(change{peers: c.peers}.text())
}

// ended implements keeping.
func (s *served) ended() <-chan struct{} { return s.dev.Wait() }

// watched implements keeping: nobody else has a way to this one.
func (s *served) watched() bool { return false }

// close implements keeping.
func (s *served) close() { s.dev.Close() }

// logger has what wireguard-go says in the log: complaints, which may be many, one a
// minute, and the rest where debugging is on. Peers are named by the ends of their
// public keys.
func logger(log *slog.Logger, complaint *notice.Notice, name string) *device.Logger {
	l := &device.Logger{Verbosef: device.DiscardLogf, Errorf: func(format string, args ...any) {
		complaint.Say("device", name, "what", fmt.Sprintf(format, args...))
	}}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		l.Verbosef = func(format string, args ...any) {
			log.Debug("wireguard", "device", name, "what", fmt.Sprintf(format, args...))
		}
	}
	return l
}
