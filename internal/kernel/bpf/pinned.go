package bpf

import (
	"errors"
	"fmt"
	"os"
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
	dir  string
	held rows[record]
	trie rows[key]
	diag *diag

	dirty bool // the trie may have keys that no record needs
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
	p := &pinned{dir: dir}
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
	held, err := openKeySet[record](p.dir, heldSpec())
	if err != nil {
		return err
	}
	p.held = held
	trie, err := openKeySet[key](p.dir, trieSpec())
	if err != nil {
		return err
	}
	p.trie = trie
	if err = p.sweep(); err != nil {
		return err
	}
	return attachAll(p.dir, trie.Map)
}

func (p *pinned) spare(port uint16) { p.diag.spared = port }

// take does not ask first which holds are in force already: to write one again
// changes nothing. Only of those that fail it asks, for they have not.
func (p *pinned) take(holds []kstate.Hold) []error {
	errs := make([]error, len(holds))
	if err := p.clean(); err != nil {
		return fill(errs, err)
	}
	if _, err := p.trie.put(keys(holds...)); err != nil {
		fill(errs, err)
	}
	seen, err := p.diag.look(holds)
	if err != nil {
		fill(errs, err)
	}
	var good []record
	var at []int // of each good one, in holds
	for i, h := range holds {
		if errs[i] == nil {
			errs[i] = seen.conflict(h)
		}
		if errs[i] == nil {
			good, at = append(good, recordOf(h)), append(at, i)
		}
	}
	n, err := p.held.put(good)
	for _, i := range at[n:] {
		errs[i] = err
	}
	return p.undo(holds, errs)
}

// undo drops the holds that failed, but for those in force already.
func (p *pinned) undo(holds []kstate.Hold, errs []error) []error {
	if errors.Join(errs...) == nil {
		return errs
	}
	have, err := p.observe()
	if err != nil {
		p.dirty = true
		return fill(errs, err)
	}
	inForce := make(map[kstate.Hold]bool, len(have))
	for _, h := range have {
		inForce[h] = true
	}
	for i, h := range holds {
		if inForce[h] {
			errs[i] = nil
		}
	}
	if err := p.drop(failed(holds, errs)); err != nil {
		return fill(errs, err)
	}
	return errs
}

// failed returns the holds that have an error.
func failed(holds []kstate.Hold, errs []error) []kstate.Hold {
	var out []kstate.Hold
	for i, err := range errs {
		if err != nil {
			out = append(out, holds[i])
		}
	}
	return out
}

func (p *pinned) release(holds []kstate.Hold) []error {
	errs := make([]error, len(holds))
	if err := p.clean(); err != nil {
		return fill(errs, err)
	}
	records := make([]record, len(holds))
	for i, h := range holds {
		records[i] = recordOf(h)
	}
	n, err := p.held.erase(records)
	for i := n; i < len(holds); i++ {
		errs[i] = err
	}
	if err := p.drop(holds[:n]); err != nil {
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
	all := keys(holds...)
	gone := make(map[key]bool, len(all))
	for _, k := range all {
		gone[k] = true
	}
	for _, k := range keys(near(rest, holds)...) {
		delete(gone, k)
	}
	all = slices.DeleteFunc(all, func(k key) bool { return !gone[k] })
	if _, err := p.trie.erase(all); err != nil {
		return err
	}
	p.dirty = false
	return nil
}

// near returns those of rest that may share a key with one of holds.
func near(rest, holds []kstate.Hold) []kstate.Hold {
	var out []kstate.Hold
	for _, proto := range protocols {
		first, last, _ := span(proto, holds)
		for _, r := range rest {
			if r.Proto == proto && r.First <= last && first <= r.Last {
				out = append(out, r)
			}
		}
	}
	return out
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
	there, err := p.trie.all()
	if err != nil {
		return err
	}
	need := keys(holds...)
	needed := make(map[key]bool, len(need))
	for _, k := range need {
		needed[k] = true
	}
	have := make(map[key]bool, len(there))
	for _, k := range there {
		have[k] = true
	}
	need = slices.DeleteFunc(need, func(k key) bool { return have[k] })
	stale := slices.DeleteFunc(there, func(k key) bool { return needed[k] })
	if _, err := p.trie.put(need); err != nil {
		return err
	}
	_, err = p.trie.erase(stale)
	return err
}

// observe returns the recorded holds.
func (p *pinned) observe() ([]kstate.Hold, error) {
	records, err := p.held.all()
	if err != nil {
		return nil, err
	}
	out := make([]kstate.Hold, len(records))
	for i, r := range records {
		out[i] = r.hold()
	}
	return out, nil
}

// close closes what is open, also after an open that went wrong half-way.
func (p *pinned) close() error {
	var errs []error
	if p.diag != nil {
		_ = p.diag.close()
	}
	if p.held != nil {
		errs = append(errs, p.held.Close())
	}
	if p.trie != nil {
		errs = append(errs, p.trie.Close())
	}
	return errors.Join(errs...)
}

// remove takes the pins away, see unpin.
func (p *pinned) remove() error {
	var links []string
	for _, prog := range programs {
		links = append(links, prog.file)
	}
	return errors.Join(p.close(), unpin(p.dir, links, []string{heldSpec().Name, trieSpec().Name}),
		os.NewSyscallError("unmount", unix.Unmount(p.dir, 0)), os.Remove(p.dir))
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
