// Package keep keeps things open that others want: each has a goroutine of its own,
// which opens it as soon as that is possible, and again when it has ended.
//
//	          Want                run
//	(none) ─────────▶ waiting ◀─────────▶ open
//	   ▲                 │                  │
//	   └── not in Want ──┴──────────────────┘
package keep

import (
	"fmt"
	"sync"
	"time"
)

// Keeper keeps what Want says, by name. What that is like, says a W.
type Keeper[W any] struct {
	open func(*Thing[W]) (again bool)
	work sync.WaitGroup

	mu    sync.Mutex // protects the following
	kept  map[string]*Thing[W]
	ended bool
}

// Thing is one that is wanted.
type Thing[W any] struct {
	Name string

	stop chan struct{} // closed when it is not wanted any more
	news chan struct{} // readable after Want

	mu      sync.Mutex // protects the following
	want    W
	trouble error // why it is not as wanted
}

// Of a thing that could not be opened: how long until the next attempt, which Want
// brings forward.
const (
	soonest = 100 * time.Millisecond
	latest  = 5 * time.Second
)

// New returns a keeper that keeps nothing yet. open opens a thing and attends to it
// until it is not wanted any more (Unwanted), or has ended; it reports whether it was
// well, and so is to be opened again at once.
func New[W any](open func(*Thing[W]) (well bool)) *Keeper[W] {
	return &Keeper[W]{open: open, kept: map[string]*Thing[W]{}}
}

// Want says what is to be open from now on, and that what it depends on may be other
// than before. It does not wait; Trouble tells of what cannot be opened.
func (k *Keeper[W]) Want(all map[string]W) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return
	}
	for name, w := range all {
		k.keep(name, w)
	}
	for name, t := range k.kept {
		if _, ok := all[name]; !ok {
			close(t.stop)
			delete(k.kept, name)
		}
	}
}

// keep begins to keep a thing, or tells of its new state. The caller holds mu.
func (k *Keeper[W]) keep(name string, w W) {
	if t := k.kept[name]; t != nil {
		t.mu.Lock()
		t.want = w
		t.mu.Unlock()
		select {
		case t.news <- struct{}{}:
		default:
		}
		return
	}
	t := &Thing[W]{Name: name, want: w, stop: make(chan struct{}), news: make(chan struct{}, 1)}
	k.kept[name] = t
	k.work.Go(func() { k.run(t) })
}

// run opens a thing again and again until it is not wanted any more.
func (k *Keeper[W]) run(t *Thing[W]) {
	for pause := soonest; !t.unwanted(); { // which is more than that there is news, too
		wait := pause
		if pause = min(2*pause, latest); k.open(t) {
			wait, pause = 0, soonest
		}
		select {
		case <-t.stop:
			return
		case <-t.news:
		case <-time.After(wait):
		}
	}
}

// Trouble says why a thing is not as wanted; nil if it is, and of one that is not kept.
func (k *Keeper[W]) Trouble(name string) error {
	k.mu.Lock()
	t := k.kept[name]
	k.mu.Unlock()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trouble
}

// Close has nothing be wanted any more, and waits until nothing is open.
func (k *Keeper[W]) Close() {
	k.Want(nil)
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.work.Wait()
}

// Wanted is what is wanted now.
func (t *Thing[W]) Wanted() W {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.want
}

// Unwanted is closed when the thing is not wanted any more.
func (t *Thing[W]) Unwanted() <-chan struct{} { return t.stop }

func (t *Thing[W]) unwanted() bool {
	select {
	case <-t.stop:
		return true
	default:
		return false
	}
}

// News is readable when Want was called.
func (t *Thing[W]) News() <-chan struct{} { return t.news }

// Note keeps what is wrong, if anything is, for Trouble. It reports whether that is
// other than before.
func (t *Thing[W]) Note(err error) (other bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	other = fmt.Sprint(err) != fmt.Sprint(t.trouble)
	t.trouble = err
	return other
}
