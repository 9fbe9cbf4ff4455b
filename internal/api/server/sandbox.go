package server

import (
	"net/http"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

func (s *service) sandboxes(r *http.Request, _ none) ([]api.Sandbox, error) {
	all, err := flag(r, "all")
	if err != nil {
		return nil, err
	}
	match, ended, err := s.sandboxFilter(r)
	if err != nil {
		return nil, err
	}
	list, v := []api.Sandbox{}, s.view()
	for _, sb := range s.engine.Sandboxes() {
		if !all && !ended && sb.Exit != nil || sb.Guest != nil && v.s.engine.Twin(sb) != nil {
			continue
		}
		if one := v.sandbox(sb); match(one) {
			list = append(list, one)
		}
	}
	return list, nil
}

func (s *service) sandbox(r *http.Request, _ none) (api.Sandbox, error) {
	sb, err := s.engine.Locate(r.Context(), r.PathValue("ref"))
	if err != nil {
		return api.Sandbox{}, err
	}
	return s.view().sandbox(sb), nil
}

func (s *service) createSandbox(r *http.Request, req api.SandboxSpec) (api.Sandbox, error) {
	spec, err := sandboxSpec(req)
	if err != nil {
		return api.Sandbox{}, err
	}
	sb, err := s.engine.CreateSandbox(r.Context(), spec)
	if err != nil {
		return api.Sandbox{}, err
	}
	return s.view().sandbox(sb), nil
}

func (s *service) removeSandbox(r *http.Request, _ none) (none, error) {
	force, err := flag(r, "force")
	if err != nil {
		return none{}, err
	}
	return none{}, s.engine.RemoveSandbox(r.Context(), r.PathValue("ref"), force)
}

func (s *service) setProcess(r *http.Request, req api.Process) (none, error) {
	if req.PID <= 0 {
		return none{}, invalid("sandbox "+r.PathValue("ref"), "start", "pid %d: want the number of a process", req.PID)
	}
	return none{}, s.engine.SetProcess(r.Context(), r.PathValue("ref"), model.Process{PID: req.PID, Start: req.Start})
}

func (s *service) setExit(r *http.Request, req api.Ended) (none, error) {
	if req.Code < 0 || req.Code > 255 {
		return none{}, invalid("sandbox "+r.PathValue("ref"), "end", "code %d: want 0 to 255", req.Code)
	}
	return none{}, s.engine.Exited(r.Context(), r.PathValue("ref"), model.Exit{Code: req.Code, Signal: req.Signal, At: time.Now().UTC()})
}

func (s *service) publish(r *http.Request, req api.Ports) ([]api.Port, error) {
	ports, err := somePorts(r, req.Ports, "publish")
	if err != nil {
		return nil, err
	}
	got, err := s.engine.Publish(r.Context(), r.PathValue("ref"), ports)
	if err != nil {
		return nil, err
	}
	sb, err := s.engine.Locate(r.Context(), r.PathValue("ref"))
	if err != nil {
		return nil, err
	}
	return s.view().ports(sb, got), nil
}

// unpublish takes its ports from the query or from the body: not every client
// can send a body with DELETE.
func (s *service) unpublish(r *http.Request, req api.Ports) (none, error) {
	ports, err := somePorts(r, append(req.Ports, r.URL.Query()["port"]...), "unpublish")
	if err != nil {
		return none{}, err
	}
	return none{}, s.engine.Unpublish(r.Context(), r.PathValue("ref"), ports)
}

func somePorts(r *http.Request, texts []string, op string) ([]model.PortMapping, error) {
	ref := "sandbox " + r.PathValue("ref")
	if len(texts) == 0 {
		return nil, invalid(ref, op, "ports: missing")
	}
	return parsePorts(texts, ref, op)
}

// sandboxSpec reads the strings of a request.
func sandboxSpec(req api.SandboxSpec) (engine.SandboxSpec, error) {
	ref := "sandbox " + req.Name
	if req.Name == "" {
		ref = "sandbox (new)"
	}
	spec := engine.SandboxSpec{
		Name: req.Name, Mode: model.Mode(req.Mode), Donor: req.Donor, NetNS: req.NetNS, Origin: req.Origin, PublishAll: req.PublishAll,
		Hostname: req.Hostname, Domain: req.Domain, Sysctls: req.Sysctls, Command: req.Command, AutoRemove: req.AutoRemove,
	}
	if req.Process != nil {
		spec.Process = &model.Process{PID: req.Process.PID, Start: req.Process.Start}
	}
	for _, es := range req.Networks {
		ep, err := endpointSpec(es.Network, es.EndpointOptions, ref, "create")
		if err != nil {
			return spec, err
		}
		spec.Networks = append(spec.Networks, ep)
	}
	var err error
	if spec.Links, err = parseLinks(req.Links); err != nil {
		return spec, invalid(ref, "create", "%w", err)
	}
	if spec.Ports, err = parsePorts(req.Ports, ref, "create"); err != nil {
		return spec, err
	}
	if spec.Expose, err = parsePorts(req.Expose, ref, "create"); err != nil {
		return spec, err
	}
	if err = settings(req, &spec); err != nil {
		err = invalid(ref, "create", "%w", err)
	}
	return spec, err
}
