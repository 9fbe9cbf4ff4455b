package server

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

func (s *service) version(*http.Request, none) (api.VersionInfo, error) {
	return api.VersionInfo{Version: s.info.Version, API: api.Version}, nil
}

func (s *service) networks(r *http.Request, _ none) ([]api.Network, error) {
	match, err := networkFilter(r)
	if err != nil {
		return nil, err
	}
	list := builtin()
	endpoints := s.endpointsByNetwork()
	for _, n := range s.engine.Networks() {
		list = append(list, withEndpoints(s.networkOf(n), endpoints[n.ID]))
	}
	list = slices.DeleteFunc(list, func(n api.Network) bool { return !match(n) })
	slices.SortFunc(list, func(a, b api.Network) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (s *service) clusterNetwork(r *http.Request, _ none) (api.ClusterNetwork, error) {
	out := api.ClusterNetwork{Name: r.PathValue("ref")}
	if err := s.engine.Joinable(r.Context(), out.Name); err != nil {
		out.Problem = err.Error()
	}
	return out, nil
}

func (s *service) network(r *http.Request, _ none) (api.Network, error) {
	ref := r.PathValue("ref")
	for _, n := range builtin() {
		if n.Name == ref {
			return n, nil
		}
	}
	n, err := s.engine.Network(ref)
	if err != nil {
		return api.Network{}, err
	}
	return withEndpoints(s.networkOf(n), s.endpointsByNetwork()[n.ID]), nil
}

func withEndpoints(n api.Network, list []api.NetworkEndpoint) api.Network {
	n.Endpoints = append(n.Endpoints, list...)
	return n
}

func (s *service) createNetwork(r *http.Request, req api.NetworkSpec) (api.Network, error) {
	spec, err := networkSpec(req, "create")
	if err != nil {
		return api.Network{}, err
	}
	n, err := s.engine.CreateNetwork(r.Context(), spec)
	if err != nil {
		return api.Network{}, err
	}
	return s.networkOf(n), nil
}

func (s *service) updateNetwork(r *http.Request, req api.NetworkUpdate) (api.Network, error) {
	ref := r.PathValue("ref")
	if len(req.Options)+len(req.Labels)+len(req.RemoveLabels) == 0 {
		return api.Network{}, invalid("network "+ref, "update", "nothing to change")
	}
	n, err := s.engine.UpdateNetwork(r.Context(), ref, engine.NetworkUpdate{Options: req.Options, Labels: req.Labels, DropLabels: req.RemoveLabels})
	if err != nil {
		return api.Network{}, err
	}
	return withEndpoints(s.networkOf(n), s.endpointsByNetwork()[n.ID]), nil
}

func (s *service) removeNetwork(r *http.Request, _ none) (none, error) {
	return none{}, s.engine.RemoveNetwork(r.Context(), r.PathValue("ref"))
}

func (s *service) pruneNetworks(r *http.Request, _ none) (api.Pruned, error) {
	match, err := pruneFilter(r, time.Now())
	if err != nil {
		return api.Pruned{}, err
	}
	names, err := s.engine.PruneNetworks(r.Context(), match)
	return api.Pruned{Removed: present(names)}, err
}

func (s *service) connect(r *http.Request, req api.Connect) (api.Connection, error) {
	ref, op := "network "+r.PathValue("ref"), "connect "+req.Sandbox
	if req.Sandbox == "" {
		return api.Connection{}, invalid(ref, "connect", "sandbox: missing")
	}
	spec, err := endpointSpec(r.PathValue("ref"), req.EndpointOptions, ref, op)
	if err != nil {
		return api.Connection{}, err
	}
	ports, err := parsePorts(req.Ports, ref, op)
	if err != nil {
		return api.Connection{}, err
	}
	spec.Await = req.Await
	sb, ep, err := s.engine.Connect(r.Context(), req.Sandbox, spec, ports)
	if err != nil {
		return api.Connection{}, err
	}
	n, err := s.engine.Network(r.PathValue("ref"))
	if err != nil || n.ID != ep.Network {
		n = s.view().network(ep.Network) // the name changed hands meanwhile
	}
	return api.Connection{Sandbox: string(sb.ID), Endpoint: endpointOf(ep, n), Ports: s.view().ports(sb, sb.Ports)}, nil
}

func (s *service) disconnect(r *http.Request, req api.Disconnect) (none, error) {
	if req.Sandbox == "" {
		return none{}, invalid("network "+r.PathValue("ref"), "disconnect", "sandbox: missing")
	}
	return none{}, s.engine.Disconnect(r.Context(), req.Sandbox, r.PathValue("ref"))
}

// networkSpec reads the strings of a request.
func networkSpec(req api.NetworkSpec, op string) (engine.NetworkSpec, error) {
	spec := engine.NetworkSpec{
		Name: req.Name, Driver: req.Driver, IPv6: req.IPv6, NoIPv4: req.IPv4 != nil && !*req.IPv4,
		Internal: req.Internal, Labels: req.Labels,
	}
	if err := families(req, &spec); err != nil {
		return spec, invalid("network "+req.Name, op, "%w", err)
	}
	for _, sub := range req.Subnets {
		s, err := subnet(sub)
		if err != nil {
			return spec, invalid("network "+req.Name, op, "%w", err)
		}
		if is6 := s.Prefix.Addr().Is6(); !is6 && spec.NoIPv4 || is6 && req.Options[enableIPv6] != "" && !spec.IPv6 {
			return spec, invalid("network "+req.Name, op, "subnet %s: its address family is turned off", s.Prefix)
		}
		spec.Subnets = append(spec.Subnets, s)
	}
	return spec, nil
}

// Docker's options that stand for ipv4 and ipv6.
const (
	enableIPv4 = "com.docker.network.enable_ipv4"
	enableIPv6 = "com.docker.network.enable_ipv6"
)

// families takes the options that choose address families from the others.
func families(req api.NetworkSpec, spec *engine.NetworkSpec) error {
	spec.Options = maps.Clone(req.Options)
	for _, key := range []string{enableIPv4, enableIPv6} {
		text, given := spec.Options[key]
		if !given {
			continue
		}
		delete(spec.Options, key)
		on, err := strconv.ParseBool(text)
		switch {
		case err != nil:
			return fmt.Errorf("option %s: %q: want true or false", key, text)
		case key == enableIPv4 && req.IPv4 != nil && *req.IPv4 != on, key == enableIPv6 && req.IPv6 && !on:
			return fmt.Errorf("option %s: %s: the request says otherwise, too", key, text)
		case key == enableIPv4:
			spec.NoIPv4 = !on
		default:
			spec.IPv6 = on
		}
	}
	return nil
}

func subnet(req api.SubnetSpec) (s model.Subnet, err error) {
	if s.Prefix, err = parsePrefix("subnet", req.Prefix); err != nil {
		return s, err
	}
	if req.Gateway != "" {
		if s.Gateway, err = parseAddr("gateway", req.Gateway); err != nil {
			return s, err
		}
	}
	if req.Range != "" {
		if s.Range, err = parsePrefix("ip-range", req.Range); err != nil {
			return s, err
		}
	}
	for _, name := range sortedKeys(req.Aux) {
		if s.Aux == nil {
			s.Aux = map[string]netip.Addr{}
		}
		if s.Aux[name], err = parseAddr("aux-address "+name, req.Aux[name]); err != nil {
			return s, err
		}
	}
	return s, nil
}
