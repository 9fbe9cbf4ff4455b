package linux

import (
	"errors"

	"github.com/sealane/sealane/internal/kernel/bpf"
	"github.com/sealane/sealane/internal/kstate"
)

// Remove takes away what stands behind the objects and is no object itself:
// the programs that hold ports, and the mounts of the run directory. It is for
// a host that gives Sealane up, after everything else was removed.
func (l *Linux) Remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if holds, ok := l.kinds[kstate.KindHold].(*bpf.Holder); ok {
		errs = append(errs, holds.Remove())
	}
	return errors.Join(append(errs, l.dir.Unmake())...)
}
