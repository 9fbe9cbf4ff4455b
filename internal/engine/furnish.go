package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// How commands in containers are kept. What ip and tc make goes with what it is on: a
// namespace, a device, for routes the addresses of a device too. So it is noted of each
// command on what it was run ([ground.of]): the namespace's number, which no other gets
// until the next boot, and those of devices. What we make or take away ourselves ends
// the note before, for numbers of our devices may be given again. A pass, which sees what
// is there now, has those run whose ground is another; what failed is run again, later
// and later, and told by status.

// metaChores is where it is kept on what each command was run.
const metaChores = "chores"

// chores is what the engine knows of commands in containers besides intent.
type chores struct {
	mu   sync.Mutex                      // protects the following
	done map[model.ID]map[string]string  // by sandbox and command: the ground
	sick map[model.ID]map[string]failure // by sandbox and command
	busy map[model.ID]int                // sandboxes whose commands run now: how often their ground moved meanwhile
	told map[model.ID]int                // sandboxes in which users have commands run now that are not noted yet: how many
}

// failure is why a command of a container does not succeed.
type failure struct {
	problem
	ground string
	tries  int
	next   time.Time
}

func newChores() chores {
	return chores{done: map[model.ID]map[string]string{}, sick: map[model.ID]map[string]failure{}, busy: map[model.ID]int{}, told: map[model.ID]int{}}
}

// loadChores reads what the store had.
func (e *Engine) loadChores() error {
	text := e.meta[metaChores]
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &e.chores.done); err != nil {
		return fmt.Errorf("store: chores: %w", err)
	}
	return nil
}

// ground is what of a namespace commands stand on.
type ground struct {
	space   string
	devices map[string]string // by name: the number
	addrs   map[string]string // by name of the device: ours
}

// grounds finds the ground of namespaces in what was observed.
func grounds(have kstate.Set, boot string, spaces map[kstate.NS]bool) map[kstate.NS]*ground {
	all := map[kstate.NS]*ground{}
	for _, o := range have {
		if n, ok := o.(kstate.NetNS); ok && spaces[n.NS] {
			all[n.NS] = &ground{fmt.Sprint(boot, "/", cmp.Or(n.Cookie, n.NS.Inode)), map[string]string{}, map[string]string{}}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(have), func(a, b kstate.Key) int { return strings.Compare(a.ID, b.ID) }) {
		switch o := have[key].(type) {
		case kstate.Link:
			if g := all[o.NS]; g != nil {
				g.devices[o.Name] += fmt.Sprint(" ", o.Index)
			}
		case kstate.Addr:
			if g := all[o.NS]; g != nil && !o.Other {
				g.devices[o.Dev] += "" // a veth of ours has no number there
				g.addrs[o.Dev] += " " + o.Prefix.String()
			}
		}
	}
	return all
}

// of is the ground of one command. A route without a device may be by any.
func (g *ground) of(c model.Chore) string {
	out := g.space
	for _, dev := range slices.Sorted(maps.Keys(g.devices)) {
		if !standsOn(c, dev, false) {
			continue
		}
		if out += "; " + dev + g.devices[dev]; standsOn(c, dev, true) {
			out += g.addrs[dev]
		}
	}
	return out
}

// standsOn reports whether what a command makes goes with a device, or with the
// addresses of one.
func standsOn(c model.Chore, dev string, addrs bool) bool {
	routes, named, any := slices.Contains(c[:min(3, len(c))], "route"), false, false
	for i := range len(c) - 1 {
		if c[i] == "dev" {
			named, any = named || c[i+1] == dev, true
		}
	}
	return (named || routes && !any) && (routes || !addrs)
}

// groundIn observes the ground of a sandbox; nil is none.
func (e *Engine) groundIn(ctx context.Context, sb *model.Sandbox) (*ground, error) {
	ns := compile.NS(sb)
	have, err := e.cfg.Kernel.Observe(ctx, kernel.Scope{NS: []kstate.NS{ns}, Only: true})
	return grounds(have, e.cfg.Boot, map[kstate.NS]bool{ns: true})[ns], err
}

// shake notes in a draft that ops take from under commands what they stand on, and returns
// whose. They are due again.
func (d *draft) shake(ops []kstate.Op) (whose map[model.ID]bool) {
	for id := range d.e.chores.all() {
		sb := d.sandboxNow(id)
		if sb == nil {
			continue
		}
		for _, op := range ops {
			dev, addr := moves(op, compile.NS(sb))
			if dev == "" || !d.e.chores.shake(sb, dev, addr) {
				continue
			}
			if whose == nil {
				whose = map[model.ID]bool{}
			}
			whose[id] = true
		}
	}
	return whose
}

// reseats reports whether a draft puts a sandbox with commands into another namespace.
func (d *draft) reseats() bool {
	for id, sb := range d.sandboxes {
		if sb == nil || len(sb.Chores) == 0 || !sb.Live() {
			continue
		}
		if old := d.e.intent.Sandboxes[id]; old == nil || compile.NS(old) != compile.NS(sb) {
			return true
		}
	}
	return false
}

// moves returns the device of a namespace that an op makes or removes, or gives or takes
// an address.
func moves(op kstate.Op, ns kstate.NS) (dev string, addr bool) {
	if op.Old != nil && op.New != nil {
		return "", false
	}
	switch o := op.Object().(type) {
	case kstate.Link:
		if o.NS == ns {
			return o.Name, false
		} else if o.Peer.NS == ns {
			return o.Peer.Name, false
		}
	case kstate.Addr:
		if o.NS == ns {
			return o.Dev, true
		}
	}
	return "", false
}

// all are the sandboxes of whose commands something is noted, or will be.
func (c *chores) all() map[model.ID]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[model.ID]bool{}
	for id := range c.done {
		out[id] = true
	}
	for id := range c.busy {
		out[id] = true
	}
	return out
}

