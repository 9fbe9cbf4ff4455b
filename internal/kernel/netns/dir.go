package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/sysctl"
	"github.com/sealane/sealane/internal/kstate"
)

// Dir is the directory that namespaces of ours are mounted in.
type Dir string

// Ours reports whether a namespace's path is in the directory.
func (d Dir) Ours(path string) bool { return filepath.Dir(path) == filepath.Clean(string(d)) }

// List returns the paths of the namespaces in the directory, in order. A file
// that no namespace is mounted on, as a crash or a reboot leaves it, is none.
func (d Dir) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		path := filepath.Join(string(d), e.Name())
		if mounted(path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, nil
}

func mounted(path string) bool {
	var on unix.Statfs_t
	return unix.Statfs(path, &on) == nil && on.Type == unix.NSFS_MAGIC
}

// Make makes a namespace with lo up and "key=value" settings written, and
// mounts it on path. One that is mounted there already stays as it is.
func (d Dir) Make(path string, settings []string) error {
	if !d.Ours(path) {
		return fmt.Errorf("%s is not in %s", path, d)
	}
	if mounted(path) {
		return nil
	}
	if err := d.share(); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error)
	go func() { done <- create(path, settings) }()
	if err := <-done; err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// share makes the directory a shared mount, as ip-netns(8) does: a mount or
// umount in it is then seen in other mount namespaces too, and a namespace can
// be removed although somebody cloned the mount table meanwhile.
func (d Dir) share() error {
	dir := string(d)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return wrap(err, "make %s shared", dir)
	}
	// Not a mount point yet.
	if err := unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return wrap(err, "bind %s", dir)
	}
	return wrap(unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, ""), "make %s shared", dir)
}

// create makes the namespace on a thread that leaves its own for it. The mount
// comes last, so that what is mounted is complete, whenever the process dies.
func create(path string, settings []string) error {
	runtime.LockOSThread()
	home, err := Current()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("unshare: %w", err)
	}
	defer home.enter()
	for _, s := range settings {
		if err := set(s); err != nil {
			return err
		}
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("lo: set up: %w", err)
	}
	return wrap(unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""), "mount %s", path)
}

// set writes one "key=value". Only settings under net are the namespace's own;
// any other would change the host.
func set(setting string) error {
	key, value, ok := strings.Cut(setting, "=")
	if !ok || !strings.HasPrefix(key, "net.") && !strings.HasPrefix(key, "net/") {
		return fmt.Errorf("setting %q is not one of a network namespace: %w", setting, kernel.ErrMissing)
	}
	return sysctl.Write(key, value)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// Remove unmounts the namespace at path and removes the file. One that is gone
// is no error. The namespace itself lives on while processes are in it.
func (d Dir) Remove(path string) error {
	if !d.Ours(path) {
		return fmt.Errorf("%s is not in %s: %w", path, d, kernel.ErrInUse)
	}
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Object returns the namespace ns as Observe reports it.
func (d Dir) Object(ns kstate.NS) kstate.NetNS { return kstate.NetNS{NS: ns, Other: !d.Ours(ns.Path)} }

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// Unmake unmounts and removes the directory. Namespaces still mounted in it
// are let go of.
func (d Dir) Unmake() error {
	if err := unix.Unmount(string(d), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return wrap(err, "unmount %s", d)
	}
	return os.RemoveAll(string(d))
}
