// Package pathmtu finds how large packets may be on the way to other hosts. A router
// between them may have a link with less room than this host's, and a tunnel has one MTU for
// all hosts: what does not fit is cut by the routers, or lost.
//
//	host ── mtu 1500 ── router ── mtu 1400 ── host
//	  │ echo request, 1500 bytes, not to be cut ──▶ ╳
//	  │ ◀── "too big, 1400 do", or nothing at all
//	  │ echo request, 1400 bytes ───────────────────▶ echo reply
//
// The probes are echo requests of ICMP, which the kernel of every host answers, also of
// one that runs something else than Sealane; they need no port, and nobody's consent.
// Who answers none at all is not known, and gets packets of any size.
//
//  1. Want says which paths there are. One that is new is measured at once, the others
//     every ten minutes, and those on a link of this host's, where there is no router,
//     every hour.
//  2. A search (search.go) says which sizes are to be tried. Nearly always that is one
//     probe, of full size, and its answer.
//  3. There are at most fifty probes a second, to all hosts together, and the paths
//     with routers come first: five thousand hosts are measured within two minutes.
//  4. What was found and is less than before, or more, is told within a second.
package pathmtu

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Path is a way that packets go.
type Path struct {
	Local, Remote netip.Addr
	Size          int  // of the largest packet that is to go there, in bytes, its IP header included
	Near          bool // no router is between
}

// key is what a path is known by.
type key struct {
	local, remote netip.Addr
	size          int
}

func (p Path) key() key { return key{p.Local, p.Remote, p.Size} }

const (
	pace     = 20 * time.Millisecond // between two probes
	patience = time.Second           // for an answer; less once it is known how long they take
	hurry    = 100 * time.Millisecond
	period   = 10 * time.Minute // between two measurements of a path
	rarely   = time.Hour        // and of one without a router
	memory   = 10 * time.Second // how long an answer may take to be of use
	lag      = time.Second      // until changes are told while there are more to come
)

// wire sends probes, and tells what it hears of them.
type wire interface {
	send(p Path, m mark, size int) error
	heard() <-chan word
	close()
}

// Prober measures paths. It does nothing before Start.
type Prober struct {
	log     *slog.Logger
	open    func() (wire, error)
	changed func()
	news    chan struct{} // readable after Want
	stop    chan struct{}
	work    sync.WaitGroup

	mu    sync.Mutex // protects the following
	want  []Path
	found map[key]int // what is known of wanted paths, in bytes
	ended bool
}

// New returns a prober of the network namespace of the process.
func New(log *slog.Logger) *Prober {
	return &Prober{log: log, open: open, news: make(chan struct{}, 1), stop: make(chan struct{}), found: map[key]int{}}
}

// Start begins to measure. Whenever something else than before was found, changed is
// called; it does not wait.
func (p *Prober) Start(changed func()) {
	p.changed = changed
	p.work.Go(p.run)
}

