package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is the keyboard and the screen of a pseudo terminal.
type terminal struct {
	*os.File
	far *os.File // what the program has

	mu     sync.Mutex // protects screen
	screen bytes.Buffer
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{File: near, far: far}
	t.Cleanup(func() { far.Close(); near.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := near.Read(buf)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.screen.Write(buf[:n])
			term.mu.Unlock()
		}
	}()
	return term
}

// start starts cmd as the session leader of the terminal.
func (term *terminal) start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.far, term.far, term.far
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// shows waits until the screen shows text, and clears it up to there.
func (term *terminal) shows(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		term.mu.Lock()
		screen := term.screen.String()
		if i := strings.Index(screen, text); i >= 0 {
			term.screen.Next(i + len(text))
			term.mu.Unlock()
			return
		}
		term.mu.Unlock()
		if time.Now().After(end) {
			t.Fatalf("%q is not on the screen: %q", text, screen)
		}
	}
}

func TestTerminal(t *testing.T) {
	path, _ := newNetns(t)
	term := newTerminal(t)
	cmd := runner(t, Spec{NetNS: path, Args: sh("tty; echo rea''dy; exec sleep 60")}, "")
	term.start(t, cmd)
	term.shows(t, term.far.Name())
	term.shows(t, "ready")
	term.Write([]byte{3}) // Ctrl-C
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit %d", code)
	}
}

// A program that handles Ctrl-C gets it once, and we stay with it.
func TestTerminalInterruptOnce(t *testing.T) {
	term := newTerminal(t)
	cmd := runner(t, Spec{Args: sh(`n=0; trap 'n=$((n+1)); echo int $n' INT; echo ready
		while ! test -e ` + t.TempDir() + `/never && test $n -lt 1; do sleep 0.02; done; sleep 0.3; sleep 0.1; echo total $n; exit 5`)}, "")
	term.start(t, cmd)
	term.shows(t, "ready")
	term.Write([]byte{3})
	term.shows(t, "total 1")
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit %d", code)
	}
}

// Ctrl-Z, bg, fg and Ctrl-C as with any other job of a shell.
func TestTerminalJobControl(t *testing.T) {
	term := newTerminal(t)
	client := runner(t, Spec{Args: sh("echo be''gun; exec sleep 60")}, "")
	shell := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	shell.Env = append(client.Env, "PS1=$ ", "CLIENT="+fmt.Sprintf("/proc/%d/exe", os.Getpid()))
	term.start(t, shell)
	keys := func(s string) { term.Write([]byte(s)) }
	// What resumes the job; a signal to our process alone is enough.
	for _, resume := range []string{"bg", "kill -CONT $(jobs -p)"} {
		keys("$CLIENT\n")
		term.shows(t, "begun")
		keys("\x1a") // Ctrl-Z
		term.shows(t, "Stopped")
		keys("echo sta''tus $?\n")
		term.shows(t, "status 147") // 128 + SIGSTOP
		keys("echo command $(ps -o stat= --ppid $(jobs -p))\n")
		term.shows(t, "command T")
		keys(resume + "\n")
		keys("sleep 0.1; echo command $(ps -o stat= --ppid $(jobs -p))\n")
		term.shows(t, "command S")
		keys("fg\n")
		term.shows(t, "$CLIENT")          // behind the prompt, if that comes after what was typed
		time.Sleep(50 * time.Millisecond) // no sign tells that fg has handed the terminal over
		keys("\x03")                      // Ctrl-C
		keys("echo sta''tus $?\n")
		term.shows(t, "status 130")
	}
}
