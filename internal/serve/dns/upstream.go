package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/netns"
)

// Sockets of an upstream. Whoever wants to forge an answer has to guess the port
// and the ID, so a socket does not stay for long; answers to what it has sent
// are still taken.
const (
	poolSockets   = 4
	socketAge     = 10 * time.Second
	socketIdle    = 5 * time.Second
	socketQueries = 1024
	socketPending = 4096 // questions without an answer on one socket
	askSize       = 1232 // what we take over UDP: fits an IPv6 packet everywhere
	tcpTimeout    = 3 * time.Second
	demotion      = 10 * time.Second // how long a server that was silent is asked last
)

// Why a socket does not take a question.
var (
	errBusy    = errors.New("too many questions without an answer")
	errRetired = errors.New("socket is retired")
)

// upstream is a server that questions are forwarded to.
type upstream struct {
	addr  netip.AddrPort
	space *netns.Handle // where it is dialled; nil: the process's namespace

	silent atomic.Int64 // when it last kept silent, Unix nanoseconds; 0: it answers

	mu     sync.Mutex // protects the following
	pool   [poolSockets]*socket
	closed bool
}

// attempt is a question sent to one server. The outcome comes on results, at
// most once.
type attempt struct {
	up      *upstream
	query   []byte // as it was sent, but for the ID
	lower   []byte // the question section in lower case, a part of query
	sent    time.Time
	results chan<- result
	on      *socket // nil: over TCP
	id      uint16
}

// bare reports whether the query has no OPT record.
func (a *attempt) bare() bool { return len(a.query) == headerLen+len(a.lower) }

// result is a server's answer as it came, or why there is none.
type result struct {
	from *attempt
	wire []byte
	err  error
}

// send sends a new attempt over UDP.
func (u *upstream) send(a *attempt) error {
	if err := u.enter(a); err != nil {
		return err
	}
	packet := append([]byte(nil), a.query...)
	binary.BigEndian.PutUint16(packet, a.id)
	if _, err := a.on.conn.Write(packet); err != nil {
		a.on.forget(a)
		return err
	}
	return nil
}

// enter finds a socket for an attempt. One that was fresh may retire before the
// attempt is in, so there are a few tries.
func (u *upstream) enter(a *attempt) (err error) {
	for range 3 {
		if a.on, err = u.socket(); err != nil {
			return err
		}
		if err = a.on.enter(a); !errors.Is(err, errRetired) {
			break
		}
	}
	return err
}

// socket returns one of the pool, opened if need be.
func (u *upstream) socket() (*socket, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, net.ErrClosed
	}
	at := &u.pool[rand.IntN(poolSockets)]
	if *at != nil && (*at).fresh() {
		return *at, nil
	}
	conn, err := u.dial(context.Background(), "udp")
	if err != nil {
		return nil, err
	}
	if *at != nil {
		(*at).retire()
	}
	*at = &socket{conn: conn, born: time.Now(), waiting: map[uint16]*attempt{}}
	go (*at).read()
	return *at, nil
}

func (u *upstream) dial(ctx context.Context, network string) (conn net.Conn, err error) {
	d := net.Dialer{}
	d.SetMultipathTCP(false)
	if u.space == nil {
		return d.DialContext(ctx, network, u.addr.String())
	}
	err = u.space.Do(func() error {
		addr, err := numbered(u.addr)
		switch {
		case err != nil:
		case network == "tcp":
			conn, err = connect(addr)
		default:
			conn, err = d.DialContext(ctx, network, addr.String())
		}
		return err
	})
	return conn, err
}

// connect begins a TCP connection from the thread's namespace. What is written
// waits for it: while it is made no thread is kept inside.
func connect(to netip.AddrPort) (net.Conn, error) {
	family, sa, err := sockaddr(to)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), to.String())
	defer f.Close()
	if err := unix.Connect(fd, sa); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(f)
}

// sockaddr is an address as the kernel takes it; a zone has to be a number.
func sockaddr(a netip.AddrPort) (family int, sa unix.Sockaddr, err error) {
	addr := a.Addr().Unmap()
	if addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: addr.As4()}, nil
	}
	six := &unix.SockaddrInet6{Port: int(a.Port()), Addr: addr.As16()}
	if addr.Zone() != "" {
		link, err := strconv.ParseUint(addr.Zone(), 10, 32)
		if err != nil {
			return 0, nil, err
		}
		six.ZoneId = uint32(link)
	}
	return unix.AF_INET6, six, nil
}

// stream connects over TCP. In a sandbox that takes no time, and must not happen
// after close, when the namespace is let go.
func (u *upstream) stream(ctx context.Context) (net.Conn, error) {
	if u.space == nil {
		return u.dial(ctx, "tcp")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, net.ErrClosed
	}
	return u.dial(ctx, "tcp")
}

