package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// attempts is how often something contended is tried: with each, somebody was quicker.
const attempts = 64

// Claim claims addresses for an endpoint of this host's and puts its record, at once:
// both or none. It asks want for the addresses, and tells it which are taken, as far as
// is known; when somebody else is quicker, it asks again. What this host gave back
// lately counts as taken, unless want finds nothing else. What the endpoint has already
// is not taken. Without want it is the lowest free address of each subnet.
//
// An address that another endpoint has is a Conflict that names it and its host; what
// is left of a host that is no more is not in the way. While the store is away the
// error wraps cluster.ErrAway, and it is not known what was done: Claim again, or
// Unclaim. An error of want's is returned as it is.
//
// The claim is kept for Options.Hold, or until Set is told of the endpoint. The
// endpoint's Addrs and Host are of no consequence; without a MAC it has one made of its
// first address ([model.MACFor]).
func (d *Directory) Claim(ctx context.Context, e Endpoint, want func(taken func(netip.Addr) bool) ([]netip.Addr, error)) ([]netip.Addr, error) {
	e.Host = d.o.ID
	defer d.keep.poke()
	made := d.keep.begin(e.Key())
	addrs, err := d.claim(ctx, e, want)
	if e.Addrs, e.MAC = addrs, derived(e.MAC, addrs); err != nil {
		d.keep.end(e.Key(), made, nil)
		return nil, err
	}
	d.keep.end(e.Key(), made, &e)
	return addrs, nil
}

// Unclaim gives a claim back that came to nothing: no container has had its addresses,
// which are free as soon as the store is told. If Set knows the endpoint, it stays.
func (d *Directory) Unclaim(network, endpoint model.ID) {
	d.keep.unclaim(Key{Kind: KindEndpoint, Network: network, Host: d.o.ID, Endpoint: endpoint})
}

// begin keeps what is about to be claimed from being removed.
func (k *keeper) begin(e Key) *pending {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := &pending{}
	if was := k.pending[e]; was != nil && was.want != nil {
		p.before = was
	}
	k.pending[e] = p
	delete(k.unused, e)
	return p
}

// end notes what became of what began; nil: nothing.
func (k *keeper) end(key Key, made *pending, e *Endpoint) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.pending[key] != made: // Set or Unclaim was told meanwhile
	case e != nil:
		k.pending[key] = &pending{want: k.wantOf(*e), until: time.Now().Add(k.o.Hold)}
	case made.before != nil:
		k.pending[key] = made.before
	default:
		delete(k.pending, key)
	}
}

func (k *keeper) unclaim(e Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pending, e)
	if k.own[e] == nil {
		k.unused[e], k.urgent = true, true
	}
	k.poke()
}

// scene is what a claim is made by.
type scene struct {
	e       *Endpoint
	as      Claim                // that it is to be
	fresh   bool                 // it was read for this, and not known before
	item    func(Key) *item      // what is there
	held    map[netip.Addr]*item // what a restored store lacks for now
	lenient bool                 // what rests here is not taken
	rested  bool                 // something that rests here was called taken
}

// errStale is that what is known does not do: it has to be read.
var errStale = errors.New("it has to be read anew")

func (d *Directory) claim(ctx context.Context, e Endpoint, want func(func(netip.Addr) bool) ([]netip.Addr, error)) ([]netip.Addr, error) {
	ref := "network " + string(e.Network)
	for n := range attempts {
		s, err := d.scene(ctx, &e, n > 0)
		if err != nil {
			return nil, fault(ref, "claim an address", err)
		}
		network := s.item(Key{Kind: KindNetwork, Network: e.Network})
		switch {
		case network == nil && !s.fresh:
			continue
		case network == nil:
			return nil, model.Errorf(model.NotFound, ref, "claim an address", "the cluster has no such network")
		case network.err != nil:
			return nil, model.Errorf(model.Internal, ref, "claim an address", "%w", network.err)
		}
		ref = network.net.Ref()
		u, addrs, err := d.attempt(ctx, s, network, want)
		if errors.Is(err, errStale) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch _, done, err := d.tap.Commit(ctx, txn(d.tap.prefix, u)); {
		case err != nil:
			return nil, fault(ref, "claim an address", err)
		case done:
			return addrs, nil
		}
		if err := pause(ctx, n); err != nil {
			return nil, fault(ref, "claim an address", err)
		}
	}
	return nil, model.Errorf(model.Conflict, ref, "claim an address", "%w", errCrowd)
}

