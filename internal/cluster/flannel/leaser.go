package flannel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// Times of leases, as flanneld has them.
const (
	// TTL is how long a lease lasts without its host.
	TTL = 24 * time.Hour
	// Margin is how long before its end a lease is renewed, at the latest.
	Margin = time.Hour
	// Again is how long after something that went wrong it is tried again, at the latest.
	Again = time.Minute

	// Proof is how often a store is asked whether it would take the lease.
	Proof = 5 * time.Minute

	soon = 100 * time.Millisecond // after a lost race; doubled each time, up to Again
)

// Prefix is where Flannel keeps its keys unless told otherwise.
const Prefix = "/coreos.com/network"

// Clock tells the time and lets it pass.
type Clock interface {
	Now() time.Time
	After(d time.Duration) <-chan time.Time
}

// Options are what a Leaser needs to know.
type Options struct {
	Store  cluster.Store
	Prefix string // of the keys; "": Prefix
	Node   Node   // who this host is
	Log    *slog.Logger

	// Held is the subnet that containers of this host live in, from its own records.
	// It is not given up before Agree.
	Held Subnet
	// HeldSince is when this host took it; zero: that is not known.
	HeldSince time.Time
	// Former is the subnet of a subnet.env. It is taken if it is free.
	Former Subnet

	// Describe makes the value of this host's lease for a config. It is asked again
	// for a new config, and after Refresh. Its Node is of no consequence.
	Describe func(Config) (Value, error)
	// Agree is asked whether another subnet may be taken, when the host's cannot stay
	// its own: at once, and each minute. Nil agrees.
	Agree func(Loss) bool
	// Report is told of each change, by one goroutine. It does not wait.
	Report func(View)

	Clock Clock      // nil: the system's
	Rand  *rand.Rand // nil: a new one
}

// Leaser keeps one host's lease in one fabric and knows its neighbours'. It tells
// no lie and never ends by itself: while the store is away, or full, or holds
// nonsense, it goes on with what it knew and tries again.
type Leaser struct {
	o      Options
	tap    *tap
	poked  chan struct{}
	jitter time.Duration // of this host's renewals, in 30 minutes

	mu      sync.Mutex // protects the following
	inbox   map[string]news
	read    bool // the store was
	refresh bool
	askNow  bool
	leaving bool

	// The following is Run's.
	records  map[string]*record // by name
	config   *Config            // the last good one
	known    bool               // the store was read, as Run last saw it
	confHere bool               // there is one in the store, good or not
	confErr  error
	value    *Value // of this host's lease, for config
	stale    bool   // Describe is to be asked again
	own      held
	yielded  Subnet // that was given up; it is not taken again
	loss     *Loss
	asked    time.Time // Agree was
	proved   time.Time // the store would take the lease
	touched  bool      // the store was in touch
	err      error     // what hinders
	descErr  error     // of Describe
	tries    int       // that went wrong in a row
	next     time.Time // not before is anything tried again
	dirty    bool      // the view may be other than it was
	view     View
}

// news is a change, and how often the store had been restored before.
type news struct {
	cluster.Change
	epoch int
}

// New returns a Leaser that does nothing before Run.
func New(o Options) *Leaser {
	if o.Prefix == "" {
		o.Prefix = Prefix
	}
	if o.Clock == nil {
		o.Clock = system{}
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Leaser{o: o, poked: make(chan struct{}, 1), inbox: map[string]news{}, records: map[string]*record{}}
	l.tap = &tap{Store: o.Store, now: o.Clock.Now, poke: l.poke, since: o.Clock.Now(), there: map[string]int64{}}
	l.jitter = time.Duration(o.Rand.Int64N(int64(30 * time.Minute)))
	l.own = held{subnet: o.Held, since: o.HeldSince, settled: !o.Held.IsZero()}
	return l
}

// system is the system's clock.
type system struct{}

func (system) Now() time.Time                         { return time.Now() }
func (system) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Run keeps the lease until ctx is done. The lease stays in the store then.
func (l *Leaser) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	mirror := cluster.Follow(ctx, l.tap, path.Join(l.o.Prefix)+"/", l.o.Log, l.deliver)
	defer func() { cancel(); <-mirror.Done() }()
	for {
		l.pass(ctx)
		select {
		case <-ctx.Done():
			return
		case <-l.poked:
		case <-l.o.Clock.After(l.rest()):
		}
	}
}

