package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// place is a published port with a server behind it, and a client.
type place struct {
	*host
	client string     // namespace that clients are in
	server string     // namespace of the container
	to     netip.Addr // where clients reach the ports
	port   int        // of answerPort, on the host
}

// How long a run counts, and how many requests are under way at once.
const (
	countFor = time.Second
	window   = 32
)

// patience is how long a client waits for an answer. It is lost then, and the
// run fails: nothing here drops packets.
const patience = 5 * time.Second

// connections returns a run that makes TCP connections, a window of them at
// once. Its result is how many there were in a second that a byte came by, and
// that the server closed.
func (p place) connections() block {
	return func() (rate float64, err error) {
		var conns []int
		rate, err = p.rate(func() (int, error) {
			for len(conns) < window {
				c, err := p.dial(unix.SOCK_STREAM, p.port)
				if err != nil {
					return 0, err
				}
				conns = append(conns, c)
			}
			err := greeting(conns[0])
			unix.Close(conns[0])
			conns = conns[1:]
			return 1, err
		})()
		for _, c := range conns {
			unix.Close(c)
		}
		return rate, err
	}
}

// greeting reads one byte and the end.
func greeting(c int) error {
	var buf [2]byte
	for _, want := range []int{1, 0} {
		n, err := unix.Read(c, buf[:])
		for err == unix.EINTR {
			n, err = unix.Read(c, buf[:])
		}
		if err != nil || n != want {
			return fmt.Errorf("connection: %d bytes instead of %d: %w", n, want, err)
		}
	}
	return nil
}

// dial returns a socket that is connected, or will be: whoever reads from it
// waits for that, too.
func (p place) dial(kind, port int) (int, error) {
	c, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	wait := unix.NsecToTimeval(int64(patience))
	err = errors.Join(unix.SetsockoptTimeval(c, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait), unix.SetNonblock(c, true))
	if err == nil {
		err = unix.Connect(c, &unix.SockaddrInet4{Port: port, Addr: p.to.As4()})
	}
	if err == nil || err == unix.EINPROGRESS {
		err = unix.SetNonblock(c, false)
	}
	if err != nil {
		unix.Close(c)
		return 0, fmt.Errorf("connect %s port %d: %w", p.to, port, err)
	}
	return c, nil
}

// datagrams returns a run that sends datagrams from one socket. Its result is
// how many answers there were in a second.
func (p place) datagrams() block {
	return func() (rate float64, err error) {
		c := -1
		rate, err = p.rate(func() (int, error) {
			if c >= 0 {
				return exchange(c)
			}
			if c, err = p.dial(unix.SOCK_DGRAM, p.port); err != nil {
				return 0, err
			}
			for range window {
				if _, err := unix.Write(c, make([]byte, 64)); err != nil {
					return 0, fmt.Errorf("datagram: %w", err)
				}
			}
			return 0, nil
		})()
		unix.Close(c)
		return rate, err
	}
}

// exchange has a window of datagrams under way until as many have come back, and
// sends one more for each.
func exchange(c int) (int, error) {
	var buf [64]byte
	for got := 0; got < window; {
		_, err := unix.Read(c, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			_, err = unix.Write(c, buf[:])
		}
		if err != nil {
			return 0, fmt.Errorf("datagram: %w", err)
		}
		got++
	}
	return window, nil
}

// rate returns a run that repeats fn on processor 0 in the client's namespace
// and sums up what it returns, per second. The first one is not counted.
func (p place) rate(fn func() (int, error)) block {
	return func() (rate float64, err error) {
		err = p.within(p.client, 0, func() error {
			if _, err := fn(); err != nil {
				return err
			}
			sum, start := 0, time.Now()
			for time.Since(start) < countFor {
				n, err := fn()
				if err != nil {
					return err
				}
				sum += n
			}
			rate = float64(sum) / time.Since(start).Seconds()
			return nil
		})
		return rate, err
	}
}

// slowest returns a run that makes connections one after the other, each until
// its answer. Its result is the 99th percentile of what they took. It goes
// before what else runs on the processor: one in a hundred would meet it.
func (p place) slowest() block {
	const n = 3000
	return func() (float64, error) {
		var each []float64
		err := p.within(p.client, 0, func() error {
			if err := urgent(); err != nil {
				return err
			}
			for range n {
				took, err := timed(p.greeted)
				if err != nil {
					return err
				}
				each = append(each, took)
			}
			return nil
		})
		return quantile(each, 0.99), err
	}
}

// greeted makes a connection and waits until it has ended.
func (p place) greeted() error {
	c, err := p.dial(unix.SOCK_STREAM, p.port)
	if err != nil {
		return err
	}
	defer unix.Close(c)
	return greeting(c)
}

// urgent lets the thread go before all others.
func urgent() error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
}

// bulk returns a run of one stream through the port that has the same number on
// both sides.
func (p place) bulk() block { return p.bulkBlock(p.client, p.server, p.to) }
