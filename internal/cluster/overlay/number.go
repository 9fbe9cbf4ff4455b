package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/cluster"
	"github.com/sealane/sealane/internal/model"
)

// A host of the cluster has a number, by which others mark what is for it. It is claimed
// by compare-and-swap, the lowest that is free, and stays the host's until Forget.

// numberRetry is how long a claim of a number waits that came to nothing.
const numberRetry = 10 * time.Second

// errNumbers is that there are more hosts than numbers.
var errNumbers = model.Errorf(model.Exhausted, "", "", "%d hosts have numbers: none is free", model.MaxHostNumber)

// holder is the host that a number's claim names; "": none.
func (i *item) holder() string {
	if i == nil || i.key.Kind != KindNumber || !isID(string(i.entry.Value)) {
		return ""
	}
	return string(i.entry.Value)
}

// unnumbered says whether this host has to claim a number, and may now.
func (k *keeper) unnumbered(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tap.mu.Lock()
	defer k.tap.mu.Unlock()
	if k.number == 0 { // its daemon starts again
		k.number = k.tap.real.said(k.o.ID)
	}
	has := k.tap.real.items[Key{Kind: KindNumber, Number: k.number}].holder() == k.o.ID
	if wait := k.numberAt.Sub(now); has || k.host == nil || wait > 0 && wait <= numberRetry {
		return false
	}
	k.numberAt = now.Add(numberRetry)
	return true
}

// said is the number that a host's record says, or 0.
func (r stock) said(host string) int {
	i := r.items[Key{Kind: KindHost, Host: host}]
	if i == nil {
		return 0
	}
	h, err := ParseHost(i.entry.Value)
	if err != nil {
		return 0
	}
	return h.Number
}

// numbered notes what came of a claim.
func (k *keeper) numbered(n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.numberErr = err; err == nil {
		k.number, k.numberAt = n, time.Time{}
	}
}

// claimNumber claims a number for this host, the one that it had if it can.
func (d *Directory) claimNumber(ctx context.Context) (int, error) {
	avoid := d.tap.numbersHeld()
	for n := range attempts {
		r, err := d.read(ctx, "numbers/", "hosts/")
		if err != nil {
			return 0, err
		}
		text, was := d.keep.card(0)
		number := d.pickNumber(r, was, avoid, n)
		if number == 0 {
			return 0, errNumbers
		}
		k, self := Key{Kind: KindNumber, Number: number}, Key{Kind: KindHost, Host: d.o.ID}
		if r.items[k].holder() == d.o.ID && r.items[self] != nil {
			return number, nil
		}
		u := newUnit()
		if other := r.items[k].holder(); other != "" && other != d.o.ID {
			u.ifs[Key{Kind: KindHost, Host: other}] = 0
		}
		text, _ = d.keep.card(number)
		u.put(k, r.rev(k), []byte(d.o.ID), 0)
		u.put(self, r.rev(self), text, 0)
		switch _, done, err := d.tap.Commit(ctx, txn(d.tap.prefix, u)); {
		case err != nil:
			return 0, err
		case done:
			return number, nil
		}
		if err := pause(ctx, n); err != nil {
			return 0, err
		}
	}
	return 0, errCrowd
}

// card is what this host says of itself with a number, and the number that it had.
func (k *keeper) card(number int) (text []byte, was int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cardOf(number), k.number
}

// cardOf is card. The caller holds mu.
func (k *keeper) cardOf(number int) []byte {
	if k.host == nil || number == 0 {
		return k.host
	}
	h := k.me
	h.Number = number
	text, err := h.Marshal()
	if err != nil {
		return k.host
	}
	return text
}

// pickNumber returns a number that is this host's, or nobody's: that which it had, or the
// lowest. After others were quicker again and again it is one of the next, so that many do
// not want the same. 0: none is free.
func (d *Directory) pickNumber(r stock, was int, avoid map[int]bool, tries int) int {
	var own, free, last []int
	for n := 1; n <= model.MaxHostNumber; n++ {
		switch h := r.items[Key{Kind: KindNumber, Number: n}].holder(); {
		case h == d.o.ID:
			own = append(own, n)
		case h != "" && r.items[Key{Kind: KindHost, Host: h}] != nil:
		case avoid[n]:
			last = append(last, n)
		default:
			free = append(free, n)
		}
	}
	all := append(free, last...)
	switch {
	case slices.Contains(own, was), slices.Contains(all, was) && len(own) == 0:
		return was
	case len(own) > 0:
		return own[0]
	case len(all) == 0:
		return 0
	}
	return all[rand.N(min(max(tries-2, 1), len(all)))]
}

// numbersHeld are the numbers that others had in a store that was restored to before
// then, and are about to claim again.
func (t *tap) numbersHeld() map[int]bool {
	t.mu.Lock()
	m := t.mirror
	t.mu.Unlock()
	if m == nil || m.Status().Held == 0 {
		return nil
	}
	out := map[int]bool{}
	for _, e := range m.Entries() {
		if i, ok := t.readItem(e); ok && i.key.Kind == KindNumber && i.holder() != t.host {
			out[i.key.Number] = true
		}
	}
	return out
}

// numbers has the numbers go that this host has besides its own.
func (p *plan) numbers(own int) {
	for k, i := range p.real.mine {
		if k.Kind == KindNumber && k.Number != own && own != 0 {
			p.units = append(p.units, gone(k, i.entry.Rev))
		}
	}
}

// takeNumber notes whose a number is.
func (s *seen) takeNumber(k Key, c cluster.Change) error {
	s.newHosts = true
	delete(s.numbers, k.Number)
	if c.Gone {
		return nil
	}
	i := item{key: k, entry: c.Entry}
	if i.holder() == "" {
		return errNoHost
	}
	s.numbers[k.Number] = i.holder()
	return nil
}

// numberOf is the number that a host says, if it has claimed it, or 0.
func (s *seen) numberOf(h *Host) int {
	k := Key{Kind: KindHost, Host: h.ID}
	if delete(s.stray, k); h.Number == 0 || s.numbers[h.Number] == h.ID {
		return h.Number
	}
	s.stray[k] = errUnclaimed(h.Number).Error()
	return 0
}

// errNoHost is about a number that no host has.
var errNoHost = errors.New("want the ID of a host")

func errUnclaimed(number int) error { return fmt.Errorf("number %d: is not claimed by it", number) }
