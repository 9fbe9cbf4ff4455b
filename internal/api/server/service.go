package server

import (
	"cmp"
	"fmt"
	"net/http"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// What the API calls the modes of services, and an endpoint without the service.
const (
	modeVIP      = "vip"
	modeDNSRR    = "dnsrr"
	modeIngress  = "ingress"
	modeHost     = "host"
	stateWaiting = "waiting"
)

func (s *service) services(*http.Request, none) ([]api.Service, error) {
	list := []api.Service{}
	for _, o := range s.engine.Services() {
		list = append(list, s.offer(o))
	}
	return list, nil
}

func (s *service) serviceOf(r *http.Request, _ none) (api.Service, error) {
	o, err := s.engine.Service(r.PathValue("ref"))
	if err != nil {
		return api.Service{}, err
	}
	out, open := s.offer(o), s.engine.Connections(o)
	for i := range out.Backends {
		out.Backends[i].Connections = open[model.ID(out.Backends[i].Endpoint)]
	}
	return out, nil
}

func (s *service) createService(r *http.Request, req api.ServiceSpec) (api.Service, error) {
	spec, err := serviceSpec(req, "create")
	if err != nil {
		return api.Service{}, err
	}
	o, err := s.engine.CreateService(r.Context(), spec)
	if err != nil {
		return api.Service{}, err
	}
	return s.offer(o), nil
}

// serviceSpec reads the strings of a wish for a service.
func serviceSpec(req api.ServiceSpec, op string) (engine.ServiceSpec, error) {
	spec := engine.ServiceSpec{Name: req.Name, Network: req.Network, DNSRR: req.Mode == modeDNSRR, Nearby: req.Nearby, Labels: req.Labels}
	ref := "service " + req.Name
	var err error
	switch {
	case req.Network == "":
		return spec, invalid(ref, op, "network: missing")
	case req.Mode != "" && req.Mode != modeVIP && req.Mode != modeDNSRR:
		return spec, invalid(ref, op, "mode %q: want vip or dnsrr", req.Mode)
	}
	if spec.Ports, err = servicePorts(req.Ports); err == nil {
		spec.Publish, err = publishedPorts(req.Publish)
	}
	if err == nil {
		spec.Balance, err = model.ParseBalance(req.LB)
	}
	if err == nil {
		spec.Health, err = health(req.Health)
	}
	if err != nil {
		return spec, invalid(ref, op, "%w", err)
	}
	if spec.DNSRR && req.LB != "" {
		return spec, invalid(ref, op, "lb %s: mode dnsrr leaves it to who asks for the name", req.LB)
	}
	return spec, nil
}

func (s *service) updateService(r *http.Request, req api.ServiceUpdate) (api.Service, error) {
	ref := r.PathValue("ref")
	if len(req.Ports)+len(req.LB)+len(req.Drain)+len(req.Undrain)+len(req.PublishAdd)+len(req.PublishRm)+len(req.Labels)+len(req.RemoveLabels) == 0 && req.Nearby == nil && req.Health == nil {
		return api.Service{}, invalid("service "+ref, "update", "nothing to change")
	}
	up := engine.ServiceUpdate{Drain: req.Drain, Undrain: req.Undrain, Nearby: req.Nearby, Labels: req.Labels, DropLabels: req.RemoveLabels}
	var err error
	if up.Ports, err = servicePorts(req.Ports); err == nil {
		up.Publish, err = publishedPorts(req.PublishAdd)
	}
	if err == nil {
		up.PublishRm, err = servicePorts(req.PublishRm)
	}
	if err == nil {
		up.Health, err = healthWish(req.Health)
	}
	if err != nil {
		return api.Service{}, invalid("service "+ref, "update", "%w", err)
	}
	if req.LB != "" {
		b, err := model.ParseBalance(req.LB)
		if err != nil {
			return api.Service{}, invalid("service "+ref, "update", "%w", err)
		}
		up.Balance = &b
	}
	o, err := s.engine.UpdateService(r.Context(), ref, up)
	if err != nil {
		return api.Service{}, err
	}
	return s.offer(o), nil
}

func (s *service) removeService(r *http.Request, _ none) (none, error) {
	return none{}, s.engine.RemoveService(r.Context(), r.PathValue("ref"))
}

// servicePorts reads PORT[-LAST][/PROTOCOL].
func servicePorts(texts []string) ([]model.ServicePort, error) {
	return portList(texts, model.MaxServicePorts, model.ParseServicePorts)
}

// publishedPorts reads [ADDR:]PORT[-LAST][:TARGET[-LAST]][/PROTOCOL][,mode=host].
func publishedPorts(texts []string) ([]model.Publish, error) {
	all, err := portList(texts, model.MaxPublish, model.ParsePublish)
	return model.JoinPublish(all), err
}

// portList reads ports of which a text may say several; a service has up to most.
func portList[T any](texts []string, most int, parse func(string) ([]T, error)) (out []T, err error) {
	for _, text := range texts {
		some, err := parse(text)
		if err != nil {
			return nil, err
		}
		if out = append(out, some...); len(out) > most {
			return nil, fmt.Errorf("%q: with those before it %d ports: a service has up to %d", model.Printable(text), len(out), most)
		}
	}
	return out, nil
}

// healthWish reads how backends are to be checked.
func healthWish(w *api.HealthWish) (model.HealthWish, error) {
	if w == nil {
		return model.HealthWish{}, nil
	}
	return model.ParseHealthWish(w.Check, w.Interval, w.Timeout, w.Retries)
}

// health is how the backends of a new service are checked; nil: they are not.
func health(w *api.HealthWish) (*model.Health, error) {
	wish, err := healthWish(w)
	if err != nil {
		return nil, err
	}
	return wish.Of(nil)
}

// checked is how backends are checked in the API's words.
func checked(h *model.Health) *api.Health {
	if h == nil {
		return nil
	}
	return &api.Health{Check: h.String(), Interval: h.Interval.String(), Timeout: h.Timeout.String(), Retries: h.Retries}
}

// published are a service's published ports in the API's words.
func published(all []model.Publish) []api.Published {
	out := []api.Published{}
	for _, p := range all {
		mode := modeIngress
		if p.Local {
			mode = modeHost
		}
		out = append(out, api.Published{Port: int(p.Port), Target: int(p.Target), Protocol: p.Proto, Addresses: present(p.Addrs), Mode: mode, Taken: p.Taken})
	}
	return out
}

// offer is a service in the API's words.
func (s *service) offer(o engine.Service) api.Service {
	out := api.Service{
		ID: string(o.ID), Name: o.Name, Network: o.Network.Name, Ports: []string{}, VIPs: present(o.VIPs), Mode: modeVIP,
		LB: string(cmp.Or(o.Balance, model.BalanceRandom)), Backends: []api.Backend{}, Labels: map[string]string{},
		Publish: published(o.Publish), Nearby: o.Nearby, Health: checked(o.Service.Health), Status: statusOf(s.engine.ServiceStatus(o)), Created: o.Created,
	}
	if o.DNSRR {
		out.Mode = modeDNSRR
	}
	for _, p := range o.Ports {
		out.Ports = append(out.Ports, p.String())
	}
	for k, v := range o.Labels {
		out.Labels[k] = v
	}
	for _, id := range o.Service.Draining {
		out.Draining = append(out.Draining, string(id))
	}
	for _, b := range o.Backends {
		out.Backends = append(out.Backends, api.Backend{
			Endpoint: string(b.Endpoint), Sandbox: b.Sandbox, Host: b.Host, Addresses: present(b.Addrs), Port: int(b.Port), Weight: max(b.Weight, 1), State: string(b.State),
			Health: string(b.Health), HealthSince: b.Since, HealthError: s.engine.BackendTrouble(o.Service, &b),
		})
	}
	return out
}

// memberships are the services that an endpoint is to be a backend of.
func memberships(ep *model.Endpoint, n *model.Network) []api.Membership {
	var out []api.Membership
	for _, m := range ep.Services {
		state := string(engine.MembershipState(n, ep, m))
		out = append(out, api.Membership{Service: m.Service, Port: int(m.Port), Weight: m.Weight, State: cmp.Or(state, stateWaiting)})
	}
	return out
}
