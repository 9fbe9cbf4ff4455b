package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// The ports that services are published at are reserved on every host, as those of
// containers are; with mode=host on those where a backend is. Where somebody else was
// first the service does not answer at the port: [model.Publish].Taken says who it is.

// publishing is what is published on this host. It belongs to the holder of work.
type publishing struct {
	reserved map[model.ID][]reservation // by network
	squatted map[model.ServicePort]bool // other programs have them
	held     []overlay.Held             // by containers, as the others were told
	freed    bool                       // a reservation was given up
	noted    map[model.ID]*noted        // by network, as it was looked at last
}

// reservation is a port of the host that a service has.
type reservation struct {
	port  model.PortMapping
	owner string // the service's Ref
}

// at is where it is, on whatever address.
func (r reservation) at() model.ServicePort {
	return model.ServicePort{Port: r.port.HostPort, Proto: r.port.Proto}
}

// squatRetry is how often ports are looked at that other programs have.
const squatRetry = 30 * time.Second

// squat is who has such a port.
const squat = "another program has it"

// settlePublished reserves the published ports of a network's services, gives back those
// that they have no more, and notes which are taken. The network is nobody else's yet.
func (e *Engine) settlePublished(n *model.Network) {
	taken := e.reserve(n.ID, n)
	now := map[string]*model.Service{}
	for _, s := range e.notedOf(n).published {
		publish := slices.Clone(s.Publish)
		for j := range publish {
			p := &publish[j]
			if p.Taken = taken[servicePort(*p)]; p.Taken == "" && n.Internal {
				p.Taken = "its network is internal"
			}
		}
		if !reflect.DeepEqual(publish, s.Publish) {
			c := *s
			c.Publish = publish
			now[s.Key()] = &c
		}
	}
	n.Overlay.Services = model.Revise(n.Overlay.Services, (*model.Service).Key, now)
}

// servicePort is where a service is published, on whatever address.
func servicePort(p model.Publish) model.ServicePort {
	return model.ServicePort{Port: p.Port, Proto: p.Proto}
}

// reserve has a network's services have their published ports and no others; nil: none.
// It says who has those that they cannot have.
func (e *Engine) reserve(id model.ID, n *model.Network) map[model.ServicePort]string {
	e.portsMu.Lock()
	defer e.portsMu.Unlock()
	b := &e.published
	want, taken := e.wantedPorts(n), map[model.ServicePort]string{}
	b.reserved[id] = slices.DeleteFunc(b.reserved[id], func(r reservation) bool {
		if slices.Contains(want, r) {
			return false
		}
		e.ports.Release(r.port)
		b.freed = true
		return true
	})
	for _, r := range want {
		at := r.at()
		if b.squatted[at] {
			taken[at] = squat
		}
		if slices.Contains(b.reserved[id], r) {
			continue
		}
		_, err := e.ports.Allocate(r.port, r.owner, nil)
		if conflict, ok := errors.AsType[*ipam.ConflictError](err); ok {
			taken[at] = e.ownerName(conflict.Owner) + " has it"
		} else if err == nil {
			b.reserved[id] = append(b.reserved[id], r)
		}
	}
	if len(b.reserved[id]) == 0 {
		delete(b.reserved, id)
	}
	if n == nil {
		delete(b.noted, id)
	}
	return taken
}

// wantedPorts are the ports that a network's services are to have on this host. The caller
// holds work.
func (e *Engine) wantedPorts(n *model.Network) (out []reservation) {
	if n == nil || n.Overlay == nil || n.Internal {
		return nil
	}
	for _, s := range e.notedOf(n).published {
		here := slices.ContainsFunc(s.Backends, func(b model.Member) bool { return b.Local })
		for _, p := range s.Publish {
			if p.Local && !here {
				continue
			}
			for _, m := range p.Mappings() {
				out = append(out, reservation{m, s.Ref()})
			}
		}
	}
	return out
}

