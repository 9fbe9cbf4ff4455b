package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/dns"
	"github.com/sealane/sealane/internal/serve/wire"
)

// Resolver answers the sandboxes' questions for names. *dns.Resolver is one.
type Resolver interface {
	Put(key string, view dns.View) error
	Remove(key string) error
	Set(views map[string]dns.View) error
	SetServers([]netip.AddrPort)
	Repair() error
	Mend(key string) (missing bool, err error)
}

// Announcer tells neighbours of new addresses. *announce.Announcer is one.
type Announcer interface {
	Announce(announce.Endpoint) error
	Cancel(device string)
}

// names keeps the resolver as intent says. It belongs to the holder of
// Engine.work.
type names struct {
	zones map[model.ID]*dns.Zone // by network

	mu      sync.Mutex                   // protects leaving
	leaving map[model.ID]<-chan struct{} // closed once the resolver has left the sandbox
}

// zone returns the names of a network.
func (e *Engine) zone(n *model.Network) *dns.Zone {
	z := e.names.zones[n.ID]
	if z == nil {
		var subnets []netip.Prefix
		for _, s := range n.Subnets {
			subnets = append(subnets, s.Prefix)
		}
		z = dns.NewZone(n.Name, subnets)
		e.names.zones[n.ID] = z
	}
	return z
}

// serveAll has the resolver serve all sandboxes, and no others, and announces
// every address: at start others may have had them meanwhile. What it returns
// is closed when that is done.
func (e *Engine) serveAll() <-chan struct{} {
	for _, sb := range e.intent.Sandboxes {
		e.rename(nil, sb)
		e.announce(nil, sb, true)
	}
	for _, n := range e.intent.Networks {
		if n.Overlay != nil {
			renameParts(e.zone(n), nil, n)
		}
	}
	return e.serveViews()
}

// serveViews has the resolver serve exactly the sandboxes that have it.
func (e *Engine) serveViews() <-chan struct{} {
	views := map[string]dns.View{}
	for _, sb := range e.intent.Sandboxes {
		if compile.Resolves(sb, e.intent.Networks, e.facts) {
			views[string(sb.ID)] = e.dnsView(sb)
		}
	}
	done := make(chan struct{})
	e.background.Go(func() {
		defer close(done)
		if e.cfg.Names == nil {
			return
		}
		if err := e.cfg.Names.Set(views); err != nil {
			e.cfg.Log.Warn("names", "err", err)
		}
	})
	return done
}

// rename brings the zones from one state of a sandbox to another.
func (e *Engine) rename(from, to *model.Sandbox) {
	if from != nil {
		for _, ep := range from.Endpoints {
			z := e.names.zones[ep.Network]
			if z != nil && (to == nil || !to.Live() || endpointByID(to, ep.ID) == nil) {
				z.Update(nil, string(ep.ID))
			}
		}
	}
	if to == nil || !to.Live() {
		return
	}
	for i := range to.Endpoints {
		if n := e.intent.Networks[to.Endpoints[i].Network]; n != nil {
			e.zone(n).Update([]dns.Host{dnsHost(to, &to.Endpoints[i])})
		}
	}
}

// dnsHost is an endpoint as its network knows it. The name, and if that is none
// that can be asked for, the ID, is what its address is called.
func dnsHost(sb *model.Sandbox, ep *model.Endpoint) dns.Host {
	h := dns.Host{ID: string(ep.ID), Names: []string{sb.Name, string(sb.ID)}}
	if sb.Guest != nil {
		h.Names = append(h.Names, guestName(*sb.Guest))
	}
	h.Names = append(append(h.Names, ep.Aliases...), sb.Hostname)
	for _, p := range slices.Concat(ep.Addrs, ep.Outside) {
		h.Addrs = append(h.Addrs, p.Addr())
	}
	for _, m := range slices.Concat(sb.Expose, sb.Ports) {
		h.Ports = append(h.Ports, dns.Port{Proto: m.Proto, Number: m.Port, Count: m.Count})
	}
	return h
}

