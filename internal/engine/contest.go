package engine

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/announce"
	"github.com/sealane/sealane/internal/serve/wire"
)

// While a container does not run, somebody else may take its address, which nobody
// answers for. When it comes back it has the address at once, for it must not wait, and
// its wire is asked at the same time: who has it is in the log and in the status, until
// he has it no more.

// contests are endpoints whose addresses somebody else has, or may have.
type contests struct {
	mu    sync.Mutex
	by    map[model.ID]problem        // by endpoint: somebody has
	asked map[model.ID]*model.Sandbox // by endpoint: asked about since this one came back
}

// returned lists the sandboxes of a draft that come back into a namespace with endpoints
// that they had.
func (d *draft) returned() []*model.Sandbox {
	var back []*model.Sandbox
	for id, sb := range d.sandboxes {
		old := d.e.intent.Sandboxes[id]
		if d.e.cfg.Probe != nil && sb != nil && old != nil && sb.Live() && compile.NS(old) != compile.NS(sb) {
			back = append(back, sb)
		}
	}
	return back
}

// contest asks, in the background, about the addresses of sandboxes that came back. The
// caller holds work.
func (e *Engine) contest(back []*model.Sandbox) {
	for _, sb := range back {
		for i := range sb.Endpoints {
			ep := &sb.Endpoints[i]
			n := e.intent.Networks[ep.Network]
			if n == nil || ep.Handed || n.Options.NoDAD || n.Pointed() {
				continue
			}
			at, ok := wireOf(n, EndpointSpec{VLAN: ep.VLAN})
			if addrs := e.contestable(n, ep); ok && len(addrs) > 0 {
				e.contests.mu.Lock()
				e.contests.asked[ep.ID] = sb
				e.contests.mu.Unlock()
				e.background.Go(func() { e.askOn(sb, ep.ID, n.Ref(), at, addrs) })
			}
		}
	}
}

// contestable are the addresses of an endpoint that somebody else may have. The client of
// DHCP asks about its own.
func (e *Engine) contestable(n *model.Network, ep *model.Endpoint) []netip.Addr {
	var out []netip.Addr
	add := func(list []netip.Prefix) {
		for _, p := range list {
			if ep.DHCP(p.Addr().Is6()) == nil {
				out = append(out, p.Addr())
			}
		}
	}
	if add(ep.Outside); e.amongOthers(n) && (!n.OnParent() || n.Options.Parent != "") {
		add(ep.Addrs)
	}
	return out
}

// askOn asks about addresses from the endpoint itself, again and again while somebody
// has one.
func (e *Engine) askOn(sb *model.Sandbox, id model.ID, network string, at announce.Wire, addrs []netip.Addr) {
	inside := announce.Wire{Place: wire.Place{NS: compile.NS(sb), Device: endpointByID(sb, id).IfName}, Has: true}
	for try := 0; ; try++ {
		why := ""
		if !at.Lonely() {
			why = e.whoHas(e.ctx, inside, addrs)
		}
		if !e.disputes(sb, id, network, why) || !e.rest(min(retry<<min(try, 5), interval)) {
			return
		}
		if now := e.ByEndpoint(id); now == nil {
			e.contests.mu.Lock()
			defer e.contests.mu.Unlock()
			delete(e.contests.by, id)
			delete(e.contests.asked, id)
			return
		} else if compile.NS(now) != compile.NS(sb) {
			return // it is asked about again when it comes back
		}
	}
}

// whoHas says who has the first of addresses that somebody has, or "".
func (e *Engine) whoHas(ctx context.Context, inside announce.Wire, addrs []netip.Addr) string {
	for _, a := range addrs {
		holder, err := e.cfg.Probe(ctx, inside, a)
		if err != nil {
			e.cfg.Log.Debug("probe", "address", a, "err", err)
		}
		if holder != nil {
			return fmt.Sprintf("address %s: used by %s", a, holder)
		}
	}
	return ""
}

// disputes notes who has an address of an endpoint, "" for nobody, and ends its
// announcements: neighbours may be right to believe him. It reports whether to ask
// again, which is not so if sb has come back once more meanwhile.
func (e *Engine) disputes(sb *model.Sandbox, id model.ID, network, why string) bool {
	e.contests.mu.Lock()
	defer e.contests.mu.Unlock()
	if e.contests.asked[id] != sb {
		return false
	}
	if why == "" {
		delete(e.contests.asked, id)
	}
	old, had := e.contests.by[id]
	switch {
	case why == "" && had:
		delete(e.contests.by, id)
		e.cfg.Log.Info("an address is used by nobody else any more", "sandbox", sb.Name, "network", network, "was", old.text)
	case why != "" && !had:
		e.contests.by[id] = problem{network + ": " + why, e.cfg.Now().UTC()}
		e.cfg.Log.Warn("an address of a container that came back is used by somebody else", "sandbox", sb.Name, "network", network, "why", why)
		if e.cfg.Announcer != nil {
			e.cfg.Announcer.Cancel(endpointByID(sb, id).Device())
		}
	}
	return why != ""
}

// contested is the first of a sandbox's addresses that somebody else has.
func (e *Engine) contested(sb *model.Sandbox) (problem, bool) {
	e.contests.mu.Lock()
	defer e.contests.mu.Unlock()
	for i := range sb.Endpoints {
		if p, has := e.contests.by[sb.Endpoints[i].ID]; has {
			return p, true
		}
	}
	return problem{}, false
}
