package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/signal"
	"syscall"
	"time"
)

// lastReply is how long after the last request a reply counts.
const lastReply = 500 * time.Millisecond

// pings sends echo requests at a steady pace, for a time or until SIGTERM, and counts
// those without a reply.
func pings(args []string) error {
	f := flags("pings")
	length := f.Duration("for", 2*time.Second, "")
	every := f.Duration("every", 10*time.Millisecond, "")
	addr, err := netip.ParseAddr(argument(f, args))
	if err != nil {
		return err
	}
	network, request, reply := "ip4:icmp", byte(echoRequest4), byte(echoReply4)
	if addr.Is6() {
		network, request, reply = "ip6:ipv6-icmp", echoRequest6, echoReply6
	}
	c, err := net.Dial(network, addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	message := echo(request, 8)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	heard := make(chan map[uint16]bool)
	go func() { heard <- replies(c, reply, message[4:6]) }()
	var when []time.Time // each was sent
	for end := time.Now().Add(*length); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(*every) {
		when = append(when, time.Now())
		binary.BigEndian.PutUint16(message[6:], uint16(len(when)))
		message[2], message[3] = 0, 0
		binary.BigEndian.PutUint16(message[2:], checksum(message))
		_, _ = c.Write(message) // one that is not sent has no reply
	}
	if err := c.SetReadDeadline(time.Now().Add(lastReply)); err != nil {
		return err
	}
	answered := <-heard
	fmt.Printf("sent %d\nlost %d\n", len(when), len(when)-len(answered))
	for i, at := range when {
		if !answered[uint16(i+1)] {
			fmt.Println("of", at.UTC().Format("15:04:05.000"))
		}
	}
	return nil
}

// replies returns which requests of ours have one.
func replies(c net.Conn, typ byte, id []byte) map[uint16]bool {
	seen := map[uint16]bool{}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := c.(net.PacketConn).ReadFrom(buf)
		if err != nil {
			return seen
		}
		if n >= 8 && buf[0] == typ && string(buf[4:6]) == string(id) {
			seen[binary.BigEndian.Uint16(buf[6:])] = true
		}
	}
}
