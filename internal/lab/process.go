package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// runTimeout bounds a command: one that hangs is a failure of the test, not
// of the test run.
const runTimeout = 120 * time.Second

// Result is what a command left.
type Result struct {
	Stdout, Stderr string
	Code           int // exit status; -1 if it was killed
}

// Run runs a command in the host to its end. A command that cannot be started
// ends the test; one that says no does not.
func (h *Host) Run(name string, args ...string) Result {
	h.t.Helper()
	r, err := h.RunCmd(exec.Command(name, args...))
	if err != nil {
		h.t.Fatalf("%s: %s: %v", h.Name, strings.Join(append([]string{name}, args...), " "), err)
	}
	return r
}

// Must is Run for a command that has to succeed; it returns its stdout.
func (h *Host) Must(name string, args ...string) string {
	h.t.Helper()
	r := h.Run(name, args...)
	if r.Code != 0 {
		h.t.Fatalf("%s: %s %s: exit %d\n%s%s", h.Name, name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// RunCmd runs cmd in the host to its end. Its output goes to memory files, not
// pipes: a daemon that the command leaves behind holds nobody up.
func (h *Host) RunCmd(cmd *exec.Cmd) (Result, error) {
	stdout, err := memfile("stdout")
	if err != nil {
		return Result{}, err
	}
	defer stdout.Close()
	stderr, err := memfile("stderr")
	if err != nil {
		return Result{}, err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = stdout, stderr, h.attr()
	if err := h.Do(cmd.Start); err != nil {
		return Result{}, err
	}
	timer := time.AfterFunc(runTimeout, func() { cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return Result{}, err
	}
	return Result{contents(stdout), contents(stderr), cmd.ProcessState.ExitCode()}, nil
}

func memfile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func contents(f *os.File) string {
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	return string(b)
}

// Process is a command that runs on in a host.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	out  output
}

// Start starts a command in the host and lets it run; it ends with the host.
func (h *Host) Start(name string, args ...string) *Process {
	h.t.Helper()
	p, err := h.StartCmd(exec.Command(name, args...))
	if err != nil {
		h.t.Fatalf("%s: %s: %v", h.Name, name, err)
	}
	return p
}

// StartCmd is Start for a command with a directory or environment of its own.
func (h *Host) StartCmd(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &p.out, &p.out, h.attr()
	cmd.WaitDelay = time.Second // its children may keep the pipe
	if err := h.Do(cmd.Start); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		cmd.Wait() // how it ended is in ProcessState
	}()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.procs = append(h.procs, p)
	return p, nil
}

// Pid is the process id as the test sees it, not as the host does.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends sig; a process that has ended is no failure.
func (p *Process) Signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// Wait waits for the end and returns the exit status, -1 after a signal.
func (p *Process) Wait() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Output is what the process has written so far, stdout and stderr mixed.
func (p *Process) Output() string { return p.out.String() }

// Await waits until the output has a line that match accepts.
func (p *Process) Await(ctx context.Context, match func(line string) bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		for line := range strings.Lines(p.Output()) {
			if strings.HasSuffix(line, "\n") && match(strings.TrimSpace(line)) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return errors.New("ended: " + p.cmd.ProcessState.String())
		case <-tick.C:
		}
	}
}

// output is a buffer that is read while it is written.
type output struct {
	mu  sync.Mutex // protects the following
	buf bytes.Buffer
}

// Write appends.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String returns everything written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
