// Package store keeps what must outlive the daemon, in one bbolt file: intent
// (networks and sandboxes), allocation cursors, the journal of what the kernel
// cannot carry a mark for, and a few settings of this host. A Commit is one
// transaction, on disk when it returns; reading happens once, at start.
package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/sealane/sealane/internal/model"
)

// The buckets of the file.
var (
	bucketMeta      = []byte("meta")      // format, host settings
	bucketNetworks  = []byte("networks")  // ID → JSON, without parts
	bucketFar       = []byte("far")       // network's ID/endpoint's key → JSON
	bucketServices  = []byte("services")  // network's ID/service's key → JSON
	bucketSandboxes = []byte("sandboxes") // ID → JSON, with endpoints and ports
	bucketCursors   = []byte("cursors")   // pool → last address given
	bucketJournal   = []byte("journal")   // key → value before
)

// The file is mapped with room to grow, of addresses only: to map it anew, bbolt copies all
// that a commit has changed. It grows by a little then, as what is not written takes no place.
const (
	mapped = 64 << 20 // bytes
	growth = 32 << 10
)

// format is the version of the file's contents. A newer one is refused.
const format = "2"

// Store is an open store file. Its methods may be called concurrently.
type Store struct {
	path string
	db   *bbolt.DB

	mu      sync.Mutex        // protects the following
	journal map[string]string // as in the file; nil: not read yet
}

// Snapshot is everything in a store.
type Snapshot struct {
	Networks  []*model.Network
	Sandboxes []*model.Sandbox
	Cursors   map[string]string
	Meta      map[string]string
}

// Change is one commit: what to write and what to delete.
type Change struct {
	Networks   []Revision
	Sandboxes  []*model.Sandbox
	DelSandbox []model.ID
	Cursors    map[string]string
	Meta       map[string]string
}

// Revision is how a network changes: Old is what the store has of it, New what it is to
// have; nil is nothing. Of the parts of an overlay network only those are written that are
// other values.
type Revision struct{ Old, New *model.Network }

// CorruptError is a store that cannot be trusted. It is never overwritten.
type CorruptError struct {
	Path string
	Err  error
}

// Error says which file, why, and the way out.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("store %s: corrupt: %v (to start empty, move the file away; networks and sandboxes in it are then forgotten)", e.Path, e.Err)
}

// Unwrap returns what was wrong.
func (e *CorruptError) Unwrap() error { return e.Err }

// Open opens or creates the store file. It fails with a *CorruptError if the
// file is damaged or was written by a newer version, and when another daemon
// has it open. A new file appears whole or not at all.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("store %s: %w", path, err)
		}
	}
	return open(path)
}

