package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollEvery is how often a file is looked at when nothing says that it has changed.
const pollEvery = time.Second

// fileWatch is one Watch of a file.
type fileWatch struct {
	file   *File
	prefix string
	rev    int64 // up to where it was told
	id     string
	told   bool        // something was sent
	seen   fs.FileInfo // the file that was last read; nil: none
	looked bool
	bad    time.Time // since when the file cannot be read; zero: it can
	expiry time.Time // when the first key goes
	in     chan<- Batch
}

// Watch implements Store.
func (f *File) Watch(ctx context.Context, prefix string, after int64) <-chan Batch {
	in := make(chan Batch)
	out := Merge(ctx, in)
	w := &fileWatch{file: f, prefix: prefix, rev: after, in: in}
	go func() {
		defer close(in)
		if err := w.run(ctx); ctx.Err() == nil {
			w.send(ctx, Batch{Rev: w.rev, Err: err})
		}
	}()
	return out
}

// run looks at the file whenever it may have changed.
func (w *fileWatch) run(ctx context.Context) error {
	n := newNotifier(w.file)
	defer n.close()
	for {
		if err := w.look(ctx); err != nil {
			return err
		}
		timer := time.NewTimer(w.wait())
		select {
		case <-n.events():
		case <-timer.C:
			n.add()
		case <-ctx.Done():
		case <-w.file.closed.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.file.closed.Err() != nil {
			return fmt.Errorf("store %s: watch: %w: it was closed", w.file.path, ErrAway)
		}
	}
}

// wait is how long nothing needs to be looked at.
func (w *fileWatch) wait() time.Duration {
	if w.expiry.IsZero() {
		return pollEvery
	}
	return max(time.Millisecond, min(pollEvery, time.Until(w.expiry)))
}

// look tells what is new in the file. It is an error if no more can be told.
func (w *fileWatch) look(ctx context.Context) error {
	over := !w.expiry.IsZero() && !time.Now().Before(w.expiry)
	if w.looked && w.bad.IsZero() && !over && w.seen != nil && same(w.seen, w.file.stat()) {
		return nil
	}
	if over {
		// Who comes first writes what went. If it cannot be written, it goes later.
		_, _, _ = w.file.Commit(ctx, Txn{})
	}
	var doc *document
	var info fs.FileInfo
	err := w.file.within(ctx, "watch", func(context.Context) (err error) {
		doc, info, err = w.file.read()
		return err
	})
	if err != nil {
		return w.unreadable(err)
	}
	w.seen, w.looked, w.bad = info, true, time.Time{}
	if w.expiry = doc.table.expiry(); over && !w.expiry.After(time.Now()) {
		w.expiry = time.Now().Add(pollEvery)
	}
	return w.tell(ctx, doc)
}

// unreadable is an error once the file has been so for too long: who writes it by
// hand may be about to finish.
func (w *fileWatch) unreadable(err error) error {
	if w.looked = false; w.bad.IsZero() {
		w.bad = time.Now()
	}
	if errors.Is(err, ErrAway) && time.Since(w.bad) < Patience {
		return nil
	}
	return err
}

// tell sends what a document has beyond what was told.
func (w *fileWatch) tell(ctx context.Context, doc *document) error {
	if doc.id != "" && w.id != "" && doc.id != w.id {
		return fmt.Errorf("store %s: watch: %w: it is another one", w.file.path, ErrCompacted)
	}
	b, err := doc.since(w.rev, w.prefix)
	if err != nil {
		return fmt.Errorf("store %s: watch: %w", w.file.path, err)
	}
	if w.id = doc.id; !w.told || len(b.Changes) > 0 {
		w.send(ctx, b)
	}
	w.told, w.rev = true, b.Rev
	return nil
}

func (w *fileWatch) send(ctx context.Context, b Batch) {
	select {
	case w.in <- b:
	case <-ctx.Done():
	}
}

// notifier is inotify's word that the file may have changed, as far as it gives it.
type notifier struct {
	file    *File
	watcher *fsnotify.Watcher // nil where there is none: then the clock has to do
}

func newNotifier(f *File) *notifier {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		w = nil
	}
	n := &notifier{f, w}
	n.add()
	return n
}

// add looks at the directory that the file is in by now.
func (n *notifier) add() {
	if n.watcher != nil {
		_ = n.watcher.Add(filepath.Dir(n.file.real()))
	}
}

// events is of the whole directory, which has little else.
func (n *notifier) events() <-chan fsnotify.Event {
	if n.watcher == nil {
		return nil
	}
	return n.watcher.Events
}

func (n *notifier) close() {
	if n.watcher != nil {
		_ = n.watcher.Close()
	}
}
