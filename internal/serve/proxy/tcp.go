package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// How long a container has to accept a connection.
const dialTimeout = 5 * time.Second

// How long accepting rests when the host is out of file descriptors.
const acceptPause = 50 * time.Millisecond

func (p *Proxy) serveTCP(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.log.Warn("proxy: accept", "cause", err)
			time.Sleep(acceptPause)
		default:
			p.work.Go(func() { p.connection(c) })
		}
	}
}

// connection serves one client from beginning to end.
func (p *Proxy) connection(client *net.TCPConn) {
	dst, err := original(client)
	if err != nil || dst.Port() == p.Port() {
		abort(client)
		return
	}
	f, ok := p.flows.begin("tcp", client.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), dst)
	if !ok {
		abort(client)
		return
	}
	defer f.end()
	server, err := p.dial(f)
	if err != nil {
		p.log.Debug("proxy: connect", "destination", dst, "target", f.target, "cause", err)
		abort(client)
		return
	}
	relay(f, client, server)
}

func (p *Proxy) dial(f *flow) (*net.TCPConn, error) {
	if err := p.connectable(f.target); err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(f, "tcp", f.target.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// relay copies both ways until both sides have said that they are done, one
// of them breaks, or the flow has to end.
func relay(f *flow, client, server *net.TCPConn) {
	stop := context.AfterFunc(f, func() {
		abort(client)
		abort(server)
	})
	var both sync.WaitGroup
	both.Go(func() { forward(f, server, client) })
	both.Go(func() { forward(f, client, server) })
	both.Wait()
	if stop() {
		client.Close()
		server.Close()
	}
}

// forward copies until from says that it is done, and passes that on. Copying
// between TCP connections is splice(2): the bytes stay in the kernel.
func forward(f *flow, to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		f.end() // a broken side breaks the other, as it would without us
		return
	}
	to.CloseWrite()
}

// abort closes with a reset, so that the peer does not take it for an end.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}
