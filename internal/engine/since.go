package engine

import (
	"maps"
	"sync"
	"time"

	nics "github.com/sealane/sealane/internal/kernel/uplink"
	"github.com/sealane/sealane/internal/model"
)

// turns are when the states of networks and uplinks became what they are. A state is
// derived, so its turn is noted by who looks, as every pass does.
type turns struct {
	mu sync.Mutex
	at map[string]turn // by what tells it from one that is made anew under its name
}

// turn is when a state began.
type turn struct {
	state string
	since time.Time
}

// note returns s, of what key tells, with the time of its turn. Of the first state that
// is seen s knows it.
func (t *turns) note(key string, s Status, now time.Time) Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, seen := t.at[key]
	switch {
	case !seen:
		last = turn{s.State, s.Since}
	case last.state != s.State:
		last = turn{s.State, now}
	}
	t.at[key], s.Since = last, last.since
	return s
}

// keep forgets what is no more.
func (t *turns) keep(keys map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.at, func(key string, _ turn) bool { return !keys[key] })
}

// noteTurns looks at all networks, and forgets those and the uplinks that are no more.
func (e *Engine) noteTurns() {
	keys := map[string]bool{}
	for _, n := range e.intent.Networks {
		e.NetworkStatus(n)
		keys[string(n.ID)] = true
	}
	for _, u := range e.uplinks.list {
		keys[uplinkKey(u)] = true
	}
	e.turns.keep(keys)
}

// NetworkStatus says how a network fares.
func (e *Engine) NetworkStatus(n *model.Network) Status {
	return e.turns.note(string(n.ID), e.networkStatus(n), e.cfg.Now().UTC())
}

// uplinkStatus says how an uplink fares. The caller holds work.
func (e *Engine) uplinkStatus(u model.Uplink, ports []nics.Port) Status {
	return e.turns.note(uplinkKey(u), e.uplinkState(u, ports), e.cfg.Now().UTC())
}

func uplinkKey(u model.Uplink) string { return u.Ref() + " " + u.Created.String() }
