package member

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sealane/sealane/internal/cluster/flannel"
)

// Whoever is on the network can open connections at the port for hosts: so many at once,
// which is more than thousands of hosts need, and for so long without a certificate.
const (
	maxConns  = 32768
	greetTime = 10 * time.Second
)

// serveHosts answers hosts, on behalf of an etcd, until ctx is done.
func (r *running) serveHosts(ctx context.Context, e *embed.Etcd, l net.Listener) error {
	select {
	case <-e.Server.ReadyNotify():
	case <-e.Server.StopNotify():
		return errors.New("etcd: start: it stopped")
	case <-ctx.Done():
		return nil
	}
	t, err := r.dir.tlsOf(fileCert)
	if err != nil {
		return err
	}
	t.ClientAuth = tls.RequireAndVerifyClientCert
	t.VerifyConnection = func(s tls.ConnectionState) error { return r.revoked.refuse(s) }
	g := newGate(r.cfg, &r.revoked, e.Server)
	s := v3rpc.Server(e.Server, t, nil,
		grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream),
		grpc.ConnectionTimeout(greetTime),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: embed.DefaultGRPCKeepAliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: embed.DefaultGRPCKeepAliveInterval, Timeout: embed.DefaultGRPCKeepAliveTimeout}))
	defer context.AfterFunc(ctx, s.Stop)()
	if err := s.Serve(transport.LimitListener(l, maxConns)); ctx.Err() == nil {
		return fmt.Errorf("the port for hosts: %w", err)
	}
	return nil
}

// revoked are the certificates that are refused, also on connections that are there
// already.
type revoked struct {
	mu      sync.RWMutex        // protects the following
	serials map[string]struct{} // in hex
}

func (r *revoked) set(serials map[string]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serials = serials
}

// refuse refuses a connection whose certificate is in it, or that has none.
func (r *revoked) refuse(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("hosts come with a certificate")
	}
	if r.has(serialText(s.PeerCertificates[0])) {
		return errRemoved
	}
	return nil
}

func (r *revoked) has(serial string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, is := r.serials[serial]
	return is
}

// gate is what calls of hosts go through before etcd answers them. Who comes with a
// member's certificate may do everything that etcd does.
type gate struct {
	domain  domain
	revoked *revoked
	keys    ranger
	turn    chan struct{} // held by the bid that is judged: two would be in each other's way
	memo    memo          // of the holder of turn
	log     *slog.Logger
	now     func() time.Time

	mu   sync.Mutex           // protects the following
	told map[string]time.Time // when the log last told of what a host may not do
}

func newGate(c Config, r *revoked, keys ranger) *gate {
	return &gate{
		domain: domain(strings.TrimRight(c.Prefix, "/")), revoked: r, keys: keys,
		turn: make(chan struct{}, 1), memo: memo{}, log: c.Log, now: c.Now, told: map[string]time.Time{},
	}
}

// tell has the log say what a host may not do: once a minute for each.
func (g *gate) tell(name string, err error) {
	if status.Code(err) != codes.PermissionDenied {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.now(); now.Sub(g.told[name]).Abs() >= time.Minute {
		g.told[name] = now
		g.log.Warn("cluster: refused", "host", name, "err", status.Convert(err).Message())
	}
}

// ranger is etcd, as far as the gate asks it by itself.
type ranger interface {
	Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error)
}

func denied(format string, args ...any) error {
	return status.Errorf(codes.PermissionDenied, format, args...)
}

// caller returns whose certificate a call came with: a host's name or nameMember.
func (g *gate) caller(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", denied("who calls is not known")
	}
	t, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", denied("it takes TLS")
	}
	if err := g.revoked.refuse(t.State); err != nil {
		return "", denied("%s", err)
	}
	return t.State.PeerCertificates[0].Subject.CommonName, nil
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	name, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	if r, ok := req.(*pb.LeaseGrantRequest); ok && name == nameMember && r.ID == 0 {
		return grant(ctx, 0, r.TTL, next)
	}
	if name == nameMember {
		return next(ctx, req)
	}
	resp, err := g.hostCall(ctx, name, req, info, next)
	g.tell(name, err)
	return resp, err
}

// hostCall does what a host asks for, if the host may.
func (g *gate) hostCall(ctx context.Context, name string, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	switch r := req.(type) {
	case *pb.LeaseGrantRequest:
		return g.grantHost(ctx, name, r, next)
	case *pb.RangeRequest:
		if !g.domain.readable(r.Key, r.RangeEnd) {
			return nil, denied("host %s may not read %q: %s", name, r.Key, errRead)
		}
	case *pb.TxnRequest:
		return g.txn(ctx, name, r, next)
	case *pb.LeaseRevokeRequest:
		if err := g.ownLease(ctx, name, r.ID); err != nil {
			return nil, err
		}
	case *pb.LeaseTimeToLiveRequest, *pb.MemberListRequest, *pb.StatusRequest:
	default:
		return nil, denied("host %s may not do that: %s is for members", name, info.FullMethod)
	}
	return next(ctx, req)
}

