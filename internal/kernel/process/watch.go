package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Alive reports whether the process that was PID pid since start still runs.
// Start is field 22 of /proc/PID/stat, in clock ticks since boot: a PID is
// used again, the pair is not. A zombie does not run.
func Alive(pid int, start uint64) bool {
	begun, state, err := stat(pid)
	return err == nil && begun == start && state != 'Z' && state != 'X'
}

// Self returns our own PID and start time.
func Self() (pid int, start uint64, err error) {
	start, _, err = stat(os.Getpid())
	return os.Getpid(), start, err
}

// Watch returns a function that waits until the process of pid and start has
// ended. It returns nil then, or the error of ctx; call it once. A process that
// is gone already is os.ErrProcessDone.
func Watch(pid int, start uint64) (wait func(ctx context.Context) error, err error) {
	f, err := open(pid, start)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		defer f.Close()
		defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Now()) })()
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		err = raw.Read(func(fd uintptr) bool { return ended(int(fd)) })
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}, nil
}

// ended reports whether the process of a pidfd has ended: it is readable then.
func ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// Kill sends a signal to the process of pid and start and to no other. A
// process that is gone is os.ErrProcessDone.
func Kill(pid int, start uint64, sig syscall.Signal) error {
	f, err := open(pid, start)
	if err != nil {
		return err
	}
	defer f.Close()
	return send(f, pid, sig)
}

func send(f *os.File, pid int, sig syscall.Signal) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
	return wrap(pid, "signal", err)
}

// open returns the pidfd of pid if it began at start. The file holds on to the
// process, so what is true of it after opening stays true.
func open(pid int, start uint64) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, wrap(pid, "open", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if !Alive(pid, start) {
		f.Close()
		return nil, wrap(pid, "open", unix.ESRCH)
	}
	return f, nil
}

func wrap(pid int, op string, err error) error {
	if err == unix.ESRCH {
		err = os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("process %d: %s: %w", pid, op, err)
	}
	return nil
}

// stat returns when a process began and its state letter (proc_pid_stat(5)).
func stat(pid int) (start uint64, state byte, err error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	if start, state, err = parseStat(data); err != nil {
		err = fmt.Errorf("process %d: read state: %w", pid, err)
	}
	return start, state, err
}

func parseStat(data []byte) (start uint64, state byte, err error) {
	// Field 2 is the name in parentheses and may hold anything; field 3 and
	// the rest follow the last one.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("%d fields", len(fields))
	}
	start, err = strconv.ParseUint(string(fields[22-3]), 10, 64)
	return start, fields[0][0], err
}

// Start returns when the process pid began, see Alive. One that is gone, or a
// zombie, or a thread of another process is os.ErrProcessDone.
func Start(pid int) (uint64, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.EINVAL || err == unix.ENOENT { // a thread; ENOENT since Linux 6.15
		err = unix.ESRCH
	}
	if err != nil {
		return 0, wrap(pid, "open", err)
	}
	defer unix.Close(fd)
	start, state, err := stat(pid)
	if err != nil || state == 'Z' || state == 'X' {
		return 0, wrap(pid, "read state", unix.ESRCH)
	}
	return start, nil
}
