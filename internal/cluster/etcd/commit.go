package etcd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sealane/sealane/internal/cluster"
)

// grant is a lease of etcd's for one key, made by this process.
type grant struct {
	id  clientv3.LeaseID
	rev int64     // at which the key was put with it; 0: it is not known whether it was
	at  time.Time // when that was known
}

// Commit implements cluster.Store. A value with a TTL gets a lease of its own, as
// flanneld gives it one: whoever puts the key again, with a lease or without, is
// rid of the former. Leases that this process made and that no key has any more are
// given back. Where it is not known whether a transaction was done, its leases stay,
// until the key is put again or their time has passed.
func (s *Store) Commit(ctx context.Context, t cluster.Txn) (rev int64, done bool, err error) {
	if err := t.Check(); err != nil {
		return 0, false, err
	}
	noting, n := noted(ctx)
	rev, done, err = s.commit(noting, t)
	return rev, done, s.explain(ctx, "commit", n.why(err))
}

func (s *Store) commit(caller context.Context, t cluster.Txn) (rev int64, done bool, err error) {
	ctx, cancel := limit(caller)
	defer cancel()
	c, err := s.connected(ctx)
	if err != nil {
		return 0, false, err
	}
	leases, err := s.grant(ctx, c, t.Put)
	if err != nil {
		return 0, false, err
	}
	before, began := s.lineage(), time.Now()
	resp, err := c.Txn(ctx).If(conditions(t)...).Then(operations(t, leases)...).Commit()
	if err != nil {
		if reason := s.kind(err); errors.Is(reason, cluster.ErrAway) {
			s.doubt(leases)
		} else {
			s.revoke(c, slices.Collect(maps.Values(leases))...)
		}
		return 0, false, err
	}
	s.saw(before, resp.Header)
	if rev = resp.Header.Revision; !resp.Succeeded && time.Since(began) >= silent/2 { // it may have been asked for twice
		was, err := wasDone(caller, c, t, leases)
		if err != nil {
			s.doubt(leases)
			return 0, false, fmt.Errorf("%w: %w", cluster.ErrAway, err)
		}
		if was > 0 {
			rev, resp.Succeeded = was, true
		}
	}
	if !resp.Succeeded {
		s.revoke(c, slices.Collect(maps.Values(leases))...)
		return rev, false, nil
	}
	s.revokeFormer(c, t, leases, began, rev)
	return rev, true, nil
}

// wasDone says at which revision a transaction was done that a member was asked for and did
// not answer (see insist), by what there is now; 0: it was not, or one of its keys has
// been changed since.
func wasDone(ctx context.Context, c *clientv3.Client, t cluster.Txn, leases map[string]clientv3.LeaseID) (rev int64, err error) {
	ctx, cancel := limit(ctx)
	defer cancel()
	var gets []clientv3.Op
	for _, p := range t.Put {
		gets = append(gets, clientv3.OpGet(p.Key))
	}
	for _, k := range t.Delete {
		gets = append(gets, clientv3.OpGet(k, clientv3.WithKeysOnly()))
	}
	resp, err := c.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return 0, err
	}
	for i, r := range resp.Responses {
		there := r.GetResponseRange().Kvs
		if i >= len(t.Put) {
			if len(there) > 0 {
				return 0, nil
			}
			continue
		}
		p := t.Put[i]
		if len(there) == 0 || clientv3.LeaseID(there[0].Lease) != leases[p.Key] || !bytes.Equal(there[0].Value, p.Value) || i > 0 && there[0].ModRevision != rev {
			return 0, nil
		}
		rev = there[0].ModRevision
	}
	return cmp.Or(rev, resp.Header.Revision), nil
}

func conditions(t cluster.Txn) []clientv3.Cmp {
	var out []clientv3.Cmp
	for _, c := range t.If {
		out = append(out, clientv3.Compare(clientv3.ModRevision(c.Key), "=", c.Rev))
	}
	return out
}

func operations(t cluster.Txn, leases map[string]clientv3.LeaseID) []clientv3.Op {
	var out []clientv3.Op
	for _, p := range t.Put {
		var opts []clientv3.OpOption
		if id, ok := leases[p.Key]; ok {
			opts = append(opts, clientv3.WithLease(id))
		}
		out = append(out, clientv3.OpPut(p.Key, string(p.Value), opts...))
	}
	for _, k := range t.Delete {
		out = append(out, clientv3.OpDelete(k))
	}
	return out
}

// grant makes the leases that puts need, by key.
func (s *Store) grant(ctx context.Context, c *clientv3.Client, puts []cluster.Put) (map[string]clientv3.LeaseID, error) {
	leases := map[string]clientv3.LeaseID{}
	for _, p := range puts {
		if p.TTL <= 0 {
			continue
		}
		resp, err := c.Grant(ctx, int64((p.TTL+time.Second-1)/time.Second))
		if err != nil {
			s.revoke(c, slices.Collect(maps.Values(leases))...)
			return nil, err
		}
		leases[p.Key] = resp.ID
	}
	return leases, nil
}

// doubt remembers leases of a transaction of which the end is not known.
func (s *Store) doubt(leases map[string]clientv3.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, id := range leases {
		s.granted[k] = append(s.granted[k], grant{id: id})
	}
}

// revokeFormer gives back what keys had before a transaction. Of transactions side by
// side, that with the higher revision has the key. One that had ended is former, whatever
// its revision: a store that was restored counts them again.
func (s *Store) revokeFormer(c *clientv3.Client, t cluster.Txn, leases map[string]clientv3.LeaseID, began time.Time, rev int64) {
	keys := slices.Clone(t.Delete)
	for _, p := range t.Put {
		keys = append(keys, p.Key)
	}
	var over []clientv3.LeaseID
	s.mu.Lock()
	for _, k := range keys {
		has := grant{leases[k], rev, time.Now()} // without a lease: 0, which is none
		all := append(s.granted[k], has)
		for _, g := range all {
			if g.at.After(began) && g.rev > has.rev {
				has = g
			}
		}
		if delete(s.granted, k); has.id != 0 {
			s.granted[k] = []grant{has}
		}
		for _, g := range all {
			if g.id != has.id && g.id != 0 {
				over = append(over, g.id)
			}
		}
	}
	s.mu.Unlock()
	s.revoke(c, over...)
}

// revoke gives leases back, aside: nobody waits for it, and where it does not work,
// they end by themselves.
func (s *Store) revoke(c *clientv3.Client, leases ...clientv3.LeaseID) {
	for _, id := range leases {
		s.work.Go(func() {
			ctx, cancel := context.WithTimeout(s.ctx, cluster.Patience)
			defer cancel()
			_, _ = c.Revoke(ctx, id)
		})
	}
}
