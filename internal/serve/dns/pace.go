package dns

import (
	"sync/atomic"
	"time"
)

// How much one sandbox may have asked of the host's servers: so often on
// average, and so often at once after a while without. They serve others too,
// and some stop serving who asks without end.
const (
	maxPace  = 1000 // a second
	maxBurst = 2000
)

// pace counts questions by when they would be due if they came evenly (GCRA,
// ITU-T I.371).
type pace struct{ due atomic.Int64 } // Unix nanoseconds

// take reports whether one more may be asked, and counts it.
func (p *pace) take(now time.Time) bool {
	const each = int64(time.Second) / maxPace
	for {
		old := p.due.Load()
		due := max(old, now.UnixNano())
		if due-now.UnixNano() >= maxBurst*each {
			return false
		}
		if p.due.CompareAndSwap(old, due+each) {
			return true
		}
	}
}
