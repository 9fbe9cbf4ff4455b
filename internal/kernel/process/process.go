// Package process starts commands in a sandbox, in the foreground or under a
// supervisor of their own, and watches and kills them.
//
// A command is born in the sandbox: the thread that forks it has entered the
// network namespace, made a mount namespace of its own, bound the sandbox's
// files over /etc and set the host name before. The rest of our process
// stays outside.
//
//	thread: setns, unshare, bind, chdir ──fork+exec──▶ command
//	   └─ waits for it; the kernel kills the command when this thread dies
//
// The package makes no namespaces that outlive a command, moves no devices and
// is linked into the thin client: it imports the standard library and
// golang.org/x/sys/unix, nothing else.
package process

import (
	"context"
	"fmt"
	"os"
	"syscall"
)

// Spec is a command and where it runs.
type Spec struct {
	NetNS string `json:"netns,omitempty"` // path of its network namespace; empty: the caller's
	Inode uint64 `json:"inode,omitempty"` // which namespace NetNS has to be; 0: any

	// Files to bind over /etc/hosts, /etc/hostname and /etc/resolv.conf, seen
	// by the command alone; empty leaves the host's.
	Hosts      string `json:"hosts,omitempty"`
	Hostname   string `json:"hostname,omitempty"`
	ResolvConf string `json:"resolvConf,omitempty"`

	UTSName string `json:"utsName,omitempty"` // host name in a UTS namespace of its own; empty: the caller's

	Args []string `json:"args"`          // the command, looked up in the PATH of Env, and its arguments
	Env  []string `json:"env"`           // KEY=VALUE; nil: the caller's
	Dir  string   `json:"dir,omitempty"` // working directory; empty: the caller's

	Group bool `json:"group,omitempty"` // it leads a process group of its own
}

// Stdio is what the command gets as its standard files, nil for the caller's
// own. They are inherited, never copied.
type Stdio struct{ In, Out, Err *os.File }

// Status is how a command ended.
type Status struct {
	Code   int    // exit status, 128+signal when a signal killed it
	Signal string // the signal's name ("killed"), empty if it exited
}

// Exit statuses of a command that did not start, as env(1) and docker have them.
const (
	CodeFailed   = 125 // our own failure
	CodeCannot   = 126 // the command cannot be executed
	CodeNotFound = 127 // there is no such command
)

// Error says why a command did not start.
type Error struct {
	Code int // CodeFailed, CodeCannot or CodeNotFound
	Err  error
}

// Error is the cause, which names the object and the operation.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func failed(format string, args ...any) *Error {
	return &Error{CodeFailed, fmt.Errorf(format, args...)}
}

// Run runs a command in the foreground until it ends. It shares our terminal
// and process group, and is killed if we are. Signals sent to us are passed
// on; those of the terminal reach it without us. When it is suspended, so are
// we. The error is an *Error if the command did not start; its code is in
// Status too.
//
// Run takes the process's signals while it runs, so ctx should not stand for
// one. When ctx is done the command gets SIGTERM. Started, if not nil, is told
// which process the command is.
func Run(ctx context.Context, spec Spec, stdio Stdio, started func(pid int, start uint64)) (Status, error) {
	signals := catch(forwarded()...)
	defer signals.stop()
	c, err := start(spec, stdio, syscall.SIGKILL)
	if err != nil {
		return Status{Code: err.Code}, err
	}
	defer c.close()
	if start, _, err := stat(c.pid); err == nil && started != nil {
		started(c.pid, start)
	}
	done := ctx.Done()
	for {
		select {
		case status := <-c.ended:
			return status, nil
		case <-c.stopped:
			if suspend() {
				c.signal(syscall.SIGCONT)
			}
		case s := <-signals.c:
			if !byTerminal(s) {
				c.signal(s.(syscall.Signal))
			}
		case <-done:
			c.signal(syscall.SIGTERM)
			done = nil
		}
	}
}
