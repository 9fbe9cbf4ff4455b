package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dhcp"
)

// A lease is intent: what a DHCP server gave an endpoint is stored with it, and
// compiled as if its user had said so. Package dhcp is told after each change, and
// in each pass, which leases are wanted; what it gets comes in as a change like
// any other. Who asks for an endpoint waits for its first lease outside work.

// Leases gets addresses from DHCP servers. *dhcp.Client is one.
type Leases interface {
	Start(dhcp.Handler)
	Want([]dhcp.Want)
	Release(dhcp.Want) error
}

// leases is what the engine knows of DHCP besides intent.
type leases struct {
	endpoints int  // that have leases, or want some; counted as the others are
	asked     bool // the last list was not empty; of the holder of work

	mu       sync.Mutex // protects the following
	troubles map[dhcp.Key]problem
	news     chan struct{} // closed when something has changed, and made anew
}

func newLeases() leases {
	return leases{troubles: map[dhcp.Key]problem{}, news: make(chan struct{})}
}

// leaseTimeout is how long a first lease is waited for, unless the user says.
const leaseTimeout = 10 * time.Second

// wantLeases says which leases are wanted. The caller holds work.
func (e *Engine) wantLeases() {
	if e.cfg.Leases == nil || e.leases.endpoints == 0 && !e.leases.asked {
		return
	}
	var list []dhcp.Want
	for _, sb := range e.intent.Sandboxes {
		if sb.Live() {
			list = append(list, e.wants(sb, nil)...)
		}
	}
	e.leases.asked = len(list) > 0
	e.leases.keep(list)
	e.cfg.Leases.Want(list)
}

// wants lists the leases of a sandbox, but those of endpoints that are in to with
// the same request.
func (e *Engine) wants(sb, to *model.Sandbox) []dhcp.Want {
	var list []dhcp.Want
	for i := range sb.Endpoints {
		ep := &sb.Endpoints[i]
		for _, is6 := range []bool{false, true} {
			d, n := ep.DHCP(is6), e.intent.Networks[ep.Network]
			if d == nil || n == nil || ep.Handed {
				continue
			}
			if to != nil {
				if kept := endpointByID(to, ep.ID); kept != nil && kept.DHCP(is6) != nil {
					continue
				}
			}
			list = append(list, dhcp.Want{
				Key: dhcp.Key{Endpoint: ep.ID, Is6: is6}, Name: sb.Name + " on " + n.Name, NS: compile.NS(sb), Device: ep.IfName,
				MAC: ep.MAC, Local: model.LinkLocal(cmp.Or(ep.MAC, ep.DerivedMAC())).Addr(), SharedMAC: n.Driver == model.DriverIPvlan, Request: *d,
			})
		}
	}
	return list
}

// releaseLeases gives back what a draft takes away, as long as there is an
// interface to do so: what only stops keeps its leases. Nobody waits for servers.
func (d *draft) releaseLeases() {
	e := d.e
	if e.cfg.Leases == nil || e.leases.endpoints == 0 {
		return
	}
	for id, to := range d.sandboxes {
		from := e.intent.Sandboxes[id]
		if from == nil || !from.Live() {
			continue
		}
		if to == nil {
			to = &model.Sandbox{}
		}
		for _, w := range e.wants(from, to) {
			if err := e.cfg.Leases.Release(w); err != nil {
				e.cfg.Log.Debug("release", "err", err)
			}
		}
	}
}

// settleDHCP notes what an endpoint is to get from DHCP servers.
func (d *draft) settleDHCP(sb *model.Sandbox, ep *model.Endpoint, n *model.Network, spec *EndpointSpec) error {
	if !spec.DHCP4 && !spec.DHCP6 {
		if spec.DHCP.Given() {
			return d.errorf(model.Invalid, "dhcp options: the endpoint's address is not asked of a server").WithHint("with --ip dhcp or --ip6 dhcp it is")
		}
		return nil
	}
	switch {
	case d.e.cfg.Leases == nil:
		return d.errorf(model.Unsupported, "dhcp: there is no client")
	case ep.Handed:
		return d.errorf(model.Invalid, "dhcp: sandbox %s: %s gives it its addresses", sb.Name, sb.Origin)
	case n.ByHost():
		return d.errorf(model.Invalid, "dhcp: network %s: the host gives its addresses", n.Name).WithHint("one made with -o ipam=none has those of a server on the wire")
	case n.Pointed():
		return d.errorf(model.Invalid, "dhcp: network %s: mode %s is no part of the link", n.Name, n.LinkMode())
	}
	for _, is6 := range []bool{false, true} {
		if is6 && !spec.DHCP6 || !is6 && !spec.DHCP4 {
			continue
		}
		request := spec.DHCP.Of(is6)
		request.Hostname = cmp.Or(request.Hostname, hostname(sb))
		ep.SetDHCP(is6, request)
		also := func(a netip.Addr) bool { return a.Is6() == is6 }
		if slices.ContainsFunc(spec.Addrs, also) || slices.ContainsFunc(spec.Outside, func(p netip.Prefix) bool { return also(p.Addr()) }) {
			return d.errorf(model.Invalid, "dhcp: the endpoint is given an address of that family too")
		}
	}
	if spec.DHCP6 && sb.NoIPv6(spec.Sysctls) {
		return d.errorf(model.Invalid, "dhcp: disable_ipv6 turns IPv6 off")
	}
	return nil
}

