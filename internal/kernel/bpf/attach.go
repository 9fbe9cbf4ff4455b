package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// programs are the files in the bpffs that hold the two links, and what hangs
// on them.
var programs = []struct {
	file   string
	v6     bool
	attach ebpf.AttachType
}{
	{"sealane_bind4", false, ebpf.AttachCGroupInet4Bind},
	{"sealane_bind6", true, ebpf.AttachCGroupInet6Bind},
}

// attachAll attaches both programs to the root of the cgroup hierarchy, where
// every process of the machine is below. With dir "" nothing is pinned and the
// programs are gone again when it returns: a trial.
func attachAll(dir string, trie *ebpf.Map) error {
	cookie, err := netnsCookie()
	if err != nil {
		return err
	}
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	for _, p := range programs {
		prog, err := load(p.v6, trie, cookie)
		if err != nil {
			return err
		}
		err = attach(root, dir, p.file, p.attach, prog)
		_ = prog.Close() // the link keeps it
		if err != nil {
			return fmt.Errorf("attach %s: %w", p.file, err)
		}
	}
	return nil
}

// attach puts prog into the link pinned as dir/file, without a moment in which
// no program is attached, or makes that link.
func attach(root *os.File, dir, file string, at ebpf.AttachType, prog *ebpf.Program) error {
	path := filepath.Join(dir, file)
	if dir != "" && replace(path, prog) == nil {
		return nil
	}
	l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(root.Fd()), Program: prog, Attach: at})
	if err != nil {
		return err
	}
	defer l.Close()
	if dir == "" {
		return nil
	}
	// A link that cannot be updated was detached by somebody: it is of no use.
	if err := detach(path); err != nil {
		return err
	}
	return l.Pin(path)
}

// unpin takes pins in a directory away, links first. What is not there is no error.
func unpin(dir string, links, maps []string) error {
	var errs []error
	for _, name := range links {
		errs = append(errs, detach(filepath.Join(dir, name)))
	}
	for _, name := range maps {
		errs = append(errs, missing(os.Remove(filepath.Join(dir, name))))
	}
	return errors.Join(errs...)
}

// detach ends the link pinned at path, and takes the pin away. With its last reference a
// link would end too, but a while after: what holds a pin is let go of by RCU.
func detach(path string) error {
	var err error
	if l, none := link.LoadPinnedLink(path, nil); none == nil {
		err = l.Detach()
		_ = l.Close()
	}
	return errors.Join(err, missing(os.Remove(path)))
}

// missing is no error.
func missing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// replace puts prog into the link pinned at path.
func replace(path string, prog *ebpf.Program) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Update(prog)
}

// netnsCookie returns the number the programs know the calling thread's network
// namespace by (SO_NETNS_COOKIE, Linux 5.14).
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("namespace cookie: %w", err)
	}
	return c, nil
}

// cgroupRoot opens the root of the cgroup v2 hierarchy, wherever it is mounted:
// beside v1 hierarchies it is often /sys/fs/cgroup/unified.
func cgroupRoot() (*os.File, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for _, path := range cgroupMounts(string(mounts)) {
		if f, err := os.Open(path); err == nil && isCgroup(f) {
			return f, nil
		} else if err == nil {
			f.Close() // another mount covers it
		}
	}
	return nil, fmt.Errorf("no cgroup v2 hierarchy is mounted: %w", kernel.ErrUnsupported)
}

func isCgroup(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// cgroupMounts lists where mountinfo says cgroup v2 is mounted, see
// proc_pid_mountinfo(5): the fourth field is what is mounted, the fifth where,
// and the file system's type comes after a lone dash. Mounts of its root come
// first; in a container, where that is out of sight, the others are the best
// there is.
func cgroupMounts(mountinfo string) []string {
	var roots, parts []string
	for line := range strings.Lines(mountinfo) {
		head, tail, _ := strings.Cut(line, " - ")
		f := strings.Fields(head)
		if !strings.HasPrefix(tail, "cgroup2 ") || len(f) < 5 {
			continue
		}
		path := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4])
		if f[3] == "/" {
			roots = append(roots, path)
		} else {
			parts = append(parts, path)
		}
	}
	return append(roots, parts...)
}

// mount mounts a bpffs of our own at dir, unless there is one.
func mount(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if mounted(dir) {
		return nil
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME
	return os.NewSyscallError("mount bpf", unix.Mount("bpf", dir, "bpf", flags, "mode=0700"))
}

func mounted(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.BPF_FS_MAGIC
}

// Supported says whether ports can be held by programs in the calling thread's
// network namespace: nil, an error that wraps kernel.ErrUnsupported when the
// kernel surely cannot, or another error when that could not be found out. It
// attaches the programs for a moment, with nothing held.
func Supported() error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("memory limit: %w", err) // before Linux 5.11 maps count as locked memory
	}
	trie, err := ebpf.NewMap(trieSpec())
	if err != nil {
		return sure(err)
	}
	defer trie.Close()
	d, err := openDiag()
	if err != nil {
		return sure(err)
	}
	defer d.close()
	if _, err := (table[key, uint32]{trie}).erase([]key{{}}); err != nil {
		return sure(err) // no batches
	}
	return sure(attachAll("", trie))
}

// sure adds kernel.ErrUnsupported to errors that mean it.
func sure(err error) error {
	for _, no := range []error{
		ebpf.ErrNotSupported, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP,
		unix.ENOPROTOOPT, unix.EPROTONOSUPPORT, unix.ENODEV,
	} {
		if errors.Is(err, no) && !errors.Is(err, kernel.ErrUnsupported) {
			return fmt.Errorf("%w: %w", kernel.ErrUnsupported, err)
		}
	}
	return err
}
