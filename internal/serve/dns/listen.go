package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/serve/notice"
)

// Limits of one sandbox: what it asks too much is refused to it alone.
const (
	maxAsking = 256 // questions being forwarded
	maxConns  = 32  // TCP connections
)

// listener serves one sandbox.
type listener struct {
	log   *slog.Logger
	ns    kstate.NS
	space *netns.Handle
	host  *atomic.Pointer[forwarder]
	view  atomic.Pointer[view]

	batches *sync.Pool // of *batch; the resolver's, as are the next two
	rules   *rules
	counts  *counts

	udp  *net.UDPConn
	from []byte // control message that replies need, mostly none
	tcp  *net.TCPListener
	ctx  context.Context // done when it is closed
	stop context.CancelFunc
	work sync.WaitGroup

	asking atomic.Int32
	conns  atomic.Int32
	pace   pace
	much   *notice.Notice // the sandbox asks too much
	accept *notice.Notice // errors of the sockets
}

// listen begins to serve a namespace.
func listen(r *Resolver, view View) (*listener, error) {
	space, err := netns.Open(view.NS)
	if err != nil {
		return nil, err
	}
	l := &listener{log: r.log, ns: view.NS, space: space, host: &r.host, batches: r.batches, rules: r.rules, counts: &r.counts}
	l.much, l.accept = notice.New(r.log, "dns: a sandbox asks too much; the rest is refused to it"), notice.New(r.log, "dns: receive")
	l.ctx, l.stop = context.WithCancel(context.Background())
	if err := space.Do(l.open); err != nil {
		return nil, errors.Join(err, l.close())
	}
	l.show(view)
	l.work.Go(l.serveUDP)
	l.work.Go(l.serveTCP)
	return l, nil
}

// open makes the sockets and the rules; it runs inside the namespace.
func (l *listener) open() error {
	lc := net.ListenConfig{Control: l.anywhere}
	lc.SetMultipathTCP(false)
	c, err := orAny(func(at string) (net.PacketConn, error) { return lc.ListenPacket(l.ctx, "udp4", at) })
	if err != nil {
		return err
	}
	l.udp = c.(*net.UDPConn)
	t, err := orAny(func(at string) (net.Listener, error) { return lc.Listen(l.ctx, "tcp4", at) })
	if err != nil {
		return err
	}
	l.tcp = t.(*net.TCPListener)
	return l.rules.install(l.ports())
}

// usual is the port that a listener takes where it is free: above those that the
// kernel gives to programs that ask for none, and the same after a restart, so
// that the rules stay as they are.
const usual = 61053

// orAny listens on the usual port, or on any other if that is taken.
func orAny[L any](listen func(at string) (L, error)) (L, error) {
	l, err := listen(netip.AddrPortFrom(own(), usual).String())
	if errors.Is(err, unix.EADDRINUSE) {
		return listen(netip.AddrPortFrom(own(), 0).String())
	}
	return l, err
}

// anywhere lets a socket be bound although lo is down. Bound to an address that no
// routing table has heard of, a UDP socket receives there but sends from
// elsewhere (inet_bind), unless each datagram says where from.
func (l *listener) anywhere(_, _ string, c syscall.RawConn) error {
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	cerr := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1),
			unix.IoctlIfreq(int(fd), unix.SIOCGIFFLAGS, lo))
	})
	if lo.Uint16()&unix.IFF_UP == 0 {
		l.from = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: own().As4()})
	}
	return errors.Join(cerr, err)
}

func (l *listener) ports() (udp, tcp uint16) {
	return uint16(l.udp.LocalAddr().(*net.UDPAddr).Port), uint16(l.tcp.Addr().(*net.TCPAddr).Port)
}

// serves reports whether the namespace is the one that ns names now.
func (l *listener) serves(ns kstate.NS) bool {
	var st unix.Stat_t
	if unix.Stat(ns.Path, &st) != nil || st.Ino != l.space.Inode() {
		return false
	}
	return ns.Inode == 0 || ns.Inode == st.Ino
}

// show makes the listener answer as v says.
func (l *listener) show(v View) {
	next := &view{zones: slices.Clone(v.Zones), links: map[string]string{}}
	for alias, name := range v.Links {
		next.links[canonical(alias)] = canonical(name)
	}
	servers := slices.DeleteFunc(slices.Clone(v.Servers), func(s netip.AddrPort) bool { return s.Addr().Unmap() == own() })
	old := l.view.Load()
	switch {
	case len(servers) == 0 && !v.Internal:
		next.host = l.host
	case len(servers) == 0:
	case old != nil && old.private != nil && slices.Equal(old.private.addresses(), servers):
		next.private = old.private
	default:
		next.private = newForwarder(servers, l.space, privateCache, l.counts)
	}
	l.view.Store(next)
	if old != nil && old.private != nil && old.private != next.private {
		old.private.close()
	}
}

// repair installs the rules again.
func (l *listener) repair() error {
	return l.space.Do(func() error { return l.rules.install(l.ports()) })
}

// mend installs the rules again if they are not all there, and reports whether that
// was so.
func (l *listener) mend() (missing bool, err error) {
	err = l.space.Do(func() error {
		whole, err := l.rules.whole()
		if missing = err == nil && !whole; !missing {
			return err
		}
		return l.rules.install(l.ports())
	})
	return missing, err
}

// remove removes the rules and stops serving.
func (l *listener) remove() error {
	return errors.Join(l.space.Do(l.rules.uninstall), l.close())
}

// close stops serving, also when open went only half the way.
func (l *listener) close() error {
	l.stop()
	if l.udp != nil {
		l.udp.Close()
	}
	if l.tcp != nil {
		l.tcp.Close()
	}
	if v := l.view.Load(); v != nil && v.private != nil {
		v.private.close()
	}
	l.work.Wait()
	return l.space.Close()
}

// count counts a question for who watches, and reports whether f is to be asked: it is
// not nil, and the sandbox does not ask too much.
func (l *listener) count(f *forwarder, q *question) bool {
	asked := f != nil && l.begin(f)
	if f != nil && !asked {
		q.by = overLimit
	}
	l.counts.questions[q.by].Add(1)
	return asked
}

// begin counts a question that is forwarded, or says that there are too many.
// How often it asks servers of its own is the sandbox's affair.
func (l *listener) begin(f *forwarder) bool {
	if l.asking.Add(1) > maxAsking || f == l.host.Load() && !l.pace.take(time.Now()) {
		l.asking.Add(-1)
		l.much.Say("sandbox", l.ns, "questions", maxAsking, "a second", maxPace)
		return false
	}
	return true
}
