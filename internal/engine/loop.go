package engine

import (
	"slices"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Timing of the loop.
const (
	settle   = 50 * time.Millisecond // hints come in bursts
	interval = 30 * time.Second      // a pass without a hint, in case one was lost
	retry    = time.Second           // after a pass that failed, doubled up to interval
)

// The kernel does not say who changed a link, so while our own changes settle, what
// somebody else does to the same devices may give no hint. For that time passes
// look by themselves.
const (
	unsettled = 1600 * time.Millisecond // after a change of ours
	look      = 400 * time.Millisecond  // between the passes meanwhile
	share     = 20                      // and as many times as long as a pass takes
)

// watchful has passes look for what gives no hint after a change of ours. The
// caller holds work.
func (e *Engine) watchful() {
	e.until = time.Now().Add(unsettled)
	if !e.looking {
		e.lookLater()
	}
}

// unheard reports whether ops touch devices, so that what somebody else does to those gives
// no hint for a while. Of rules and their elements it is known whose they are.
func unheard(ops []kstate.Op) bool {
	return slices.ContainsFunc(ops, func(op kstate.Op) bool {
		switch op.Object().(type) {
		case kstate.File, kstate.Guest, kstate.Hold:
			return false
		case kstate.Neigh:
			return op.New == nil
		}
		return !isNft(op)
	})
}

func (e *Engine) lookLater() {
	e.looking = true
	time.AfterFunc(max(look, share*e.took), func() {
		if e.ctx.Err() != nil {
			return
		}
		e.Kick(afterChange)
		e.work.Lock()
		defer e.work.Unlock()
		if e.looking = time.Now().Before(e.until); e.looking {
			e.lookLater()
		}
	})
}

// Kick asks for a pass soon.
func (e *Engine) Kick(reason string) {
	select {
	case e.kick <- reason:
	default: // one is coming
	}
}

// Reasons of passes that nobody else gave.
const (
	regular     = "regular"        // nothing did
	afterChange = "after a change" // see watchful
)

// loop runs passes until Close.
func (e *Engine) loop(hints <-chan kernel.Hint) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	failures, asked := 0, time.Now()
	for {
		reason := regular
		select {
		case <-e.ctx.Done():
			return
		case h, ok := <-hints:
			if !ok {
				return
			}
			reason = h.What
		case reason = <-e.kick:
		case <-timer.C:
		}
		if !e.rest(settle + e.patience(e.cfg.Now())) {
			return
		}
		drain(hints, e.kick)
		_, repairs, err := e.pass(e.ctx, reason)
		if err == nil {
			err = e.ensureDefault(e.ctx) // which Start may have failed to make
		}
		if e.ctx.Err() != nil {
			return
		}
		next := interval
		if failures++; err == nil {
			failures = 0
		} else {
			next = min(retry<<min(failures-1, 5), interval)
			e.cfg.Log.Error("pass", "reason", reason, "err", err, "again", next)
		}
		e.fought(succeeded(repairs, err))
		if time.Since(asked) >= interval { // also where hints leave no regular pass
			asked = time.Now()
			e.askAll()
			e.background.Go(e.followNames)
			e.repairNames()
		}
		timer.Reset(next)
	}
}

// rest waits, and reports false when the engine closes meanwhile.
func (e *Engine) rest(d time.Duration) bool {
	select {
	case <-e.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// drain takes what came in while the loop rested: one pass serves it all.
func drain(hints <-chan kernel.Hint, kick <-chan string) {
	for {
		select {
		case _, ok := <-hints:
			if !ok {
				return
			}
		case <-kick:
		default:
			return
		}
	}
}

// fight notices that somebody keeps undoing our repairs.
type fight struct {
	times []time.Time // of recent repairs
}

// The rule: more than so many repairs within window are a fight; each further
// one waits twice as long, up to truce: no longer, for what was undone may be
// what keeps containers apart. Others may make their own firewall anew
// more often than anybody has reason to touch ours.
const (
	window  = 20 * time.Second
	enough  = 5
	reloads = 15 // of others' firewalls
	truce   = time.Second
)

// add notes a repair.
func (f *fight) add(now time.Time) {
	f.times = append(f.recent(now), now)
}

func (f *fight) recent(now time.Time) []time.Time {
	i := 0
	for i < len(f.times) && now.Sub(f.times[i]) > window {
		i++
	}
	return f.times[i:]
}

// delay returns how long to wait before the next repair.
func (f *fight) delay(now time.Time, enough int) time.Duration {
	n := len(f.recent(now)) - enough
	if n <= 0 {
		return 0
	}
	return min(settle<<min(n, 10), truce)
}

// patience returns how long to wait before the next pass.
func (e *Engine) patience(now time.Time) time.Duration {
	return max(e.repairs.delay(now, enough), e.returns.delay(now, reloads))
}

// succeeded are those of ops that an error does not tell of. The others nobody undoes.
func succeeded(ops []kstate.Op, err error) []kstate.Op {
	failed := map[kstate.Key]bool{}
	for _, f := range opErrors(err) {
		failed[f.Op.Object().Key()] = true
	}
	return slices.DeleteFunc(slices.Clone(ops), func(op kstate.Op) bool { return failed[op.Object().Key()] })
}

// fought notes what a pass has repaired.
func (e *Engine) fought(ops []kstate.Op) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ours, theirs := false, false
	for _, op := range ops {
		_, guest := op.Object().(kstate.Guest)
		theirs = theirs || guest
		ours = ours || !compile.AboutOthers(op.Object())
	}
	if ours {
		e.repairs.add(e.cfg.Now())
	}
	if theirs {
		e.returns.add(e.cfg.Now())
	}
}
