package engine

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// Guests are the containers of the host's runtimes. *runtime.Finder is one.
type Guests interface {
	// Find asks the guest's runtime how its container fares. State Gone means that
	// the runtime surely does not know it; an error, that nothing is known.
	Find(context.Context, model.Guest) (runtime.Container, error)
	// Named asks every runtime of the host for a container of that name.
	Named(ctx context.Context, name string) ([]runtime.Container, error)
	// Watch hints at guests that may have changed, until ctx is done. It asks
	// interest which ones it is to watch, again after Refresh.
	Watch(ctx context.Context, interest func() []model.Guest) <-chan model.Guest
	// Refresh says that interest has another answer now. It does not wait.
	Refresh()
}

// A sandbox that stands for a runtime's container, a guest, is in one of two
// places:
//
//	        seat: its container runs, in a new namespace
//	      ┌────────────────────────────────────────────┐
//	    away  NetNS "", nothing in the kernel        seated  NetNS and Inode
//	      └────────────────────────────────────────────┘
//	        unseat: the container has stopped, its namespace is gone,
//	        or what the guest has cannot be put there
//
// From either it goes for good when its container does, unless it is awaited.
// Addresses, hardware addresses and ports are its own in both. Who asks the
// runtimes does so before work is taken: they may take long to answer.

// guests is what the engine knows of them beside intent.
type guests struct {
	desks map[model.Runtime]*desk // never changed after New

	mu    sync.Mutex // protects the following
	notes map[model.ID]note
}

// note says why a guest is away.
type note struct {
	text   string
	wrong  bool // its container runs
	unsaid bool // its runtime does not say whether it does
	since  time.Time
}

// set notes why a guest is away, and since when; no text is nothing.
func (g *guests) set(id model.ID, n note, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, there := g.notes[id]
	switch {
	case n.text == "":
		delete(g.notes, id)
	case !there || old.text != n.text:
		n.since = now.UTC()
		g.notes[id] = n
	}
}

func (g *guests) note(id model.ID) (note, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.notes[id]
	return n, ok
}

// awayStatus says why a guest is not where its container is.
func (e *Engine) awayStatus(sb *model.Sandbox) Status {
	n, ok := e.guests.note(sb.ID)
	switch {
	case !ok && sb.Guest.ID == "":
		n.text = why(*sb.Guest, runtime.Gone)
	case !ok:
		n.text = told(*sb.Guest, "does not run")
	case n.wrong:
		return Status{StateDegraded, n.text, n.since}
	}
	return Status{StateAway, n.text, sinceMoved(sb)}
}

// sinceMoved is since when a sandbox has been where it is.
func sinceMoved(sb *model.Sandbox) time.Time {
	if sb.Moved.IsZero() {
		return sb.Created
	}
	return sb.Moved
}

// unfollowed says which guests are away though their containers run, or may, and why.
// No pass mends that: it is the runtime or the container that is asked again.
func (e *Engine) unfollowed() []string {
	var out []string
	for _, sb := range e.sandboxes() {
		if n, ok := e.guests.note(sb.ID); ok && sb.Away() && (n.wrong || n.unsaid) {
			out = append(out, "! "+sb.Ref()+": "+n.text)
		}
	}
	slices.Sort(out)
	return out
}

// told is a sentence about a guest: "docker: web is stopped".
func told(g model.Guest, what string) string {
	return fmt.Sprintf("%s: %s %s", g.Runtime, g.Name, what)
}

// why says in a sentence why a guest in that state is away.
func why(g model.Guest, s runtime.State) string {
	switch {
	case s == runtime.Stopped:
		return told(g, "is stopped")
	case g.ID == "":
		return told(g, "does not exist yet")
	}
	return told(g, "does not exist any more")
}

// isGuest reports whether a sandbox stands for the container that g says, by its
// ID, or by its name where one of the two has no ID.
func isGuest(sb *model.Sandbox, g model.Guest) bool {
	have := sb.Guest
	if have == nil || have.Runtime != g.Runtime {
		return false
	}
	if have.ID != "" && g.ID != "" {
		return have.ID == g.ID
	}
	return have.Name == g.Name
}

// guest returns the sandbox that stands for a container, or nil.
func (d *draft) guest(g model.Guest) *model.Sandbox {
	return firstBy(d.marked(guestMarks(g)...), func(sb *model.Sandbox) bool { return isGuest(sb, g) })
}

