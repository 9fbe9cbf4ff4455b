package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a command that we started and wait for.
type child struct {
	pid     int
	pidfd   int
	ended   chan Status   // gets one
	stopped chan struct{} // a hint that it was suspended
}

// start starts the command, with the signal that the kernel sends it when we
// die (0 for none). It returns when exec has succeeded or failed.
func start(spec Spec, stdio Stdio, onDeath syscall.Signal) (*child, *Error) {
	if len(spec.Args) == 0 {
		return nil, failed("command: start: none given")
	}
	c := &child{ended: make(chan Status, 1), stopped: make(chan struct{}, 1)}
	started := make(chan *Error)
	aside(func() {
		err := c.fork(spec, stdio, onDeath)
		started <- err
		if err == nil {
			c.wait()
		}
	})
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// aside runs f on a thread of its own, which ends with f: nobody else may use
// a thread that has entered other namespaces. It is never the first thread:
// that one stands for the whole process in /proc/PID/ns.
func aside(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked // keeps the other goroutine off this thread
		runtime.UnlockOSThread()
	}()
}

// fork runs on the command's own thread.
func (c *child) fork(spec Spec, stdio Stdio, onDeath syscall.Signal) *Error {
	if spec.Env == nil {
		spec.Env = os.Environ()
	}
	if err := spec.enter(); err != nil {
		return &Error{CodeFailed, err}
	}
	path, failure := lookPath(spec.Args[0], spec.Env)
	if failure != nil {
		return failure
	}
	pid, err := syscall.ForkExec(path, spec.Args, &syscall.ProcAttr{
		Env:   spec.Env,
		Files: stdio.descriptors(),
		Sys:   &syscall.SysProcAttr{Pdeathsig: onDeath, PidFD: &c.pidfd, Setpgid: spec.Group},
	})
	if err != nil {
		return &Error{codeOf(err), fmt.Errorf("%s: execute: %w", spec.Args[0], err)}
	}
	c.pid = pid
	return nil
}

// codeOf tells what kept exec from succeeding. A script whose interpreter is
// missing gives ENOENT, as a missing command does.
func codeOf(err error) int {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return CodeNotFound
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOMEM):
		return CodeFailed
	}
	return CodeCannot
}

// wait reports what becomes of the command. It stays on the thread that
// forked it, for the kernel's death signal is about that thread.
func (c *child) wait() {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(c.pid, &ws, unix.WUNTRACED, nil)
		switch {
		case err == unix.EINTR:
		case err != nil: // somebody else has waited for it
			c.ended <- Status{Code: CodeFailed}
			return
		case ws.Stopped():
			select {
			case c.stopped <- struct{}{}:
			default:
			}
		case ws.Signaled():
			c.ended <- Status{Code: 128 + int(ws.Signal()), Signal: ws.Signal().String()}
			return
		case ws.Exited():
			c.ended <- Status{Code: ws.ExitStatus()}
			return
		}
	}
}

// signal sends s. A command that has ended gets none, nor does anybody who
// has its number now.
func (c *child) signal(s syscall.Signal) { unix.PidfdSendSignal(c.pidfd, s, nil, 0) }

func (c *child) close() { unix.Close(c.pidfd) }

// descriptors returns the three files, ours where none is given.
func (s Stdio) descriptors() []uintptr {
	var fds []uintptr
	for i, f := range []*os.File{s.In, s.Out, s.Err} {
		fd := uintptr(i)
		if f != nil {
			fd = f.Fd()
		}
		fds = append(fds, fd)
	}
	return fds
}