// Want says which paths there are from now on. It does not wait.
func (p *Prober) Want(list []Path) {
	p.mu.Lock()
	p.want = list
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// MTU returns the largest packet that goes a path, up to what is wanted of it, in bytes.
// False is that it is not known, as of a host that does not answer, or not yet.
func (p *Prober) MTU(path Path) (bytes int, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	bytes, known = p.found[path.key()]
	return bytes, known
}

// Close ends all of it.
func (p *Prober) Close() error {
	p.mu.Lock()
	ended := p.ended
	p.ended = true
	p.mu.Unlock()
	if !ended {
		close(p.stop)
	}
	p.work.Wait()
	return nil
}

// run waits until there is something to measure, and does.
func (p *Prober) run() {
	for told := ""; ; {
		select {
		case <-p.stop:
			return
		case <-p.news:
		}
		if len(p.wanted()) == 0 {
			continue
		}
		w, err := p.open()
		if err != nil {
			if err.Error() != told {
				p.log.Warn("path MTU: nothing is measured", "err", err)
			}
			told = err.Error()
			continue
		}
		r := &round{Prober: p, wire: w, paths: map[key]*path{}, sent: map[uint16]*probe{}, id: uint16(rand.Uint32())}
		r.run()
		w.close()
		return
	}
}

func (p *Prober) wanted() []Path {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want
}

// path is one that is measured.
type path struct {
	Path
	at     time.Time     // when something is to be done
	search *search       // nil: nothing is being measured
	found  int           // 0: nothing
	took   time.Duration // the slowest of its answers
	in     int           // the number of its queue and one more; 0: it is in none
	place  int           // there
}

// probe is one that may still be answered.
type probe struct {
	mark
	path *path
	size int
	at   time.Time
}

// round is what goes on while there are sockets. All of it is of one goroutine.
type round struct {
	*Prober
	wire    wire
	paths   map[key]*path
	queues  queues
	sent    map[uint16]*probe // by number
	id      uint16
	number  uint16
	next    time.Time // not before is a probe sent
	fresh   bool      // something was found, and not told
	freshBy time.Time // when it is to be told at the latest
	cleaned time.Time // of probes that nobody answers
}

func (r *round) run() {
	r.take()
	for {
		now := time.Now()
		p := r.queues.urgent(now)
		timer := time.NewTimer(r.rest(p, now))
		select {
		case <-r.stop:
			timer.Stop()
			return
		case <-r.Prober.news:
			r.take()
		case w := <-r.wire.heard():
			r.hear(w)
		case <-timer.C:
			r.step(p)
		}
		timer.Stop()
		r.tell()
	}
}

// take takes what is wanted.
func (r *round) take() {
	now, list := time.Now(), r.wanted()
	wanted := make(map[key]bool, len(list))
	for _, w := range list {
		k := w.key()
		wanted[k] = true
		if p := r.paths[k]; p != nil {
			if p.Near != w.Near {
				p.Near = w.Near
				r.queues.put(p)
			}
			continue
		}
		r.paths[k] = &path{Path: w, at: now}
		r.queues.put(r.paths[k])
	}
	for k, p := range r.paths {
		if !wanted[k] {
			delete(r.paths, k)
			r.queues.remove(p)
			r.Prober.mu.Lock()
			delete(r.found, k)
			r.Prober.mu.Unlock()
		}
	}
}

// rest is how long there is nothing to do for the most urgent path, or to tell.
func (r *round) rest(p *path, now time.Time) time.Duration {
	rest := rarely
	if p != nil {
		at := p.at
		if !r.waiting(p) && at.Before(r.next) {
			at = r.next
		}
		rest = at.Sub(now)
	}
	if r.fresh {
		rest = min(rest, r.freshBy.Sub(now))
	}
	return max(rest, 0)
}

// waiting reports whether a path's next step is to give up waiting, which is no probe.
func (r *round) waiting(p *path) bool { return p.search != nil && len(p.search.unsent) == 0 }

// step does what is due for a path.
func (r *round) step(p *path) {
	now := time.Now()
	if p == nil || p.at.After(now) || !r.waiting(p) && r.next.After(now) {
		return
	}
	defer r.queues.put(p)
	if r.waiting(p) {
		p.search.silent()
		r.settle(p)
		return
	}
	if p.search == nil {
		p.took = 0
		p.search = newSearch(p.Size, least(p.Remote.Is6()), p.found)
	}
	if size, ok := p.search.next(); ok {
		r.send(p, size)
	}
}

// send sends a probe.
func (r *round) send(p *path, size int) {
	now := time.Now()
	r.next = now.Add(pace)
	r.forget(now)
	for r.number++; r.sent[r.number] != nil; r.number++ {
	}
	sent := &probe{mark: mark{id: r.id, number: r.number}, path: p, size: size, at: now}
	for i, n := 0, rand.Uint64(); i < secretLen; i++ {
		sent.secret[i] = byte(n >> (8 * i))
	}
	r.sent[r.number] = sent
	p.at = now
	if len(p.search.unsent) == 0 {
		p.at = now.Add(p.patience())
	}
	if err := r.wire.send(p.Path, sent.mark, size); isTooBig(err) {
		p.search.tooBig(size, 0)
		r.settle(p)
	}
}

// patience is how long to wait for answers: several times as long as the slowest took.
func (p *path) patience() time.Duration {
	if p.took == 0 {
		return patience
	}
	return min(max(4*p.took, hurry), patience)
}

// forget forgets probes that nobody answers any more.
func (r *round) forget(now time.Time) {
	if now.Sub(r.cleaned) < lag {
		return
	}
	r.cleaned = now
	for number, p := range r.sent {
		if now.Sub(p.at) > memory {
			delete(r.sent, number)
		}
	}
}

// hear takes what was heard of a probe.
func (r *round) hear(w word) {
	sent := r.sent[w.number]
	if sent == nil || !w.of(sent.mark, sent.path.Remote) {
		return
	}
	delete(r.sent, w.number)
	p := sent.path
	if p.search == nil || r.paths[p.key()] != p {
		return
	}
	if w.big {
		p.search.tooBig(sent.size, w.fits)
	} else {
		p.took = max(p.took, time.Since(sent.at))
		p.search.answered(sent.size)
	}
	r.settle(p)
	r.queues.put(p)
}

// settle says when to go on with a path, and takes what was found.
func (r *round) settle(p *path) {
	now := time.Now()
	if !p.search.done() {
		if len(p.search.unsent) > 0 {
			p.at = now
		}
		return
	}
	found, every := p.search.passed, period
	p.search = nil
	if p.Near {
		every = rarely
	}
	p.at = now.Add(every - time.Duration(rand.Int64N(int64(every/10))))
	if found == 0 || found == p.found {
		return // who does not answer may be away
	}
	if was := cmp.Or(p.found, p.Size); found != was {
		r.log.Info("path MTU", "host", p.Remote, "bytes", found, "before", was)
	}
	p.found = found
	r.Prober.mu.Lock()
	r.found[p.key()] = found
	r.Prober.mu.Unlock()
	if !r.fresh {
		r.fresh, r.freshBy = true, now.Add(lag)
	}
}

// tell tells what is new, unless more is about to be.
func (r *round) tell() {
	if !r.fresh {
		return
	}
	if time.Now().Before(r.freshBy) && r.queues.busy(r.freshBy) {
		return
	}
	r.fresh = false
	r.changed()
}
