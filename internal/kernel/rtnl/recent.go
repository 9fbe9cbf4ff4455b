package rtnl

import (
	"sync"
	"time"
)

// recent remembers which devices Apply touched or removed lately. Notifications
// about links bear no port id, whoever changed them, nor do those about what
// the kernel does in consequence, like dropping the routes of a device that
// goes down. If they are about devices in here they are no hint.
type recent struct {
	mu      sync.Mutex // protects the following
	touched map[int]time.Time
	removed map[int]time.Time
	swept   time.Time // when both were last cleared of what is old
}

const (
	// touchedFor is how long the kernel may take for consequences: a change of
	// carrier is reported up to a second late (net/core/link_watch.c).
	touchedFor = 1500 * time.Millisecond
	// removedFor is how long a device may take to go, waiting for whoever
	// holds it.
	removedFor = 15 * time.Second
)

func newRecent() *recent { return &recent{touched: map[int]time.Time{}, removed: map[int]time.Time{}} }

// touch remembers devices that are changed, by index.
func (r *recent) touch(indexes ...int) { r.note(r.touched, indexes) }

// remove remembers devices that are removed.
func (r *recent) remove(indexes ...int) { r.note(r.removed, indexes) }

// move remembers a device that goes to another namespace. It is removed here at once,
// and there it has the same index.
func (r *recent) move(index int) {
	r.note(r.touched, []int{index})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.removed[index] = time.Now().Add(touchedFor - removedFor)
}

func (r *recent) note(in map[int]time.Time, indexes []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, i := range indexes {
		in[i] = now
	}
	if now.Sub(r.swept) > removedFor {
		r.swept = now
		drop(r.touched, now.Add(-touchedFor))
		drop(r.removed, now.Add(-removedFor))
	}
}

func drop(m map[int]time.Time, before time.Time) {
	for i, t := range m {
		if t.Before(before) {
			delete(m, i)
		}
	}
}

// changed reports whether the device was touched or removed lately.
func (r *recent) changed(index int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.touched[index]) < touchedFor || time.Since(r.removed[index]) < removedFor
}

// gone reports whether the device was removed lately.
func (r *recent) gone(index int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(r.removed[index]) < removedFor
}
