package member

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/clustertest"
	"github.com/sealane/sealane/internal/cluster/etcd"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/model"
)

// forged is etcd's own client with what somebody found on a host.
func forged(t *testing.T, h *Host, cert string) *clientv3.Client {
	t.Helper()
	conf, err := h.dir.tlsOf(cert)
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://192.0.2.1:2379"}, TLS: conf, Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pair is a cluster of a and b, with a fabric where a has a subnet.
func pair(t *testing.T) (a, b *Host) {
	t.Helper()
	clock := &days{}
	a, b = newHost(t, 1, clock), newHost(t, 2, clock)
	inv, err := a.Init(t.Context(), netip.Addr{})
	if err == nil {
		err = b.Join(t.Context(), inv.Token, inv.Addr, at4(2))
	}
	if err != nil {
		t.Fatal(err)
	}
	commit(t, a, cluster.Put{Key: theFabric + "/config", Value: []byte(config4)})
	commit(t, a, cluster.Put{Key: subnet + "10.5.1.0-24", Value: []byte(leaseText("a", "192.0.2.1", macA)), TTL: time.Hour})
	return a, b
}

// commit puts what is not there as a host's daemon does.
func commit(t *testing.T, h *Host, p cluster.Put) {
	t.Helper()
	_, done, err := h.Store().Commit(t.Context(), cluster.Txn{If: []cluster.If{{Key: p.Key}}, Put: []cluster.Put{p}})
	if err != nil || !done {
		t.Fatalf("%s: done %v, %v", p.Key, done, err)
	}
}

// TestForged has somebody with b's certificate try whatever etcd can do.
func TestForged(t *testing.T) {
	a, b := pair(t)
	c := forged(t, b, fileCert)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	key := subnet + "10.5.1.0-24"
	there, err := c.Get(ctx, key)
	if err != nil || len(there.Kvs) != 1 {
		t.Fatalf("read: %v, %v", there, err)
	}
	kv := there.Kvs[0]
	granted, err := c.Grant(ctx, 600)
	if err != nil {
		t.Fatal(err)
	}
	mine := leaseText("b", "192.0.2.2", macB)
	if r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(subnet+"10.5.2.0-24"), "=", 0)).Then(clientv3.OpPut(subnet+"10.5.2.0-24", mine, clientv3.WithLease(granted.ID))).Commit(); err != nil || !r.Succeeded {
		t.Fatalf("its own: %v, %v", r, err)
	}
	if _, err := c.KeepAliveOnce(ctx, granted.ID); err != nil {
		t.Errorf("its own lease: %v", err)
	}
	as := func(rev int64) clientv3.Cmp { return clientv3.Compare(clientv3.ModRevision(key), "=", rev) }
	txn := func(op clientv3.Op, rev int64) func() error {
		return func() error { _, err := c.Txn(ctx).If(as(rev)).Then(op).Commit(); return err }
	}
	put := clientv3.OpPut(key, mine, clientv3.WithLease(granted.ID))
	aLease := clientv3.LeaseID(kv.Lease)
	for what, try := range map[string]func() error{
		"overwrite a's lease":          txn(put, kv.ModRevision),
		"delete a's lease":             txn(clientv3.OpDelete(key), kv.ModRevision),
		"put without a condition":      func() error { _, err := c.Put(ctx, key, mine); return err },
		"put its own without one":      func() error { _, err := c.Put(ctx, subnet+"10.5.2.0-24", mine); return err },
		"delete without a condition":   func() error { _, err := c.Delete(ctx, key); return err },
		"delete all":                   func() error { _, err := c.Delete(ctx, "", clientv3.WithFromKey()); return err },
		"revoke a's":                   func() error { _, err := c.Revoke(ctx, aLease); return err },
		"keep a's alive":               func() error { _, err := c.KeepAliveOnce(ctx, aLease); return err },
		"a lease with an ID":           func() error { return grantWith(ctx, c, int64(aLease)+1, 60) },
		"a lease for a year":           func() error { _, err := c.Grant(ctx, 365*86400); return err },
		"list leases":                  func() error { _, err := c.Leases(ctx); return err },
		"write elsewhere":              func() error { _, err := c.Put(ctx, "/elsewhere", "x"); return err },
		"write the token":              func() error { _, err := c.Put(ctx, keyToken, "{}"); return err },
		"read all":                     func() error { _, err := c.Get(ctx, "", clientv3.WithFromKey()); return err },
		"read elsewhere":               func() error { _, err := c.Get(ctx, "/elsewhere"); return err },
		"watch all":                    func() error { return watchError(c.Watch(ctx, "", clientv3.WithFromKey())) },
		"watch elsewhere":              func() error { return watchError(c.Watch(ctx, "/elsewhere")) },
		"compact":                      func() error { _, err := c.Compact(ctx, kv.ModRevision); return err },
		"users":                        func() error { _, err := c.UserList(ctx); return err },
		"a user":                       func() error { _, err := c.UserAdd(ctx, "root", "root"); return err },
		"whether there are users":      func() error { _, err := c.AuthStatus(ctx); return err },
		"enable users":                 func() error { _, err := c.AuthEnable(ctx); return err },
		"snapshot":                     func() error { return snapshot(ctx, c) },
		"defragment":                   func() error { _, err := c.Defragment(ctx, c.Endpoints()[0]); return err },
		"move the lead":                func() error { _, err := c.MoveLeader(ctx, 1); return err },
		"alarms":                       func() error { _, err := c.AlarmList(ctx); return err },
		"hash":                         func() error { _, err := c.HashKV(ctx, c.Endpoints()[0], 0); return err },
		"a member":                     func() error { _, err := c.MemberAdd(ctx, []string{"https://192.0.2.66:2380"}); return err },
		"a member less":                func() error { _, err := c.MemberRemove(ctx, 1); return err },
		"a member elsewhere":           func() error { _, err := c.MemberUpdate(ctx, 1, []string{"https://192.0.2.66:2380"}); return err },
		"a learner that votes":         func() error { _, err := c.MemberPromote(ctx, 1); return err },
		"a plan for when it is not so": func() error { _, err := c.Txn(ctx).If(as(1)).Else(clientv3.OpDelete(key)).Commit(); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "b may not") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A revision to come, in the hope that a renews just then: it does not hold.
	for rev := range int64(20) {
		if r, err := c.Txn(ctx).If(as(kv.ModRevision + rev + 1)).Then(put).Commit(); err != nil || r.Succeeded {
			t.Errorf("at a revision to come: %v, %v", r, err)
		}
	}
	_, _, err = b.Store().Commit(ctx, cluster.Txn{If: []cluster.If{{Key: key, Rev: kv.ModRevision}}, Delete: []string{key}})
	if !errors.Is(err, cluster.ErrRefused) || !strings.HasSuffix(err.Error(), "the store refuses: host b may not delete "+key+": it is held by a ("+nodeID("a")+")") {
		t.Errorf("said to its user: %v", err)
	}
	after, err := c.Get(ctx, key)
	if err != nil || len(after.Kvs) != 1 || after.Kvs[0].ModRevision != kv.ModRevision || after.Kvs[0].Lease != kv.Lease {
		t.Errorf("a's lease: %v, %v", after, err)
	}
	if ttl, err := c.TimeToLive(ctx, aLease); err != nil || ttl.TTL <= 0 {
		t.Errorf("a's lease of etcd's: %v, %v", ttl, err)
	}
	peers(t, a, b)
}