// hostname is what servers are told a sandbox is called: its host name, or its
// own if somebody chose that, or the container's.
func hostname(sb *model.Sandbox) string {
	name := sb.Name
	if sb.Guest != nil {
		name = guestName(*sb.Guest)
	}
	name = cmp.Or(sb.Hostname, name)
	if name == string(sb.ID) || model.CheckHostname(name) != nil || len(name) > 63 {
		return ""
	}
	return name
}

// handler is the engine as package dhcp sees it.
type handler struct{ e *Engine }

// Leased makes a lease intent. Its error refuses the lease.
func (h handler) Leased(k dhcp.Key, l model.Lease) error {
	e := h.e
	e.work.Lock()
	defer e.work.Unlock()
	sb := e.sandboxWith(k.Endpoint)
	if sb == nil || endpointByID(sb, k.Endpoint).DHCP(k.Is6) == nil {
		return fmt.Errorf("the endpoint is gone")
	}
	d := e.draft(sb.Ref(), "lease of "+l.Addr.Addr().String())
	c := d.edit(sb)
	ep := endpointByID(c, k.Endpoint)
	n := e.intent.Networks[ep.Network]
	if who := d.hasLeased(n, ep, l.Addr.Addr()); who != "" {
		return model.Errorf(model.Conflict, "", "", "address %s: used by sandbox %s", l.Addr.Addr(), who)
	}
	l.Routes = free(c, ep, l)
	ep.SetLease(k.Is6, &l, n.Options.MTU, c.Routed(k.Is6) && ep.Priority <= 0)
	if err := d.checkSameSubnet(e.ctx, c, ep); err != nil {
		d.discard()
		return err
	}
	if err := d.commit(e.ctx); err != nil {
		return err
	}
	e.leases.fare(k, nil, e.cfg.Now())
	return nil
}

// hasLeased returns the sandbox on a network that has an address from elsewhere
// than a lease that has ended, besides ep; or "".
func (d *draft) hasLeased(n *model.Network, ep *model.Endpoint, a netip.Addr) string {
	for o := range d.allSandboxes() {
		for other := range o.On(n.ID) {
			if o.Exit != nil || other.ID == ep.ID {
				continue
			}
			if l := other.Lease(a.Is6()); l != nil && l.Addr.Addr() == a && !l.Valid(d.e.cfg.Now()) {
				continue
			}
			if slices.ContainsFunc(slices.Concat(other.Addrs, other.Outside), func(p netip.Prefix) bool { return p.Addr() == a }) {
				return o.Name
			}
		}
	}
	return ""
}