// handovers are the UDP ports that services come to have by the draft.
func (d *draft) handovers() (all []kernel.Handover) {
	for id, n := range d.networks {
		for old, s := range model.Changes(services(d.e.intent.Networks[id]), services(n), (*model.Service).Order) {
			if s == nil {
				continue
			}
			for _, p := range s.Publish {
				for _, at := range askedUDP(p) {
					if old == nil || !slices.ContainsFunc(old.Publish, func(had model.Publish) bool { return slices.Contains(askedUDP(had), at) }) {
						all = append(all, kernel.Handover{Asked: at, Places: places(s, p)})
					}
				}
			}
		}
	}
	return all
}

// services are those of a network, if that is there and one over hosts.
func services(n *model.Network) []*model.Service {
	if n == nil || n.Overlay == nil {
		return nil
	}
	return n.Overlay.Services
}

// places are where a service's backends serve what is asked for at a published port.
func places(s *model.Service, p model.Publish) (all []netip.AddrPort) {
	for _, b := range s.Backends {
		for _, a := range b.Addrs {
			all = append(all, netip.AddrPortFrom(a, cmp.Or(b.Port, p.Target)))
		}
	}
	return all
}

// askedUDP is where a port is asked for by UDP: one at all addresses at the unspecified ones.
func askedUDP(p model.Publish) (all []netip.AddrPort) {
	if p.Proto != "udp" {
		return nil
	}
	for _, a := range p.Addrs {
		all = append(all, netip.AddrPortFrom(a, p.Port))
	}
	if len(all) == 0 {
		all = append(all, netip.AddrPortFrom(netip.IPv4Unspecified(), p.Port), netip.AddrPortFrom(netip.IPv6Unspecified(), p.Port))
	}
	return all
}

// ownerName is who has a port of the host, as people call it.
func (e *Engine) ownerName(owner string) string {
	if sb := e.intent.Sandboxes[model.ID(owner)]; sb != nil {
		return "container " + sb.Name
	}
	return owner
}

// loadPublished reserves the ports of services that were published when the daemon ended.
// Who has ports of containers keeps them.
func (e *Engine) loadPublished() {
	for _, id := range slices.Sorted(maps.Keys(e.intent.Networks)) {
		n := *e.intent.Networks[id]
		if n.Overlay == nil || len(e.notedOf(&n).published) == 0 {
			continue
		}
		o := *n.Overlay
		n.Overlay = &o
		for _, s := range o.Services {
			for _, p := range s.Publish {
				if p.Taken == squat {
					e.published.squatted[servicePort(p)] = true
				}
			}
		}
		e.settlePublished(&n)
		e.intent.Networks[id] = &n
	}
}

// hindered reports whether a published port of some service is taken here.
func (e *Engine) hindered() bool {
	for _, n := range e.intent.Networks {
		if n.Overlay != nil && slices.ContainsFunc(n.Overlay.Services, func(s *model.Service) bool { return takenHere(s) != "" }) {
			return true
		}
	}
	return false
}

// takenHere says which published port of a service is taken on this host, or "".
func takenHere(s *model.Service) string {
	for _, p := range s.Publish {
		if p.Taken != "" {
			return p.At() + ": " + p.Taken
		}
	}
	return ""
}

// noteFreed has the networks settled again if a port was given back that somebody waits
// for.
func (e *Engine) noteFreed() {
	if freed := e.published.freed; freed && e.hindered() {
		e.recallOverlays()
	}
	e.published.freed = false
}

// noteSquatters notes which published ports other programs were found to have, by what
// could not be applied, and has the networks settled without them.
func (e *Engine) noteSquatters(err error) {
	found := false
	for _, op := range opErrors(err) {
		h, ok := op.Op.Object().(kstate.Hold)
		for _, n := range e.intent.Networks {
			found = ok && op.Op.New != nil && errors.Is(op, kernel.ErrInUse) && e.noteSquatter(n, h) || found
		}
	}
	if found {
		e.recallOverlays()
	}
}

