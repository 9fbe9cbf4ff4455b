package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
)

// eventWait is how long an answer to who waits for events takes at most. The daemon
// lets answers end before it does.
const eventWait = 2 * time.Second

func eventKeys() []string { return []string{"type", "event", "network", "sandbox"} }

// span is which events are asked for.
type span struct {
	from         int       // the number of the first; -1, none yet
	since, until time.Time // until zero: for ever
}

func readSpan(r *http.Request, now time.Time) (sp span, err error) {
	q := r.URL.Query()
	for name, at := range map[string]*time.Time{"since": &sp.since, "until": &sp.until} {
		if text := q.Get(name); text != "" {
			if *at, err = parseTime(text, now); err != nil {
				return sp, invalid("query", "", "%s=%q: %w", name, text, err)
			}
		}
	}
	switch text := q.Get("from"); {
	case text != "":
		if sp.from, err = strconv.Atoi(text); err != nil || sp.from < 0 {
			return sp, invalid("query", "", "from=%q: want a number from 0", text)
		}
	case q.Get("since") == "":
		sp.from = -1
	}
	return sp, nil
}

// ended reports whether nothing that is yet to happen is asked for.
func (sp span) ended() bool { return !sp.until.IsZero() && !time.Now().Before(sp.until) }

func (sp span) holds(at time.Time) bool {
	return !at.Before(sp.since) && (sp.until.IsZero() || at.Before(sp.until))
}

// events answers with what happened from a number or a time on, or waits for it.
func (s *service) events(r *http.Request, _ none) (api.Events, error) {
	match, err := eventFilter(r)
	if err != nil {
		return api.Events{}, err
	}
	now := time.Now()
	sp, err := readSpan(r, now)
	if err != nil {
		return api.Events{}, err
	}
	end := now.Add(eventWait)
	if !sp.until.IsZero() && sp.until.Before(end) {
		end = sp.until
	}
	ctx, cancel := context.WithDeadline(r.Context(), end)
	defer cancel()
	list, next := s.engine.Events(ctx, sp.from)
	out := api.Events{Events: []api.Event{}, Next: next, Done: sp.ended()}
	for _, ev := range list {
		if sp.holds(ev.Time) && match(ev) {
			out.Events = append(out.Events, api.Event{Time: ev.Time, Type: ev.Type, Action: ev.Action, ID: string(ev.ID), Attributes: ev.Attributes})
		}
	}
	return out, nil
}

// eventFilter reads what events are narrowed to.
func eventFilter(r *http.Request) (func(engine.Event) bool, error) {
	f, err := readFilters(r, eventKeys())
	if err == nil {
		err = f.oneOf("type", "network", "sandbox")
	}
	if err != nil {
		return nil, err
	}
	return func(ev engine.Event) bool {
		about := func(typ string) func(string) bool {
			if ev.Type == typ {
				return func(v string) bool { return v == ev.Attributes["name"] || v == string(ev.ID) }
			}
			return func(v string) bool { return v == ev.Attributes[typ] }
		}
		return f.any("type", func(v string) bool { return v == ev.Type }) && f.any("event", func(v string) bool { return v == ev.Action }) &&
			f.any("network", about("network")) && f.any("sandbox", about("sandbox"))
	}, nil
}
