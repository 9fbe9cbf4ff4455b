package dns

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// How many datagrams are read at once.
const batchSize = 32

// After an error of the socket that is not about one packet.
const pause = 50 * time.Millisecond

// batch is the memory for datagrams that are read and answered together. It is
// borrowed while there are any, so that an idle sandbox needs none.
type batch struct {
	in, out         [batchSize]mmsghdr
	inVec, outVec   [batchSize]unix.Iovec
	from            [batchSize]unix.RawSockaddrInet4
	request         [batchSize][maxQuery]byte
	reply           [batchSize][maxUDP]byte
	q               question
	received, ready int
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// newBatches returns the batches that all listeners of a resolver share.
func newBatches() *sync.Pool {
	return &sync.Pool{New: func() any {
		b := &batch{}
		for i := range batchSize {
			b.inVec[i].Base = &b.request[i][0]
			b.inVec[i].SetLen(maxQuery)
			b.in[i].Iov, b.in[i].Name = &b.inVec[i], (*byte)(unsafe.Pointer(&b.from[i]))
			b.in[i].SetIovlen(1)
			b.out[i].Iov = &b.outVec[i]
			b.out[i].SetIovlen(1)
			b.out[i].Namelen = unix.SizeofSockaddrInet4
		}
		return b
	}}
}

// serveUDP answers until the socket is closed.
func (l *listener) serveUDP() {
	raw, err := l.udp.SyscallConn()
	if err != nil {
		return
	}
	for {
		var cause syscall.Errno
		if raw.Read(func(fd uintptr) bool {
			cause = l.turn(int(fd))
			return cause != unix.EAGAIN
		}) != nil {
			return
		}
		if cause != 0 && cause != unix.EINTR {
			l.accept.Say("sandbox", l.ns, "cause", cause)
			time.Sleep(pause)
		}
	}
}

// turn reads what is there, up to a batch, and sends the replies.
func (l *listener) turn(fd int) syscall.Errno {
	b := l.batches.Get().(*batch)
	defer l.batches.Put(b)
	if err := b.receive(fd); err != 0 {
		return err
	}
	v, now := l.view.Load(), time.Now()
	b.ready = 0
	for i := range b.received {
		if b.in[i].Flags&unix.MSG_TRUNC != 0 || b.in[i].Namelen != unix.SizeofSockaddrInet4 {
			continue
		}
		reply, f := v.reply(b.reply[i][:0], &b.q, b.request[i][:b.in[i].n], true, now)
		switch admitted := l.count(f, &b.q); {
		case admitted:
			f.ask(&b.q, &udpAsker{l, b.q, b.client(i)})
		case f != nil:
			reply = b.q.empty(reply, dns.RcodeServerFailure)
		}
		b.add(i, reply)
	}
	b.send(fd, l.from)
	return 0
}

// receive reads datagrams without waiting.
func (b *batch) receive(fd int) syscall.Errno {
	for i := range b.in {
		b.in[i].Namelen = unix.SizeofSockaddrInet4
	}
	n, _, err := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	b.received = int(n)
	return err
}

// add makes the i-th datagram's reply one of those to be sent.
func (b *batch) add(i int, reply []byte) {
	if len(reply) == 0 {
		return
	}
	b.outVec[b.ready].Base = &reply[0]
	b.outVec[b.ready].SetLen(len(reply))
	b.out[b.ready].Name = (*byte)(unsafe.Pointer(&b.from[i]))
	b.ready++
}

// send sends the replies. One that cannot be sent is lost, as UDP may lose any.
func (b *batch) send(fd int, control []byte) {
	for i := range b.ready {
		b.out[i].Control = unsafe.SliceData(control)
		b.out[i].SetControllen(len(control))
	}
	for at := 0; at < b.ready; {
		n, _, err := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[at])), uintptr(b.ready-at), unix.MSG_DONTWAIT, 0, 0)
		switch err {
		case 0:
			at += int(n)
		case unix.EINTR:
		default:
			at++
		}
	}
}

func (b *batch) client(i int) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&b.from[i].Port))
	return netip.AddrPortFrom(netip.AddrFrom4(b.from[i].Addr), uint16(port[0])<<8|uint16(port[1]))
}

// udpAsker is a client that waits for an answer from elsewhere.
type udpAsker struct {
	*listener
	q  question
	to netip.AddrPort
}

func (a *udpAsker) told(e *entry) {
	a.asking.Add(-1)
	reply := a.q.forwarded(make([]byte, 0, minUDP), e, a.q.limit())
	if _, _, err := a.udp.WriteMsgUDPAddrPort(reply, a.from, a.to); err != nil && !errors.Is(err, net.ErrClosed) {
		a.log.Debug("dns: reply", "sandbox", a.ns, "cause", err)
	}
}
