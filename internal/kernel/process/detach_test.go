package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// detach runs a client with -d and returns the command it leaves behind.
func detach(t *testing.T, spec Spec) (pid int, start uint64, exitFile string) {
	t.Helper()
	exitFile = t.TempDir() + "/exit"
	cmd := runner(t, spec, exitFile)
	got := finished(cmd)
	if _, err := fmt.Sscan(got.out, &pid, &start); err != nil || got.code != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	t.Cleanup(func() { Kill(pid, start, unix.SIGKILL) })
	return pid, start, exitFile
}

func exitOf(t *testing.T, path string) Exit {
	t.Helper()
	eventually(t, "the exit file", func() bool { return exists(path) })
	var e Exit
	if err := json.Unmarshal([]byte(read(t, path)), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDetach(t *testing.T) {
	path, inode := newNetns(t)
	gate := t.TempDir() + "/gate"
	begin := time.Now()
	pid, start, exitFile := detach(t, Spec{NetNS: path, Args: sh(
		"readlink /proc/self/ns/net; tty; echo oops >&2; pwd; until test -e " + gate + "; do sleep 0.02; done; exit 7")})
	if !Alive(pid, start) {
		t.Fatal("it does not live on after the client")
	}
	if exists(exitFile) {
		t.Fatal("an exit file while it runs")
	}
	if now, _, err := stat(pid); err != nil || now != start {
		t.Errorf("started at %d, %v; reported %d", now, err, start)
	}
	wait, err := Watch(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := wait(ctx); err != nil {
		t.Fatal(err)
	}
	e := exitOf(t, exitFile)
	if e.Code != 7 || e.Signal != "" || e.At.Before(begin) || e.At.After(time.Now()) {
		t.Errorf("%+v", e)
	}
	dir, _ := os.Getwd()
	want := fmt.Sprintf("net:[%d]\nnot a tty\noops\n%s\n", inode, dir)
	if got := read(t, exitFile+".out"); got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if exists(exitFile + ".new") {
		t.Error("a temporary file is left")
	}
}

func TestDetachAppends(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		exitFile := dir + "/exit"
		os.Remove(exitFile)
		if got := finished(runner(t, Spec{Args: []string{"echo", "line"}}, exitFile)); got.code != 0 {
			t.Fatal(got)
		}
		exitOf(t, exitFile)
	}
	if got := read(t, dir+"/exit.out"); got != "line\nline\n" {
		t.Errorf("%v", got)
	}
}

func TestDetachFails(t *testing.T) {
	for code, spec := range map[int]Spec{
		127: {Args: []string{"no-such-command"}},
		126: {Args: []string{"/etc"}},
		125: {Args: []string{"true"}, NetNS: "/no/such/ns"},
	} {
		exitFile := t.TempDir() + "/exit"
		got := finished(runner(t, spec, exitFile))
		want := run(t, spec)
		if got != want || got.code != code || got.err == "" {
			t.Errorf("%d: got %v, in the foreground %v", code, got, want)
		}
		if exists(exitFile) {
			t.Error("an exit file of a command that never ran")
		}
	}
}

// The supervisor takes no orders but SIGTERM, which is for the command.
func TestSupervisorSignals(t *testing.T) {
	pid, start, exitFile := detach(t, Spec{Args: []string{"sleep", "60"}})
	supervisor := parent(t, pid)
	if name := read(t, fmt.Sprintf("/proc/%d/cmdline", supervisor)); strings.TrimRight(name, "\x00") != supervisorName {
		t.Fatalf("its parent is %q", name)
	}
	if sid, err := unix.Getsid(supervisor); err != nil || sid != supervisor {
		t.Errorf("session %d, %v", sid, err)
	}
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT} {
		unix.Kill(supervisor, sig)
	}
	time.Sleep(100 * time.Millisecond)
	if !Alive(pid, start) {
		t.Fatal("the command died of a signal to its supervisor")
	}
	unix.Kill(supervisor, unix.SIGTERM)
	if e := exitOf(t, exitFile); e.Code != 143 || e.Signal != "terminated" {
		t.Errorf("%+v", e)
	}
	eventually(t, "the supervisor ends", func() bool { return !exists(fmt.Sprintf("/proc/%d", supervisor)) })
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	status := read(t, fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(status, "\nPPid:\t")
	line, _, _ := strings.Cut(rest, "\n")
	ppid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

// Nothing that the client's caller left open stays open: whoever reads that
// pipe to its end would wait for the command.
func TestDetachLeavesPipes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	exitFile := t.TempDir() + "/exit"
	cmd := runner(t, Spec{Args: []string{"sleep", "60"}}, exitFile)
	cmd.ExtraFiles = []*os.File{w, w, w, w} // past what a supervisor gets
	got := finished(cmd)                    // reads standard output and error to the end, too
	w.Close()
	var pid int
	var start uint64
	if _, err := fmt.Sscan(got.out, &pid, &start); err != nil {
		t.Fatal(got, err)
	}
	defer Kill(pid, start, unix.SIGKILL)
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := r.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the pipe is open: %v", err)
	}
}

func TestWatch(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	start, _, err := stat(pid)
	if err != nil {
		t.Fatal(err)
	}
	// A PID that is used again has another start time.
	if Alive(pid, start+1) {
		t.Error("another process's start time: alive")
	}
	if _, err := Watch(pid, start+1); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("another process's start time: watch: %v", err)
	}
	if err := Kill(pid, start+1, unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("another process's start time: kill: %v", err)
	}
	if !Alive(pid, start) {
		t.Fatal("it died of a signal to another")
	}
	wait, err := Watch(pid, start)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a process that runs: %v", err)
	}
	if wait, err = Watch(pid, start); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { Kill(pid, start, unix.SIGKILL) })
	if err := wait(context.Background()); err != nil {
		t.Errorf("a process that ended: %v", err)
	}
	if Alive(pid, start) { // nobody has waited for it
		t.Error("a zombie is alive")
	}
	cmd.Wait()
	if err := Kill(pid, start, unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a process that is gone: %v", err)
	}
}

func TestKillAll(t *testing.T) {
	path, inode := newNetns(t)
	// A command that breeds, and ignores what it can.
	pid, start, exitFile := detach(t, Spec{NetNS: path, Args: sh("trap '' TERM HUP; while :; do (sleep 0.01; sleep 60) & sleep 0.02; done")})
	supervisor := parent(t, pid)
	time.Sleep(100 * time.Millisecond)
	if err := KillAll(inode); err != nil {
		t.Fatal(err)
	}
	if Alive(pid, start) {
		t.Error("the command is alive")
	}
	if n, err := killOnce(namespaceName(inode)); err != nil || n != 0 {
		t.Errorf("%d processes left, %v", n, err)
	}
	if e := exitOf(t, exitFile); e.Code != 137 || e.Signal != "killed" {
		t.Errorf("%+v", e)
	}
	eventually(t, "the supervisor ends", func() bool { return !exists(fmt.Sprintf("/proc/%d", supervisor)) })
	// Not with KillAll itself: should the check be broken, so were the machine.
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	if err := refuse(st.Ino); err == nil {
		t.Error("our own namespace is not refused")
	}
	if err := refuse(inode); err != nil {
		t.Error(err)
	}
}
