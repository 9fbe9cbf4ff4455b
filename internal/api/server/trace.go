package server

import (
	"net/http"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/trace"
)

func (s *service) trace(r *http.Request, req api.TraceRequest) (api.Trace, error) {
	for _, f := range []struct{ name, text string }{{"from", req.From}, {"to", req.To}} {
		if f.text == "" {
			return api.Trace{}, invalid("trace", "", "%s: missing", f.name)
		}
	}
	least, most := int(engine.TraceMin.Milliseconds()), int(engine.TraceMax.Milliseconds())
	if req.Timeout < 0 || req.Timeout > most { // far more would not fit a duration
		return api.Trace{}, invalid("trace", "", "timeout %d: want milliseconds, %d to %d", req.Timeout, least, most)
	}
	t, err := s.engine.Trace(r.Context(), req.From, req.To, time.Duration(req.Timeout)*time.Millisecond)
	if err != nil {
		return api.Trace{}, err
	}
	return api.Trace{
		From: req.From, To: req.To, Protocol: t.Proto, Source: t.Src.Addr(), SourcePort: t.Src.Port(), Destination: t.Dst.Addr(), DestinationPort: t.Dst.Port(),
		Fate: t.Fate, Why: t.Why, Hint: t.Hint, Micros: t.Took.Microseconds(), There: sights(t.There), Back: sights(t.Back),
	}, nil
}

func sights(all []trace.Sight) []api.Sight {
	out := make([]api.Sight, len(all))
	for i, s := range all {
		out[i] = api.Sight{Where: s.Where, In: s.In, Out: s.Out, What: s.What, Table: s.Table, Chain: s.Chain, Hook: s.Hook, Priority: s.Prio,
			Rule: s.Rule, Handle: s.Handle, Owner: s.Owner, Verdict: s.Verdict, Problem: s.Problem}
	}
	return out
}
