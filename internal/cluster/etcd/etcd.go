// Package etcd is the store of a cluster in an etcd, version 3.4 or later.
//
// There is one gRPC connection for each member, and calls take turns between them; one
// that takes a call and does not answer has none for a while (quiet.go). A member that is gone is left after 5 s at most: each Watch asks for a sign of life
// every second, and what it sends is acknowledged within 3 s or the connection is given
// up (TCP_USER_TIMEOUT, which gRPC sets to its keep-alive's timeout).
//
// A store that was restored from a backup counts revisions that were counted before.
// It is known by a cluster ID, raft term or revision that went back between two calls
// that followed each other, which none does otherwise: both calls asked a majority.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"

	"github.com/sealane/sealane/internal/cluster"
)

// Times of a connection.
const (
	// keepAliveTime is the least that gRPC allows, and no less than etcd's
	// --grpc-keepalive-min-time, which hangs up on who asks more often.
	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 3 * time.Second

	// gRPC waits up to two minutes between attempts unless it is told otherwise.
	connectTimeout = 2 * time.Second
	connectAgain   = 100 * time.Millisecond
	connectSeldom  = 2 * time.Second
)

// Store is an etcd.
type Store struct {
	name   string // for errors: the endpoints
	user   string
	asked  *atomic.Bool    // a member wanted to see a certificate of ours
	ctx    context.Context // until Close
	cancel context.CancelFunc
	turn   chan struct{}  // who connects has it
	work   sync.WaitGroup // revocations

	password func() (string, error)      // as it is by now
	trust    func() (*tls.Config, error) // the same

	mu      sync.Mutex      // protects the following
	cfg     clientv3.Config // of which only the endpoints, the password and the CA change
	client  *clientv3.Client
	known   lineage
	granted map[string][]grant // by key
}

// Dial prepares a store. It connects with the first call, so that an etcd that is
// away is no error here. Files are read now; a certificate is read again whenever a
// connection is made, so that it can be renewed, a password when etcd refuses it, and
// a CA when it is not etcd's.
func Dial(c Config) (*Store, error) {
	endpoints, err := c.endpoints()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	name := strings.Join(endpoints, ",")
	var asked atomic.Bool
	trust := func() (*tls.Config, error) { return c.tls(strings.HasPrefix(endpoints[0], "https:"), &asked) }
	whom, err := trust()
	if err != nil {
		return nil, fmt.Errorf("etcd %s: %w", name, err)
	}
	password, err := c.password()
	if err != nil {
		return nil, fmt.Errorf("etcd %s: %w", name, err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{name: name, user: c.Username, asked: &asked, turn: make(chan struct{}, 1), password: c.password, trust: trust, granted: map[string][]grant{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.cfg = clientv3.Config{
		Endpoints: endpoints, TLS: whom, Username: c.Username, Password: password, Context: s.ctx,
		DialTimeout: cluster.Patience, DialKeepAliveTime: keepAliveTime, DialKeepAliveTimeout: keepAliveTimeout,
		Logger: logger(c.Log.With("etcd", name)),
		DialOptions: append(spare(), grpc.WithChainUnaryInterceptor(leave, insist, led), grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: connectTimeout,
			Backoff:           backoff.Config{BaseDelay: connectAgain, Multiplier: 1.6, Jitter: 0.2, MaxDelay: connectSeldom},
		})),
	}
	return s, nil
}

// Close implements cluster.Store. It waits a moment for leases to be given back.
func (s *Store) Close() error {
	idle := make(chan struct{})
	go func() { s.work.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-time.After(time.Second):
	}
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return nil
	}
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("etcd %s: close: %w", s.name, err)
	}
	return nil
}

