package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/etcd"
)

// lonely is a member that knows no leader: it says so to who asks, and lets others wait.
func lonely(t *testing.T) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	url = poor(t, func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		asked.Add(1)
		if md, _ := metadata.FromIncomingContext(ctx); len(md[rpctypes.MetadataRequireLeaderKey]) == 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, rpctypes.ErrGRPCNoLeader
	})
	return url, asked
}

// poor is a member of which answer says what becomes of each call.
func poor(t *testing.T, answer grpc.UnaryServerInterceptor) (url string) {
	t.Helper()
	url = newURL("http")
	l, err := net.Listen("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(answer))
	pb.RegisterKVServer(s, &pb.UnimplementedKVServer{})
	pb.RegisterLeaseServer(s, &pb.UnimplementedLeaseServer{})
	pb.RegisterAuthServer(s, &pb.UnimplementedAuthServer{})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return url
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

// silent is a member that takes calls and answers none, as one does that was just cut off from
// the others, or is stopped. It does transactions before, by a client if there is one.
func silent(t *testing.T, through *clientv3.Client) (url string, asked map[string]*atomic.Int32) {
	t.Helper()
	asked = map[string]*atomic.Int32{"Range": {}, "Txn": {}, "LeaseGrant": {}, "LeaseRevoke": {}, "Authenticate": {}}
	url = poor(t, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		if r, is := req.(*pb.TxnRequest); is && through != nil {
			if _, err := pb.NewKVClient(through.ActiveConnection()).Txn(ctx, r); err != nil {
				t.Error(err)
			}
		}
		asked[path.Base(info.FullMethod)].Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	return url, asked
}

// TestSilentMember has one of two members be silent: the other does in time what is asked for,
// and who asked waits for the first once.
func TestSilentMember(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	url, asked := silent(t, nil)
	for n := 0; asked["Range"].Load() == 0 || asked["Txn"].Load() == 0 || asked["LeaseGrant"].Load() == 0; n++ {
		s := beside(t, url, m)
		before := total(asked)
		for i := range 8 {
			x := put(fmt.Sprintf("/%d/%d", n, i), "x", time.Duration(i%2)*time.Minute)
			x.If = []cluster.If{{Key: x.Put[0].Key}}
			if rev, done, err := s.Commit(t.Context(), x); err != nil || !done {
				t.Fatalf("transaction %d: revision %d, done %v: %v", n, rev, done, err)
			}
			if _, err := s.List(t.Context(), "/"); err != nil {
				t.Fatal(err)
			}
		}
		if n := total(asked) - before; n > 1 {
			t.Fatalf("the member that is silent was asked %d times", n)
		}
	}
}

// beside returns a store that does not know yet that the first of its members is silent. Of each
// three calls one is its turn.
func beside(t *testing.T, url string, m *member) *etcd.Store {
	t.Helper()
	s := dial(t, etcd.Config{Endpoints: []string{url, m.url, strings.Replace(m.url, "127.0.0.1", "localhost", 1)}})
	ready(t, s)
	return s
}

func total(asked map[string]*atomic.Int32) (n int32) {
	for _, a := range asked {
		n += a.Load()
	}
	return n
}

// TestLoginAtSilentMember has one of two members be silent to who says its password.
func TestLoginAtSilentMember(t *testing.T) {
	t.Parallel()
	m := newMember(t, func(c *embed.Config) { c.BcryptCost = 4 })
	guarded(t, admin(t, m.url))
	url, asked := silent(t, nil)
	for asked["Authenticate"].Load() < 2 {
		s := dial(t, etcd.Config{Endpoints: []string{url, m.url}, Username: "ann", Password: "s3cret"})
		ctx, cancel := context.WithTimeout(t.Context(), cluster.Patience)
		if _, err := s.List(ctx, "/b"); err != nil {
			t.Fatalf("the member that is silent was asked %d times to log in: %v", asked["Authenticate"].Load(), err)
		}
		cancel()
	}
}

// TestUnansweredTransaction has one of two members do transactions and say nothing of it. Each
// is done once, and who asked is told so, and not that somebody was quicker.
func TestUnansweredTransaction(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	a := admin(t, m.url)
	url, asked := silent(t, a)
	var last int64
	for n := 0; n < 2 || asked["Txn"].Load() < 2; n++ {
		s := beside(t, url, m)
		x := put("/a", fmt.Sprint(n), 0)
		x.If = []cluster.If{{Key: "/a", Rev: last}}
		x.Put = append(x.Put, cluster.Put{Key: fmt.Sprintf("/b/%d", n), Value: []byte("x"), TTL: time.Minute})
		x.Delete = []string{"/c"}
		rev, done, err := s.Commit(t.Context(), x)
		if err != nil || !done {
			t.Fatalf("transaction %d: revision %d, done %v: %v", n, rev, done, err)
		}
		resp, err := a.Get(t.Context(), "/a")
		if err != nil {
			t.Fatal(err)
		}
		if kv := resp.Kvs[0]; kv.ModRevision != rev || kv.Version != int64(n)+1 || string(kv.Value) != fmt.Sprint(n) {
			t.Fatalf("transaction %d, said to be done at %d: %v", n, rev, resp.Kvs)
		}
		last = rev
	}
	for n := 0; asked["Txn"].Load() < 4; n++ {
		s := beside(t, url, m)
		x := put("/a", "late", time.Minute)
		x.If = []cluster.If{{Key: "/a", Rev: last - 1}}
		if rev, done, err := s.Commit(t.Context(), x); err != nil || done {
			t.Fatalf("transaction %d whose condition does not hold: revision %d, done %v: %v", n, rev, done, err)
		}
	}
}

// TestErrorNamesTheMember has one of several members refuse: who reads of it is told which.
func TestErrorNamesTheMember(t *testing.T) {
	t.Parallel()
	full := poor(t, func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, rpctypes.ErrGRPCNoSpace
	})
	s := dial(t, etcd.Config{Endpoints: []string{newURL("http"), full, newURL("http")}})
	_, list := s.List(t.Context(), "/")
	_, _, commit := s.Commit(t.Context(), put("/a", "x", time.Minute))
	watch := (<-s.Watch(t.Context(), "/", 1)).Err
	for op, err := range map[string]error{"list /": list, "commit": commit, "watch /": watch} {
		if want := "etcd " + strings.TrimPrefix(full, "http://") + ": " + op + ": "; !errors.Is(err, cluster.ErrRefused) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
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
