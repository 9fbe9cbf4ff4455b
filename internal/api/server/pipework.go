package server

import (
	"net/http"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

func (s *service) plug(r *http.Request, req api.Plug) (api.Connection, error) {
	ref, op := "device "+req.Device, "connect "+req.Container
	if req.Device == "" || req.Container == "" || req.Command == "" {
		return api.Connection{}, invalid(ref, op, "device, container or command: missing")
	}
	es, err := endpointSpec("", req.EndpointOptions, ref, op)
	if err != nil {
		return api.Connection{}, err
	}
	sb, ep, err := s.engine.Plug(r.Context(), req.Container, engine.PlugSpec{
		Device: req.Device, Driver: req.Driver, VLAN: req.VLAN, Endpoint: es, Command: req.Command})
	if err != nil {
		return api.Connection{}, err
	}
	v := s.view()
	return api.Connection{Sandbox: string(sb.ID), Endpoint: endpointOf(ep, v.network(ep.Network)), Ports: v.ports(sb, sb.Ports)}, nil
}

func (s *service) unplug(r *http.Request, req api.Unplug) (none, error) {
	if req.Device == "" || req.Container == "" {
		return none{}, invalid("device "+req.Device, "undo", "device or container: missing")
	}
	return none{}, s.engine.Unplug(r.Context(), req.Container, model.Plug{Device: req.Device, Command: req.Command}, req.IfName)
}

func (s *service) plugged(*http.Request, none) ([]api.Plugged, error) {
	out := []api.Plugged{}
	for _, sb := range s.engine.Sandboxes() {
		for _, ep := range sb.Endpoints {
			if ep.Plug != nil {
				out = append(out, api.Plugged{Container: sb.Name, IfName: ep.IfName, Command: ep.Plug.For(sb)})
			}
		}
		for _, c := range sb.Chores {
			out = append(out, api.Plugged{Container: sb.Name, Command: c.Command(sb)})
		}
	}
	return out, nil
}

func (s *service) run(r *http.Request, req api.Chore) (api.Ran, error) {
	if req.Container == "" || len(req.Args) < 2 || req.Args[0] != "ip" && req.Args[0] != "tc" {
		return api.Ran{}, invalid("container "+req.Container, "run", "want a container, and a command of ip or tc")
	}
	ran, err := s.engine.RunChore(r.Context(), req.Container, req.Args, req.Undo)
	return api.Ran{Code: ran.Code, Stdout: string(ran.Stdout), Stderr: string(ran.Stderr)}, err
}
