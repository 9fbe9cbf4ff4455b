package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Status is how an object fares. It is derived, never stored.
type Status struct {
	State   string    // see the constants
	Message string    // why, when not as it should be, or what it hides of the host
	Since   time.Time // of the state
}

// States of networks and sandboxes.
const (
	StateReady    = "ready"    // a network that is as intended
	StateRunning  = "running"  // a sandbox whose namespace is there
	StateAway     = "away"     // a guest whose container does not run
	StateExited   = "exited"   // a sandbox whose command ended
	StateLost     = "lost"     // a sandbox whose namespace vanished
	StateDegraded = "degraded" // something of it could not be applied
	StateConflict = "conflict" // somebody keeps undoing it, or is in its way
)

// problem is what the last pass could not apply for one object.
type problem struct {
	text  string
	since time.Time
}

// note keeps the failures of a pass by the object they belong to.
func (e *Engine) note(err error) {
	failed := map[string]string{}
	for _, op := range opErrors(err) {
		for _, ref := range e.owners(op.Op.Object()) {
			if failed[ref] == "" {
				failed[ref] = op.Error()
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.problems
	e.problems = map[string]problem{}
	for ref, text := range failed {
		since := e.cfg.Now().UTC()
		if p, ok := old[ref]; ok {
			since = p.since
		}
		e.problems[ref] = problem{text, since}
	}
}

// noteOverlaps notes which networks meet something of the host's that was not
// there when they were made, as a VPN's route. The caller holds mu.
func (e *Engine) noteOverlaps(view *hostView) {
	e.overlaps = map[string]Status{}
	for _, n := range e.intent.Networks {
		if n.Driver == model.DriverPool {
			continue // what has it is the network that it is for
		}
		all := prefixes(n.Subnets)
		if n.Fabric != nil && fabric.Routed(n.Fabric) {
			all = append(all, n.Fabric.Whole...) // other hosts have the rest
		}
		for _, p := range all {
			s := Status{StateConflict, view.conflict(p, uplinks(n)...), e.cfg.Now().UTC()}
			if s.Message == "" {
				s = Status{StateReady, view.hidden(p, uplinks(n)...), n.Created}
			}
			if was, said := e.overlaps[n.Ref()]; s.Message == "" || !n.Routed() || said && (s.State == StateReady || was.State == StateConflict) {
				continue
			}
			s.Message = fmt.Sprintf("subnet %s: %s", p, s.Message)
			e.overlaps[n.Ref()] = s // since when it is so, turns knows
		}
	}
}

// opErrors lists the single failures in what Apply returned.
func opErrors(err error) []*kernel.OpError {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*kernel.OpError
		for _, one := range many.Unwrap() {
			out = append(out, opErrors(one)...)
		}
		return out
	}
	if op, ok := errors.AsType[*kernel.OpError](err); ok {
		return []*kernel.OpError{op}
	}
	return nil
}

// owners finds the objects of intent whose fragment holds o. It is slow and
// only used when something failed.
func (e *Engine) owners(o kstate.Object) []string {
	key := o.Key()
	for _, n := range e.intent.Networks {
		if s, err := compile.Network(n, e.facts); err == nil && s[key] != nil {
			return []string{n.Ref()}
		}
	}
	for _, sb := range e.intent.Sandboxes {
		if s, err := compile.Sandbox(sb, e.intent, e.facts); err == nil && s[key] != nil {
			return []string{sb.Ref()}
		}
	}
	var all []string
	for _, n := range e.intent.Networks {
		if compile.Shares(n, key) {
			all = append(all, n.Ref())
		}
	}
	if len(all) > 0 {
		return all
	}
	if s, err := compile.Host(e.intent, e.facts); err != nil || s[key] == nil {
		return nil // a leftover of what is no more
	}
	for _, n := range e.intent.Networks { // the host's fragment serves every network
		all = append(all, n.Ref())
	}
	return all
}

// networkStatus derives how a network fares.
func (e *Engine) networkStatus(n *model.Network) Status {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if p, ok := e.parents[n.ID]; ok {
		return Status{StateDegraded, p.text, p.since}
	}
	if p, ok := e.problems[n.Ref()]; ok {
		return Status{StateDegraded, p.text, p.since}
	}
	if s, wrong := e.fabricStatus(n); wrong {
		return s
	}
	if s, wrong := e.overlayStatus(n); wrong {
		return s
	}
	if n.Overlay != nil {
		if s, wrong := e.strictStatus(n, n.Overlay.Services...); wrong {
			return s
		}
	}
	if e.repairs.delay(e.cfg.Now(), enough) > 0 {
		return Status{StateConflict, "another program keeps changing what sealane sets up; see the log", e.repairs.times[0].UTC()}
	}
	if e.returns.delay(e.cfg.Now(), reloads) > 0 {
		return Status{StateConflict, "another program keeps removing sealane's rule from its firewall; see the log", e.returns.times[0].UTC()}
	}
	if text := compile.Helpless(e.facts); text != "" {
		return Status{StateConflict, text, e.cfg.Now().UTC()}
	}
	if n.Name == model.NetworkBridge && e.astray.text != "" {
		return Status{StateDegraded, e.astray.text, e.astray.since}
	}
	if s, ok := e.overlaps[n.Ref()]; ok {
		return s
	}
	return Status{StateReady, "", n.Created}
}

// SandboxStatus says how a sandbox fares.
func (e *Engine) SandboxStatus(sb *model.Sandbox) Status {
	if x := sb.Exit; x != nil {
		switch {
		case x.Lost && sb.Process == nil && len(sb.Command) == 0:
			return Status{StateLost, "its network namespace is gone", x.At}
		case x.Lost:
			return Status{StateLost, "nobody saw it end", x.At}
		case x.Signal != "":
			return Status{StateExited, fmt.Sprintf("exit status %d, %s", x.Code, x.Signal), x.At}
		}
		return Status{StateExited, fmt.Sprintf("exit status %d", x.Code), x.At}
	}
	if sb.Away() {
		return e.awayStatus(sb)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if p, ok := e.ailing(sb); ok {
		return Status{StateDegraded, p.text, p.since}
	}
	if p, ok := e.problems[sb.Ref()]; ok {
		return Status{StateDegraded, p.text, p.since}
	}
	if p, ok := e.unleased(sb); ok {
		return Status{StateDegraded, p.text, p.since}
	}
	if p, ok := e.contested(sb); ok {
		return Status{StateConflict, p.text, p.since}
	}
	if p, ok := e.unfurnished(sb); ok {
		return Status{StateDegraded, p.text, p.since}
	}
	return Status{StateRunning, "", sinceMoved(sb)}
}
