package flannel

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// held is the subnet that this host has, or wants to have.
//
//	wanted ──put──▶ fresh ──nobody was earlier──▶ sure ──another has its key──▶ lost
//	   ▲               │                           ▲ │                            │
//	   └──────another was earlier                  └─┴── key gone: put again ◀────┘
type held struct {
	subnet  Subnet
	since   time.Time // that this host has it; zero: that is not known
	settled bool      // containers may live in it: it is Options.Held, or was sure
	sure    bool      // as far as it is known, it is ours
	fresh   bool      // it was put, and not compared with what others put before
	rev     int64     // of our last put; 0: not known
	text    string    // that was put, or at least tried
	put     time.Time // when
	lasting bool      // it is a reservation
	epoch   int       // how often the store had been restored when it was put

	contest   string // who else writes its key
	contestAt time.Time
}

// problems tells of who else writes the key.
func (h held) problems() []Problem {
	if h.contest == "" {
		return nil
	}
	return []Problem{{"subnets/" + h.subnet.Key(), h.contest}}
}

// owner is whose an entry is.
type owner int

const (
	ours     owner = iota
	theirs         // another host's
	unsigned       // flanneld's or a reservation, with our public address
	garbage        // nobody's
)

// whose tells by the ID, and by the public address where there is none: the IPv4
// one, and in a fabric of IPv6 alone the other. 0.0.0.0 is nobody's.
func (l *Leaser) whose(r *record) owner {
	v := r.lease.Value
	switch {
	case r.value != nil:
		return garbage
	case v.Node != nil && v.Node.ID == l.o.Node.ID:
		return ours
	case v.Node != nil:
		return theirs
	case l.config.EnableIPv4 && v.Public4.IsValid() && v.Public4 == l.value.Public4:
		return unsigned
	case !l.config.EnableIPv4 && v.Public6.IsValid() && v.Public6 == l.value.Public6:
		return unsigned
	}
	return theirs
}

// errRace says that another host was faster.
var errRace = errors.New("another host was faster: choosing again")

// hold does the next step, unless the last one went wrong just now.
func (l *Leaser) hold(ctx context.Context) {
	now := l.o.Clock.Now()
	touch, _, _, _ := l.tap.status()
	back := touch && !l.touched
	l.touched = touch
	if wait := l.next.Sub(now); !back && wait > 0 && wait <= Again {
		return
	}
	before := l.own
	if l.own.epoch != l.tap.epochs() {
		l.own.rev = 0 // revisions are counted anew
	}
	err := l.step(ctx, now)
	if l.own != before {
		l.dirty = true
	}
	if ctx.Err() != nil {
		return
	}
	if l.err = err; err == nil {
		l.tries, l.next = 0, time.Time{}
		return
	}
	if errors.Is(err, errRace) && l.tries >= 3 {
		l.reread(ctx) // so often nobody is faster: what is known must be wrong
	}
	wait := min(soon<<min(l.tries, 10), Again)
	l.tries++
	l.next = l.o.Clock.Now().Add(wait/2 + time.Duration(l.o.Rand.Int64N(int64(wait/2)+1)))
}

// step compares the store with what is held.
func (l *Leaser) step(ctx context.Context, now time.Time) error {
	if l.own.subnet.IsZero() {
		return l.acquire(ctx, now, held{})
	}
	key := l.own.subnet.Key()
	r, known := l.records[key]
	switch {
	case !l.tap.has(l.key(key)):
		return l.retake(ctx, now)
	case known && r.rev == l.own.rev && r.text == l.own.text:
		// A restored store may give a put the revision that one had before: to a
		// mirror that is no news.
		return l.keep(ctx, now, r)
	case !known || r.epoch < l.own.epoch || r.rev < l.own.rev:
		return nil // the mirror is behind
	case r.rev == l.own.rev:
		return l.keep(ctx, now, r)
	}
	return l.foreign(ctx, now, r)
}

// key is a lease's in the store.
func (l *Leaser) key(name string) string { return path.Join(l.o.Prefix, "subnets") + "/" + name }

