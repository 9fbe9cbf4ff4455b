package engine

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"
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

	key  string // public, that others are to know this host's encrypted packets by; "": none
	told bool   // the next one was in the store when that was last looked at

	strict time.Time // since when the host drops what the mesh brings, see strictStatus; zero: it does not

	news chan struct{} // readable when there is a view that was not settled

	// The following belong to the holder of work.
	seat      *seat                 // where this host was among the others when that was last looked at; nil: it was not
	companies map[model.ID]*company // by network: what was settled last
	survey    survey
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
	o.dir, o.view, o.failed, o.news, o.key, o.told = dir, nil, map[model.ID]problem{}, make(chan struct{}, 1), "", false
	o.seat, o.companies = nil, map[model.ID]*company{}
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
	e.work.Lock()
	defer e.work.Unlock()
	v := e.overlayView() // what is removed meanwhile must not come back
	if v == nil || !v.Known {
		return nil
	}
	var failed []error
	for _, rec := range v.Networks {
		err := e.settleOverlay(ctx, v, withUnread(v, rec, e.intent.Networks[rec.ID]))
		e.noteOverlay(rec.ID, err)
		failed = append(failed, err)
	}
	for _, n := range e.intent.Networks {
		if _, there := v.Networks[n.ID]; n.Overlay != nil && !there && !v.Unread[overlay.Key{Kind: overlay.KindNetwork, Network: n.ID}] {
			failed = append(failed, e.forsakeOverlay(ctx, n))
		}
	}
	return errors.Join(append(failed, e.settleCipher(ctx, v))...)
}

// overlayView is what the cluster was like when it was last heard of, or nil.
func (e *Engine) overlayView() *overlay.View {
	e.overlays.mu.Lock()
	defer e.overlays.mu.Unlock()
	return e.overlays.view
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
	if old != nil && n.SameFrame(old) && n.Overlay.SameParts(old.Overlay) {
		return nil
	}
	d.networks[n.ID] = n
	if old == nil || !reflect.DeepEqual(n.Subnets, old.Subnets) {
		e.closePools(n.ID)
		e.openPools(n)
		e.startApart(n)
	}
	if err := e.commitNamed(ctx, d, old, n); err != nil && e.tryAgain(n, err) {
		return e.settleOverlay(ctx, v, rec)
	} else if err != nil {
		return err
	}
	if old == nil {
		e.cfg.Log.Info("overlay network known", "network", n.Name, "vni", n.Overlay.VNI, "endpoints elsewhere", len(n.Overlay.Far))
	}
	return nil
}

// commitNamed commits a draft of a network, and has its names be as the network is then. While
// nobody on this host can ask for them, both are done at once. The caller holds work.
func (e *Engine) commitNamed(ctx context.Context, d *draft, old, n *model.Network) error {
	if !n.Absent() || old != nil && !old.Absent() {
		err := d.commit(ctx)
		if err == nil {
			renameParts(e.zone(n), old, n)
		}
		return err
	}
	z := e.zone(n)
	var naming sync.WaitGroup
	naming.Go(func() { renameParts(z, old, n) })
	err := d.commit(ctx)
	naming.Wait()
	switch {
	case err != nil && old == nil:
		delete(e.names.zones, n.ID)
	case err != nil:
		renameParts(z, n, old)
	}
	return err
}

// startApart has hosts give out addresses from different places of a subnet: those that
// ask at the same time seldom want the same.
func (e *Engine) startApart(n *model.Network) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, s := range n.Subnets {
		e.pools[poolKey{n.ID, s.Prefix.Addr().Is6()}].Of(s.Prefix).StartAt(e.cfg.Cluster.Node.ID)
	}
}

