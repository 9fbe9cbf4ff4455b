package overlay

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// tap is a store whose reader listens. A cluster.Mirror keeps for a while what a
// restored store lacks; the tap knows what is really there, so that this host's own
// keys can be put again at once.
type tap struct {
	cluster.Store
	prefix  string          // with a slash at its end
	host    string          // this host's ID
	changed func(ours bool) // something did; ours: it may be the keeper's business

	mu     sync.Mutex      // protects the following
	mirror *cluster.Mirror // nil before Run
	real   stock
	wanted map[Key]bool  // addresses of this host's: who has them is the keeper's business
	lists  int           // how often the store was listed; 0: nothing is known
	anew   chan struct{} // closed: list again
	state  state
}

// state is how it is with the store.
type state struct {
	inTouch  bool
	since    time.Time
	restored time.Time
	err      error
}

// item is a key that is there.
type item struct {
	key   Key
	entry cluster.Entry
	claim Claim   // of an address
	net   Network // of a network
	err   error   // why the value is none, of addresses and networks
}

// stock is what is there.
type stock struct {
	at     int64 // the revision at which it was read, of what was read at once
	items  map[Key]*item
	claims map[model.ID]map[netip.Addr]*item // of items, the addresses of each network
	mine   map[Key]*item                     // of items, a host's endpoints, claims, numbers and held ports
}

// newStock returns one with room for so many items.
func newStock(n int) stock {
	return stock{0, make(map[Key]*item, n), map[model.ID]map[netip.Addr]*item{}, map[Key]*item{}}
}

func newTap(o Options) *tap {
	return &tap{
		Store: o.Store, prefix: o.Prefix + "/", host: o.ID, changed: func(bool) {},
		real: newStock(0), anew: make(chan struct{}), state: state{since: time.Now()},
	}
}

// follow is told of the mirror that reads the store through the tap.
func (t *tap) follow(m *cluster.Mirror) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mirror = m
}

// readItem reads an entry; false: it is none of ours.
func (t *tap) readItem(e cluster.Entry) (*item, bool) {
	k, ok := ParseKey(strings.TrimPrefix(e.Key, t.prefix))
	if !ok {
		return nil, false
	}
	i := &item{key: k, entry: e}
	switch k.Kind {
	case KindAddress:
		i.claim, i.err = ParseClaim(e.Value)
	case KindNetwork:
		i.net, i.err = ParseNetwork(e.Value)
	}
	return i, true
}

// put takes an item in.
func (r stock) put(host string, i *item) {
	r.drop(i.key)
	r.items[i.key] = i
	if i.key.Kind == KindAddress {
		if r.claims[i.key.Network] == nil {
			r.claims[i.key.Network] = map[netip.Addr]*item{}
		}
		r.claims[i.key.Network][i.key.Addr] = i
	}
	if i.of(host) {
		r.mine[i.key] = i
	}
}

// drop takes an item out.
func (r stock) drop(k Key) {
	delete(r.items, k)
	delete(r.mine, k)
	if c := r.claims[k.Network]; k.Kind == KindAddress && c != nil {
		if delete(c, k.Addr); len(c) == 0 {
			delete(r.claims, k.Network)
		}
	}
}

// rev is when a key was last put; 0: it is not there.
func (r stock) rev(k Key) int64 {
	if i := r.items[k]; i != nil {
		return i.entry.Rev
	}
	return 0
}

// of says whether an item is an endpoint, a claim, a number or the held ports of a host's.
func (i *item) of(host string) bool {
	switch i.key.Kind {
	case KindEndpoint, KindHeld:
		return i.key.Host == host
	case KindNumber:
		return i.holder() == host
	}
	return i.key.Kind == KindAddress && i.err == nil && i.claim.Host == host
}

// concerns says whether a key is the keeper's business. The caller holds mu.
func (t *tap) concerns(k Key, now *item) bool {
	switch k.Kind {
	case KindNetwork, KindHost:
		return true
	case KindAlive:
		return k.Host == t.host
	}
	return t.real.mine[k] != nil || t.wanted[k] || now != nil && now.of(t.host)
}

// List implements cluster.Store.
func (t *tap) List(ctx context.Context, prefix string) (cluster.Snapshot, error) {
	s, err := t.Store.List(ctx, prefix)
	if t.touch(ctx, err); err == nil {
		t.list(s)
	}
	t.changed(err == nil)
	return s, err
}