// retake puts the subnet that nobody has, without asking: its containers are there.
func (l *Leaser) retake(ctx context.Context, now time.Time) error {
	if !l.confHere {
		return nil // a fabric without a config is being made, or taken apart
	}
	if !l.config.Fits(l.own.subnet) {
		err := l.misfit(ctx, now)
		if err != nil || l.loss == nil || !l.config.V4.mayHold(l.own.subnet.V4) || !l.config.V6.mayHold(l.own.subnet.V6) {
			return err
		}
	}
	for _, r := range l.sorted() {
		if r.lease.Key != l.own.subnet.Key() && l.config.within(r).Overlaps(l.own.subnet) {
			return l.lost(ctx, now, r, "overlaps that of "+r.lease.Value.who())
		}
	}
	l.own.lasting = false
	return l.write(ctx, now, 0, held{})
}

// foreign judges a put that is not known to be ours.
func (l *Leaser) foreign(ctx context.Context, now time.Time, r *record) error {
	who := l.whose(r)
	switch {
	case who == theirs && l.outdated(now, r):
		return l.write(ctx, now, r.rev, held{})
	case who == theirs:
		return l.lost(ctx, now, r, "is held by "+r.lease.Value.who())
	case l.own.rev == 0, who == unsigned && r.reserved():
		l.own.lasting = r.lease.Lasting
		return l.write(ctx, now, r.rev, held{})
	}
	return l.contested(ctx, now, r, who)
}

// outdated reports whether another host's lease is of before this host took the subnet.
// It had ended then, and is back with an old copy of the store.
func (l *Leaser) outdated(now time.Time, r *record) bool {
	node := r.lease.Value.Node
	return l.own.settled && node != nil && !node.Since.IsZero() && node.Since.Before(l.own.since) && !l.own.since.After(now)
}

// contested is about a key that somebody writes who thinks to be this host: a clone
// of it, a flanneld of it, or one behind the same address. Neither can tell who is
// right. So this says so, and writes it back once a minute, until Agree.
func (l *Leaser) contested(ctx context.Context, now time.Time, r *record, who owner) error {
	text := map[owner]string{
		ours:     "is written by another with this host's ID: is that a clone of it, or a second daemon?",
		unsigned: "is written by a flanneld with this host's public address: one of the two has to have another, or to end",
		garbage:  "was overwritten by somebody",
	}[who]
	l.own.contest, l.own.contestAt = text, now
	if who != garbage {
		if yielded, err := l.ask(ctx, now, Loss{l.own.subnet, r.copied(), text}, held{}); yielded || err != nil {
			return err
		}
	}
	if d := now.Sub(l.own.put); d >= 0 && d < Again {
		return nil
	}
	return l.write(ctx, now, r.rev, held{})
}

// keep looks after what is there as it was put.
func (l *Leaser) keep(ctx context.Context, now time.Time, r *record) error {
	if l.own.fresh {
		if first, ok := l.earlier(r); ok {
			return l.giveWay(ctx, now, first)
		}
		l.own.fresh = false
	}
	l.own.sure, l.own.settled = true, true
	if l.own.contest != "" && now.Sub(l.own.contestAt) > time.Hour {
		l.own.contest = ""
	}
	if !l.config.Fits(l.own.subnet) {
		if err := l.misfit(ctx, now); err != nil || l.loss == nil {
			return err
		}
	} else if l.loss != nil && l.own.contest == "" {
		l.loss = nil
	}
	text, err := l.text()
	if err != nil {
		return err
	}
	if text != l.own.text || l.due(now) {
		return l.write(ctx, now, l.own.rev, held{})
	}
	if err := l.prove(ctx, now, text); err != nil {
		return err
	}
	return l.sweep(ctx)
}

// prove asks whether the lease could be renewed, by a transaction whose condition never
// holds: a store refuses that too, of who may not put the key. Otherwise a right
// that was taken away would show when the lease is about to end.
func (l *Leaser) prove(ctx context.Context, now time.Time, text string) error {
	if d := now.Sub(l.proved); d >= 0 && d < Proof {
		return nil
	}
	key := l.key(l.own.subnet.Key())
	_, _, err := l.tap.Commit(ctx, cluster.Txn{If: []cluster.If{{Key: key, Rev: math.MaxInt64}}, Put: []cluster.Put{{Key: key, Value: []byte(text)}}})
	if errors.Is(err, cluster.ErrRefused) {
		return fmt.Errorf("lease %s: %w", l.own.subnet, err)
	}
	l.proved = now // of a store that is away, the mirror tells
	return nil
}

