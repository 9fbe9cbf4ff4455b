package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/sealane/sealane/internal/cluster"
)

// Times of a Watch.
const (
	beat    = 2 * time.Second         // between questions for a sign of life
	silence = 4500 * time.Millisecond // after which a member is left
	attempt = 1500 * time.Millisecond // for a member to answer at first
	review  = 10 * time.Second        // between questions whether we may still read
	again   = 50 * time.Millisecond   // before the next attempt, doubled up to
	seldom  = 500 * time.Millisecond
)

// watch is one Watch. It has streams of its own rather than those of etcd's client,
// which come back by themselves and so say nothing of a store that was away, or that
// is another one since.
type watch struct {
	store  *Store
	prefix string
	rev    int64 // up to where all was sent
	epoch  int   // of the store that rev is of
	told   bool  // something was sent
	in     chan<- cluster.Batch
}

// Watch implements cluster.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after int64) <-chan cluster.Batch {
	in := make(chan cluster.Batch)
	out := cluster.Merge(ctx, in)
	w := &watch{store: s, prefix: prefix, rev: after, epoch: s.lineage().epoch, in: in}
	go func() {
		defer close(in)
		err := w.run(ctx)
		if ctx.Err() == nil {
			w.send(ctx, cluster.Batch{Rev: w.rev, Err: s.explain(ctx, "watch "+prefix, err)})
		}
	}()
	return out
}

// run keeps a stream, until there is no use in another.
func (w *watch) run(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	defer context.AfterFunc(w.store.ctx, cancel)()
	touched := time.Now()
	for wait := again; ; wait = min(2*wait, seldom) {
		up, err := w.stream(ctx)
		if up {
			touched, wait = time.Now(), again
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(w.store.kind(err), cluster.ErrAway) || time.Since(touched) > cluster.Patience {
			return err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stream opens a stream and reads it to its end. It says whether it came about.
func (w *watch) stream(ctx context.Context) (up bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := w.reach(ctx)
	if err != nil {
		return false, err
	}
	// WithRequireLeader: a member that has lost the others says so.
	stream, err := pb.NewWatchClient(c.ActiveConnection()).Watch(clientv3.WithRequireLeader(ctx), grpc.MaxCallRecvMsgSize(anySize))
	if err != nil {
		return false, err
	}
	if err := stream.Send(w.request()); err != nil {
		_, err = stream.Recv() // it says why
		return false, err
	}
	responses, failed := receive(ctx, stream)
	reviewed := make(chan error)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	begin, ask := time.After(attempt), time.After(review)
	for heard := time.Now(); ; {
		select {
		case r := <-responses:
			heard = time.Now()
			if err := w.take(ctx, r); err != nil {
				return up, err
			}
			up = true
		case err := <-failed:
			return up, err
		case <-ask: // a stream outlives the right to it
			ask = nil
			go func() {
				_, err := w.reach(ctx)
				select {
				case reviewed <- err:
				case <-ctx.Done():
				}
			}()
		case err := <-reviewed:
			if err != nil && !errors.Is(w.store.kind(err), cluster.ErrAway) {
				return up, err
			}
			ask = time.After(review)
		case <-begin:
			if !up {
				return false, fmt.Errorf("%w: a member is silent", cluster.ErrAway)
			}
		case <-ticker.C:
			if time.Since(heard) > silence {
				return up, fmt.Errorf("%w: a member is silent", cluster.ErrAway)
			}
			_ = stream.Send(alive()) // what is wrong with the stream, Recv says
		}
	}
}

// receive reads a stream until ctx is done or the stream ends.
func receive(ctx context.Context, stream pb.Watch_WatchClient) (<-chan *pb.WatchResponse, <-chan error) {
	responses, failed := make(chan *pb.WatchResponse), make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case responses <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return responses, failed
}

// reach asks a majority whether the store is the one that the revision is of.
func (w *watch) reach(ctx context.Context) (*clientv3.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	ctx, n := noted(ctx)
	c, err := w.store.connected(ctx)
	if err != nil {
		return nil, n.why(err)
	}
	before := w.store.lineage()
	resp, err := c.Get(ctx, w.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return nil, n.why(err)
	}
	if now := w.store.saw(before, resp.Header); now.epoch != w.epoch || resp.Header.Revision < w.rev {
		return nil, fmt.Errorf("%w: it was restored or begun anew", cluster.ErrCompacted)
	}
	return c, nil
}

// request asks for what comes after what was sent, and now and then for how far that
// is, so that a prefix where nothing happens is not lost to compaction.
func (w *watch) request() *pb.WatchRequest {
	key, end := []byte(w.prefix), []byte(clientv3.GetPrefixRangeEnd(w.prefix))
	if w.prefix == "" {
		key, end = []byte{0}, []byte{0}
	}
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: key, RangeEnd: end, StartRevision: w.rev + 1, ProgressNotify: true,
	}}}
}

// alive asks for a sign of life. The revision in the answer is not to be relied on:
// etcd before 3.4.25 and 3.5.8 sends it ahead of what happened up to there.
func alive() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}
}

// everyWatch is the ID in answers to alive.
const everyWatch = -1

// take passes on what a response says.
func (w *watch) take(ctx context.Context, r *pb.WatchResponse) error {
	switch {
	case r.CompactRevision > 0:
		return fmt.Errorf("%w: it knows of %d and later", cluster.ErrCompacted, r.CompactRevision)
	case r.Canceled:
		return rpctypes.Error(errors.New(r.CancelReason))
	case len(r.Events) > 0:
		// The header's revision may be ahead of what was sent.
		w.rev = r.Events[len(r.Events)-1].Kv.ModRevision
		w.send(ctx, cluster.Batch{Rev: w.rev, Changes: changes(r.Events)})
	case !r.Created && r.WatchId != everyWatch:
		w.rev = max(w.rev, r.Header.Revision)
		w.send(ctx, cluster.Batch{Rev: w.rev})
	case !w.told:
		w.send(ctx, cluster.Batch{Rev: w.rev})
	}
	return nil
}

func changes(events []*mvccpb.Event) []cluster.Change {
	var out []cluster.Change
	for _, e := range events {
		c := cluster.Change{Entry: cluster.Entry{Key: string(e.Kv.Key), Rev: e.Kv.ModRevision}, Gone: e.Type == mvccpb.DELETE}
		if !c.Gone {
			c.Value, c.Lasting = e.Kv.Value, e.Kv.Lease == 0
		}
		out = append(out, c)
	}
	return out
}

func (w *watch) send(ctx context.Context, b cluster.Batch) {
	w.told = true
	select {
	case w.in <- b:
	case <-ctx.Done():
	}
}
