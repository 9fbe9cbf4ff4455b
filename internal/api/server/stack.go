package server

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/api/stack"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// What the query says of the file that a declaration came from.
const (
	queryFile     = "file"
	queryStack    = "stack"
	queryVariable = "variable"
)

// ofFile has the query say what is not in the file.
func (r route) ofFile() route {
	return r.offering(queryFile, "what errors call the file that the declaration is").
		offering(queryStack, "the name of the stack, instead of the file's").
		with(parameter{queryVariable, "NAME=VALUE that ${NAME} stands for in a file of Compose's format", true})
}

// decodeDeclaration reads a declaration in the API's own words or in Compose's.
func decodeDeclaration(q url.Values, b []byte, isYAML bool, d *api.Declaration) error {
	file := q.Get(queryFile)
	n, err := oneDocument(b)
	if err == nil && stack.Is(n) {
		*d, err = stack.Read(n, stack.Options{File: file, Name: q.Get(queryStack), Variables: variables(q[queryVariable])})
		return err
	}
	if isYAML {
		err = decodeYAML(b, d)
	} else {
		err = decodeJSON(b, d)
	}
	if err == nil && q.Get(queryStack) != "" {
		d.Stack = q.Get(queryStack)
	}
	switch {
	case err != nil && file != "":
		return &bodyError{http.StatusBadRequest, model.Errorf(model.Invalid, file, "", "%w", err)}
	case err != nil:
		return badBody(http.StatusBadRequest, "%w", err)
	}
	return nil
}

// variables reads NAME=VALUE.
func variables(texts []string) map[string]string {
	out := map[string]string{}
	for _, text := range texts {
		k, v, _ := strings.Cut(text, "=")
		out[k] = v
	}
	return out
}

func (s *service) planStack(r *http.Request, req api.Declaration) (api.Ops, error) {
	st, err := stackOf(req)
	if err != nil {
		return api.Ops{}, err
	}
	steps, err := s.engine.PlanStack(r.Context(), st)
	return stepLines(steps, req.Notes), err
}

func (s *service) applyStack(r *http.Request, req api.Declaration) (api.Ops, error) {
	st, err := stackOf(req)
	if err != nil {
		return api.Ops{}, err
	}
	steps, err := s.engine.ApplyStack(r.Context(), st)
	return stepLines(steps, req.Notes), err
}

func stepLines(steps []engine.Step, notes []string) api.Ops {
	out := api.Ops{Ops: make([]string, len(steps)), Notes: notes}
	for i, step := range steps {
		out.Ops[i] = step.Line
	}
	return out
}

// stackOf reads the strings of a stack.
func stackOf(req api.Declaration) (engine.Stack, error) {
	st := engine.Stack{Name: req.Stack, External: req.External}
	if len(req.Endpoints) > 0 {
		return st, invalid("stack "+req.Stack, "apply", "endpoints: a stack has none")
	}
	for _, n := range req.Networks {
		spec, err := networkSpec(n, "apply")
		if err != nil {
			return st, err
		}
		st.Networks = append(st.Networks, spec)
	}
	for _, o := range req.Services {
		spec, err := serviceSpec(o, "apply")
		if err != nil {
			return st, err
		}
		st.Services = append(st.Services, spec)
	}
	return st, nil
}

func (s *service) stacks(*http.Request, none) ([]api.Stack, error) {
	list := []api.Stack{}
	for _, st := range s.engine.Stacks() {
		list = append(list, api.Stack{Name: st.Name, Networks: present(st.Networks), Services: present(st.Services)})
	}
	return list, nil
}

func (s *service) removeStack(r *http.Request, _ none) (none, error) {
	return none{}, s.engine.RemoveStack(r.Context(), r.PathValue("ref"))
}