// earlier finds who put an overlapping subnet before: of two families one may be
// another's though the key is nobody's.
func (l *Leaser) earlier(own *record) (*record, bool) {
	for _, r := range l.sorted() {
		before := r.epoch < own.epoch || r.rev < own.rev
		if r.lease.Key != own.lease.Key && before && l.tap.has(l.key(r.lease.Key)) && l.config.within(r).Overlaps(own.lease.Subnet) {
			return r, true
		}
	}
	return nil, false
}

// giveWay leaves a subnet to who had a part of it earlier.
func (l *Leaser) giveWay(ctx context.Context, now time.Time, first *record) error {
	if l.own.settled {
		return l.lost(ctx, now, first, "overlaps that of "+first.lease.Value.who())
	}
	key := l.key(l.own.subnet.Key())
	_, done, err := l.tap.Commit(ctx, cluster.Txn{If: []cluster.If{{Key: key, Rev: l.own.rev}}, Delete: []string{key}})
	if err == nil && done {
		l.own = held{}
	}
	if err == nil {
		err = errRace
	}
	return fmt.Errorf("lease %s: %w", first.lease.Subnet, err)
}

// due says whether it is time to renew. Clocks jump, and some stand still while the
// host sleeps: whatever looks like it is reason enough.
func (l *Leaser) due(now time.Time) bool {
	if l.own.lasting {
		return false
	}
	after := TTL - Margin - l.jitter
	wall := now.Round(0).Sub(l.own.put.Round(0))
	return wall >= after || now.Sub(l.own.put) >= after || wall < -Again
}

// misfit is about a subnet that a changed config does not allow for.
func (l *Leaser) misfit(ctx context.Context, now time.Time) error {
	drop := held{}
	if l.own.rev != 0 {
		drop = l.own
	}
	_, err := l.ask(ctx, now, Loss{Subnet: l.own.subnet, Reason: "the fabric's config has no such subnet any more"}, drop)
	return err
}

// lost is about a subnet that another host has.
func (l *Leaser) lost(ctx context.Context, now time.Time, r *record, reason string) error {
	if !l.own.settled {
		l.own = held{}
		return fmt.Errorf("lease %s: %w", r.lease.Subnet, errRace)
	}
	l.own.sure, l.own.rev = false, 0
	_, err := l.ask(ctx, now, Loss{l.own.subnet, r.copied(), reason}, held{})
	return err
}

// ask asks whether another subnet may be taken, at once and each minute. If so, it
// takes one; what is dropped goes in the same transaction.
func (l *Leaser) ask(ctx context.Context, now time.Time, loss Loss, drop held) (yielded bool, err error) {
	same := l.loss != nil && l.loss.Reason == loss.Reason && l.loss.Subnet == loss.Subnet
	l.dirty = l.dirty || !same
	if d := now.Sub(l.asked); same && d >= 0 && d < Again {
		return false, nil
	}
	l.loss, l.asked = &loss, now
	if l.o.Agree != nil && !l.o.Agree(loss) {
		return false, nil
	}
	l.loss = nil
	l.yielded = l.own.subnet
	l.own = held{}
	return true, l.acquire(ctx, now, drop)
}

// acquire gets a subnet: one that is this host's already, the one of its subnet.env,
// or any that is free.
func (l *Leaser) acquire(ctx context.Context, now time.Time, drop held) error {
	if !l.confHere {
		l.own = drop
		return nil
	}
	records := slices.DeleteFunc(l.sorted(), func(r *record) bool { return r.key != nil || r.lease.Subnet == drop.subnet })
	if r, ok := l.mine(records); ok {
		l.own = held{subnet: r.lease.Subnet, since: since(now), lasting: r.lease.Lasting}
		if l.whose(r) == ours {
			l.own.since = r.lease.Value.Node.Since
		}
		return l.write(ctx, now, r.rev, drop)
	}
	var taken []Subnet
	for _, r := range records {
		taken = append(taken, l.config.within(r))
	}
	s, err := l.o.Former, error(nil)
	if !l.config.Fits(s) || s == l.yielded || slices.ContainsFunc(taken, s.Overlaps) {
		s, err = Choose(*l.config, taken, l.o.Rand.IntN)
	}
	if err != nil {
		l.own = drop
		return err
	}
	l.own = held{subnet: s, since: since(now)}
	return l.write(ctx, now, 0, drop)
}

