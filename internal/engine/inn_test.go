package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// inn has the containers of all runtimes, which outlive the engine. Their
// namespaces are in the rig's kernel. It hints only when it is told to.
type inn struct {
	r *rig

	mu       sync.Mutex // protects the following
	serial   int
	rooms    map[string]*room // by RUNTIME:NAME
	closed   map[model.Runtime]bool
	asked    func(model.Guest) // called before each answer
	hints    chan model.Guest
	interest func() []model.Guest
}

// room is a container.
type room struct {
	guest model.Guest
	pid   int // 0: it is stopped
}

var (
	errClosed  = errors.New("cannot be asked: connection refused")
	errSeveral = errors.New("several containers have an ID that begins so")
)

func newInn(r *rig) *inn {
	return &inn{r: r, rooms: map[string]*room{}, closed: map[model.Runtime]bool{}, asked: func(model.Guest) {}}
}

// path is where a container's namespace is.
func (m *room) path() string { return fmt.Sprintf("/proc/%d/ns/net", m.pid) }

// pathsOnly is a text about namespaces without their inodes, as the rig's kernel
// names them.
func pathsOnly(text string) string { return regexp.MustCompile(`#\d+`).ReplaceAllString(text, "") }

// at reports whether a line of the kernel's is about a container's own namespace.
func (i *inn) at(line string) bool {
	return strings.HasPrefix(line, "netns /proc/") || strings.HasPrefix(line, "netns /run/docker/") || strings.HasPrefix(line, "netns /run/netns/later")
}

// create makes a container that is stopped.
func (i *inn) create(ref string) {
	g, ok, err := model.ParseGuest(ref)
	if !ok || err != nil {
		i.r.Fatal(ref, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serial++
	g.ID = fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i.serial >> 8), byte(i.serial)})) // IDs do not begin alike
	if !hasIDs(g.Runtime) {
		g.ID = g.Name
	}
	i.rooms[ref] = &room{guest: g}
}

// hasIDs reports whether a runtime's containers have an ID besides their name.
func hasIDs(r model.Runtime) bool { return r != model.RuntimeLXC && r != model.RuntimeMachine }

// start gives a container a namespace, and others in it: links of its own.
func (i *inn) start(ref string, others ...kstate.Object) *room {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.serial++
	m := i.rooms[ref]
	m.pid = 1000 + i.serial
	i.r.k.Foreign(append([]kstate.Object{kstate.NetNS{NS: kstate.NS{Path: m.path()}}}, others...)...)
	return m
}

// run is create and start.
func (i *inn) run(refs ...string) {
	for _, ref := range refs {
		i.create(ref)
		i.start(ref)
	}
}

func (i *inn) stop(refs ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, ref := range refs {
		if m := i.rooms[ref]; m.pid != 0 {
			i.r.k.Remove(kstate.NetNS{NS: kstate.NS{Path: m.path()}}.Key())
			m.pid = 0
		}
	}
}

func (i *inn) restart(ref string, others ...kstate.Object) { i.stop(ref); i.start(ref, others...) }

func (i *inn) remove(ref string) {
	i.stop(ref)
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.rooms, ref)
}

func (i *inn) rename(ref, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	m := i.rooms[ref]
	delete(i.rooms, ref)
	m.guest.Name = name
	i.rooms[string(m.guest.Runtime)+":"+name] = m
}

// close has a runtime answer nobody.
func (i *inn) close(r model.Runtime, shut bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed[r] = shut
}

func (i *inn) before(do func(model.Guest)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asked = do
}

// hint tells the engine that containers may have changed.
func (i *inn) hint(refs ...string) {
	for _, ref := range refs {
		g, _, _ := model.ParseGuest(ref)
		i.hints <- g
	}
}

func (i *inn) Watch(ctx context.Context, interest func() []model.Guest) <-chan model.Guest {
	i.mu.Lock()
	defer i.mu.Unlock()
	ch := make(chan model.Guest)
	i.hints, i.interest = ch, interest
	return ch
}

func (i *inn) Refresh() {}

