package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ICMP types of echo, RFC 792 and RFC 4443.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// ping sends one echo request and waits for its reply.
func ping(args []string) error {
	f := flags("ping")
	timeout := f.Duration("timeout", 2*time.Second, "")
	size := f.Int("size", 56, "")
	whole := f.Bool("whole", false, "")
	to := argument(f, args)
	if *whole {
		return pingWhole(to, *size, *timeout)
	}
	return pingOnce(to, *size, *timeout)
}

// pingOnce sends a request with size bytes of data.
func pingOnce(to string, size int, timeout time.Duration) error {
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return err
	}
	network, request, reply := "ip4:icmp", byte(echoRequest4), byte(echoReply4)
	if addr.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	c, err := net.DialTimeout(network, to, timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	return pingPong(c, addr, echo(request, size), reply, timeout)
}

// pingWhole is pingOnce with a packet that nobody may cut. Of one that is too big it
// prints what is not, if somebody says so.
func pingWhole(to string, size int, timeout time.Duration) error {
	addr, err := netip.ParseAddr(to)
	if err != nil {
		return err
	}
	network, level, whether, how, which := "ip4:icmp", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU
	request, reply := byte(echoRequest4), byte(echoReply4)
	if addr.Is6() {
		network, level, whether, how, which = "ip6:ipv6-icmp", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU
		request, reply = echoRequest6, echoReply6
	}
	d := net.Dialer{Timeout: timeout, Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, whether, how) })
		return err
	}}
	c, err := d.Dial(network, to)
	if err != nil {
		return err
	}
	defer c.Close()
	err = pingPong(c, addr, echo(request, size), reply, timeout)
	if !errors.Is(err, unix.EMSGSIZE) {
		return err
	}
	again, failed := d.Dial(network, to) // the first one knows the route as it was
	if failed != nil {
		return failed
	}
	defer again.Close()
	raw, failed := again.(*net.IPConn).SyscallConn()
	if failed != nil {
		return failed
	}
	_ = raw.Control(func(fd uintptr) {
		if mtu, err := unix.GetsockoptInt(int(fd), level, which); err == nil {
			fmt.Println("mtu", mtu)
		}
	})
	return err
}

// pingPong sends a message and waits for the reply.
func pingPong(c net.Conn, addr netip.Addr, message []byte, reply byte, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write(message); err != nil {
		return err
	}
	return await(c.(net.PacketConn), addr, reply, message)
}

// echo is an echo message, RFC 792 page 14:
//
//	type(8) code(8) checksum(16) identifier(16) sequence(16) data…
//
// The kernel computes the checksum of ICMPv6; a wrong one does no harm.
func echo(typ byte, size int) []byte {
	m := make([]byte, 8+size)
	m[0] = typ
	binary.BigEndian.PutUint16(m[4:], uint16(os.Getpid()))
	binary.BigEndian.PutUint16(m[6:], 1)
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	return m
}

// checksum is the Internet checksum, RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// await reads until the reply to message comes from addr: before it is connected
// a socket hears those to others too. ReadFrom leaves the IP header out, which
// Read does not.
func await(c net.PacketConn, addr netip.Addr, reply byte, message []byte) error {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		if ip, ok := from.(*net.IPAddr); !ok || !ip.IP.Equal(addr.AsSlice()) {
			continue
		}
		if n == len(message) && buf[0] == reply && bytes.Equal(buf[4:n], message[4:]) {
			return nil
		}
	}
}
