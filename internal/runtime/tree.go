package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sealane/sealane/internal/model"
)

// files is a runtime whose containers show in directories.
type files interface {
	// dirs lists those in which something changes when the guest may have, and single
	// files that do. They need not exist. real follows a directory's links.
	dirs(g model.Guest, real func(dir string) string) []string
	// concerns reports whether a change of the file may concern the guest.
	concerns(path string, g model.Guest) bool
}

// Waits of a tree. Directories come and go in bursts; what cannot be watched, and
// what was mounted over or moved with a directory above, is looked at now and then.
const (
	treeSettle = 2 * time.Millisecond
	treeAgain  = time.Minute
)

// tree watches the directories of a runtime, also those that do not exist yet: it
// watches the next one above that does, and looks again when there is news in it.
//
//	wanted    /run/x/ID/userdata                 missing
//	watched   /run/x                             the next one above
//	awaited   /run/x/ID                          whose coming brings us closer
type tree struct {
	files   files
	w       *watcher
	in      *fsnotify.Watcher
	watched map[string]os.FileInfo
	awaited map[string]bool
	blind   bool // some could not be watched
}

// watchFiles hints the guests of a runtime that shows in files.
func watchFiles(ctx context.Context, w *watcher, f files) {
	for {
		in, err := fsnotify.NewWatcher()
		if err == nil {
			newTree(f, w, in).run(ctx)
			in.Close()
		}
		w.hint(ctx, w.guests()...)
		if !rest(ctx, treeAgain) {
			return
		}
	}
}

func newTree(f files, w *watcher, in *fsnotify.Watcher) *tree {
	return &tree{files: f, w: w, in: in, watched: map[string]os.FileInfo{}, awaited: map[string]bool{}}
}

// rest waits, and reports false when ctx is done meanwhile.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// run ends when ctx is done.
func (t *tree) run(ctx context.Context) {
	var soon, later <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.w.changed:
			soon = time.After(0)
		case e, ok := <-t.in.Events:
			if !ok {
				return
			}
			if t.event(ctx, e) && soon == nil {
				soon = time.After(treeSettle)
			}
		case err, ok := <-t.in.Errors:
			if !ok {
				return
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				t.w.hint(ctx, t.w.guests()...)
			}
			soon = time.After(treeSettle)
		case <-later:
			if t.blind {
				t.w.hint(ctx, t.w.guests()...)
			}
			soon = time.After(0)
		case <-soon:
			t.look(ctx)
			soon, later = nil, time.After(treeAgain)
		}
	}
}

// event hints the guests that an event concerns, and reports whether directories
// may be there to watch, or are no more.
func (t *tree) event(ctx context.Context, e fsnotify.Event) (again bool) {
	if e.Op == fsnotify.Chmod {
		return false
	}
	if e.Has(fsnotify.Remove|fsnotify.Rename) && t.watched[e.Name] != nil {
		_ = t.in.Remove(e.Name) // it may have ended by itself
		delete(t.watched, e.Name)
		again = true
	}
	for _, g := range t.w.guests() {
		if t.files.concerns(e.Name, g) {
			again = true
			t.w.hint(ctx, g)
		}
	}
	return again || t.awaited[e.Name]
}

// look watches what is wanted now, and hints those guests of whom something is
// watched that was not: it may have changed before.
func (t *tree) look(ctx context.Context) {
	guests, fresh := t.w.guests(), map[model.Guest]bool{}
	for _, g := range t.w.fresh() {
		fresh[g] = true
	}
	t.awaited, t.blind = map[string]bool{}, false
	use, looked, real := map[string]bool{}, map[string]bool{}, followed()
	var hints []model.Guest
	for _, g := range guests {
		news := fresh[g]
		for _, dir := range t.files.dirs(g, real) {
			added, known := looked[dir] // thousands of namespaces are in one directory
			if !known {
				added = t.add(dir, use)
				looked[dir] = added
			}
			news = added || news
		}
		if news {
			hints = append(hints, g)
		}
	}
	for dir := range t.watched {
		if !use[dir] {
			_ = t.in.Remove(dir)
			delete(t.watched, dir)
		}
	}
	t.w.hint(ctx, hints...)
}

// followed returns what follows the links of a directory, once for each.
func followed() func(string) string {
	known := map[string]string{}
	return func(dir string) string {
		if real, ok := known[dir]; ok {
			return real
		}
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			real = dir
		}
		known[dir] = real
		return real
	}
}

// add watches a directory, or the next one above that exists. It reports whether
// that was not watched before.
func (t *tree) add(dir string, use map[string]bool) (news bool) {
	dir = filepath.Clean(dir)
	for at, below := dir, ""; ; {
		added, err := t.watch(at)
		if missing(err) && at != filepath.Dir(at) {
			at, below = filepath.Dir(at), at
			continue
		}
		if err != nil {
			t.blind = true
			return news
		}
		use[at] = true
		if below == "" {
			return news || added
		}
		if t.awaited[below] = true; !added {
			return news
		}
		news = true
		if _, err := os.Lstat(below); err != nil {
			return news
		}
		at, below = dir, "" // it came to be before we watched for that
	}
}

// watch watches an existing directory, and reports whether it was not before, or
// was another.
func (t *tree) watch(dir string) (added bool, err error) {
	now, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	if was := t.watched[dir]; was != nil && os.SameFile(was, now) {
		return false, nil
	} else if was != nil {
		_ = t.in.Remove(dir)
		delete(t.watched, dir)
	}
	if err = t.in.Add(dir); err == nil {
		t.watched[dir] = now
	}
	return err == nil, err
}

// missing reports whether a file is not there.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
