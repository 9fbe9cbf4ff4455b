package engine

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// Event says that something was made, changed or removed, in Docker's words where
// it has them (docker events).
type Event struct {
	Time       time.Time
	Type       string // "network" or "sandbox"
	Action     string // create, update, destroy; of networks connect and disconnect, of sandboxes die
	ID         model.ID
	Attributes map[string]string // name, and what else is worth it
}

// keptEvents are remembered for who asks later.
const keptEvents = 1024

// events are the last ones. They are forgotten when the daemon ends.
type events struct {
	mu   sync.Mutex
	list []Event
	next int           // the number of the next one; those kept are the last before it
	more chan struct{} // closed with the next one
}

func (l *events) add(list []Event) {
	if len(list) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, list...)
	l.list = l.list[max(0, len(l.list)-keptEvents):] // append drops those before when it makes room
	l.next += len(list)
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
}

// from returns the events from a number on, the number after them, and what is
// closed when there are more.
func (l *events) from(n int) ([]Event, int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more == nil {
		l.more = make(chan struct{})
	}
	i := len(l.list) - (l.next - n)
	return slices.Clone(l.list[min(max(0, i), len(l.list)):]), l.next, l.more
}

// Events returns the events from number n on, as far as they are remembered, and the
// number to go on with. If there are none it waits for some until ctx is done or the
// engine closes, and then there are none. n < 0 asks for the number alone.
func (e *Engine) Events(ctx context.Context, n int) ([]Event, int) {
	list, next, more := e.events.from(n)
	if n < 0 {
		return nil, next
	}
	for len(list) == 0 && n <= next {
		select {
		case <-more:
		case <-ctx.Done():
			return nil, next
		case <-e.ctx.Done():
			return nil, next
		}
		list, next, more = e.events.from(n)
	}
	return list, next
}

// events returns what the draft does, before it is the engine's intent: what goes
// first, and networks before who is on them.
func (d *draft) events() []Event {
	var ended, left, gone, made, joined []Event
	now := d.e.cfg.Now().UTC()
	for _, id := range slices.Sorted(maps.Keys(d.sandboxes)) {
		old, sb := d.e.intent.Sandboxes[id], d.sandboxes[id]
		event := func(action string) Event {
			return Event{now, "sandbox", action, id, map[string]string{"name": cmp.Or(sb, old).Name}}
		}
		switch {
		case old == nil && sb != nil:
			made = append(made, event("create"))
		case old != nil && sb == nil:
			gone = append(gone, event("destroy"))
		case old != nil && !slices.EqualFunc(old.Ports, sb.Ports, func(a, b model.PortMapping) bool { return a.Plain() == b.Plain() }):
			made = append(made, event("update"))
		}
		if code, died := d.died(id); died {
			end := event("die")
			end.Attributes["exitCode"] = strconv.Itoa(code)
			ended = append(ended, end)
		}
		left = append(left, d.connections(now, "disconnect", old, sb)...)
		joined = append(joined, d.connections(now, "connect", sb, old)...)
	}
	for _, id := range slices.Sorted(maps.Keys(d.networks)) {
		old, n := d.e.intent.Networks[id], d.networks[id]
		switch {
		case old == nil && n != nil:
			made = append([]Event{networkEvent(now, "create", n)}, made...)
		case old != nil && n == nil:
			gone = append(gone, networkEvent(now, "destroy", old))
		case old != nil && (!reflect.DeepEqual(old.Options, n.Options) || !maps.Equal(old.Labels, n.Labels) || !slices.EqualFunc(old.Subnets, n.Subnets, sameSubnet)):
			made = append(made, networkEvent(now, "update", n))
		}
	}
	return slices.Concat(ended, left, gone, made, joined)
}

// died returns the exit code of a sandbox's command, if this draft is its end.
func (d *draft) died(id model.ID) (code int, ok bool) {
	old, sb := d.e.intent.Sandboxes[id], d.sandboxes[id]
	if old == nil || old.Exit != nil {
		return 0, false
	}
	if sb != nil && sb.Exit != nil {
		return sb.Exit.Code, true
	}
	code, ok = d.codes[id]
	return code, ok
}

func networkEvent(now time.Time, action string, n *model.Network) Event {
	return Event{now, "network", action, n.ID, map[string]string{"name": n.Name, "driver": n.Driver}}
}

// connections returns an event for each endpoint that one state of a sandbox has
// and another has not. One that has ended or is away is on no network, and in another
// namespace it is on them anew.
func (d *draft) connections(now time.Time, action string, of, not *model.Sandbox) []Event {
	if of == nil || of.Exit != nil || of.Away() {
		return nil
	}
	stayed := not != nil && not.Exit == nil && !not.Away() && (of.Guest == nil || of.Inode == not.Inode)
	var out []Event
	for i := range of.Endpoints {
		ep := &of.Endpoints[i]
		if stayed && slices.ContainsFunc(not.Endpoints, func(o model.Endpoint) bool { return o.ID == ep.ID }) {
			continue
		}
		if n := cmp.Or(d.networks[ep.Network], d.e.intent.Networks[ep.Network]); n != nil {
			ev := networkEvent(now, action, n)
			ev.Attributes["sandbox"], ev.Attributes["endpoint"] = of.Name, string(ep.ID)
			out = append(out, ev)
		}
	}
	return out
}
