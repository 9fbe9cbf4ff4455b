package model

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Health is how a service's backends are asked whether they serve: each by its own host,
// at the TCP port where it serves.
type Health struct {
	Path     string        `json:"path,omitempty"` // of an HTTP GET that is answered with 2xx or 3xx; "": a connection is enough
	Interval time.Duration `json:"interval"`       // from an answer to the next question
	Timeout  time.Duration `json:"timeout"`        // for an answer
	Retries  int           `json:"retries"`        // failures in a row that make a backend unhealthy
}

// Limits of checks.
const (
	MinHealthInterval = 100 * time.Millisecond
	MaxHealthInterval = time.Hour
	MaxHealthRetries  = 100
	maxHealthPath     = 255 // bytes
)

// HealthState is what is known of a backend by its checks; "": it was not checked yet, and
// counts as healthy.
type HealthState string

// The states of checked backends.
const (
	HealthStarting HealthState = "starting" // it has not served since it began
	HealthUp       HealthState = "healthy"
	HealthDown     HealthState = "unhealthy"
)

// Known reports whether it is one of the states, or "".
func (s HealthState) Known() bool {
	return slices.Contains([]HealthState{"", HealthStarting, HealthUp, HealthDown}, s)
}

// Fare notes what checks say of a backend since a time. One that drains, does not run, or
// is away, stays in that state.
func (b *Member) Fare(s HealthState, since time.Time) {
	b.Health, b.Since = s, since
	if !slices.Contains([]MemberState{MemberReady, MemberStarting, MemberUnhealthy}, b.State) {
		return
	}
	switch b.State = MemberReady; s {
	case HealthStarting:
		b.State = MemberStarting
	case HealthDown:
		b.State = MemberUnhealthy
	}
}

// String is "tcp" or "http:/path", as --health takes it.
func (h *Health) String() string {
	if h.Path == "" {
		return "tcp"
	}
	return "http:" + h.Path
}

// Validate reports the first thing that makes the checks impossible.
func (h *Health) Validate() error {
	switch {
	case h.Interval < MinHealthInterval || h.Interval > MaxHealthInterval:
		return fmt.Errorf("health-interval %s: want %s to %s", h.Interval, MinHealthInterval, MaxHealthInterval)
	case h.Timeout <= 0 || h.Timeout > h.Interval:
		return fmt.Errorf("health-timeout %s: want more than 0, up to the interval of %s", h.Timeout, h.Interval)
	case h.Retries < 1 || h.Retries > MaxHealthRetries:
		return fmt.Errorf("health-retries %d: want 1 to %d", h.Retries, MaxHealthRetries)
	case h.Path == "":
		return nil
	}
	odd := func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }
	if h.Path[0] != '/' || len(h.Path) > maxHealthPath || strings.ContainsFunc(h.Path, odd) {
		return fmt.Errorf("health %q: want http:/PATH of up to %d printable ASCII characters, without spaces and #", h, maxHealthPath)
	}
	if _, err := url.ParseRequestURI(h.Path); err != nil {
		return fmt.Errorf("health %q: no path of a URL", h)
	}
	return nil
}

// HealthPort is where a backend of the service is checked: the port that it serves at; 0:
// the service has no TCP port.
func (s *Service) HealthPort(b *Member) uint16 {
	i := slices.IndexFunc(s.Ports, func(p ServicePort) bool { return p.Proto == "tcp" })
	if i < 0 {
		return 0
	}
	return cmp.Or(b.Port, s.Ports[i].Port)
}

// checkHealth reports what makes the service's checks impossible.
func (s *Service) checkHealth() error {
	if s.Health == nil {
		return nil
	}
	if s.HealthPort(&Member{}) == 0 {
		return fmt.Errorf("health %s: the service has no TCP port", s.Health)
	}
	return s.Health.Validate()
}

// HealthWish is how checks are to be; what is zero stays as it is.
type HealthWish struct {
	What              string // "tcp", "http:/PATH", or "none"
	Interval, Timeout time.Duration
	Retries           int
}

// ParseHealthWish reads a wish, durations as time.ParseDuration has them. What is "" or 0
// is not wished.
func ParseHealthWish(what, interval, timeout string, retries int) (w HealthWish, err error) {
	if what != "" && what != "none" && what != "tcp" && !strings.HasPrefix(what, "http:") {
		return w, fmt.Errorf("health %q: want tcp, http:/PATH or none", what)
	}
	if retries < 0 {
		return w, fmt.Errorf("health-retries %d: want 1 to %d", retries, MaxHealthRetries)
	}
	w.What, w.Retries = what, retries
	if w.Interval, err = healthTime("interval", interval); err == nil {
		w.Timeout, err = healthTime("timeout", timeout)
	}
	return w, err
}

// ParseHealthRetries reads how many failures in a row there may be.
func ParseHealthRetries(text string) (int, error) { return number(text, 1, MaxHealthRetries, "") }

func healthTime(what, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("health-%s %q: want a time as 500ms, 2s or 1m", what, text)
	}
	return d, nil
}

// WishHealth is the wish for just these checks; nil: for none.
func WishHealth(h *Health) HealthWish {
	if h == nil {
		return HealthWish{What: "none"}
	}
	return HealthWish{What: h.String(), Interval: h.Interval, Timeout: h.Timeout, Retries: h.Retries}
}

// Of is what becomes of a service's checks by a wish; nil: there are none. They begin with
// 2 s, a timeout of 1 s, and 3 retries.
func (w HealthWish) Of(have *Health) (*Health, error) {
	details := w.Interval != 0 || w.Timeout != 0 || w.Retries != 0
	switch {
	case w.What == "none" && details:
		return nil, errors.New("health none: has no interval, timeout or retries")
	case w.What == "" && have == nil && details:
		return nil, errors.New("health: missing: want tcp or http:/PATH")
	case w.What == "none", w.What == "" && have == nil:
		return nil, nil
	}
	h := Health{Interval: 2 * time.Second, Timeout: time.Second, Retries: 3}
	if have != nil {
		h = *have
	}
	path, web := strings.CutPrefix(w.What, "http:")
	switch {
	case web && !strings.HasPrefix(path, "/"):
		return nil, fmt.Errorf("health %q: want http:/PATH", w.What)
	case web:
		h.Path = path
	case w.What == "tcp":
		h.Path = ""
	}
	h.Interval, h.Retries = cmp.Or(w.Interval, h.Interval), cmp.Or(w.Retries, h.Retries)
	h.Timeout = cmp.Or(w.Timeout, min(h.Timeout, h.Interval))
	if err := h.Validate(); err != nil {
		return nil, err
	}
	return &h, nil
}

// SameHealth reports whether two services' checks are the same.
func SameHealth(a, b *Health) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}
