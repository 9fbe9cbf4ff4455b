package facts

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WatchResolvConf calls changed whenever a file that lists name servers may
// have changed, until ctx is done.
func WatchResolvConf(ctx context.Context, changed func()) error {
	return watch(ctx, changed, resolvConf, resolvUpstream)
}

// watch calls changed whenever one of the files may have changed. Such files are
// usually replaced, and often are links to one that is.
func watch(ctx context.Context, changed func(), paths ...string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	defer f.Close()
	w := watcher{fd, map[string]bool{}}
	if err := w.addAll(paths); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if !mentions(buf[:n], w.names) {
			continue
		}
		if err := w.addAll(paths); err != nil { // what was replaced is another file
			return err
		}
		changed()
	}
}

// watcher is an inotify instance and the names that matter in its directories.
// To watch again what is watched changes nothing.
type watcher struct {
	fd    int
	names map[string]bool
}

func (w watcher) addAll(paths []string) error {
	for _, path := range paths {
		if err := w.add(path); err != nil {
			return err
		}
	}
	return nil
}

// maxLinks is how many links the kernel follows (MAXSYMLINKS).
const maxLinks = 40

// add watches the directory of a file, the file itself, which may be mounted from
// elsewhere, and all that of what it links to.
func (w watcher) add(path string) error {
	for range maxLinks {
		if err := w.directory(path); err != nil {
			return err
		}
		if _, err := w.watch(path); err != nil {
			return err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return nil
}

// directory watches the directory of a file, or if it is not there the nearest
// above it, where it may appear.
func (w watcher) directory(path string) error {
	for {
		dir, name := filepath.Dir(path), filepath.Base(path)
		w.names[name] = true
		there, err := w.watch(dir)
		if there || err != nil || dir == path {
			return err
		}
		path = dir
	}
}

// watch reports whether there is something to watch.
func (w watcher) watch(path string) (bool, error) {
	const events = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_CREATE | unix.IN_DELETE
	_, err := unix.InotifyAddWatch(w.fd, path, events)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return false, nil
	case err != nil:
		return false, os.NewSyscallError("inotify_add_watch", err)
	}
	return true, nil
}

// mentions reports whether one of the events is about a file of names. An event
// is struct inotify_event (inotify(7)): 16 bytes, the last four of them the
// length of the name that follows, padded with zeros.
func mentions(events []byte, names map[string]bool) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		size := int(binary.NativeEndian.Uint32(events[12:]))
		events = events[unix.SizeofInotifyEvent:]
		if size == 0 || size > len(events) { // the file itself
			return true
		}
		if names[unix.ByteSliceToString(events[:size])] {
			return true
		}
		events = events[size:]
	}
	return false
}
