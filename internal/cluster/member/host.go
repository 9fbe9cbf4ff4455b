// Package member is a host's part in a cluster of Sealane's own: the first five hosts
// run an etcd in their daemons, the others use it.
//
//	init ─▶ CA, certificate, etcd ─▶ token ──────────────┐ (a person carries it)
//	                                                     ▼
//	member: join port ◀── TLS, secret, signing request ── join
//	        │ ──── certificate, CA, members, for members the CA's key ──▶ │
//	        ▼                                                             ▼
//	      etcd ◀───────────── mutual TLS ─────────────── etcd, or its client
//
// A host that joins trusts whom the token says: it holds the hash of the CA's public
// key. The cluster lets in who knows the token's secret, of which it keeps a hash.
// The second half of each certificate's life is not waited for: when a third is left
// it is made anew.
//
// Members have all of the store and the CA's key, and so are trusted with everything.
// Further hosts are trusted with what is their own: whatever comes with a host's
// certificate, a member's too, goes through the gate (gate.go, rights.go).
package member

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/etcd"
	"github.com/sealane/sealane/internal/model"
)

// Config is what a host needs to be in a cluster.
type Config struct {
	Dir    string // where all of it is kept; it is made, and goes when the host leaves
	Name   string // of this host, unlike the others'
	Prefix string // of the fabrics' keys
	Ports  Ports
	Quota  int64 // bytes that etcd's database may have; 0: 512 MiB
	Now    func() time.Time
	Log    *slog.Logger
	// ID is who this host is in leases of fabrics, once and for all.
	ID func() (string, error)
	// Addrs says where the others find this host, if its user does not.
	Addrs func(context.Context) ([]netip.Addr, error)
	// Begin is told that Store is there, after Init and Join.
	Begin func()
	// End gives back what this host holds in the store, which it is about to leave;
	// with force it forgets it, whatever becomes of who uses it.
	End func(ctx context.Context, force bool) error
}

// Host is this host's part. Its methods may be called concurrently.
type Host struct {
	cfg   Config
	dir   dir
	store lateStore

	verbs sync.Mutex // held by the one who changes whether this host is in a cluster; taken before mu

	mu  sync.Mutex // protects the following
	run *running   // nil: this host is in no cluster, or Start failed
	err error      // of Start
}

// New prepares a host's part. Nothing is done yet. A host that is in a cluster has the
// name that it joined with, whatever Config says: by that the others know it.
func New(c Config) *Host {
	h := &Host{cfg: c, dir: dir(c.Dir)}
	if f, err := h.dir.readHost(); err == nil {
		h.cfg.Name = f.Name
	}
	return h
}

// Name is this host's in clusters.
func (h *Host) Name() string { return h.cfg.Name }

// Used reports whether this host is in a cluster, by what is kept.
func (h *Host) Used() bool { return h.dir.used() }

// Store is the cluster's while this host is in one, and else ErrAway.
func (h *Host) Store() cluster.Store { return &h.store }

// Start goes on with the cluster that this host is in, if any. It does not wait for
// other hosts: what is wrong with them Status says.
func (h *Host) Start() error {
	h.verbs.Lock()
	defer h.verbs.Unlock()
	if !h.dir.used() {
		return nil
	}
	f, err := h.dir.readHost()
	if err == nil {
		err = h.begin(f)
	}
	if err != nil {
		err = fmt.Errorf("cluster: %w", err)
		h.mu.Lock()
		h.err = err
		h.mu.Unlock()
	}
	return err
}

// Close stops this host's part until the next Start.
func (h *Host) Close() {
	h.verbs.Lock()
	defer h.verbs.Unlock()
	h.stop()
}

// begin runs this host's part. The caller holds verbs.
func (h *Host) begin(f hostFile) error {
	r, err := h.newRunning(f)
	if err != nil {
		return err
	}
	h.store.use(r.store)
	h.mu.Lock()
	h.run = r
	h.mu.Unlock()
	r.start()
	return nil
}

// stop ends it. The caller holds verbs.
func (h *Host) stop() {
	h.mu.Lock()
	r := h.run
	h.run, h.err = nil, nil
	h.mu.Unlock()
	if r == nil {
		return
	}
	h.store.use(nil)
	r.close()
}

// errAlone is that a host is in no cluster.
func errAlone(op string) error {
	return model.Errorf(model.NotFound, "cluster", op, "this host is in none").WithHint("sealane cluster init, or join")
}

// running returns this host's part in the cluster.
func (h *Host) running(op string) (*running, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return nil, model.Errorf(model.Internal, "cluster", op, "%w", h.err).WithHint("sealane cluster leave --force forgets it")
	case h.run == nil:
		return nil, errAlone(op)
	}
	return h.run, nil
}

// running is a host that is in a cluster.
type running struct {
	cfg     Config
	dir     dir
	host    hostFile         // without Voters
	store   *etcd.Store      // with the host's certificate
	admin   *etcd.Store      // the same with the member's, if this is one
	client  *clientv3.Client // as admin
	revoked revoked
	ctx     context.Context // until close
	cancel  context.CancelFunc
	work    sync.WaitGroup
	leaving atomic.Bool    // the members that are asked stay as they are
	restart func(hostFile) // goes on as another kind of host, aside

	mu     sync.Mutex // protects the following
	etcd   *embed.Etcd
	err    error    // why there is none, of a member
	voters []string // URLs
}

