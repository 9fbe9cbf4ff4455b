package engine

import (
	"maps"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// turns are when the states of networks became what they are. A state is derived,
// so its turn is noted by who looks, as every pass does.
type turns struct {
	mu sync.Mutex
	at map[model.ID]turn
}

// turn is when a state began.
type turn struct {
	state string
	since time.Time
}

// note returns s, of a network, with the time of its turn. Of the first state that
// is seen s knows it.
func (t *turns) note(id model.ID, s Status, now time.Time) Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	last, seen := t.at[id]
	switch {
	case !seen:
		last = turn{s.State, s.Since}
	case last.state != s.State:
		last = turn{s.State, now}
	}
	t.at[id], s.Since = last, last.since
	return s
}

// keep forgets the networks that are no more.
func (t *turns) keep(networks map[model.ID]*model.Network) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.at, func(id model.ID, _ turn) bool { return networks[id] == nil })
}

// noteTurns looks at all networks.
func (e *Engine) noteTurns() {
	for _, n := range e.intent.Networks {
		e.NetworkStatus(n)
	}
	e.turns.keep(e.intent.Networks)
}

// NetworkStatus says how a network fares.
func (e *Engine) NetworkStatus(n *model.Network) Status {
	return e.turns.note(n.ID, e.networkStatus(n), e.cfg.Now().UTC())
}
