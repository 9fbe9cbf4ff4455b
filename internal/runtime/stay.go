package runtime

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Waits between attempts to connect. A runtime that starts makes its socket anew
// and answers soon after; a socket that nobody answers on is tried less and less.
const (
	retryFirst = 20 * time.Millisecond
	retryLast  = time.Minute
)

// stay calls connect until ctx is done. It returns when the connection has ended,
// and reports whether there was one. When there was none it is called again once
// the socket was made, and now and then; a socket without a path only now and then.
func stay(ctx context.Context, socket string, connect func(context.Context) bool) {
	made := sockets(ctx, socket)
	for wait := retryFirst; ctx.Err() == nil; {
		if connect(ctx) {
			wait = retryFirst
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-made:
			wait = retryFirst
			rest(ctx, wait) // it listens on it a moment after
		case <-t.C:
			wait = min(2*wait, retryLast)
		}
		t.Stop()
	}
}

// sockets hints when the file was made, or the directory that it is to be in. It
// hints nothing if that cannot be watched.
func sockets(ctx context.Context, path string) <-chan struct{} {
	made := make(chan struct{}, 1)
	if path == "" {
		return made
	}
	in, err := fsnotify.NewWatcher()
	if err != nil {
		return made
	}
	t := newTree(nil, nil, in)
	t.add(filepath.Dir(path), map[string]bool{})
	go func() {
		defer in.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case <-in.Errors:
				wake(made)
			case e := <-in.Events:
				if e.Has(fsnotify.Remove|fsnotify.Rename) && t.watched[e.Name] != nil {
					_ = in.Remove(e.Name)
					delete(t.watched, e.Name)
				}
				if t.watched[filepath.Dir(path)] == nil {
					t.add(filepath.Dir(path), map[string]bool{})
				}
				if e.Has(fsnotify.Create) && (e.Name == path || t.awaited[e.Name]) {
					wake(made)
				}
			}
		}
	}()
	return made
}
