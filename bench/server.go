package main

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// server is two threads in a container's namespace, on processor 1: one sends a
// byte to each TCP connection and closes it, one returns each datagram.
type server struct {
	first bool // go before all other threads
	over  atomic.Bool
	ended chan error // what either ended with
}

// nap is how long a server waits before it looks whether it is over.
const nap = 100 * time.Millisecond

// answerPort is the server's, TCP and UDP.
const answerPort = 6000

// serve starts a server in a namespace and returns when it listens.
func (h *host) serve(netns string, first bool) (*server, error) {
	s := &server{first: first, ended: make(chan error, 2)}
	listens := make(chan struct{}, 2)
	for _, loop := range []func(chan<- struct{}) error{s.greet, s.reflect} {
		go func() {
			s.ended <- h.within(netns, 1, func() error { return s.run(loop, listens) })
		}()
	}
	for range 2 {
		select {
		case <-listens:
		case err := <-s.ended:
			s.ended <- nil
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// run calls a server's loop.
func (s *server) run(loop func(chan<- struct{}) error, listens chan<- struct{}) error {
	if s.first {
		if err := urgent(); err != nil {
			return err
		}
	}
	return loop(listens)
}

// close ends the server and returns what went wrong in it.
func (s *server) close() error {
	s.over.Store(true)
	return errors.Join(<-s.ended, <-s.ended)
}

// greet accepts connections.
func (s *server) greet(listens chan<- struct{}) error {
	l, err := listenTCP(answerPort, unix.SOMAXCONN, nap)
	if err != nil {
		return err
	}
	defer unix.Close(l)
	listens <- struct{}{}
	for !s.over.Load() {
		c, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if passing(err) {
			continue
		}
		if err != nil {
			return err
		}
		// A client that is gone, or asked too late, has its own error.
		_, _ = unix.Write(c, []byte{'!'})
		unix.Close(c)
	}
	return nil
}

// reflect returns datagrams.
func (s *server) reflect(listens chan<- struct{}) error {
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	wait := unix.NsecToTimeval(int64(nap))
	err = errors.Join(unix.SetsockoptTimeval(c, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait), unix.Bind(c, &unix.SockaddrInet4{Port: answerPort}))
	if err != nil {
		return err
	}
	listens <- struct{}{}
	for buf := make([]byte, 2048); !s.over.Load(); {
		n, from, err := unix.Recvfrom(c, buf, 0)
		if passing(err) {
			continue
		}
		if err == nil {
			err = unix.Sendto(c, buf[:n], 0, from)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// passing reports whether an error means to try again.
func passing(err error) bool {
	return err == unix.EAGAIN || err == unix.EINTR || err == unix.ECONNABORTED
}
