package netns

import (
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// holdName is an abstract socket (unix(7)): its name is one of the network
// namespace, and free as soon as the process ends, however that does.
const holdName = "@sealane"

// Hold keeps other daemons from holding the network namespace of the process until the
// result is closed: theirs fails, and says which process has it. Only root's count, for
// any user can take the name.
func Hold() (io.Closer, error) {
	at := &net.UnixAddr{Name: holdName, Net: "unix"}
	l, err := net.ListenUnix("unix", at)
	if err == nil {
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
		return l, nil
	}
	if pid := rootsAt(at); pid >= 0 {
		return nil, fmt.Errorf("network namespace: another daemon serves it (process %d): start one in a namespace of its own, as by ip netns exec", pid)
	}
	return io.NopCloser(nil), nil
}

// rootsAt returns the process that listens at a socket if it is root's and answers,
// or -1. It is 0 if it is in no process namespace of ours.
func rootsAt(at *net.UnixAddr) int {
	c, err := net.DialUnix("unix", nil, at)
	if err != nil {
		return -1
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	pid := -1
	raw.Control(func(fd uintptr) {
		if peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil && peer.Uid == 0 {
			pid = int(peer.Pid)
		}
	})
	return pid
}
