package runtime

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sealane/sealane/internal/model"
)

// nested is a runtime with a directory for each guest, which are deep.
type nested struct{ root string }

func (n nested) dirs(g model.Guest, _ func(string) string) []string {
	return []string{filepath.Join(n.root, "a/b", g.Name)}
}

func (n nested) concerns(path string, g model.Guest) bool {
	return filepath.Base(path) == "pidfile" && filepath.Base(filepath.Dir(path)) == g.Name
}

// startTree watches the guests, and returns who are hinted.
func startTree(t *testing.T, root string, guests ...model.Guest) (*tree, <-chan model.Guest) {
	t.Helper()
	in, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	hints := make(chan model.Guest)
	w := &watcher{in: hints, changed: make(chan struct{}, 1)}
	w.set(guests)
	tr := newTree(nested{root}, w, in)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { tr.run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; in.Close() })
	return tr, hints
}

// hinted awaits that a guest is hinted, and that nothing follows. Between the two
// others may be.
func hinted(t *testing.T, what string, hints <-chan model.Guest, g model.Guest) {
	t.Helper()
	was := false
	for {
		wait := patience
		if was {
			wait = 50 * time.Millisecond
		}
		select {
		case h := <-hints:
			was = was || h == g
			continue
		case <-time.After(wait):
		}
		if !was {
			t.Fatalf("%s: no hint", what)
		}
		return
	}
}

func TestTree(t *testing.T) {
	root := t.TempDir()
	web := model.Guest{Runtime: model.RuntimePodman, Name: "web"}
	tr, hints := startTree(t, root, web)
	hinted(t, "new", hints, web)
	pidfile := filepath.Join(root, "a/b/web/pidfile")
	write := func() {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(pidfile), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pidfile, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		write()
		hinted(t, "directories and file", hints, web)
		write()
		hinted(t, "written again", hints, web)
		if err := os.RemoveAll(filepath.Join(root, "a")); err != nil {
			t.Fatal(err)
		}
		hinted(t, "removed", hints, web)
	}
	write()
	hinted(t, "directories and file", hints, web)
	// Another directory of that name, which the directory does not tell: as something
	// that was mounted over it.
	if err := os.Rename(filepath.Join(root, "a/b"), filepath.Join(root, "a/old")); err != nil {
		t.Fatal(err)
	}
	write()
	wake(tr.w.changed)
	hinted(t, "replaced", hints, web)
	write()
	hinted(t, "written in the other", hints, web)
	tr.in.Errors <- fsnotify.ErrEventOverflow
	hinted(t, "events lost", hints, web)
	db := model.Guest{Runtime: model.RuntimePodman, Name: "db"}
	tr.w.set([]model.Guest{web, db})
	hinted(t, "another", hints, db)
}

// TestTreeBlind has a directory that cannot be watched, beside one that can.
func TestTreeBlind(t *testing.T) {
	root := t.TempDir()
	long := model.Guest{Runtime: model.RuntimePodman, Name: strings.Repeat("x", 300)}
	web := model.Guest{Runtime: model.RuntimePodman, Name: "web"}
	_, hints := startTree(t, root, long, web)
	hinted(t, "new", hints, web)
	if err := os.MkdirAll(filepath.Join(root, "a/b/web"), 0o755); err != nil {
		t.Fatal(err)
	}
	hinted(t, "directory", hints, web)
	if err := os.WriteFile(filepath.Join(root, "a/b/web/pidfile"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	hinted(t, "file", hints, web)
}
