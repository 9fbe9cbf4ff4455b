// Package metrics tells Prometheus what the daemon does and has. Nothing is copied: all
// is read when somebody asks, from the engine's intent and counts, the resolver, the
// proxy, and the kernel's counters of devices, in one read for all.
//
// Labels are names of networks and services, and words of ours. No metric has a label
// that containers or clients choose the values of, nor one for each endpoint.
package metrics

import (
	"maps"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dns"
	"github.com/sealane/sealane/internal/serve/proxy"
)

// Source is what is told of.
type Source struct {
	Engine  *engine.Engine
	Names   *dns.Resolver
	Proxy   *proxy.Proxy
	Devices func() (map[string]facts.Traffic, error) // of the host, by name
	Version string                                   // of the daemon
	Log     Logger
}

// Logger takes what could not be told. *slog.Logger is one.
type Logger interface {
	Warn(msg string, args ...any)
}

// collector tells of a source.
type collector struct {
	Source
	known map[string]*described
}

// Describe sends what there may be.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.known {
		out <- d.desc
	}
}

// Collect sends what there is.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := scrape{c.known, out}
	s.put("sealane_build_info", 1, c.Version, runtime.Version())
	c.networks(s)
	c.sandboxes(s)
	c.work(s)
	c.resolver(s)
	c.proxied(s)
	c.cluster(s)
}

func (c *collector) sandboxes(s scrape) {
	states := map[string]int{
		engine.StateRunning: 0, engine.StateAway: 0, engine.StateExited: 0, engine.StateLost: 0, engine.StateDegraded: 0, engine.StateConflict: 0,
	}
	ports := map[string]int{"tcp": 0, "udp": 0, "sctp": 0}
	for _, sb := range c.Engine.Sandboxes() {
		states[c.Engine.SandboxStatus(sb).State]++
		for _, m := range sb.Ports {
			ports[m.Proto] += int(max(m.Count, 1))
		}
	}
	for state, n := range states {
		s.put("sealane_sandboxes", float64(n), state)
	}
	for proto, n := range ports {
		s.put("sealane_published_ports", float64(n), proto)
	}
	for state, n := range c.Engine.LeaseStates() {
		s.put("sealane_dhcp_leases", float64(n), state)
	}
}

// whole adds to counts the other results of what there is, with nothing: who looks at how
// a count grows does not see the first of one that was not there.
func whole[K comparable, V any](by map[K]V, others func(K) []K) map[K]V {
	for k := range maps.Clone(by) {
		for _, o := range others(k) {
			if _, there := by[o]; !there {
				by[o] = *new(V)
			}
		}
	}
	return by
}

// work adds what the engine has done.
func (c *collector) work(s scrape) {
	done := c.Engine.Tallies()
	for a, r := range whole(done.Actions.Read(), engine.Action.Others) {
		s.times("sealane_network_action_duration_seconds", r, a.Name, a.Result)
	}
	for p, r := range whole(done.Passes.Read(), engine.Pass.Others) {
		s.times("sealane_pass_duration_seconds", r, p.Reason, p.Result)
	}
	for k, n := range whole(done.Repairs.Read(), engine.Repair.Others) {
		s.put("sealane_repairs_total", float64(n), k.Kind, k.Result)
	}
	if at := done.LastGood.Load(); at != 0 {
		s.at("sealane_pass_last_success_timestamp_seconds", time.Unix(0, at))
	}
}

func (c *collector) resolver(s scrape) {
	n := c.Names.Counts()
	s.put("sealane_resolver_sandboxes", float64(n.Sandboxes))
	for answer, asked := range n.Questions {
		s.put("sealane_resolver_queries_total", float64(asked), answer)
	}
	for result, r := range n.Flights {
		s.times("sealane_resolver_upstream_duration_seconds", r, result)
	}
}

func (c *collector) proxied(s scrape) {
	for proto, n := range c.Proxy.Counts() {
		s.put("sealane_proxy_connections", float64(n.Open), proto)
		s.put("sealane_proxy_connections_limit", float64(n.Most), proto)
		s.put("sealane_proxy_connections_total", float64(n.Begun), proto)
		s.put("sealane_proxy_refused_total", float64(n.Unserved), proto, "unserved")
		s.put("sealane_proxy_refused_total", float64(n.Full), proto, "full")
		s.put("sealane_proxy_ousted_total", float64(n.Ousted), proto)
	}
}

func (c *collector) cluster(s scrape) {
	if in, since, known := c.Engine.InTouch(); known {
		s.put("sealane_cluster_store_up", yes(in))
		s.at("sealane_cluster_store_changed_timestamp_seconds", since)
	}
	services := map[string]int{}
	for _, svc := range c.Engine.Services() {
		services[c.Engine.ServiceStatus(svc).State]++
		backends := map[model.MemberState]int{model.MemberReady: 0}
		for i := range svc.Backends {
			backends[svc.Backends[i].State]++
		}
		for state, n := range backends {
			s.put("sealane_service_backends", float64(n), svc.Network.Name, svc.Name, string(state))
		}
	}
	for state, n := range services {
		s.put("sealane_services", float64(n), state)
	}
}