// connected returns the client. Where there is a password, to make one takes a call.
func (s *Store) connected(ctx context.Context) (*clientv3.Client, error) {
	s.mu.Lock()
	c := s.client
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	type result struct {
		client *clientv3.Client
		err    error
	}
	made := make(chan result, 1)
	go func() {
		defer func() { <-s.turn }()
		c, err := s.connect()
		made <- result{c, err}
	}()
	select {
	case r := <-made:
		return r.client, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect makes the client, unless somebody has. Its caller has the turn.
func (s *Store) connect() (*clientv3.Client, error) {
	s.mu.Lock()
	c := s.client
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	ctx, n := noted(s.ctx)
	s.mu.Lock()
	cfg := s.cfg
	s.mu.Unlock()
	cfg.Context = ctx
	if cfg.TLS != nil && len(cfg.Endpoints) > 1 {
		whose := grpc.WithTransportCredentials(named{credentials.NewTLS(cfg.TLS)})
		cfg.DialOptions = append(cfg.DialOptions[:len(cfg.DialOptions):len(cfg.DialOptions)], whose)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		return nil, n.why(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		_ = c.Close() // it has said nothing yet
		return nil, s.ctx.Err()
	}
	c.SetEndpoints(s.cfg.Endpoints...) // they may be others by now
	s.client = c
	return c, nil
}

// repass has the store use the password that its file says by now, if that is another one,
// from the next call on.
func (s *Store) repass() {
	password, err := s.password()
	if err != nil {
		return // somebody may be writing it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if password == s.cfg.Password {
		return
	}
	s.cfg.Password = password
	s.renew()
}

// retrust has the store trust the CA that its file says by now, if that is another one, from
// the next call on.
func (s *Store) retrust() {
	t, err := s.trust()
	if err != nil || t == nil {
		return // somebody may be writing it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.RootCAs.Equal(s.cfg.TLS.RootCAs) {
		return
	}
	s.cfg.TLS = t
	s.renew()
}

// renew has the next call make a client, for this one has what was for ever. The caller
// holds mu.
func (s *Store) renew() {
	if s.client != nil {
		_ = s.client.Close()
		s.client = nil
	}
}

// SetEndpoints has the store use other members of the same cluster from now on. Their
// URLs are of the form, and of the scheme, that Dial was given.
func (s *Store) SetEndpoints(urls []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Endpoints = urls
	if s.client != nil {
		s.client.SetEndpoints(urls...)
	}
}

// limit is a context that ends after Patience, unless the caller's has a deadline.
func limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, cluster.Patience)
}

// List implements cluster.Store.
func (s *Store) List(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	limited, cancel := limit(ctx)
	defer cancel()
	limited, n := noted(limited)
	snap, err := s.list(limited, prefix)
	return snap, s.explain(ctx, "list "+prefix, n.why(err))
}

func (s *Store) list(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	c, err := s.connected(ctx)
	if err != nil {
		return cluster.Snapshot{}, err
	}
	before := s.lineage()
	resp, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return cluster.Snapshot{}, err
	}
	now := s.saw(before, resp.Header)
	snap := cluster.Snapshot{ID: now.id(), Rev: resp.Header.Revision, Entries: make([]cluster.Entry, 0, len(resp.Kvs))}
	for _, kv := range resp.Kvs { // by key, says etcd
		snap.Entries = append(snap.Entries, cluster.Entry{Key: string(kv.Key), Value: kv.Value, Rev: kv.ModRevision, Lasting: kv.Lease == 0})
	}
	return snap, nil
}

// lineage is which store it is, and how far it has come.
type lineage struct {
	cluster uint64
	term    uint64
	rev     int64
	epoch   int // how often it turned out to be another than before
}

// id names the store for this process.
func (l lineage) id() string { return fmt.Sprintf("%016x.%d", l.cluster, l.epoch) }

func (s *Store) lineage() lineage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known
}

// saw takes the header of an answer that a majority agreed on. What was known before
// the call cannot be later than the answer, or it is of another store. Calls may be
// answered side by side, so what is known by now can.
func (s *Store) saw(before lineage, h *pb.ResponseHeader) lineage {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case before.epoch != s.known.epoch:
	case s.known.cluster == 0:
		s.known = lineage{h.ClusterId, h.RaftTerm, h.Revision, 0}
	case h.ClusterId != before.cluster && before.cluster != 0 || h.RaftTerm < before.term || h.Revision < before.rev:
		s.known = lineage{h.ClusterId, h.RaftTerm, h.Revision, s.known.epoch + 1}
	default:
		s.known.term, s.known.rev = max(s.known.term, h.RaftTerm), max(s.known.rev, h.Revision)
	}
	return s.known
}

// anySize is the limit of an answer: there is none, as in etcd's own client.
const anySize = math.MaxInt32