func (i *inn) Find(ctx context.Context, g model.Guest) (runtime.Container, error) {
	i.mu.Lock()
	do := i.asked
	i.mu.Unlock()
	do(g)
	i.mu.Lock()
	defer i.mu.Unlock()
	c, err := i.find(ctx, g)
	if err != nil {
		return runtime.Container{}, &runtime.Error{Guest: g, Err: err}
	}
	if c.Guest.Awaited = g.Awaited; c.State == runtime.Gone {
		c.Guest.ID = ""
	}
	return c, nil
}

func (i *inn) find(ctx context.Context, g model.Guest) (runtime.Container, error) {
	if i.closed[g.Runtime] {
		return runtime.Container{}, errClosed
	}
	if path, err := foreignPath(g.String()); err == nil && path != "" {
		return i.namespace(ctx, g, path)
	}
	m, err := i.meant(g)
	if err != nil || m == nil {
		return runtime.Container{Guest: g}, err
	}
	if m.pid == 0 {
		return runtime.Container{Guest: m.guest, State: runtime.Stopped}, nil
	}
	return i.running(ctx, runtime.Container{Guest: m.guest, PID: m.pid, NetNS: m.path()})
}

// meant returns the container that a guest is, nil if there is none: the one with
// its ID or, if it has none, whose name, ID or begin of the ID its name is.
func (i *inn) meant(g model.Guest) (*room, error) {
	var byID *room
	var begins []*room
	for _, m := range i.rooms {
		switch {
		case m.guest.Runtime != g.Runtime:
		case g.ID != "":
			if m.guest.ID == g.ID {
				return m, nil
			}
		case m.guest.Name == g.Name:
			return m, nil
		case m.guest.ID == g.Name:
			byID = m
		case !g.Awaited && g.Name != "" && strings.HasPrefix(m.guest.ID, g.Name) && hasIDs(g.Runtime):
			begins = append(begins, m)
		}
	}
	switch {
	case byID != nil || len(begins) == 0:
		return byID, nil
	case len(begins) > 1:
		return nil, errSeveral
	}
	return begins[0], nil
}

// running says where a container is, which is stopped if its namespace is nowhere.
func (i *inn) running(ctx context.Context, c runtime.Container) (runtime.Container, error) {
	inode, err := i.inode(ctx, c.NetNS)
	if err != nil || inode == 0 {
		return runtime.Container{Guest: c.Guest, State: runtime.Stopped}, err
	}
	c.State, c.Inode = runtime.Running, inode
	return c, nil
}

// namespace answers for netns:PATH and pid:N.
func (i *inn) namespace(ctx context.Context, g model.Guest, path string) (runtime.Container, error) {
	c := runtime.Container{Guest: g, NetNS: path}
	_, _ = fmt.Sscanf(path, "/proc/%d/ns/net", &c.PID) // others are a mount's
	c.Guest.ID = g.Name
	if g.Runtime == model.RuntimePID {
		c.Guest.ID += "/1"
	}
	c, err := i.running(ctx, c)
	if c.State == runtime.Stopped && g.Runtime == model.RuntimePID {
		c.State = runtime.Gone
	}
	return c, err
}

func (i *inn) inode(ctx context.Context, path string) (uint64, error) {
	have, err := i.r.k.Observe(ctx, kernel.Scope{NS: []kstate.NS{{Path: path}}, Only: true})
	for _, o := range have {
		if ns, ok := o.(kstate.NetNS); ok && ns.NS.Path == path {
			return max(ns.NS.Inode, 1), err // ours have none that is told
		}
	}
	return 0, err
}

func (i *inn) Named(ctx context.Context, name string) ([]runtime.Container, error) {
	var list []runtime.Container
	var failed []error
	for _, r := range model.Runtimes() {
		g, _, err := model.ParseGuest(string(r) + ":" + name)
		if err != nil || r == model.RuntimePID {
			continue
		}
		switch c, err := i.Find(ctx, g); {
		case err != nil:
			failed = append(failed, err)
		case c.State == runtime.Running, c.State == runtime.Stopped && r != model.RuntimeNetNS:
			list = append(list, c)
		}
	}
	return list, errors.Join(failed...)
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func mustPrefix(s string) netip.Prefix     { return netip.MustParsePrefix(s) }
