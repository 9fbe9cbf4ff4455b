package etcd

import (
	"context"
	"errors"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// note is what went wrong last in a call: etcd's client waits for a connection as
// long as it may, and then says that it took too long, not why there was none.
type note struct {
	mu  sync.Mutex // protects the following
	err error
}

type noteKey struct{}

// noted has calls with a context leave a note.
func noted(ctx context.Context) (context.Context, *note) {
	n := &note{}
	return context.WithValue(ctx, noteKey{}, n), n
}

// leave is an interceptor that leaves notes.
func leave(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if n, ok := ctx.Value(noteKey{}).(*note); ok && err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.err = err
	}
	return err
}

// why is an error, or what was before it if it says only that time was up.
func (n *note) why(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) && status.Code(err) != codes.DeadlineExceeded {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		return err
	}
	if leaderless(n.err) {
		return n.err
	}
	if _, reason, ok := strings.Cut(status.Convert(n.err).Message(), "latest balancer error: "); ok {
		return status.Error(codes.Unavailable, reason)
	}
	return err
}