// noteSquatter notes that another program has published ports of a network, and reports
// whether that is new.
func (e *Engine) noteSquatter(n *model.Network, h kstate.Hold) (found bool) {
	for _, r := range e.wantedPorts(n) {
		at := r.at()
		if at.Proto != h.Proto || at.Port < h.First || at.Port > h.Last || e.published.squatted[at] {
			continue
		}
		e.published.squatted[at], found = true, true
		e.cfg.Log.Warn("published port taken by another program", "port", at, "service", r.owner)
	}
	return found
}

// tryAgain reports whether a network that could not be settled can be without ports that
// another program was found to have.
func (e *Engine) tryAgain(n *model.Network, err error) bool {
	held, ok := errors.AsType[*heldError](err)
	return ok && errors.Is(err, kernel.ErrInUse) && e.noteSquatter(n, held.hold)
}

// retrySquatted looks whether other programs still have published ports.
func (e *Engine) retrySquatted(ctx context.Context) {
	e.work.Lock()
	defer e.work.Unlock()
	for at := range e.published.squatted {
		if e.vacant(ctx, at) {
			delete(e.published.squatted, at)
			e.recallOverlays()
		}
	}
}

// vacant reports whether no program has a published port: it is held for a moment.
func (e *Engine) vacant(ctx context.Context, at model.ServicePort) bool {
	for _, n := range e.intent.Networks {
		for _, r := range e.wantedPorts(n) {
			if r.at() != at {
				continue
			}
			h := kstate.Hold{Proto: at.Proto, Addr: r.port.HostIP, First: at.Port, Last: at.Port}
			err := e.cfg.Kernel.Apply(ctx, []kstate.Op{{New: h}})
			if err == nil {
				err = e.cfg.Kernel.Apply(ctx, []kstate.Op{{Old: h}})
			}
			if err != nil {
				return false
			}
		}
	}
	return true
}

// tellHeld tells the others which ports containers of this host have published. The
// caller holds work.
func (e *Engine) tellHeld(dir *overlay.Directory) {
	var all []overlay.Held
	for _, sb := range e.intent.Sandboxes {
		for _, m := range sb.Ports {
			if m.Idle {
				continue
			}
			all = append(all, overlay.Held{Addr: m.HostIP, First: m.HostPort, Last: m.HostLast(), Proto: m.Proto, By: sb.Name})
		}
	}
	slices.SortFunc(all, func(a, b overlay.Held) int {
		return cmp.Or(cmp.Compare(a.String(), b.String()), cmp.Compare(a.By, b.By))
	})
	dir.SetHeld(all)
	if !slices.Equal(all, e.published.held) {
		e.published.held, e.published.freed = all, true
	}
	e.noteFreed()
}

// HostNumber returns the number of a host in the cluster by its ID, or 0: it has none yet,
// or nothing is known of it.
func (e *Engine) HostNumber(id string) int {
	v := e.overlayView()
	if v == nil {
		return 0
	}
	return v.Hosts[id].Number
}

// changePublish takes ports off a service's published ones, and adds others.
func changePublish(s *overlay.Service, add []model.Publish, rm []model.ServicePort) error {
	out := slices.Clone(s.Publish)
	for _, at := range rm {
		i := slices.IndexFunc(out, func(p model.Publish) bool { return servicePort(p) == at })
		if i < 0 {
			return model.Errorf(model.NotFound, s.Ref(), "update", "port %s: is not published", at)
		}
		out = slices.Delete(out, i, i+1)
	}
	s.Publish = model.JoinPublish(append(out, add...))
	return nil
}

// targetsOf are the ports that published ones lead to, each once.
func targetsOf(all []model.Publish) []model.ServicePort {
	var out []model.ServicePort
	for _, p := range all {
		if t := (model.ServicePort{Port: p.Target, Proto: p.Proto}); !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// samePublish reports whether two lists are of the same ports, whoever has them here.
func samePublish(a, b []model.Publish) bool {
	return slices.EqualFunc(a, b, func(x, y model.Publish) bool {
		return x.String() == y.String() && slices.Equal(x.Addrs, y.Addrs)
	})
}
