package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// note is what went wrong last in a call: etcd's client waits for a connection as
// long as it may, and then says that it took too long, not why there was none.
type note struct {
	mu  sync.Mutex // protects the following
	err error
	at  string // whose answer it is; "": nobody answered
}

type noteKey struct{}

// noted has calls with a context leave a note.
func noted(ctx context.Context) (context.Context, *note) {
	n := &note{}
	return context.WithValue(ctx, noteKey{}, n), n
}

// leave is an interceptor that leaves notes.
func leave(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	n, ok := ctx.Value(noteKey{}).(*note)
	if !ok {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var who peer.Peer
	err := invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Peer(&who))...)
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.err, n.at = err, ""; who.Addr != nil {
			n.at = who.Addr.String()
		}
	}
	return err
}

// answer is an error that a member answered.
type answer struct {
	error
	of string // that member
}

// Unwrap returns what it said.
func (a *answer) Unwrap() error { return a.error }

// why is an error, or what was before it if it says only that time was up, and whose
// answer it is.
func (n *note) why(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		_, reason, ok := strings.Cut(status.Convert(n.err).Message(), "latest balancer error: ")
		switch {
		case n.err != nil && leaderless(n.err):
			err = n.err
		case n.err != nil && ok:
			return status.Error(codes.Unavailable, reason)
		default:
			return err
		}
	}
	if err != nil && n.at != "" {
		return &answer{err, n.at}
	}
	return err
}

// named are credentials whose errors say which member they are about, for gRPC does not.
type named struct {
	credentials.TransportCredentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (c named) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		err = fmt.Errorf("%w (%s)", err, raw.RemoteAddr())
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (c named) Clone() credentials.TransportCredentials { return named{c.TransportCredentials.Clone()} }
