package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// Times of a keeper.
const (
	soon  = 100 * time.Millisecond // after something went wrong; doubled each time, up to late
	late  = 30 * time.Second
	races = 3 // in a row, then what is known must be wrong
)

// keeper keeps this host's keys in the store as they are meant to be.
type keeper struct {
	o    Options
	tap  *tap
	told func() // problems are others

	restore func(context.Context, Network) error
	claim   func(context.Context) (int, error) // of a number
	poked   chan struct{}

	mu      sync.Mutex                    // protects the following
	own     map[Key]*want                 // what Set said; nil: nothing yet
	pending map[Key]*pending              // claims that no Set knows of
	kept    []Network                     // see Keep
	offers  map[model.ID][]*model.Service // see KeepServices
	unused  map[Key]bool                  // that were given back before a container had them
	asked   bool                          // Options.Host was
	urgent  bool                          // something else is meant to be: it is not put off
	me      Host                          // what it said
	host    []byte                        // its value, without a number
	hostErr error
	ports   []Held // see SetHeld
	held    []byte // the same, as the record has it; nil: there are none
	holds   bool   // SetHeld was called

	number    int       // this host's; 0: not known yet
	numberAt  time.Time // not before is one claimed again
	numberErr error     // why it has none

	trouble []string // that the last plan found
	refused []string // what the store did not take

	twin twin

	// The following is run's.
	put   time.Time // when this host was last said to be alive
	tries int       // that went wrong in a row
	next  time.Time // not before is anything tried again
	said  string    // in the log, of what goes wrong
}

// want is an endpoint that is to be there.
type want struct {
	Endpoint
	text []byte // of its record, once it was written
}

// pending is a claim that was made, or is being made.
type pending struct {
	want   *want // nil: it is being made
	until  time.Time
	before *pending // while it is being made: what was before
}

func newKeeper(o Options, t *tap) *keeper {
	return &keeper{o: o, tap: t, told: func() {}, poked: make(chan struct{}, 1), pending: map[Key]*pending{}, unused: map[Key]bool{}, twin: twin{run: newRun()}}
}

func (k *keeper) poke() {
	select {
	case k.poked <- struct{}{}:
	default:
	}
}

func (k *keeper) refresh() {
	k.mu.Lock()
	k.asked, k.urgent = false, true
	k.mu.Unlock()
	k.poke()
}

// wantOf is an endpoint of this host's, apart from what its caller has of it.
func (k *keeper) wantOf(e Endpoint) *want {
	e.Host = k.o.ID
	e.Addrs, e.Names, e.Services = slices.Clone(e.Addrs), slices.Clone(e.Names), slices.Clone(e.Services)
	return &want{Endpoint: e}
}

func (k *keeper) set(own []Endpoint) {
	all := map[Key]*want{}
	for _, e := range own {
		w := k.wantOf(e)
		all[w.Key()] = w
	}
	k.mu.Lock()
	k.own, k.urgent = all, true
	for key := range all {
		delete(k.pending, key)
		delete(k.unused, key)
	}
	k.mu.Unlock()
	k.poke()
}

// problems are what cannot be kept.
func (k *keeper) problems() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Concat(k.trouble, k.refused)
}

// copied says that another host has this one's ID; "": none has.
func (k *keeper) copied() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.twin.text()
}

// run keeps until ctx is done.
func (k *keeper) run(ctx context.Context) {
	for {
		rest := k.pass(ctx)
		select {
		case <-ctx.Done():
			return
		case <-k.poked:
		case <-time.After(rest):
		}
	}
}

// pass does what is to be done, and says how long nothing is, if nothing happens.
func (k *keeper) pass(ctx context.Context) (rest time.Duration) {
	now := time.Now()
	if s := k.tap.status(); !s.inTouch || k.tap.listed() == 0 {
		k.next = time.Time{} // at once when it is back
		return late
	}
	if wait := k.next.Sub(now); wait > 0 && wait <= late && !k.pressed() {
		return wait
	}
	before, copied := k.problems(), k.copied()
	k.ask()
	if k.unnumbered(now) {
		k.numbered(k.claim(ctx))
	}
	for _, n := range k.lost() {
		if err := k.restore(ctx, n); err != nil {
			k.o.Log.Warn("overlay: put a network again", "network", n.Name, "error", err)
		}
	}
	units, rest := k.plan(now)
	err := k.commit(ctx, units, now)
	if now := k.copied(); now != copied && now != "" {
		k.o.Log.Warn("overlay: " + now)
	}
	if copied != k.copied() || !slices.Equal(before, k.problems()) {
		k.told()
	}
	if err == nil || ctx.Err() != nil {
		k.tries, k.next, k.said = 0, time.Time{}, ""
		return rest
	}
	if errors.Is(err, errRace) && k.tries+1 >= races {
		k.tap.relist()
	} else if !errors.Is(err, errRace) && err.Error() != k.said {
		k.said = err.Error()
		k.o.Log.Warn("overlay: keep this host's part", "error", err)
	}
	wait := min(soon<<min(k.tries, 10), late, k.o.TTL/3) // that this host is alive cannot wait longer
	k.tries++
	wait = wait/2 + rand.N(wait/2+1)
	k.next = now.Add(wait)
	return min(rest, wait)
}

// pressed says whether something else is meant to be than at the last pass.
func (k *keeper) pressed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.urgent
	k.urgent = false
	return was
}

