package rtnl

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/netns"
)

// ports gives our sockets port ids that are recognised by range, so that Watch
// tells our own addresses and routes from those of others, whichever socket
// made them:
//
//	01 pppppppppppppppppppppp cccccccc    process id (22 bits), counter
//
// The kernel's own choice for a socket is the bare process id or a negative
// number, libnl's a process id with a small counter above it.
type ports struct {
	base uint32
	next atomic.Uint32
	bufs sync.Pool // of *[bufferSize]byte, for the sockets
}

const portBits = 8

func newPorts() *ports {
	p := &ports{base: 1<<30 | uint32(os.Getpid())&(1<<22-1)<<portBits}
	p.bufs.New = func() any { return new([bufferSize]byte) }
	return p
}

// own reports whether a port id is one of ours.
func (p *ports) own(id uint32) bool { return id>>portBits == p.base>>portBits }

// bind gives a socket the next port id that is free in its namespace.
func (p *ports) bind(fd int, groups uint32) error {
	var err error
	for range 1 << portBits {
		id := p.base | p.next.Add(1)&(1<<portBits-1)
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: id, Groups: groups})
		if !errors.Is(err, unix.EADDRINUSE) {
			return err
		}
	}
	return err
}

// open opens a socket in a namespace.
func (p *ports) open(h *netns.Handle) (*socket, error) {
	s := &socket{fd: -1, ports: p}
	err := h.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// Older kernels lack some of these; what they do is then missing.
	for _, opt := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, opt, 1)
	}
	if err := p.bind(s.fd, 0); err != nil {
		unix.Close(s.fd)
		return nil, fmt.Errorf("netlink socket: bind: %w", err)
	}
	s.buf = p.bufs.Get().(*[bufferSize]byte)
	return s, nil
}
