package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sealane/sealane/internal/cluster/etcd"
)

// What etcd may take, and how long it remembers.
const (
	quota     = 512 << 20 // bytes of its database, unless Config says others
	remembers = "1h"      // of the history
)

// Ports are where a member listens; the others listen nowhere.
type Ports struct {
	Client uint16 // for hosts of the cluster
	Peer   uint16 // for other members
	Join   uint16 // for hosts that want to join
}

// at is where a member is found at a port.
func at(a netip.Addr, port uint16) string {
	return "https://" + net.JoinHostPort(a.String(), strconv.Itoa(int(port)))
}

// etcdConfig is the configuration of this host's etcd. It talks to other members only,
// who show that they are: hosts come through the gate.
func (r *running) etcdConfig() (*embed.Config, error) {
	d, h, p := r.dir, r.host, r.cfg.Ports
	c := embed.NewConfig()
	c.Name, c.Dir = h.Name, d.path(dirEtcd)
	client, err := url.Parse(at(h.Addr, p.Client))
	if err != nil {
		return nil, err
	}
	peer, err := url.Parse(at(h.Addr, p.Peer))
	if err != nil {
		return nil, err
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = nil, []url.URL{*client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.InitialCluster, c.InitialClusterToken, c.ClusterState = h.Initial, "sealane", embed.ClusterStateFlagNew
	if h.Joined {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	c.PeerTLSInfo = transport.TLSInfo{
		CertFile: d.path(fileMember), KeyFile: d.path(fileKey), TrustedCAFile: d.path(fileCA), CRLFile: d.path(fileRevoked),
		ClientCertAuth: true, AllowedCNs: []string{nameMember},
		SkipClientSANVerify: true, // a host may have more addresses than its certificate
	}
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, remembers
	c.QuotaBackendBytes, c.MaxLearners, c.EnableGRPCGateway = cmp.Or(r.cfg.Quota, quota), maxMembers, false
	// What etcd ends the process for ends one of its goroutines: the host's networks
	// need this process.
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(etcd.Logger(r.cfg.Log).WithOptions(
		zap.WithFatalHook(zapcore.WriteThenGoexit), zap.WithPanicHook(zapcore.WriteThenGoexit)))
	return c, nil
}

// startEtcd starts it. It is ready once ReadyNotify of its server says so.
func startEtcd(c *embed.Config) (*embed.Etcd, error) {
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("it gave up: its log says why, at level debug")} // Goexit
		defer func() { done <- r }()
		r.etcd, r.err = embed.StartEtcd(c)
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("etcd: start: %w", r.err)
	}
	return r.etcd, nil
}

// stopEtcd stops it, in so long.
func stopEtcd(e *embed.Etcd) {
	done := make(chan struct{})
	go func() { defer close(done); e.Close() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
	}
}

// ready waits until etcd has found the others.
func ready(ctx context.Context, e *embed.Etcd) error {
	select {
	case <-e.Server.ReadyNotify():
		return nil
	case <-e.Server.StopNotify():
		return errors.New("etcd: start: it stopped")
	case err := <-e.Err():
		return fmt.Errorf("etcd: start: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("etcd: start: the other members do not answer: %w", ctx.Err())
	}
}

// initialCluster is etcd's --initial-cluster.
func initialCluster(members map[string][]string) string {
	var out []string
	for name, urls := range members {
		for _, u := range urls {
			out = append(out, name+"="+u)
		}
	}
	return strings.Join(out, ",")
}
