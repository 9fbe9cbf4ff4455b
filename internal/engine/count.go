package engine

import (
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dhcp"
	"github.com/sealane/sealane/internal/tally"
)

// Action is a change that somebody asked for, and what came of it.
type Action struct {
	Name   string // network_create, connect and so on
	Result string // see the constants
}

// Pass is a pass, by what it was for and what came of it.
type Pass struct {
	Reason string // start, regular, change (we made one) or hint (something happened)
	Result string // ResultOK or ResultFailed
}

// Repair is an object that a pass did not find as intended, and what came of setting
// it right.
type Repair struct {
	Kind   string // of the object, as package kstate calls its type, in lower case
	Result string // ResultOK or ResultFailed
}

// Results of actions, passes and repairs.
const (
	ResultOK      = "ok"
	ResultRefused = "refused" // what was asked for cannot be, whoever asks
	ResultFailed  = "failed"  // the host or Sealane could not do it
)

// Others are the action with any result.
func (a Action) Others() []Action {
	return []Action{{a.Name, ResultOK}, {a.Name, ResultRefused}, {a.Name, ResultFailed}}
}

// Others are the pass with any result.
func (p Pass) Others() []Pass { return []Pass{{p.Reason, ResultOK}, {p.Reason, ResultFailed}} }

// Others are the repair with any result.
func (r Repair) Others() []Repair { return []Repair{{r.Kind, ResultOK}, {r.Kind, ResultFailed}} }

// Tallies are what an engine has done since it was made.
type Tallies struct {
	Actions  tally.Times[Action]
	Passes   tally.Times[Pass]
	Repairs  tally.Counts[Repair]
	LastGood atomic.Int64 // Unix nanoseconds: end of the last pass without an error; 0: none
}

// Tallies returns them. They go on counting.
func (e *Engine) Tallies() *Tallies { return &e.tallies }

// timed counts an action from now until what it returns is called with the action's
// error. To wait for one's turn is part of it.
func (e *Engine) timed(action string) func(*error) {
	began := time.Now()
	return func(err *error) {
		e.tallies.Actions.Note(Action{action, resultOf(*err)}, time.Since(began))
	}
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return ResultOK
	case model.KindOf(err) == model.Internal:
		return ResultFailed
	}
	return ResultRefused
}

// countPass counts a pass, and what it repaired.
func (e *Engine) countPass(reason string, took time.Duration, repairs []kstate.Op, err error) {
	p := Pass{Reason: "hint", Result: ResultOK}
	switch reason {
	case "start", regular:
		p.Reason = reason
	case afterChange:
		p.Reason = "change"
	}
	if err != nil {
		p.Result = ResultFailed
	} else {
		e.tallies.LastGood.Store(e.cfg.Now().UnixNano())
	}
	e.tallies.Passes.Note(p, took)
	failed := map[string]bool{}
	for _, f := range opErrors(err) {
		failed[f.Op.String()] = true
	}
	for _, op := range repairs {
		r := Repair{strings.ToLower(reflect.TypeOf(op.Object()).Name()), ResultOK}
		if len(failed) > 0 && failed[op.String()] {
			r.Result = ResultFailed
		}
		e.tallies.Repairs.Add(r)
	}
}

// InTouch says whether this host is in touch with the store of its cluster, and since
// when; zero if it never was. It is not known of a host in no cluster.
func (e *Engine) InTouch() (in bool, since time.Time, known bool) {
	o := &e.overlays
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dir == nil || o.view == nil {
		return false, time.Time{}, o.dir != nil
	}
	return o.view.InTouch, o.view.Since, true
}

// States of leases from DHCP servers.
const (
	LeaseBound   = "bound"
	LeaseWaiting = "waiting" // none yet
	LeaseFailing = "failing" // none, or it is not renewed, and the log says why
)

// LeaseStates counts the leases from DHCP servers that endpoints want.
func (e *Engine) LeaseStates() map[string]int {
	out := map[string]int{LeaseBound: 0, LeaseWaiting: 0, LeaseFailing: 0}
	for _, sb := range e.sandboxes() {
		if !sb.Live() {
			continue
		}
		for i := range sb.Endpoints {
			ep := &sb.Endpoints[i]
			for _, is6 := range []bool{false, true} {
				if ep.DHCP(is6) != nil {
					out[e.leases.state(ep, is6)]++
				}
			}
		}
	}
	return out
}

func (l *leases) state(ep *model.Endpoint, is6 bool) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, failing := l.troubles[dhcp.Key{Endpoint: ep.ID, Is6: is6}]; failing {
		return LeaseFailing
	}
	if ep.Lease(is6) != nil {
		return LeaseBound
	}
	return LeaseWaiting
}
