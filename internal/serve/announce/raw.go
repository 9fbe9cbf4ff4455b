package announce

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// raw sends frames on the bridge device of a port.
type raw struct {
	fd    int
	ports *ports
}

func newRaw(p *ports) (sender, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // protocol 0: receives nothing
	if err != nil {
		return nil, os.NewSyscallError("packet socket", err)
	}
	return raw{fd, p}, nil
}

func (r raw) send(port int, frame []byte) error {
	l, err := r.ports.link(port, -1)
	if err != nil {
		return err
	}
	if l.master == 0 {
		return fmt.Errorf("device %d: is in no bridge", port)
	}
	return os.NewSyscallError("send", unix.Sendto(r.fd, frame, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: l.master}))
}

func (r raw) close() error { return unix.Close(r.fd) }
