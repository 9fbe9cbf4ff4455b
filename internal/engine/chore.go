package engine

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Ran is how a command went.
type Ran struct {
	Code           int // exit status, 128+signal when a signal killed it
	Stdout, Stderr []byte
}

// Runner runs a command of the host's in a network namespace.
type Runner interface {
	Run(ctx context.Context, ns kstate.NS, args []string) (Ran, error)
}

// choreTime is how long a command may take.
const choreTime = 30 * time.Second

// RunChore runs a command of ip or tc in a container. One that changes something
// and succeeds is run again whenever what it made has gone (furnish.go). With undo,
// its inverse is run, and it is forgotten.
func (e *Engine) RunChore(ctx context.Context, ref string, args []string, undo bool) (Ran, error) {
	about, op := "container "+ref, "run "+args[0]
	if e.cfg.Runner == nil {
		return Ran{}, model.Errorf(model.Unsupported, about, op, "not on this host")
	}
	chore := model.Chore(args)
	noted := func(sb *model.Sandbox) bool {
		return slices.ContainsFunc(sb.Chores, func(c model.Chore) bool { return slices.Equal(c, chore) })
	}
	who, err := e.askRunning(ctx, about, op, ref, func(sb *model.Sandbox) bool { return undo || noted(sb) })
	if err != nil {
		return Ran{}, err
	}
	sb, err := e.choreIn(ctx, who, about, op, chore)
	if err != nil {
		return Ran{}, err
	}
	defer e.chores.tell(sb.ID, -1)
	known := noted(sb)
	switch {
	case undo:
		return e.undoChore(ctx, sb, chore, known)
	case known && !sb.Live():
		return Ran{}, nil // it is run when the container starts
	case !sb.Live():
		return Ran{}, model.Errorf(model.Gone, about, op, "sandbox %s: has no namespace now", sb.Name)
	}
	g, err := e.groundIn(ctx, sb)
	if err != nil {
		return Ran{}, internal(about, op, err)
	}
	ran, err := e.runIn(ctx, sb, chore)
	switch {
	case err != nil:
		return ran, internal(about, op, err)
	case known && ran.Code != 0 && ran.asIntended(chore):
		return Ran{}, nil // as it shall be
	case ran.Code != 0 || !chore.Changes():
		return ran, e.letGo(ctx, sb)
	}
	if g != nil {
		e.chores.note(sb.ID, map[string]string{chore.Text(): g.of(chore)})
	}
	return ran, e.changeChores(ctx, sb, func(c *model.Sandbox) { c.DoChore(chore) })
}

// isThere reports whether ip or tc refused to make what is there already. For a
// queueing discipline the kernel has words of its own.
func (r Ran) isThere() bool {
	return r.Code == 2 && (bytes.Contains(r.Stderr, []byte("File exists")) || bytes.Contains(r.Stderr, []byte("Exclusivity flag on")))
}

// isGone reports whether ip or tc refused to take away what is not there, or on a device
// that is not.
func (r Ran) isGone() bool {
	return r.Code != 0 && slices.ContainsFunc([]string{"No such process", "Cannot find device", "No such file or directory", "Cannot find specified", "Cannot delete qdisc with handle of zero"},
		func(words string) bool { return bytes.Contains(r.Stderr, []byte(words)) })
}

// choreIn returns the sandbox of a container, made if there is none. Nobody who follows
// it forgets it before the chores are told that the command is over.
func (e *Engine) choreIn(ctx context.Context, who answer, about, op string, chore model.Chore) (*model.Sandbox, error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft(about, op)
	sb, err := d.subject(ctx, who, false)
	if err == nil {
		err = d.connectable(sb)
	}
	if err == nil {
		err = d.notRuntimes(sb)
	}
	if err == nil && chore.Changes() {
		err = sb.CheckChore(chore)
	}
	if err != nil {
		d.discard()
		return nil, err
	}
	if len(d.sandboxes) > 0 {
		if err := d.commit(ctx); err != nil {
			return nil, err
		}
	}
	e.chores.tell(sb.ID, 1)
	return sb, nil
}

func (e *Engine) runIn(ctx context.Context, sb *model.Sandbox, chore model.Chore) (Ran, error) {
	ctx, cancel := context.WithTimeout(ctx, choreTime)
	defer cancel()
	return e.cfg.Runner.Run(ctx, compile.NS(sb), chore)
}

// undoChore takes a command back.
func (e *Engine) undoChore(ctx context.Context, sb *model.Sandbox, chore model.Chore, known bool) (Ran, error) {
	if !known {
		err := model.Errorf(model.NotFound, sb.Ref(), "undo", "no such command was run").WithHint("pipework --list shows those that were")
		return Ran{}, errors.Join(err, e.letGo(ctx, sb))
	}
	var ran Ran
	if inverse, ok := chore.Inverse(); ok && sb.Live() {
		var err error
		if ran, err = e.runIn(ctx, sb, inverse); err != nil {
			return ran, internal(sb.Ref(), "undo", err)
		} else if ran.isGone() {
			ran = Ran{}
		}
	}
	return ran, e.changeChores(ctx, sb, func(c *model.Sandbox) { c.UndoChore(chore) })
}

// letGo drops a sandbox that was made for a command which left nothing.
func (e *Engine) letGo(ctx context.Context, sb *model.Sandbox) error {
	return e.changeChores(ctx, sb, func(*model.Sandbox) {})
}

// changeChores changes what a sandbox is to be furnished with, and drops a guest
// that has nothing any more.
func (e *Engine) changeChores(ctx context.Context, sb *model.Sandbox, change func(*model.Sandbox)) error {
	e.work.Lock()
	defer e.work.Unlock()
	now := e.intent.Sandboxes[sb.ID]
	if now == nil {
		return nil // it went meanwhile
	}
	d := e.draft(now.Ref(), "note a command")
	c := d.edit(now)
	change(c)
	switch {
	case c.Mode == model.ModeOther && (c.Guest != nil && d.idle(c) || c.Guest == nil && len(c.Endpoints)+len(c.Chores) == 0 && c.Origin == ""):
		d.sandboxes[c.ID] = nil
	case slices.EqualFunc(c.Chores, now.Chores, slices.Equal[model.Chore]):
		return nil
	}
	if err := d.noteGrounds(); err != nil {
		return err
	}
	return d.commit(ctx)
}
