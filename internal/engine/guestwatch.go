package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// How guests follow their containers:
//
//  1. a runtime hints, a pass finds a namespace gone, or it is time to ask all
//  2. the runtime's desk collects whom to ask about, for a moment
//  3. each is asked about, all at once; work is free meanwhile
//  4. the desk collects answers, for a moment
//  5. one draft has all that changed; who cannot be where his container is, is away
//  6. if it fails, each gets a draft of its own
//  7. whose draft failed is asked about again, later and later
//
// Each runtime has its own desk: one that does not answer is in nobody's way. Nor is
// a container: Docker says nothing of one while it starts it.
const (
	gather    = 5 * time.Millisecond // hints and answers come in bursts
	abreast   = 256                  // questions at once
	startTime = 2 * time.Second      // that the first questions may take
)

// desk collects which guests of a runtime are to be asked about.
type desk struct {
	wake    chan struct{}
	turns   chan struct{} // one for each question
	answers chan answered

	mu     sync.Mutex // protects the following
	whom   map[model.ID]bool
	asking map[model.ID]bool // who is asked about now, and not twice at once
	tries  map[model.ID]int  // that failed in a row
}

// answered is what a runtime says of a guest, or why it cannot be asked.
type answered struct {
	settled
	err error
}

func newDesks() map[model.Runtime]*desk {
	desks := map[model.Runtime]*desk{}
	for _, r := range model.Runtimes() {
		desks[r] = &desk{
			wake: make(chan struct{}, 1), turns: make(chan struct{}, abreast), answers: make(chan answered),
			whom: map[model.ID]bool{}, asking: map[model.ID]bool{}, tries: map[model.ID]int{},
		}
	}
	return desks
}

func (k *desk) put(ids ...model.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, id := range ids {
		k.whom[id] = true
	}
	k.ring()
}

func (k *desk) ring() {
	select {
	case k.wake <- struct{}{}:
	default: // it rings already
	}
}

// take returns whom to ask about. They are not taken again until done.
func (k *desk) take() (ids []model.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.whom {
		if !k.asking[id] {
			k.asking[id] = true
			delete(k.whom, id)
			ids = append(ids, id)
		}
	}
	return ids
}

// done ends what take began. Those that failed are put again, later and later.
func (k *desk) done(list []answered, failed []model.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range list {
		delete(k.asking, a.sandbox)
		if !slices.Contains(failed, a.sandbox) {
			delete(k.tries, a.sandbox)
			continue
		}
		time.AfterFunc(min(retry<<min(k.tries[a.sandbox], 5), interval), func() { k.put(a.sandbox) })
		k.tries[a.sandbox]++
	}
	if len(k.whom) > 0 {
		k.ring()
	}
}

// interest lists the guests there are.
func (e *Engine) interest() []model.Guest {
	var list []model.Guest
	for _, sb := range e.sandboxes() {
		if sb.Guest != nil {
			list = append(list, *sb.Guest)
		}
	}
	return list
}

// changesGuests reports whether other guests are to be watched after the draft.
func (d *draft) changesGuests() bool {
	for id, sb := range d.sandboxes {
		was, is := guestOf(d.e.intent.Sandboxes[id]), guestOf(sb)
		if was != is {
			return true
		}
	}
	return false
}

func guestOf(sb *model.Sandbox) model.Guest {
	if sb == nil || sb.Guest == nil {
		return model.Guest{}
	}
	return *sb.Guest
}

func (e *Engine) refreshGuests(changed bool) {
	if changed && e.cfg.Guests != nil {
		e.cfg.Guests.Refresh()
	}
}

// startGuests brings all guests to where their containers are, and follows them
// until Close.
func (e *Engine) startGuests(ctx context.Context) {
	if e.cfg.Guests == nil {
		return
	}
	hints := e.cfg.Guests.Watch(e.ctx, e.interest) // first: what happens meanwhile is not missed
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	all := map[model.Runtime][]model.ID{}
	for _, sb := range e.sandboxes() {
		if sb.Guest != nil {
			all[sb.Guest.Runtime] = append(all[sb.Guest.Runtime], sb.ID)
		}
	}
	var asked sync.WaitGroup
	for r, ids := range all {
		k := e.guests.desks[r]
		asked.Go(func() {
			list := e.askEach(ctx, k, ids)
			k.done(list, e.place(ctx, list))
		})
	}
	asked.Wait()
	for _, k := range e.guests.desks {
		e.background.Go(func() { e.tend(k) })
	}
	e.background.Go(func() {
		for {
			select {
			case g, ok := <-hints:
				if !ok {
					return
				}
				e.hinted(g)
			case <-e.ctx.Done():
				return
			}
		}
	})
}

// hinted has all sandboxes of a container asked about.
func (e *Engine) hinted(g model.Guest) {
	for _, sb := range e.marked(guestMarks(g)...) {
		if sb.Guest != nil && sb.Guest.Runtime == g.Runtime && (isGuest(sb, g) || sb.Guest.Name == g.Name) {
			e.askSoon(sb.ID, g.Runtime)
		}
	}
}

