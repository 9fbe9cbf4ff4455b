package announce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ports asks the kernel about devices of the host and the far ends of veths,
// by number and without entering their namespaces.
type ports struct {
	fd   int // any socket will do for the ioctl
	conn *netlink.Conn
}

func openPorts() (*ports, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &ports{fd, conn}, nil
}

func (p *ports) close() error { return errors.Join(unix.Close(p.fd), p.conn.Close()) }

// find returns a device's number and whether it carries packets, or ENODEV.
// Asking by netlink would take the lock that every change of the network needs.
func (p *ports) find(device string) (index int, running bool, err error) {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return 0, false, fmt.Errorf("device %q: %w", device, err)
	}
	if err := unix.IoctlIfreq(p.fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, false, fmt.Errorf("device %s: %w", device, err)
	}
	index = int(req.Uint32())
	if err := unix.IoctlIfreq(p.fd, unix.SIOCGIFFLAGS, req); err != nil {
		return 0, false, fmt.Errorf("device %s: %w", device, err)
	}
	return index, req.Uint16()&unix.IFF_RUNNING != 0, nil
}

// farMAC returns the hardware address of the other end of a veth.
func (p *ports) farMAC(port int) (net.HardwareAddr, error) {
	near, err := p.link(port, -1)
	if err != nil {
		return nil, err
	}
	far, err := p.link(near.far, near.farNS)
	return far.mac, err
}

// link is what rtnetlink(7) says of a device.
type link struct {
	mac    net.HardwareAddr
	master int // 0 without one
	far    int // number of the other end of a veth
	farNS  int // its namespace, as ours knows it; -1 is ours
}

// skipStats is RTEXT_FILTER_SKIP_STATS of include/uapi/linux/rtnetlink.h.
const skipStats = 1 << 3

// link asks about device number index of namespace ns, -1 for ours.
func (p *ports) link(index, ns int) (link, error) {
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], uint32(index))
	attrs := netlink.NewAttributeEncoder()
	attrs.Uint32(unix.IFLA_EXT_MASK, skipStats)
	if ns >= 0 {
		attrs.Int32(unix.IFLA_TARGET_NETNSID, int32(ns))
	}
	b, err := attrs.Encode()
	if err != nil {
		return link{}, err
	}
	answer, err := p.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   append(request, b...),
	})
	if err != nil {
		return link{}, fmt.Errorf("device %d: %w", index, err)
	}
	return parseLink(answer)
}

func parseLink(answer []netlink.Message) (link, error) {
	if len(answer) != 1 || len(answer[0].Data) < unix.SizeofIfInfomsg {
		return link{}, errors.New("the kernel's answer about a device is none")
	}
	l := link{farNS: -1}
	attrs, err := netlink.NewAttributeDecoder(answer[0].Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return link{}, err
	}
	for attrs.Next() {
		switch attrs.Type() {
		case unix.IFLA_ADDRESS:
			l.mac = attrs.Bytes()
		case unix.IFLA_MASTER:
			l.master = int(attrs.Uint32())
		case unix.IFLA_LINK:
			l.far = int(attrs.Uint32())
		case unix.IFLA_LINK_NETNSID:
			l.farNS = int(attrs.Int32())
		}
	}
	return l, attrs.Err()
}
