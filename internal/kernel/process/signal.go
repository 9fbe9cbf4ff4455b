package process

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// signals are caught signals. They are caught rather than ignored, because
// a command inherits what is ignored and not what is caught.
type signals struct{ c chan os.Signal }

// catch catches signals from now on, except those that our caller chose to
// ignore (nohup): the command shall ignore them too.
func catch(sigs ...syscall.Signal) signals {
	s := signals{make(chan os.Signal, 64)}
	for _, sig := range sigs {
		if !signal.Ignored(sig) {
			signal.Notify(s.c, sig)
		}
	}
	return s
}

func (s signals) stop() { signal.Stop(s.c) }

// forwarded returns the signals that a command in the foreground gets through
// us. SIGCONT is none: whoever resumes us resumes the command, see suspend.
func forwarded() []syscall.Signal {
	return []syscall.Signal{
		unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
		unix.SIGWINCH, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
	}
}

// byTerminal reports whether a signal came from the terminal, which sends to
// the whole process group: the command has it already. Go does not tell the
// sender of a signal, so in the terminal's foreground every signal that a
// terminal sends is taken for one.
func byTerminal(s os.Signal) bool {
	group, ok := foreground()
	switch s {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		// Ctrl-Z may be read here only after it has stopped us and the shell
		// has resumed us in the background; the command must not stop again.
		return ok
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH:
		return ok && group == unix.Getpgrp()
	}
	return false
}

// foreground returns the foreground process group of our terminal, false if we
// have none.
func foreground() (int, bool) {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return group, err == nil
}

// suspend stops us, so that the shell sees its job stop and takes the
// terminal back, and returns true when the shell resumes us. Without a
// terminal there is no such shell, and it does nothing.
func suspend() bool {
	if _, ok := foreground(); !ok {
		return false
	}
	// Sent to this very thread, the signal stops us before the call returns.
	// Sent to the process, we might resume the command first.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
	return true
}
