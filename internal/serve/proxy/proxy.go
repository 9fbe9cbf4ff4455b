// Package proxy carries in user space what nftables cannot rewrite: clients on
// ::1, clients with a link-local IPv6 address, and clients of one address
// family talking to a container that has only the other.
//
// The firewall redirects such packets to one port of the host, so one TCP
// listener and one UDP socket per address family serve every published port:
//
//		client ──▶ [::1]:8080 ──redirect──▶ [::1]:P  proxy ──▶ 172.30.0.2:80
//		                                       │
//		           "where did it want to go?" ─┴─▶ conntrack ─▶ [::1]:8080
//
//	 1. A flow arrives at port P. Conntrack knows where it was going before the
//	    redirect: TCP asks with a socket option, UDP over netlink.
//	 2. The Resolver says which container address and port serve that destination.
//	    A flow that was not redirected, or that nobody serves, ends here.
//	 3. A target that is an address of this host is refused: the firewall would
//	    redirect it back to port P, for ever. But who asks for a loopback address may
//	    be sent to one that is none, and the very destination may be asked again: the
//	    resolver says so of clients whose packets come here by where they come from.
//	 4. Bytes are copied both ways until both sides are done (TCP), or nothing
//	    came for a while (UDP).
//
// The package installs no firewall rules and knows nothing of networks,
// sandboxes or port mappings; it holds no port but P. The container sees the
// host's address in place of the client's.
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/sealane/sealane/internal/serve/notice"
)

// Resolver says who serves a destination.
type Resolver interface {
	// Target returns the container address and port for a flow whose client
	// asked for dst, an address of this host without zone; proto is "tcp" or
	// "udp". It is false for a client that may not use the port. It is called once per flow and for every flow on Recheck, from
	// several goroutines, and answers from what is published at that moment.
	Target(proto string, client netip.Addr, dst netip.AddrPort) (netip.AddrPort, bool)
}

// Proxy serves redirected flows until it is closed.
type Proxy struct {
	log     *slog.Logger
	accept  *notice.Notice
	sockets sockets
	flows   *flows
	tracker *tracker
	router  *router
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// Start listens on one free port of every local address, TCP and UDP, and
// serves until ctx is done or Close is called. It is the given port unless that
// is 0 or taken. A kernel without IPv6 is
// served for IPv4 only.
func Start(ctx context.Context, resolve Resolver, port uint16, log *slog.Logger) (*Proxy, error) {
	p := &Proxy{log: log, accept: notice.New(log, "proxy: accept")}
	if err := p.open(ctx, port); err != nil {
		p.release()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.flows = newFlows(ctx, resolve, log)
	context.AfterFunc(ctx, p.sockets.close)
	for _, l := range p.sockets.tcp {
		p.work.Go(func() { p.serveTCP(l) })
	}
	for _, c := range p.sockets.udp {
		p.work.Go(func() { p.serveUDP(ctx, c) })
	}
	return p, nil
}

func (p *Proxy) open(ctx context.Context, port uint16) (err error) {
	if p.router, err = newRouter(); err != nil {
		return err
	}
	if p.tracker, err = newTracker(); err != nil {
		return err
	}
	if err := p.tracker.check(); err != nil {
		p.log.Warn("proxy: UDP through the proxy will not work", "cause", err)
	}
	p.sockets, err = listen(ctx, port)
	return err
}

// Port returns the port that the firewall redirects to.
func (p *Proxy) Port() uint16 { return p.sockets.port }

// Recheck ends the flows whose destination is served by nobody or by another
// target now. It calls the Resolver, so the caller must not hold a lock that
// Target takes.
func (p *Proxy) Recheck() { p.flows.recheck() }

// Close stops listening, ends all flows and returns when they have ended.
func (p *Proxy) Close() error {
	p.stop()
	p.work.Wait()
	p.release()
	return nil
}

func (p *Proxy) release() {
	p.sockets.close()
	if p.tracker != nil {
		p.tracker.close()
	}
	if p.router != nil {
		p.router.close()
	}
}

// connectable reports why the target of who asked for dst must not be dialled, or nil.
func (p *Proxy) connectable(dst, target netip.AddrPort) error {
	own, err := p.router.local(target.Addr())
	if err != nil {
		return err
	}
	if own && (target.Addr().IsLoopback() || !dst.Addr().IsLoopback() && target != dst) {
		return fmt.Errorf("%s: is an address of this host", target)
	}
	return nil
}