// host reads who a certificate is for, from a majority.
func (g *gate) host(ctx context.Context, name string) (h Record, err error) {
	resp, err := g.keys.Range(ctx, &pb.RangeRequest{Key: []byte(keyHosts + name)})
	if err != nil {
		return h, err
	}
	if len(resp.Kvs) == 0 {
		return h, denied("%s", errRemoved)
	}
	return h, json.Unmarshal(resp.Kvs[0].Value, &h)
}

// grantHost gives a host a lease of its own.
func (g *gate) grantHost(ctx context.Context, name string, r *pb.LeaseGrantRequest, next grpc.UnaryHandler) (any, error) {
	h, err := g.host(ctx, name)
	if err != nil {
		return nil, err
	}
	if r.ID != 0 || r.TTL > int64(flannel.TTL/time.Second) || h.Number == 0 {
		return nil, denied("host %s may not have such a lease: for %s at most, with an ID that a member gives it", name, flannel.TTL)
	}
	return grant(ctx, h.Number, r.TTL, next)
}

// grant gives a lease an ID that says whose it is: of the host with a number, or, with 0,
// of a member's and no host's.
func grant(ctx context.Context, number uint32, ttl int64, next grpc.UnaryHandler) (any, error) {
	for {
		var low [4]byte
		rand.Read(low[:]) // never fails
		resp, err := next(ctx, &pb.LeaseGrantRequest{TTL: ttl, ID: int64(number)<<32 | int64(binary.BigEndian.Uint32(low[:])|1)})
		if !errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseExist) || ctx.Err() != nil {
			return resp, err
		}
	}
}

// ownLease refuses what is about another's.
func (g *gate) ownLease(ctx context.Context, name string, id int64) error {
	h, err := g.host(ctx, name)
	if err == nil && !h.owns(id) {
		err = denied("host %s may not end or renew lease %016x: it is not its own", name, id)
	}
	return err
}

// bids is how often a bid is judged anew when somebody was quicker.
const bids = 20

// txn does a host's transaction, if the host may. It is judged by what a majority says
// there is, and not done if that has changed until then.
func (g *gate) txn(ctx context.Context, name string, r *pb.TxnRequest, next grpc.UnaryHandler) (any, error) {
	b, err := g.domain.bid(r)
	if err != nil {
		return nil, denied("host %s may not do that: %s", name, err)
	}
	if len(b.wishes) == 0 {
		return next(ctx, r)
	}
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	for range bids {
		t, err := g.judged(ctx, name, b, next)
		if err != nil {
			return nil, err
		}
		if t == nil {
			break
		}
		resp, err := next(ctx, t)
		if a, ok := resp.(*pb.TxnResponse); err != nil || ok && a.Succeeded {
			return resp, err
		}
	}
	return next(ctx, undone())
}

// judged returns what is to be done for a bid; nil: its conditions do not hold.
func (g *gate) judged(ctx context.Context, name string, b bid, next grpc.UnaryHandler) (*pb.TxnRequest, error) {
	for _, all := range []bool{false, true} {
		resp, err := next(ctx, b.asks(name, all))
		if err != nil {
			return nil, err
		}
		a, ok := resp.(*pb.TxnResponse)
		if !ok {
			return nil, status.Error(codes.Internal, "not a transaction's answer")
		}
		s := sceneOf(a, g.memo)
		h := s.said(keyHosts + name)
		if h == nil || h.err != nil {
			return nil, denied("%s", errRemoved)
		}
		if !b.holds(s) {
			return nil, nil
		}
		if !all && !b.renews(s) {
			continue
		}
		if err := b.judge(h.host, s); err != nil {
			return nil, denied("%s", err)
		}
		return b.pinned(name, s, all), nil
	}
	return nil, nil
}

// stream lets hosts watch, and keep their leases.
func (g *gate) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	name, err := g.caller(s.Context())
	if err != nil {
		return err
	}
	watches := info.FullMethod == "/etcdserverpb.Watch/Watch"
	if name != nameMember && !watches && info.FullMethod != "/etcdserverpb.Lease/LeaseKeepAlive" {
		return denied("host %s may not do that: %s is for members", name, info.FullMethod)
	}
	return next(srv, &gatedStream{s, g, name})
}

// gatedStream checks each message.
type gatedStream struct {
	grpc.ServerStream
	gate *gate
	name string
}

// RecvMsg implements grpc.ServerStream.
func (s *gatedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if _, err := s.gate.caller(s.Context()); err != nil || s.name == nameMember {
		return err
	}
	err := s.check(m)
	s.gate.tell(s.name, err)
	return err
}

func (s *gatedStream) check(m any) error {
	switch r := m.(type) {
	case *pb.WatchRequest:
		if c := r.GetCreateRequest(); c != nil && !s.gate.domain.readable(c.Key, c.RangeEnd) {
			return denied("host %s may not watch %q: %s", s.name, c.Key, errRead)
		}
	case *pb.LeaseKeepAliveRequest:
		return s.gate.ownLease(s.Context(), s.name, r.ID)
	}
	return nil
}

// SendMsg implements grpc.ServerStream.
func (s *gatedStream) SendMsg(m any) error {
	if _, err := s.gate.caller(s.Context()); err != nil {
		return err
	}
	return s.ServerStream.SendMsg(m)
}
