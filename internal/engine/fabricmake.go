package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/cluster/flannel"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/udptun"
)

// joinTime is how long this host may take to get its lease of a new fabric.
const joinTime = 15 * time.Second

// createFabric puts a fabric's config into the cluster's store, and waits until this
// host has a lease of it. If it cannot have one, the config goes again.
func (e *Engine) createFabric(ctx context.Context, spec NetworkSpec) (*model.Network, error) {
	fail := func(kind model.Kind, format string, args ...any) (*model.Network, error) {
		return nil, model.Errorf(kind, "network "+spec.Name, "create", format, args...)
	}
	if !e.clustered() {
		return nil, notClustered("network "+spec.Name, "create")
	}
	if err := e.checkNewName(spec); err != nil {
		return nil, err
	}
	c, err := configOf(spec)
	if err != nil {
		return fail(model.Invalid, "%w", err)
	}
	return e.claimFabric(ctx, spec, c, spec.Name, func(all configs) (*model.Network, error) {
		there := all.called(spec.Name)
		if there == nil {
			return nil, nil
		}
		if _, err := e.joinOld(ctx, "create", there); err != nil {
			return nil, err
		}
		return fail(model.Conflict, "the cluster has a network of that name, which this host has now, too")
	})
}

// joinNew waits until this host has a lease of a fabric whose config it has put.
func (e *Engine) joinNew(ctx context.Context, name, key string, rev int64, c flannel.Config) (*model.Network, error) {
	made, err := sharedOf(key, c)
	if err != nil {
		return nil, model.Errorf(model.Internal, "network "+name, "create", "%w", err)
	}
	n, err := e.joined(ctx, e.followFabric(key), made.ID)
	if err == nil {
		return n, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTime)
	defer cancel()
	if _, _, gone := e.cfg.Cluster.Store.Commit(ctx, cluster.Txn{If: []cluster.If{{Key: path.Join(key, "config"), Rev: rev}}, Delete: []string{path.Join(key, "config")}}); gone != nil {
		e.cfg.Log.Warn("fabric: remove its config", "key", key, "err", gone)
	}
	return nil, model.Errorf(model.Conflict, "network "+name, "create", "this host cannot join: %w", err)
}

// checkNewName refuses names that are taken on this host.
func (e *Engine) checkNewName(spec NetworkSpec) error {
	e.work.Lock()
	defer e.work.Unlock()
	return e.draft("network "+spec.Name, "create").checkNewNetwork(spec)
}

// configOf is what all hosts are to know of a new fabric.
func configOf(spec NetworkSpec) (c flannel.Config, err error) {
	o, err := model.ParseOptions(model.DriverFabric, spec.Options)
	switch {
	case err != nil:
		return c, err
	case spec.Internal:
		return c, fmt.Errorf("internal: driver fabric leads to other hosts, and has no way to keep containers from the rest")
	case spec.Origin != "":
		return c, fmt.Errorf("driver fabric: its networks are of no other origin")
	case len(spec.Subnets) == 0:
		return c, fmt.Errorf("subnet: missing: the prefix that the hosts' subnets are of, as --subnet 10.5.0.0/16")
	}
	for _, s := range spec.Subnets {
		if s.Gateway.IsValid() || s.Range.IsValid() || len(s.Aux) > 0 {
			return c, fmt.Errorf("subnet %s: gateway, range and aux-address are of one host's subnet, which comes with its lease", s.Prefix)
		}
		r, enable := &c.V4, &c.EnableIPv4
		if s.Prefix.Addr().Is6() {
			r, enable = &c.V6, &c.EnableIPv6
		}
		if *enable {
			return c, fmt.Errorf("subnet %s: one of each family", s.Prefix)
		}
		if *enable, r.Network = true, s.Prefix; len(spec.Subnets) == 1 {
			r.SubnetLen = o.SubnetLen
		}
	}
	if o.SubnetLen != 0 && len(spec.Subnets) > 1 {
		return c, fmt.Errorf("option subnet-len: with two prefixes each host gets a /24 and a /64")
	}
	if c.Backend, err = askedBackend(o.Backend); err != nil {
		return c, err
	}
	field, err := json.Marshal(shared{ID: newID(), Name: spec.Name, Options: spec.Options, Labels: spec.Labels})
	c.Others = []flannel.Field{{Name: sharedField, Value: field}}
	return c, err
}

// askedBackend is what was asked for in Flannel's words.
func askedBackend(b model.Backend) (flannel.Backend, error) {
	if b.Type != model.BackendWireGuard && (b.Mode != "" || b.Keepalive != 0 || b.KeyLife != 0) {
		return nil, fmt.Errorf("backend %s: options mode, keepalive and key-lifetime are of wireguard", cmp.Or(b.Type, model.BackendVXLAN))
	}
	if b.Type == "" || b.Type == model.BackendVXLAN {
		return flannel.VXLAN{VNI: max(b.VNI, 1), Port: cmp.Or(b.Port, defaultVXLANPort), DirectRouting: b.DirectRouting}, nil
	}
	if b.VNI != 0 || b.DirectRouting {
		return nil, fmt.Errorf("backend %s: options vni and direct-routing are of vxlan", b.Type)
	}
	if b.Type == model.BackendWireGuard {
		return askedWireGuard(b)
	}
	if b.Type == model.BackendUDP {
		return flannel.UDP{Port: cmp.Or(b.Port, udptun.Port)}, nil
	}
	if b.Port != 0 {
		return nil, fmt.Errorf("backend %s: option port is of vxlan, udp and wireguard", b.Type)
	}
	if b.Type == model.BackendAlloc {
		return flannel.Alloc{}, nil
	}
	return flannel.HostGW{}, nil
}

