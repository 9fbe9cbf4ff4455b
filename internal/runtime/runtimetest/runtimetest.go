// Package runtimetest is the suite that whoever answers for containers passes:
// runtime.Finder with a runtime that runs, and what stands for it in tests. Each
// case states one rule.
package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// Finder is who is asked.
type Finder interface {
	Find(context.Context, model.Guest) (runtime.Container, error)
	Named(ctx context.Context, name string) ([]runtime.Container, error)
}

// World is a host with a runtime that has no container, and LXC without one.
type World struct {
	Finder  Finder
	Runtime model.Runtime
	Keeper  Keeper
}

// Keeper does what the runtime's user would, and returns when it is done. What
// cannot be done fails the test.
type Keeper interface {
	// Create makes a container that is stopped.
	Create(t *testing.T, name string)
	Start(t *testing.T, name string)
	Stop(t *testing.T, name string)
	Rename(t *testing.T, name, to string)
	// Remove removes a container, also one that runs.
	Remove(t *testing.T, name string)
	// Twin makes a container of LXC's that is stopped.
	Twin(t *testing.T, name string)
	// Shut has the runtime answer nobody any more.
	Shut(t *testing.T)
}

// Run asks all questions in one world.
func Run(t *testing.T, w World) {
	ids := map[string]string{}
	for i, q := range questions {
		t.Run(q.rule, func(t *testing.T) { q.ask(&suite{t, w, fmt.Sprint("web", i), ids}) })
	}
}

// question is one rule and its proof.
type question struct {
	rule string
	ask  func(*suite)
}

// suite is a test with its world and short words.
type suite struct {
	*testing.T
	World
	name string            // of no container yet; no ID begins as it does
	ids  map[string]string // of all containers that are there, by ID their name
}

func (s *suite) guest(name string) model.Guest { return model.Guest{Runtime: s.Runtime, Name: name} }

// create makes a container, and returns its ID.
func (s *suite) create(name string) string {
	s.Helper()
	s.Keeper.Create(s.T, name)
	id := s.finds(s.guest(name), runtime.Stopped, name).Guest.ID
	if was, used := s.ids[id]; used || id == "" {
		s.Fatalf("%s has ID %q, which %q had", name, id, was)
	}
	s.ids[id] = name
	return id
}

// run makes a container that runs.
func (s *suite) run(name string) runtime.Container {
	s.Helper()
	id := s.create(name)
	s.Keeper.Start(s.T, name)
	c := s.finds(s.guest(name), runtime.Running, name)
	if c.Guest.ID != id {
		s.Errorf("%s: ID %q, and %q before it ran", name, c.Guest.ID, id)
	}
	return c
}

func (s *suite) remove(name string) {
	s.Helper()
	s.Keeper.Remove(s.T, name)
	for id, n := range s.ids {
		if n == name {
			delete(s.ids, id)
		}
	}
}

// begin returns the least that only this ID begins with.
func (s *suite) begin(id string) string {
	n := 1
	for other := range s.ids {
		for other != id && strings.HasPrefix(other, id[:n]) {
			n++
		}
	}
	return id[:n]
}

// finds asks for a guest, which must fare so and have a name.
func (s *suite) finds(g model.Guest, state runtime.State, name string) runtime.Container {
	s.Helper()
	c, err := s.Finder.Find(s.Context(), g)
	if err != nil {
		s.Fatalf("%+v: %v", g, err)
	}
	if c.State != state || c.Guest.Name != name || c.Guest.Runtime != g.Runtime || c.Guest.Awaited != g.Awaited {
		s.Fatalf("%+v: found %+v, want %s, %s", g, c, name, state)
	}
	running, at := state == runtime.Running, fmt.Sprintf("/proc/%d/ns/net", c.PID)
	if (c.PID > 0) != running || (c.NetNS == at) != running || (c.Inode > 0) != running || !running && c.NetNS != "" {
		s.Errorf("%+v: found %+v", g, c)
	}
	if (c.Guest.ID == "") != (state == runtime.Gone) {
		s.Errorf("%+v: is %s and has ID %q", g, c.State, c.Guest.ID)
	}
	return c
}

// gone asks for a guest that there is not.
func (s *suite) gone(g model.Guest) { s.Helper(); s.finds(g, runtime.Gone, g.Name) }

// fails asks for a guest of whom nothing can be known.
func (s *suite) fails(g model.Guest) {
	s.Helper()
	c, err := s.Finder.Find(s.Context(), g)
	e, ok := errors.AsType[*runtime.Error](err)
	if !ok || e.Guest != g || c != (runtime.Container{}) || strings.Contains(err.Error(), "\n") {
		s.Errorf("%+v: found %+v, error %T: %v", g, c, err, err)
	}
}

// named checks what a name without a runtime may mean, and whether somebody could
// not be asked.
func (s *suite) named(name, want string, failed bool) {
	s.Helper()
	list, err := s.Finder.Named(s.Context(), name)
	var got []string
	for _, c := range list {
		got = append(got, c.Guest.String()+"="+c.State.String())
	}
	if text := strings.Join(got, " "); text != want {
		s.Errorf("%s: %s, want %s", name, text, want)
	}
	e, ok := errors.AsType[*runtime.Error](err)
	if (err != nil) != failed || failed && (!ok || e.Guest != s.guest(name)) {
		s.Errorf("%s: error %T: %v", name, err, err)
	}
}