// Refresh has Describe asked again.
func (l *Leaser) Refresh() {
	l.mu.Lock()
	l.refresh = true
	l.mu.Unlock()
	l.poke()
}

// AskAgain has Agree asked before its minute is over: what hindered may be gone.
func (l *Leaser) AskAgain() {
	l.mu.Lock()
	l.askNow = true
	l.mu.Unlock()
	l.poke()
}

func (l *Leaser) poke() {
	select {
	case l.poked <- struct{}{}:
	default:
	}
}

// deliver is told of changes by the mirror.
func (l *Leaser) deliver(u cluster.Update) {
	epoch := l.tap.epochs()
	l.mu.Lock()
	for _, c := range u.Changes {
		l.inbox[c.Key] = news{c, epoch}
	}
	l.read = true
	l.mu.Unlock()
	l.poke()
}

// rest is how long nothing is to be done: a minute at most, so that a clock that
// jumped is noticed, and Agree is asked again.
func (l *Leaser) rest() time.Duration {
	now, rest := l.o.Clock.Now(), Again
	if d := l.next.Sub(now); d > 0 {
		rest = min(d, rest)
	}
	if d := l.asked.Add(Again).Sub(now); l.loss != nil && d > 0 {
		rest = min(d, rest)
	}
	return rest
}

// pass does what is to be done: it looks at what is known, and needs no history.
func (l *Leaser) pass(ctx context.Context) {
	read, leaving := l.take()
	if read {
		l.describe()
		if l.config != nil && l.value != nil && !leaving {
			l.hold(ctx)
		}
	}
	l.report(leaving)
}

// take takes what has come in.
func (l *Leaser) take() (read, leaving bool) {
	l.mu.Lock()
	inbox, refresh := l.inbox, l.refresh
	if l.askNow {
		l.asked = time.Time{}
	}
	l.inbox, l.refresh, l.askNow = map[string]news{}, false, false
	read, leaving = l.read, l.leaving
	l.mu.Unlock()
	l.known = read
	if refresh {
		l.stale = true
	}
	config, subnets := path.Join(l.o.Prefix, "config"), path.Join(l.o.Prefix, "subnets")+"/"
	for _, c := range inbox {
		name, isLease := strings.CutPrefix(c.Key, subnets)
		switch {
		case c.Key == config:
			l.takeConfig(c.Change)
			l.next, l.dirty = time.Time{}, true
		case isLease && c.Gone:
			delete(l.records, name)
			l.next, l.dirty = time.Time{}, true // a subnet is free
		case isLease:
			l.takeLease(name, c)
		}
	}
	return read, leaving
}

// takeLease reads an entry, unless it was only renewed.
func (l *Leaser) takeLease(name string, e news) {
	r, ok := l.records[name]
	if !ok || r.text != string(e.Value) || r.lease.Lasting != e.Lasting {
		r, l.dirty = readRecord(name, e.Entry), true
	}
	r.rev, r.epoch = e.Rev, e.epoch
	l.records[name] = r
}

// reread reads the leases past the mirror, which may have been deceived: a store that
// is restored to the very revision that it had looks as if nothing happened.
func (l *Leaser) reread(ctx context.Context) {
	subnets := path.Join(l.o.Prefix, "subnets") + "/"
	s, err := l.o.Store.List(ctx, subnets)
	if err != nil {
		return // the next try says so
	}
	was := l.records
	l.records, l.dirty = map[string]*record{}, true
	for _, e := range s.Entries {
		name := strings.TrimPrefix(e.Key, subnets)
		if r, ok := was[name]; ok {
			l.records[name] = r
		}
		l.takeLease(name, news{cluster.Change{Entry: e}, l.tap.epochs()})
	}
	l.tap.correct(subnets, s.Entries)
}