// dnsView is what a sandbox sees: the networks in the order of its gateways, as
// in Docker, without the default one, which has no names.
func (e *Engine) dnsView(sb *model.Sandbox) dns.View {
	v := dns.View{NS: compile.NS(sb), Links: map[string]string{}}
	nets := e.intent.Networks
	v.Internal = compile.Gateway(sb, nets, false) == nil && compile.Gateway(sb, nets, true) == nil && !onWire(sb, nets)
	eps := slices.Clone(sb.Endpoints)
	slices.SortStableFunc(eps, func(a, b model.Endpoint) int { return cmp.Compare(b.Priority, a.Priority) })
	for i := range eps {
		if n := nets[eps[i].Network]; n != nil && n.Name != model.NetworkBridge && !slices.Contains(v.Zones, e.zone(n)) {
			v.Zones = append(v.Zones, e.zone(n))
		}
	}
	for _, l := range sb.Links {
		v.Links[l.Alias] = l.Target
	}
	servers := sb.DNS.Servers
	if len(servers) == 0 {
		servers = sb.LeasedDNS().Servers
	}
	for _, a := range servers {
		v.Servers = append(v.Servers, netip.AddrPortFrom(a, 53))
	}
	return v
}

// onWire reports whether a sandbox is on a wire of others. Without a router there, too, it
// is no internal network, and the host's servers are asked from the host.
func onWire(sb *model.Sandbox, nets map[model.ID]*model.Network) bool {
	return slices.ContainsFunc(sb.Endpoints, func(ep model.Endpoint) bool {
		n := nets[ep.Network]
		return n != nil && n.Wired() && !n.Internal
	})
}

// serveNames brings the resolver from before a draft to after it, which is
// intent now.
func (d *draft) serveNames(before map[model.ID]*model.Sandbox) {
	e := d.e
	for id, n := range d.networks {
		if n == nil {
			delete(e.names.zones, id)
		}
	}
	for id, sb := range d.sandboxes {
		e.rename(before[id], sb)
		e.announce(before[id], sb, false)
		if e.cfg.Names != nil {
			e.serveSandbox(id, sb)
		}
	}
	e.wantLeases()
}

// serveSandbox has the resolver serve a sandbox as it is now. One that goes away
// takes the resolver's rules with it: nobody waits for that, but who comes back.
func (e *Engine) serveSandbox(id model.ID, sb *model.Sandbox) {
	if sb == nil || !compile.Resolves(sb, e.intent.Networks, e.facts) {
		e.leave(id)
		return
	}
	e.names.mu.Lock()
	left := e.names.leaving[id]
	e.names.mu.Unlock()
	if left != nil {
		<-left
	}
	if err := e.cfg.Names.Put(string(id), e.dnsView(sb)); err != nil {
		e.cfg.Log.Warn("names", "sandbox", sb.Name, "err", err)
	}
}

// leave has the resolver leave a sandbox, in the background.
func (e *Engine) leave(id model.ID) {
	e.names.mu.Lock()
	defer e.names.mu.Unlock()
	before, left := e.names.leaving[id], make(chan struct{})
	e.names.leaving[id] = left
	e.background.Go(func() {
		if before != nil {
			<-before
		}
		if err := e.cfg.Names.Remove(string(id)); err != nil {
			e.cfg.Log.Debug("names: leave", "sandbox", id, "err", err)
		}
		close(left)
		e.names.mu.Lock()
		defer e.names.mu.Unlock()
		if e.names.leaving[id] == left {
			delete(e.names.leaving, id)
		}
	})
}

// mendNames has the resolver put its rules back in a sandbox, and reports whether some
// were not there.
func (e *Engine) mendNames(sb *model.Sandbox) (missing bool, err error) {
	if e.cfg.Names == nil || !compile.Resolves(sb, e.intent.Networks, e.facts) {
		return false, nil
	}
	return e.cfg.Names.Mend(string(sb.ID))
}

// repairNames has the resolver put its rules back where somebody flushed them:
// nothing hints at that, for it happens inside sandboxes.
func (e *Engine) repairNames() {
	if e.cfg.Names == nil {
		return
	}
	e.background.Go(func() {
		if err := e.cfg.Names.Repair(); err != nil {
			e.cfg.Log.Warn("names: repair", "err", err)
		}
	})
}

