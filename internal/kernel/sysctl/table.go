package sysctl

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/journal"
	"github.com/sealane/sealane/internal/kstate"
)

// prefix begins the keys of our journal entries; the setting's name follows,
// and the value is the setting's before we changed it.
const prefix = "sysctl/"

// Inside runs a function in the namespace whose settings a Table keeps.
type Inside func(func() error) error

// Table is the settings of one namespace that are ours: those in the journal.
type Table struct {
	journal journal.Journal
	inside  Inside
	mu      sync.Mutex // one change at a time
}

// New returns the table of the namespace that inside leads to.
func New(j journal.Journal, inside Inside) *Table { return &Table{journal: j, inside: inside} }

// Apply writes and restores settings, in order. It goes on after a failure and
// returns all of them, each a *kernel.OpError.
func (t *Table) Apply(ops []kstate.Op) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inside(func() error {
		var errs []error
		for _, op := range ops {
			if err := t.apply(op); err != nil {
				errs = append(errs, &kernel.OpError{Op: op, Err: err})
			}
		}
		return errors.Join(errs...)
	})
}

func (t *Table) apply(op kstate.Op) error {
	o, ok := op.Object().(kstate.Sysctl)
	switch {
	case !ok:
		return fmt.Errorf("not a setting: %w", kernel.ErrUnsupported)
	case op.New == nil:
		return t.restore(o.Name)
	}
	return t.set(o)
}

// set notes the value before and writes the new one. A setting that has the
// value already is noted too: what we want is ours to put back.
func (t *Table) set(o kstate.Sysctl) error {
	before, err := Read(o.Name)
	if err != nil {
		return err
	}
	entries, err := t.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	_, noted := entries[prefix+o.Name]
	if err := t.journal.Put(prefix+o.Name, before); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	err = Write(o.Name, o.Value)
	if err != nil && !noted {
		return errors.Join(err, t.journal.Erase(prefix+o.Name))
	}
	return err
}

// restore writes the value noted in the journal. A setting that is not there
// any more, with its device, needs none.
func (t *Table) restore(name string) error {
	entries, err := t.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	before, noted := entries[prefix+name]
	if !noted {
		return nil
	}
	if err := Write(name, before); err != nil && !errors.Is(err, kernel.ErrMissing) {
		return err
	}
	if err := t.journal.Erase(prefix + name); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Observe returns the settings in the journal with the values they have now,
// by name. One that is not there any more, as its device, is forgotten: what it was
// before went with it.
func (t *Table) Observe() ([]kstate.Object, error) {
	entries, err := t.journal.Entries()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var names []string
	for key := range entries {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var objs []kstate.Object
	err = t.inside(func() error {
		for _, name := range names {
			value, err := Read(name)
			switch {
			case errors.Is(err, kernel.ErrMissing):
				if err := t.journal.Erase(prefix + name); err != nil {
					return fmt.Errorf("journal: %w", err)
				}
			case err != nil:
				return err
			default:
				objs = append(objs, kstate.Sysctl{Name: name, Value: value})
			}
		}
		return nil
	})
	return objs, err
}
