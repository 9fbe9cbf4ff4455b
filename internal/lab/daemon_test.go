package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// standIn is a daemon as the lab sees one: it becomes ready, notes that it was
// started, and stops when asked.
const standIn = `#!/bin/sh
trap 'echo msg=stopping >&2; exit 0' TERM
echo "$@" >> /run/started
echo level=INFO msg="not ready yet" >&2
sleep 0.05
echo level=INFO msg=ready >&2
while sleep 0.02; do :; done
`

func TestDaemon(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sealane"), []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	h := New(t).Host("a")
	started := func(want int) {
		t.Helper()
		got := h.Must("cat", "/run/started")
		if got != strings.Repeat("daemon --log-level debug\n", want) {
			t.Errorf("started:\n%swant %d times", got, want)
		}
	}
	h.Daemon("--log-level", "debug")
	started(1)
	h.Kill9()
	if strings.Contains(h.DaemonLog(), "stopping") {
		t.Error("it could say goodbye")
	}
	h.Restart() // after a kill
	started(2)
	h.Restart() // while it runs
	started(3)
	h.Stop()
	if !strings.HasSuffix(h.DaemonLog(), "msg=stopping\n") {
		t.Errorf("log:\n%s", h.DaemonLog())
	}
	if r := h.Run("pgrep", "-f", filepath.Join(dir, "sealane")); r.Code == 0 {
		t.Errorf("still running: %s", r.Stdout)
	}
}