// ask asks what this host is.
func (k *keeper) ask() {
	k.mu.Lock()
	asked := k.asked
	k.asked = true
	k.mu.Unlock()
	if asked {
		return
	}
	var h Host
	var err error
	if k.o.Host != nil {
		h, err = k.o.Host()
	}
	h.ID, h.Number = k.o.ID, 0
	var text []byte
	if err == nil {
		text, err = h.Marshal()
	}
	if err == nil {
		_, err = ParseHost(text)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.hostErr = err; err == nil {
		k.me, k.host = h, text
	}
}

// self is what this host is to the others.
func (k *keeper) self() ([]byte, error) {
	k.ask()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.host == nil && k.hostErr != nil {
		return nil, fmt.Errorf("what this host is: %w", k.hostErr)
	}
	return k.host, nil
}

// plan compares what is there with what is meant to be, and says how long that stays.
func (k *keeper) plan(now time.Time) ([]unit, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tap.mu.Lock()
	defer k.tap.mu.Unlock()
	p := newPlan(k.o, k.tap.real)
	number := 0
	if p.real.items[Key{Kind: KindNumber, Number: k.number}].holder() == k.o.ID {
		number = k.number
	}
	put := k.put
	if !put.IsZero() && k.twin.look(p.real.items[Key{Kind: KindAlive, Host: k.o.ID}], now, k.o.TTL) {
		put = time.Time{} // so that the other knows too
	}
	// What a twin wrote is written over no more often than this host says that it is
	// alive, or neither would ever rest; and what it has made is not removed.
	twins := k.twin.seen > 0
	due := p.alive(k.twin.words(k.me), now, put)
	if !twins || due {
		p.self(k.cardOf(number))
	}
	p.numbers(number)
	if k.holds && (!twins || due) {
		p.holds(k.held)
	}
	if k.numberErr != nil {
		p.complain("%s: %v", Key{Kind: KindHost, Host: k.o.ID}, k.numberErr)
	}
	if k.hostErr != nil {
		p.complain("%s: %v", Key{Kind: KindHost, Host: k.o.ID}, k.hostErr)
	}
	// Claims of a host that is not there are anybody's.
	if here := p.real.items[Key{Kind: KindHost, Host: k.o.ID}]; k.own != nil && here != nil {
		all := k.desired(p, now)
		owners := ownersOf(all)
		k.tap.wanted = map[Key]bool{}
		for a := range owners {
			k.tap.wanted[a] = true
		}
		for _, key := range slices.SortedFunc(maps.Keys(all), byEndpoint) {
			p.endpoint(all[key], owners)
		}
		if !twins {
			p.rid(all, owners, k.pending, k.unused)
		}
		p.absent()
	}
	slices.Sort(p.trouble)
	k.trouble = p.trouble
	return p.units, p.rest
}

// desired is what Set said, and the claims that wait for it. The caller holds mu.
func (k *keeper) desired(p *plan, now time.Time) map[Key]*want {
	all := maps.Clone(k.own)
	for key, c := range k.pending {
		if c.want == nil {
			continue
		}
		left := c.until.Sub(now)
		if left <= 0 {
			delete(k.pending, key)
			continue
		}
		all[key], p.rest = c.want, min(p.rest, left)
	}
	for key := range k.unused {
		if p.real.items[key] == nil && !p.claimed(key) {
			delete(k.unused, key)
		}
	}
	return all
}

// ownersOf is which endpoint is to have each address: the first that wants it.
func ownersOf(all map[Key]*want) map[Key]Key {
	out := map[Key]Key{}
	for key, w := range all {
		for _, a := range w.Addrs {
			at := Key{Kind: KindAddress, Network: w.Network, Addr: a}
			if first, ok := out[at]; !ok || byEndpoint(key, first) < 0 {
				out[at] = key
			}
		}
	}
	return out
}

// errRace says that what a transaction was about has changed.
var errRace = errors.New("somebody was quicker")

// commit does units, many at once. What the store refuses is tried by itself, so that
// it does not keep the rest from being done.
func (k *keeper) commit(ctx context.Context, units []unit, now time.Time) (err error) {
	var refused []string
	for queue := batches(units); len(queue) > 0 && err == nil; queue = queue[1:] {
		b := queue[0]
		switch e := k.commitOne(ctx, b, now); {
		case errors.Is(e, cluster.ErrRefused) && len(b) > 1:
			for _, u := range b {
				queue = append(queue, []unit{u})
			}
		case errors.Is(e, cluster.ErrRefused):
			refused = append(refused, e.Error())
		default:
			err = e
		}
	}
	if err == nil && len(refused) > 0 {
		err = fmt.Errorf("%w: %d keys or groups of keys", cluster.ErrRefused, len(refused))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = refused
	return err
}

func (k *keeper) commitOne(ctx context.Context, b []unit, now time.Time) error {
	t := txn(k.tap.prefix, b...)
	_, done, err := k.tap.Commit(ctx, t)
	switch {
	case err != nil:
		return err
	case !done:
		return errRace
	}
	alive := k.tap.prefix + Key{Kind: KindAlive, Host: k.o.ID}.String()
	if slices.ContainsFunc(t.Put, func(p cluster.Put) bool { return p.Key == alive }) {
		k.put = now
	}
	return nil
}
