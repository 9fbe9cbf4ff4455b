package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	after := " S 1" + strings.Repeat(" 0", 17) + " 4711 0 0\n"
	for _, name := range []string{"(sh)", "(a b)", "(a) Z 1 2)", "(\n)", "()"} {
		if start, state, err := parseStat([]byte("12 " + name + after)); start != 4711 || state != 'S' || err != nil {
			t.Errorf("%q: %d %c %v", name, start, state, err)
		}
	}
	for _, bad := range []string{"", ")", "12 (sh) S 1", "12 (sh)" + strings.Repeat(" x", 20)} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (a) b) S 1" + strings.Repeat(" 0", 17) + " 4711 0 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, state, err := parseStat(data); err == nil && state == 0 {
			t.Error("no state")
		}
	})
}

func TestStart(t *testing.T) {
	_, want, err := Self()
	if got, failed := Start(os.Getpid()); err != nil || failed != nil || got != want {
		t.Errorf("self: %d %v, want %d %v", got, failed, want, err)
	}
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "zombie", func() bool { return strings.Contains(read(t, fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)), ") Z ") })
	if _, err := Start(cmd.Process.Pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("zombie: %v", err)
	}
	cmd.Wait()
	if _, err := Start(cmd.Process.Pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("gone: %v", err)
	}
}
