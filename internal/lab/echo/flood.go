package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Of a crowd: how many connections are opened at a time, and after how many
// the ones that the other side has ended are given up.
const (
	crowdWorkers = 64
	crowdSweep   = 2000
)

// crush opens connections and holds those that the other side does not end.
type crush struct {
	to             string
	dialer         net.Dialer
	left           atomic.Int64 // how many are still to be opened
	opened, failed atomic.Int64

	mu   sync.Mutex // protects held
	held []*net.TCPConn
}

// crowd opens many connections, says how many of them are alive, and holds
// those until it is killed.
func crowd(args []string) error {
	f := flags("crowd")
	count := f.Int("count", 1000, "")
	from := f.String("from", "", "")
	to := argument(f, args)
	c := &crush{to: to, dialer: net.Dialer{Timeout: 10 * time.Second}}
	if *from != "" {
		a, err := netip.ParseAddr(*from)
		if err != nil {
			return err
		}
		c.dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
		c.dialer.Control = latePort
	}
	c.left.Store(int64(*count))
	begun := time.Now()
	var all sync.WaitGroup
	for range crowdWorkers {
		all.Go(c.open)
	}
	all.Wait()
	time.Sleep(time.Second) // what is refused has been by now
	c.sweep()
	fmt.Printf("opened %d\nfailed %d\nalive %d\ntook %v\nready\n", c.opened.Load(), c.failed.Load(), len(c.held), time.Since(begun).Round(time.Millisecond))
	time.Sleep(time.Hour)
	return nil
}

// latePort leaves the choice of a port to connect, so that ports are used again
// for other destinations (IP_BIND_ADDRESS_NO_PORT, ip(7)).
func latePort(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return errors.Join(cerr, err)
}

func (c *crush) open() {
	for c.left.Add(-1) >= 0 {
		conn, err := c.dialer.Dial("tcp", c.to)
		if err != nil {
			c.failed.Add(1)
			continue
		}
		c.hold(conn.(*net.TCPConn))
	}
}

func (c *crush) hold(conn *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = append(c.held, conn)
	if c.opened.Add(1)%crowdSweep == 0 {
		c.sweep()
	}
}

// sweep gives up the connections that the other side has ended. It needs mu,
// or to be alone.
func (c *crush) sweep() {
	c.held = slices.DeleteFunc(c.held, func(conn *net.TCPConn) bool {
		if ended(conn) {
			conn.Close()
			return true
		}
		return false
	})
}

// ended reports whether there is something to read: an end or a reset, from a
// server that waits to be asked.
func ended(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	peeked := error(unix.EAGAIN)
	err = raw.Control(func(fd uintptr) {
		_, _, peeked = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err != nil || !errors.Is(peeked, unix.EAGAIN)
}

// floodDNS asks for names without end and takes no answer.
func floodDNS(args []string) error {
	f := flags("pester")
	length := f.Duration("for", 10*time.Second, "")
	domain := f.String("domain", "example.org", "")
	mode := f.String("mode", "udp", "")
	server := argument(f, args)
	ask, ok := map[string]func(*net.Dialer, string, string) (int, error){
		"udp": pesterUDP, "tcp": pesterTCP, "half": pesterHalf,
	}[*mode]
	if !ok {
		return fmt.Errorf("mode %s: want udp, tcp or half", *mode)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *length)
	defer cancel()
	asked := 0
	for ctx.Err() == nil {
		n, err := ask(&net.Dialer{Timeout: time.Second}, net.JoinHostPort(server, "53"), *domain)
		asked += n
		if err != nil {
			time.Sleep(time.Millisecond) // refused; it would not be asked in vain
		}
	}
	fmt.Println("asked", asked)
	return nil
}

// randomQuestion is about a name that nobody has asked for.
func randomQuestion(domain string) []byte {
	m := new(dns.Msg).SetQuestion(fmt.Sprintf("%x.%s.", rand.Uint64(), domain), dns.TypeA)
	wire, err := m.Pack()
	if err != nil {
		panic(err) // the domain is the test's own
	}
	return wire
}

func pesterUDP(d *net.Dialer, to, domain string) (int, error) {
	c, err := d.Dial("udp", to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for i := range 1000 {
		if _, err := c.Write(randomQuestion(domain)); err != nil {
			return i, err
		}
	}
	return 1000, nil
}

// pesterTCP asks on one connection until nothing more is taken.
func pesterTCP(d *net.Dialer, to, domain string) (int, error) {
	c, err := d.Dial("tcp", to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	for i := 0; ; i++ {
		wire := randomQuestion(domain)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)); err != nil {
			return i, err
		}
	}
}

// pesterHalf announces a question and never sends it.
func pesterHalf(d *net.Dialer, to, _ string) (int, error) {
	c, err := d.Dial("tcp", to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.Write([]byte{0xff, 0xff, 0}); err != nil {
		return 0, err
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = io.Copy(io.Discard, c)
	return 1, err
}
