package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/health"
)

// Backends of services that want it are checked, each by its own host. What a host finds is
// in its intent, in the endpoint's record, and so in the intent of all hosts:
//
//	Checks ── finding ─▶ tendChecks ─▶ settleHealth ─▶ draft, commit ─▶ store
//	  ▲                                                   │
//	  └───────────────────── wantChecks ◀─────────────────┘
//
// A daemon that starts again goes on with what it knew.

// Checks asks backends on this host whether they serve. *health.Checker is one.
type Checks interface {
	// Start says who is told that a backend's state is another: it does not wait.
	Start(report func(health.Check, model.HealthState))
	Want([]health.Check)
	// Trouble is why a backend does not serve, or "".
	Trouble(name string) string
}

// checks are this host's backends that are checked.
type checks struct {
	mu   sync.Mutex // protects the following
	news map[string]finding

	wake chan struct{} // readable when there are news

	// The following belong to the holder of work.
	wanted map[string]health.Check
	rested map[model.ID]*model.Network // as they were before backends of theirs began anew
}

// finding is what a check found.
type finding struct {
	health.Check
	state model.HealthState
}

func newChecks() checks {
	return checks{news: map[string]finding{}, wake: make(chan struct{}, 1), rested: map[model.ID]*model.Network{}}
}

// take takes the news.
func (c *checks) take() map[string]finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.news
	c.news = map[string]finding{}
	return out
}

// put notes an answer, and with again one that could not be settled, unless there is a
// newer one.
func (c *checks) put(a finding, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, newer := c.news[a.Name]; newer && again {
		return
	}
	c.news[a.Name] = a
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// startChecks has backends be checked.
func (e *Engine) startChecks() {
	if e.cfg.Checks == nil {
		return
	}
	e.cfg.Checks.Start(func(c health.Check, s model.HealthState) { e.checks.put(finding{c, s}, false) })
	e.work.Lock()
	e.wantChecks()
	e.work.Unlock()
	e.background.Go(e.tendChecks)
}

// tendChecks settles what checks find.
func (e *Engine) tendChecks() {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.checks.wake:
		}
		if err := e.settleHealth(e.ctx); err != nil && e.ctx.Err() == nil {
			e.cfg.Log.Error("health of services", "err", err, "again", retry)
			if !e.rest(retry) {
				return
			}
		}
	}
}

// settleHealth makes this host's backends what checks found.
func (e *Engine) settleHealth(ctx context.Context) error {
	e.work.Lock()
	defer e.work.Unlock()
	news := e.checks.take()
	say := func(s *model.Service, b *model.Member) (to model.HealthState) {
		name := checkName(s, b)
		if a, ok := news[name]; ok && a.Same(e.checks.wanted[name]) {
			to = a.state
		}
		return to
	}
	var failed []error
	for _, n := range e.intent.Networks {
		failed = append(failed, e.settleFares(ctx, n, say))
	}
	err := errors.Join(failed...)
	for _, a := range news {
		if err != nil {
			e.checks.put(a, true)
		}
	}
	return err
}

// settleFares makes backends of a network what say says. The caller holds work.
func (e *Engine) settleFares(ctx context.Context, n *model.Network, say func(*model.Service, *model.Member) model.HealthState) error {
	to := fared(n, e.now(), say)
	if to == nil {
		return nil
	}
	e.settlePublished(to)
	d := e.draft(n.Ref(), "settle health")
	d.networks[n.ID] = to
	if err := d.commit(ctx); err != nil && e.tryAgain(to, err) {
		return e.settleFares(ctx, n, say)
	} else if err != nil {
		return err
	}
	e.keepFares(n, to)
	e.logFares(n, to)
	return nil
}

// now is the time as records have it.
func (e *Engine) now() time.Time { return e.cfg.Now().UTC().Truncate(time.Millisecond) }

// logFares tells which backends fare otherwise than before.
func (e *Engine) logFares(from, to *model.Network) {
	for i, s := range to.Overlay.Services {
		for j := 0; s.Health != nil && j < len(s.Backends); j++ {
			b := s.Backends[j]
			if was := from.Overlay.Services[i].Backends[j]; was.Health != b.Health {
				e.cfg.Log.Info("health of a backend", "service", s.Name, "network", to.Name, "sandbox", b.Sandbox, "state", b.Health, "why", e.BackendTrouble(s, &b))
			}
		}
	}
}

// fared returns a network on which backends of this host are as say says, or nil if they
// are so already; "": as it is.
func fared(n *model.Network, now time.Time, say func(*model.Service, *model.Member) model.HealthState) (out *model.Network) {
	if n.Overlay == nil {
		return nil
	}
	for i, s := range n.Overlay.Services {
		for j := 0; s.Health != nil && j < len(s.Backends); j++ {
			b := &s.Backends[j]
			to := b.Health
			if b.Local {
				to = say(s, b)
			}
			if to == "" || to == b.Health {
				continue
			}
			if out == nil {
				c, o := *n, *n.Overlay
				c.Overlay, o.Services = &o, slices.Clone(o.Services)
				out = &c
			}
			o := *out.Overlay.Services[i]
			o.Backends = slices.Clone(o.Backends)
			o.Backends[j].Fare(to, now)
			out.Overlay.Services[i] = &o
		}
	}
	return out
}

// checkName is what the check of a backend is called.
func checkName(s *model.Service, b *model.Member) string {
	return string(s.ID) + "/" + string(b.Endpoint)
}

