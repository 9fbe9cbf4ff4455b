// Package dns is the name server that every sandbox on a user network has at
// 127.0.0.11, port 53, UDP and TCP.
//
//	sandbox's namespace                               host's namespace
//	┌──────────────────────────────────────────┐
//	│ app ──▶ 127.0.0.11:53 ──nft──▶ :PORT ────┼──▶ listener ─┬─▶ zones: own answer
//	│ app ◀── 127.0.0.11:53 ◀──nft── :PORT ◀───┼──            ├─▶ cache
//	└────────────────▲─────────────────────────┘              └─▶ race ──▶ host's servers
//	                 └── servers given with --dns ◀──────────────┘
//
// The story of a question:
//
//  1. A rule in the namespace changes port 53 of 127.0.0.11 into the port that the
//     listener has, and back in replies. Port 53 itself stays free for the
//     sandbox's own servers, and nothing there is tracked (see redirect.go).
//  2. The listener's only goroutine reads a batch, parses each question by hand
//     and looks the name up in the zones of the view. What is known there, or
//     known not to be there, is answered in the same batch.
//  3. An answer in the cache is answered in the same batch too.
//  4. Everything else is forwarded: one flight per question, however many ask it;
//     the second server is asked when the first takes long or has nothing
//     good to say.
//
// Zones belong to networks and are shared by all views, so a new endpoint changes
// one zone and no view. Readers take a zone's snapshot and lock nothing.
package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sealane/sealane/internal/kstate"
)

// View is what one sandbox sees.
type View struct {
	// NS is the sandbox's network namespace; an inode of 0 takes any.
	NS kstate.NS
	// Zones are those of its networks, in the order they are searched.
	Zones []*Zone
	// Links are names that only this sandbox has for others: alias → name.
	Links map[string]string
	// Servers are asked for other names, from the sandbox's own namespace. If
	// there are none the host's are asked, from the host's.
	Servers []netip.AddrPort
	// Internal keeps the sandbox from the host's servers: without Servers there are
	// no names but those of its networks.
	Internal bool
}

// Resolver serves any number of sandboxes. Its methods may be called from
// several goroutines.
type Resolver struct {
	log     *slog.Logger
	batches *sync.Pool // of *batch
	rules   *rules
	host    atomic.Pointer[forwarder] // the host's servers
	counts  counts

	mu    sync.Mutex // protects slots
	slots map[string]*slot
}

// slot is the place of one key. Work in a namespace is done under its lock, so
// that sandboxes do not wait for each other.
type slot struct {
	mu sync.Mutex // protects on
	on *listener  // nil: nothing listens
}

// New returns a resolver without sandboxes and without servers of the host.
func New(log *slog.Logger) *Resolver {
	r := &Resolver{log: log, batches: newBatches(), rules: newRules(), slots: map[string]*slot{}}
	r.host.Store(newForwarder(nil, nil, hostCache, &r.counts))
	return r
}

// SetServers replaces the host's servers, which are dialled from the namespace
// the process is in, loopback addresses included. What was cached from others is
// forgotten; the same list again changes nothing.
func (r *Resolver) SetServers(servers []netip.AddrPort) {
	// What is being asked of the old ones may still be answered.
	if !slices.Equal(r.host.Load().addresses(), servers) {
		r.host.Store(newForwarder(servers, nil, hostCache, &r.counts))
	}
}

// Put serves the sandbox of key as view says, from the next question on. In a
// namespace that is new to it, it listens and installs its rules, replacing those
// of a resolver that was there before. A namespace that is gone is a
// kernel.ErrNoNamespace.
func (r *Resolver) Put(key string, view View) error {
	s := r.lock(key)
	defer s.mu.Unlock()
	if s.on != nil && s.on.serves(view.NS) {
		s.on.show(view)
		return nil
	}
	var before error
	if s.on != nil {
		before = s.on.remove()
		s.on = nil
	}
	l, err := listen(r, view)
	if err != nil {
		return errors.Join(fmt.Errorf("dns: %s: %w", view.NS, err), before)
	}
	s.on = l
	return nil
}

// Remove stops serving the sandbox of key and removes what is in its namespace.
// An unknown key is no error.
func (r *Resolver) Remove(key string) error {
	s := r.lock(key)
	defer s.mu.Unlock()
	var err error
	if l := s.on; l != nil {
		s.on = nil
		if err = l.remove(); err != nil {
			err = fmt.Errorf("dns: %s: remove: %w", l.ns, err)
		}
	}
	// Only now: who finds no slot begins in the namespace at once.
	r.mu.Lock()
	delete(r.slots, key)
	r.mu.Unlock()
	return err
}

// Namespaces are entered by so many goroutines at a time when there are many to
// do. The kernel does one nftables transaction at a time per namespace only.
const workers = 4

// Set serves exactly the sandboxes of views: Put for each, Remove for all others.
// It does what it can and returns all errors.
func (r *Resolver) Set(views map[string]View) error {
	var todo []func() error
	for _, key := range r.keys() {
		if _, ok := views[key]; !ok {
			todo = append(todo, func() error { return r.Remove(key) })
		}
	}
	for _, key := range slices.Sorted(maps.Keys(views)) {
		todo = append(todo, func() error { return r.Put(key, views[key]) })
	}
	return inParallel(todo)
}

// Repair installs the rules again in every namespace, in case somebody flushed
// them. A sandbox is served all the time meanwhile.
func (r *Resolver) Repair() error {
	var todo []func() error
	for _, key := range r.keys() {
		todo = append(todo, func() error {
			s := r.lock(key)
			defer s.mu.Unlock()
			if s.on == nil {
				return nil
			}
			return s.on.repair()
		})
	}
	return inParallel(todo)
}

// Mend installs the rules of one sandbox again if somebody changed them, and reports
// whether that was so. A key that is not served is an error.
func (r *Resolver) Mend(key string) (missing bool, err error) {
	r.mu.Lock()
	s := r.slots[key]
	r.mu.Unlock()
	if s == nil {
		return false, fmt.Errorf("dns: %s: is not served", key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		return false, fmt.Errorf("dns: %s: is not served", key)
	}
	return s.on.mend()
}

// Close stops serving. The rules stay in the namespaces, so that questions wait
// for the next resolver rather than reach another server. Nothing may be called
// afterwards.
func (r *Resolver) Close() error {
	var errs []error
	for _, key := range r.keys() {
		s := r.lock(key)
		if s.on != nil {
			errs = append(errs, s.on.close())
		}
		s.on = nil
		s.mu.Unlock()
	}
	r.host.Load().close()
	return errors.Join(errs...)
}

// lock returns the locked slot of key. One that was removed while we waited
// for its lock is nobody's.
func (r *Resolver) lock(key string) *slot {
	for {
		s := r.slot(key)
		s.mu.Lock()
		if r.slot(key) == s {
			return s
		}
		s.mu.Unlock()
	}
}

func (r *Resolver) slot(key string) *slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[key]
	if s == nil {
		s = &slot{}
		r.slots[key] = s
	}
	return s
}

func (r *Resolver) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.slots))
}

// inParallel calls all functions, a few at a time, and joins their errors.
func inParallel(todo []func() error) error {
	errs := make([]error, len(todo))
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(workers, len(todo)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(todo); i = int(next.Add(1)) - 1 {
				errs[i] = todo[i]()
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// Servers returns the nameservers of a resolv.conf(5), in order, each once.
func Servers(resolvConf string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(resolvConf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if s := netip.AddrPortFrom(a.Unmap(), 53); err == nil && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
