package etcd

import (
	"bytes"
	"context"
	"errors"
	"slices"
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
	// asked, or half of the time that is left: one that was just cut off from the
	// others takes a call and hangs.
	silent = 1500 * time.Millisecond
)

// insist is an interceptor that asks up to three times for what may be asked for again, while
// the member that is asked is silent: calls take turns between members. The last has
// all the time that is left, for a store that is slow.
func insist(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	end, ends := ctx.Deadline()
	if !ends || time.Until(end) < silent || !repeatable(req) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	for range 2 {
		try, cancel := context.WithTimeout(ctx, min(silent, time.Until(end)/2))
		err := invoke(try, method, req, reply, cc, opts...)
		late := try.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !late {
			return err
		}
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// repeatable says whether a call may be done twice. A lease that was granted and not heard of
// has no key, and ends by itself. A transaction that changes something is done once at
// most, if doing it ends a condition of its own: see wasDone.
func repeatable(req any) bool {
	switch r := req.(type) {
	case *pb.RangeRequest, *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest, *pb.AuthenticateRequest:
		return true
	case *pb.TxnRequest:
		writes := slices.ContainsFunc(r.Success, func(o *pb.RequestOp) bool { return o.GetRequestRange() == nil })
		return !writes || slices.ContainsFunc(r.Compare, func(c *pb.Compare) bool { return endsBy(c, r.Success) })
	}
	return false
}

// endsBy says whether a condition holds no more when operations were done: that a key was
// last put at a revision.
func endsBy(c *pb.Compare, ops []*pb.RequestOp) bool {
	return c.Target == pb.Compare_MOD && c.Result == pb.Compare_EQUAL && slices.ContainsFunc(ops, func(o *pb.RequestOp) bool {
		return bytes.Equal(o.GetRequestPut().GetKey(), c.Key) || c.GetModRevision() > 0 && bytes.Equal(o.GetRequestDeleteRange().GetKey(), c.Key)
	})
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
