package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// A pass, in eight steps:
//
//  1. take intent as it is, and hold it (Engine.work)
//  2. read facts about the host
//  3. observe the kernel: everything ours, everywhere
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
	e.work.Lock()
	defer e.work.Unlock()
	defer func(began time.Time) { e.took = time.Since(began) }(time.Now())
	unpaid := e.payStore()
	ops, err := e.plan(ctx, true)
	if err != nil {
		return nil, errors.Join(unpaid, err)
	}
	for _, op := range ops {
		e.cfg.Log.Info("repair", "op", op.String(), "reason", reason)
	}
	err = e.cfg.Kernel.Apply(ctx, ops)
	e.note(err)
	if len(ops) > 0 && err == nil {
		e.watchful()
	}
	return ops, errors.Join(unpaid, err)
}

// Diff returns the ops a pass would apply now: what is not as intended.
func (e *Engine) Diff(ctx context.Context) ([]kstate.Op, error) {
	e.work.Lock()
	defer e.work.Unlock()
	return e.plan(ctx, false)
}

// plan does steps 2 to 6. With settle, lost sandboxes become so in the store.
func (e *Engine) plan(ctx context.Context, settle bool) ([]kstate.Op, error) {
	facts := e.readFacts()
	filters, err := e.cfg.Kernel.Filters(ctx)
	if err != nil {
		return nil, fmt.Errorf("observe: %w", err)
	}
	have, err := e.cfg.Kernel.Observe(ctx, kernel.Scope{NS: e.namespaces()})
	if err != nil {
		return nil, fmt.Errorf("observe: %w", err)
	}
	facts.Filters, facts.Bridges = filters, bridges(have)
	asked := len(e.facts.Resolv.Servers) > 0
	e.mu.Lock()
	e.facts = facts
	e.noteOverlaps(viewOf(have))
	e.mu.Unlock()
	if settle && asked != (len(facts.Resolv.Servers) > 0) {
		<-e.serveViews() // the default network's sandboxes have the resolver now, or no longer
	}
	intent := e.intent
	if lost := e.lost(have); len(lost) > 0 {
		intent.Sandboxes = overlay(intent.Sandboxes, lost)
		if settle {
			e.settleLost(lost)
		}
	}
	want, err := compile.All(intent, facts)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return kstate.Diff(have, want), nil
}

// namespaces lists where sandboxes live.
func (e *Engine) namespaces() []kstate.NS {
	var list []kstate.NS
	for _, sb := range e.intent.Sandboxes {
		if sb.Exit == nil && (sb.Mode == model.ModeOwn || sb.Mode == model.ModeOther) {
			list = append(list, compile.NS(sb))
		}
	}
	return list
}

// lost returns the new states of sandboxes whose namespace, or whose donor's,
// is not there any more.
func (e *Engine) lost(have kstate.Set) map[model.ID]*model.Sandbox {
	gone := map[model.ID]*model.Sandbox{}
	for id, sb := range e.intent.Sandboxes {
		if sb.Exit != nil || sb.Mode == model.ModeHost || sb.Mode == model.ModeRuntime {
			continue
		}
		if _, ok := have[kstate.NetNS{NS: compile.NS(sb)}.Key()]; !ok {
			gone[id] = ended(sb, model.Exit{Code: 137, Lost: true, At: e.cfg.Now().UTC()})
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

// settleLost stores that sandboxes are lost. Their kernel objects went with
// the namespaces or go in the pass that called.
func (e *Engine) settleLost(lost map[model.ID]*model.Sandbox) {
	d := e.draft("sandboxes", "note as lost")
	for id, sb := range lost {
		d.sandboxes[id] = sb
		if sb.AutoRemove {
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
	for id, sb := range d.sandboxes {
		if sb == nil {
			if err := e.forget(id); err != nil {
				e.cfg.Log.Warn("remove the files of a sandbox", "sandbox", id, "err", err)
			}
		}
	}
}
