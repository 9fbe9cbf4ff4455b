package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/compile"
	driver "github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/model"
)

// A network of driver overlay is one of the cluster's: what all hosts share of it, and
// who is on it where, is in the store. Each host has it among its networks, and
// devices of it as long as somebody on the host is on it.
//
//	CreateNetwork ──── Create ─▶ store ─▶ Directory ── View ─▶ settleOverlays ─▶ draft, commit
//	Connect ── claimAddresses ─▶ store                                                │
//	                                store ◀── Directory ◀── tellOverlays ◀────────────┘
//
// Addresses are claimed one by one, before an endpoint is made, so two hosts never give
// out the same. Without the store all stays as it is, and what stopped can start.

// overlaysRoot is where they are kept in the store.
const overlaysRoot = "sealane/overlay"

// overlays are the cluster's overlay networks.
type overlays struct {
	mu   sync.Mutex         // taken after Engine.mu, never before; protects the following
	dir  *overlay.Directory // nil: this host is in no cluster
	view *overlay.View      // the latest; nil: nothing is known yet

	failed map[model.ID]problem // what hinders this host's part of a network
	seat   string               // where this host was among the others in the last pass

	key  string // public, that others are to know this host's encrypted packets by; "": none
	told bool   // the next one was in the store when that was last looked at

	news chan struct{} // readable when there is a view that was not settled
}

// followOverlays has this host take part in the cluster's overlay networks.
func (e *Engine) followOverlays(ctx context.Context) {
	o := &e.overlays
	dir := overlay.New(overlay.Options{
		Store: e.cfg.Cluster.Store, ID: e.cfg.Cluster.Node.ID, Prefix: path.Join(e.cfg.Cluster.Prefix, overlaysRoot), Log: e.cfg.Log,
		Host: func() (overlay.Host, error) { return e.overlayHost(ctx) },
		Report: func(v *overlay.View) {
			o.mu.Lock()
			o.view = v
			o.mu.Unlock()
			select {
			case o.news <- struct{}{}:
			default:
			}
		},
	})
	o.mu.Lock()
	o.dir, o.view, o.failed, o.seat, o.news, o.key, o.told = dir, nil, map[model.ID]problem{}, "", make(chan struct{}, 1), "", false
	news := o.news
	o.mu.Unlock()
	e.work.Lock()
	if s, ok := e.secretOf(cipherSecret); ok {
		e.sayKey(s)
	}
	e.tellOverlays()
	e.work.Unlock()
	e.background.Go(func() { dir.Run(ctx) })
	e.background.Go(func() { e.tendOverlays(ctx, news) })
}

// overlayHost is what this host says of itself.
func (e *Engine) overlayHost(ctx context.Context) (h overlay.Host, err error) {
	h.ID, h.Name = e.cfg.Cluster.Node.ID, e.cfg.Cluster.Node.Name
	e.overlays.mu.Lock()
	h.Key = e.overlays.key
	e.overlays.mu.Unlock()
	if h.Key != "" {
		h.Inner = overlay.InnerOf(h.ID)
	}
	addrs, err := e.NodeAddrs(ctx)
	for _, a := range addrs {
		if a.Is6() {
			h.Public6 = a
		} else {
			h.Public4 = a
		}
	}
	return h, err
}

// directory returns the cluster's, or nil.
func (e *Engine) directory() *overlay.Directory {
	e.overlays.mu.Lock()
	defer e.overlays.mu.Unlock()
	return e.overlays.dir
}

// tendOverlays settles what is reported, the latest.
func (e *Engine) tendOverlays(ctx context.Context, news <-chan struct{}) {
	due, late, squats := time.NewTicker(keyCheck), time.NewTimer(0), time.NewTicker(squatRetry)
	defer due.Stop()
	defer squats.Stop()
	defer late.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
			if err := e.turnCipher(ctx); err != nil && ctx.Err() == nil {
				e.cfg.Log.Error("overlay: another key", "err", err, "again", keyCheck)
			}
			continue
		case <-squats.C:
			e.retrySquatted(ctx)
			continue
		case <-news:
		case <-late.C:
		}
		err := e.settleOverlays(ctx)
		if err == nil || ctx.Err() != nil {
			said = ""
			continue
		}
		if text := err.Error(); text != said {
			e.cfg.Log.Error("overlay networks", "err", err, "again", retry)
			said = text
		}
		late.Reset(retry)
	}
}

