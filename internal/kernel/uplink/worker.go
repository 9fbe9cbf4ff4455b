package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/model"
)

// workerName is argv[0] of the process that moves, and what ps shows.
const workerName = "sealane:uplink"

// resultFD is a pipe that gets its result; its job is its standard input.
const resultFD = 3

// job is what a worker is told.
type job struct {
	Dir  Dir    `json:"dir"`
	Op   string `json:"op"`
	Move Move   `json:"move"`
}

// result is what it says in the end.
type result struct {
	Report Report     `json:"report"`
	Error  string     `json:"error,omitempty"`
	Kind   model.Kind `json:"kind,omitempty"`
}

// ErrKilled: the process that moved ended before it said how it went.
var ErrKilled = errors.New("the process that does it was killed")

// Attach moves a NIC under a bridge in a process of its own, which goes on when ctx
// ends or we do. The error is a *model.Error if the request was refused or did not
// work out; then everything is as it was.
func (d Dir) Attach(ctx context.Context, mv Move) (Report, error) {
	return d.start(ctx, job{d, opAttach, mv})
}

// Detach moves a NIC and what it has back out of its bridge, as Attach does.
func (d Dir) Detach(ctx context.Context, mv Move) (Report, error) {
	return d.start(ctx, job{d, opDetach, mv})
}

func (d Dir) start(ctx context.Context, j job) (Report, error) {
	order, err := process.Memory(j)
	if err != nil {
		return Report{}, fmt.Errorf("worker: write job: %w", err)
	}
	defer order.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return Report{}, err
	}
	defer null.Close()
	listen, tell, err := os.Pipe()
	if err != nil {
		return Report{}, err
	}
	defer listen.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{workerName}, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{order, null, os.Stderr, tell}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	tell.Close()
	if err != nil {
		return Report{}, fmt.Errorf("worker: start: %w", err)
	}
	go p.Wait()
	stop := context.AfterFunc(ctx, func() { listen.Close() })
	defer stop()
	return hear(ctx, listen)
}

// hear reads what a worker says in the end.
func hear(ctx context.Context, from io.Reader) (Report, error) {
	var r result
	switch err := json.NewDecoder(from).Decode(&r); {
	case ctx.Err() != nil:
		return r.Report, ctx.Err()
	case err != nil:
		return r.Report, ErrKilled
	case r.Error == "":
		return r.Report, nil
	case r.Kind == "":
		return r.Report, errors.New(r.Error)
	}
	return r.Report, &model.Error{Kind: r.Kind, Err: errors.New(r.Error)}
}

// Stage is the first thing that main of every program has to call that uses Attach
// or Detach. In a worker it does not return.
func Stage() { stage(func() {}) }

func stage(before func()) {
	if len(os.Args) > 0 && os.Args[0] == workerName {
		os.Exit(work(before))
	}
}

// work does the job and returns the exit status. Who started us may end, and take
// the terminal with it.
func work(before func()) int {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	unix.CloseOnExec(resultFD)
	tell := os.NewFile(resultFD, "result")
	defer tell.Close()
	var j job
	err := json.NewDecoder(os.Stdin).Decode(&j)
	var r result
	if err == nil {
		r, err = j.do(before)
	}
	if err != nil {
		r.Error = err.Error()
		if e, ok := errors.AsType[*model.Error](err); ok {
			r.Kind = e.Kind
		}
	}
	if json.NewEncoder(tell).Encode(r) != nil || err != nil {
		return 1
	}
	return 0
}

func (j job) do(before func()) (r result, err error) {
	switch j.Op {
	case opAttach:
		r.Report, err = j.Dir.attach(j.Move, before)
	case opDetach:
		r.Report, err = j.Dir.detach(j.Move, before)
	default:
		err = fmt.Errorf("worker: %q: not known", j.Op)
	}
	return r, err
}
