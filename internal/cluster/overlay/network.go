package overlay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// book is what is there of networks, and of what they claim.
type book struct{ stock }

// readBook reads it. What pins order is done only if all of it is still so.
func (d *Directory) readBook(ctx context.Context) (book, error) {
	r, err := d.read(ctx, "order", "networks/", "names/", "vnis/")
	return book{r}, err
}

// Create makes a network, and returns it as it is: VNI 0 becomes the lowest that is
// free from FirstVNI on. A name, a VNI or a subnet that another network has is a
// Conflict.
func (d *Directory) Create(ctx context.Context, n Network) (Network, error) {
	made := n
	err := d.change(ctx, n.Ref(), "create", func(b book) (unit, error) {
		if made = n; made.VNI == 0 {
			made.VNI = b.freeVNI()
		}
		return b.changed(nil, &made)
	})
	return made, err
}

// Creatable says why Create would refuse networks, each beside those before it.
func (d *Directory) Creatable(ctx context.Context, all ...Network) error {
	b, err := d.readBook(ctx)
	if err != nil {
		return fault(all[0].Ref(), "create", err)
	}
	for _, n := range all {
		if n.VNI == 0 {
			n.VNI = b.freeVNI()
		}
		if _, err := b.changed(nil, &n); err != nil {
			return err
		}
		for _, k := range append(claimsOf(&n), Key{Kind: KindNetwork, Network: n.ID}) {
			b.items[k] = &item{key: k, net: n, entry: cluster.Entry{Value: []byte(n.ID)}}
		}
	}
	return nil
}

// Update changes a network. What f leaves of it is checked as in Create; its ID and the
// time at which it was created stay. An error of f's is returned as it is.
func (d *Directory) Update(ctx context.Context, id model.ID, f func(*Network) error) error {
	return d.change(ctx, "network "+string(id), "change", func(b book) (unit, error) {
		i, err := b.network(id, "change")
		if err != nil {
			return unit{}, err
		}
		n, err := ParseNetwork(i.entry.Value) // apart from what was read
		if err != nil {
			return unit{}, model.Errorf(model.Internal, refOf(i), "change", "%w", err)
		}
		if err := f(&n); err != nil {
			return unit{}, err
		}
		n.ID, n.Created, n.leaving, n.others = i.net.ID, i.net.Created, false, i.net.others
		return b.changed(i, &n)
	})
}

// Remove removes a network with all that it claims. While endpoints are on it, on
// whatever host, or services, that is InUse and names some.
func (d *Directory) Remove(ctx context.Context, id model.ID) error {
	ref := "network " + string(id)
	err := d.change(ctx, ref, "remove", func(b book) (unit, error) {
		i, err := b.network(id, "remove")
		if err != nil {
			return unit{}, err
		}
		ref = refOf(i)
		if i.err == nil && !i.net.leaving {
			return unit{}, d.leave(ctx, i)
		}
		if err := d.unused(ctx, i); err != nil {
			return unit{}, err
		}
		return b.removed(i), nil
	})
	if err == nil {
		d.sweep(ctx, id)
	}
	return err
}

// change reads the book and does what make says of it, until nobody was quicker.
func (d *Directory) change(ctx context.Context, ref, op string, make func(book) (unit, error)) error {
	return d.contend(ctx, ref, op, func() (unit, error) {
		b, err := d.readBook(ctx)
		if err != nil {
			return unit{}, fault(ref, op, err)
		}
		return make(b)
	})
}

// refOf names a network in errors, by its ID if it cannot be read.
func refOf(i *item) string {
	if i.err != nil {
		return "network " + string(i.key.Network)
	}
	return i.net.Ref()
}

// network finds a network by its ID.
func (b book) network(id model.ID, op string) (*item, error) {
	i := b.items[Key{Kind: KindNetwork, Network: id}]
	if i == nil {
		return nil, model.Errorf(model.NotFound, "network "+string(id), op, "the cluster has no such network")
	}
	return i, nil
}

// ordered has a unit done only if no other changes what networks claim.
func (b book) ordered(u unit, id model.ID) {
	k := Key{Kind: KindOrder}
	u.put(k, b.rev(k), []byte(id), 0)
}