// referred returns the sandbox that stands for what RUNTIME:NAME says, by what is
// known without asking: the name, the ID or the beginning of one ID; or nil.
func (d *draft) referred(g model.Guest) *model.Sandbox {
	if sb := d.guest(g); sb != nil {
		return sb
	}
	if g.ID != "" || g.Awaited || g.Runtime == model.RuntimePID {
		return nil // it is known to be another, or goes by its name alone
	}
	var found []*model.Sandbox
	for sb := range d.allSandboxes() {
		if sb.Guest != nil && sb.Guest.Runtime == g.Runtime && sb.Guest.ID != sb.Guest.Name && len(g.Name) >= minPrefix && strings.HasPrefix(sb.Guest.ID, g.Name) {
			found = append(found, sb)
		}
	}
	if len(found) == 1 {
		return found[0]
	}
	return nil
}

// minPrefix is the least of a container's ID that is taken for it.
const minPrefix = 4

// guestNames lists what the sandbox of a guest may be called, best first: as its
// container, then with the runtime in front. "" is after the sandbox itself.
func guestNames(g model.Guest) []string {
	name := guestName(g)
	if model.CheckName(name) != nil {
		return []string{""}
	}
	return []string{name, string(g.Runtime) + "-" + name, ""}
}

// guestName is a guest's name as its sandbox may have it.
func guestName(g model.Guest) string {
	switch g.Runtime {
	case model.RuntimePID:
		return "pid-" + g.Name
	case model.RuntimeNetNS:
		if strings.HasPrefix(g.Name, "/proc/") {
			return "" // its last word says nothing
		}
		return path.Base(g.Name)
	case model.RuntimeContainerd:
		return path.Base(g.Name)
	}
	return g.Name
}

// nameGuest gives a guest's sandbox the best name that is free. It keeps one that
// its container still has.
func (d *draft) nameGuest(sb *model.Sandbox) {
	names := guestNames(*sb.Guest)
	if sb.Name != "" && slices.Contains(names, sb.Name) {
		return
	}
	for _, name := range names {
		if name = cmp.Or(name, string(sb.ID)); d.findSandbox(name) == nil {
			sb.Name = name
			return
		}
	}
}

// Twin returns the other of the two sandboxes that stand for one container of
// Docker's, or nil: that which Docker made by our plugin, with the networks that
// Docker put it on, and the guest, with those that Sealane's users did. To them the
// two are one thing.
func (e *Engine) Twin(sb *model.Sandbox) *model.Sandbox {
	e.mu.RLock()
	defer e.mu.RUnlock()
	d := &draft{e: e}
	return d.twin(sb)
}

// twin is Twin after the draft.
func (d *draft) twin(sb *model.Sandbox) *model.Sandbox {
	switch {
	case sb.Guest != nil && sb.Guest.Runtime == model.RuntimeDocker:
		for _, name := range dockersNames(sb.Guest) {
			if o := d.findSandbox(name); o != nil && twins(o, sb) {
				return o
			}
		}
	case sb.Mode == model.ModeRuntime && sb.Origin == model.OriginDocker:
		return firstBy(d.marked(guestsNames(sb)...), func(o *model.Sandbox) bool { return twins(sb, o) })
	}
	return nil
}

// twins reports whether one is Docker's sandbox and the other the guest for the
// same container.
func twins(dockers, guest *model.Sandbox) bool {
	if dockers.Mode != model.ModeRuntime || dockers.Origin != model.OriginDocker || guest.Guest == nil || guest.Guest.Runtime != model.RuntimeDocker {
		return false
	}
	return slices.Contains(dockersNames(guest.Guest), dockers.Name)
}

// dockersNames lists what a sandbox that Docker made of a container may be called,
// see NameSandbox.
func dockersNames(g *model.Guest) []string {
	return []string{g.Name, model.OriginDocker + "-" + g.Name}
}

// guestsNames marks the guests of which one of dockersNames is that of a sandbox.
func guestsNames(dockers *model.Sandbox) []mark {
	return []mark{named(model.RuntimeDocker, dockers.Name), named(model.RuntimeDocker, strings.TrimPrefix(dockers.Name, model.OriginDocker+"-"))}
}

// idle reports whether a guest's sandbox has no reason to be: no endpoint, no port that
// it keeps, and nobody who shares its namespace.
func (d *draft) idle(sb *model.Sandbox) bool {
	return sb.Guest != nil && len(sb.Endpoints)+len(sb.Chores) == 0 && len(keptPorts(sb)) == 0 &&
		firstBy(d.marked(donatedBy(sb.ID)), func(o *model.Sandbox) bool { return o.Donor == sb.ID && o.Exit == nil }) == nil
}
