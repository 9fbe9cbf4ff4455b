package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// rows are the keys of a map; its values mean nothing. Tests cut its writes.
//
// put and erase return how many went well before the one that did not; later ones were
// not tried. To put what is there or to erase what is missing is no error.
type rows[R key | record] interface {
	put([]R) (int, error)
	erase([]R) (int, error)
	all() ([]R, error)
	Close() error
}

// keySet is a map of which only the keys count.
type keySet[R key | record] struct{ table[R, uint32] }

func openKeySet[R key | record](dir string, spec *ebpf.MapSpec) (keySet[R], error) {
	m, err := openMap(dir, spec)
	return keySet[R]{table[R, uint32]{m}}, err
}

func (s keySet[R]) put(rs []R) (int, error) { return s.table.put(rs, make([]uint32, len(rs))) }

func (s keySet[R]) all() (out []R, err error) {
	err = s.each(func(r R, _ uint32) { out = append(out, r) })
	return out, err
}

// table is a map. Batches are one system call however many rows there are: half of a single
// write's cost is its own system call. They need Linux 5.6 for a hash and 5.13 for a trie.
type table[K comparable, V any] struct{ *ebpf.Map }

// openMap opens the map pinned under its name in dir, or makes it. One of
// another shape, left by another version of this program, is replaced: a lost
// trie is filled by the sweep, what else is lost by the next pass. With dir ""
// it is a new one, and not pinned.
func openMap(dir string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	if dir == "" {
		return ebpf.NewMap(spec)
	}
	spec.Pinning = ebpf.PinByName
	m, err := ebpf.NewMapWithOptions(spec, ebpf.MapOptions{PinPath: dir})
	if !errors.Is(err, ebpf.ErrMapIncompatible) {
		return m, err
	}
	if err := os.Remove(filepath.Join(dir, spec.Name)); err != nil {
		return nil, err
	}
	return ebpf.NewMapWithOptions(spec, ebpf.MapOptions{PinPath: dir})
}

// put writes rows, and returns how many went well.
func (t table[K, V]) put(keys []K, values []V) (int, error) {
	if len(keys) == 0 {
		return 0, nil
	}
	n, err := t.BatchUpdate(keys, values, nil)
	return t.done(n, len(keys), err)
}

// erase removes rows, and returns how many went well. It goes on after one that is missing.
func (t table[K, V]) erase(keys []K) (int, error) {
	for at := 0; at < len(keys); at++ {
		n, err := t.BatchDelete(keys[at:], nil)
		n, err = t.done(n, len(keys)-at, err)
		at += n
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return at, err
		}
	}
	return len(keys), nil
}

// done returns how many writes of a batch went well. A batch that the kernel
// refuses as a whole leaves the number at what it was asked for.
func (t table[K, V]) done(n, asked int, err error) (int, error) {
	if err == nil {
		return asked, nil
	}
	if n == asked {
		n = 0
	}
	return n, fmt.Errorf("%s: %w", t, err)
}

// each calls fn with all rows, read in batches of a few hundred.
func (t table[K, V]) each(fn func(K, V)) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, 512), make([]V, 512)
	for {
		n, err := t.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			fn(keys[i], values[i])
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", t, err)
		}
	}
}
