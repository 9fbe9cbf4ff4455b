package server

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// filters are what a list is narrowed to: by key, the values of which one has
// to fit. Of labels all have to.
type filters map[string][]string

func networkKeys() []string {
	return []string{"driver", "id", "label", "name", "scope", "type", "dangling", "internal"}
}

func pruneKeys() []string { return []string{"until", "label", "label!"} }

func sandboxKeys() []string { return []string{"id", "name", "network", "publish", "expose", "status"} }

// filtered is the parameter of a list that can be narrowed.
func filtered(keys []string) parameter {
	return parameter{"filter", "KEY=VALUE with KEY one of " + strings.Join(keys, ", "), true}
}

// readFilters reads the query. label!=K is the key "label!".
func readFilters(r *http.Request, known []string) (filters, error) {
	f := filters{}
	for _, text := range r.URL.Query()["filter"] {
		k, v, ok := strings.Cut(text, "=")
		switch {
		case !slices.Contains(known, k):
			return nil, invalid("filter "+text, "", "key %q: not known (known: %s)", k, strings.Join(known, ", "))
		case !ok || v == "":
			return nil, invalid("filter "+text, "", "want %s=VALUE", k)
		}
		f[k] = append(f[k], v)
	}
	return f, nil
}

// oneOf demands values of a key to be of a few.
func (f filters) oneOf(key string, allowed ...string) error {
	for _, v := range f[key] {
		if !slices.Contains(allowed, v) {
			return invalid("filter "+key+"="+v, "", "want %s", strings.Join(allowed, ", "))
		}
	}
	return nil
}

// any reports whether there is no value of a key or one fits.
func (f filters) any(key string, fits func(string) bool) bool {
	return len(f[key]) == 0 || slices.ContainsFunc(f[key], fits)
}

// labelled reports whether labels have one: K, or K=V.
func labelled(labels map[string]string, want string) bool {
	k, v, valued := strings.Cut(want, "=")
	have, ok := labels[k]
	return ok && (!valued || have == v)
}

func (f filters) labels(labels map[string]string) bool {
	return !slices.ContainsFunc(f["label"], func(l string) bool { return !labelled(labels, l) }) &&
		!slices.ContainsFunc(f["label!"], func(l string) bool { return labelled(labels, l) })
}

// networkFilter reads what a list of networks is narrowed to.
func networkFilter(r *http.Request) (func(api.Network) bool, error) {
	f, err := readFilters(r, networkKeys())
	if err != nil {
		return nil, err
	}
	named, err := f.names()
	if err != nil {
		return nil, err
	}
	for _, err := range []error{f.oneOf("scope", "local", "global", "swarm"), f.oneOf("type", "builtin", "custom"), f.oneOf("dangling", "true", "false"), f.oneOf("internal", "true", "false")} {
		if err != nil {
			return nil, err
		}
	}
	return func(n api.Network) bool {
		kind := "custom"
		if model.Builtin(n.Name) {
			kind = "builtin"
		}
		is := func(b bool) func(string) bool { return func(v string) bool { return v == strconv.FormatBool(b) } }
		return f.any("driver", func(v string) bool { return v == n.Driver }) &&
			f.any("id", func(v string) bool { return strings.Contains(n.ID, v) }) &&
			named(n.Name) &&
			f.any("scope", func(v string) bool {
				return (v == "local") == !slices.Contains([]string{model.DriverFabric, model.DriverOverlay}, n.Driver)
			}) &&
			f.any("type", func(v string) bool { return v == kind }) &&
			f.any("dangling", is(kind == "custom" && len(n.Endpoints) == 0)) &&
			f.any("internal", is(n.Internal)) && f.labels(n.Labels)
	}, nil
}

// pruneFilter reads which unused networks go.
func pruneFilter(r *http.Request, now time.Time) (func(*model.Network) bool, error) {
	f, err := readFilters(r, pruneKeys())
	if err != nil {
		return nil, err
	}
	before := now
	if len(f["until"]) > 1 {
		return nil, invalid("filter until", "", "is there twice")
	}
	for _, v := range f["until"] {
		if before, err = parseTime(v, now); err != nil {
			return nil, invalid("filter until="+v, "", "%w", err)
		}
	}
	return func(n *model.Network) bool {
		return (len(f["until"]) == 0 || n.Created.Before(before)) && f.labels(n.Labels)
	}, nil
}

