package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// settle brings a guest's sandbox to where its container is by now, in the draft.
// An error says why it cannot be put there; it is away then.
func (d *draft) settle(ctx context.Context, sb *model.Sandbox, c runtime.Container) error {
	switch c.State {
	case runtime.Gone:
		d.leave(sb)
		return nil
	case runtime.Stopped:
		d.identify(sb, c.Guest)
		d.unseat(sb)
		return nil
	}
	d.identify(sb, c.Guest)
	err := d.seat(ctx, d.sandboxNow(sb.ID), c)
	if err != nil {
		d.unseat(d.sandboxNow(sb.ID))
	}
	return err
}

// leave drops the sandbox of a container that is no more. One that is awaited is
// the next container's of that name.
func (d *draft) leave(sb *model.Sandbox) {
	if !sb.Guest.Awaited {
		d.sandboxes[sb.ID] = nil
		return
	}
	d.unseat(sb)
	if now := d.sandboxNow(sb.ID); now.Guest.ID != "" {
		d.edit(now).Guest.ID = ""
	}
}

// identify notes what a container is called. One that is awaited keeps the name
// by which it is.
func (d *draft) identify(sb *model.Sandbox, g model.Guest) {
	g.Awaited = sb.Guest.Awaited
	if g.Awaited {
		g.Name = sb.Guest.Name
	}
	if g == *sb.Guest {
		return
	}
	c := d.edit(sb)
	renamed := g.Name != c.Guest.Name
	*c.Guest = g
	if renamed {
		d.nameGuest(c)
	}
}

// unseat takes a guest out of its namespace. It keeps all that it has.
func (d *draft) unseat(sb *model.Sandbox) {
	if sb.Away() {
		return
	}
	c := d.edit(sb)
	c.NetNS, c.Inode, c.Routed4, c.Routed6, c.Moved = "", 0, false, false, d.e.cfg.Now().UTC()
}

// seat puts a guest into the namespace that its container has now.
func (d *draft) seat(ctx context.Context, sb *model.Sandbox, c runtime.Container) error {
	if same, err := d.sits(ctx, sb, c); same || err != nil {
		return err
	}
	if err := d.notHosts(ctx, c); err != nil {
		return err
	}
	there, err := d.look(ctx, c.NetNS)
	switch {
	case err != nil:
		return err
	case there == nil || there.inode != c.Inode:
		return fmt.Errorf("%s: %w", c.Guest, errGone)
	}
	if other := d.standsIn(c); other != nil && other.ID != sb.ID {
		return fmt.Errorf("%s: its network namespace is that of sandbox %s", c.Guest, other.Name)
	}
	for i := range sb.Endpoints {
		if name := sb.Endpoints[i].IfName; there.theirs[name] {
			return fmt.Errorf("%s: interface %s: the container has one of its own", c.Guest, name)
		}
	}
	moved := d.edit(sb)
	moved.NetNS, moved.Inode, moved.Routed4, moved.Routed6, moved.Moved = c.NetNS, c.Inode, there.routed4, there.routed6, d.e.cfg.Now().UTC()
	for i := range moved.Endpoints {
		if err := d.checkSubnets(ctx, moved, d.allNetworks()[moved.Endpoints[i].Network]); err != nil {
			return fmt.Errorf("%s: %w", c.Guest, cause(err))
		}
	}
	return nil
}

// cause is an error without the draft's own words around it.
func cause(err error) error {
	if e, ok := errors.AsType[*model.Error](err); ok {
		return e.Err
	}
	return err
}

// sits reports whether a guest is in that namespace already, by whatever path.
func (d *draft) sits(ctx context.Context, sb *model.Sandbox, c runtime.Container) (bool, error) {
	if sb.Away() || sb.Inode != c.Inode {
		return false, nil
	}
	if sb.NetNS == c.NetNS {
		return true, nil
	}
	there, err := d.look(ctx, sb.NetNS)
	return there != nil && there.inode == c.Inode, err
}

// notHosts refuses a container without a network namespace of its own.
func (d *draft) notHosts(ctx context.Context, c runtime.Container) error {
	host, err := d.e.ownInode(ctx)
	switch {
	case err != nil:
		return err
	case c.Inode != 0 && c.Inode == host:
		return fmt.Errorf("%s: is in the host's own network namespace", c.Guest)
	}
	return nil
}

// shows reports whether each of the namespaces has something of ours, and so is
// the one that it was given to: a new one that got the number of one that is gone
// has nothing.
func (e *Engine) shows(ctx context.Context, paths []string) bool {
	if len(paths) == 0 {
		return true
	}
	there, err := e.spacesAt(ctx, paths)
	return err == nil && !slices.ContainsFunc(paths, func(p string) bool { return there[p] == nil || !there[p].ours })
}

// lookAll observes namespaces together, for look.
func (d *draft) lookAll(ctx context.Context, paths []string) error {
	there, err := d.e.spacesAt(ctx, paths)
	if err != nil {
		return err
	}
	for _, p := range paths {
		d.noteSpace(p, there[p])
	}
	return nil
}

// spacesAt observes namespaces together. Of a path that is none it has nothing.
func (e *Engine) spacesAt(ctx context.Context, paths []string) (map[string]*space, error) {
	scope := kernel.Scope{Only: true}
	for _, p := range paths {
		scope.NS = append(scope.NS, kstate.NS{Path: p})
	}
	have, err := e.cfg.Kernel.Observe(ctx, scope)
	return spacesIn(have), err
}
