package engine

import (
	"context"
	"net/netip"
	"path"
	"slices"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/model"
)

// stored is the config of a fabric as the cluster's store has it.
type stored struct {
	key string // of the fabric
	rev int64
	flannel.Config
	shared
}

func (s *stored) whole() (out []netip.Prefix) {
	for _, r := range []flannel.Range{s.V4, s.V6} {
		if r.Network.IsValid() {
			out = append(out, r.Network)
		}
	}
	return out
}

// configs are those of all fabrics, with that at the cluster's own prefix first, if
// there is one.
type configs []stored

// fabricConfigs reads them. Those that make no sense have no prefixes.
func (e *Engine) fabricConfigs(ctx context.Context) (out configs, err error) {
	root := e.cfg.Cluster.Prefix
	for _, prefix := range []string{path.Join(root, "config"), path.Join(root, besideRoot) + "/"} {
		list, err := e.cfg.Cluster.Store.List(ctx, prefix)
		if err != nil {
			return nil, err
		}
		for _, entry := range list.Entries {
			if path.Base(entry.Key) != "config" {
				continue
			}
			s := stored{key: path.Dir(entry.Key), rev: entry.Rev}
			s.Config, _ = flannel.ParseConfig(entry.Value)
			s.shared, _ = sharedOf(s.key, s.Config)
			out = append(out, s)
		}
	}
	return out, nil
}

// with returns the one that has the prefixes, or nil.
func (all configs) with(subnets []model.Subnet) *stored {
	return all.first(func(s *stored) bool { return samePrefixes(s.whole(), subnets) })
}

// called returns the one of a name, or nil.
func (all configs) called(name string) *stored {
	return all.first(func(s *stored) bool { return s.Name == name })
}

func (all configs) first(is func(*stored) bool) *stored {
	for i := range all {
		if is(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

// apart says which of them has addresses of the subnets.
func (all configs) apart(op string, subnets []model.Subnet) error {
	for _, s := range subnets {
		if o := all.first(func(o *stored) bool { return slices.ContainsFunc(o.whole(), s.Prefix.Overlaps) }); o != nil {
			return model.Errorf(model.Conflict, "network", op, "subnet %s: overlaps those of network %s of the cluster, %v", s.Prefix, o.Name, o.whole())
		}
	}
	return nil
}

// putConfig stores the config of a fabric under the cluster's prefix itself, where flannelds
// look, or beside it under a name if one is there. It is not done if the store has other
// configs than these.
func (e *Engine) putConfig(ctx context.Context, all configs, name string, text []byte) (key string, rev int64, done bool, err error) {
	root := e.cfg.Cluster.Prefix
	at := []cluster.If{{Key: path.Join(root, "config")}}
	if key = root; len(all) > 0 && all[0].key == root {
		key = path.Join(root, besideRoot, name)
		if all.first(func(s *stored) bool { return s.key == key }) != nil {
			return key, 0, false, model.Errorf(model.Conflict, "network", "create", "the cluster has one at %s", key)
		}
		at[0].Rev = all[0].rev
		at = append(at, cluster.If{Key: path.Join(key, "config")})
	}
	rev, done, err = e.cfg.Cluster.Store.Commit(ctx, cluster.Txn{If: at, Put: []cluster.Put{{Key: path.Join(key, "config"), Value: text}}})
	return key, rev, done, err
}

// joinOld waits until this host has a lease of a fabric that another made.
func (e *Engine) joinOld(ctx context.Context, op string, there *stored) (*model.Network, error) {
	n, err := e.joined(ctx, e.followFabric(there.key), there.ID)
	if err != nil {
		return nil, model.Errorf(model.Conflict, "network "+there.Name, op, "this host cannot join: %w", err)
	}
	return n, nil
}

// Joinable says why this host could not be on a network of the cluster with a name, if
// it is not yet: as one that is there, or as one to be made.
func (e *Engine) Joinable(ctx context.Context, name string) error {
	fail := func(kind model.Kind, format string, args ...any) error {
		return model.Errorf(kind, "network "+name, "join", format, args...)
	}
	if !e.clustered() {
		return notClustered("network "+name, "join")
	}
	if n, err := e.Network(name); err == nil && (n.Name == name || string(n.ID) == name) {
		return notOurs(n)
	}
	all, err := e.fabricConfigs(ctx)
	if err != nil {
		return fail(model.Internal, "%w", err)
	}
	there := all.called(name)
	if there == nil {
		return nil
	}
	why := "this host has no subnet of it yet"
	if l := e.followFabric(there.key); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case l.failed != nil:
			why = l.failed.Error()
		case l.view.LastError != "":
			why = l.view.LastError
		}
	}
	return fail(model.Conflict, "%s", why)
}

// notClustered refuses what is of hosts together.
func notClustered(ref, op string) error {
	return model.Errorf(model.Unsupported, ref, op, "this host is in no cluster").WithHint("sealane cluster init, or sealane daemon --etcd URL")
}
