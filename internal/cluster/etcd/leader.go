package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// elsewhere is how long a call waits before the next member is asked.
const elsewhere = 20 * time.Millisecond

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