// recallOverlays has the latest view settled again.
func (e *Engine) recallOverlays() {
	e.overlays.mu.Lock()
	defer e.overlays.mu.Unlock()
	select {
	case e.overlays.news <- struct{}{}:
	default:
	}
}

// settleOverlays makes this host's networks what the latest view says.
func (e *Engine) settleOverlays(ctx context.Context) error {
	e.overlays.mu.Lock()
	v := e.overlays.view
	e.overlays.mu.Unlock()
	if v == nil || !v.Known {
		return nil
	}
	e.work.Lock()
	defer e.work.Unlock()
	var failed []error
	for _, rec := range v.Networks {
		err := e.settleOverlay(ctx, v, rec)
		e.noteOverlay(rec.ID, err)
		failed = append(failed, err)
	}
	for _, n := range e.intent.Networks {
		if _, there := v.Networks[n.ID]; n.Overlay != nil && !there {
			failed = append(failed, e.forsakeOverlay(ctx, n))
		}
	}
	return errors.Join(append(failed, e.settleCipher(ctx, v))...)
}

// noteOverlay notes what hinders this host's part of a network, or that nothing does.
func (e *Engine) noteOverlay(id model.ID, err error) {
	e.overlays.mu.Lock()
	defer e.overlays.mu.Unlock()
	switch old, was := e.overlays.failed[id]; {
	case err == nil:
		delete(e.overlays.failed, id)
	case !was || old.text != err.Error():
		e.overlays.failed[id] = problem{text: err.Error(), since: e.cfg.Now()}
	}
}

// settleOverlay makes one network what a view says. The caller holds work.
func (e *Engine) settleOverlay(ctx context.Context, v *overlay.View, rec *overlay.Part) error {
	d := e.draft("network "+rec.Name, "settle")
	old := e.intent.Networks[rec.ID]
	n, err := d.overlay(ctx, v, rec, old)
	if err != nil {
		return err
	}
	if old != nil && reflect.DeepEqual(n, old) {
		return nil
	}
	d.networks[n.ID] = n
	if old == nil || !reflect.DeepEqual(n.Subnets, old.Subnets) {
		e.closePools(n.ID)
		e.openPools(n)
		e.startApart(n)
	}
	if err := d.commit(ctx); err != nil && e.tryAgain(n, err) {
		return e.settleOverlay(ctx, v, rec)
	} else if err != nil {
		return err
	}
	e.renameFar(old, n)
	e.renameServices(old, n)
	if old == nil {
		e.cfg.Log.Info("overlay network known", "network", n.Name, "vni", n.Overlay.VNI, "endpoints elsewhere", len(n.Overlay.Far))
	}
	return nil
}

// startApart has hosts give out addresses from different places of a subnet: those that
// ask at the same time seldom want the same.
func (e *Engine) startApart(n *model.Network) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, s := range n.Subnets {
		e.pools[poolKey{n.ID, s.Prefix.Addr().Is6()}].StartAt(e.cfg.Cluster.Node.ID)
	}
}

// overlay returns a network as it is to be on this host.
func (d *draft) overlay(ctx context.Context, v *overlay.View, rec *overlay.Part, old *model.Network) (*model.Network, error) {
	view, err := d.host(ctx)
	if err != nil {
		return nil, err
	}
	n := &model.Network{ID: rec.ID, Name: rec.Name, Driver: model.DriverOverlay, Subnets: slices.Clone(rec.Subnets), Internal: rec.Internal, Labels: rec.Labels, Created: rec.Created}
	if n.Options, err = model.ParseOptions(model.DriverOverlay, rec.Options); err != nil {
		return nil, err
	}
	o := model.Overlay{Name: rec.Name, Options: rec.Options, VNI: rec.VNI, Port: cmp.Or(n.Options.Backend.Port, model.OverlayPort)}
	if o.Uplink, o.Local, o.MTU, err = d.e.seatOf(view); err != nil {
		return nil, err
	}
	o.Services = servicesOf(v, rec, d.e.cfg.Cluster.Node.ID)
	if publishes(&o) {
		o.Mesh = d.e.meshOf(v, o.Uplink, o.Local, o.MTU)
	}
	at := publics(v, o.Local.Is6())
	if n.Options.Encrypted {
		at = inners(d.e.peersOf(v))
		err = d.e.seal(&o)
	}
	if err != nil {
		return nil, err
	}
	o.Far = farOf(v, rec.Endpoints, d.e.cfg.Cluster.Node.ID, at)
	n.Overlay = &o
	d.e.settlePublished(n)
	if old != nil {
		n.Shards, o.Used = old.Shards, old.Overlay.Used
	}
	n.Name = d.fabricName(n, old)
	keepDocked(n, old)
	if fits := driver.MTU(n); n.Options.MTU == 0 || n.Options.MTU > fits {
		n.Options.MTU = fits
	}
	return n, n.Validate()
}