// create makes an empty store beside path and links it there, unless another
// daemon was faster.
func create(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new*")
	if err != nil {
		return err
	}
	tmp := f.Name()
	defer os.Remove(tmp)
	f.Close()
	db, err := bbolt.Open(tmp, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, b := range [][]byte{bucketMeta, bucketNetworks, bucketFar, bucketServices, bucketSandboxes, bucketCursors, bucketJournal} {
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		w := writer{tx: tx}
		w.raw(bucketMeta, "format", []byte(format))
		return w.err
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp, path); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func open(path string) (s *Store, err error) {
	if info, err := os.Stat(path); err == nil && info.Size() == 0 {
		return nil, &CorruptError{path, errors.New("the file is empty")}
	}
	var file *os.File
	defer func() {
		if err != nil && file != nil {
			// bbolt leaves it locked and mapped when it panics, and the
			// mapping alone would keep the lock.
			syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
			file.Close()
		}
	}()
	defer guard(path, &err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: 200 * time.Millisecond, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapped,
		OpenFile: func(name string, flag int, mode os.FileMode) (f *os.File, err error) {
			f, err = os.OpenFile(name, flag, mode)
			file = f
			return f, err
		},
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("store %s: another daemon has it open (give each daemon its own --state-dir)", path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, &CorruptError{path, err}
	case err != nil:
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	db.AllocSize = growth
	return &Store{path: path, db: db}, nil
}

// guard turns a panic or a bad memory access inside bbolt, which is how it
// meets damaged pages, into a *CorruptError.
func guard(path string, err *error) {
	if r := recover(); r != nil {
		*err = &CorruptError{path, fmt.Errorf("%v", r)}
	}
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Load reads everything. Damage is a *CorruptError.
func (s *Store) Load() (snap Snapshot, err error) {
	defer guard(s.path, &err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	snap.Cursors, snap.Meta = map[string]string{}, map[string]string{}
	err = s.db.View(func(tx *bbolt.Tx) error {
		if err := check(tx); err != nil {
			return &CorruptError{s.path, err}
		}
		if snap.Networks, err = networks(tx); err != nil {
			return &CorruptError{s.path, err}
		}
		if err := each(tx, bucketSandboxes, func(_ string, sb *model.Sandbox) error { snap.Sandboxes = append(snap.Sandboxes, sb); return nil }); err != nil {
			return &CorruptError{s.path, err}
		}
		if err := pairs(tx, bucketCursors, snap.Cursors); err != nil {
			return &CorruptError{s.path, err}
		}
		if err := pairs(tx, bucketMeta, snap.Meta); err != nil {
			return &CorruptError{s.path, err}
		}
		if f := snap.Meta["format"]; f != format {
			return &CorruptError{s.path, fmt.Errorf("format %q, this version knows %q", f, format)}
		}
		return nil
	})
	return snap, err
}

// check walks all pages and returns the first thing that is wrong. The channel
// is read to its end: the walk runs beside us on the same mapped pages.
func check(tx *bbolt.Tx) (first error) {
	for err := range tx.Check() {
		if first == nil {
			first = err
		}
	}
	return first
}

// each decodes every value of a bucket.
func each[T any](tx *bbolt.Tx, bucket []byte, f func(key string, x *T) error) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return fmt.Errorf("bucket %s is missing", bucket)
	}
	return b.ForEach(func(k, v []byte) error {
		x := new(T)
		v, err := unseal(v)
		if err == nil {
			err = json.Unmarshal(v, x)
		}
		if err == nil {
			err = f(string(k), x)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", bucket, k, err)
		}
		return nil
	})
}

func pairs(tx *bbolt.Tx, bucket []byte, into map[string]string) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return fmt.Errorf("bucket %s is missing", bucket)
	}
	return b.ForEach(func(k, v []byte) error {
		v, err := unseal(v)
		if err != nil {
			return fmt.Errorf("%s %s: %w", bucket, k, err)
		}
		into[string(k)] = string(v)
		return nil
	})
}

// Commit writes a change durably, all of it or nothing.
func (s *Store) Commit(c Change) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		w := writer{tx: tx}
		for _, r := range c.Networks {
			w.network(r.Old, r.New)
		}
		for _, sb := range c.Sandboxes {
			w.put(bucketSandboxes, string(sb.ID), sb)
		}
		for _, id := range c.DelSandbox {
			w.del(bucketSandboxes, string(id))
		}
		for k, v := range c.Cursors {
			w.raw(bucketCursors, k, []byte(v))
		}
		for k, v := range c.Meta {
			w.raw(bucketMeta, k, []byte(v))
		}
		return w.err
	})
	if err != nil {
		return fmt.Errorf("store %s: %w", s.path, err)
	}
	return nil
}

// seal puts a checksum before a value: bbolt guards its own structure, not what
// is stored.
func seal(v []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(v, castagnoli)), v...)
}

// unseal takes the checksum off and compares it.
func unseal(v []byte) ([]byte, error) {
	if len(v) < 4 || binary.BigEndian.Uint32(v) != crc32.Checksum(v[4:], castagnoli) {
		return nil, errors.New("checksum does not match")
	}
	return v[4:], nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writer keeps the first error of a row of writes.
type writer struct {
	tx  *bbolt.Tx
	err error
}

func (w *writer) put(bucket []byte, key string, v any) {
	b, err := json.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.raw(bucket, key, b)
}

func (w *writer) raw(bucket []byte, key string, v []byte) {
	if w.err == nil {
		w.err = w.tx.Bucket(bucket).Put([]byte(key), seal(v))
	}
}

func (w *writer) del(bucket []byte, key string) {
	if w.err == nil {
		w.err = w.tx.Bucket(bucket).Delete([]byte(key))
	}
}

// Put implements journal.Journal: it keeps the first value of a key.
func (s *Store) Put(key, before string) error {
	return s.write(func(b *bbolt.Bucket) error {
		if b.Get([]byte(key)) != nil {
			return nil
		}
		return b.Put([]byte(key), seal([]byte(before)))
	})
}

// Erase implements journal.Journal.
func (s *Store) Erase(key string) error {
	return s.write(func(b *bbolt.Bucket) error { return b.Delete([]byte(key)) })
}

// write changes the journal, which is read again when it is asked for.
func (s *Store) write(change func(*bbolt.Bucket) error) error {
	err := s.db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket(bucketJournal)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = nil
	return err
}

// Entries implements journal.Journal. Each look at the kernel asks for them, so they are read
// once after a change.
func (s *Store) Entries() (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.journal == nil {
		m := map[string]string{}
		if err := s.db.View(func(tx *bbolt.Tx) error { return pairs(tx, bucketJournal, m) }); err != nil {
			return nil, err
		}
		s.journal = m
	}
	return maps.Clone(s.journal), nil
}