// changed is the change of a network, nil: there was none, to what it is to be.
func (b book) changed(i *item, n *Network) (unit, error) {
	op := map[bool]string{true: "create", false: "change"}[i == nil]
	u, k := newUnit(), Key{Kind: KindNetwork, Network: n.ID}
	if err := n.Validate(); err != nil {
		return u, model.Errorf(model.Invalid, n.Ref(), op, "%w", err)
	}
	if i == nil && b.rev(k) != 0 {
		return u, model.Errorf(model.Conflict, n.Ref(), op, "id %s: %s has it", n.ID, refOf(b.items[k]))
	}
	text, err := n.Marshal()
	if err != nil {
		return u, model.Errorf(model.Invalid, n.Ref(), op, "%w", err)
	}
	u.put(k, b.rev(k), text, 0)
	if i != nil && i.err == nil && i.net.Name == n.Name && i.net.VNI == n.VNI && sameSubnets(&i.net, n) {
		return u, nil
	}
	b.ordered(u, n.ID)
	if err := b.apart(n); err != nil {
		return u, model.Errorf(model.Conflict, n.Ref(), op, "%w", err)
	}
	if i != nil {
		b.release(&u, i)
	}
	for _, claim := range claimsOf(n) {
		if by := b.holder(claim); by != "" && by != n.ID {
			return u, model.Errorf(model.Conflict, n.Ref(), op, "%s is taken by %s", claim.title(), refOf(b.items[Key{Kind: KindNetwork, Network: by}]))
		}
		u.put(claim, b.rev(claim), []byte(n.ID), 0)
		u.delete = slices.DeleteFunc(u.delete, func(k Key) bool { return k == claim })
	}
	return u, nil
}

func sameSubnets(a, b *Network) bool {
	return slices.EqualFunc(a.Subnets, b.Subnets, func(a, b model.Subnet) bool { return a.Prefix == b.Prefix })
}

// claimsOf is what a network claims besides its subnets.
func claimsOf(n *Network) []Key {
	return []Key{{Kind: KindName, Name: n.Name}, {Kind: KindVNI, VNI: n.VNI}}
}

// title names what is claimed in errors.
func (k Key) title() string {
	if k.Kind == KindVNI {
		return fmt.Sprintf("vni %d", k.VNI)
	}
	return "name " + k.Name
}

// holder is the network that has a claim; "": none that is there.
func (b book) holder(claim Key) model.ID {
	i := b.items[claim]
	if i == nil || b.items[Key{Kind: KindNetwork, Network: model.ID(i.entry.Value)}] == nil {
		return ""
	}
	return model.ID(i.entry.Value)
}

// apart says which other network's subnet a network's overlaps.
func (b book) apart(n *Network) error {
	for _, i := range b.networks() {
		for _, o := range i.net.Subnets {
			for _, s := range n.Subnets {
				if i.err == nil && i.net.ID != n.ID && s.Prefix.Overlaps(o.Prefix) {
					return fmt.Errorf("subnet %s overlaps %s of %s", s.Prefix, o.Prefix, i.net.Ref())
				}
			}
		}
	}
	return nil
}

