package runtime

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// Watch sends those of the guests that interest returns whose container may have
// changed since it was found; one that was sent before may be as it was. A guest
// is sent once, however often it changes before it is received. Only runtimes of
// guests are watched. The channel is closed when ctx is done.
//
// interest is called at once and after Refresh, soon, by a goroutine of Watch's own.
// A guest that it did not return before is sent too.
func (f *Finder) Watch(ctx context.Context, interest func() []model.Guest) <-chan model.Guest {
	ended := make(chan identity)
	w := &watch{
		finder: f, interest: interest,
		refresh: make(chan struct{}, 1), in: make(chan model.Guest), out: make(chan model.Guest),
		ended: ended, deaths: &deaths{ended: ended, over: map[identity]mortal{}},
		watchers: map[model.Runtime]*watcher{}, waiting: map[model.Guest]bool{},
	}
	w.found = func(c Container) { w.deaths.follow(ctx, c) }
	f.mu.Lock()
	f.watches[w] = true
	f.mu.Unlock()
	go func() {
		defer close(w.out)
		w.run(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watches, w)
	}()
	return w.out
}

// Refresh has Watch ask again for the guests. It returns at once.
func (f *Finder) Refresh() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watches {
		wake(w.refresh)
	}
}

// wake makes a channel of one element readable.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is already
	}
}

// watch is one call of Watch. One goroutine runs it; one for each runtime, and one
// for each process of a container, give it hints.
type watch struct {
	finder   *Finder
	interest func() []model.Guest
	found    func(Container) // told of each that was found
	refresh  chan struct{}
	in, out  chan model.Guest
	ended    <-chan identity
	deaths   *deaths
	watchers map[model.Runtime]*watcher
	queue    []model.Guest // hints that nobody has received, the oldest first
	waiting  map[model.Guest]bool
}

// pace is of how many parts of the time the assigning of guests takes one, at most:
// when thousands come one by one, it is not done for each.
const pace = 50

func (w *watch) run(ctx context.Context) {
	refresh, rested := (<-chan struct{})(nil), w.assign(ctx)
	for {
		var next model.Guest
		var out chan<- model.Guest
		if len(w.queue) > 0 {
			next, out = w.queue[0], w.out
		}
		select {
		case <-ctx.Done():
			return
		case <-rested:
			refresh, rested = w.refresh, nil
		case <-refresh:
			refresh, rested = nil, w.assign(ctx)
		case g := <-w.in:
			w.add(g)
		case who := <-w.ended:
			w.end(who)
		case out <- next:
			delete(w.waiting, next)
			w.queue = w.queue[1:]
		}
	}
}

// add has a guest sent once.
func (w *watch) add(g model.Guest) {
	if !w.waiting[g] {
		w.waiting[g] = true
		w.queue = append(w.queue, g)
	}
}

func (w *watch) end(who identity) {
	of := w.watchers[who.runtime]
	if of == nil {
		return
	}
	for _, g := range of.guests() {
		if g.ID == who.id {
			w.add(g)
		}
	}
}

// assign starts, tells and ends the watchers of the runtimes. What it returns is
// readable when that may be done again.
func (w *watch) assign(ctx context.Context) (rested <-chan time.Time) {
	start := time.Now()
	guests, there, alive := map[model.Runtime][]model.Guest{}, map[model.Guest]bool{}, map[identity]bool{}
	for _, g := range w.interest() {
		guests[g.Runtime] = append(guests[g.Runtime], g)
		there[g], alive[identify(g)] = true, true
	}
	w.deaths.keep(alive)
	w.queue = slices.DeleteFunc(w.queue, func(g model.Guest) bool { return !there[g] })
	maps.DeleteFunc(w.waiting, func(g model.Guest, _ bool) bool { return !there[g] })
	for runtime, s := range w.finder.sources {
		w.assignOne(ctx, runtime, s, guests[runtime])
	}
	return time.After(pace * time.Since(start))
}

func (w *watch) assignOne(ctx context.Context, runtime model.Runtime, s source, guests []model.Guest) {
	of := w.watchers[runtime]
	if len(guests) == 0 {
		if of != nil {
			of.stop()
			delete(w.watchers, runtime)
		}
		return
	}
	if of == nil {
		of = &watcher{in: w.in, changed: make(chan struct{}, 1)}
		ctx, of.stop = context.WithCancel(ctx)
		w.watchers[runtime] = of
		go s.watch(ctx, of)
	}
	of.set(guests)
}

// watcher is what one source has of a call of Watch.
type watcher struct {
	in      chan<- model.Guest
	changed chan struct{} // readable after set
	stop    context.CancelFunc

	mu   sync.Mutex           // protects the following
	now  []model.Guest        // replaced, never changed
	seen map[model.Guest]bool // what fresh returned before and is still there
}

func (w *watcher) set(guests []model.Guest) {
	w.mu.Lock()
	w.now = guests
	w.mu.Unlock()
	wake(w.changed)
}

// guests returns those of the runtime that somebody wants to know of.
func (w *watcher) guests() []model.Guest {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// fresh returns the guests that it did not return before. They may have changed
// between being found and being watched.
func (w *watcher) fresh() []model.Guest {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []model.Guest
	seen := make(map[model.Guest]bool, len(w.now))
	for _, g := range w.now {
		if !w.seen[g] {
			out = append(out, g)
		}
		seen[g] = true
	}
	w.seen = seen
	return out
}

// hintFresh hints the fresh guests whenever they may be others, until ctx is done.
func (w *watcher) hintFresh(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.changed:
			w.hint(ctx, w.fresh()...)
		}
	}
}

// hint says that guests may have changed.
func (w *watcher) hint(ctx context.Context, guests ...model.Guest) {
	for _, g := range guests {
		select {
		case <-ctx.Done():
			return
		case w.in <- g:
		}
	}
}

// hintThose hints the guests that a change may concern.
func (w *watcher) hintThose(ctx context.Context, concerned func(model.Guest) bool) {
	for _, g := range w.guests() {
		if concerned(g) {
			w.hint(ctx, g)
		}
	}
}