// BackendTrouble is why a backend of this host does not serve, as its checks found; "": it
// does, or another host's checks would say.
func (e *Engine) BackendTrouble(s *model.Service, b *model.Member) string {
	if e.cfg.Checks == nil || s.Health == nil || !b.Local {
		return ""
	}
	return e.cfg.Checks.Trouble(checkName(s, b))
}

// wantChecks says which backends are checked. The caller holds work.
func (e *Engine) wantChecks() {
	for id, from := range e.checks.rested {
		if to := e.intent.Networks[id]; to != nil {
			e.keepFares(from, to)
		}
		delete(e.checks.rested, id)
	}
	if e.cfg.Checks == nil {
		return
	}
	seats := map[model.ID]string{}
	all := map[string]health.Check{}
	for _, s := range e.checked() {
		if len(seats) == 0 {
			seats = e.seats()
		}
		for i := range s.Backends {
			b := &s.Backends[i]
			if seat, here := seats[b.Endpoint]; here && b.Local && len(b.Addrs) > 0 {
				c := health.Check{Name: checkName(s, b), Seat: seat, To: netip.AddrPortFrom(b.Addrs[0], s.HealthPort(b)), Health: *s.Health, State: b.Health}
				all[c.Name] = c
			}
		}
	}
	e.checks.wanted = all
	list := make([]health.Check, 0, len(all))
	for _, c := range all {
		list = append(list, c)
	}
	e.cfg.Checks.Want(list)
}

// checked are the services whose backends are checked. The caller holds work.
func (e *Engine) checked() func(func(*model.Network, *model.Service) bool) {
	return func(yield func(*model.Network, *model.Service) bool) {
		for _, n := range e.intent.Networks {
			if n.Overlay == nil {
				continue
			}
			for _, s := range e.notedOf(n).checked {
				if !yield(n, s) {
					return
				}
			}
		}
	}
}

// seats tells in which namespaces the endpoints of containers that run are.
func (e *Engine) seats() map[model.ID]string {
	out := map[model.ID]string{}
	for _, sb := range e.intent.Sandboxes {
		for i := 0; sb.Live() && i < len(sb.Endpoints); i++ {
			out[sb.Endpoints[i].ID] = seatName(sb)
		}
	}
	return out
}

// seatName tells the namespace that a sandbox is in from others.
func seatName(sb *model.Sandbox) string { return fmt.Sprintf("%s %d", sb.NetNS, sb.Inode) }

// restHealth has backends begin anew whose containers stop, or are in another namespace
// than before.
func (d *draft) restHealth() {
	anew := map[model.ID]bool{}
	for id, sb := range d.sandboxes {
		old := d.e.intent.Sandboxes[id]
		if old == nil || sb == nil || old.Live() == sb.Live() && seatName(old) == seatName(sb) {
			continue
		}
		for i := range sb.Endpoints {
			if ep := &sb.Endpoints[i]; len(ep.Services) > 0 {
				anew[ep.ID] = true
			}
		}
	}
	if len(anew) == 0 {
		return
	}
	for id, n := range d.e.intent.Networks {
		if changed, in := d.networks[id]; in {
			n = changed
		}
		if n == nil {
			continue
		}
		to := fared(n, d.e.now(), func(_ *model.Service, b *model.Member) (to model.HealthState) {
			if anew[b.Endpoint] {
				to = model.HealthStarting
			}
			return to
		})
		if to != nil {
			d.networks[id], d.e.checks.rested[id] = to, d.e.intent.Networks[id]
		}
	}
}

// keepHealth says how the backends of a service fare, after what their hosts say and what
// was known before; nil: nothing. Those of this host are as they were. A backend that no
// checks have found to serve begins as starting, unless it had its share before there were
// any.
func keepHealth(s, before *model.Service, now time.Time) {
	if s.Health == nil {
		return
	}
	had := map[model.ID]*model.Member{}
	for i := 0; before != nil && before.ID == s.ID && i < len(before.Backends); i++ {
		had[before.Backends[i].Endpoint] = &before.Backends[i]
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		was := had[b.Endpoint]
		switch {
		case was != nil && b.Local:
			b.Fare(was.Health, was.Since)
		case b.Health != "" && !b.Local:
			b.Fare(b.Health, b.Since)
		case was == nil:
			b.Fare(model.HealthStarting, now)
		case was.Health != "":
			b.Fare(model.HealthStarting, was.Since)
		}
	}
}

// keepFares has a network's company be as the network is, of which backends fare otherwise
// than before. The caller holds work.
func (e *Engine) keepFares(from, to *model.Network) {
	if c := e.overlays.companies[to.ID]; c != nil && c.parts.SameParts(from.Overlay) {
		c.parts.Services = to.Overlay.Services
	}
	renameServices(e.zone(to), from.Overlay.Services, to.Overlay.Services)
}

// checkedServices are the services whose backends are checked, by network and by name in
// lower case. The caller holds work.
func (e *Engine) checkedServices() map[model.ID]map[string]*model.Service {
	out := map[model.ID]map[string]*model.Service{}
	for n, s := range e.checked() {
		if out[n.ID] == nil {
			out[n.ID] = map[string]*model.Service{}
		}
		out[n.ID][strings.ToLower(s.Name)] = s
	}
	return out
}

// healthOf is what is known of an endpoint of this host as a backend of a service that is
// checked, since when.
func healthOf(s *model.Service, endpoint model.ID) (model.HealthState, time.Time) {
	i := slices.IndexFunc(s.Backends, func(b model.Member) bool { return b.Endpoint == endpoint })
	if i < 0 {
		return model.HealthStarting, time.Time{}
	}
	return s.Backends[i].Health, s.Backends[i].Since
}