// overlay returns a network as it is to be on this host.
func (d *draft) overlay(ctx context.Context, v *overlay.View, rec *overlay.Part, old *model.Network) (*model.Network, error) {
	n := &model.Network{ID: rec.ID, Name: rec.Name, Driver: model.DriverOverlay, Subnets: slices.Clone(rec.Subnets), Internal: rec.Internal, Labels: rec.Labels, Created: rec.Created}
	var err error
	if n.Options, err = model.ParseOptions(model.DriverOverlay, rec.Options); err != nil {
		return nil, err
	}
	o := model.Overlay{Name: rec.Name, Options: rec.Options, VNI: rec.VNI, Port: cmp.Or(n.Options.Backend.Port, model.OverlayPort)}
	here, err := d.ownSeat(ctx)
	if err != nil {
		return nil, err
	}
	o.Uplink, o.Local, o.MTU = here.uplink, here.local, here.mtu
	at := publics(v, o.Local.Is6())
	if n.Options.Encrypted {
		at = inners(d.e.peersOf(v))
		err = d.e.seal(&o)
	}
	if err != nil {
		return nil, err
	}
	c := d.e.company(rec.ID, old)
	c.now = d.e.now()
	c.take(v, rec, at)
	o.Far, o.Services, o.Servants, o.Hosts = c.parts.Far, c.parts.Services, c.parts.Servants, c.parts.Hosts
	n.Overlay = &o
	if len(d.e.notedOf(n).published) > 0 {
		o.Mesh = d.e.meshOf(v, here.uplink, here.local, here.mtu)
	}
	d.e.settlePublished(n)
	c.parts.Services = o.Services
	if old != nil {
		n.Shards, o.Used = old.Shards, old.Overlay.Used
	}
	o.Narrow = d.e.narrowPaths(n, d.e.peersOf(v), old)
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

// company is who is on a network as it was settled last; or nobody yet, if that is not how
// the network is.
func (e *Engine) company(id model.ID, n *model.Network) *company {
	c, has := e.overlays.companies[id]
	if has && n != nil && c.parts.SameParts(n.Overlay) {
		return c
	}
	c = newCompany(e.cfg.Cluster.Node.ID, nil)
	if n != nil {
		c = newCompany(e.cfg.Cluster.Node.ID, n.Overlay)
	}
	e.overlays.companies[id] = c
	return c
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
	delete(e.overlays.companies, n.ID)
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
			o.Narrow = d.e.narrowPaths(&c, d.e.cipherPeers(), n)
			d.networks[id] = &c
		}
	}
}

// uses reports whether somebody on this host is on a network, after the draft.
func (d *draft) uses(id model.ID) bool {
	for sb := range d.allSandboxes() {
		if sb.Live() && sb.Endpoint(id) != nil {
			return true
		}
	}
	return false
}

// tellOverlays has the store say who on this host is on which overlay network, and its
// backends be checked. The caller holds work.
func (e *Engine) tellOverlays() {
	e.wantChecks()
	dir := e.directory()
	if dir == nil {
		return
	}
	checked := e.checkedServices()
	var own []overlay.Endpoint
	for _, sb := range e.intent.Sandboxes {
		for i := range sb.Endpoints {
			if n := e.intent.Networks[sb.Endpoints[i].Network]; n != nil && n.Overlay != nil {
				own = append(own, overlayEndpoint(sb, &sb.Endpoints[i], checked[n.ID]))
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
func overlayEndpoint(sb *model.Sandbox, ep *model.Endpoint, checked map[string]*model.Service) overlay.Endpoint {
	out := overlay.Endpoint{ID: ep.ID, Network: ep.Network, MAC: ep.MAC, Sandbox: overlay.Sandbox{ID: sb.ID, Name: sb.Name}, Stopped: !sb.Live(), Services: memberships(ep, checked)}
	for _, name := range dnsHost(sb, ep).Names { // a runtime may say no host name, or again what the container is called
		if name != "" && !slices.ContainsFunc(out.Names, func(o string) bool { return strings.EqualFold(o, name) }) {
			out.Names = append(out.Names, name)
		}
	}
	for _, p := range ep.Addrs {
		out.Addrs = append(out.Addrs, p.Addr())
	}
	return out
}

// fresh lists what is new or another of parts of one kind.
func fresh[T any](was, is []*T, order func(a, b *T) int) (out []*T) {
	for _, x := range model.Changes(was, is, order) {
		if x != nil {
			out = append(out, x)
		}
	}
	return out
}

// noteParts notes what the firewall has for shards, networks over hosts and their services,
// when one becomes another: it keeps that as long as the daemon runs. The caller holds work and mu.
func (e *Engine) noteParts(from, to *model.Network) {
	if to == nil {
		return
	}
	e.facts.Spanned = e.facts.Spanned || to.Fabric != nil
	e.facts.Sharded = e.facts.Sharded || to.Shards > 0
	e.facts.Apart = e.facts.Apart || to.Options.NoICC
	if to.Overlay == nil || to.Absent() && !compile.Published(to) {
		return
	}
	e.facts.Overlaid = true
	e.facts.Sealed = e.facts.Sealed || to.Options.Encrypted
	e.facts.Meshed = e.facts.Meshed || compile.Published(to)
	e.facts.Narrowed = e.facts.Narrowed || len(to.Overlay.Narrow) > 0 && !to.Absent()
	was := &model.Overlay{}
	if from != nil && from.SameFrame(to) {
		was = from.Overlay
	}
	is := fresh(was.Services, to.Overlay.Services, (*model.Service).Order)
	e.facts.Kept = e.facts.Kept || compile.Keeps(to, e.facts, fresh(was.Servants, to.Overlay.Servants, (*model.Servant).Order))
	e.facts.Serving = e.facts.Serving || !to.Absent() && slices.ContainsFunc(is, func(s *model.Service) bool { return len(s.VIPs) > 0 })
	for _, p := range compile.Picks(to, is) {
		if !slices.Contains(e.facts.Picks, p) {
			e.facts.Picks = append(slices.Clip(e.facts.Picks), p)
		}
	}
}
