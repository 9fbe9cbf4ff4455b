package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// watched are the multicast groups of Watch.
var watched = [...]int{
	unix.RTNLGRP_LINK,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
	unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	unix.RTNLGRP_TC,
	unix.RTNLGRP_NEIGH,
	unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
}

// worthwhile drops what [Conn.judge] would find of no interest, before it wakes anybody:
// with each new veth come twenty notifications. These are what is our own; which routes
// and addresses the kernel made itself; what a bridge says of its ports; which
// neighbours it found out, and which went from devices that are not ours: ours are known
// by their high index, here the two upper bytes of ndm_ifindex; and settings that are not
// for all devices: the first attribute is NETCONFA_IFINDEX, which is -1 then
// (inet_netconf_fill_devconf in net/ipv4/devinet.c). Of the type, the lower byte tells.
func (p *ports) worthwhile() []unix.SockFilter {
	const typ, port, body = 4, 12, unix.SizeofNlMsghdr
	low, third, fourth := uint32(0), uint32(2), uint32(3)
	if native.Uint16([]byte{0, 1}) == 1 { // big endian
		low, third, fourth = 1, 1, 0
	}
	word := func(v uint32) uint32 { return binary.BigEndian.Uint32(native.AppendUint32(nil, v)) } // as the filter loads it
	const anybodys, neighbour, link, setting, pass, drop = 7, 13, 17, 19, 21, 22                  // where these begin
	var f []unix.SockFilter
	load := func(size uint16, at uint32) {
		f = append(f, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: at})
	}
	jump := func(op uint16, k uint32, yes, no int) {
		next := len(f) + 1
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, K: k, Jt: uint8(yes - next), Jf: uint8(no - next)})
	}
	give := func(n uint32) { f = append(f, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: n}) }

	load(unix.BPF_W, port)
	jump(unix.BPF_JEQ, 0, 4, 2)
	f = append(f, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: word(^uint32(1<<portBits - 1))})
	jump(unix.BPF_JEQ, word(p.base), drop, anybodys)
	load(unix.BPF_B, typ+low) // the kernel's
	jump(unix.BPF_JEQ, unix.RTM_NEWADDR, drop, 6)
	jump(unix.BPF_JEQ, unix.RTM_NEWROUTE, drop, anybodys)
	load(unix.BPF_B, typ+low)
	jump(unix.BPF_JEQ, unix.RTM_NEWLINK, link, 9)
	jump(unix.BPF_JEQ, unix.RTM_DELLINK, link, 10)
	jump(unix.BPF_JEQ, unix.RTM_NEWNEIGH, drop, 11)
	jump(unix.BPF_JEQ, unix.RTM_NEWNETCONF, setting, 12)
	jump(unix.BPF_JEQ, unix.RTM_DELNEIGH, neighbour, pass)
	load(unix.BPF_B, body+4+fourth)
	jump(unix.BPF_JGT, 0, pass, 15)
	load(unix.BPF_B, body+4+third)
	jump(unix.BPF_JGE, firstIndex>>16, pass, drop)
	load(unix.BPF_B, body)
	jump(unix.BPF_JEQ, unix.AF_BRIDGE, drop, pass)
	load(unix.BPF_W, body+8)
	jump(unix.BPF_JEQ, ^uint32(0), pass, drop)
	give(^uint32(0))
	give(0)
	return f
}

// watchBuffer holds the notifications of a burst of some thousand changes.
const watchBuffer = 4 << 20

// Watch sends a few words whenever somebody else changed a link, an address, a route
// or a rule of ours, in the host's namespace or in one that a veth leads to, removed what a
// vxlan of ours knows of other hosts, or somebody changed what the host forwards, until ctx is done; then it closes the channel.
// Hints that wait are merged into one.
func (c *Conn) Watch(ctx context.Context) (<-chan string, error) {
	f, err := c.listen()
	if err != nil {
		return nil, err
	}
	c.ear.Store(f)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	ch := make(chan string, 1)
	stop := context.AfterFunc(ctx, func() { f.Close() })
	go func() {
		defer close(ch)
		defer stop()
		buf := make([]byte, bufferSize)
		for {
			var what string
			err := raw.Read(func(fd uintptr) (done bool) {
				what, done = c.receive(int(fd), buf)
				return done
			})
			if err != nil {
				f.Close()
				return
			}
			if what != "" {
				select {
				case ch <- what:
				default: // one waits already
				}
			}
		}
	}()
	return ch, nil
}

// Heed has Watch tell of what happens to the host's device of a name, whoever made it.
func (c *Conn) Heed(device string) { c.parents.add(device) }

// listen opens the socket of Watch.
func (c *Conn) listen() (*os.File, error) {
	s, err := c.ports.open(c.host)
	if err != nil {
		return nil, err
	}
	f := s.file()
	filter := c.ports.worthwhile()
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		f.Close()
		return nil, fmt.Errorf("netlink socket: filter: %w", err)
	}
	for _, group := range watched {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			f.Close()
			return nil, fmt.Errorf("netlink socket: join group %d: %w", group, err)
		}
	}
	// Without these, Watch sees less or loses more; it is only a hint.
	_ = everywhere(s.fd, true)
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer)
	return f, nil
}

