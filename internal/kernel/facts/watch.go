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
// have changed, until ctx is done. It watches their directories, for such files
// are usually replaced; a directory that is not there is left out.
func WatchResolvConf(ctx context.Context, changed func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	defer f.Close()
	names := map[string]bool{}
	for _, path := range []string{resolvConf, resolvUpstream} {
		names[filepath.Base(path)] = true
		for _, watched := range []string{filepath.Dir(path), path} { // the file itself may be mounted from elsewhere
			_, err := unix.InotifyAddWatch(fd, watched, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_CREATE|unix.IN_DELETE)
			if err != nil && !errors.Is(err, unix.ENOENT) {
				return os.NewSyscallError("inotify_add_watch", err)
			}
		}
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
		if mentions(buf[:n], names) {
			changed()
		}
	}
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