// contend commits what attempt says, until nobody was quicker. What attempt refuses is
// returned as it is, but for errMore.
func (d *Directory) contend(ctx context.Context, ref, op string, attempt func() (unit, error)) error {
	for n := range attempts {
		u, err := attempt()
		if err == errMore {
			continue
		}
		if err != nil {
			return err
		}
		switch _, done, err := d.tap.Commit(ctx, txn(d.tap.prefix, u)); {
		case err != nil:
			return fault(ref, op, err)
		case done:
			return nil
		}
		if err := pause(ctx, n); err != nil {
			return fault(ref, op, err)
		}
	}
	return model.Errorf(model.Conflict, ref, op, "%w", errCrowd)
}

// errMore is that something was done, and more is to do.
var errMore = errors.New("more is to do")

// errCrowd is that others were quicker, again and again.
var errCrowd = errors.New("too many hosts change it at once: try again")

// pause lets others get ahead after something was tried, the longer the more often.
func pause(ctx context.Context, tries int) error {
	wait := time.Duration(min(tries+1, 20)) * 2 * time.Millisecond
	select {
	case <-time.After(rand.N(wait)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fault is a store's error about an object.
func fault(ref, op string, err error) error {
	kind := model.Internal
	if errors.Is(err, cluster.ErrRefused) {
		kind = model.Denied
	}
	return model.Errorf(kind, ref, op, "%w", err)
}

// scene is what is known, or, with fresh, what is read now.
func (d *Directory) scene(ctx context.Context, e *Endpoint, fresh bool) (*scene, error) {
	s := &scene{e: e, as: Claim{Host: e.Host, Endpoint: e.ID}, fresh: fresh || d.tap.listed() == 0, item: d.tap.find, held: d.tap.held(e.Network)}
	if !s.fresh {
		return s, nil
	}
	network := string(e.Network) + "/"
	r, err := d.read(ctx, "networks/"+string(e.Network), "hosts/", "addresses/"+network, "endpoints/"+network+e.Host+"/", "services/"+network)
	s.item = func(k Key) *item { return r.items[k] }
	d.tap.later(e.Network, r, s)
	return s, err
}

// later adds to what is held what a store that was just now restored lacks: claims of
// revisions that it is yet to have. The mirror is about to learn of it.
func (t *tap) later(network model.ID, r stock, s *scene) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for a, i := range t.real.claims[network] {
		if r.items[i.key] == nil && i.entry.Rev > r.at {
			if s.held == nil {
				s.held = map[netip.Addr]*item{}
			}
			s.held[a] = i
		}
	}
}

// read reads what is under prefixes, one after the other.
func (d *Directory) read(ctx context.Context, prefixes ...string) (stock, error) {
	r := newStock(0)
	for _, p := range prefixes {
		s, err := d.o.Store.List(ctx, d.tap.prefix+p)
		if err != nil {
			return r, err
		}
		r.at = s.Rev
		for _, e := range s.Entries {
			if i, ok := d.tap.readItem(e); ok {
				r.put(d.o.ID, i)
			}
		}
	}
	return r, nil
}

// find returns what is there under a key, or nil.
func (t *tap) find(k Key) *item {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.real.items[k]
}

// ask asks for addresses.
func (s *scene) ask(n *Network, want func(func(netip.Addr) bool) ([]netip.Addr, error)) ([]netip.Addr, error) {
	taken := func(a netip.Addr) bool { return n.keeps(a) || s.taken(a) }
	addrs, err := want(taken)
	switch {
	case err != nil && !s.fresh:
		return nil, errStale
	case err != nil && s.rested:
		s.lenient = true
		return want(taken)
	}
	return addrs, err
}

// attempt asks for addresses and makes the unit that claims them.
func (d *Directory) attempt(ctx context.Context, s *scene, network *item, want func(func(netip.Addr) bool) ([]netip.Addr, error)) (unit, []netip.Addr, error) {
	n := &network.net
	if want == nil {
		want = n.lowest
	}
	addrs, err := s.ask(n, want)
	if err != nil {
		return unit{}, nil, err
	}
	u, e := newUnit(), *s.e
	e.Addrs, e.MAC = slices.Clone(addrs), derived(e.MAC, addrs)
	if err := e.Validate(); err != nil {
		return u, nil, model.Errorf(model.Invalid, n.Ref(), "claim an address", "endpoint %s: %w", e.ID, err)
	}
	for _, a := range addrs {
		if err := d.lay(ctx, u, s, n, a); err != nil {
			return u, nil, err
		}
	}
	text, err := e.Marshal()
	if err != nil {
		return u, nil, err
	}
	rev := int64(0)
	if i := s.item(e.Key()); i != nil {
		rev = i.entry.Rev
	}
	u.put(e.Key(), rev, text, 0)
	u.on(network)
	return u, e.Addrs, d.introduce(u, s)
}

// derived is the hardware address of an endpoint: its own, or one made of its first
// address.
func derived(mac string, addrs []netip.Addr) string {
	if mac == "" && len(addrs) > 0 {
		return model.MACFor(addrs[0])
	}
	return mac
}

// introduce has a unit put this host, if it is not there: claims of a host that is not
// there are anybody's.
func (d *Directory) introduce(u unit, s *scene) error {
	k := Key{Kind: KindHost, Host: d.o.ID}
	if s.item(k) != nil {
		return nil
	}
	text, err := d.keep.self()
	if err != nil {
		return model.Errorf(model.Internal, "network "+string(s.e.Network), "claim an address", "%w", err)
	}
	u.put(k, 0, text, 0)
	return nil
}

// taken says whether somebody else has an address.
func (s *scene) taken(a netip.Addr) bool {
	i := s.claimOf(a)
	switch {
	case i == nil:
		return false
	case i.err != nil:
		return true
	case i.claim.Host != s.e.Host:
		return i.claim != s.as && s.item(i.claim.holder(s.e.Network)) != nil
	case i.claim.Endpoint == s.e.ID:
		return false
	case i.claim.Endpoint == "":
		s.rested = true
		return !s.lenient
	}
	return true
}

// claimOf returns the claim of an address, also one that a restored store lacks.
func (s *scene) claimOf(a netip.Addr) *item {
	if i := s.item(s.at(a)); i != nil {
		return i
	}
	return s.held[a]
}

func (s *scene) at(a netip.Addr) Key {
	return Key{Kind: KindAddress, Network: s.e.Network, Addr: a}
}

// lay adds the claim of one address to a unit, if nobody else has it.
func (d *Directory) lay(ctx context.Context, u unit, s *scene, n *Network, a netip.Addr) error {
	complain := func(kind model.Kind, format string, args ...any) error {
		if !s.fresh {
			return errStale
		}
		return model.Errorf(kind, n.Ref(), "claim an address", "address %s: %w", a, fmt.Errorf(format, args...))
	}
	subnet, ok := n.Subnet(a)
	switch {
	case !ok:
		return complain(model.Invalid, "is not of the network")
	case subnet.Reserved(a):
		return complain(model.Invalid, "is the network or broadcast address of %s", subnet.Prefix)
	case a == subnet.Gateway:
		return complain(model.Conflict, "is the gateway")
	}
	text, err := s.as.Marshal()
	if err != nil {
		return err
	}
	i := s.claimOf(a)
	switch {
	case i == nil, i.err != nil:
	case i.claim == s.as, i.claim == Claim{Host: s.e.Host}:
	default:
		holder := i.claim.holder(s.e.Network)
		if other := s.item(holder); other != nil || i.claim.Host == s.e.Host {
			return complain(model.Conflict, "is taken by %s", whose(i.claim, other, d.endpoint(ctx, s, i)))
		}
		u.ifs[holder] = 0
	}
	rev := int64(0)
	if there := s.item(s.at(a)); there != nil {
		rev = there.entry.Rev
	}
	u.put(s.at(a), rev, text, 0)
	return nil
}

// endpoint returns the record of who has a claim, or nil.
func (d *Directory) endpoint(ctx context.Context, s *scene, claim *item) *item {
	k := Key{Kind: KindEndpoint, Network: claim.key.Network, Host: claim.claim.Host, Endpoint: claim.claim.Endpoint}
	if i := d.tap.find(k); i != nil || !s.fresh {
		return i
	}
	r, err := d.read(ctx, k.String())
	if err != nil {
		return nil
	}
	return r.items[k]
}

// keeps says whether an address is nobody's on a network: outside, a gateway, another's
// by the network's own word.
func (n *Network) keeps(a netip.Addr) bool {
	s, ok := n.Subnet(a)
	if !ok || s.Reserved(a) || a == s.Gateway {
		return true
	}
	for _, aux := range s.Aux {
		if a == aux {
			return true
		}
	}
	return false
}

// lowest finds the lowest free address of each subnet.
func (n *Network) lowest(taken func(netip.Addr) bool) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range n.Subnets {
		from := s.Prefix
		if s.Range.IsValid() {
			from = s.Range
		}
		a := from.Addr()
		for a.IsValid() && from.Contains(a) && taken(a) {
			a = a.Next()
		}
		if !a.IsValid() || !from.Contains(a) {
			return nil, model.Errorf(model.Exhausted, n.Ref(), "claim an address", "subnet %s: no free address", from)
		}
		out = append(out, a)
	}
	return out, nil
}
