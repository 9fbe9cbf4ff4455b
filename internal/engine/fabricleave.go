package engine

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

var errLeft = errors.New("this host is in no cluster any more")

// clustered reports whether this host is in a cluster.
func (e *Engine) clustered() bool {
	e.fabrics.mu.Lock()
	defer e.fabrics.mu.Unlock()
	return e.fabrics.runs != nil
}

// openFabrics lets fabrics be followed, unless they are.
func (e *Engine) openFabrics() (context.Context, bool) {
	e.fabrics.mu.Lock()
	defer e.fabrics.mu.Unlock()
	if e.fabrics.runs != nil {
		return nil, false
	}
	e.fabrics.runs = map[string]*lease{}
	e.fabrics.ctx, e.fabrics.end = context.WithCancel(e.ctx)
	return e.fabrics.ctx, true
}

// closeFabrics ends that, and returns what was followed.
func (e *Engine) closeFabrics() []*lease {
	e.fabrics.mu.Lock()
	defer e.fabrics.mu.Unlock()
	var all []*lease
	for _, l := range e.fabrics.runs {
		all = append(all, l)
	}
	if e.fabrics.end != nil {
		e.fabrics.end()
	}
	e.fabrics.runs = nil
	e.overlays.mu.Lock()
	defer e.overlays.mu.Unlock()
	e.overlays.dir, e.overlays.view = nil, nil
	return all
}

// LeaveCluster gives up the leases of this host, and its part of each fabric. It
// refuses while somebody is on one. With force such a network stays as it is, and the
// store need not answer.
func (e *Engine) LeaveCluster(ctx context.Context, force bool) error {
	if err := e.nobodyOnFabrics(); err != nil && !force {
		return err
	}
	for _, l := range e.closeFabrics() {
		if e.fabricKept(l.key) {
			continue
		}
		if err := l.leaser.Release(ctx); err != nil && !force {
			e.JoinCluster()
			return model.Errorf(model.Internal, "cluster", "leave", "%w", err).WithHint("with --force it leaves all the same; leases that the store still has end by themselves")
		}
	}
	return e.forsakeFabrics(ctx)
}

// nobodyOnFabrics says who is.
func (e *Engine) nobodyOnFabrics() error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, n := range e.intent.Networks {
		if n.Docker != "" {
			return model.Errorf(model.InUse, n.Ref(), "leave the cluster", "Docker of this host has it").WithHint("docker network rm, first")
		}
		if users := e.users(n.ID); n.Spans() && len(users) > 0 {
			return model.Errorf(model.InUse, n.Ref(), "leave the cluster", "still used by %s", strings.Join(users, ", ")).WithHint("disconnect them or remove them first")
		}
	}
	return nil
}

// forsakeFabrics removes the networks of a cluster that this host has left, unless
// somebody is on them.
func (e *Engine) forsakeFabrics(ctx context.Context) error {
	e.work.Lock()
	defer e.work.Unlock()
	var all []*model.Network
	for _, n := range e.intent.Networks {
		if n.Spans() {
			all = append(all, n)
		}
	}
	for _, n := range all {
		forsake := e.draft(n.Ref(), "leave").forsake
		if n.Overlay != nil {
			forsake = e.forsakeOverlay
		}
		if err := forsake(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// NodeID is this host's in clusters. It gets one if it has none.
func (e *Engine) NodeID() (string, error) {
	if err := e.nameNode(); err != nil {
		return "", err
	}
	e.work.Lock()
	defer e.work.Unlock()
	return e.cfg.Cluster.Node.ID, nil
}

// NodeAddrs is where other hosts find this one: as the settings say, or the addresses
// of the uplink.
func (e *Engine) NodeAddrs(ctx context.Context) ([]netip.Addr, error) {
	if a := e.cfg.Cluster.Addrs; len(a) > 0 {
		return slices.Clone(a), nil
	}
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("cluster", "find this host")
	defer d.discard()
	view, err := d.host(ctx)
	if err != nil {
		return nil, err
	}
	out := e.nodeAddrs(view)
	if len(out) == 0 {
		return nil, errors.New("no address of a device with a default route: where do the others find this host? --addr ADDR says so")
	}
	return out, nil
}

// nodeAddrs are those of the uplinks.
func (e *Engine) nodeAddrs(view *hostView) (out []netip.Addr) {
	for _, is6 := range []bool{false, true} {
		dev := e.uplink(view)
		if dev == "" {
			dev = view.uplink(is6)
		}
		if p, ok := view.address(dev, is6); ok {
			out = append(out, p.Addr())
		}
	}
	return out
}
