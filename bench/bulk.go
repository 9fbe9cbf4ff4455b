package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// How long a stream is counted, and how long it runs before: TCP has to find
// its pace.
const (
	bulkWarm  = 200 * time.Millisecond
	bulkCount = time.Second
	bulkPort  = 5201
)

// bulkBlock returns a run that sends from a namespace, on processor 0, to
// another, on processor 1, by an address of either that leads there. Its result
// is in bits per second.
func (h *host) bulkBlock(from, into string, to netip.Addr) block {
	return bulkBetween(spot{h, from}, spot{h, into}, to)
}

// spot is a namespace of a host.
type spot struct {
	*host
	space string
}

// bulkBetween is bulkBlock between two hosts, or within one.
func bulkBetween(from, into spot, to netip.Addr) block {
	return func() (rate float64, err error) {
		listens := make(chan struct{}, 1)
		sent := make(chan error, 1)
		go func() {
			sent <- from.within(from.space, 0, func() error {
				if _, ok := <-listens; !ok {
					return nil // the receiver has its own error
				}
				return sendBulk(to)
			})
		}()
		err = into.within(into.space, 1, func() (err error) {
			rate, err = receiveBulk(listens)
			return err
		})
		close(listens)
		return rate, errors.Join(err, <-sent)
	}
}

// receiveBulk says when it listens and counts what comes in.
func receiveBulk(listens chan<- struct{}) (float64, error) {
	l, err := listenTCP(bulkPort, 1, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer unix.Close(l)
	listens <- struct{}{}
	c, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("accept: %w", err)
	}
	defer unix.Close(c)
	return countBulk(c)
}

// listenTCP listens on all IPv4 addresses. Whoever waits on the socket waits no
// longer than patience.
func listenTCP(port, backlog int, patience time.Duration) (int, error) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	wait := unix.NsecToTimeval(int64(patience))
	err = errors.Join(unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptTimeval(l, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.Bind(l, &unix.SockaddrInet4{Port: port}), unix.Listen(l, backlog))
	if err != nil {
		unix.Close(l)
		return 0, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// countBulk reads to the end and returns the rate after the warm-up.
func countBulk(c int) (float64, error) {
	buf := make([]byte, 256<<10)
	begin := time.Now().Add(bulkWarm)
	var from, last time.Time
	bytes := 0
	for {
		n, err := unix.Read(c, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return 8 * float64(bytes) / last.Sub(from).Seconds(), err
		}
		switch last = time.Now(); {
		case last.Before(begin):
		case from.IsZero():
			from = last
		default:
			bytes += n
		}
	}
}

func sendBulk(to netip.Addr) error {
	c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	if err := unix.Connect(c, &unix.SockaddrInet4{Port: bulkPort, Addr: to.As4()}); err != nil {
		return fmt.Errorf("connect %s: %w", to, err)
	}
	buf := make([]byte, 128<<10)
	for end := time.Now().Add(bulkWarm + bulkCount); time.Now().Before(end); {
		if _, err := unix.Write(c, buf); err != nil && err != unix.EINTR {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}