// publics says where hosts are found by a family, by their IDs.
func publics(v *overlay.View, is6 bool) map[string]netip.Addr {
	at := map[string]netip.Addr{}
	for id, h := range v.Hosts {
		if at[id] = h.Public4; is6 {
			at[id] = h.Public6
		}
	}
	return at
}

// farOf lists the endpoints of a network that are on other hosts, which are found at at.
func farOf(v *overlay.View, all []*overlay.Endpoint, self string, at map[string]netip.Addr) []model.Far {
	var out []model.Far
	for _, ep := range all {
		if ep.Host == self {
			continue
		}
		h, known := v.Hosts[ep.Host]
		f := model.Far{ID: ep.ID, Host: cmp.Or(h.Name, ep.Host), MAC: ep.MAC, Addrs: ep.Addrs, Sandbox: ep.Sandbox.Name, Names: ep.Names, Stopped: ep.Stopped, HostGone: !known || !h.Alive}
		f.At = at[ep.Host]
		out = append(out, f)
	}
	return out
}

// seatOf says where this host is among the others, for tunnels that it makes itself.
func (e *Engine) seatOf(view *hostView) (uplink string, local netip.Addr, mtu int, err error) {
	uplink = cmp.Or(e.cfg.Cluster.Uplink, view.uplink(false), view.uplink(true))
	if uplink == "" {
		return "", local, 0, errors.New("no default route: which device leads to the other hosts? sealane daemon --uplink IFACE says so")
	}
	if mtu = view.linkMTU(uplink); mtu == 0 {
		return "", local, 0, fmt.Errorf("uplink %s: no such device", uplink)
	}
	for _, is6 := range []bool{false, true} {
		if i := slices.IndexFunc(e.cfg.Cluster.Addrs, func(a netip.Addr) bool { return a.Is6() == is6 }); i >= 0 {
			return uplink, e.cfg.Cluster.Addrs[i], mtu, nil
		}
		if p, ok := view.address(uplink, is6); ok && len(e.cfg.Cluster.Addrs) == 0 {
			return uplink, p.Addr(), mtu, nil
		}
	}
	return "", local, 0, fmt.Errorf("uplink %s: has no address", uplink)
}

// followSeat has the others told, and this host's networks settled, when it is found
// elsewhere than in the last pass. The caller holds work.
func (e *Engine) followSeat(view *hostView) {
	dir := e.directory()
	if dir == nil {
		return
	}
	uplink, local, mtu, err := e.seatOf(view)
	now := fmt.Sprint(uplink, local, mtu, err, e.nodeAddrs(view))
	e.overlays.mu.Lock()
	was := e.overlays.seat
	e.overlays.seat = now
	e.overlays.mu.Unlock()
	if was != now {
		dir.Refresh()
		e.recallOverlays()
	}
}

// forsakeOverlay removes a network that the cluster has no more, unless somebody on this
// host is on it: then it stays until nobody is.
func (e *Engine) forsakeOverlay(ctx context.Context, n *model.Network) error {
	if n.Docker != "" || len(e.users(n.ID)) > 0 {
		e.noteOverlay(n.ID, errors.New("was removed from the cluster: it goes when nobody on this host is on it"))
		return nil
	}
	e.noteOverlay(n.ID, nil)
	d := e.draft(n.Ref(), "leave")
	d.networks[n.ID] = nil
	return d.commit(ctx)
}

