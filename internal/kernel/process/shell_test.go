package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestShell(t *testing.T) {
	env := []string{"PATH=" + os.Getenv("PATH"), "SUBNET=10.5.2.0/24"}
	status, out, errs, err := Shell(t.Context(), `read a; echo "$a $SUBNET $#"; pwd; env | grep -c HOME; echo oh >&2; exit 3`, env, "data\n")
	if err != nil || status.Code != 3 || string(out) != "data 10.5.2.0/24 0\n/\n0\n" || string(errs) != "oh\n" {
		t.Errorf("%v, %q, %q, %v", status, out, errs, err)
	}
	// Who reads nothing, and who leaves somebody behind with its files, do not make it wait.
	began := time.Now()
	_, out, _, err = Shell(t.Context(), "sleep 60 & echo there", env, strings.Repeat("x", 1<<20))
	if took := time.Since(began); err != nil || string(out) != "there\n" || took > 20*time.Second {
		t.Errorf("%q, %v after %v", out, err, took)
	}
	if status, _, errs, err := Shell(t.Context(), "none-such", env, ""); err != nil || status.Code != CodeNotFound || len(errs) == 0 {
		t.Errorf("no such command: %v, %q, %v", status, errs, err)
	}
}

// The whole group goes, also what the command waits for.
func TestShellTimeout(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	status, _, _, err := Shell(ctx, fmt.Sprintf("sh -c 'echo $$ > %s; sleep 600; :'; :", note), []string{"PATH=" + os.Getenv("PATH")}, "")
	if !errors.Is(err, context.DeadlineExceeded) || status.Signal != "killed" {
		t.Fatalf("%v, %v", status, err)
	}
	pid, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("is there still: %s", stat)
		}
	}
}
