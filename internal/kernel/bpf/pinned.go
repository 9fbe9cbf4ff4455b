package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// pinned holds ports with the programs. Its rule is: a hold is recorded in
// `held` only while all of its keys are in the trie. So taking writes the keys,
// looks for foreign sockets, and writes the record last; releasing erases the
// record first. Looking after the keys are in leaves no moment in which
// another program could still bind unseen.
//
// A crash between any two writes leaves keys without a record, never the
// reverse. Ports may then be held for nobody until the next Open, which sweeps:
// it makes the trie what the records say. Observe never lists such a hold, so
// the next pass takes it again if it is still wanted. A write that fails in a
// living process leaves the same, and the next Apply sweeps first.
type pinned struct {
	dir   string
	held  *ebpf.Map // record → nothing
	trie  *ebpf.Map // key → nothing
	diag  *diag
	write writer

	dirty bool // the trie may have keys that no record needs
}

// writer makes every change of the maps after they were opened: tests cut it.
type writer interface {
	put(m *ebpf.Map, key []byte) error
	erase(m *ebpf.Map, key []byte) error // a missing key is no error
}

// direct is the writer that does it.
type direct struct{}

func (direct) put(m *ebpf.Map, key []byte) error { return m.Put(key, uint32(1)) }

func (direct) erase(m *ebpf.Map, key []byte) error {
	if err := m.Delete(key); !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// A hash wants its size at creation and pays for it (1 MiB); a trie's is only a
// limit.
func heldSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{
		Name: "sealane_held", Type: ebpf.Hash, KeySize: recordSize, ValueSize: 4,
		MaxEntries: 1 << 16, Flags: unix.BPF_F_NO_PREALLOC,
	}
}

func trieSpec() *ebpf.MapSpec {
	return &ebpf.MapSpec{
		Name: "sealane_keys", Type: ebpf.LPMTrie, KeySize: keySize, ValueSize: 4,
		MaxEntries: 1 << 22, Flags: unix.BPF_F_NO_PREALLOC,
	}
}

