package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/store"
)

// Teardown removes everything of ours from the kernel and the run directory,
// with what still runs in our namespaces, for a host whose daemon has stopped.
// Networks stay in the store and come back with the next start; sandboxes are
// forgotten. It goes on after failures and joins them.
func Teardown(ctx context.Context, cfg Config) error {
	e := New(cfg)
	snap, err := cfg.Store.Load()
	if err != nil {
		return err
	}
	if err := e.load(snap); err != nil {
		return err
	}
	errs := []error{e.detachAll(ctx)}
	var gone store.Change
	for id, sb := range e.intent.Sandboxes {
		gone.DelSandbox = append(gone.DelSandbox, id)
		if sb.Exit != nil {
			continue
		}
		netns := ""
		if sb.Mode == model.ModeOwn {
			netns = sb.NetNS
		}
		errs = append(errs, cfg.Processes.Kill(sb.Process, netns), e.unserve(sb))
	}
	have, err := cfg.Kernel.Observe(ctx, kernel.Scope{NS: e.namespaces()})
	if err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	errs = append(errs, cfg.Kernel.Apply(ctx, kstate.Diff(have, kstate.Set{})), cfg.Store.Commit(gone),
		os.RemoveAll(filepath.Join(cfg.RunDir, "sandboxes")))
	return errors.Join(errs...)
}

// unserve takes the resolver's rules out of a namespace that stays: whoever
// installs them knows how to.
func (e *Engine) unserve(sb *model.Sandbox) error {
	if !sb.Resolver || e.cfg.Names == nil {
		return nil
	}
	if err := e.cfg.Names.Put(string(sb.ID), e.dnsView(sb)); err != nil {
		return err
	}
	return e.cfg.Names.Remove(string(sb.ID))
}
