package model

import (
	"slices"
	"strings"
)

// Chore is a command of ip or tc that was run in a guest's namespace, and is to be
// run in each that it gets.
type Chore []string

// maxChores bounds what a guest is to be furnished with, and what one may say.
const (
	maxChores     = 512
	maxChoreBytes = 16 << 10
)

// verbs of ip and tc objects, with what ip and tc make of their beginnings.
var (
	shows  = []string{"show", "list", "lst", "ls", "get", "save", "help"}
	makes  = []string{"add", "append", "change", "chg", "replace", "prepend"}
	clears = []string{"delete"}
)

// objects are those of ip and tc in the order in which tc tries their beginnings, and
// valued the options of tc that are followed by a value.
var (
	objects = []string{"route", "rule", "qdisc", "class", "filter", "chain", "actions"}
	valued  = []string{"-b", "-batch", "-n", "-netns", "-cf", "-conf"}
)

// object returns what the command is about, in full, and the place of the word that
// says so; "" for none.
func (c Chore) object() (string, int) {
	for i := 1; i < len(c); i++ {
		switch w := c[i]; {
		case c[0] == "tc" && slices.Contains(valued, w):
			i++
		case !strings.HasPrefix(w, "-"):
			full := slices.IndexFunc(objects, func(o string) bool { return strings.HasPrefix(o, w) })
			if w == "" || full < 0 {
				return w, i
			}
			return objects[full], i
		}
	}
	return "", -1
}

// verb returns the word after the object, and its place; "" for none, which shows.
func (c Chore) verb() (string, int) {
	if _, i := c.object(); i > 0 && i+1 < len(c) {
		return c[i+1], i + 1
	}
	return "", -1
}

func begins(verb string, words []string) bool {
	return verb != "" && slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, verb) })
}

// Changes reports whether the command changes anything.
func (c Chore) Changes() bool {
	v, _ := c.verb()
	return v != "" && (begins(v, makes) || begins(v, clears) || !begins(v, shows))
}

// Removes reports whether the command takes something away.
func (c Chore) Removes() bool {
	v, _ := c.verb()
	return begins(v, clears)
}

// Text is the command as one line.
func (c Chore) Text() string { return strings.Join(c, " ") }

// Inverse returns the command that takes back one that makes something.
func (c Chore) Inverse() (Chore, bool) {
	v, i := c.verb()
	if !begins(v, makes) {
		return nil, false
	}
	out := slices.Clone(c)
	out[i] = "del"
	return out, true
}

// DoChore notes a command that was run. One that was run before moves to the end;
// one that takes away what another made leaves neither.
func (s *Sandbox) DoChore(c Chore) {
	if left, undone := c.without(s.Chores); undone {
		s.Chores = left
		return
	}
	s.DropChore(c)
	s.Chores = append(s.Chores, c)
}

// UndoChore forgets a command whose inverse was run, and what went with it.
func (s *Sandbox) UndoChore(c Chore) {
	if inverse, ok := c.Inverse(); ok {
		s.Chores, _ = inverse.without(s.Chores)
	}
	s.DropChore(c)
}

// DropChore forgets a command.
func (s *Sandbox) DropChore(c Chore) {
	s.Chores = slices.DeleteFunc(slices.Clone(s.Chores), func(o Chore) bool { return slices.Equal(o, c) })
}

// CheckChore reports why a command cannot be noted.
func (s *Sandbox) CheckChore(c Chore) error {
	bad := func(format string, args ...any) error { return Errorf(Invalid, s.Ref(), "run "+c[0], format, args...) }
	size := 0
	for _, w := range c {
		if size += len(w); !printable(w) {
			return bad("argument %q: want printable characters", w)
		}
	}
	switch {
	case size > maxChoreBytes:
		return bad("%d bytes of arguments, at most %d", size, maxChoreBytes)
	case len(s.Chores) >= maxChores:
		return bad("has %d commands to repeat, at most %d", len(s.Chores), maxChores)
	}
	return nil
}

// Command is the pipework command that ran a chore in a container.
func (c Chore) Command(sb *Sandbox) string {
	words := slices.Clone(c)
	if words[0] == "ip" {
		words = words[1:]
	}
	var options []string
	if family, ok := strings.CutPrefix(words[0], "-"); ok {
		options, words = []string{"-a", family}, words[1:]
	}
	return CommandLine(slices.Concat(options, words[:1], []string{sb.Reference()}, words[1:])...)
}