// settleUse gives overlay networks devices on this host with their first endpoint, and
// takes them with the last.
func (d *draft) settleUse() {
	ids := map[model.ID]bool{}
	for id, sb := range d.sandboxes {
		for _, sb := range []*model.Sandbox{sb, d.e.intent.Sandboxes[id]} {
			if sb == nil {
				continue
			}
			for i := range sb.Endpoints {
				ids[sb.Endpoints[i].Network] = true
			}
		}
	}
	for id := range ids {
		n := d.e.intent.Networks[id]
		if d.networks[id] != nil {
			n = d.networks[id]
		}
		if n == nil || n.Overlay == nil {
			continue
		}
		if used := d.uses(id); used != n.Overlay.Used {
			c, o := *n, *n.Overlay
			o.Used, c.Overlay = used, &o
			d.networks[id] = &c
		}
	}
}

// uses reports whether somebody on this host is on a network, after the draft.
func (d *draft) uses(id model.ID) bool {
	for _, sb := range d.allSandboxes() {
		if sb.Live() && sb.Endpoint(id) != nil {
			return true
		}
	}
	return false
}

// tellOverlays has the store say who on this host is on which overlay network. The
// caller holds work.
func (e *Engine) tellOverlays() {
	dir := e.directory()
	if dir == nil {
		return
	}
	var own []overlay.Endpoint
	for _, sb := range e.intent.Sandboxes {
		for i := range sb.Endpoints {
			if n := e.intent.Networks[sb.Endpoints[i].Network]; n != nil && n.Overlay != nil {
				own = append(own, overlayEndpoint(sb, &sb.Endpoints[i]))
			}
		}
	}
	var kept []overlay.Network
	for _, n := range e.intent.Networks {
		if n.Overlay != nil && n.Docker != "" {
			own = append(own, e.dockersShare(n)...)
		}
		if n.Overlay != nil && (n.Docker != "" || e.endpoints[n.ID] > 0) {
			kept = append(kept, overlay.Network{ID: n.ID, Name: n.Overlay.Name, Subnets: n.Subnets, VNI: n.Overlay.VNI, Internal: n.Internal,
				Options: n.Overlay.Options, Labels: n.Labels, Created: n.Created})
		}
	}
	dir.Keep(kept)
	dir.KeepServices(e.keptServices())
	dir.Set(own)
	e.tellHeld(dir)
}

// overlayEndpoint is an endpoint as other hosts are to know it.
func overlayEndpoint(sb *model.Sandbox, ep *model.Endpoint) overlay.Endpoint {
	out := overlay.Endpoint{ID: ep.ID, Network: ep.Network, MAC: ep.MAC, Sandbox: overlay.Sandbox{ID: sb.ID, Name: sb.Name}, Stopped: !sb.Live(), Services: memberships(ep)}
	out.Names = slices.DeleteFunc(slices.Clone(dnsHost(sb, ep).Names), func(name string) bool { return name == "" }) // a runtime may say no host name
	for _, p := range ep.Addrs {
		out.Addrs = append(out.Addrs, p.Addr())
	}
	return out
}

// noteParts notes what the firewall has for networks over hosts and their services: it
// keeps that as long as the daemon runs. The caller holds work and mu.
func (e *Engine) noteParts(n *model.Network) {
	if n == nil {
		return
	}
	e.facts.Spanned = e.facts.Spanned || n.Fabric != nil
	if n.Overlay == nil || n.Absent() && !compile.Published(n) {
		return
	}
	e.facts.Overlaid = true
	e.facts.Meshed = e.facts.Meshed || compile.Published(n)
	e.facts.Sealed = e.facts.Sealed || n.Options.Encrypted
	e.facts.Serving = e.facts.Serving || !n.Absent() && slices.ContainsFunc(n.Overlay.Services, func(s model.Service) bool { return len(s.VIPs) > 0 })
	for _, p := range compile.Picks(compile.Intent{Networks: map[model.ID]*model.Network{n.ID: n}}) {
		if !slices.Contains(e.facts.Picks, p) {
			e.facts.Picks = append(slices.Clip(e.facts.Picks), p)
		}
	}
}
