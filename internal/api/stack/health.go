package stack

import (
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// healthKeys are those of x-sealane about how backends are checked, as the flags of service
// create: Compose's healthcheck is a command in the container, and its engine's.
var healthKeys = []string{"health", "health-interval", "health-retries", "health-timeout"}

// checks reads one of them.
func (s *service) checks(p pair) error {
	text, err := p.text()
	if err != nil {
		return err
	}
	if s.spec.Health == nil {
		s.spec.Health = &api.HealthWish{}
	}
	switch w := s.spec.Health; p.key {
	case "health":
		w.Check = text
		if _, err = model.ParseHealthWish(text, "", "", 0); err != nil || text == "" {
			err = p.want("tcp, http:/PATH or none")
		}
	case "health-retries":
		if w.Retries, err = model.ParseHealthRetries(text); err != nil {
			err = p.want("1 to " + strconv.Itoa(model.MaxHealthRetries))
		}
	case "health-interval":
		w.Interval, err = text, p.period(text)
	case "health-timeout":
		w.Timeout, err = text, p.period(text)
	}
	return err
}

// period refuses what is no time.
func (v value) period(text string) error {
	if _, err := model.ParseHealthWish("", text, "", 0); err != nil || text == "" {
		return v.want("a time as 500ms, 2s or 1m")
	}
	return nil
}

// settleHealth checks what the keys about checks say together, which are in v.
func (s *service) settleHealth(v value) error {
	w := s.spec.Health
	if w == nil {
		return nil
	}
	wish, err := model.ParseHealthWish(w.Check, w.Interval, w.Timeout, w.Retries)
	if err == nil {
		_, err = wish.Of(nil)
	}
	if err != nil {
		return v.fail("%w", err)
	}
	return nil
}

// checkable refuses checks of a service that has no port for them.
func (s *service) checkable() error {
	w := s.spec.Health
	if w == nil || w.Check == "none" || len(s.spec.Ports) == 0 {
		return nil
	}
	for _, p := range s.spec.Ports {
		if strings.HasSuffix(p, "/tcp") {
			return nil
		}
	}
	return s.fail("health %s: the service has no TCP port", w.Check)
}
