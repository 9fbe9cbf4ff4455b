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
// put and erase are one system call however many rows there are: half of a
// single write's cost is its own system call. They return how many went well
// before the one that did not; later ones were not tried. To put what is there
// or to erase what is missing is no error.
type rows[R key | record] interface {
	put([]R) (int, error)
	erase([]R) (int, error)
	all() ([]R, error)
	Close() error
}

// table is a map. Batches need Linux 5.6 for a hash and 5.13 for a trie.
type table[R key | record] struct{ *ebpf.Map }

func openTable[R key | record](dir string, spec *ebpf.MapSpec) (table[R], error) {
	m, err := openMap(dir, spec)
	return table[R]{m}, err
}

// openMap opens the map pinned under its name in dir, or makes it. One of
// another shape, left by another version of this program, is replaced: a lost
// trie is filled by the sweep, what else is lost by the next pass.
func openMap(dir string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
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

func (t table[R]) put(rs []R) (int, error) {
	if len(rs) == 0 {
		return 0, nil
	}
	n, err := t.BatchUpdate(rs, make([]uint32, len(rs)), nil)
	return t.done(n, len(rs), err)
}

// erase goes on after a row that is missing.
func (t table[R]) erase(rs []R) (int, error) {
	for at := 0; at < len(rs); at++ {
		n, err := t.BatchDelete(rs[at:], nil)
		n, err = t.done(n, len(rs)-at, err)
		at += n
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return at, err
		}
	}
	return len(rs), nil
}

// done returns how many writes of a batch went well. A batch that the kernel
// refuses as a whole leaves the number at what it was asked for.
func (t table[R]) done(n, asked int, err error) (int, error) {
	if err == nil {
		return asked, nil
	}
	if n == asked {
		n = 0
	}
	return n, fmt.Errorf("%s: %w", t, err)
}

// all reads the rows in batches of a few hundred.
func (t table[R]) all() ([]R, error) {
	var out []R
	var cursor ebpf.MapBatchCursor
	batch, values := make([]R, 512), make([]uint32, 512)
	for {
		n, err := t.BatchLookup(&cursor, batch, values, nil)
		out = append(out, batch[:n]...)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
