package linux

import (
	"errors"
)

// Remove takes away what stands behind the objects and is no object itself:
// the programs that hold ports and that choose, and the mounts of the run directory. It is for
// a host that gives Sealane up, after everything else was removed.
func (l *Linux) Remove() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.chooser.Remove(), l.holds.Remove(), l.dir.Unmake())
}
