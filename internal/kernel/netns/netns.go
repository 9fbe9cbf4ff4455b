// Package netns opens, makes and removes network namespaces, and runs short
// pieces of code inside one. It knows nothing of what is in a namespace.
//
// A namespace of ours is held by a bind mount in one directory, as `ip netns`
// does it, so that other programs find it and it outlives the daemon.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Handle is an open network namespace. It keeps the namespace alive until Close.
type Handle struct {
	fd    int // not an os.File, which Go's poller would be asked to watch
	inode uint64
}

// Current opens the namespace of the calling thread.
func Current() (*Handle, error) {
	h, err := open("/proc/thread-self/ns/net")
	if err == nil {
		err = h.number()
	}
	return h.unless(err)
}

// Open opens the namespace that ns names: a bind mount, /proc/PID/ns/net or any
// other file of nsfs. A path that is gone, is no network namespace or has
// another inode than ns asks for is a kernel.ErrNoNamespace.
func Open(ns kstate.NS) (*Handle, error) {
	h, err := openPath(ns.Path)
	if err != nil {
		return nil, err
	}
	if ns.Inode != 0 && ns.Inode != h.inode {
		h.Close()
		return nil, fmt.Errorf("%s: inode is %d: %w", ns, h.inode, kernel.ErrNoNamespace)
	}
	return h, nil
}

// nowhere is what the kernel says of paths at which no namespace can be: the last
// two of sockets, and of devices that are not there.
var nowhere = []error{unix.ENOENT, unix.ESRCH, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ENXIO, unix.ENODEV}

func openPath(path string) (*Handle, error) {
	h, err := open(path)
	switch {
	case slices.ContainsFunc(nowhere, func(e error) bool { return errors.Is(err, e) }):
		return nil, fmt.Errorf("%s: %w", path, kernel.ErrNoNamespace)
	case err != nil:
		return nil, err
	}
	if err = h.identify(); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return h.unless(err)
}

// open opens a file. Nonblocking, and no terminal of ours: the path was given to us and
// might be a FIFO or a terminal.
func open(path string) (*Handle, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return &Handle{fd: fd}, nil
		case err != unix.EINTR:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// unless returns h, or closes it if there was an error.
func (h *Handle) unless(err error) (*Handle, error) {
	if err == nil {
		return h, nil
	}
	if h != nil {
		h.Close()
	}
	return nil, err
}

// identify notes the inode of a network namespace, and refuses any other file.
func (h *Handle) identify() error {
	var on unix.Statfs_t
	if err := unix.Fstatfs(h.fd, &on); err != nil {
		return err
	}
	if on.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("not a namespace: %w", kernel.ErrNoNamespace)
	}
	// ioctl_ns(2)
	if typ, err := unix.IoctlRetInt(h.fd, unix.NS_GET_NSTYPE); err != nil || typ != unix.CLONE_NEWNET {
		return fmt.Errorf("not a network namespace: %w", kernel.ErrNoNamespace)
	}
	return h.number()
}

func (h *Handle) number() error {
	var st unix.Stat_t
	err := unix.Fstat(h.fd, &st)
	h.inode = st.Ino
	return err
}

// FD returns the file descriptor, valid until Close.
func (h *Handle) FD() int { return h.fd }

// Inode returns the namespace's number in nsfs.
func (h *Handle) Inode() uint64 { return h.inode }

// Close lets the namespace go. Twice is an error, and does nothing.
func (h *Handle) Close() error {
	if h.fd < 0 {
		return fs.ErrClosed
	}
	fd := h.fd
	h.fd = -1
	return unix.Close(fd)
}

// Do runs fn inside the namespace and returns its error. fn must not start
// goroutines that count on being inside.
//
// It runs on a goroutine of its own: if the way back out fails, only that
// goroutine's thread is lost, not the caller's.
func (h *Handle) Do(fn func() error) error {
	done := make(chan error)
	go func() { done <- h.visit(fn) }()
	return <-done
}

func (h *Handle) visit(fn func() error) error {
	home, err := home()
	if err != nil {
		return err
	}
	if home.inode == h.inode {
		return fn()
	}
	runtime.LockOSThread()
	if err := unix.Setns(h.FD(), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("setns: %w", err)
	}
	defer home.enter()
	return fn()
}

// home is the namespace of all threads that goroutines share: one that cannot go back
// there stays locked, and the runtime starts no others from those. It stays open.
var home = sync.OnceValues(Current)

// enter brings the locked thread back to h. A thread that cannot go back stays
// locked, so that it ends with its goroutine.
func (h *Handle) enter() {
	if unix.Setns(h.FD(), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
}
