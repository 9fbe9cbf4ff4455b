package member

import (
	"context"
	"fmt"
	"sync"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/etcd"
)

// lateStore is the store of the cluster that this host is in at the time, for who was
// there before.
type lateStore struct {
	mu    sync.Mutex // protects the following
	store *etcd.Store
}

// use makes a store that of all calls to come; nil: there is none.
func (l *lateStore) use(s *etcd.Store) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store = s
}

func (l *lateStore) now() (*etcd.Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store == nil {
		return nil, fmt.Errorf("cluster: %w: this host is in none", cluster.ErrAway)
	}
	return l.store, nil
}

// List implements cluster.Store.
func (l *lateStore) List(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	s, err := l.now()
	if err != nil {
		return cluster.Snapshot{}, err
	}
	return s.List(ctx, prefix)
}

// Watch implements cluster.Store.
func (l *lateStore) Watch(ctx context.Context, prefix string, after int64) <-chan cluster.Batch {
	s, err := l.now()
	if err != nil {
		c := make(chan cluster.Batch, 1)
		c <- cluster.Batch{Err: err}
		close(c)
		return c
	}
	return s.Watch(ctx, prefix, after)
}

// Commit implements cluster.Store.
func (l *lateStore) Commit(ctx context.Context, t cluster.Txn) (int64, bool, error) {
	s, err := l.now()
	if err != nil {
		return 0, false, err
	}
	return s.Commit(ctx, t)
}

// Close implements cluster.Store: the host closes what it uses.
func (l *lateStore) Close() error { return nil }