// crowd is how many namespaces Watch listens in. For each notification of each
// of them the kernel looks through all that the host knows for the number of that
// one (peernet2id in net/core/net_namespace.c): with thousands of sandboxes that
// is a quarter of what a new one takes. Then what somebody does inside a sandbox
// is seen by the next pass.
const crowd = 500

// hear has Watch listen in other namespaces while they are no crowd.
func (c *Conn) hear(namespaces int) {
	if f := c.ear.Load(); f != nil {
		if raw, err := f.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = everywhere(int(fd), namespaces <= crowd) })
		}
	}
}

func everywhere(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, value)
}

// file makes a socket one that is waited for by Go's poller.
func (s *socket) file() *os.File {
	_ = unix.SetNonblock(s.fd, true)
	s.ports.bufs.Put(s.buf)
	return os.NewFile(uintptr(s.fd), "rtnetlink")
}

// receive reads one datagram. done is false when there is none yet.
func (c *Conn) receive(fd int, buf []byte) (what string, done bool) {
	var foreign [unix.SizeofCmsghdr + 8]byte // the number of another namespace, if it is from one (NETLINK_LISTEN_ALL_NSID)
	n, elsewhere, _, _, err := unix.Recvmsg(fd, buf, foreign[:], 0)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return "", false
	case errors.Is(err, unix.ENOBUFS):
		return "notifications were lost", true
	case err != nil:
		return "", true
	}
	_ = messages(buf[:n], func(h header, body []byte) error {
		switch {
		case what != "" || c.ports.own(h.port):
		case h.typ != unix.RTM_NEWNETCONF:
			what = c.judge(h, body)
		case elsewhere == 0:
			what = "a setting of all devices was changed"
		}
		return nil
	})
	return what, true
}

// judge says in a few words what somebody else did, or nothing if it is of no
// interest.
func (c *Conn) judge(h header, body []byte) string {
	switch h.typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(body) < unix.SizeofIfInfomsg || body[0] == unix.AF_BRIDGE {
			return "" // what a bridge says of its ports
		}
		return c.judgeLink(h, parseDevice(body), native.Uint32(body[12:]))
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if a, ok := parseAddress(body); ok && c.counts(h, a.index) {
			return "address " + a.prefix.String() + was(h)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		// A route that the kernel made goes with its address, if nobody deletes it.
		if r, ok := parseRoute(body); ok && (r.protocol != unix.RTPROT_KERNEL || h.port != 0) && c.counts(h, r.index) {
			return "route " + r.dst.String() + was(h)
		}
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		if r, ok := parseRule(body); ok {
			return r.String() + was(h)
		}
		if d, ok := parseDetour(body); ok {
			return fmt.Sprintf("rule that looks into table %d%s", d.table, was(h))
		}
	case unix.RTM_DELNEIGH:
		if len(body) < unix.SizeofNdMsg {
			return ""
		}
		if i := int(native.Uint32(body[4:])); c.tunnels.has(i) && c.counts(h, i) {
			return "what a vxlan knows of other hosts was removed"
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		return c.judgeQueue(body)
	}
	return ""
}

// judgeQueue judges traffic control, which is of interest on devices of ours:
// their indexes are.
func (c *Conn) judgeQueue(body []byte) string {
	if len(body) < sizeofTcmsg {
		return ""
	}
	if index := int(int32(native.Uint32(body[4:]))); index < firstIndex || c.recent.gone(index) {
		return ""
	}
	return "a queue or filter was changed"
}

// listening are the flags that programs set who want all frames of a device:
// tcpdump, and ovs-vswitchd on its ports.
const listening = unix.IFF_PROMISC | unix.IFF_ALLMULTI

// judgeLink judges a link: one of ours that changed, and any that went. Far ends
// have no group, but indexes of ours. Which of their flags changed is of no
// interest: anybody inside who listens to a device sets one (packet(7)).
func (c *Conn) judgeLink(h header, d device, flags uint32) string {
	far := (d.kind == string(kstate.TypeVeth) || d.onParent()) && d.index >= firstIndex && !d.doomed() && flags == 0
	quiet := !d.ours() && !far && !c.parents.has(d) && !c.trunks(d) && !d.lent() || c.recent.changed(d.index)
	if flags != 0 && flags&^listening == 0 {
		quiet = true
	}
	if h.typ == unix.RTM_DELLINK {
		quiet = d.doomed() || c.recent.gone(d.index)
	}
	if quiet {
		return ""
	}
	return "link " + d.name + was(h)
}

// counts reports whether a notification is of interest: all that bears another
// program's port id, and what the kernel removed on a device that we did not
// touch. What the kernel makes follows from something else.
func (c *Conn) counts(h header, index int) bool {
	return h.port != 0 || removal(h) && !c.recent.changed(index)
}

func removal(h header) bool {
	return h.typ == unix.RTM_DELLINK || h.typ == unix.RTM_DELADDR || h.typ == unix.RTM_DELROUTE || h.typ == unix.RTM_DELRULE || h.typ == unix.RTM_DELNEIGH
}

func was(h header) string {
	if removal(h) {
		return " was removed"
	}
	return " was changed"
}
