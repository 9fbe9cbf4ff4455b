package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/model"
)

// Connections counts the connections that this host knows of to each backend of a service,
// by its endpoint: those of this host's containers, and those that were asked for at a
// published port of this host. It is nil if nobody can tell.
func (e *Engine) Connections(s Service) map[model.ID]int {
	if e.cfg.Flows == nil || len(s.Backends) == 0 {
		return nil
	}
	flows, err := e.cfg.Flows()
	if err != nil {
		e.cfg.Log.Warn("connections of services are not known", "err", err)
		return nil
	}
	served := map[netip.AddrPort]model.ID{}
	for _, b := range s.Backends {
		for _, p := range s.Ports {
			for _, a := range b.Addrs {
				served[netip.AddrPortFrom(a, cmp.Or(b.Port, p.Port))] = b.Endpoint
			}
		}
	}
	out := map[model.ID]int{}
	for _, f := range flows {
		if id, ok := served[f.Served]; ok && s.asked(f) {
			out[id]++
		}
	}
	return out
}

// asked reports whether a connection is one to the service.
func (s Service) asked(f kernel.Flow) bool {
	port := f.Asked.Port()
	if slices.Contains(s.VIPs, f.Asked.Addr()) {
		return slices.Contains(s.Ports, model.ServicePort{Port: port, Proto: f.Proto})
	}
	return slices.ContainsFunc(s.Publish, func(p model.Publish) bool {
		return p.Port == port && p.Proto == f.Proto && (len(p.Addrs) == 0 || slices.Contains(p.Addrs, f.Asked.Addr()))
	})
}
