package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// A pass, in eight steps:
//
//  1. take intent as it is, and hold it (Engine.work); what runtimes abandoned goes
//  2. read facts about the host
//  3. observe the kernel: everything ours, everywhere; what a runtime's chain of
//     plugins changed and means is intent (chain.go)
//  4. find sandboxes whose namespace is gone: they are lost, which is intent
//  5. compile what is left to the desired state
//  6. diff what is there against it
//  7. apply the ops
//  8. note what failed, by object, for status
//
// A pass remembers nothing of earlier ones. The pass after a crash, a reboot
// or somebody's `nft flush ruleset` is this same pass.

// Sync runs one pass and returns the ops it applied. The reason goes to the
// log. The error joins what could not be applied.
func (e *Engine) Sync(ctx context.Context, reason string) ([]kstate.Op, error) {
	ops, _, err := e.pass(ctx, reason)
	return ops, err
}

// pass is Sync. Those of the ops are repairs that a sandbox's end does not explain.
func (e *Engine) pass(ctx context.Context, reason string) (ops, repairs []kstate.Op, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	defer func(began time.Time) {
		e.took = time.Since(began)
		e.countPass(reason, e.took, repairs, err)
	}(time.Now())
	unpaid := errors.Join(e.payStore(), e.dropAbandoned(ctx))
	were := maps.Clone(e.intent.Sandboxes)
	have, want, err := e.compare(ctx, true)
	if err != nil {
		return nil, nil, errors.Join(unpaid, err)
	}
	ops = kstate.Diff(have, want)
	shaken, noted := e.shake(ops)
	unpaid = errors.Join(unpaid, noted)
	repairs = e.unexplained(ops, were)
	for _, op := range repairs {
		e.cfg.Log.Info("repair", "op", op.String(), "reason", reason)
	}
	err = e.cfg.Kernel.Apply(ctx, ops)
	e.note(err)
	e.noteTurns()
	e.noteSquatters(err)
	e.tellSubnet()
	e.furnish(have, shaken)
	e.wantLeases()
	e.wantTunnels()
	moves, uerr := e.uplinkOps(true)
	if uerr == nil {
		uerr = e.keepUplinks(ctx, moves, reason)
	}
	ops, repairs, err = append(ops, moves...), append(repairs, moves...), errors.Join(err, uerr)
	if len(ops) > 0 && err == nil {
		e.watchful()
	}
	return ops, repairs, errors.Join(unpaid, err)
}

// shake is that of a draft, stored before the ops are applied.
func (e *Engine) shake(ops []kstate.Op) (map[model.ID]bool, error) {
	d := e.draft("commands", "note")
	whose := d.shake(ops)
	if len(whose) == 0 {
		return nil, nil
	}
	e.Kick("what commands in a container stand on")
	if err := d.noteGrounds(); err != nil {
		return whose, err
	}
	return whose, d.commit(context.Background())
}