// tlsOf is how this host appears to others with one of its certificates, which is read
// for each connection, as it is renewed.
func (d dir) tlsOf(cert string) (*tls.Config, error) {
	text, err := d.read(fileCA)
	if err != nil {
		return nil, err
	}
	ca, err := parseCert(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.path(fileCA), err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	pair := func() (*tls.Certificate, error) {
		c, err := tls.LoadX509KeyPair(d.path(cert), d.path(fileKey))
		if err == nil {
			c.Certificate = append(c.Certificate, ca.Raw) // by which who joins knows us
		}
		return &c, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: pool, ClientCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair() },
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair() },
	}, nil
}

func (h *Host) newRunning(f hostFile) (*running, error) {
	r := &running{cfg: h.cfg, dir: h.dir, host: f, voters: f.Voters}
	r.restart = func(f hostFile) { go h.resume(r, f) }
	cert := fileCert
	if f.Member {
		cert = fileMember
		known, err := h.dir.readRevoked()
		if err != nil {
			return nil, fmt.Errorf("cluster: %s: %w", h.dir.path(fileRevoked), err)
		}
		r.revoked.set(known)
	}
	t, err := h.dir.tlsOf(cert)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if r.store, err = r.dial(fileCert); err != nil {
		return nil, err
	}
	if r.admin, err = r.dial(cert); err != nil {
		return nil, errors.Join(err, r.store.Close())
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.client, err = clientv3.New(clientv3.Config{
		Endpoints: f.Voters, TLS: t, Context: r.ctx, Logger: etcd.Logger(h.cfg.Log),
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
	})
	if err != nil {
		r.cancel()
		return nil, errors.Join(err, r.store.Close(), r.admin.Close())
	}
	return r, nil
}

// dial prepares the cluster's store, for who has a certificate of this host's.
func (r *running) dial(cert string) (*etcd.Store, error) {
	return etcd.Dial(etcd.Config{
		Endpoints: r.votersNow(), CA: r.dir.path(fileCA), Cert: r.dir.path(cert), Key: r.dir.path(fileKey), Log: r.cfg.Log,
	})
}

// start does what this host does for the cluster, until close.
func (r *running) start() {
	if r.host.Member {
		r.work.Go(r.keepEtcd)
		r.work.Go(r.keepJoins)
		r.followRevoked()
	}
	r.work.Go(r.tend)
}

func (r *running) close() {
	r.cancel()
	r.work.Wait()
	_ = r.client.Close() // says that its context is done
	if err := errors.Join(r.store.Close(), r.admin.Close()); err != nil {
		r.cfg.Log.Debug("cluster: close", "err", err)
	}
}

// again is how long a member waits before it tries what did not work.
const again = 5 * time.Second

// keepEtcd keeps this host's etcd running.
func (r *running) keepEtcd() {
	for r.ctx.Err() == nil {
		err := r.runEtcd()
		r.note(nil, err)
		if r.ctx.Err() == nil {
			r.cfg.Log.Warn("cluster: etcd", "err", err, "again", again)
		}
		sleep(r.ctx, again)
	}
}

// runEtcd runs it, and the gate before it, until one of the two ends.
func (r *running) runEtcd() error {
	if err := cmp.Or(r.dir.checkEtcd(r.host.Name), r.dir.checkRoom(roomToStart)); err != nil {
		return err
	}
	c, err := r.etcdConfig()
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(r.ctx, "tcp", net.JoinHostPort(r.host.Addr.String(), portText(r.cfg.Ports.Client)))
	if err != nil {
		return err
	}
	defer l.Close()
	e, err := startEtcd(c)
	if err != nil {
		return err
	}
	defer stopEtcd(e)
	ctx, cancel := context.WithCancel(r.ctx)
	deaf := make(chan error, 1)
	go func() { deaf <- r.serveHosts(ctx, e, l) }()
	cramped := make(chan error, 1)
	go func() {
		for sleep(ctx, tendMember) {
			if err := r.dir.checkRoom(roomToRun); err != nil {
				cramped <- err
				return
			}
		}
	}()
	r.note(e, nil)
	r.cfg.Log.Info("cluster: etcd runs", "address", r.host.Addr)
	select {
	case <-e.Server.StopNotify():
		err = errors.New("etcd stopped: this host may have been removed from the cluster")
	case err = <-e.Err():
	case err = <-cramped:
	case <-r.ctx.Done():
	case err = <-deaf:
		cancel()
		return err
	}
	r.note(nil, err)
	cancel()
	<-deaf
	return err
}

func (r *running) note(e *embed.Etcd, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.etcd, r.err = e, err
}

// state returns this host's etcd, or why there is none; both nil: it is starting.
func (r *running) state() (*embed.Etcd, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.etcd, r.err
}

// startTime is how long a member may take to find the others.
const startTime = 30 * time.Second

// await waits until this host's etcd is of use.
func (r *running) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		switch e, err := r.state(); {
		case err != nil:
			return err
		case e != nil:
			return ready(ctx, e)
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// sleep waits, and reports whether ctx is not done.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
