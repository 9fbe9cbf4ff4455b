package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/model"
)

// exitFile is where the supervisor of a detached command says how it ended.
const exitFile = "exit"

// exitGrace is how long after a command's end its exit status may take to
// arrive, from the supervisor's file or the client.
const exitGrace = time.Second

// killed is the exit code of a command that SIGKILL ended, as shells say it.
const killed = 128 + 9

// SetProcess notes which process runs a sandbox's command.
func (e *Engine) SetProcess(ctx context.Context, ref string, p model.Process) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("sandbox "+ref, "start")
	sb, err := d.existing(ref)
	if err != nil {
		return err
	}
	if sb.Exit != nil {
		return d.errorf(model.Gone, "has ended")
	}
	if sb.Guest != nil {
		return d.errorf(model.Invalid, "is a container of %s, which runs its commands", sb.Guest.Runtime)
	}
	c := d.edit(sb)
	c.Process = &p
	if err := d.commit(ctx); err != nil {
		return err
	}
	e.watch(c)
	return nil
}

// Exited notes how a sandbox's command ended. The sandbox's network goes; its
// record and addresses stay until it is removed, at once if it was run so.
func (e *Engine) Exited(ctx context.Context, ref string, exit model.Exit) error {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("sandbox "+ref, "end")
	sb, err := d.existing(ref)
	if err != nil {
		return err
	}
	if sb.Exit != nil {
		return nil // the first report counts
	}
	if sb.Guest != nil {
		return d.errorf(model.Invalid, "is a container of %s, which knows how it fares", sb.Guest.Runtime)
	}
	if sb.AutoRemove {
		d.codes[sb.ID] = exit.Code
		left := sb.Clone()
		left.Process = nil // it has ended, or is the client that tells us so
		return e.remove(ctx, d, left)
	}
	if sb.Mode == model.ModeOwn {
		// Processes it left behind would keep a dead network.
		if err := e.cfg.Processes.Kill(nil, sb.NetNS); err != nil {
			e.cfg.Log.Warn("end what a command left behind", "sandbox", sb.Name, "err", err)
		}
	}
	d.sandboxes[sb.ID] = ended(sb, exit)
	return d.commit(ctx)
}

// watch waits for the end of a sandbox's process. The client that is to start
// the command counts as its process until then.
func (e *Engine) watch(sb *model.Sandbox) {
	if sb.Process == nil || sb.Exit != nil {
		return
	}
	p, id := *sb.Process, sb.ID
	e.background.Go(func() {
		if e.cfg.Processes.Wait(e.ctx, p) != nil {
			return // closing
		}
		for until := time.Now().Add(exitGrace); time.Now().Before(until); {
			if now := e.current(id); now == nil || now.Exit != nil || now.Process == nil || *now.Process != p {
				return // reported, or another process took over
			}
			if exit, ok := e.readExit(id); ok {
				e.report(id, exit)
				return
			}
			if !e.rest(20 * time.Millisecond) {
				return
			}
		}
		if now := e.current(id); now != nil && now.Process != nil && *now.Process == p {
			e.report(id, model.Exit{Code: killed, Lost: true, At: e.cfg.Now().UTC()})
		}
	})
}

func (e *Engine) current(id model.ID) *model.Sandbox {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.intent.Sandboxes[id]
}

func (e *Engine) report(id model.ID, exit model.Exit) {
	if err := e.Exited(e.ctx, string(id), exit); err != nil && model.KindOf(err) != model.NotFound {
		e.cfg.Log.Error("note the end of a command", "sandbox", id, "err", err)
	}
}

// readExit reads the supervisor's report.
func (e *Engine) readExit(id model.ID) (model.Exit, bool) {
	b, err := os.ReadFile(filepath.Join(compile.Dir(e.cfg.RunDir, id), exitFile))
	if err != nil {
		return model.Exit{}, false
	}
	var x model.Exit
	return x, json.Unmarshal(b, &x) == nil
}

// endStale looks after commands at start: those that ended while no daemon ran,
// and those that still run.
func (e *Engine) endStale() {
	for _, sb := range e.sandboxes() {
		e.watch(sb)
	}
	entries, err := os.ReadDir(filepath.Join(e.cfg.RunDir, "sandboxes"))
	if err != nil {
		return
	}
	for _, entry := range entries {
		if id := model.ID(entry.Name()); e.current(id) == nil {
			if err := e.forget(id); err != nil {
				e.cfg.Log.Warn("remove the files of a sandbox", "sandbox", id, "err", err)
			}
		}
	}
}

// forget removes a sandbox's directory with its command's output and exit file, which
// whoever watches the command may be about to write.
func (e *Engine) forget(id model.ID) (err error) {
	if len(id) != model.IDLen {
		return errors.New("not an ID: " + string(id))
	}
	for range 10 {
		if err = os.RemoveAll(compile.Dir(e.cfg.RunDir, id)); !errors.Is(err, fs.ErrExist) { // ENOTEMPTY
			break
		}
	}
	return err
}