// takeConfig keeps the last good config if there is none any more.
func (l *Leaser) takeConfig(c cluster.Change) {
	l.confHere = !c.Gone
	if c.Gone {
		return
	}
	parsed, err := ParseConfig(c.Value)
	if l.confErr = err; err == nil {
		l.config, l.stale = &parsed, true
	}
}

// describe asks for this host's value if it may have changed. The one before is as
// good as it was while there is no answer.
func (l *Leaser) describe() {
	if l.config == nil || !l.stale {
		return
	}
	v, err := l.o.Describe(*l.config)
	if l.descErr = err; err == nil {
		node := l.o.Node
		v.Node = &node
		l.value, l.stale, l.dirty = &v, false, true
	}
}

// report tells of what is known, if it is other than before.
func (l *Leaser) report(leaving bool) {
	v := View{Config: l.config, Loss: l.loss, Removed: l.known && l.config != nil && !l.confHere}
	var err error
	v.InTouch, v.Since, v.Restored, err = l.tap.status()
	v.LastError = l.hindrance(err)
	if l.own.sure && !leaving {
		v.Own = l.ownLease()
	}
	if v.Peers, v.Problems = l.view.Peers, l.view.Problems; l.dirty {
		v.Peers, v.Problems = l.look()
		l.dirty = false
	}
	if v.equal(l.view) {
		return
	}
	if l.view = v; l.o.Report != nil {
		l.o.Report(v)
	}
}

// hindrance is the first thing to be put right.
func (l *Leaser) hindrance(store error) string {
	config := path.Join(l.o.Prefix, "config")
	switch {
	case store != nil:
		return store.Error()
	case l.confErr != nil && l.confHere:
		return fmt.Sprintf("%s: %v", config, l.confErr)
	case l.known && !l.confHere && l.config != nil:
		return config + ": missing: the fabric's config belongs there"
	case l.descErr != nil:
		return l.descErr.Error()
	case l.err != nil:
		return l.err.Error()
	}
	return ""
}

// look sorts out the neighbours.
func (l *Leaser) look() ([]Lease, []Problem) {
	if l.config == nil {
		return nil, nil
	}
	own := Lease{Key: "-"}
	if l.value != nil {
		own.Value = *l.value
	}
	if l.own.settled {
		own.Subnet = l.own.subnet
	}
	if l.own.sure {
		own.Key = l.own.subnet.Key()
	}
	peers, problems := neighbours(l.config, own, l.sorted())
	problems = append(problems, l.own.problems()...)
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	return peers, problems
}

func (l *Leaser) sorted() []*record {
	return slices.SortedFunc(maps.Values(l.records), func(a, b *record) int { return strings.Compare(a.lease.Key, b.lease.Key) })
}

// Release gives the lease up, for a host that leaves the fabric. A reservation
// becomes one that nobody uses. Nothing is taken again afterwards.
func (l *Leaser) Release(ctx context.Context) error {
	l.mu.Lock()
	l.leaving = true
	l.mu.Unlock()
	defer l.poke()
	subnets := path.Join(l.o.Prefix, "subnets") + "/"
	s, err := l.o.Store.List(ctx, subnets)
	if err != nil {
		return fmt.Errorf("lease: release: %w", err)
	}
	for _, e := range s.Entries {
		v, err := ParseValue(e.Value)
		if err != nil || v.Node == nil || v.Node.ID != l.o.Node.ID {
			continue
		}
		if err := l.release(ctx, e, v); err != nil {
			return fmt.Errorf("lease: release: %w", err)
		}
	}
	return nil
}

var errChanged = errors.New("it was changed meanwhile")

func (l *Leaser) release(ctx context.Context, e cluster.Entry, v Value) error {
	t := cluster.Txn{If: []cluster.If{{Key: e.Key, Rev: e.Rev}}, Delete: []string{e.Key}}
	if e.Lasting {
		bare, err := Value{Public4: v.Public4, Public6: v.Public6}.Marshal()
		if err != nil {
			return err
		}
		t.Delete, t.Put = nil, []cluster.Put{{Key: e.Key, Value: bare}}
	}
	_, done, err := l.o.Store.Commit(ctx, t)
	if err == nil && !done {
		err = errChanged
	}
	return err
}
