package member

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// leaveTime is how long the cluster may take to let a host go.
const leaveTime = 15 * time.Second

// limited gives a call so much time. That it is up is told in the words of a store, by late.
func limited(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%w within %v", cluster.ErrAway, d))
}

func late(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// Leave takes this host out of the cluster, and forgets it. With force it does so even
// if the others cannot be told: they keep a host that is gone until it is removed.
func (h *Host) Leave(ctx context.Context, force bool) error {
	h.verbs.Lock()
	defer h.verbs.Unlock()
	r, err := h.running("leave")
	if err == nil && r.copied(ctx) { // what this host would say, it would say of that one
		err = model.Errorf(model.Conflict, "cluster", "leave", "this host is a copy of another, which is member %s at %s", r.host.Name, r.host.Addr).WithHint("with --force this one leaves, and that one stays")
	}
	switch {
	case err != nil && force && h.dir.used():
		h.stop()
		return errors.Join(h.cfg.End(ctx, true), h.dir.remove())
	case err != nil:
		return err
	}
	ctx, cancel := limited(ctx, leaveTime)
	defer cancel()
	if err := h.cfg.End(ctx, force); err != nil {
		return err
	}
	if err := r.expelOwn(ctx); err != nil {
		if !force {
			r.leaving.Store(false)
			h.cfg.Begin() // as it was
			return model.Errorf(model.Internal, "cluster", "leave", "%w", late(ctx, err)).WithHint("with --force this host leaves without the others' knowledge")
		}
		h.cfg.Log.Warn("cluster left, but the others do not know", "err", err)
	}
	h.stop()
	if err := h.dir.remove(); err != nil {
		return model.Errorf(model.Internal, "cluster", "leave", "%w", err)
	}
	h.cfg.Log.Info("cluster left")
	return nil
}

// expelOwn removes this host from the cluster, if anybody stays.
func (r *running) expelOwn(ctx context.Context) error {
	if !r.host.Member {
		return r.askMember(ctx, pathLeave, struct{}{}, &struct{}{})
	}
	ros, err := readRoster(ctx, r.admin)
	if err != nil {
		return err
	}
	if _, here := ros.hosts[r.host.Name]; len(ros.hosts) == 0 || len(ros.hosts) == 1 && here {
		return nil
	}
	return r.expel(ctx, r.host.Name)
}

// Remove removes a host of that name from the cluster: its certificates are refused,
// its leases go, and so does the token, which it may know.
func (h *Host) Remove(ctx context.Context, name string) error {
	r, err := h.running("remove node")
	if err != nil {
		return err
	}
	if name == h.cfg.Name {
		return model.Errorf(model.Invalid, "node "+name, "remove", "this is it").WithHint("sealane cluster leave")
	}
	if err := r.membersOnly("node "+name, "remove"); err != nil {
		return err
	}
	ctx, cancel := limited(ctx, leaveTime)
	defer cancel()
	if err := r.expel(ctx, name, keyToken); err != nil { // which it may know
		if e, ok := errors.AsType[*model.Error](err); ok {
			return e
		}
		return model.Errorf(model.Internal, "node "+name, "remove", "%w", late(ctx, err))
	}
	h.cfg.Log.Info("cluster: a host was removed", "name", name)
	return nil
}

// expel removes a host from the members, if it is one, and from the roster at last:
// from then on it is refused. Other keys go with it.
func (r *running) expel(ctx context.Context, name string, with ...string) error {
	ros, err := readRoster(ctx, r.admin)
	if err != nil {
		return err
	}
	rec, ok := ros.hosts[name]
	if !ok {
		return model.Errorf(model.NotFound, "node "+name, "remove", "the cluster has no host of that name")
	}
	if rec.Member {
		if err := r.expelMember(ctx, rec); err != nil {
			return err
		}
	}
	return elsewhere(ctx, func() error {
		if err := dropLeases(ctx, r.admin, r.cfg.Prefix, rec); err != nil {
			return err
		}
		err := change(ctx, r.admin, func(ros roster) (cluster.Txn, error) {
			return ros.remove(name, r.cfg.Now(), with...), nil
		})
		if err != nil || name == r.host.Name { // we are refused now
			return err
		}
		err = dropLeases(ctx, r.admin, r.cfg.Prefix, rec) // it may have put them again
		for !r.refuses(rec) && sleep(ctx, 10*time.Millisecond) {
		}
		return err
	})
}

// refuses reports whether this host's ports refuse another's certificates.
func (r *running) refuses(rec Record) bool {
	now := r.cfg.Now()
	return !slices.ContainsFunc(rec.Certificates, func(c certificate) bool { return now.Before(c.Ends) && !r.revoked.has(c.Serial) })
}

// membersOnly refuses what a host that is no member cannot do.
func (r *running) membersOnly(ref, op string) error {
	if r.host.Member {
		return nil
	}
	return model.Errorf(model.Denied, ref, op, "this host is no member of the cluster, and has no say in who is of it").WithHint("on a member: sealane cluster status lists them")
}

// elsewhere does what a member that has just been removed could not.
func elsewhere(ctx context.Context, do func() error) error {
	for {
		err := do()
		if !errors.Is(err, cluster.ErrAway) || !sleep(ctx, 200*time.Millisecond) {
			return err
		}
	}
}

// expelMember removes a member of etcd. If it is the only one that votes, another does
// before.
func (r *running) expelMember(ctx context.Context, rec Record) error {
	members, err := r.members(ctx)
	if err != nil {
		return err
	}
	m := memberAt(members, rec.Addrs[0])
	if m == nil {
		return nil
	}
	if !m.IsLearner && len(voterURLs(members)) == 1 {
		if err := r.succeed(ctx, members, m); err != nil {
			return err
		}
		if members, err = r.members(ctx); err != nil {
			return err
		}
	}
	rest := slices.DeleteFunc(voterURLs(members), func(u string) bool { return slices.Contains(m.ClientURLs, u) })
	r.leaving.Store(rec.Name == r.host.Name) // then ours answers no more
	r.useVoters(rest)
	err = inHealth(ctx, func() error { _, err := r.client.MemberRemove(ctx, m.ID); return err })
	if errors.Is(err, rpctypes.ErrMemberNotFound) {
		return nil // somebody was quicker
	}
	return err
}

// succeed has a learner vote, so that the only voter can go.
func (r *running) succeed(ctx context.Context, members []*pb.Member, old *pb.Member) error {
	err := model.Errorf(model.InUse, "node "+old.Name, "remove", "it is the only one that has the cluster's data: the other hosts are no members")
	for _, m := range members {
		if m.IsLearner && r.answers(m) {
			if _, err := r.client.MemberPromote(ctx, m.ID); err == nil {
				return r.electedWith(ctx, m)
			}
		}
	}
	return err
}

// electedWith waits until a new voter takes part.
func (r *running) electedWith(ctx context.Context, m *pb.Member) error {
	for {
		s, err := r.client.Status(ctx, m.ClientURLs[0])
		if err == nil && !s.IsLearner && s.Leader != 0 {
			return nil
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// memberAt returns the member at an address, or nil.
func memberAt(members []*pb.Member, a netip.Addr) *pb.Member {
	for _, m := range members {
		for _, text := range m.PeerURLs {
			u, err := url.Parse(text)
			if err != nil {
				continue
			}
			if at, err := netip.ParseAddr(u.Hostname()); err == nil && at == a {
				return m
			}
		}
	}
	return nil
}