// parseTime reads a moment as Docker does: a time, seconds since 1970, or how
// long ago.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if s, frac, _ := strings.Cut(text, "."); len(frac) <= 9 {
		s, errS := strconv.ParseUint(s, 10, 62)
		ns, err := strconv.ParseUint((frac + "000000000")[:9], 10, 32)
		if errS == nil && err == nil {
			return time.Unix(int64(s), int64(ns)), nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02"} {
		for _, zone := range []string{"", "Z07:00"} {
			if t, err := time.ParseInLocation(layout+zone, text, time.Local); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("want a time as 2006-01-02T15:04:05, or how long ago, as 24h")
}

// sandboxFilter reads what a list of sandboxes is narrowed to, and whether that
// may be some that have ended.
func (s *service) sandboxFilter(r *http.Request) (match func(api.Sandbox) bool, ended bool, err error) {
	f, err := readFilters(r, sandboxKeys())
	if err != nil {
		return nil, false, err
	}
	if err := f.oneOf("status", engine.StateRunning, engine.StateAway, engine.StateExited, engine.StateLost, engine.StateDegraded); err != nil {
		return nil, false, err
	}
	named, err := f.names()
	if err != nil {
		return nil, false, err
	}
	for i, ref := range f["network"] {
		if n, err := s.engine.Network(ref); err == nil {
			f["network"][i] = n.Name
		}
	}
	published, err := f.spans("publish")
	if err != nil {
		return nil, false, err
	}
	exposed, err := f.spans("expose")
	if err != nil {
		return nil, false, err
	}
	ended = slices.ContainsFunc(f["status"], func(v string) bool { return v == engine.StateExited || v == engine.StateLost })
	return func(sb api.Sandbox) bool {
		on := func(v string) bool {
			return slices.ContainsFunc(sb.Endpoints, func(ep api.Endpoint) bool { return ep.Network == v })
		}
		return f.any("id", func(v string) bool { return strings.Contains(sb.ID, v) }) &&
			named(sb.Name) &&
			f.any("status", func(v string) bool { return v == sb.Status.State }) &&
			f.any("network", on) && publishes(sb, published) && exposes(sb, exposed)
	}, ended, nil
}

// names reads regular expressions for names, as docker's are; a part of a name is one.
// Docker's names of containers begin with a slash, which may be there.
func (f filters) names() (func(name string) bool, error) {
	exprs := map[string]*regexp.Regexp{}
	for _, v := range f["name"] {
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, invalid("filter name="+v, "", "want a part of a name, or a regular expression, as ^web$")
		}
		exprs[v] = re
	}
	return func(name string) bool {
		return f.any("name", func(v string) bool { return exprs[v].MatchString(name) || exprs[v].MatchString("/"+name) })
	}, nil
}

// spans reads the ports of a key.
func (f filters) spans(key string) ([]model.PortMapping, error) {
	var out []model.PortMapping
	for _, v := range f[key] {
		m, err := model.ParsePort(v)
		if err != nil || m.HostPort != 0 || m.HostIP.IsValid() || m.From != "" {
			return nil, invalid("filter "+key+"="+v, "", "want PORT[-END][/tcp|udp|sctp]")
		}
		out = append(out, m)
	}
	return out, nil
}

func publishes(sb api.Sandbox, want []model.PortMapping) bool {
	return len(want) == 0 || slices.ContainsFunc(sb.Ports, func(p api.Port) bool {
		return !p.Idle && meets(want, p.Protocol, p.HostPort, p.Count)
	})
}

// exposes reports whether a sandbox exposes or publishes a port of its own.
func exposes(sb api.Sandbox, want []model.PortMapping) bool {
	return len(want) == 0 || slices.ContainsFunc(sb.Ports, func(p api.Port) bool {
		return meets(want, p.Protocol, p.Port, p.Count)
	}) || slices.ContainsFunc(sb.Expose, func(text string) bool {
		m, err := model.ParsePort(text)
		return err == nil && meets(want, m.Proto, m.Port, m.Count)
	})
}

// meets reports whether a span has a port in common with one of want.
func meets(want []model.PortMapping, proto string, first, count uint16) bool {
	return slices.ContainsFunc(want, func(m model.PortMapping) bool {
		return m.Proto == proto && int(m.Port) < int(first)+int(count) && int(first) < int(m.Port)+int(m.Count)
	})
}
