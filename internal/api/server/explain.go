package server

import (
	"net/http"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/trace"
)

func (s *service) explain(r *http.Request, _ none) (api.Explanation, error) {
	q := r.URL.Query()
	for _, name := range []string{"from", "to"} {
		if q.Get(name) == "" {
			return api.Explanation{}, invalid("query", "", "%s: missing", name)
		}
	}
	a, err := s.engine.Explain(r.Context(), q.Get("from"), q.Get("to"), q.Get("backend"))
	if err != nil {
		return api.Explanation{}, err
	}
	out := api.Explanation{From: q.Get("from"), To: q.Get("to"), There: way(a.There)}
	if a.Back != nil {
		back := way(*a.Back)
		out.Back = &back
	}
	return out, nil
}

func way(w trace.Way) api.Way {
	out := api.Way{Source: w.Src, Destination: w.Dst, Arrives: w.Arrives, Why: w.Why, MTU: w.MTU, Steps: make([]api.Step, len(w.Steps))}
	for i, s := range w.Steps {
		out.Steps[i] = api.Step(s)
	}
	return out
}
