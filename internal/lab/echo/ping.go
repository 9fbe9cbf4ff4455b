package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"time"
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
	to := argument(f, args)
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
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	message := echo(request, size)
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
