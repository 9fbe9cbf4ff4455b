// Package sysctl reads and writes settings under /proc/sys. Table keeps in the
// journal what a host-wide setting was before and puts it back. Which namespace
// a setting belongs to is the calling thread's affair.
package sysctl

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

const root = "/proc/sys"

// Path returns the file of a setting. Its parts are separated by dots, or by
// slashes if a slash comes first; the other sign then belongs to a part, as in
// sysctl(8): "net.ipv6.conf.eth0/1.accept_ra" is about the device eth0.1.
func Path(name string) (string, error) {
	file := name
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
		file = strings.Map(swap, name)
	}
	for part := range strings.SplitSeq(file, "/") {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("setting %q: not a name", name)
		}
	}
	return filepath.Join(root, file), nil
}

func swap(r rune) rune {
	switch r {
	case '.':
		return '/'
	case '/':
		return '.'
	}
	return r
}

// Read returns a setting's value, its fields separated by single spaces. A
// setting this kernel does not have is a kernel.ErrMissing.
func Read(name string) (string, error) {
	path, err := Path(name)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", cause(name, err)
	}
	return strings.Join(strings.Fields(string(b)), " "), nil
}

// Write changes a setting. Errors are as in Read, and say what would be right: the
// value may be a user's.
func Write(name, value string) error {
	path, err := Path(name)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // never created
	if err == nil {
		_, err = f.WriteString(value)
		f.Close()
	}
	if err == nil {
		return nil
	}
	refused := cause(name, err)
	refused.Name += "=" + value
	switch {
	case errors.Is(err, fs.ErrNotExist):
		refused.Err = fmt.Errorf("%w: want one that is under /proc/sys/net", refused.Err)
	case errors.Is(err, unix.EISDIR):
		refused.Err = fmt.Errorf("%w: want one of the settings in it", refused.Err)
	case errors.Is(err, fs.ErrPermission):
		refused.Err = fmt.Errorf("%w: only the host has it, or nobody may write it", refused.Err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		if now, err := Read(name); err == nil {
			refused.Err = fmt.Errorf("%w: it is %s now, and a value like that is wanted", refused.Err, cmp.Or(now, "empty"))
		}
	}
	return refused
}

// cause names the setting instead of its file.
func cause(name string, err error) *kernel.SettingError {
	if errors.Is(err, fs.ErrNotExist) {
		return &kernel.SettingError{Name: name, Err: kernel.ErrMissing}
	}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		err = errno
	}
	return &kernel.SettingError{Name: name, Err: err}
}
