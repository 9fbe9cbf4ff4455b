package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// fileNames are the files a sandbox has, each in a directory of its own under
// dir. Nothing else there is looked at or touched.
var fileNames = [...]string{"hosts", "hostname", "resolv.conf"}

// files writes the small files that are bound into sandboxes.
type files struct{ dir string }

// Apply writes and removes files.
func (f files) Apply(ops []kstate.Op) error {
	return each(ops, func(op kstate.Op) error {
		o, ok := op.Object().(kstate.File)
		switch {
		case !ok:
			return fmt.Errorf("not a file: %w", kernel.ErrUnsupported)
		case !f.ours(o.Path):
			return fmt.Errorf("%s is not a sandbox's file in %s", o.Path, f.dir)
		case op.New == nil:
			return remove(o.Path)
		}
		return write(o)
	})
}

func (f files) ours(path string) bool {
	dir, name := filepath.Split(path)
	return filepath.Dir(filepath.Clean(dir)) == filepath.Clean(f.dir) && slices.Contains(fileNames[:], name)
}

// write writes a file in place: it is bound into a sandbox, whose processes
// would not see another file of the same name. Its new text is there before the
// rest of the old one goes, so that no reader finds it empty.
func write(o kstate.File) error {
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(o.Path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	have, ours, err := look(f)
	if err != nil {
		return err
	}
	if text := merge(o.Path, have, ours, o.Content); text != have {
		unix.Fremovexattr(int(f.Fd()), written) // until all of it is there
		_, err = f.WriteAt([]byte(text), 0)
		err = errors.Join(err, f.Truncate(int64(len(text))))
	}
	if err = errors.Join(err, f.Chmod(0o644)); err == nil {
		note(f, o.Content)
	}
	return err
}

// remove removes a file, and its directory if it was the last in it.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Remove(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// Observe reads all files of all sandboxes. What their users changed in them is
// not seen.
func (f files) Observe() ([]kstate.Object, error) {
	dirs, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("files: %w", err)
	}
	var objs []kstate.Object
	for _, d := range dirs {
		for _, name := range fileNames {
			path := filepath.Join(f.dir, d.Name(), name)
			content, err := content(path)
			switch {
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
			case err != nil:
				return nil, fmt.Errorf("files: %w", err)
			default:
				objs = append(objs, kstate.File{Path: path, Content: content})
			}
		}
	}
	return objs, nil
}

// content is what we wrote into a file, whatever its user made of it.
func content(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, ours, err := look(f)
	return ours, err
}
