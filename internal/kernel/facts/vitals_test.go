package facts

import (
	"os"
	"path/filepath"
	"testing"
)

func TestVitals(t *testing.T) {
	dir := t.TempDir()
	v := ReadVitals(dir)
	if v.StateDir.Err != nil || v.StateDir.Size == 0 || v.Files.Used == 0 || v.Files.Most == 0 {
		t.Errorf("%+v", v)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if v := ReadVitals(filepath.Join(dir, "none")); v.StateDir.Err == nil {
		t.Errorf("%+v", v.StateDir)
	}
}

func TestEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	for text, want := range map[string]int{"": 0, "entries\n": 0, "entries x\n00000078 1\n": 120, "entries\nzz 1\n": 0} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := entries(path); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	if got := entries(path + "x"); got != 0 {
		t.Errorf("no file: %d", got)
	}
}
