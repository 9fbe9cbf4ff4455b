package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// flannelPort is where flannelds with backend udp are.
const flannelPort = 8285

// carry is flanneld's end of its backend udp: a TUN device without offloads, one packet
// a datagram, a TTL that goes down both ways, IPv4 alone, nothing checked.
func carry(args []string) error {
	if len(args) < 2 {
		return errors.New("want a device, an address, and peers")
	}
	local, err := netip.ParseAddr(args[1])
	if err != nil {
		return err
	}
	peers := map[netip.Prefix]netip.AddrPort{}
	for _, text := range args[2:] {
		prefix, at, _ := strings.Cut(text, "=")
		p, err := netip.ParsePrefix(prefix)
		if err != nil {
			return err
		}
		a, err := netip.ParseAddr(at)
		if err != nil {
			return err
		}
		peers[p] = netip.AddrPortFrom(a, flannelPort)
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, flannelPort)))
	if err != nil {
		return err
	}
	tun, err := newTUN(args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	ended := make(chan error)
	go func() { ended <- carryOut(tun, conn, peers) }()
	go func() { ended <- carryIn(conn, tun) }()
	return <-ended
}

func carryOut(tun *os.File, conn *net.UDPConn, peers map[netip.Prefix]netip.AddrPort) error {
	for b := make([]byte, 1<<16); ; {
		n, err := tun.Read(b)
		if err != nil {
			return err
		}
		if n < 20 || b[0]>>4 != 4 {
			continue
		}
		for p, at := range peers {
			if p.Contains(netip.AddrFrom4([4]byte(b[16:20]))) && age(b[:n]) {
				_, _ = conn.WriteToUDPAddrPort(b[:n], at) // lost, as on any way
			}
		}
	}
}

func carryIn(conn *net.UDPConn, tun *os.File) error {
	for b := make([]byte, 1<<16); ; {
		n, err := conn.Read(b)
		if err != nil {
			continue // a peer that does not listen says so by ICMP
		}
		if n >= 20 && b[0]>>4 == 4 && age(b[:n]) {
			_, _ = tun.Write(b[:n])
		}
	}
}

// age takes one off the TTL of an IPv4 packet, and reports whether it goes on. The
// checksum is computed anew (RFC 791 3.1).
func age(b []byte) bool {
	header := b[:min(int(b[0]&15)*4, len(b))]
	b[8]--
	binary.BigEndian.PutUint16(b[10:], 0)
	sum := uint32(0)
	for i := 0; i+1 < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum>>16+sum))
	return b[8] > 0
}

// newTUN makes a device that goes with the process.
func newTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(fmt.Errorf("make %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}