// numbered has the zone of a link-local address as a number. By name the library
// remembers it, and would take one namespace's for another's.
func numbered(s netip.AddrPort) (netip.AddrPort, error) {
	if s.Addr().Zone() == "" {
		return s, nil
	}
	link, err := net.InterfaceByName(s.Addr().Zone())
	if err != nil {
		return s, err
	}
	return netip.AddrPortFrom(s.Addr().WithZone(strconv.Itoa(link.Index)), s.Port()), nil
}

// call asks over TCP, where an answer may be long.
func (u *upstream) call(ctx context.Context, a *attempt) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	conn, err := u.stream(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if until, ok := ctx.Deadline(); ok {
		conn.SetDeadline(until)
	}
	id := uint16(rand.Uint32())
	packet := append(binary.BigEndian.AppendUint16(nil, uint16(len(a.query))), a.query...)
	binary.BigEndian.PutUint16(packet[2:], id)
	if _, err := conn.Write(packet); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	wire := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, wire); err != nil {
		return nil, err
	}
	if !answers(wire, id, a.lower) {
		return nil, errors.New("answer to another question")
	}
	return wire, nil
}

// hush notes that the server kept silent, so that others are asked first.
func (u *upstream) hush(now time.Time) { u.silent.Store(now.UnixNano()) }

func (u *upstream) demoted(now time.Time) bool {
	return now.UnixNano()-u.silent.Load() < int64(demotion)
}

func (u *upstream) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, s := range u.pool {
		if s != nil {
			s.conn.Close()
		}
	}
}

// socket is a connected UDP socket with the questions sent on it.
type socket struct {
	conn net.Conn
	born time.Time

	mu      sync.Mutex // protects the following
	waiting map[uint16]*attempt
	sent    int
	retired bool // not in the pool any more: closes when nothing is waited for
}

func (s *socket) fresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.retired && s.sent < socketQueries && time.Since(s.born) < socketAge
}

func (s *socket) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
	if len(s.waiting) == 0 {
		s.conn.Close()
	}
}

// enter gives an attempt an ID that nothing else on the socket has.
func (s *socket) enter(a *attempt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.retired:
		return errRetired
	case len(s.waiting) >= socketPending:
		return errBusy
	}
	for a.id = uint16(rand.Uint32()); s.waiting[a.id] != nil; a.id = uint16(rand.Uint32()) {
	}
	s.waiting[a.id] = a
	s.sent++
	return nil
}

func (s *socket) forget(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked(a)
}

// forgetLocked needs mu.
func (s *socket) forgetLocked(a *attempt) {
	if s.waiting[a.id] == a {
		delete(s.waiting, a.id)
	}
	if s.retired && len(s.waiting) == 0 {
		s.conn.Close()
	}
}

// read hands answers to those who wait for them until the socket is closed, or
// idle for a while.
func (s *socket) read() {
	defer s.conn.Close()
	buf := make([]byte, maxUDP)
	for {
		s.conn.SetReadDeadline(time.Now().Add(socketIdle))
		n, err := s.conn.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if s.done() {
				return
			}
		case errors.Is(err, net.ErrClosed):
			s.fail(err)
			return
		case err != nil:
			s.fail(err) // an ICMP error: the server, or the way to it, is not there
		default:
			s.received(buf[:n])
		}
	}
}

// done retires a socket that waits for nothing.
func (s *socket) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = s.retired || len(s.waiting) == 0
	return s.retired && len(s.waiting) == 0
}

// fail tells all who wait.
func (s *socket) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range s.waiting {
		delete(s.waiting, id)
		a.results <- result{from: a, err: err}
	}
}

// received hands on an answer, if it is one to a question that was asked here.
func (s *socket) received(wire []byte) {
	if len(wire) < headerLen {
		return
	}
	id := binary.BigEndian.Uint16(wire)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.waiting[id]
	if a == nil || !answers(wire, id, a.lower) {
		return
	}
	s.forgetLocked(a)
	a.up.silent.Store(0)
	a.results <- result{from: a, wire: append([]byte(nil), wire...)}
}

// answers reports whether wire is a reply to the question in lower case. A
// server that did not understand it may leave it out.
func answers(wire []byte, id uint16, lower []byte) bool {
	if len(wire) < headerLen || binary.BigEndian.Uint16(wire) != id {
		return false
	}
	flags := binary.BigEndian.Uint16(wire[2:])
	if flags&flagQR == 0 || flags&maskOpcode != 0 {
		return false
	}
	if binary.BigEndian.Uint16(wire[4:]) == 0 {
		return flags&maskRcode != 0
	}
	if len(wire) < headerLen+len(lower) {
		return false
	}
	for i, c := range lower {
		w := wire[headerLen+i]
		if 'A' <= w && w <= 'Z' && i < len(lower)-4 {
			w += 'a' - 'A'
		}
		if w != c {
			return false
		}
	}
	return true
}
