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
			p.accept.Say("cause", err)
			time.Sleep(acceptPause)
		default:
			p.accepted(c)
		}
	}
}

// accepted begins to serve a client, or refuses it at once: what waits for its
// turn would be more than what is counted.
func (p *Proxy) accepted(client *net.TCPConn) {
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
	p.work.Go(func() { p.connection(f, client) })
}

// connection serves one client to the end.
func (p *Proxy) connection(f *flow, client *net.TCPConn) {
	defer f.end()
	server, err := p.dial(f)
	if err != nil {
		p.log.Debug("proxy: connect", "destination", f.dst, "target", f.target, "cause", err)
		abort(client)
		return
	}
	relay(f, client, server)
}

func (p *Proxy) dial(f *flow) (*net.TCPConn, error) {
	if err := p.connectable(f.dst, f.target); err != nil {
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
	var other sync.WaitGroup
	other.Go(func() { forward(f, server, client) })
	forward(f, client, server)
	other.Wait()
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