func (t *tap) list(s cluster.Snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.real = newStock(len(s.Entries)); t.closed() {
		t.anew = make(chan struct{})
	}
	for _, e := range s.Entries {
		if i, ok := t.readItem(e); ok {
			t.real.put(t.host, i)
		}
	}
	t.lists++
}

// Watch implements cluster.Store. It ends as if the store had forgotten, when relist
// asks for it.
func (t *tap) Watch(ctx context.Context, prefix string, after int64) <-chan cluster.Batch {
	t.mu.Lock()
	anew := t.anew
	t.mu.Unlock()
	in, out := t.Store.Watch(ctx, prefix, after), make(chan cluster.Batch)
	go func() {
		defer close(out)
		for {
			var b cluster.Batch
			ok := true
			select {
			case b, ok = <-in:
			case <-anew:
				b = cluster.Batch{Rev: after, Err: cluster.ErrCompacted}
			}
			if !ok {
				return
			}
			t.change(ctx, b)
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
			if b.Err != nil {
				return
			}
		}
	}()
	return out
}

// change takes what happened.
func (t *tap) change(ctx context.Context, b cluster.Batch) {
	ours := false
	t.mu.Lock()
	if ctx.Err() == nil { // else it may be of before the last List
		for _, c := range b.Changes {
			ours = t.take(c) || ours
		}
	}
	t.mu.Unlock()
	if !errors.Is(b.Err, cluster.ErrCompacted) {
		ours = t.touch(ctx, b.Err) || ours
	}
	t.changed(ours)
}

// take takes one change, and says whether it is the keeper's business. The caller holds
// mu.
func (t *tap) take(c cluster.Change) bool {
	k, ok := ParseKey(strings.TrimPrefix(c.Key, t.prefix))
	if !ok || c.Rev < t.real.rev(k) {
		return false // a Commit of ours was faster
	}
	if c.Gone {
		ours := t.concerns(k, nil)
		t.real.drop(k)
		return ours
	}
	i, _ := t.readItem(c.Entry)
	ours := t.concerns(k, i)
	t.real.put(t.host, i)
	return ours
}

// Commit implements cluster.Store. It is known at once what it did, unless the store
// was listed meanwhile: then it may have been restored, and the mirror tells.
func (t *tap) Commit(ctx context.Context, x cluster.Txn) (int64, bool, error) {
	lists := t.listed()
	rev, done, err := t.Store.Commit(ctx, x)
	if err != nil || !done {
		return rev, done, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if lists == 0 || t.lists != lists {
		return rev, done, err
	}
	for _, p := range x.Put {
		if i, ok := t.readItem(cluster.Entry{Key: p.Key, Value: p.Value, Rev: rev, Lasting: p.TTL == 0}); ok && t.real.rev(i.key) < rev {
			t.real.put(t.host, i)
		}
	}
	for _, key := range x.Delete {
		if k, ok := ParseKey(strings.TrimPrefix(key, t.prefix)); ok && t.real.rev(k) < rev {
			t.real.drop(k)
		}
	}
	return rev, done, err
}

// touch notes whether the store answered, and says whether that is news. That ours
// ended is no fault of it.
func (t *tap) touch(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.err = err
	if ok := err == nil; ok != t.state.inTouch {
		t.state.inTouch, t.state.since = ok, time.Now()
		return true
	}
	return false
}

// relist has the mirror read the store anew: what is known must be wrong. A store that
// is restored to the very revision that it had looks as if nothing happened.
func (t *tap) relist() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed() {
		close(t.anew)
	}
}

// closed says whether relist asked already. The caller holds mu.
func (t *tap) closed() bool {
	select {
	case <-t.anew:
		return true
	default:
		return false
	}
}

// listed says how often the store was.
func (t *tap) listed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lists
}

// status says how it is with the store.
func (t *tap) status() state {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.state
	if t.mirror != nil {
		s.restored = t.mirror.Status().Restored
	}
	return s
}

// held returns what the store lacks since it was restored, and what is about to be put
// again: the addresses of a network.
func (t *tap) held(network model.ID) map[netip.Addr]*item {
	t.mu.Lock()
	m := t.mirror
	t.mu.Unlock()
	if m == nil || m.Status().Held == 0 {
		return nil
	}
	out := map[netip.Addr]*item{}
	for _, e := range m.Entries() {
		if i, ok := t.readItem(e); ok && i.key.Kind == KindAddress && i.key.Network == network {
			out[i.key.Addr] = i
		}
	}
	return out
}