// defaultVXLANPort is flanneld's: the kernel's own (vxlan_port in drivers/net/vxlan/vxlan_core.c).
const defaultVXLANPort = 8472

// claimFabric puts the config of a new fabric into the store, under the cluster's prefix
// or beside it, and waits until this host has a lease of it. Before, it asks there,
// again when other hosts put theirs meanwhile, for one that is to be used instead.
func (e *Engine) claimFabric(ctx context.Context, spec NetworkSpec, c flannel.Config, beside string, there func(configs) (*model.Network, error)) (*model.Network, error) {
	fail := func(kind model.Kind, err error) (*model.Network, error) {
		return nil, model.Errorf(kind, "network "+spec.Name, "create", "%w", err)
	}
	text, err := c.Marshal()
	if err == nil {
		_, err = flannel.ParseConfig(text) // as every host will
	}
	if err != nil {
		return fail(model.Invalid, err)
	}
	for {
		all, err := e.fabricConfigs(ctx)
		if err != nil {
			return fail(model.Internal, err)
		}
		if n, err := there(all); n != nil || err != nil {
			return n, err
		}
		if err := all.apart("create", spec.Subnets); err != nil {
			return nil, err
		}
		if err := e.checkPlace(ctx, c); err != nil {
			return fail(model.Conflict, err)
		}
		key, rev, done, err := e.putConfig(ctx, all, beside, text)
		if err != nil {
			return fail(model.KindOf(err), err)
		}
		if done {
			return e.joinNew(ctx, spec.Name, key, rev, c)
		}
	}
}

// checkPlace refuses a new fabric that has addresses of this host's own.
func (e *Engine) checkPlace(ctx context.Context, c flannel.Config) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("fabric", "check")
	view, err := d.host(ctx)
	if err != nil {
		return err
	}
	at, err := e.here(view, "", c)
	if err != nil {
		return err
	}
	if err := d.checkApart(view, "", at.Uplink, c); err != nil {
		return err
	}
	for _, p := range leasable(c) {
		if what := view.conflict(p, e.cfg.Cluster.Bridge); what != "" && c.Backend.Type() != string(model.BackendAlloc) {
			return fmt.Errorf("%s: %s", p, what)
		}
	}
	return nil
}

// joined waits until a fabric is a network on this host, that with an ID: another may
// have been under its key a moment ago.
func (e *Engine) joined(ctx context.Context, l *lease, id model.ID) (*model.Network, error) {
	if l == nil {
		return nil, errLeft
	}
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	for {
		e.mu.RLock()
		n := e.intent.Networks[id]
		e.mu.RUnlock()
		if n != nil {
			return n, nil
		}
		if l.ctx.Err() != nil { // it was of a config that is no more
			if l = e.followFabric(l.key); l == nil {
				return nil, errLeft
			}
		}
		l.mu.Lock()
		v, failed := l.view, l.failed
		l.mu.Unlock()
		if v.Config != nil && failed != nil {
			if s, err := sharedOf(l.key, *v.Config); err == nil && s.ID == id {
				return nil, failed
			}
		}
		select {
		case <-ctx.Done():
			if v.LastError != "" {
				return nil, fmt.Errorf("%s", v.LastError)
			}
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// dissolveFabric removes a network, if it is a fabric that nobody on this host uses,
// from the cluster: every host where nobody does removes its part then.
func (e *Engine) dissolveFabric(ctx context.Context, ref string) (done bool, err error) {
	e.mu.RLock()
	n := (&draft{e: e}).find(ref)
	used := n != nil && (n.Docker != "" || len(e.users(n.ID)) > 0)
	e.mu.RUnlock()
	s := e.cfg.Cluster.Store
	if n == nil || n.Fabric == nil || used || !e.clustered() {
		return false, nil
	}
	if err := removeConfig(ctx, s, path.Join(n.Fabric.Key, "config")); err != nil {
		return false, model.Errorf(model.Internal, n.Ref(), "remove", "%w", err)
	}
	return true, nil
}

// removeConfig removes a fabric's config as it is read, whoever changes it meanwhile.
func removeConfig(ctx context.Context, s cluster.Store, key string) error {
	for range 10 {
		snap, err := s.List(ctx, key)
		if err != nil {
			return err
		}
		if len(snap.Entries) == 0 || snap.Entries[0].Key != key {
			return nil // by key, and none is before it
		}
		_, done, err := s.Commit(ctx, cluster.Txn{If: []cluster.If{{Key: key, Rev: snap.Entries[0].Rev}}, Delete: []string{key}})
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: others change it all the time", key)
}
