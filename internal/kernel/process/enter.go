package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// enter puts the calling thread into the sandbox. There is no way back.
func (s *Spec) enter() error {
	if err := s.enterNet(); err != nil {
		return err
	}
	if err := s.enterMounts(); err != nil {
		return err
	}
	if s.UTSName != "" {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("host name: new namespace: %w", err)
		}
		if err := unix.Sethostname([]byte(s.UTSName)); err != nil {
			return fmt.Errorf("host name %q: set: %w", s.UTSName, err)
		}
	}
	if s.Dir == "" {
		return nil
	}
	// A thread shares its directory with the others unless it leaves them.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("%s: change directory: %w", s.Dir, err)
	}
	if err := unix.Chdir(s.Dir); err != nil {
		return fmt.Errorf("%s: change directory: %w", s.Dir, err)
	}
	return nil
}

func (s *Spec) enterNet() error {
	if s.NetNS == "" {
		return nil
	}
	fd, err := unix.Open(s.NetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: open network namespace: %w", s.NetNS, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && s.Inode != 0 && st.Ino != s.Inode {
		return fmt.Errorf("%s: enter network namespace: it is another one now", s.NetNS)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("%s: enter network namespace: %w", s.NetNS, err)
	}
	return nil
}

// enterMounts makes a mount namespace in which the sandbox's files lie over
// the host's. What the host mounts later is seen; nothing goes the other way.
func (s *Spec) enterMounts() error {
	if s.NetNS == "" && s.Hosts == "" && s.Hostname == "" && s.ResolvConf == "" {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mounts: new namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounts: keep from the host: %w", err)
	}
	for _, f := range []struct{ from, to string }{
		{s.Hosts, "/etc/hosts"}, {s.Hostname, "/etc/hostname"}, {s.ResolvConf, "/etc/resolv.conf"},
	} {
		if err := bind(f.from, f.to); err != nil {
			return err
		}
	}
	if s.NetNS != "" {
		mountSys()
	}
	return nil
}

// bind lays a file over another; to may be a link to the file. A host without
// /etc/hostname is one where nobody reads it.
func bind(from, to string) error {
	if from == "" {
		return nil
	}
	if _, err := os.Stat(to); errors.Is(err, os.ErrNotExist) && to == "/etc/hostname" {
		return nil
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s: bind %s over it: %w", to, from, err)
	}
	return nil
}

// mountSys mounts a sysfs that shows the devices of the network namespace, as
// "ip netns exec" does, and keeps the control groups under it. A command does
// well without, so no failure counts.
func mountSys() {
	const cgroup = "/sys/fs/cgroup"
	tree, err := unix.OpenTree(unix.AT_FDCWD, cgroup, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err == nil {
		defer unix.Close(tree)
	}
	if unix.Mount("sysfs", "/sys", "sysfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") == nil && err == nil {
		unix.MoveMount(tree, "", unix.AT_FDCWD, cgroup, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
}

// What a shell searches when there is no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds a command as execvp(3) does, on the calling thread's mounts
// and directory. A file that cannot be executed is passed over and remembered.
func lookPath(name string, env []string) (string, *Error) {
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", &Error{codeOf(err), fmt.Errorf("%s: execute: %w", name, err)}
		}
		return name, nil
	}
	if name == "" {
		return "", &Error{CodeNotFound, errors.New("the command is empty: leave it out to hold the namespace")}
	}
	var cannot error
	for _, dir := range filepath.SplitList(pathOf(env)) {
		if dir == "" {
			dir = "."
		}
		path := dir + "/" + name
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if codeOf(err) == CodeCannot {
			cannot = fmt.Errorf("%s: execute: %w", path, err)
		}
	}
	if cannot != nil {
		return "", &Error{CodeCannot, cannot}
	}
	return "", &Error{CodeNotFound, fmt.Errorf("%s: execute: not found in PATH", name)}
}

func pathOf(env []string) string {
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	return path
}

// executable reports why path cannot be executed, or nil.
func executable(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EISDIR
	}
	return unix.Access(path, unix.X_OK)
}
