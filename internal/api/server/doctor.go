package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/cluster/member"
	"github.com/sealane/sealane/internal/engine"
)

func (s *service) doctor(r *http.Request, _ none) (api.Doctor, error) {
	out := api.Doctor{State: engine.CheckOK, Checks: []api.Check{}}
	for _, c := range append(s.engine.Doctor(r.Context()), s.checkCluster(r.Context())...) {
		out.Checks = append(out.Checks, api.Check(c))
		if c.State == engine.CheckFail || c.State == engine.CheckWarn && out.State == engine.CheckOK {
			out.State = c.State
		}
	}
	return out, nil
}

// checkCluster is about a cluster of Sealane's own, if this host is in one.
func (s *service) checkCluster(ctx context.Context) []engine.Check {
	if s.info.Cluster == nil {
		return nil
	}
	return judgeCluster(s.info.Cluster.Status(ctx), time.Now())
}

// soon is when a certificate should have been renewed, before it ends.
const soon = 7 * 24 * time.Hour

func judgeCluster(c member.Status, now time.Time) (out []engine.Check) {
	const what = "cluster"
	if !c.In {
		return nil
	}
	switch {
	case c.Problem != "":
		out = append(out, engine.Check{State: engine.CheckFail, What: what, Why: c.Problem, Right: "sealane cluster status says more"})
	case !c.Quorum:
		out = append(out, engine.Check{State: engine.CheckFail, What: what, Why: "too few of the members that vote answer: nothing can be changed", Right: "more than half of them"})
	default:
		out = append(out, engine.Check{State: engine.CheckOK, What: what, Why: fmt.Sprintf("%d hosts, %d of which keep its data", c.Hosts, len(c.Members))})
	}
	for _, m := range c.Members {
		if !m.Healthy {
			out = append(out, engine.Check{State: engine.CheckWarn, What: what, Why: "member " + m.Name + " does not answer", Right: "bring it back, or sealane node rm " + m.Name})
		}
	}
	if !c.Certificate.IsZero() && c.Certificate.Before(now.Add(soon)) {
		out = append(out, engine.Check{State: engine.CheckWarn, What: what, Why: "this host's certificate ends " + c.Certificate.UTC().Format(time.RFC3339), Right: "a cluster in which something can be changed renews it"})
	}
	return out
}