// networks are all, by ID.
func (b book) networks() []*item {
	var out []*item
	for _, i := range b.items {
		if i.key.Kind == KindNetwork {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(x, y *item) int { return byKey(x.key, y.key) })
	return out
}

// freeVNI is the lowest that nobody has from FirstVNI on.
func (b book) freeVNI() int {
	used := map[int]bool{}
	for _, i := range b.items {
		switch {
		case i.key.Kind == KindVNI && b.holder(i.key) != "":
			used[i.key.VNI] = true
		case i.key.Kind == KindNetwork && i.err == nil:
			used[i.net.VNI] = true
		}
	}
	vni := FirstVNI
	for used[vni] && vni < MaxVNI {
		vni++
	}
	return vni
}

// release has a network's claims go.
func (b book) release(u *unit, network *item) {
	for k, i := range b.items {
		if (k.Kind == KindName || k.Kind == KindVNI) && string(i.entry.Value) == string(network.key.Network) {
			u.ifs[k] = i.entry.Rev
			u.delete = append(u.delete, k)
		}
	}
}

// removed is the removal of a network.
func (b book) removed(i *item) unit {
	u := gone(i.key, i.entry.Rev)
	u.puts = map[Key]value{}
	b.ordered(u, i.key.Network)
	b.release(&u, i)
	return u
}

// leave marks a network: who comes to it from now on takes the mark away, and so is not
// overlooked. It says that more is to do.
func (d *Directory) leave(ctx context.Context, i *item) error {
	n := i.net
	n.leaving = true
	if err := d.mark(ctx, i, &n); err != nil {
		return fault(n.Ref(), "remove", err)
	}
	return errMore
}

// mark puts a network in the place of what it was, if that is still there.
func (d *Directory) mark(ctx context.Context, i *item, n *Network) error {
	text, err := n.Marshal()
	if err != nil {
		return err
	}
	u := newUnit()
	u.put(i.key, i.entry.Rev, text, 0)
	_, _, err = d.tap.Commit(ctx, txn(d.tap.prefix, u))
	return err
}

// maxNamed is how many endpoints an error names.
const maxNamed = 16

// unused says which endpoints and services are on a network, but for those of hosts that are no more.
func (d *Directory) unused(ctx context.Context, i *item) error {
	r, err := d.read(ctx, "hosts/", "endpoints/"+string(i.key.Network)+"/", "services/"+string(i.key.Network)+"/")
	if err != nil {
		return fault(refOf(i), "remove", err)
	}
	var names []string
	for _, k := range slices.SortedFunc(maps.Keys(r.items), byKey) {
		host := r.items[Key{Kind: KindHost, Host: k.Host}]
		if k.Kind == KindService {
			names = append(names, "service "+k.Name)
		} else if k.Kind == KindEndpoint && host != nil {
			names = append(names, whose(Claim{Host: k.Host, Endpoint: k.Endpoint}, host, r.items[k]))
		}
	}
	if len(names) == 0 {
		return nil
	}
	if n := i.net; i.err == nil {
		n.leaving = false
		_ = d.mark(ctx, i, &n) // or the next who comes does
	}
	more := ""
	if n := len(names); n > maxNamed {
		names, more = names[:maxNamed], fmt.Sprintf(" and %d more", n-maxNamed)
	}
	return model.Errorf(model.InUse, refOf(i), "remove", "still used by %s%s", strings.Join(names, ", "), more).WithHint("disconnect them or remove them first")
}

// sweep deletes what is left of a network that was removed: addresses that rest, and
// what hosts have that are no more. If it does not come to its end, the first go by
// themselves, and the rest is in nobody's way.
func (d *Directory) sweep(ctx context.Context, id model.ID) {
	r, err := d.read(ctx, "addresses/"+string(id)+"/", "endpoints/"+string(id)+"/")
	if err == nil {
		err = drop(ctx, d.tap, d.tap.prefix, r, func(*item) bool { return true })
	}
	if err != nil {
		d.o.Log.Debug("overlay: sweep a network that was removed", "network", id, "error", err)
	}
}

// drop deletes items as they were read, some at once. Those that have changed since are
// left.
func drop(ctx context.Context, s cluster.Store, prefix string, r stock, which func(*item) bool) error {
	var units []unit
	for _, k := range slices.SortedFunc(maps.Keys(r.items), byKey) {
		if i := r.items[k]; which(i) {
			units = append(units, gone(k, i.entry.Rev))
		}
	}
	for _, b := range batches(units) {
		_, done, err := s.Commit(ctx, txn(prefix, b...))
		if err != nil {
			return err
		}
		for _, u := range b {
			if done {
				break
			}
			if _, _, err := s.Commit(ctx, txn(prefix, u)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Forget removes all that a host has, which leaves or is no more: its endpoints, the
// addresses that they claim, and last itself with its number. Its Directory does not run any more.
func Forget(ctx context.Context, s cluster.Store, prefix, host string) error {
	t := newTap(Options{Store: s, Prefix: strings.TrimRight(prefix, "/"), ID: host})
	d := &Directory{o: Options{Store: s, ID: host}, tap: t}
	r, err := d.read(ctx, "addresses/", "endpoints/", "held/"+host, "hosts/"+host, "alive/"+host, "numbers/")
	if err == nil {
		err = drop(ctx, s, t.prefix, r, func(i *item) bool { return i.key.Kind != KindNumber && i.of(host) })
	}
	if err == nil {
		err = drop(ctx, s, t.prefix, r, func(i *item) bool {
			return i.key.Kind == KindNumber && i.of(host) || (i.key.Kind == KindHost || i.key.Kind == KindAlive) && i.key.Host == host
		})
	}
	if err != nil {
		return fmt.Errorf("overlay: forget host %s: %w", host, err)
	}
	return nil
}