// openPinned opens or makes everything in dir.
func openPinned(dir string) (*pinned, error) {
	if err := Supported(); err != nil {
		return nil, err
	}
	if err := mount(dir); err != nil {
		return nil, sure(err)
	}
	p := &pinned{dir: dir, write: direct{}}
	if err := p.open(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// open attaches the programs last, to a trie that is right by then.
func (p *pinned) open() (err error) {
	if p.diag, err = openDiag(); err != nil {
		return err
	}
	if p.held, err = openMap(p.dir, heldSpec()); err != nil {
		return err
	}
	if p.trie, err = openMap(p.dir, trieSpec()); err != nil {
		return err
	}
	if err = p.sweep(); err != nil {
		return err
	}
	return attachAll(p.dir, p.trie)
}

// openMap opens the map pinned under its name in dir, or makes it. One of
// another shape, left by another version of this program, is replaced: a lost
// trie is filled by the sweep, lost records by the next pass.
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

func (p *pinned) take(holds []kstate.Hold) []error {
	errs := make([]error, len(holds))
	if err := p.clean(); err != nil {
		return fill(errs, err)
	}
	var fresh []kstate.Hold
	var at []int // of each fresh one, in holds
	for i, h := range holds {
		r := recordOf(h)
		var v uint32
		if err := p.held.Lookup(r[:], &v); err == nil {
			continue // in force already
		} else if !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs[i] = err
			continue
		}
		fresh, at = append(fresh, h), append(at, i)
	}
	for i, err := range p.takeFresh(fresh) {
		errs[at[i]] = err
	}
	return errs
}

// takeFresh takes holds that have no record.
func (p *pinned) takeFresh(holds []kstate.Hold) []error {
	errs := make([]error, len(holds))
	for i, h := range holds {
		for _, k := range keys(h) {
			if errs[i] = p.write.put(p.trie, k[:]); errs[i] != nil {
				break
			}
		}
	}
	found, err := p.diag.foreign(holds)
	if err != nil {
		fill(errs, err)
	}
	var failed []kstate.Hold
	for i, h := range holds {
		if errs[i] == nil {
			errs[i] = conflict(h, found)
		}
		if errs[i] == nil {
			r := recordOf(h)
			errs[i] = p.write.put(p.held, r[:])
		}
		if errs[i] != nil {
			failed = append(failed, h)
		}
	}
	if err := p.drop(failed); err != nil {
		return fill(errs, err)
	}
	return errs
}

func (p *pinned) release(holds []kstate.Hold) []error {
	errs := make([]error, len(holds))
	if err := p.clean(); err != nil {
		return fill(errs, err)
	}
	var gone []kstate.Hold
	for i, h := range holds {
		r := recordOf(h)
		if errs[i] = p.write.erase(p.held, r[:]); errs[i] == nil {
			gone = append(gone, h)
		}
	}
	if err := p.drop(gone); err != nil {
		return fill(errs, err)
	}
	return errs
}

// drop takes the keys of holds without a record out of the trie, but for those
// that a recorded hold needs too.
func (p *pinned) drop(holds []kstate.Hold) error {
	if len(holds) == 0 {
		return nil
	}
	p.dirty = true
	rest, err := p.observe()
	if err != nil {
		return err
	}
	needed := map[key]bool{}
	for _, r := range rest {
		if slices.ContainsFunc(holds, func(h kstate.Hold) bool { return meets(r, h) }) {
			need(needed, r)
		}
	}
	for _, h := range holds {
		for _, k := range keys(h) {
			if needed[k] {
				continue
			}
			if err := p.write.erase(p.trie, k[:]); err != nil {
				return err
			}
		}
	}
	p.dirty = false
	return nil
}

func need(needed map[key]bool, h kstate.Hold) {
	for _, k := range keys(h) {
		needed[k] = true
	}
}

// clean sweeps if a write went wrong.
func (p *pinned) clean() error {
	if !p.dirty {
		return nil
	}
	if err := p.sweep(); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	p.dirty = false
	return nil
}

// sweep makes the trie what the records say.
func (p *pinned) sweep() error {
	holds, err := p.observe()
	if err != nil {
		return err
	}
	needed := map[key]bool{}
	for _, h := range holds {
		need(needed, h)
	}
	var stale []key
	var k key
	var v uint32
	there := p.trie.Iterate()
	for there.Next(&k, &v) {
		if !needed[k] {
			stale = append(stale, k)
		}
		delete(needed, k)
	}
	if err := there.Err(); err != nil {
		return err
	}
	for k := range needed {
		if err := p.write.put(p.trie, k[:]); err != nil {
			return err
		}
	}
	for _, k := range stale {
		if err := p.write.erase(p.trie, k[:]); err != nil {
			return err
		}
	}
	return nil
}

// observe returns the recorded holds. They are read in batches: one system
// call per record would make releasing slow on a host with many.
func (p *pinned) observe() ([]kstate.Hold, error) {
	var out []kstate.Hold
	var cursor ebpf.MapBatchCursor
	batch, values := make([]record, 512), make([]uint32, 512)
	for {
		n, err := p.held.BatchLookup(&cursor, batch, values, nil)
		for _, r := range batch[:n] {
			out = append(out, r.hold())
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// close closes what is open, also after an open that went wrong half-way.
func (p *pinned) close() error {
	if p.diag != nil {
		_ = p.diag.close()
	}
	return errors.Join(p.held.Close(), p.trie.Close())
}

// remove takes the pins away, links first: with its last reference a link is
// detached. The unmount would do it too, but later.
func (p *pinned) remove() error {
	errs := []error{p.close()}
	names := []string{heldSpec().Name, trieSpec().Name}
	for _, prog := range programs {
		names = append([]string{prog.file}, names...)
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(p.dir, name)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, os.NewSyscallError("unmount", unix.Unmount(p.dir, 0)), os.Remove(p.dir))
	return errors.Join(errs...)
}

// fill sets err where there is no error yet.
func fill(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}
