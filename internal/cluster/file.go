package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// File is a store in a file, for a few hosts that share a directory, or for one host
// whose peers somebody writes down. The file may be written by hand, see document;
// there need not be one. Writers take turns by a lock on the file's name with ".lock"
// (flock(2), which NFS has too), and replace the file as a whole. Readers look at it
// when inotify says so, and each second, since inotify knows nothing of other hosts.
//
// A file that is not JSON, or whose directory is not there, is ErrAway, says the line,
// and stays as it is. Keys go by the hosts' clocks, also while nobody looks.
type File struct {
	path   string
	closed context.Context
	close  context.CancelFunc
}

// OpenFile returns the store in a file. Nothing is read or made yet.
func OpenFile(path string) *File {
	f := &File{path: path}
	f.closed, f.close = context.WithCancel(context.Background())
	return f
}

// Close implements Store.
func (f *File) Close() error {
	f.close()
	return nil
}

// List implements Store.
func (f *File) List(ctx context.Context, prefix string) (Snapshot, error) {
	var snap Snapshot
	err := f.within(ctx, "list", func(context.Context) error {
		doc, _, err := f.read()
		if err != nil {
			return err
		}
		doc.table.remove(doc.table.expired(time.Now()), 0) // for now; who writes next counts it
		snap = Snapshot{doc.id, doc.table.rev, doc.table.list(prefix)}
		return nil
	})
	if err != nil {
		return Snapshot{}, err
	}
	return snap, nil
}

// Commit implements Store.
func (f *File) Commit(ctx context.Context, t Txn) (rev int64, done bool, err error) {
	if err := t.Check(); err != nil {
		return 0, false, err
	}
	type answer struct {
		rev  int64
		done bool
	}
	var a answer
	err = f.within(ctx, "commit", func(ctx context.Context) error {
		unlock, err := f.lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		var b answer
		b.rev, b.done, err = f.commit(t)
		if err == nil {
			a = b
		}
		return err
	})
	if err != nil {
		return 0, false, err
	}
	return a.rev, a.done, nil
}

// within does what may block, as reading from another machine may, for as long as a
// context or Patience lasts. What do writes is only read if it ended in time.
func (f *File) within(ctx context.Context, op string, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.closed.Err() != nil {
		return fmt.Errorf("store %s: %s: %w: it was closed", f.path, op, ErrAway)
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if _, ok := ctx.Deadline(); !ok {
		limited, cancel = context.WithTimeout(ctx, Patience)
	}
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- do(limited) }()
	var err error
	select {
	case err = <-result:
	case <-limited.Done():
		err = errors.New("it takes too long")
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrRefused):
		return fmt.Errorf("store %s: %s: %w", f.path, op, err)
	}
	return fmt.Errorf("store %s: %s: %w: %w", f.path, op, ErrAway, err)
}

// real is the file's path without symbolic links, as they are now.
func (f *File) real() string {
	if p, err := filepath.EvalSymlinks(f.path); err == nil {
		return p
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(f.path)); err == nil {
		return filepath.Join(dir, filepath.Base(f.path))
	}
	return f.path
}

// read reads the file as it is, and says which one it was. That there is none in its
// directory is an empty store.
func (f *File) read() (*document, fs.FileInfo, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(f.path)); err != nil {
			return nil, nil, bare(err)
		}
		return &document{table: table{rows: map[string]row{}}, gone: map[string]int64{}}, nil, nil
	}
	if err != nil {
		return nil, nil, bare(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, bare(err)
	}
	b, err := io.ReadAll(file)
	if err != nil {
		return nil, nil, bare(err)
	}
	doc, err := parse(b, written(info))
	return doc, info, err
}

// written is when a file got its content or its name, whichever is later: somebody
// may have prepared it long ago.
func written(info fs.FileInfo) time.Time {
	t := info.ModTime()
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		if c := time.Unix(s.Ctim.Unix()); c.After(t) {
			return c
		}
	}
	return t
}

// same says whether it is still the same file with the same content.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && written(a).Equal(written(b))
}

// stat says which file is there; nil: none.
func (f *File) stat() fs.FileInfo {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil
	}
	return info
}

// bare is an error of a file system without the path, which the store's errors say;
// a refusal is ErrRefused.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// lock waits for its turn to write.
func (f *File) lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(f.real()+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, bare(err)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock: %w", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			file.Close()
			return nil, errors.New("lock: another has it")
		}
	}
}

// commit does a transaction on the file, which is locked. If somebody who does not
// know of the lock replaces the file meanwhile, it begins anew.
func (f *File) commit(t Txn) (rev int64, done bool, err error) {
	for {
		doc, info, err := f.read()
		if err != nil {
			return 0, false, err
		}
		now := time.Now()
		over := doc.table.expire(now)
		doc.happened(over)
		changes, done := doc.table.commit(t, now)
		doc.happened(changes)
		if len(over)+len(changes) == 0 {
			return doc.table.rev, done, nil
		}
		if wrote, err := f.write(doc, info); wrote || err != nil {
			return doc.table.rev, done, err
		}
	}
}

// write puts a document in place of the file that was read, unless that is another
// by now.
func (f *File) write(doc *document, was fs.FileInfo) (done bool, err error) {
	if doc.id == "" {
		doc.id = newID()
	}
	text, err := doc.text()
	if err != nil {
		return false, err
	}
	mode := fs.FileMode(0o600)
	if was != nil {
		mode = was.Mode().Perm()
	}
	path := f.real()
	if err := writeSynced(path+".new", text, mode); err != nil {
		return false, bare(err)
	}
	if !same(was, f.stat()) {
		return false, nil
	}
	if err := os.Rename(path+".new", path); err != nil {
		return false, bare(err)
	}
	return true, syncDir(filepath.Dir(path))
}

// newID is what tells a store from another.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

func writeSynced(path string, b []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	return errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
}

// syncDir has a rename survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return bare(err)
	}
	defer d.Close()
	return d.Sync()
}