// grantWith asks for a lease with an ID.
func grantWith(ctx context.Context, c *clientv3.Client, id, ttl int64) error {
	_, err := clientv3.RetryLeaseClient(c).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
	return err
}

// watchError is what a watch says first.
func watchError(w clientv3.WatchChan) error {
	r := <-w
	return r.Err()
}

func snapshot(ctx context.Context, c *clientv3.Client) error {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// peers asks at the port of members, with each of b's certificates.
func peers(t *testing.T, a, b *Host) {
	t.Helper()
	for cert, good := range map[string]bool{fileCert: false, fileMember: true} {
		conf, err := b.dir.tlsOf(cert)
		if err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}, Timeout: 5 * time.Second}
		resp, err := c.Get(at(a.run.host.Addr, 2380) + "/members")
		if (err == nil) != good {
			t.Errorf("%s at the port of members: %v", cert, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	if c, err := tls.Dial("tcp", "192.0.2.1:2379", &tls.Config{InsecureSkipVerify: true}); err == nil {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the port of hosts answers who has no certificate")
		}
		c.Close()
	}
}

// TestLeasersAtOnce has the daemons of both take subnets at once, and again and again.
func TestLeasersAtOnce(t *testing.T) {
	a, b := pair(t)
	var all sync.WaitGroup
	for _, h := range []*Host{a, b} {
		for i := range 3 {
			all.Go(func() { leaseIn(t, h, i) })
		}
	}
	all.Wait()
}

// TestNode has each host tell of the other and of itself.
func TestNode(t *testing.T) {
	a, b := pair(t)
	for _, h := range []*Host{a, b} {
		n, err := h.Node(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if n.ID != nodeID("a") || n.Role != RoleVoter || !n.Answers || time.Until(n.Certificate) < nodeLife-time.Hour || len(n.Leases) != 1 {
			t.Fatalf("a, says %s: %+v", h.cfg.Name, n)
		}
		l := n.Leases[0]
		if l.Fabric != theFabric || l.Subnet.String() != "10.5.1.0/24" || l.Backend != "vxlan" || len(l.Public) != 1 || l.Public[0] != at4(1) {
			t.Errorf("its subnet, says %s: %+v", h.cfg.Name, l)
		}
		if left := time.Until(l.Ends); left < 59*time.Minute || left > time.Hour+2*time.Second || l.Ends.Sub(l.Renewed) != time.Hour {
			t.Errorf("from %s to %s, says %s", l.Renewed, l.Ends, h.cfg.Name)
		}
		if n, err = h.Node(t.Context(), "b"); err != nil || n.Role != RoleLearner || len(n.Leases) != 0 {
			t.Errorf("b, says %s: %+v, %v", h.cfg.Name, n, err)
		}
		if _, err := h.Node(t.Context(), "c"); model.KindOf(err) != model.NotFound {
			t.Errorf("c: %v", err)
		}
	}
}

// leaseIn has a host take part in a network, and leave it.
func leaseIn(t *testing.T, h *Host, i int) {
	prefix := fmt.Sprintf("%s/sealane/networks/n%d", theFabric, i)
	config := fmt.Sprintf(`{"Network":"10.%d.0.0/16","Backend":{"Type":"host-gw"}}`, 20+i)
	_, _, err := h.Store().Commit(t.Context(), cluster.Txn{If: []cluster.If{{Key: prefix + "/config"}}, Put: []cluster.Put{{Key: prefix + "/config", Value: []byte(config)}}})
	if err != nil {
		t.Error(err)
		return
	}
	views := make(chan flannel.View, 100)
	l := flannel.New(flannel.Options{
		Store: h.Store(), Prefix: prefix, Node: flannel.Node{ID: nodeID(h.cfg.Name), Name: h.cfg.Name},
		Describe: func(flannel.Config) (flannel.Value, error) {
			return flannel.Value{Public4: h.run.host.Addr, BackendType: "host-gw"}, nil
		},
		Report: func(v flannel.View) { views <- v },
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var done sync.WaitGroup
	done.Go(func() { l.Run(ctx) })
	defer done.Wait()
	defer cancel()
	for {
		select {
		case v := <-views:
			if v.Own == nil || len(v.Peers) == 0 {
				continue
			}
			if v.Own.Subnet.Overlaps(v.Peers[0].Subnet) {
				t.Errorf("both have %s", v.Own.Subnet)
			}
			return
		case <-ctx.Done():
			t.Errorf("%s has no subnet, or no peer, in n%d", h.cfg.Name, i)
			return
		}
	}
}

// TestSuite holds the store to the suite with a member's certificate, through the gate.
func TestSuite(t *testing.T) {
	a := newHost(t, 1, &days{})
	if _, err := a.Init(t.Context(), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	admin := forged(t, a, fileMember)
	clustertest.Test(t, func(t *testing.T) clustertest.Subject {
		w := newWire(t)
		return clustertest.Subject{
			Store: dialAs(t, a, w.url), Other: dialAs(t, a, "https://192.0.2.1:2379"),
			Away: w.cut,
			Compact: func() {
				r, err := admin.Get(t.Context(), "/")
				if err == nil {
					_, err = admin.Compact(t.Context(), r.Header.Revision)
				}
				if err != nil && !strings.Contains(err.Error(), "compacted") {
					t.Fatal(err)
				}
			},
			Restart: func() {
				a.Close()
				if err := a.Start(); err != nil {
					t.Fatal(err)
				}
				if err := a.run.await(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			Pass: time.Sleep, TTL: 2 * time.Second,
		}
	})
}

func dialAs(t *testing.T, h *Host, url string) *etcd.Store {
	t.Helper()
	s, err := etcd.Dial(etcd.Config{Endpoints: []string{url}, CA: h.dir.path(fileCA), Cert: h.dir.path(fileMember), Key: h.dir.path(fileKey)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// wire is a way to the first host that can be cut.
type wire struct {
	t   *testing.T
	url string

	mu    sync.Mutex // protects the following
	away  bool
	conns []net.Conn
}

func newWire(t *testing.T) *wire {
	l, err := net.Listen("tcp", "192.0.2.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, url: "https://" + l.Addr().String()}
	t.Cleanup(func() { l.Close(); w.cut(true) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.join(c)
		}
	}()
	return w
}

func (w *wire) join(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	far, err := net.Dial("tcp", "192.0.2.1:2379")
	if err != nil || w.away {
		c.Close()
		if err == nil {
			far.Close()
		}
		return
	}
	w.conns = append(w.conns, c, far)
	for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			way[0].Close()
			way[1].Close()
		}()
	}
}

// cut ends what goes through the wire, or mends it.
func (w *wire) cut(away bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away = away; away {
		for _, c := range w.conns {
			c.Close()
		}
		w.conns = nil
	}
}

// outsiders are what a host that is no member cannot do, and how it leaves.
func outsiders(t *testing.T, h *Host) {
	t.Helper()
	if _, err := h.Invite(t.Context(), true); model.KindOf(err) != model.Denied {
		t.Errorf("a client makes a token: %v", err)
	}
	if err := h.Remove(t.Context(), "a"); model.KindOf(err) != model.Denied {
		t.Errorf("a client removes a member: %v", err)
	}
	if err := h.run.expel(t.Context(), "a"); err == nil {
		t.Error("a client removes a member behind its daemon's back")
	}
	if err := putToken(t.Context(), h.run.admin, admission{}); !errors.Is(err, cluster.ErrRefused) {
		t.Errorf("a client puts a token: %v", err)
	}
	if err := h.Leave(t.Context(), false); err != nil {
		t.Errorf("a client leaves: %v", err)
	}
}

// TestRemovedWhileOff: a host that was removed meanwhile is refused as soon as that is
// done, and told so when it is back.
func TestRemovedWhileOff(t *testing.T) {
	a, b := pair(t)
	b.Close()
	if err := a.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	cert, err := b.dir.certificateNow()
	if err != nil {
		t.Fatal(err)
	}
	known, err := a.dir.readRevoked()
	if _, kept := known[serialText(cert)]; err != nil || !kept || !a.run.revoked.has(serialText(cert)) {
		t.Errorf("not refused yet: %v, %v", known, err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "told that it was removed", func() bool { return b.Status(t.Context()).Problem == errRemoved.Error() })
}
