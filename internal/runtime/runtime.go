// Package runtime finds the containers of the host's runtimes and tells when one
// may have changed.
//
// It executes none of their tools. Docker and containerd answer on their sockets;
// of the others it reads what they leave in files:
//
//	docker      its API, and the events of it
//	podman      containers.json, and the file with a container's process
//	containerd  the directory of a task, and its API for what does not run
//	lxc         the cgroup lxc.payload.NAME, and lxcpath/NAME/config
//	machine     /run/systemd/machines/NAME
//	pid         /proc/PID
//	netns       the path
package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sealane/sealane/internal/model"
)

// State is how a container fares.
type State int

// The states.
const (
	Gone    State = iota // the runtime answers, and does not know it
	Stopped              // it exists, and has no namespace now
	Running
)

// String is the state in a word.
func (s State) String() string {
	switch s {
	case Gone:
		return "gone"
	case Stopped:
		return "stopped"
	case Running:
		return "running"
	}
	return fmt.Sprintf("state %d", int(s))
}

// Container is one, as its runtime has it now.
type Container struct {
	Guest model.Guest // Runtime, Name as a user would write it after the prefix, ID for good
	State State
	PID   int    // of its first process, or of the one whose namespace a path is; 0 if it is not known
	NetNS string // path of its namespace, when Running: /proc/PID/ns/net, or the path itself for netns
	Inode uint64 // of that namespace
}

// Error says why nothing is known of a container.
type Error struct {
	Guest model.Guest // that was asked about
	Err   error       // in a line
}

// Error is "docker:web: find: cause".
func (e *Error) Error() string { return fmt.Sprintf("%s: find: %v", e.Guest, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// source is one runtime.
type source interface {
	// here reports whether the runtime is on this host, as far as its files say.
	here() bool
	// find is Finder.Find for a guest of this runtime.
	find(ctx context.Context, g model.Guest) (Container, error)
	// watch hints until ctx is done. The guests are those of this runtime.
	watch(ctx context.Context, w *watcher)
}

// Finder asks the runtimes. Its methods may be called concurrently.
type Finder struct {
	sources map[model.Runtime]source

	mu      sync.Mutex // protects the following
	watches map[*watch]bool
}

// New returns a Finder. It looks for no container yet.
func New(c Config) *Finder {
	c.fill()
	return &Finder{watches: map[*watch]bool{}, sources: map[model.Runtime]source{
		model.RuntimeDocker:     &docker{host: c.Docker},
		model.RuntimePodman:     &podman{storage: c.PodmanStorage, run: c.PodmanRun, lists: map[string]list{}},
		model.RuntimeContainerd: &containerd{c.Containerd, c.ContainerdState},
		model.RuntimeLXC:        &lxc{c.Cgroup, c.LXC},
		model.RuntimeMachine:    &machine{c.Machines, c.Images, c.NSpawn},
		model.RuntimePID:        processes{},
		model.RuntimeNetNS:      namespaces{},
	}}
}

// Find asks the runtime of g for the container with g's ID or, when that is
// empty, for the one that the runtime's own tool would take g's name for.
//
// A container that the runtime surely does not know is Gone, without an error, and
// has no ID: the next one of its name is another. An *Error says why the runtime
// cannot be asked, or that the name means several; nothing is known then.
//
// A namespace that is new may have the number of the one before, and a path of
// /proc the number of another process.
func (f *Finder) Find(ctx context.Context, g model.Guest) (Container, error) {
	c, err := f.find(ctx, g)
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		for w := range f.watches {
			w.found(c)
		}
	}
	return c, err
}

func (f *Finder) find(ctx context.Context, g model.Guest) (Container, error) {
	s := f.sources[g.Runtime]
	if s == nil {
		return Container{}, &Error{g, errors.New("no such runtime")}
	}
	c, err := s.find(ctx, g)
	if err != nil {
		return Container{}, &Error{g, err}
	}
	c.Guest.Runtime, c.Guest.Awaited = g.Runtime, g.Awaited
	if c.State == Gone {
		c.Guest.ID = ""
	}
	return c, nil
}

// Named returns what a name without a runtime may mean: at most one container of
// each runtime that is on this host, in the order of model.Runtimes. A number is no
// name of a process; an absolute path is one of a namespace.
//
// Runtimes that cannot be asked, and names that mean several, are in the error, an
// *Error for each, joined, beside the containers of the others.
func (f *Finder) Named(ctx context.Context, name string) ([]Container, error) {
	var found []Container
	var failed []error
	for _, r := range model.Runtimes() {
		s := f.sources[r]
		g, known, err := model.ParseGuest(string(r) + ":" + name)
		if s == nil || !known || err != nil || !s.here() {
			continue // no runtime has such a name
		}
		switch c, err := f.find(ctx, g); {
		case err != nil:
			failed = append(failed, err)
		case c.State == Running, c.State == Stopped && r != model.RuntimeNetNS:
			found = append(found, c)
		}
	}
	return found, errors.Join(failed...)
}