// free returns the routes of a lease whose destinations no other interface of the
// sandbox has a route to.
func free(sb *model.Sandbox, ep *model.Endpoint, l model.Lease) []model.Route {
	taken := map[kstate.Key]bool{}
	for i := range sb.Endpoints {
		if other := &sb.Endpoints[i]; other.ID != ep.ID {
			for _, o := range driver.Inside(other, kstate.NS{}) {
				taken[o.Key()] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(l.Routes), func(r model.Route) bool { return taken[kstate.Route{Dst: r.Dst}.Key()] })
}

// Lost takes a lease away.
func (h handler) Lost(k dhcp.Key, why error) {
	e := h.e
	e.work.Lock()
	defer e.work.Unlock()
	sb := e.sandboxWith(k.Endpoint)
	if sb == nil || endpointByID(sb, k.Endpoint).Lease(k.Is6) == nil {
		return
	}
	d := e.draft(sb.Ref(), "end of a lease")
	endpointByID(d.edit(sb), k.Endpoint).SetLease(k.Is6, nil, 0, false)
	if err := d.commit(e.ctx); err != nil {
		e.cfg.Log.Error("end of a lease", "sandbox", sb.Name, "err", err)
		return
	}
	e.leases.fare(k, why, e.cfg.Now())
}

// Trouble notes why there is no lease, for status and for who waits.
func (h handler) Trouble(k dhcp.Key, why error) { h.e.leases.fare(k, why, h.e.cfg.Now()) }

// fare notes how a lease fares, nil is well.
func (l *leases) fare(k dhcp.Key, why error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if why == nil {
		delete(l.troubles, k)
	} else {
		p := problem{why.Error(), now.UTC()}
		if old, ok := l.troubles[k]; ok {
			p.since = old.since
		}
		l.troubles[k] = p
	}
	l.ringLocked()
}

// ringLocked wakes who waits.
func (l *leases) ringLocked() {
	close(l.news)
	l.news = make(chan struct{})
}

// keep forgets the troubles of leases that nobody wants. Who waits for one has a look
// whether it still is.
func (l *leases) keep(list []dhcp.Want) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ringLocked()
	for k := range l.troubles {
		if !slices.ContainsFunc(list, func(w dhcp.Want) bool { return w.Key == k }) {
			delete(l.troubles, k)
		}
	}
}

// trouble returns why an endpoint lacks a lease, or one is not renewed.
func (l *leases) trouble(ep *model.Endpoint) (problem, bool) {
	if ep.DHCP4 == nil && ep.DHCP6 == nil {
		return problem{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, is6 := range []bool{false, true} {
		if p, ok := l.troubles[dhcp.Key{Endpoint: ep.ID, Is6: is6}]; ok {
			return p, true
		}
	}
	return problem{}, false
}

// unleased is the first of a sandbox's troubles with DHCP. The caller holds mu.
func (e *Engine) unleased(sb *model.Sandbox) (problem, bool) {
	for i := range sb.Endpoints {
		if p, ok := e.leases.trouble(&sb.Endpoints[i]); ok {
			if n := e.intent.Networks[sb.Endpoints[i].Network]; n != nil {
				p.text = n.Ref() + ": dhcp: " + p.text
			}
			return p, true
		}
	}
	return problem{}, false
}

// awaitLeases waits for the first leases of an endpoint. It does not wait for a
// sandbox that is not there, nor for one that went meanwhile.
func (e *Engine) awaitLeases(ctx context.Context, id model.ID, timeout time.Duration) error {
	timer := time.NewTimer(cmp.Or(timeout, leaseTimeout))
	defer timer.Stop()
	for lived := false; ; lived = true {
		e.leases.mu.Lock()
		news := e.leases.news
		e.leases.mu.Unlock()
		sb := e.ByEndpoint(id)
		switch {
		case sb == nil, !sb.Live() && lived:
			return model.Errorf(model.Gone, "", "", "dhcp: the container ended, or was disconnected, before a server answered")
		case !sb.Live(): // it is asked when it starts
			return nil
		}
		ep := endpointByID(sb, id)
		if (ep.DHCP4 == nil || ep.DHCP4.Lease != nil) && (ep.DHCP6 == nil || ep.DHCP6.Lease != nil) {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("dhcp: %w", ctx.Err())
		case <-timer.C:
			if p, ok := e.leases.trouble(ep); ok && p.text != dhcp.Silent {
				return fmt.Errorf("dhcp: %s", p.text)
			}
			return fmt.Errorf("dhcp: no server answered within %v", cmp.Or(timeout, leaseTimeout))
		}
	}
}

// leased returns a sandbox's endpoint once it has its first leases. If it gets
// none, the endpoint goes again.
func (e *Engine) leased(ctx context.Context, ref, op string, ep *model.Endpoint, timeout time.Duration) error {
	if ep.DHCP4 == nil && ep.DHCP6 == nil {
		return nil
	}
	err := e.awaitLeases(ctx, ep.ID, timeout)
	if err == nil {
		return nil
	}
	if failed := e.dropAgain(ep.ID, ref, op); failed != nil {
		e.cfg.Log.Error("take back an endpoint without a lease", "err", failed)
	}
	return noLease(ref, op, err)
}

// noLease is the error of who gets none.
func noLease(ref, op string, err error) error {
	kind := model.Exhausted
	if model.KindOf(err) == model.Gone {
		kind = model.Gone
	}
	return &model.Error{Kind: kind, Ref: ref, Op: op, Err: err}
}

// dropAgain takes an endpoint away that has just been made.
func (e *Engine) dropAgain(id model.ID, ref, op string) error {
	e.work.Lock()
	defer e.work.Unlock()
	sb := e.sandboxWith(id)
	if sb == nil {
		return nil
	}
	d := e.draft(ref, op)
	c := d.edit(sb)
	dropEndpoint(c, id)
	if len(c.Endpoints) == 0 && c.Mode == model.ModeOther && (c.Guest == nil || d.idle(c)) {
		d.sandboxes[c.ID] = nil
	} else if err := d.settlePorts(context.Background(), c, nil); err != nil {
		d.discard()
		return err
	}
	return d.commit(context.Background())
}
