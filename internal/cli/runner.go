package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/model"
)

// runner carries out one run:
//
//  1. make the sandbox, with this process as the one to watch: should it die,
//     the daemon knows that the command is not coming
//  2. start the command in it; if that does not work, remove the sandbox
//  3. detached: say which process it is, and print the ID
//     foreground: wait, say how it ended, and end the same way
type runner struct {
	*app
	client *api.Client
	detach bool
	env    []string
	dir    string
}

// Files in a sandbox's directory: what a detached command printed, and how a
// command ended, for the daemon.
const (
	outputName = "output"
	exitName   = "exit"
)

func (r *runner) run(ctx context.Context, spec api.SandboxSpec) error {
	if len(spec.Command) == 0 {
		sb, err := r.client.CreateSandbox(ctx, spec)
		if err == nil {
			r.unmet(ctx, spec.Links)
			fmt.Fprintln(r.Out, sb.ID)
		}
		return err
	}
	if err := needRoot("run"); err != nil {
		return err
	}
	self, err := ownProcess()
	if err != nil {
		return err
	}
	spec.Process = &self
	sb, err := r.client.CreateSandbox(ctx, spec)
	if err != nil {
		return err
	}
	r.unmet(ctx, spec.Links)
	where, err := r.inside(ctx, sb)
	if err != nil {
		return r.abandon(ctx, sb, err)
	}
	where.Args, where.Env, where.Dir = spec.Command, r.env, r.dir
	if r.detach {
		return r.background(ctx, sb, where)
	}
	return r.foreground(ctx, sb, where)
}

// background leaves the command to a supervisor.
func (r *runner) background(ctx context.Context, sb api.Sandbox, where process.Spec) error {
	if err := os.MkdirAll(sb.Dir, 0o755); err != nil {
		return r.abandon(ctx, sb, err)
	}
	pid, start, err := process.Detach(where, filepath.Join(sb.Dir, outputName), filepath.Join(sb.Dir, exitName))
	if err != nil {
		return r.abandon(ctx, sb, err)
	}
	if err := r.client.SetProcess(ctx, sb.ID, api.Process{PID: pid, Start: start}); err != nil {
		_ = process.Kill(pid, start, syscall.SIGKILL) // it would run unknown to everybody
		return r.abandon(ctx, sb, err)
	}
	fmt.Fprintln(r.Out, sb.ID)
	return nil
}

// foreground stays with the command and ends as it does.
func (r *runner) foreground(ctx context.Context, sb api.Sandbox, where process.Spec) error {
	status, err := process.Run(ctx, where, process.Stdio{}, func(pid int, start uint64) {
		// Until now we stood for the command ourselves; should this fail, we
		// go on doing so.
		_ = r.client.SetProcess(ctx, sb.ID, api.Process{PID: pid, Start: start})
	})
	if err != nil {
		return r.abandon(ctx, sb, err)
	}
	err = r.client.SetExit(ctx, sb.ID, api.Ended{Code: status.Code, Signal: status.Signal})
	if err != nil && model.KindOf(err) != model.NotFound {
		if leaveExit(sb.Dir, status) != nil {
			r.complain(fmt.Errorf("run: the command has ended, but the daemon does not know: %w", err))
		}
	}
	return ended(status)
}

// leaveExit leaves the end of a command for a daemon that is away, where a
// supervisor would.
func leaveExit(dir string, s process.Status) error {
	data, err := json.Marshal(process.Exit{Code: s.Code, Signal: s.Signal, At: time.Now().UTC()})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, exitName)
	if err := os.WriteFile(file+".new", data, 0o640); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// abandon removes a sandbox whose command did not start, because of cause.
func (r *runner) abandon(ctx context.Context, sb api.Sandbox, cause error) error {
	err := r.client.SetExit(ctx, sb.ID, api.Ended{Code: process.CodeFailed})
	if err == nil {
		err = r.client.RemoveSandbox(ctx, sb.ID, false)
	}
	if err != nil && model.KindOf(err) != model.NotFound { // --rm has removed it
		r.complain(fmt.Errorf("run: remove the sandbox again: %w", err))
	}
	return cause
}

// ended turns the status of a command into ours.
func ended(s process.Status) error {
	if s.Code == 0 {
		return nil
	}
	return &commandError{s.Code}
}

// inside says how to get into a sandbox. What shares another's namespace
// shares its files and host name too.
func (r *runner) inside(ctx context.Context, sb api.Sandbox) (process.Spec, error) {
	owner := sb
	if sb.Donor != "" {
		var err error
		if owner, err = r.client.Sandbox(ctx, sb.Donor); err != nil {
			return process.Spec{}, err
		}
	}
	where := process.Spec{NetNS: sb.NetNS, Inode: sb.Inode}
	if model.Mode(owner.Mode) == model.ModeOwn {
		where.Hosts = filepath.Join(owner.Dir, "hosts")
		where.Hostname = filepath.Join(owner.Dir, "hostname")
		where.ResolvConf = filepath.Join(owner.Dir, "resolv.conf")
		where.UTSName = owner.Hostname
	}
	return where, nil
}

// environment is ours, with what -e says.
func environment(settings []string) ([]string, error) {
	env := os.Environ()
	for _, s := range settings {
		k, _, ok := strings.Cut(s, "=")
		if k == "" {
			return nil, fmt.Errorf("-e %q: want KEY=VALUE or KEY", s)
		}
		if ok { // ours is there already
			env = append(without(env, k), s)
		}
	}
	return env, nil
}

// without leaves a variable out of an environment.
func without(env []string, key string) []string {
	out := make([]string, 0, len(env)+1)
	for _, kv := range env {
		if !strings.HasPrefix(kv, key+"=") {
			out = append(out, kv)
		}
	}
	return out
}

func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return &model.Error{Kind: model.Denied, Ref: what, Err: errors.New("needs root: it enters namespaces")}
	}
	return nil
}

// ownProcess names this process so that nobody can take its place.
func ownProcess() (api.Process, error) {
	pid, start, err := process.Self()
	return api.Process{PID: pid, Start: start}, err
}