func (e *Engine) askSoon(id model.ID, r model.Runtime) {
	if k := e.guests.desks[r]; k != nil {
		k.put(id)
	}
}

// askAll has all guests asked about.
func (e *Engine) askAll() {
	if e.cfg.Guests == nil {
		return
	}
	for _, sb := range e.sandboxes() {
		if sb.Guest != nil {
			e.askSoon(sb.ID, sb.Guest.Runtime)
		}
	}
}

// tend serves a desk until Close.
func (e *Engine) tend(k *desk) {
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-k.wake:
			if !e.rest(gather) {
				return
			}
			for _, id := range k.take() {
				e.background.Go(func() { e.tell(k, e.askOne(e.ctx, k, id)) })
			}
		case first := <-k.answers:
			list := k.collect(first)
			k.done(list, e.place(e.ctx, list))
		}
	}
}

func (e *Engine) tell(k *desk, a answered) {
	select {
	case k.answers <- a:
	case <-e.ctx.Done():
	}
}

// collect returns an answer and those that come soon after it.
func (k *desk) collect(first answered) []answered {
	list := []answered{first}
	for end := time.After(gather); ; {
		select {
		case a := <-k.answers:
			list = append(list, a)
		case <-end:
			return list
		}
	}
}

// again does what is refused a second time if a container that has ended, which nobody
// has told of yet, may be in its way: of a process the kernel knows.
func (e *Engine) again(ctx context.Context, do func() error) error {
	err := do()
	if model.KindOf(err) == model.Conflict && e.settleEnded(ctx) {
		err = do()
	}
	return err
}

// settleEnded has the ends of processes known whose namespaces are connected, and
// reports whether there were any.
func (e *Engine) settleEnded(ctx context.Context) bool {
	if e.cfg.Guests == nil {
		return false
	}
	var ids []model.ID
	for _, sb := range e.sandboxes() {
		if sb.Guest != nil && sb.Guest.Runtime == model.RuntimePID {
			ids = append(ids, sb.ID)
		}
	}
	ended := slices.DeleteFunc(e.askEach(ctx, e.guests.desks[model.RuntimePID], ids), func(a answered) bool {
		return a.err != nil || a.guest.Runtime == "" || a.is.State == runtime.Running
	})
	return len(ended) > 0 && len(e.place(ctx, ended)) == 0
}

// place puts guests where their containers are. It returns those for whom that
// failed and may not later.
func (e *Engine) place(ctx context.Context, list []answered) (failed []model.ID) {
	var found []settled
	for _, a := range list {
		if a.err != nil {
			failed = append(failed, a.sandbox)
		} else if a.guest.Runtime != "" {
			found = append(found, a.settled)
		}
	}
	if len(found) == 0 {
		return failed
	}
	slices.SortFunc(found, func(a, b settled) int { return cmp.Compare(a.sandbox, b.sandbox) })
	misplaced, stayed := e.placeAll(ctx, found)
	if !e.shows(ctx, stayed) {
		e.Kick("a container was started") // in a namespace that has the former one's number
	}
	return append(failed, misplaced...)
}

// placeAll puts guests where their containers are. It returns those that cannot be
// there, and the namespaces of those that were there already: at these the caller looks
// when work is free again.
func (e *Engine) placeAll(ctx context.Context, found []settled) (misplaced []model.ID, stayed []string) {
	e.work.Lock()
	defer e.work.Unlock()
	if err := e.settleGuests(ctx, found); err != nil {
		if len(found) > 1 {
			e.cfg.Log.Warn("guests together", "err", err, "again", "one by one")
		}
		for _, f := range found {
			if err := e.settleGuests(ctx, []settled{f}); err != nil {
				e.unseatFor(ctx, f, err)
			}
		}
	}
	return e.misplaced(found), e.stayed(found)
}

// stayed lists the namespaces in which guests were found and are.
func (e *Engine) stayed(found []settled) (paths []string) {
	for _, f := range found {
		if sb := e.intent.Sandboxes[f.sandbox]; sb != nil && f.is.State == runtime.Running && sb.NetNS == f.seat && f.seat == f.is.NetNS {
			paths = append(paths, f.seat)
		}
	}
	return paths
}

// misplaced lists those whose containers run where they cannot be.
func (e *Engine) misplaced(found []settled) (ids []model.ID) {
	for _, f := range found {
		if n, ok := e.guests.note(f.sandbox); ok && n.wrong {
			ids = append(ids, f.sandbox)
		}
	}
	return ids
}

// askEach asks about guests, and waits until all is said.
func (e *Engine) askEach(ctx context.Context, k *desk, ids []model.ID) []answered {
	list := make([]answered, len(ids))
	atOnce(len(ids), func(i int) { list[i] = e.askOne(ctx, k, ids[i]) })
	return list
}

