package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel/process"
)

// TestMain lets the test binary be the supervisor of detached commands.
func TestMain(m *testing.M) {
	process.Stage()
	os.Exit(m.Run())
}

// TestRun runs commands in the host's namespace: the kernel of the daemon is in
// memory, so there is no other to enter.
func TestRun(t *testing.T) {
	daemon(t)
	for _, c := range []struct {
		args   []string
		status int
		err    string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"--", "sh", "-c", "exit 7"}, 7, ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 137, ""},
		{[]string{"-h", "foo", "sh", "-c", "exit 9"}, 125, "sealane: sandbox (new): create: host names are for a namespace of its own\n"},
		{[]string{"-e", "A=b", "-w", "/", "sh", "-c", `test "$A $PWD" = "b /"`}, 0, ""},
		{[]string{"no-such-command"}, 127, "sealane: no-such-command: execute: not found in PATH\n"},
		{[]string{"/etc/passwd"}, 126, "sealane: /etc/passwd: execute: permission denied\n"},
		{[]string{"-d", "no-such-command"}, 127, "sealane: no-such-command: execute: not found in PATH\n"},
		{[]string{"-w", "/nonexistent", "true"}, 125, "sealane: /nonexistent: change directory: no such file or directory\n"},
	} {
		before := sealane("", "ps", "-aq").out
		got := sealane("", append([]string{"run", "--network", "host"}, c.args...)...)
		if got != (result{c.status, "", c.err}) {
			t.Errorf("run %q: %+v, want %d %s", c.args, got, c.status, c.err)
		}
		if after := sealane("", "ps", "-aq").out; c.err != "" && after != before {
			t.Errorf("run %q: left a sandbox", c.args)
		}
		sealane("", append([]string{"run", "--network", "host", "--rm"}, c.args...)...)
	}
	if got := sealane("", "ps", "-a", "--format", "{{.Status.Message}}"); got.out != "exit status 0\nexit status 7\nexit status 137, killed\nexit status 0\n" {
		t.Errorf("ps -a: %+v", got)
	}
}

func TestExec(t *testing.T) {
	daemon(t)
	sealane("", "run", "--name", "ended", "--network", "host", "true")
	if got := sealane("", "exec", "ended", "true"); got.status != 125 || got.err != "sealane: sandbox ended: exec: has ended: exit status 0\n" {
		t.Errorf("in one that ended: %+v", got)
	}
	// A namespace that is there needs no daemon to be entered.
	t.Setenv("SEALANE_SOCKET", "/nonexistent/s")
	if got := sealane("", "exec", "netns:/proc/self/ns/net", "--", "sh", "-c", "exit 5"); got != (result{status: 5}) {
		t.Errorf("in our own: %+v", got)
	}
}

func TestDetached(t *testing.T) {
	daemon(t)
	got := sealane("", "run", "-d", "--name", "d", "--network", "host", "sh", "-c", "echo out; echo err >&2; exit 3")
	if id := sealane("", "inspect", "--format", "{{.ID}}", "d"); got.status != 0 || got.out != id.out {
		t.Fatalf("run -d: %+v, inspect: %+v", got, id)
	}
	dir := strings.TrimSpace(sealane("", "inspect", "--format", "{{.Dir}}", "d").out)
	if e := awaitExit(t, dir); e.Code != 3 {
		t.Errorf("exit file: %+v", e)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "output")); !strings.HasPrefix(string(b), "out\nerr\n") { // a coverage build adds a warning
		t.Errorf("output %q, %v", b, err)
	}
}

// TestDaemonGoes: a command in the foreground outlives the daemon, its exit
// status is passed on, and left for the next daemon.
func TestDaemonGoes(t *testing.T) {
	_, stop := stoppable(t)
	gate := filepath.Join(t.TempDir(), "gate")
	started, done := gate+".started", make(chan result, 1)
	go func() {
		done <- sealane("", "run", "--network", "host", "sh", "-c", "touch "+started+"; until test -e "+gate+"; do sleep 0.02; done; exit 6")
	}()
	eventually(t, func() bool { _, err := os.Stat(started); return err == nil })
	dir := strings.TrimSpace(sealane("", "ps", "--format", "{{.Dir}}").out)
	stop()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != (result{status: 6}) {
		t.Errorf("run: %+v", got)
	}
	if e := awaitExit(t, dir); e.Code != 6 || time.Since(e.At) > time.Minute {
		t.Errorf("exit file: %+v", e)
	}
}

func awaitExit(t *testing.T, dir string) process.Exit {
	t.Helper()
	file := filepath.Join(dir, "exit")
	eventually(t, func() bool { _, err := os.Stat(file); return err == nil })
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var e process.Exit
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not come to pass")
		}
	}
}