// Docker's announcements: three, a second apart. Everybody on a network hears
// each, so that in a crowd only hardware addresses that users chose are
// announced, once, and none at start: those made from the address are the same
// whoever has it. A number that the user asked for goes before all that.
const (
	announceCount    = 3
	announceInterval = time.Second
	crowd            = 100 // endpoints
)

// announcements returns how many messages an endpoint of a network gets; changed:
// what the neighbours know of it is no longer true.
func (e *Engine) announcements(n *model.Network, ep *model.Endpoint, start, changed bool) int {
	switch {
	case n.Options.Announce != 0:
		return n.Options.Announce
	case e.endpoints[n.ID] <= crowd:
		return announceCount
	case !changed && (start || derived(ep)):
		return 0
	}
	return 1
}

// derived reports whether an endpoint's hardware address is made from its address.
func derived(ep *model.Endpoint) bool {
	return ep.MAC == ep.DerivedMAC()
}

// announce tells the neighbours of endpoints that are new in a sandbox, or have
// another hardware or IP address; and of those that had another endpoint of the sandbox
// beside them on their network, which may have answered for their addresses, as
// Linux does. The link-local addresses of IPv6 that a container engine gives are not told
// of: the container is asking whether somebody has them, and would take that for a yes.
func (e *Engine) announce(from, to *model.Sandbox, start bool) {
	if e.cfg.Announcer == nil {
		return
	}
	if from != nil {
		for i := range from.Endpoints {
			if to == nil || !to.Live() || endpointByID(to, from.Endpoints[i].ID) == nil {
				e.cfg.Announcer.Cancel(from.Endpoints[i].Device())
			}
		}
	}
	if to == nil || !to.Live() {
		return
	}
	for i := range to.Endpoints {
		ep, n := &to.Endpoints[i], e.intent.Networks[to.Endpoints[i].Network]
		if n == nil || ep.Handed && !n.Bridged() || from != nil && from.Live() && known(from, to, ep) {
			continue
		}
		if n.Options.Announce == 0 && e.endpoints[n.ID] == crowd+1 {
			e.stopAnnouncing(n.ID)
		}
		a := announce.Endpoint{Device: ep.Device(), MAC: ep.MAC, Count: e.announcements(n, ep, start, from != nil && endpointByID(from, ep.ID) != nil),
			Interval: cmp.Or(time.Duration(n.Options.AnnounceInterval)*time.Millisecond, announceInterval)}
		for _, p := range slices.Concat(ep.Addrs, ep.Outside, ep.LinkLocal) {
			if probing := ep.Handed && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast(); !probing {
				a.Addrs = append(a.Addrs, p.Addr())
			}
		}
		if !n.Bridged() {
			a.Inside = wire.Place{NS: compile.NS(to), Device: ep.IfName}
		}
		if err := e.cfg.Announcer.Announce(a); err != nil {
			e.cfg.Log.Warn("announce", "sandbox", to.Name, "err", err)
		}
	}
}

// known reports whether the neighbours of an endpoint know of it what is true,
// also after its sandbox was another.
func known(from, to *model.Sandbox, ep *model.Endpoint) bool {
	old := endpointByID(from, ep.ID)
	if old == nil || old.MAC != ep.MAC || !slices.Equal(old.Outside, ep.Outside) || !slices.Equal(old.LinkLocal, ep.LinkLocal) {
		return false
	}
	for beside := range from.On(ep.Network) {
		if endpointByID(to, beside.ID) == nil {
			return false
		}
	}
	return true
}

// stopAnnouncing drops what a network that has just become a crowd has still to
// hear, but need not.
func (e *Engine) stopAnnouncing(network model.ID) {
	for _, sb := range e.intent.Sandboxes {
		for ep := range sb.On(network) {
			if derived(ep) {
				e.cfg.Announcer.Cancel(ep.Device())
			}
		}
	}
}