// since is the time as leases say it.
func since(now time.Time) time.Time { return now.UTC().Truncate(time.Millisecond) }

// mine finds a lease that is this host's: signed by it, reserved for it, or of a
// flanneld with its public address, which it takes the place of.
func (l *Leaser) mine(records []*record) (*record, bool) {
	var best *record
	rank := 0
	for _, r := range records {
		s := r.lease.Subnet
		if r.lease.Key != s.Key() || !l.config.Fits(s) || s == l.yielded || !l.tap.has(l.key(r.lease.Key)) {
			continue
		}
		now := 0
		switch who := l.whose(r); {
		case who == ours:
			now = 3
		case who == unsigned && r.lease.Lasting:
			now = 2
		case who == unsigned:
			now = 1
		}
		if now > rank {
			best, rank = r, now
		}
	}
	return best, rank > 0
}

// write puts this host's lease where the key is as it is known to be. A plain Put,
// as flanneld's, would take the key from whoever got it meanwhile.
func (l *Leaser) write(ctx context.Context, now time.Time, rev int64, drop held) error {
	text, err := l.text()
	if err != nil {
		return err
	}
	key := l.key(l.own.subnet.Key())
	put := cluster.Put{Key: key, Value: []byte(text), TTL: TTL}
	if l.own.lasting {
		put.TTL = 0
	}
	t := cluster.Txn{If: []cluster.If{{Key: key, Rev: rev}}, Put: []cluster.Put{put}}
	if !drop.subnet.IsZero() {
		old := l.key(drop.subnet.Key())
		t.If, t.Delete = append(t.If, cluster.If{Key: old, Rev: drop.rev}), []string{old}
	}
	at, done, err := l.tap.Commit(ctx, t)
	switch {
	case err != nil:
		l.own.rev = 0 // it may be done or not: the next one puts it again
	case done:
		l.proved = now
		l.own.text, l.own.put, l.own.rev, l.own.epoch = text, now, at, l.tap.epochs()
		l.own.fresh = l.own.fresh || rev == 0
		return nil
	default:
		err = errRace
	}
	subnet := l.own.subnet
	if !drop.subnet.IsZero() || errors.Is(err, errRace) && !l.own.settled {
		l.own = drop
	}
	return fmt.Errorf("lease %s: %w", subnet, err)
}

// text is this host's lease, with what others added to it.
func (l *Leaser) text() (string, error) {
	v := l.signed()
	if r, ok := l.records[l.own.subnet.Key()]; ok && r.value == nil {
		v.Others = r.lease.Value.Others
		if old := r.lease.Value.Node; old != nil && old.ID == v.Node.ID {
			v.Node.Others = old.Others
		}
	}
	b, err := v.Marshal()
	if err != nil {
		err = fmt.Errorf("lease %s: %w", l.own.subnet, err)
	}
	return string(b), err
}

// signed is this host's value, with the time since when the subnet is its own.
func (l *Leaser) signed() Value {
	v, node := *l.value, *l.value.Node
	node.Since = l.own.since
	v.Node = &node
	return v
}

// sweep deletes what a restored store has of this host's from before: it would keep
// a subnet from its new owner.
func (l *Leaser) sweep(ctx context.Context) error {
	if !l.tap.stale(0) {
		return nil // the store never was: no need to look at thousands
	}
	for _, r := range l.sorted() {
		key := l.key(r.lease.Key)
		if r.key != nil || r.lease.Key == l.own.subnet.Key() || l.whose(r) != ours || !l.tap.stale(r.rev) || !l.tap.has(key) {
			continue
		}
		if _, _, err := l.tap.Commit(ctx, cluster.Txn{If: []cluster.If{{Key: key, Rev: r.rev}}, Delete: []string{key}}); err != nil {
			return fmt.Errorf("lease %s: %w", r.lease.Subnet, err)
		}
	}
	return nil
}

// ownLease is the lease as it is reported.
func (l *Leaser) ownLease() *Lease {
	return &Lease{l.own.subnet.Key(), l.own.subnet, l.signed(), l.own.lasting}
}
