package server

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kstate"
)

func (s *service) plan(r *http.Request, req api.Declaration) (api.Ops, error) {
	if req.Stack != "" {
		return s.planStack(r, req)
	}
	d, err := declaration(req)
	if err != nil {
		return api.Ops{}, err
	}
	ops, err := s.engine.Plan(r.Context(), d)
	return lines(ops), err
}

func (s *service) apply(r *http.Request, req api.Declaration) (api.Ops, error) {
	if req.Stack != "" {
		return s.applyStack(r, req)
	}
	d, err := declaration(req)
	if err != nil {
		return api.Ops{}, err
	}
	ops, err := s.engine.Apply(r.Context(), d)
	return lines(ops), err
}

func (s *service) diff(r *http.Request, _ none) (api.Ops, error) {
	ops, more, err := s.engine.Diff(r.Context())
	out := lines(ops)
	out.Ops = append(out.Ops, more...)
	return out, err
}

// describe serves the document.
func (s *service) describe(*http.Request, none) (json.RawMessage, error) { return s.openapi, nil }

func lines(ops []kstate.Op) api.Ops {
	out := api.Ops{Ops: make([]string, len(ops))}
	for i, op := range ops {
		out.Ops[i] = op.String()
	}
	return out
}

// declaration reads the strings of a declaration.
func declaration(req api.Declaration) (engine.Declaration, error) {
	var d engine.Declaration
	if len(req.Services)+len(req.External) > 0 {
		return d, invalid("declaration", "apply", "services and external: of a stack only: want stack: NAME")
	}
	for i, n := range req.Networks {
		if n.Name == "" {
			return d, invalid(fmt.Sprintf("networks[%d]", i), "apply", "name: missing: what the network is called, as name: app")
		}
		spec, err := networkSpec(n, "apply")
		if err != nil {
			return d, err
		}
		d.Networks = append(d.Networks, spec)
	}
	for i, e := range req.Endpoints {
		ref := "endpoint of " + e.Sandbox + " on " + e.Network
		for _, x := range []struct{ field, text string }{{"sandbox", e.Sandbox}, {"network", e.Network}} {
			if x.text == "" {
				return d, invalid(fmt.Sprintf("endpoints[%d]", i), "apply", "%s: missing: network and sandbox are both needed", x.field)
			}
		}
		spec, err := endpointSpec(e.Network, e.EndpointOptions, ref, "apply")
		if err != nil {
			return d, err
		}
		ports, err := parsePorts(e.Ports, ref, "apply")
		if err != nil {
			return d, err
		}
		d.Endpoints = append(d.Endpoints, engine.EndpointDeclaration{Sandbox: e.Sandbox, EndpointSpec: spec, Ports: ports})
	}
	return d, nil
}
