package server

import (
	"net/http"
	"path"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

func (s *service) attach(r *http.Request, req api.Attach) (api.Connection, error) {
	ref, op := "network "+r.PathValue("ref"), "attach "+req.Container
	switch {
	case model.CheckName(req.Container) != nil:
		return api.Connection{}, invalid(ref, "attach", "container: %w", model.CheckName(req.Container))
	case req.Name != "" && model.CheckName(req.Name) != nil:
		return api.Connection{}, invalid(ref, op, "name: %w", model.CheckName(req.Name))
	case !path.IsAbs(req.NetNS):
		return api.Connection{}, invalid(ref, op, "netns %q: want an absolute path", req.NetNS)
	}
	spec, err := endpointSpec(r.PathValue("ref"), req.EndpointOptions, ref, op)
	if err != nil {
		return api.Connection{}, err
	}
	ports, err := parsePorts(req.Ports, ref, op)
	if err != nil {
		return api.Connection{}, err
	}
	sb, ep, err := s.engine.Attach(r.Context(), engine.Attachment{Container: req.Container, Name: req.Name, NetNS: path.Clean(req.NetNS), Resolver: req.Resolver, EndpointSpec: spec, Ports: ports})
	if err != nil {
		return api.Connection{}, err
	}
	v := s.view()
	return api.Connection{Sandbox: string(sb.ID), Endpoint: v.endpoint(sb, ep), Ports: v.ports(sb, sb.Ports)}, nil
}

func (s *service) detach(r *http.Request, req api.Detach) (none, error) {
	if req.Container == "" {
		return none{}, invalid("network "+r.PathValue("ref"), "detach", "container: missing")
	}
	return none{}, s.engine.Detach(r.Context(), req.Container, r.PathValue("ref"), req.IfName)
}

func (s *service) sandboxDiff(r *http.Request, _ none) (api.Drift, error) {
	d, err := s.engine.Drift(r.Context(), r.PathValue("ref"))
	out := api.Drift{Ops: lines(d.Ops).Ops, Added: []api.AddedAddress{}, Deaf: d.Deaf}
	for _, a := range d.Added {
		out.Added = append(out.Added, api.AddedAddress{IfName: a.Dev, Address: a.Prefix})
	}
	return out, err
}
