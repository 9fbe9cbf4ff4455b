package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// listenFD is the first descriptor that systemd passes, sd_listen_fds(3).
const listenFD = 3

// activate becomes a command with listening sockets, as systemd would start it:
// the first has no name of its own, the others are NAME=SOCKET.
func activate(args []string) error {
	var names []string
	var fds []int
	for len(args) > 0 && strings.Contains(args[0], "/") {
		name, path, named := strings.Cut(args[0], "=")
		if !named {
			name, path = "unknown", args[0]
		}
		fd, err := listenHigh(path)
		if err != nil {
			return err
		}
		names, fds, args = append(names, name), append(fds, fd), args[1:]
	}
	if len(names) == 0 || len(args) == 0 {
		return errors.New("want [NAME=]SOCKET… CMD [ARG…]")
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	env := append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(fds)), fmt.Sprintf("LISTEN_PID=%d", os.Getpid()), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	for i, fd := range fds { // last: these may be descriptors of Go's own
		if err := unix.Dup3(fd, listenFD+i, 0); err != nil {
			return err
		}
	}
	return unix.Exec(path, args, env)
}

// listenHigh listens at path, with a descriptor above those that are passed.
func listenHigh(path string) (int, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return 0, err
	}
	f, err := l.File()
	if err != nil {
		return 0, err
	}
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 64)
}

// notified prints the first datagram that a unix socket gets, as systemd reads
// sd_notify(3).
func notified(args []string) error {
	if len(args) != 1 {
		return errors.New("want SOCKET")
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: args[0], Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 1<<12)
	n, err := c.Read(buf)
	fmt.Printf("%s\n", buf[:n])
	return err
}
