package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// A service is of an overlay network and of no host: its record is in the cluster's
// store, and each host knows those of its networks with who is a backend where. Who is a
// backend is said by the endpoints, which need no service to be there.

// Service is a service with its network.
type Service struct {
	*model.Service
	Network *model.Network
}

// ServiceSpec is a service to be made.
type ServiceSpec struct {
	Name    string
	Network string              // name or ID, of an overlay network
	Ports   []model.ServicePort // none: those that published ones lead to
	DNSRR   bool                // it has no addresses: its name is those of its backends
	Balance model.Balance
	Publish []model.Publish
	Nearby  bool
	Health  *model.Health // nil: its backends are not checked
	Labels  map[string]string
}

// ServiceUpdate is what changes about a service. What is zero stays as it is.
type ServiceUpdate struct {
	Ports   []model.ServicePort
	Balance *model.Balance
	// PublishRm are ports that it is published at no more, and Publish others, both at
	// once.
	Publish   []model.Publish
	PublishRm []model.ServicePort
	Nearby    *bool
	Health    model.HealthWish
	Labels    map[string]string
	// DropLabels are the labels that go.
	DropLabels []string
	// Drain and Undrain name backends: an endpoint's ID, a sandbox's name, or
	// HOST/NAME.
	Drain, Undrain []string
}

// CreateService makes a service for all hosts, and returns it once this one knows it.
func (e *Engine) CreateService(ctx context.Context, spec ServiceSpec) (_ Service, err error) {
	defer e.timed("service_create")(&err)
	ref := "service " + spec.Name
	n, err := e.Network(spec.Network)
	switch {
	case err == nil:
	case model.Builtin(spec.Network): // host and none are no networks of the engine's
		return Service{}, model.Errorf(model.Invalid, ref, "create", "network %s: services are of overlay networks", spec.Network)
	default:
		return Service{}, model.Errorf(model.NotFound, ref, "create", "network %s: no such network", spec.Network).WithHint("sealane network ls shows those there are")
	}
	dir := e.directory()
	switch {
	case n.Overlay == nil:
		return Service{}, model.Errorf(model.Invalid, ref, "create", "network %s: services are of overlay networks", n.Name)
	case dir == nil:
		return Service{}, notClustered(ref, "create")
	}
	if len(spec.Ports) == 0 {
		spec.Ports = targetsOf(spec.Publish)
	}
	s := overlay.Service{Network: n.ID, Service: model.Service{ID: newID(), Name: spec.Name, Ports: spec.Ports, DNSRR: spec.DNSRR, Balance: spec.Balance,
		Publish: spec.Publish, Nearby: spec.Nearby, Health: spec.Health, Labels: spec.Labels, Created: e.cfg.Now().UTC()}}
	if err := s.Service.CheckNew(); err != nil {
		return Service{}, err
	}
	var chosen []*choice
	defer func() { e.unchoose(chosen) }()
	made, err := dir.CreateService(ctx, s, func(taken func(netip.Addr) bool) (all []netip.Addr, err error) {
		e.unchoose(chosen)
		all, chosen, err = e.chooseVIPs(n, ref, taken)
		return all, err
	})
	if err != nil {
		return Service{}, err
	}
	return e.serviceKnown(ctx, n.ID, &made, "create")
}

// chooseVIPs holds an address of each subnet of a network that nobody has.
func (e *Engine) chooseVIPs(n *model.Network, ref string, taken func(netip.Addr) bool) (all []netip.Addr, chosen []*choice, err error) {
	for _, s := range n.Subnets {
		c, ok := e.pickUnclaimed(n, poolKey{n.ID, s.Prefix.Addr().Is6()}, taken)
		if !ok {
			return nil, chosen, model.Errorf(model.Exhausted, ref, "create", "network %s: subnet %s: no free address", n.Name, s.Prefix)
		}
		chosen, all = append(chosen, c), append(all, c.addr)
	}
	return all, chosen, nil
}