// askOne asks about a guest. Of one that is no more nothing is said.
func (e *Engine) askOne(ctx context.Context, k *desk, id model.ID) answered {
	k.turns <- struct{}{}
	defer func() { <-k.turns }()
	a := answered{settled: settled{sandbox: id}}
	sb := e.current(id)
	if sb == nil || sb.Guest == nil {
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a.guest, a.seat = *sb.Guest, sb.NetNS
	if a.is, a.err = e.cfg.Guests.Find(ctx, a.guest); a.err != nil {
		e.unasked(sb, a.err)
	}
	return a
}

// unasked notes that a runtime cannot be asked, which changes nothing.
func (e *Engine) unasked(sb *model.Sandbox, err error) {
	if e.ctx.Err() == nil && sb.Away() {
		e.guests.set(sb.ID, note{text: fmt.Sprintf("%s: %v", sb.Guest.Runtime, unknown(err)), unsaid: true}, e.cfg.Now())
	}
}

// settleGuests puts guests where their containers are, all or none. The caller
// holds work.
func (e *Engine) settleGuests(ctx context.Context, list []settled) error {
	d := e.draft("containers", "follow")
	if seats := newSeats(list); len(seats) > 0 {
		if err := d.lookAll(ctx, seats); err != nil {
			return err
		}
	}
	notes := map[model.ID]note{}
	for _, f := range list {
		sb := e.intent.Sandboxes[f.sandbox]
		if sb == nil || sb.Guest == nil {
			continue
		}
		if *sb.Guest != f.guest || sb.NetNS != f.seat {
			e.askSoon(f.sandbox, sb.Guest.Runtime) // something happened since it was asked
			continue
		}
		notes[sb.ID] = d.follow(ctx, sb, f)
	}
	if len(d.sandboxes) > 0 {
		if err := d.commit(ctx); err != nil {
			return err
		}
	}
	for id, n := range notes {
		e.guests.set(id, n, e.cfg.Now())
	}
	for id, sb := range d.sandboxes {
		e.logGuest(id, sb, notes[id])
	}
	for _, f := range list {
		if sb := e.intent.Sandboxes[f.sandbox]; f.guest.ID != "" && sb != nil && sb.Guest != nil && sb.Guest.ID == "" {
			e.askSoon(f.sandbox, f.guest.Runtime) // the next one of that name may be there
		}
	}
	return nil
}

func (e *Engine) logGuest(id model.ID, sb *model.Sandbox, n note) {
	switch {
	case sb == nil:
		e.cfg.Log.Info("container removed, and all that it had", "sandbox", id)
	case sb.Away():
		e.cfg.Log.Info("container away", "sandbox", sb.Name, "why", n.text)
	default:
		e.cfg.Log.Info("container connected", "sandbox", sb.Name, "netns", sb.NetNS)
	}
}

// follow settles one guest in the draft, and says why it is away.
func (d *draft) follow(ctx context.Context, sb *model.Sandbox, f settled) note {
	if d.idle(sb) && !d.e.chores.isTold(sb.ID) {
		d.sandboxes[sb.ID] = nil
		return note{}
	}
	err := d.settle(ctx, sb, f.is)
	now := d.sandboxNow(sb.ID)
	switch {
	case now == nil || !now.Away():
		return note{}
	case err != nil:
		return note{text: err.Error(), wrong: true}
	}
	return note{text: why(*now.Guest, f.is.State)}
}

// newSeats lists the namespaces to look at before guests are put there.
func newSeats(list []settled) (paths []string) {
	for _, f := range list {
		if f.is.State == runtime.Running && f.seat != f.is.NetNS {
			paths = append(paths, f.is.NetNS)
		}
	}
	return paths
}

// unseatFor leaves a guest away that cannot be put where its container is. The
// caller holds work.
func (e *Engine) unseatFor(ctx context.Context, f settled, why error) {
	sb := e.intent.Sandboxes[f.sandbox]
	if sb == nil || sb.Guest == nil {
		return
	}
	if !sb.Away() && sb.NetNS != f.is.NetNS {
		d := e.draft(sb.Ref(), "unseat")
		d.unseat(sb)
		if err := d.commit(ctx); err != nil {
			e.cfg.Log.Error("unseat", "sandbox", sb.Name, "err", err)
			return
		}
	}
	if e.intent.Sandboxes[f.sandbox].Away() {
		text := cause(why).Error()
		if errors.Is(why, kernel.ErrNoNamespace) {
			text = told(f.guest, "ended before it was connected")
		}
		e.guests.set(f.sandbox, note{text: text, wrong: true}, e.cfg.Now())
		e.cfg.Log.Warn("container not connected", "sandbox", sb.Name, "err", why)
	}
}

// forgetSeats makes all guests away at the first start after the host's: the
// numbers of processes and namespaces mean others now.
func (e *Engine) forgetSeats() error {
	const key = "boot"
	if e.cfg.Boot == "" || e.meta[key] == e.cfg.Boot {
		return nil
	}
	d := e.draft("containers", "forget where they were")
	d.meta[key] = e.cfg.Boot
	for _, sb := range e.intent.Sandboxes {
		if sb.Guest != nil {
			d.unseat(sb)
		}
	}
	if err := e.cfg.Store.Commit(d.change()); err != nil {
		return err
	}
	d.adopt()
	return nil
}
