package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// allProtocols is ETH_P_ALL in the byte order of the network.
const allProtocols = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8

// wire opens a device for frames of protocol: 0 hears none.
func wire(ifname string, protocol uint16) (int, error) {
	dev, err := net.InterfaceByName(ifname)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: dev.Index}); err != nil {
		return 0, err
	}
	all := unix.PacketMreq{Ifindex: int32(dev.Index), Type: unix.PACKET_MR_PROMISC}
	return fd, unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &all)
}

// sendFrames sends frames as they are.
func sendFrames(args []string) error {
	f := flags("send")
	length := f.Duration("for", 0, "")
	every := f.Duration("every", time.Millisecond, "")
	f.Parse(args)
	if f.NArg() < 2 {
		return errors.New("want a device and frames")
	}
	fd, err := wire(f.Arg(0), 0)
	if err != nil {
		return err
	}
	for end := time.Now().Add(*length); ; time.Sleep(*every) {
		for _, text := range f.Args()[1:] {
			frame, err := hex.DecodeString(text)
			if err != nil {
				return err
			}
			if _, err := unix.Write(fd, frame); err != nil {
				return err
			}
		}
		if !time.Now().Before(end) {
			return nil
		}
	}
}

// sniff prints what comes in, and not what goes out.
func sniff(args []string) error {
	fd, err := wire(argument(flags("sniff"), args), allProtocols)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	buf := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return err
		}
		if l, ok := from.(*unix.SockaddrLinklayer); !ok || l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		fmt.Printf("%x\n", buf[:n])
	}
}
