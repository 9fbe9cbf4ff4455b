package udptun

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is a struct msghdr with what it points to. It is allocated once and
// does not move, so that nothing is allocated per call.
type message struct {
	header  unix.Msghdr
	name    [unix.SizeofSockaddrInet6]byte
	iov     [2*maxSegments + 1]unix.Iovec
	control [8]uint64 // a struct cmsghdr is aligned
}

// setBuffer sets the i-th buffer, which is not empty.
func (m *message) setBuffer(i int, b []byte) {
	m.iov[i].Base = unsafe.SliceData(b)
	m.iov[i].SetLen(len(b))
}

// send sends buffers as one datagram, or as datagrams of size bytes
// each if size is not 0 (udp(7): UDP_SEGMENT).
func (m *message) send(fd int, to *peer, buffers []unix.Iovec, size int) error {
	h := &m.header
	h.Name, h.Namelen = unsafe.SliceData(to.name[:]), to.nameLen
	h.Iov = unsafe.SliceData(buffers)
	h.SetIovlen(len(buffers))
	h.Control = nil
	h.SetControllen(0)
	if size > 0 {
		m.putSegment(uint16(size))
	}
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return errno
	}
	return nil
}

func (m *message) putSegment(size uint16) {
	m.header.Control = (*byte)(unsafe.Pointer(&m.control))
	m.header.SetControllen(unix.CmsgSpace(2))
	c := (*unix.Cmsghdr)(unsafe.Pointer(&m.control))
	c.Level, c.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	c.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Add(unsafe.Pointer(&m.control), unix.CmsgLen(0))) = size
}

// receive receives into b. Datagrams of one sender may come together: all but
// the last have size bytes (udp(7): UDP_GRO).
func (m *message) receive(fd int, b []byte) (n, size int, err error) {
	h := &m.header
	h.Name, h.Namelen = &m.name[0], uint32(len(m.name))
	m.setBuffer(0, b)
	h.Iov = &m.iov[0]
	h.SetIovlen(1)
	h.Control = (*byte)(unsafe.Pointer(&m.control))
	h.SetControllen(int(unsafe.Sizeof(m.control)))
	got, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return 0, 0, errno
	}
	if h.Flags&unix.MSG_TRUNC != 0 {
		return 0, 0, unix.EMSGSIZE
	}
	return int(got), m.together(int(got)), nil
}

// together is the length of the datagrams received, if the kernel says that
// there are several, or of all.
func (m *message) together(n int) int {
	c := (*unix.Cmsghdr)(unsafe.Pointer(&m.control))
	if int(m.header.Controllen) < unix.CmsgLen(4) || c.Level != unix.IPPROTO_UDP || c.Type != unix.UDP_GRO {
		return n
	}
	size := *(*int32)(unsafe.Add(unsafe.Pointer(&m.control), unix.CmsgLen(0)))
	if size <= 0 {
		return n
	}
	return int(size)
}

// write writes the first n buffers to a descriptor as one packet.
func (m *message) write(fd int, n int) error {
	_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&m.iov[0])), uintptr(n))
	if errno != 0 {
		return errno
	}
	return nil
}