// unexplained returns the ops without those that remove what sandboxes had that were
// there and are no more: their end is said in a line, and nobody undid anything.
func (e *Engine) unexplained(ops []kstate.Op, were map[model.ID]*model.Sandbox) []kstate.Op {
	had := map[kstate.Key]bool{}
	in := compile.Intent{Networks: e.intent.Networks, Sandboxes: were}
	for id, sb := range were {
		if now := e.intent.Sandboxes[id]; !sb.Live() || now != nil && now.Live() {
			continue
		}
		fragment, err := compile.Sandbox(sb, in, e.facts)
		if err != nil {
			continue // its ops are told
		}
		for key := range fragment {
			had[key] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(ops), func(op kstate.Op) bool { return op.New == nil && had[op.Object().Key()] })
}

// Diff returns what is not as intended: the ops a pass would apply now, and what is not
// of passes, a line each: commands of containers that are due, also those that failed,
// and containers that cannot be followed.
func (e *Engine) Diff(ctx context.Context) (ops []kstate.Op, more []string, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	have, want, err := e.compare(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	moves, err := e.uplinkOps(false)
	return append(kstate.Diff(have, want), moves...), append(e.dueChores(have), e.unfollowed()...), err
}

// compare does steps 2 to 5.
func (e *Engine) compare(ctx context.Context, settle bool) (have, want kstate.Set, err error) {
	facts := e.readFacts()
	filters, err := e.cfg.Kernel.Filters(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("observe: %w", err)
	}
	have, err = e.observe(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("observe: %w", err)
	}
	e.leaveAlone(have)
	facts.Filters, facts.Bridges = filters, bridges(have)
	facts.Marked = e.facts.Marked || len(filters) > 0 // it may come and go, as one that is made anew does
	asked := len(e.facts.Resolv.Servers) > 0
	view := viewOf(have)
	facts.Narrow = e.narrow(view)
	e.mu.Lock()
	e.facts = facts
	if settle {
		e.passed = facts
	}
	e.noteOverlaps(view)
	e.noteParents(view)
	e.mu.Unlock()
	e.followMoves(view)
	e.followSeat(view)
	if settle && asked != (len(facts.Resolv.Servers) > 0) {
		<-e.serveViews() // the default network's sandboxes have the resolver now, or no longer
	}
	intent := e.intent
	if lost := e.lost(have); len(lost) > 0 {
		intent.Sandboxes = laid(intent.Sandboxes, lost)
		if settle {
			e.settleLost(lost)
		}
	}
	want, err = compile.All(intent, facts)
	if err != nil {
		return nil, nil, fmt.Errorf("compile: %w", err)
	}
	if err := e.dropChoosers(ctx, have, want); err != nil {
		return nil, nil, fmt.Errorf("observe: %w", err)
	}
	return have, want, nil
}

// namespaces lists where sandboxes live.
func (e *Engine) namespaces() []kstate.NS {
	var list []kstate.NS
	for _, sb := range e.intent.Sandboxes {
		if sb.Live() && (sb.Mode == model.ModeOwn || sb.Mode == model.ModeOther) {
			list = append(list, compile.NS(sb))
		}
	}
	return list
}

// lost returns the new states of sandboxes whose namespace, or whose donor's,
// is not there any more. Guests are away.
func (e *Engine) lost(have kstate.Set) map[model.ID]*model.Sandbox {
	gone := map[model.ID]*model.Sandbox{}
	for id, sb := range e.intent.Sandboxes {
		if !sb.Live() || sb.Mode == model.ModeHost || sb.Mode == model.ModeRuntime {
			continue
		}
		if _, ok := have[kstate.NetNS{NS: compile.NS(sb)}.Key()]; ok {
			continue
		}
		if sb.Guest != nil {
			d := e.draft("", "")
			d.unseat(sb)
			gone[id] = d.sandboxes[id]
		} else {
			gone[id] = ended(sb, model.Exit{Code: killed, Lost: true, At: e.cfg.Now().UTC()})
		}
	}
	return gone
}

// ended returns sb as it is after its end: it keeps its addresses until it is
// removed, and frees its host ports.
func ended(sb *model.Sandbox, exit model.Exit) *model.Sandbox {
	c := sb.Clone()
	c.Exit, c.Process, c.Ports = &exit, nil, []model.PortMapping{}
	return c
}

// abandoned is how long a sandbox that came by a runtime is kept after its
// namespace went: nothing brings it back, and who wants to take it off, as
// runtimes do, has done so by then.
const abandoned = 10 * time.Minute

// dropAbandoned removes such sandboxes, and frees their addresses. A runtime that
// lost its own record of a container, or has another list of plugins now, takes
// off nothing.
func (e *Engine) dropAbandoned(ctx context.Context) error {
	d := e.draft("sandboxes", "drop what runtimes abandoned")
	for id, sb := range e.intent.Sandboxes {
		if sb.Origin == model.OriginCNI && sb.Exit != nil && sb.Exit.Lost && e.cfg.Now().Sub(sb.Exit.At) > abandoned {
			d.sandboxes[id] = nil
			e.cfg.Log.Info("sandbox dropped: its namespace is gone, and no runtime asks for it", "sandbox", sb.Name, "netns", sb.NetNS)
		}
	}
	if len(d.sandboxes) == 0 {
		return nil
	}
	return d.commit(ctx)
}

// settleLost stores that sandboxes are lost. Their kernel objects went with
// the namespaces or go in the pass that called.
func (e *Engine) settleLost(lost map[model.ID]*model.Sandbox) {
	d := e.draft("sandboxes", "note as lost")
	for id, sb := range lost {
		d.sandboxes[id] = sb
		if sb.Guest != nil {
			e.askSoon(id, sb.Guest.Runtime)
			e.guests.set(id, note{text: told(*sb.Guest, "does not run")}, e.cfg.Now())
			e.cfg.Log.Info("container away: its network namespace is gone", "sandbox", sb.Name)
			continue
		}
		if sb.AutoRemove {
			d.codes[id] = sb.Exit.Code
			d.sandboxes[id] = nil
		}
		e.cfg.Log.Warn("sandbox lost: its network namespace is gone", "sandbox", sb.Name, "netns", sb.NetNS)
	}
	if err := e.cfg.Store.Commit(d.change()); err != nil {
		e.cfg.Log.Error("note lost sandboxes", "err", err)
		return
	}
	before := d.before()
	d.adopt()
	d.serveNames(before)
	e.tellOverlays()
	for id, sb := range d.sandboxes {
		if sb == nil {
			if err := e.forget(id); err != nil {
				e.cfg.Log.Warn("remove the files of a sandbox", "sandbox", id, "err", err)
			}
		}
	}
}
