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
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Handle is an open network namespace. It keeps the namespace alive until Close.
type Handle struct {
	file  *os.File
	inode uint64
}

// Current opens the namespace of the calling thread.
func Current() (*Handle, error) { return openPath("/proc/thread-self/ns/net") }

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

func openPath(path string) (*Handle, error) {
	// Nonblocking: the path was given to us and might be a FIFO.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOTDIR):
		return nil, fmt.Errorf("%s: %w", path, kernel.ErrNoNamespace)
	case err != nil:
		return nil, err
	}
	h := &Handle{file: f}
	if h.inode, err = identify(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return h, nil
}

// identify returns the inode of a network namespace, and an error for any
// other file.
func identify(f *os.File) (uint64, error) {
	fd := int(f.Fd())
	var on unix.Statfs_t
	if err := unix.Fstatfs(fd, &on); err != nil {
		return 0, err
	}
	if on.Type != unix.NSFS_MAGIC {
		return 0, fmt.Errorf("not a namespace: %w", kernel.ErrNoNamespace)
	}
	// ioctl_ns(2)
	if typ, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || typ != unix.CLONE_NEWNET {
		return 0, fmt.Errorf("not a network namespace: %w", kernel.ErrNoNamespace)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// FD returns the file descriptor, valid until Close.
func (h *Handle) FD() int { return int(h.file.Fd()) }

// Inode returns the namespace's number in nsfs.
func (h *Handle) Inode() uint64 { return h.inode }

// Close lets the namespace go.
func (h *Handle) Close() error { return h.file.Close() }

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
	runtime.LockOSThread()
	home, err := Current()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if home.inode == h.inode {
		defer runtime.UnlockOSThread()
		return fn()
	}
	if err := unix.Setns(h.FD(), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("setns: %w", err)
	}
	defer home.enter()
	return fn()
}

// enter brings the locked thread back to h. A thread that cannot go back stays
// locked, so that it ends with its goroutine.
func (h *Handle) enter() {
	if unix.Setns(h.FD(), unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
}
