package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// listenFD is the first descriptor that systemd passes, sd_listen_fds(3).
const listenFD = 3

// activate becomes a command with a listening socket, as systemd would start it.
func activate(args []string) error {
	if len(args) < 2 {
		return errors.New("want SOCKET CMD [ARG…]")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: args[0], Net: "unix"})
	if err != nil {
		return err
	}
	f, err := l.File()
	if err != nil {
		return err
	}
	// Both ends of a copy must differ; our descriptor may be the third already.
	if f.Fd() == listenFD {
		return errors.New("descriptor 3 is taken")
	}
	if err := syscall.Dup3(int(f.Fd()), listenFD, 0); err != nil {
		return err
	}
	path, err := exec.LookPath(args[1])
	if err != nil {
		return err
	}
	env := append(os.Environ(), "LISTEN_FDS=1", "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	return syscall.Exec(path, args[1:], env)
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
