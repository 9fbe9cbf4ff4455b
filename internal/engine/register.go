package engine

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// mark is something besides its ID and its name by which a sandbox is looked for.
// Several sandboxes may have one.
type mark struct {
	by      markBy
	runtime model.Runtime
	text    string
	inode   uint64
}

type markBy uint8

const (
	byPath      markBy = iota // text is the path of its network namespace
	byInode                   // inode is that of its network namespace
	byName                    // its runtime's users call its container text
	byGuestID                 // its runtime itself calls its container text
	byContainer               // some runtime, it is not known which, calls its container text
	byDonor                   // text is the ID of the sandbox whose namespace it shares
	byMode                    // text is its mode
)

func atPath(netns string) mark { return mark{by: byPath, text: netns} }

func atInode(inode uint64) mark { return mark{by: byInode, inode: inode} }

func named(r model.Runtime, name string) mark { return mark{by: byName, runtime: r, text: name} }

func container(id string) mark { return mark{by: byContainer, text: id} }

func ofMode(m model.Mode) mark { return mark{by: byMode, text: string(m)} }

func donatedBy(id model.ID) mark { return mark{by: byDonor, text: string(id)} }

// guestMarks are those by which isGuest finds sandboxes.
func guestMarks(g model.Guest) []mark {
	return []mark{named(g.Runtime, g.Name), {by: byGuestID, runtime: g.Runtime, text: g.ID}}
}

// marks lists those of a sandbox. Nobody is looked for by nothing.
func marks(sb *model.Sandbox) []mark {
	if sb == nil {
		return nil
	}
	list := []mark{atPath(sb.NetNS), atInode(sb.Inode), donatedBy(sb.Donor)}
	if sb.Mode == model.ModeOwn {
		list = append(list, ofMode(sb.Mode))
	}
	if g := sb.Guest; g != nil {
		list = append(list, guestMarks(*g)...)
		if g.ID != "" { // whose base would be a point
			list = append(list, container(path.Base(g.ID)))
		}
	}
	for i := range sb.Endpoints {
		if c := container(sb.Endpoints[i].Container); !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return slices.DeleteFunc(list, func(m mark) bool { return m.text == "" && m.inode == 0 })
}

// register finds sandboxes by their marks, among thousands as fast as alone.
type register map[mark][]*model.Sandbox

// replace takes a sandbox out as it was and puts it in as it is; nil is none.
func (r register) replace(was, is *model.Sandbox) {
	for _, m := range marks(was) {
		if r[m] = slices.DeleteFunc(r[m], func(sb *model.Sandbox) bool { return sb == was }); len(r[m]) == 0 {
			delete(r, m)
		}
	}
	for _, m := range marks(is) {
		r[m] = append(r[m], is)
	}
}

// marked yields, as they are after the draft, all sandboxes that have one of some
// marks; others too, and some twice.
func (d *draft) marked(some ...mark) iter.Seq[*model.Sandbox] {
	return func(yield func(*model.Sandbox) bool) {
		for _, sb := range d.sandboxes {
			if sb != nil && !yield(sb) {
				return
			}
		}
		for _, m := range some {
			for _, sb := range d.e.register[m] {
				if _, touched := d.sandboxes[sb.ID]; !touched && !yield(sb) {
					return
				}
			}
		}
	}
}

// marked lists the sandboxes that have one of some marks; others too, and some
// twice.
func (e *Engine) marked(some ...mark) []*model.Sandbox {
	e.mu.RLock()
	defer e.mu.RUnlock()
	d := &draft{e: e}
	return slices.Collect(d.marked(some...))
}

// firstBy returns the sandbox with the lowest ID of those that are meant, or nil.
func firstBy(some iter.Seq[*model.Sandbox], meant func(*model.Sandbox) bool) *model.Sandbox {
	var first *model.Sandbox
	for sb := range some {
		if (first == nil || sb.ID < first.ID) && meant(sb) {
			first = sb
		}
	}
	return first
}

// leastOfID is how many digits of an ID are enough to mean it: fewer are rather a name that
// is gone, as db.
const leastOfID = 4

// begun returns the one of some whose ID begins with ref, nil if none does. Several are an
// error.
func begun[T any](all iter.Seq[*T], ref, op string, is func(*T) (kind string, id model.ID, name string)) (found *T, err error) {
	if len(ref) < leastOfID {
		return nil, nil
	}
	var those []string
	var kind string
	for o := range all {
		what, id, name := is(o)
		if strings.HasPrefix(string(id), ref) {
			found, kind = o, what
			those = append(those, fmt.Sprintf("%s (%s)", id, name))
		}
	}
	if len(those) < 2 {
		return found, nil
	}
	slices.Sort(those)
	if more := len(those) - mostSaid; more > 0 {
		those = append(those[:mostSaid], fmt.Sprintf("and %d more", more))
	}
	return nil, model.Errorf(model.Conflict, kind+" "+ref, op, "several IDs begin with that: %s", strings.Join(those, ", ")).WithHint("say more of one, or a name")
}

// mostSaid is how many candidates an error names.
const mostSaid = 5

func isNetwork(n *model.Network) (kind string, id model.ID, name string) {
	return "network", n.ID, n.Name
}
func isSandbox(sb *model.Sandbox) (kind string, id model.ID, name string) {
	return "sandbox", sb.ID, sb.Name
}
