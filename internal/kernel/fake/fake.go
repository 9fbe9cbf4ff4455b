// Package fake is a kernel in memory, for tests. It evaluates what it is told:
// it refuses what Linux would refuse, takes away what Linux would take away,
// and passes the same suite (package kerneltest). It moves no packets: rules
// and elements are parsed by package nft and checked for what they refer to.
//
// A test may also act as somebody else ([Kernel.Foreign], [Kernel.Tamper],
// [Kernel.Remove], [Kernel.Listen], [Kernel.Reboot]), let the process die
// between any two steps ([Kernel.Cut]) and read the whole world as text
// ([Kernel.Dump]).
package fake

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
)

// ErrDead is what every call returns after the process died at a cut.
var ErrDead = errors.New("process is dead")

// Kernel implements kernel.Kernel.
type Kernel struct {
	mu       sync.Mutex // protects the following
	world    world
	journal  journal.Journal
	steps    int  // carried out so far
	boots    int  // since New
	left     int  // steps until the process dies; negative: it lives
	dead     bool // until Revive
	watchers map[chan kernel.Hint]bool
}

var _ kernel.Kernel = (*Kernel)(nil)

// New returns a freshly booted kernel. The journal outlives it.
func New(j journal.Journal) *Kernel {
	return &Kernel{world: boot(), journal: j, left: -1, watchers: map[chan kernel.Hint]bool{}}
}

// Apply carries ops out. A dead process carries out nothing and says ErrDead.
func (k *Kernel) Apply(ctx context.Context, ops []kstate.Op) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return ErrDead
	}
	var errs []error
	for len(ops) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		n := together(ops)
		if !k.step(n) {
			return ErrDead
		}
		op, err := k.do(ops[:n])
		if errors.Is(err, ErrDead) {
			return ErrDead
		}
		if err != nil {
			errs = append(errs, &kernel.OpError{Op: op, Err: err})
		}
		ops = ops[n:]
	}
	return errors.Join(errs...)
}

// together returns how many ops at the front are carried out as one.
func together(ops []kstate.Op) int {
	n := 0
	for n < len(ops) && isNft(ops[n].Object().Key().Kind) {
		n++
	}
	return max(n, 1)
}

func isNft(k kstate.Kind) bool { return k >= kstate.KindTable && k <= kstate.KindElem }

// do carries out one op or one nftables transaction and returns which op was
// wrong.
func (k *Kernel) do(ops []kstate.Op) (kstate.Op, error) {
	op := ops[0]
	if isNft(op.Object().Key().Kind) {
		return k.world.transact(ops)
	}
	if op.New == nil {
		return op, k.remove(op.Old)
	}
	return op, k.put(op.New, op.Old != nil)
}

// step counts n steps, or kills the process before them.
func (k *Kernel) step(n int) bool {
	if k.left >= 0 && k.left < n {
		k.dead = true
	}
	if k.dead {
		return false
	}
	k.steps += n
	if k.left > 0 {
		k.left -= n
	}
	return true
}

// journaled makes a change with an entry written before it.
func (k *Kernel) journaled(key, before string, change func()) error {
	if err := k.journal.Put(key, before); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if !k.step(1) {
		return ErrDead
	}
	change()
	return nil
}

// unjournaled takes a change back and erases its entry after it.
func (k *Kernel) unjournaled(key string, restore func()) error {
	restore()
	if !k.step(1) {
		return ErrDead
	}
	if err := k.journal.Erase(key); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Observe returns what is there.
func (k *Kernel) Observe(ctx context.Context, scope kernel.Scope) (kstate.Set, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return nil, ErrDead
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := k.journal.Entries()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	for key := range entries {
		if name, ok := strings.CutPrefix(key, "sysctl/"); ok && !scope.Only && !scope.Devices {
			if _, there := k.world.sysctl(name); !there { // went with its device
				if err := k.journal.Erase(key); err != nil {
					return nil, fmt.Errorf("journal: %w", err)
				}
			}
		}
	}
	return k.world.observe(scope, entries), nil
}

// Watch sends a hint after every act of somebody else; hints that wait are
// merged into one.
func (k *Kernel) Watch(ctx context.Context) (<-chan kernel.Hint, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return nil, ErrDead
	}
	ch := make(chan kernel.Hint, 1)
	k.watchers[ch] = true
	context.AfterFunc(ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.watchers, ch)
		close(ch)
	})
	return ch, nil
}

// hint tells all watchers.
func (k *Kernel) hint(format string, args ...any) {
	for ch := range k.watchers {
		select {
		case ch <- kernel.Hint{What: fmt.Sprintf(format, args...)}:
		default: // one waits already
		}
	}
}

// Cut lets the process die before the nth step from now, counted from 0. A
// step is an op; a change with a journal entry is two, the entry and the
// change, and an nftables transaction happens or not as a whole.
func (k *Kernel) Cut(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left = n
}

// Revive starts a new process: no cut is ahead, nothing is remembered but the
// world and the journal, which forgets addresses that are not there.
func (k *Kernel) Revive() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dead, k.left = false, -1
	entries, err := k.journal.Entries()
	if err != nil {
		return err
	}
	if err := k.sweepRaised(entries); err != nil {
		return err
	}
	if err := k.sweepSorting(entries); err != nil {
		return err
	}
	for _, o := range k.world.objs {
		if a, ok := o.(kstate.Addr); ok {
			delete(entries, addrEntry(a))
		}
	}
	for key := range entries {
		if strings.HasPrefix(key, "addr/") {
			if err := k.journal.Erase(key); err != nil {
				return err
			}
		}
	}
	return nil
}

// Steps returns how many steps were carried out since New.
func (k *Kernel) Steps() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.steps
}
