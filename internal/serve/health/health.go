// Package health asks backends of services whether they serve, from the host, and tells
// when one begins to, or does so no more.
//
//	            serves                Retries failures in a row
//	starting ──────────▶ healthy ─────────────────────────────▶ unhealthy
//	    │                   ▲                                       │
//	    │                   └──────────────── serves ───────────────┤
//	    └── does not serve for Retries intervals ───────────────────▶
//
// Each check has a goroutine of its own; no more than a number of them ask at once.
package health

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// Bounds of what a Checker does.
const (
	most     = 64                     // questions at once
	eager    = time.Second            // between two to a backend that has not served yet
	prompt   = 100 * time.Millisecond // at most, before the first to such a one
	maxWords = 200                    // bytes of an error
)

// Check is one backend that is to be asked.
type Check struct {
	Name string         // no two checks have the same
	Seat string         // tells what is there now from what was there before
	To   netip.AddrPort // where it serves
	model.Health
	State model.HealthState // what is known when the check begins; "": nothing, as if healthy
}

// Same reports whether another check asks the same of the same backend.
func (c Check) Same(o Check) bool {
	o.State = c.State
	return c == o
}

// Checker asks the backends that Want says. Its methods may be called concurrently.
type Checker struct {
	ask   func(context.Context, Check) error
	slots chan struct{}
	work  sync.WaitGroup

	mu     sync.Mutex // protects the following
	report func(Check, model.HealthState)
	kept   map[string]*patient
	ended  bool
}

// patient is one that is asked.
type patient struct {
	Check
	stop context.CancelFunc
	// trouble is the last error since it served; Checker.mu protects it.
	trouble string
}

// New returns a Checker that asks nobody yet.
func New() *Checker {
	return &Checker{ask: ask, slots: make(chan struct{}, most), kept: map[string]*patient{}, report: func(Check, model.HealthState) {}}
}

// Start says who is told when the state of a backend that is wanted becomes another. It
// must not wait, nor call the Checker.
func (c *Checker) Start(report func(Check, model.HealthState)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report = report
}

// Want says who is asked from now on. Checks that are as before go on; others begin with
// their State. It does not wait.
func (c *Checker) Want(all []Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	wanted := make(map[string]bool, len(all))
	for _, w := range all {
		wanted[w.Name] = true
		if p := c.kept[w.Name]; p == nil || !p.Same(w) {
			c.begin(w)
		}
	}
	for name := range c.kept {
		if !wanted[name] {
			c.end(name)
		}
	}
}

// begin asks a backend from now on. The caller holds mu.
func (c *Checker) begin(w Check) {
	c.end(w.Name)
	ctx, stop := context.WithCancel(context.Background())
	p := &patient{Check: w, stop: stop}
	c.kept[w.Name] = p
	c.work.Go(func() { c.run(ctx, p) })
}

// end asks a backend no more. The caller holds mu.
func (c *Checker) end(name string) {
	if p := c.kept[name]; p != nil {
		p.stop()
		delete(c.kept, name)
	}
}

// Trouble is why a backend does not serve, in a line; "": it does, or was not asked.
func (c *Checker) Trouble(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.kept[name]; p != nil {
		return p.trouble
	}
	return ""
}

// Close asks nobody any more, and returns when no question is under way.
func (c *Checker) Close() {
	c.Want(nil)
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.work.Wait()
}

// run asks a backend until ctx is done.
func (c *Checker) run(ctx context.Context, p *patient) {
	t := tally{Health: p.Health, state: p.State}
	for wait := rand.N(t.first()); rest(ctx, wait); wait = t.pace() {
		select {
		case <-ctx.Done():
			return
		case c.slots <- struct{}{}:
		}
		err := c.ask(ctx, p.Check)
		<-c.slots
		c.note(p, &t, err)
	}
}

// rest waits, and reports false if ctx is done.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// note takes an answer in, unless the backend is asked no more.
func (c *Checker) note(p *patient, t *tally, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept[p.Name] != p {
		return
	}
	if p.trouble = ""; err != nil {
		p.trouble = words(err)
	}
	if t.add(err == nil) {
		c.report(p.Check, t.state)
	}
}

// words is an error in a line.
func words(err error) string {
	text := model.Printable(err.Error())
	if len(text) > maxWords {
		text = strings.ToValidUTF8(text[:maxWords], "") + "…"
	}
	return text
}

// tally is how a backend has answered.
type tally struct {
	model.Health
	state  model.HealthState
	failed int // in a row
}

// first is how long the first question may be put off: many that begin at once are asked
// one by one.
func (t *tally) first() time.Duration {
	if t.state == model.HealthStarting {
		return min(t.Interval, prompt)
	}
	return t.Interval
}

// pace is how long to wait until the next question: one that has not served yet is asked
// often, for somebody may wait for it.
func (t *tally) pace() time.Duration {
	if t.state == model.HealthStarting {
		return min(t.Interval, eager)
	}
	return t.Interval
}

// limit is how many failures in a row there may be: who is asked more often has more.
func (t *tally) limit() int { return t.Retries * int((t.Interval+t.pace()-1)/t.pace()) }

// add counts an answer, and reports whether the state is another.
func (t *tally) add(serves bool) bool {
	was := t.state
	switch t.failed++; {
	case serves:
		t.state, t.failed = model.HealthUp, 0
	case t.failed >= t.limit():
		t.state, t.failed = model.HealthDown, t.Retries
	}
	return t.state != was
}
