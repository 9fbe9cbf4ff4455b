package etcd_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/etcd"
)

// lonely is a member that knows no leader: it says so to who asks, and lets others wait.
func lonely(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	url, asked = newURL("http"), new(atomic.Int32)
	l, err := net.Listen("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		asked.Add(1)
		if md, _ := metadata.FromIncomingContext(ctx); len(md[rpctypes.MetadataRequireLeaderKey]) == 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, rpctypes.ErrGRPCNoLeader
	}))
	pb.RegisterKVServer(s, &pb.UnimplementedKVServer{})
	pb.RegisterLeaseServer(s, &pb.UnimplementedLeaseServer{})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return url, asked
}

// TestMemberWithoutLeader has one of two members know no leader: the other does it all.
func TestMemberWithoutLeader(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	url, asked := lonely(t)
	s := dial(t, etcd.Config{Endpoints: []string{url, m.url}})
	ready(t, s)
	for n := 0; n < 20 || asked.Load() == 0; n++ {
		rev, done, err := s.Commit(t.Context(), put(fmt.Sprintf("/%d", n), "x", time.Minute))
		if err != nil || !done {
			t.Fatalf("transaction %d: revision %d, done %v: %v", n, rev, done, err)
		}
		if _, err := s.List(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the member without a leader was asked %d times", asked.Load())
}

// TestSilentMember has one of two members take calls and answer none, as one does that was
// just cut off from the others: what is read comes from the other in time.
func TestSilentMember(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	url, asked := newURL("http"), new(atomic.Int32)
	l, err := net.Listen("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		asked.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	pb.RegisterKVServer(server, &pb.UnimplementedKVServer{})
	go server.Serve(l)
	t.Cleanup(server.Stop)
	s := dial(t, etcd.Config{Endpoints: []string{url, m.url}})
	ready(t, s)
	for n := 0; n < 4 || asked.Load() == 0; n++ {
		if _, err := s.List(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNobodyHasALeader is told what is wrong when time is up.
func TestNobodyHasALeader(t *testing.T) {
	t.Parallel()
	url, _ := lonely(t)
	s := dial(t, etcd.Config{Endpoints: []string{url}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, _, err := s.Commit(ctx, put("/a", "x", 0))
	if err == nil {
		t.Fatal("a transaction was done")
	}
	_, err = s.List(t.Context(), "/")
	if err == nil || !strings.Contains(err.Error(), cluster.ErrAway.Error()) {
		t.Errorf("list: %v", err)
	}
	t.Log(err)
}
