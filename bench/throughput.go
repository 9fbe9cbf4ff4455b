package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridgeCalls is whether the host's packet filters see what crosses a bridge.
const bridgeCalls = "/proc/sys/net/bridge/bridge-nf-call-iptables"

// throughputRows measures one TCP stream between two containers on one bridge,
// against a veth pair without anything between, of the same MTU. Where the
// kernel has br_netfilter, Docker turns it on; that is a row of its own.
func throughputRows(b *bench) error {
	for _, calls := range []string{"0", "1"} {
		if err := throughputRow(b, calls); err != nil && !(calls == "1" && errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return nil
}

func throughputRow(b *bench, calls string) error {
	s, err := b.newSealane()
	if err != nil {
		return err
	}
	defer s.close()
	err = s.do(func() error { return os.WriteFile(bridgeCalls, []byte(calls), 0o644) })
	if err != nil && !(calls == "0" && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	bridged, err := s.spaces("bridged", 2)
	if err == nil {
		_, err = s.attachAll(bridged)
	}
	if err != nil {
		return err
	}
	bare, err := s.barePair()
	if err != nil {
		return err
	}
	o, err := b.contest(b.times(21), s.bulkBlock(bridged), s.bulkBlock(bare))
	if err != nil {
		return err
	}
	what := "container to container / bare veth"
	if calls == "1" {
		what += ", br_netfilter"
	}
	b.table.compared(what, o, gbits, o.ratio().inverse(), atLeast(0.95, times))
	return nil
}

// bareMTU is that of our networks in a host without a way out.
const bareMTU = 1500

// barePair makes two namespaces with a veth pair between them.
func (s *sealane) barePair() ([]string, error) {
	paths, err := s.spaces("bare", 2)
	if err != nil {
		return nil, err
	}
	far, err := netns.GetFromPath(s.path(paths[1]))
	if err != nil {
		return nil, err
	}
	defer far.Close()
	return paths, s.within(paths[0], 0, func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: bareMTU, TxQLen: -1}, PeerName: "eth0", PeerMTU: bareMTU, PeerNamespace: netlink.NsFd(far)}
		if err := netlink.LinkAdd(veth); err != nil {
			return err
		}
		if err := configure("192.168.99.1/24"); err != nil {
			return err
		}
		return s.within(paths[1], 0, func() error { return configure("192.168.99.2/24") })
	})
}

// configure sets eth0 of the thread's namespace up with an address.
func configure(address string) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
}

// within calls fn on a thread in a namespace, on one processor.
func (s *sealane) within(path string, cpu int, fn func() error) error {
	f, err := os.Open(s.path(path))
	if err != nil {
		return err
	}
	defer f.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		var cpus unix.CPUSet
		cpus.Set(cpu % runtime.NumCPU())
		err := unix.SchedSetaffinity(0, &cpus)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	return <-done
}

// How long a stream is counted, and how long it runs before: TCP has to find
// its pace.
const (
	bulkWarm  = 200 * time.Millisecond
	bulkCount = time.Second
	bulkPort  = 5201
)

// bulkBlock returns a run that sends from the first namespace, on processor 0,
// to the second, on processor 1. Its result is in bits per second.
func (s *sealane) bulkBlock(paths []string) block {
	return func() (rate float64, err error) {
		to := make(chan netip.Addr, 1)
		sent := make(chan error, 1)
		go func() {
			sent <- s.within(paths[0], 0, func() error { return sendBulk(<-to) })
		}()
		err = s.within(paths[1], 1, func() (err error) {
			rate, err = receiveBulk(to)
			return err
		})
		close(to) // a sender that still waits gets no address
		return rate, errors.Join(err, <-sent)
	}
}

// receiveBulk says where it listens and counts what comes in.
func receiveBulk(to chan<- netip.Addr) (float64, error) {
	addr, err := ownAddress()
	if err != nil {
		return 0, err
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(l)
	patience := unix.Timeval{Sec: 5}
	err = errors.Join(unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptTimeval(l, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.Bind(l, &unix.SockaddrInet4{Port: bulkPort}), unix.Listen(l, 1))
	if err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	to <- addr
	c, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("accept: %w", err)
	}
	defer unix.Close(c)
	return countBulk(c)
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
	if !to.IsValid() {
		return nil // the receiver has its own error
	}
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

// ownAddress is the IPv4 address of eth0 in the thread's namespace.
func ownAddress() (netip.Addr, error) {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("eth0: no address: %w", err)
	}
	a, _ := netip.AddrFromSlice(addrs[0].IP.To4())
	return a, nil
}