// shake forgets of a sandbox's commands that stand on a device that they were run.
func (c *chores) shake(sb *model.Sandbox, dev string, addr bool) (some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n, runs := c.busy[sb.ID]; runs {
		c.busy[sb.ID] = n + 1
	}
	for _, x := range sb.Chores {
		if _, done := c.done[sb.ID][x.Text()]; done && standsOn(x, dev, addr) {
			delete(c.done[sb.ID], x.Text())
			some = true
		}
	}
	return some
}

// furnish runs the commands that are due on what a pass has seen, but of those whose ground
// it has moved itself, in the background: who restarts many containers does not wait for
// them. The caller holds work.
func (e *Engine) furnish(have kstate.Set, shaken map[model.ID]bool) {
	for sb, g := range e.furnished(have) {
		if !shaken[sb.ID] && e.chores.claim(sb, g, e.cfg.Now()) {
			e.background.Go(func() { e.doChores(sb, g) })
		}
	}
}

// dueChores lists the commands that are due on what was seen, each after its sandbox's
// name, a line each.
func (e *Engine) dueChores(have kstate.Set) (list []string) {
	on := e.furnished(have)
	e.chores.mu.Lock()
	defer e.chores.mu.Unlock()
	for sb, g := range on {
		for _, x := range sb.Chores {
			if e.chores.done[sb.ID][x.Text()] != g.of(x) {
				list = append(list, "+ command "+sb.Name+": "+x.Text())
			}
		}
	}
	slices.Sort(list)
	return list
}

// furnished are the sandboxes that have commands, each with its ground as it was seen.
func (e *Engine) furnished(have kstate.Set) map[*model.Sandbox]*ground {
	spaces := map[kstate.NS]bool{}
	on := map[*model.Sandbox]*ground{}
	for _, sb := range e.intent.Sandboxes {
		if e.cfg.Runner != nil && len(sb.Chores) > 0 && sb.Live() {
			on[sb], spaces[compile.NS(sb)] = nil, true
		}
	}
	if len(on) == 0 {
		return nil
	}
	all := grounds(have, e.cfg.Boot, spaces)
	for sb := range on {
		on[sb] = all[compile.NS(sb)]
	}
	maps.DeleteFunc(on, func(_ *model.Sandbox, g *ground) bool { return g == nil })
	return on
}

// claim reports whether a command of a sandbox is due, and nobody runs them yet.
func (c *chores) claim(sb *model.Sandbox, g *ground, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, runs := c.busy[sb.ID]; runs || !slices.ContainsFunc(sb.Chores, func(x model.Chore) bool { return c.dueLocked(sb.ID, x, g.of(x), now) }) {
		return false
	}
	c.busy[sb.ID] = 0
	return true
}

// tell counts a command that a user has run in a sandbox: by 1, and by -1 when it is
// noted or is not to be.
func (c *chores) tell(id model.ID, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[id] += by; c.told[id] == 0 {
		delete(c.told, id)
	}
}

func (c *chores) isTold(id model.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told[id] > 0
}

func (c *chores) dueLocked(id model.ID, x model.Chore, on string, now time.Time) bool {
	if f, failed := c.sick[id][x.Text()]; failed && f.ground == on && now.Before(f.next) {
		return false
	}
	return c.done[id][x.Text()] != on
}