// serviceKnown waits until this host has a service as it was put.
func (e *Engine) serviceKnown(ctx context.Context, network model.ID, put *overlay.Service, op string) (Service, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	for {
		s := e.serviceOf(network, put.Name)
		if s.Service != nil && s.ID == put.ID && samePut(s.Service, put) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return Service{}, model.Errorf(model.Internal, put.Ref(), op, "it is done, but this host has not heard of it: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// samePut reports whether what is known of a service is what was put.
func samePut(s *model.Service, put *overlay.Service) bool {
	return slices.Equal(s.Ports, put.Ports) && s.Balance == put.Balance && slices.Equal(s.Draining, put.Draining) && samePublish(s.Publish, put.Publish) && s.Nearby == put.Nearby && model.SameHealth(s.Health, put.Health) && maps.Equal(s.Labels, put.Labels)
}

// serviceOf is a service that this host knows, or one without a service.
func (e *Engine) serviceOf(network model.ID, name string) Service {
	e.mu.RLock()
	n := e.intent.Networks[network]
	e.mu.RUnlock()
	if n != nil && n.Overlay != nil {
		if s := n.Overlay.Service(name); s != nil {
			return Service{s, n}
		}
	}
	return Service{Network: n}
}

// UpdateService changes a service on all hosts, and returns it once this one knows.
func (e *Engine) UpdateService(ctx context.Context, ref string, up ServiceUpdate) (Service, error) {
	all, err := e.updateServices(ctx, []string{ref}, []ServiceUpdate{up})
	if err != nil {
		return Service{}, err
	}
	return all[0], nil
}

// updateServices changes services on all hosts at once, and returns them once this one knows:
// a published port that one of them gives up another may have.
func (e *Engine) updateServices(ctx context.Context, refs []string, ups []ServiceUpdate) (_ []Service, err error) {
	defer e.timed("service_update")(&err)
	var dir *overlay.Directory
	var changes []overlay.ServiceChange
	for i, ref := range refs {
		s, d, err := e.changeable(ref, "update")
		if err != nil {
			return nil, err
		}
		change, err := s.change(ups[i])
		if err != nil {
			return nil, err
		}
		dir, changes = d, append(changes, overlay.ServiceChange{Network: s.Network.ID, Name: s.Name, Do: change})
	}
	put, err := dir.UpdateServices(ctx, changes...)
	if err != nil {
		return nil, err
	}
	all := make([]Service, len(put))
	for i := range put {
		if all[i], err = e.serviceKnown(ctx, put[i].Network, &put[i], "update"); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// change is what changes about the record of a service.
func (s Service) change(up ServiceUpdate) (func(*overlay.Service) error, error) {
	drain, err := s.backends(up.Drain)
	if err != nil {
		return nil, err
	}
	undrain, err := s.backends(up.Undrain)
	if err != nil {
		return nil, err
	}
	return func(o *overlay.Service) error {
		if len(up.Ports) > 0 {
			o.Ports = up.Ports
		}
		if up.Balance != nil {
			o.Balance = *up.Balance
		}
		if up.Nearby != nil {
			o.Nearby = *up.Nearby
		}
		o.Labels = relabeled(o.Labels, up.Labels, up.DropLabels)
		var err error
		if o.Health, err = up.Health.Of(o.Health); err != nil {
			return model.Errorf(model.Invalid, s.Ref(), "update", "%w", err)
		}
		if err := changePublish(o, up.Publish, up.PublishRm); err != nil {
			return err
		}
		o.Draining = slices.DeleteFunc(append(o.Draining, drain...), func(id model.ID) bool { return slices.Contains(undrain, id) })
		return nil
	}, nil
}

// changeable finds a service that is to change, and the cluster's directory.
func (e *Engine) changeable(ref, op string) (Service, *overlay.Directory, error) {
	s, err := e.findService(ref, op)
	if err != nil {
		return s, nil, err
	}
	dir := e.directory()
	if dir == nil {
		return s, nil, notClustered(s.Ref(), op)
	}
	return s, dir, nil
}

// backends finds backends by what they are called.
func (s Service) backends(refs []string) ([]model.ID, error) {
	var out []model.ID
	for _, ref := range refs {
		var found []model.ID
		var whose []string
		for _, b := range s.Backends {
			if string(b.Endpoint) == ref || b.Sandbox == ref || b.Host+"/"+b.Sandbox == ref {
				found, whose = append(found, b.Endpoint), append(whose, b.Host+"/"+b.Sandbox)
			}
		}
		switch {
		case len(found) == 0:
			return nil, model.Errorf(model.NotFound, s.Ref(), "update", "backend %s: no such backend", ref).WithHint("sealane service inspect %s shows those there are", s.Name)
		case len(found) > 1:
			return nil, model.Errorf(model.Conflict, s.Ref(), "update", "backend %s: there are several: %s", ref, strings.Join(whose, ", "))
		}
		out = append(out, found[0])
	}
	return out, nil
}

// RemoveService removes a service from all hosts. Its backends stay.
func (e *Engine) RemoveService(ctx context.Context, ref string) (err error) {
	defer e.timed("service_remove")(&err)
	s, dir, err := e.changeable(ref, "remove")
	if err != nil {
		return err
	}
	if err := dir.RemoveService(ctx, s.Network.ID, s.Name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	for {
		if now := e.serviceOf(s.Network.ID, s.Name); now.Service == nil || now.ID != s.ID {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil // it is gone; the news is late
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Services returns all services, by name, then by network.
func (e *Engine) Services() []Service {
	var out []Service
	for _, n := range e.networks() {
		if n.Overlay == nil {
			continue
		}
		for i := range n.Overlay.Services {
			out = append(out, Service{n.Overlay.Services[i], n})
		}
	}
	slices.SortFunc(out, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Network.Name, b.Network.Name))
	})
	return out
}

// Service returns one by its ID, by NETWORK/NAME, or by its name if no two networks have
// a service of that name.
func (e *Engine) Service(ref string) (Service, error) { return e.findService(ref, "find") }

func (e *Engine) findService(ref, op string) (Service, error) {
	var found []Service
	var whose []string
	for _, s := range e.Services() {
		whole := s.Network.Name + "/" + s.Name
		switch {
		case string(s.ID) == ref || strings.EqualFold(whole, ref):
			return s, nil
		case strings.EqualFold(s.Name, ref):
			found, whose = append(found, s), append(whose, whole)
		}
	}
	switch len(found) {
	case 0:
		return Service{}, model.Errorf(model.NotFound, "service "+ref, op, "no such service").WithHint("sealane service ls shows those there are")
	case 1:
		return found[0], nil
	}
	return Service{}, model.Errorf(model.Conflict, "service "+ref, op, "there are several: %s", strings.Join(whose, ", "))
}

// ServiceStatus says how a service fares.
func (e *Engine) ServiceStatus(s Service) Status {
	if st, wrong := e.overlayStatus(s.Network); wrong {
		return st
	}
	if st, wrong := e.strictStatus(s.Network, s.Service); wrong {
		return st
	}
	if taken := takenHere(s.Service); taken != "" {
		return Status{StateDegraded, taken, s.Created}
	}
	if !slices.ContainsFunc(s.Backends, func(b model.Member) bool { return b.State == model.MemberReady }) {
		return Status{StateDegraded, "no backend is ready" + ailments(s.Service), s.Created}
	}
	return Status{State: StateReady, Since: s.Created}
}

// ailments says how many backends of a service get nothing for what checks say.
func ailments(s *model.Service) string {
	count := map[model.MemberState]int{}
	for _, b := range s.Backends {
		count[b.State]++
	}
	var words []string
	for _, state := range []model.MemberState{model.MemberUnhealthy, model.MemberStarting} {
		if n := count[state]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, ", ")
}

// checkServices refuses memberships that cannot be.
func (d *draft) checkServices(n *model.Network, spec EndpointSpec) error {
	if len(spec.Services) > 0 && n.Overlay == nil {
		return d.errorf(model.Invalid, "network %s: service %s: services are of overlay networks", n.Name, spec.Services[0].Service)
	}
	if err := model.CheckMemberships(spec.Services); err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	return nil
}
