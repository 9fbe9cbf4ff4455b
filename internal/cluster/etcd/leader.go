package etcd

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const (
	// elsewhere is how long a call waits before the next member is asked.
	elsewhere = 20 * time.Millisecond

	// silent is how long a member may take to answer before another is
	// asked: one that was just cut off from the others takes a call and hangs.
	silent = 1500 * time.Millisecond
)

// read is an interceptor that asks twice for what is only read, if the first member that
// is asked is silent. The second has all the time that is left.
func read(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	end, ends := ctx.Deadline()
	if _, is := req.(*pb.RangeRequest); !is || !ends || time.Until(end) < 2*silent {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	first, cancel := context.WithTimeout(ctx, silent)
	err := invoke(first, method, req, reply, cc, opts...)
	late := first.Err() != nil && ctx.Err() == nil
	cancel()
	if err == nil || !late {
		return err
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// led is an interceptor that has a call done by a member that knows a leader. One that
// is cut off from the others, but not from this host, would be silent as long as
// anybody waits; asked for a leader, it says at once that there is none, and has done
// nothing.
func led(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx = clientv3.WithRequireLeader(ctx)
	for {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if _, ends := ctx.Deadline(); !ends || !leaderless(err) {
			return err
		}
		select {
		case <-time.After(elsewhere): // calls take turns between members
		case <-ctx.Done():
			return err
		}
	}
}

func leaderless(err error) bool { return errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) }
