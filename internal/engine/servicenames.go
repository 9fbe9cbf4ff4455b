package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dns"
)

// tasksPrefix begins the name that means a service's backends, as Docker's.
const tasksPrefix = "tasks."

// servicesOf lists a network's services with their backends, by name.
func servicesOf(v *overlay.View, rec *overlay.Part, self string) []model.Service {
	var out []model.Service
	at := map[string]int{}
	for _, o := range rec.Services {
		at[strings.ToLower(o.Name)] = len(out)
		out = append(out, o.Service)
	}
	if len(out) == 0 {
		return nil
	}
	for _, ep := range rec.Endpoints { // by ID
		for _, m := range ep.Services {
			if i, there := at[strings.ToLower(m.Name)]; there {
				out[i].Backends = append(out[i].Backends, memberOf(v, rec.Services[i], ep, m, self))
			}
		}
	}
	return out
}

// memberOf is an endpoint as a backend of a service.
func memberOf(v *overlay.View, o *overlay.Service, ep *overlay.Endpoint, m overlay.Membership, self string) model.Member {
	h, known := v.Hosts[ep.Host]
	b := model.Member{
		Endpoint: ep.ID, Sandbox: ep.Sandbox.Name, Host: cmp.Or(h.Name, ep.Host), Local: ep.Host == self, Node: h.Number, Addrs: ep.Addrs,
		Port: uint16(m.Port), Weight: min(m.Weight, model.MaxWeight), State: model.MemberReady,
	}
	switch {
	case ep.Stopped:
		b.State = model.MemberStopped
	case !b.Local && !(known && h.Alive):
		b.State = model.MemberAway
	case slices.Contains(o.Draining, ep.ID):
		b.State = model.MemberDraining
	}
	return b
}

// renameServices brings the names of a network's services from one state of it to
// another. The caller holds work.
func (e *Engine) renameServices(from, to *model.Network) {
	gone := map[string]bool{}
	if from != nil && from.Overlay != nil {
		for i := range from.Overlay.Services {
			for _, h := range serviceHosts(&from.Overlay.Services[i]) {
				gone[h.ID] = true
			}
		}
	}
	var put []dns.Host
	for i := range to.Overlay.Services {
		for _, h := range serviceHosts(&to.Overlay.Services[i]) {
			delete(gone, h.ID)
			put = append(put, h)
		}
	}
	if len(put)+len(gone) == 0 {
		return
	}
	var ids []string
	for id := range gone {
		ids = append(ids, id)
	}
	e.zone(to).Update(put, ids...)
}

// serviceHosts are what a service's name means, and what its backends' does.
func serviceHosts(s *model.Service) []dns.Host {
	var ready []netip.Addr
	for _, b := range s.Backends {
		if b.State == model.MemberReady {
			ready = append(ready, b.Addrs...)
		}
	}
	name := dns.Host{ID: "service " + string(s.ID), Names: []string{s.Name}, Addrs: s.VIPs, Sole: true}
	if s.DNSRR {
		name.Addrs, name.Lent = ready, true
	}
	for _, p := range s.Ports {
		name.Ports = append(name.Ports, dns.Port{Proto: p.Proto, Number: p.Port})
	}
	return []dns.Host{name, {ID: "tasks " + string(s.ID), Names: []string{tasksPrefix + s.Name}, Addrs: ready, Sole: true, Lent: true}}
}

// keptServices are the services that this host knows, as they are in the store. The
// caller holds work.
func (e *Engine) keptServices() []overlay.Service {
	var out []overlay.Service
	for _, n := range e.intent.Networks {
		if n.Overlay == nil {
			continue
		}
		for _, s := range n.Overlay.Services {
			s.Backends = nil
			out = append(out, overlay.Service{Network: n.ID, Service: s})
		}
	}
	return out
}

// memberships are an endpoint's as other hosts are to know them.
func memberships(ep *model.Endpoint) []overlay.Membership {
	var out []overlay.Membership
	for _, m := range ep.Services {
		out = append(out, overlay.Membership{Name: m.Service, Port: int(m.Port), Weight: m.Weight})
	}
	return out
}

// MembershipState says how an endpoint fares as a backend of a service that it wishes
// to be one of; "" if there is no such service yet, or the cluster has not heard of the
// endpoint yet.
func MembershipState(n *model.Network, ep *model.Endpoint, m model.Membership) model.MemberState {
	if n == nil || n.Overlay == nil {
		return ""
	}
	if s := n.Overlay.Service(m.Service); s != nil {
		for _, b := range s.Backends {
			if b.Endpoint == ep.ID {
				return b.State
			}
		}
	}
	return ""
}
