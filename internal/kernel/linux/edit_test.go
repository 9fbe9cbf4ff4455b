package linux

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel/kerneltest"
	"github.com/sealane/sealane/internal/kstate"
)

// TestEditedFiles has the user of a sandbox write into its files. That is
// nothing to repair, and stays when ours changes.
func TestEditedFiles(t *testing.T) {
	for _, c := range []struct {
		name, ours, user, next, want string
	}{
		{"hosts", "a\nb\n", "a\nb\nmine\n", "a\nc\n", "a\nmine\nc\n"},
		{"hosts", "a\nb\n", "a\nb\nmine", "a\nc\n", "a\nmine\nc\n"},
		{"hosts", "a\nb\nb\n", "b\nmine\nb\na\n", "a\nb\n", "mine\nb\na\n"},
		{"hosts", "a\nb\n", "", "a\nc\n", "c\n"},
		{"hosts", "a\n", "a\nb\n", "a\nb\n", "a\nb\n"},
		{"resolv.conf", "nameserver 127.0.0.11\n", "nameserver 192.0.2.1\n", "nameserver 127.0.0.11\noptions ndots:0\n", "nameserver 192.0.2.1\n"},
		{"resolv.conf", "a\n", "a\n", "b\n", "b\n"},
	} {
		k, dir := start(t)
		path := filepath.Join(dir, "sandboxes/a", c.name)
		first, next := kstate.File{Path: path, Content: c.ours}, kstate.File{Path: path, Content: c.next}
		apply(t, k, kerneltest.Adds(first)...)
		rewrite(t, path, c.user)
		if seen := observe(t, k)[first.Key()]; seen != first {
			t.Errorf("%s changed to %q: seen as %v", c.name, c.user, seen)
		}
		for range 2 { // the second time nothing changes
			apply(t, k, kstate.Op{Old: first, New: next})
			if got := text(t, path); got != c.want {
				t.Errorf("%s, ours %q, then %q, now %q: %q, want %q", c.name, c.ours, c.user, c.next, got, c.want)
			}
			if seen := observe(t, k)[next.Key()]; seen != next {
				t.Errorf("%s: seen as %v afterwards", c.name, seen)
			}
		}
	}
}

// TestFileCutShort was being written when the daemon died: it is no user's.
func TestFileCutShort(t *testing.T) {
	k, dir := start(t)
	f := kstate.File{Path: filepath.Join(dir, "sandboxes/a/resolv.conf"), Content: "nameserver 127.0.0.11\n"}
	apply(t, k, kerneltest.Adds(f)...)
	rewrite(t, f.Path, "nameserver 127.0.0.11\nns 1\n")
	if err := unix.Removexattr(f.Path, written); err != nil {
		t.Fatal(err)
	}
	if seen := observe(t, k)[f.Key()]; seen == f {
		t.Error("nothing to repair")
	}
	apply(t, k, kstate.Op{Old: f, New: f})
	if got := text(t, f.Path); got != f.Content {
		t.Errorf("%q", got)
	}
}

// TestHugeFile is not read to its end, nor written.
func TestHugeFile(t *testing.T) {
	k, dir := start(t)
	f := kstate.File{Path: filepath.Join(dir, "sandboxes/a/hosts"), Content: "a\n"}
	apply(t, k, kerneltest.Adds(f)...)
	huge := string(bytes.Repeat([]byte("b\n"), maxFile))
	rewrite(t, f.Path, huge)
	if seen := observe(t, k)[f.Key()]; seen != f {
		t.Errorf("seen as %v", seen)
	}
	apply(t, k, kstate.Op{Old: f, New: kstate.File{Path: f.Path, Content: "c\n"}})
	if got := text(t, f.Path); got != huge {
		t.Errorf("%d bytes are left", len(got))
	}
}

func rewrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
