package member

import (
	"cmp"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/model"
)

// Node is all that a cluster knows of one of its hosts.
type Node struct {
	Record
	Role        Role      // "" if it cannot be told
	Answers     bool      // of a member: it does
	Certificate time.Time // when the last one of its name ends
	Leases      []NodeLease
}

// NodeLease is a host's subnet in a fabric.
type NodeLease struct {
	Fabric  string // the prefix of its keys
	Subnet  flannel.Subnet
	Public  []netip.Addr // where other hosts find it
	Backend string       // "" for what has no type
	Data    json.RawMessage
	DataV6  json.RawMessage
	Renewed time.Time // zero if it does not end, or cannot be told
	Ends    time.Time
}

// Node tells of a host.
func (h *Host) Node(ctx context.Context, name string) (n Node, err error) {
	r, err := h.running("inspect node")
	if err != nil {
		return n, err
	}
	fail := func(err error) (Node, error) {
		return n, model.Errorf(model.Internal, "node "+name, "inspect", "%w", err)
	}
	ros, err := readRoster(ctx, r.admin)
	if err != nil {
		return fail(err)
	}
	var ok bool
	if n.Record, ok = ros.hosts[name]; !ok {
		return n, model.Errorf(model.NotFound, "node "+name, "inspect", "the cluster has no host of that name")
	}
	for _, c := range n.Certificates {
		if c.Ends.After(n.Certificate) {
			n.Certificate = c.Ends
		}
	}
	if n.Leases, err = r.leasesOf(ctx, n.Record); err != nil {
		return fail(err)
	}
	members, err := r.members(ctx)
	if err != nil {
		return fail(err)
	}
	if n.Role = roleOf(members, n.Record); n.Role != RoleClient {
		m := memberAt(members, n.Addrs[0])
		n.Answers = m != nil && r.answers(m)
	}
	return n, nil
}

// leasesOf reads a host's leases in all fabrics.
func (r *running) leasesOf(ctx context.Context, rec Record) ([]NodeLease, error) {
	ctx, cancel := limited(ctx, leaveTime)
	defer cancel()
	d := domain(strings.TrimRight(r.cfg.Prefix, "/"))
	all, err := r.client.Get(ctx, string(d)+"/", clientv3.WithPrefix())
	if err != nil {
		return nil, late(ctx, err)
	}
	var out []NodeLease
	for _, kv := range all.Kvs {
		p, ok := d.place(string(kv.Key))
		if !ok || p.subnet == "" {
			continue
		}
		if l, ok := leaseOf(rec, p, kv); ok {
			l.Renewed, l.Ends = r.life(ctx, kv.Lease)
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b NodeLease) int {
		return cmp.Or(strings.Compare(a.Fabric, b.Fabric), a.Subnet.Compare(b.Subnet))
	})
	return out, nil
}

// leaseOf reads a lease, if it names a host.
func leaseOf(rec Record, p place, kv *mvccpb.KeyValue) (l NodeLease, ok bool) {
	subnet, err := flannel.ParseKey(p.subnet)
	if err != nil {
		return l, false
	}
	v, err := flannel.ParseValue(kv.Value)
	if err != nil || v.Node == nil || v.Node.ID != rec.ID {
		return l, false
	}
	l = NodeLease{Fabric: p.fabric, Subnet: subnet, Backend: v.BackendType, Data: v.BackendData, DataV6: v.BackendV6Data}
	for _, a := range []netip.Addr{v.Public4, v.Public6} {
		if a.IsValid() {
			l.Public = append(l.Public, a)
		}
	}
	return l, true
}

// life says from when and until when a lease of etcd's is: zero if it cannot be told.
func (r *running) life(ctx context.Context, id int64) (renewed, ends time.Time) {
	if id == 0 {
		return renewed, ends
	}
	resp, err := r.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil || resp.TTL <= 0 {
		return renewed, ends
	}
	ends = r.cfg.Now().Add(time.Duration(resp.TTL) * time.Second).UTC().Truncate(time.Second)
	return ends.Add(-time.Duration(resp.GrantedTTL) * time.Second), ends
}
