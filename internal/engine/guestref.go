package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// askTime is how long a runtime may take to answer who gave a command.
const askTime = 10 * time.Second

// answer is what the runtimes said about a reference before work was taken.
type answer struct {
	ref   string
	guest model.Guest       // what the reference means; zero: a sandbox, by itself
	found runtime.Container // as its runtime has it
	err   error             // the runtime cannot be asked
	// dockers is the sandbox that Docker made of the container, which the
	// reference named.
	dockers model.ID
	// former are guests that had the container's name and another ID.
	former []settled
}

// settled is a guest's sandbox, and its container by now.
type settled struct {
	sandbox model.ID
	guest   model.Guest // as it was when the runtime was asked
	seat    string
	is      runtime.Container
}

// ask asks the runtimes what a reference means. An error is the user's: the
// reference cannot be, or means several.
func (e *Engine) ask(ctx context.Context, about, op, ref string) (answer, error) {
	return e.askFor(ctx, about, op, ref, false)
}

// askFor is ask; with await a container that the reference names by its runtime is the
// one of that very name, whenever there is one.
func (e *Engine) askFor(ctx context.Context, about, op, ref string, await bool) (answer, error) {
	a := answer{ref: ref}
	g, prefixed, err := model.ParseGuest(ref)
	switch {
	case err != nil:
		return a, &model.Error{Kind: model.Invalid, Ref: about, Op: op, Err: err}
	case e.cfg.Guests == nil:
		return a, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if !prefixed {
		if g, err = e.bare(ctx, &a, about, op); err != nil || g.Runtime == "" {
			return a, err
		}
	}
	g.Awaited = await && prefixed && g.Runtime != model.RuntimePID
	a.guest = g
	if a.found, a.err = e.cfg.Guests.Find(ctx, g); a.err == nil && a.found.State != runtime.Gone {
		a.former, a.err = e.formerly(ctx, a.found.Guest)
	}
	if a.err != nil && !strings.Contains(about+" "+op+" ", " "+ref+" ") {
		a.err = fmt.Errorf("%s: %w", g, unknown(a.err))
	} else if a.err != nil {
		a.err = unknown(a.err)
	}
	return a, nil
}

// unknown is why nothing is known of a container, without its name.
func unknown(err error) error {
	if e, ok := errors.AsType[*runtime.Error](err); ok {
		return e.Err
	}
	return err
}

// unanswered is why runtimes cannot say what a name means, in a line.
func unanswered(err error) string {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var why []string
	for _, err := range all {
		if e, ok := errors.AsType[*runtime.Error](err); ok {
			why = append(why, string(e.Guest.Runtime)+": "+e.Err.Error())
		} else {
			why = append(why, err.Error())
		}
	}
	return strings.Join(why, "; ")
}

// bare finds out what a reference without a runtime means: a sandbox, or else the
// container of that name, of whatever runtime. A sandbox that Docker made is its
// container.
func (e *Engine) bare(ctx context.Context, a *answer, about, op string) (model.Guest, error) {
	if sb, err := e.called(a.ref); err == nil {
		return e.guestOf(ctx, a, sb), nil
	}
	if strings.HasPrefix(a.ref, containerRef) {
		return model.Guest{}, nil
	}
	list, err := e.cfg.Guests.Named(ctx, a.ref)
	switch {
	case len(list) > 1:
		return model.Guest{}, several(list, about, op, a.ref)
	case len(list) == 1:
		return list[0].Guest, nil
	}
	switch sb, begun := e.existing(a.ref); {
	case begun == nil:
		return e.guestOf(ctx, a, sb), nil
	case err != nil && model.KindOf(begun) == model.NotFound:
		return model.Guest{}, model.Errorf(model.NotFound, about, op, "no such sandbox, nor a container that can be found: %s", unanswered(err))
	}
	return model.Guest{}, nil
}

// guestOf is the container that Docker made a sandbox for; none if it did not.
func (e *Engine) guestOf(ctx context.Context, a *answer, sb *model.Sandbox) model.Guest {
	if sb.Mode != model.ModeRuntime || sb.Origin != model.OriginDocker {
		return model.Guest{}
	}
	a.dockers = sb.ID
	return e.dockersName(ctx, sb)
}

// dockersName is the container that Docker made a sandbox for. Its name may have
// the origin in front there, see NameSandbox.
func (e *Engine) dockersName(ctx context.Context, sb *model.Sandbox) model.Guest {
	g := model.Guest{Runtime: model.RuntimeDocker, Name: sb.Name}
	short, ok := strings.CutPrefix(sb.Name, model.OriginDocker+"-")
	if c, err := e.cfg.Guests.Find(ctx, g); ok && err == nil && c.State == runtime.Gone {
		g.Name = short
	}
	return g
}

func several(list []runtime.Container, about, op, ref string) error {
	var refs []string
	for _, c := range list {
		refs = append(refs, c.Guest.String())
	}
	slices.Sort(refs)
	return model.Errorf(model.Conflict, about, op, "%s means %s", ref, strings.Join(refs, " and ")).WithHint("say which")
}

// formerly asks what became of guests that had a container's name, and are another.
func (e *Engine) formerly(ctx context.Context, now model.Guest) (out []settled, err error) {
	for _, sb := range e.marked(named(now.Runtime, now.Name)) {
		if g := sb.Guest; g != nil && g.Runtime == now.Runtime && g.Name == now.Name && g.ID != "" && g.ID != now.ID {
			c, err := e.cfg.Guests.Find(ctx, *g)
			if err != nil {
				return nil, err
			}
			out = append(out, settled{sb.ID, *g, sb.NetNS, c})
		}
	}
	return out, nil
}

// askDonor asks about the container whose namespace a new sandbox is to share.
func (e *Engine) askDonor(ctx context.Context, spec *SandboxSpec) (err error) {
	spec.donor = answer{ref: spec.Donor}
	if sb, err := e.called(spec.Donor); err == nil {
		spec.donor.ref = string(sb.ID)
		return nil
	}
	if spec.Mode == model.ModeShared {
		spec.donor, err = e.ask(ctx, "sandbox "+cmp.Or(spec.Name, "(new)"), "create", spec.Donor)
	}
	return err
}

// askDeclared asks about the containers of a declaration.
func (e *Engine) askDeclared(ctx context.Context, decl Declaration) (Declaration, error) {
	decl.Endpoints = slices.Clone(decl.Endpoints)
	said := map[string]answer{}
	for i := range decl.Endpoints {
		ed := &decl.Endpoints[i]
		a, known := said[ed.Sandbox]
		if !known {
			var err error
			if a, err = e.askFor(ctx, "endpoint of "+ed.Sandbox+" on "+ed.Network, "apply", ed.Sandbox, true); err != nil {
				return decl, err
			}
			said[ed.Sandbox] = a
		}
		ed.who, ed.Await = a, a.guest.Awaited
	}
	return decl, nil
}

// existing is draft.existing for who holds no lock.
func (e *Engine) existing(ref string) (*model.Sandbox, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	d := &draft{e: e, op: "find", ref: "sandbox " + ref}
	return d.existing(ref)
}

// called is existing for names and whole IDs: where a container of a runtime may have for
// a name what somebody's ID begins with.
func (e *Engine) called(ref string) (*model.Sandbox, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	d := &draft{e: e, op: "find", ref: "sandbox " + ref, whole: true}
	return d.existing(ref)
}

// runtimesAsked names the runtimes that a bare name is looked up in.
const runtimesAsked = "docker, podman, containerd, lxc or machine"

// unasked says why the runtime cannot be asked, without the name that was given.
func (a answer) unasked() error {
	if e, ok := errors.AsType[*model.Error](a.err); ok && e.Ref == a.ref && e.Hint == "" {
		return e.Err
	}
	return a.err
}

// missing is the error of a reference that means nothing.
func (d *draft) missing(a answer) error {
	about := a.ref + ": "
	if strings.HasSuffix(d.op, " "+a.ref) {
		about = "" // it has been said
	}
	switch a.guest.Runtime {
	case "":
		if before, _, colon := strings.Cut(a.ref, ":"); colon && before+":" != containerRef {
			return d.errorf(model.NotFound, "%s%s is no runtime: before a colon there is docker, podman, containerd, lxc, machine, netns, pid or cni", about, before)
		}
		return d.errorf(model.NotFound, "%sno such sandbox, and no such container of %s", about, runtimesAsked).WithHint("sealane ps -a shows the sandboxes")
	case model.RuntimeNetNS:
		return d.errorf(model.NotFound, "%snot a network namespace", about).WithHint("want a path like /run/netns/NAME or /proc/PID/ns/net")
	case model.RuntimePID:
		return d.errorf(model.NotFound, "%sno such process", about)
	}
	err := d.errorf(model.NotFound, "%sno such container", about)
	if !strings.HasPrefix(d.ref, "network ") || !strings.HasPrefix(d.op, "connect") {
		return err
	}
	return err.WithHint("--await connects it when there is one")
}

// subject returns the sandbox that a reference means, made in the draft if there
// is none for the container yet. With await the container need not exist.
func (d *draft) subject(ctx context.Context, a answer, await bool) (*model.Sandbox, error) {
	if a.guest.Runtime == "" {
		return d.plain(ctx, a, await)
	}
	for _, f := range a.former {
		if sb := d.sandboxNow(f.sandbox); sb != nil && *sb.Guest == f.guest {
			if err := d.settle(ctx, sb, f.is); err != nil {
				return nil, d.errorf(model.Conflict, "%w", err)
			}
		}
	}
	if err := a.guest.CheckAwaited(); await && err != nil {
		return nil, d.errorf(model.Invalid, "%s: %w", a.guest, err)
	}
	sb := d.referred(cmpGuest(a))
	switch {
	case a.err == nil && a.found.State != runtime.Gone:
		return d.present(ctx, sb, a, await)
	case sb != nil && (a.err != nil || sb.Guest.Awaited || await):
	case await:
		return d.addGuest(a.guest, true)
	case a.err != nil:
		return nil, d.errorf(model.NotFound, "%w", a.unasked())
	default:
		return nil, d.missing(a)
	}
	if await && !sb.Guest.Awaited {
		sb = d.edit(sb)
		sb.Guest.Awaited = true
	}
	return sb, nil
}

// plain is subject for a reference that names no container.
func (d *draft) plain(ctx context.Context, a answer, await bool) (*model.Sandbox, error) {
	if d.e.cfg.Guests == nil {
		return d.sandboxOrForeign(ctx, a.ref)
	}
	sb, err := d.existing(a.ref)
	switch {
	case err != nil && await:
		return nil, d.errorf(model.Invalid, "%s: to be awaited it needs its runtime, as in docker:%s", a.ref, a.ref)
	case err != nil && !strings.HasPrefix(a.ref, containerRef) && model.KindOf(err) == model.NotFound:
		return nil, d.missing(a)
	case err == nil && await && sb.Guest != nil && !sb.Guest.Awaited:
		sb = d.edit(sb)
		sb.Guest.Awaited = true
	}
	return sb, err
}

// cmpGuest is the guest that an answer is about, as exactly as is known.
func cmpGuest(a answer) model.Guest {
	if a.err == nil && a.found.State != runtime.Gone {
		return a.found.Guest
	}
	return a.guest
}

// present returns the sandbox of a container that exists: sb, if that is its
// already, or the one whose namespace it has.
func (d *draft) present(ctx context.Context, sb *model.Sandbox, a answer, await bool) (*model.Sandbox, error) {
	var at *model.Sandbox
	switch {
	case a.found.State == runtime.Stopped && a.guest.Runtime == model.RuntimeNetNS && sb == nil && !await:
		return nil, d.missing(a) // nothing but the path would know of it
	case a.found.State == runtime.Running:
		if err := d.enterable(ctx, a); err != nil {
			return nil, err
		}
		if at = d.standsIn(a.found); at != nil && (sb == nil || at.ID != sb.ID) && !adoptable(at) {
			return at, nil
		}
	}
	switch {
	case sb == nil && at != nil:
		g := a.found.Guest
		sb = d.edit(at)
		sb.Guest = &g
	case sb == nil:
		made, err := d.addGuest(a.found.Guest, await)
		if err != nil {
			return nil, err
		}
		sb = made
	}
	if await && !sb.Guest.Awaited {
		sb = d.edit(sb)
		sb.Guest.Awaited = true
	}
	if err := d.settle(ctx, sb, a.found); err != nil {
		return nil, d.errorf(model.Conflict, "%w", err)
	}
	return d.sandboxNow(sb.ID), nil
}

// enterable refuses the host's own namespace, and a container that is not the one
// that Docker made the sandbox for.
func (d *draft) enterable(ctx context.Context, a answer) error {
	if err := d.notHosts(ctx, a.found); err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	there, err := d.look(ctx, a.found.NetNS)
	switch {
	case err != nil:
		return internal(d.ref, d.op, err)
	case there == nil:
		return d.errorf(model.Gone, "%s: %w", a.guest, errGone)
	}
	if t := d.sandboxNow(a.dockers); t != nil {
		its, err := d.look(ctx, t.NetNS)
		if err != nil {
			return internal(d.ref, d.op, err)
		}
		if its == nil || its.inode != a.found.Inode {
			return d.errorf(model.Conflict, "sandbox %s: Docker has no such container there", t.Name).WithHint("say docker:NAME")
		}
	}
	return nil
}

var errGone = errors.New("its network namespace is gone")

// standsIn returns the sandbox whose namespace a container has, or nil. Of a
// namespace of our own only the path is known beforehand.
func (d *draft) standsIn(c runtime.Container) *model.Sandbox {
	if sb := d.standsFor(c.NetNS, c.Inode); sb != nil {
		return sb
	}
	return firstBy(d.marked(ofMode(model.ModeOwn)), func(sb *model.Sandbox) bool {
		if sb.Mode != model.ModeOwn || sb.Exit != nil || c.Inode == 0 {
			return false
		}
		info, err := os.Stat(sb.NetNS)
		if err != nil {
			return false
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		return ok && st.Ino == c.Inode
	})
}

// adoptable reports whether a sandbox that stands for a namespace may become the
// guest whose namespace that is: nobody else looks after it but CNI.
func adoptable(sb *model.Sandbox) bool {
	return sb.Mode == model.ModeOther && sb.Guest == nil && sb.Process == nil && len(sb.Command) == 0 && !sb.AutoRemove
}

// addGuest puts the sandbox of a container into the draft, away.
func (d *draft) addGuest(g model.Guest, await bool) (*model.Sandbox, error) {
	id := newID()
	g.Awaited = await
	sb := &model.Sandbox{ID: id, Mode: model.ModeOther, Guest: &g, Endpoints: []model.Endpoint{}, Ports: []model.PortMapping{}, Created: d.e.cfg.Now().UTC()}
	d.nameGuest(sb)
	if err := sb.Validate(); err != nil {
		return nil, err
	}
	d.sandboxes[id] = sb
	return sb, nil
}

// named returns a reference that means the same without asking: the ID of the
// sandbox, if there is one for the container that ref means.
func (e *Engine) named(ctx context.Context, ref, op string) (string, error) {
	if _, err := e.called(ref); err == nil || e.cfg.Guests == nil || model.KindOf(err) != model.NotFound {
		return ref, nil
	}
	a, err := e.ask(ctx, "sandbox "+ref, op, ref)
	if err != nil || a.guest.Runtime == "" {
		return ref, err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	d := &draft{e: e, op: op, ref: "sandbox " + ref}
	sb := d.referred(cmpGuest(a))
	if sb == nil && a.err == nil && a.found.State == runtime.Running {
		sb = d.standsIn(a.found)
	}
	switch {
	case sb != nil:
		return string(sb.ID), nil
	case a.err != nil:
		return "", d.errorf(model.NotFound, "%w", a.err)
	case a.found.State == runtime.Gone, a.found.State == runtime.Stopped && a.guest.Runtime == model.RuntimeNetNS:
		return ref, nil
	}
	return "", d.errorf(model.NotFound, "%s is on no network", a.found.Guest).WithHint("sealane network connect NETWORK %s", a.found.Guest)
}

// Locate returns the sandbox that a reference means, or one that is none of ours:
// the container of a runtime, with nothing but its namespace.
func (e *Engine) Locate(ctx context.Context, ref string) (*model.Sandbox, error) {
	sb, err := e.called(ref)
	if err == nil {
		return sb, nil
	}
	sb, err = e.existing(ref)
	if e.cfg.Guests == nil || model.KindOf(err) == model.Invalid {
		return sb, err
	}
	a, asked := e.ask(ctx, "sandbox "+ref, "find", ref)
	switch {
	case asked != nil:
		return nil, asked
	case a.guest.Runtime == "":
		return sb, err
	case a.err != nil:
		return nil, model.Errorf(model.NotFound, "sandbox "+ref, "find", "%w", a.err)
	case a.found.State == runtime.Gone:
		d := &draft{e: e, op: "find", ref: "sandbox " + ref}
		return nil, d.missing(a)
	}
	d := &draft{e: e}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if sb := d.referred(a.found.Guest); sb != nil {
		return sb, nil
	}
	if sb := d.standsIn(a.found); sb != nil {
		return sb, nil
	}
	g := a.found.Guest
	return &model.Sandbox{Name: fmt.Sprint(g), Mode: model.ModeOther, Guest: &g, NetNS: a.found.NetNS, Inode: a.found.Inode}, nil
}