// doChores runs the commands of a sandbox that are due, and notes how they went.
func (e *Engine) doChores(sb *model.Sandbox, g *ground) {
	done, sick := map[string]string{}, map[string]failure{}
	for _, c := range sb.Chores {
		e.chores.mu.Lock()
		due := e.chores.dueLocked(sb.ID, c, g.of(c), e.cfg.Now())
		e.chores.mu.Unlock()
		if !due {
			continue
		}
		ran, err := e.runIn(e.ctx, sb, c)
		if err == nil && ran.asIntended(c) {
			done[c.Text()] = g.of(c)
			continue
		}
		why := fmt.Sprintf("%s: %s", c.Text(), ran.why(err))
		sick[c.Text()] = failure{problem: problem{text: why}, ground: g.of(c)}
		e.cfg.Log.Warn("a command for a container's namespace", "sandbox", sb.Name, "why", why)
	}
	e.work.Lock()
	defer e.work.Unlock()
	if e.chores.fare(sb.ID, sick, done, e.cfg.Now(), e.kickLater) {
		e.Kick("what commands in a container stand on")
		return
	}
	if err := e.noteGround(sb.ID, done); err != nil {
		e.cfg.Log.Error("note commands", "sandbox", sb.Name, "err", err)
	}
}

func (e *Engine) kickLater(after time.Duration) {
	time.AfterFunc(after, func() { e.Kick("a command for a container failed") })
}

// asIntended reports whether things are as a command wants them, by its work or before.
func (r Ran) asIntended(c model.Chore) bool {
	return r.Code == 0 || r.isThere() || c.Removes() && r.isGone()
}

// why says in a line what a command complained of.
func (r Ran) why(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(r.Stderr)), "\n")
	switch {
	case err != nil:
		return err.Error()
	case line == "":
		return fmt.Sprint("exit status ", r.Code)
	}
	return strings.TrimPrefix(strings.TrimPrefix(line, "RTNETLINK answers: "), "Error: ")
}

// fare notes what failed, and has it tried again some time later. If the ground moved
// meanwhile, it notes nothing and says so.
func (c *chores) fare(id model.ID, sick map[string]failure, done map[string]string, now time.Time, again func(time.Duration)) (moved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	moved = c.busy[id] > 0
	if delete(c.busy, id); moved {
		return true
	}
	if c.sick[id] == nil {
		c.sick[id] = map[string]failure{}
	}
	for text := range done {
		delete(c.sick[id], text)
	}
	for text, f := range sick {
		old, had := c.sick[id][text]
		f.since, f.tries = now.UTC(), 0
		if had {
			f.since, f.tries = old.since, old.tries+1
		}
		wait := min(retry<<min(f.tries, 5), interval)
		f.next = now.Add(wait)
		c.sick[id][text] = f
		again(wait)
	}
	return false
}

// noteGround stores on what commands of a sandbox were run. The caller holds work.
func (e *Engine) noteGround(id model.ID, on map[string]string) error {
	if len(on) == 0 || e.intent.Sandboxes[id] == nil {
		return nil
	}
	e.chores.note(id, on)
	d := e.draft("commands", "note")
	if err := d.noteGrounds(); err != nil {
		return err
	}
	return d.commit(context.Background())
}

// note keeps on what commands of a sandbox were run.
func (c *chores) note(id model.ID, on map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done[id] == nil {
		c.done[id] = map[string]string{}
	}
	maps.Copy(c.done[id], on)
}

// noteGrounds stores with a draft on what commands were run, and forgets those that are no
// more after it.
func (d *draft) noteGrounds() error {
	c := &d.e.chores
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.done {
		sb := d.sandboxNow(id)
		of := func(text string, _ string) bool {
			return sb == nil || !slices.ContainsFunc(sb.Chores, func(c model.Chore) bool { return c.Text() == text })
		}
		if maps.DeleteFunc(c.done[id], of); sb == nil {
			delete(c.done, id)
		}
	}
	maps.DeleteFunc(c.sick, func(id model.ID, _ map[string]failure) bool { return d.sandboxNow(id) == nil })
	text, err := json.Marshal(c.done)
	d.meta[metaChores] = string(text)
	return err
}

// unfurnished is the first of a sandbox's commands that do not succeed.
func (e *Engine) unfurnished(sb *model.Sandbox) (problem, bool) {
	e.chores.mu.Lock()
	defer e.chores.mu.Unlock()
	for _, c := range sb.Chores {
		if f, failed := e.chores.sick[sb.ID][c.Text()]; failed {
			return f.problem, true
		}
	}
	return problem{}, false
}
