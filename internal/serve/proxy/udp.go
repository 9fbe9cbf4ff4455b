package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of UDP. A flow ends after udpIdle without a packet either way, the
// time docker-proxy gives it.
const (
	udpIdle  = 90 * time.Second
	udpSweep = 10 * time.Second
	udpBytes = 65535
)

// After so long a silence conntrack may have forgotten the flow, and a client
// may have used the same port for another destination: it is asked again. The
// shortest time that kernels keep a flow by default is 30 s.
const udpAskAgain = 10 * time.Second

// relayUDP is one of the two UDP sockets with its flows.
type relayUDP struct {
	*Proxy
	conn *net.UDPConn
	// packets lends buffers while a packet is there, so that an idle flow
	// costs a goroutine and no 64 KiB.
	packets sync.Pool

	mu    sync.Mutex // protects talks
	talks map[udpKey]*udpFlow
}

func newRelayUDP(p *Proxy, conn *net.UDPConn) *relayUDP {
	r := &relayUDP{Proxy: p, conn: conn, talks: map[udpKey]*udpFlow{}}
	r.packets.New = func() any { return new([udpBytes]byte) }
	return r
}

// udpKey is what a packet shows of its flow: who sent it and where it arrived.
type udpKey struct {
	client netip.AddrPort
	local  netip.Addr
	iface  uint32 // where local is link-local, else 0
}

// udpFlow is a conversation between one client and one target.
type udpFlow struct {
	*flow
	key    udpKey
	server syscall.RawConn
	heard  time.Time // the client's last packet; only the reader of the socket uses it
}

func (p *Proxy) serveUDP(ctx context.Context, conn *net.UDPConn) {
	r := newRelayUDP(p, conn)
	p.work.Go(func() { r.sweep(ctx) })
	packet, control := make([]byte, udpBytes), make([]byte, 128)
	for {
		n, nc, _, client, err := conn.ReadMsgUDPAddrPort(packet, control)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.accept.Say("protocol", "udp", "cause", err)
			time.Sleep(acceptPause)
		default:
			r.received(client, control[:nc], packet[:n])
		}
	}
}

// received passes one packet of a client on. UDP has no way to say no: what
// cannot be passed on is dropped.
func (r *relayUDP) received(client netip.AddrPort, control, packet []byte) {
	key, ok := parseKey(client, control)
	if !ok {
		return
	}
	f, err := r.flowOf(key)
	if err != nil {
		r.log.Debug("proxy: datagram", "client", client, "cause", err)
		return
	}
	// Never wait: a target that does not answer ARP would stop all others.
	f.server.Write(func(fd uintptr) bool {
		if _, err := unix.Write(int(fd), packet); err == unix.ECONNREFUSED {
			unix.Write(int(fd), packet) // that was the answer to an earlier packet
		}
		return true
	})
}

// flowOf returns the flow of key, after opening it if need be.
func (r *relayUDP) flowOf(key udpKey) (*udpFlow, error) {
	now := time.Now()
	f := r.lookup(key)
	if f != nil && now.Sub(f.heard) < udpAskAgain {
		return f.touch(now), nil
	}
	dst, err := r.tracker.original(netip.AddrPortFrom(key.local, r.Port()), key.client)
	if f != nil {
		if err == nil && dst == f.dst {
			return f.touch(now), nil
		}
		f.end()
	}
	if err != nil {
		return nil, err
	}
	return r.begin(key, dst, now)
}

// lookup returns the flow of key unless it has ended.
func (r *relayUDP) lookup(key udpKey) *udpFlow {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.talks[key]; f != nil && f.Err() == nil {
		return f
	}
	return nil
}

// touch notes a packet of the client.
func (f *udpFlow) touch(now time.Time) *udpFlow {
	f.heard = now
	f.last.Store(now.UnixNano())
	return f
}

var errNobody = errors.New("served by nobody")

func (r *relayUDP) begin(key udpKey, dst netip.AddrPort, now time.Time) (*udpFlow, error) {
	if dst.Port() == r.Port() {
		return nil, errNobody
	}
	base, ok := r.flows.begin("udp", key.client.Addr(), dst)
	if !ok {
		return nil, errNobody
	}
	server, raw, err := r.dialUDP(base)
	if err != nil {
		base.end()
		return nil, err
	}
	f := (&udpFlow{flow: base, key: key, server: raw}).touch(now)
	r.insert(f)
	context.AfterFunc(f, func() {
		server.Close()
		r.remove(f)
	})
	r.work.Go(func() { r.answers(f) })
	return f, nil
}

func (r *relayUDP) dialUDP(f *flow) (net.Conn, syscall.RawConn, error) {
	if err := r.connectable(f.dst, f.target); err != nil {
		return nil, nil, err
	}
	c, err := (&net.Dialer{}).DialContext(f, "udp", f.target.String())
	if err != nil {
		return nil, nil, err
	}
	raw, err := c.(*net.UDPConn).SyscallConn()
	return c, raw, err
}

func (r *relayUDP) insert(f *udpFlow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.talks[f.key] = f
}

func (r *relayUDP) remove(f *udpFlow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.talks[f.key] == f {
		delete(r.talks, f.key)
	}
}

// sweep ends idle flows.
func (r *relayUDP) sweep(ctx context.Context) {
	tick := time.NewTicker(udpSweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			r.expire(now.Add(-udpIdle))
		}
	}
}

// expire ends the flows that had no packet since.
func (r *relayUDP) expire(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.talks {
		if f.last.Load() < since.UnixNano() {
			f.end()
		}
	}
}

// answers passes on what the target sends, until the flow ends.
func (r *relayUDP) answers(f *udpFlow) {
	control := f.key.control()
	one := func(fd uintptr) bool { return r.answer(f, int(fd), control) }
	for f.server.Read(one) == nil {
	}
	f.end()
}

// answer passes one packet on, false when there is none. Errors of the socket
// are news of earlier packets (port unreachable); UDP goes on.
func (r *relayUDP) answer(f *udpFlow, fd int, control []byte) bool {
	buf := r.packets.Get().(*[udpBytes]byte)
	defer r.packets.Put(buf)
	n, err := unix.Read(fd, buf[:])
	if err == unix.EAGAIN {
		return false
	}
	if err == nil {
		f.last.Store(time.Now().UnixNano())
		r.conn.WriteMsgUDPAddrPort(buf[:n], control, f.key.client)
	}
	return true
}
