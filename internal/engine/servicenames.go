package engine

import (
	"net/netip"
	"strings"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dns"
)

// tasksPrefix begins the name that means a service's backends, as Docker's.
const tasksPrefix = "tasks."

// renameServices brings the names of a network's services from one state of them to
// another.
func renameServices(z *dns.Zone, from, to []*model.Service) {
	var put []dns.Host
	var gone []string
	for was, is := range model.Changes(from, to, (*model.Service).Order) {
		if was != nil && (is == nil || is.ID != was.ID) {
			for _, h := range serviceHosts(was) {
				gone = append(gone, h.ID)
			}
		}
		if is != nil {
			put = append(put, serviceHosts(is)...)
		}
	}
	if len(put)+len(gone) > 0 {
		z.Update(put, gone...)
	}
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

// keptServices are the services that this host knows, by network. The caller holds work.
func (e *Engine) keptServices() map[model.ID][]*model.Service {
	all := map[model.ID][]*model.Service{}
	for _, n := range e.intent.Networks {
		if n.Overlay != nil {
			all[n.ID] = n.Overlay.Services
		}
	}
	return all
}

// memberships are an endpoint's as other hosts are to know them. checked are the services
// of its network that are checked, by name in lower case.
func memberships(ep *model.Endpoint, checked map[string]*model.Service) []overlay.Membership {
	var out []overlay.Membership
	for _, m := range ep.Services {
		o := overlay.Membership{Name: m.Service, Port: int(m.Port), Weight: m.Weight}
		if s := checked[strings.ToLower(m.Service)]; s != nil {
			o.Health, o.Since = healthOf(s, ep.ID)
		}
		out = append(out, o)
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
