package model

import (
	"fmt"
	"path"
	"strings"
)

// Guest is the container that a sandbox stands for, which some runtime of the
// host starts, stops and starts again. Each time it gets a new namespace; what it
// has of ours is put there.
type Guest struct {
	Runtime Runtime `json:"runtime"`
	Name    string  `json:"name"` // what its user calls it: for containerd NAMESPACE/ID, for netns the path
	// ID is what the runtime calls it as long as it exists, over restarts; empty
	// until it was seen.
	ID string `json:"id,omitempty"`
	// Awaited: it need not exist. The sandbox stays when the container is removed,
	// and is the next one's of that name.
	Awaited bool `json:"awaited,omitempty"`
}

// Runtime is what runs containers, or names namespaces.
type Runtime string

// The runtimes, as they begin a reference.
const (
	RuntimeDocker     Runtime = "docker"
	RuntimePodman     Runtime = "podman"
	RuntimeContainerd Runtime = "containerd"
	RuntimeLXC        Runtime = "lxc"
	RuntimeMachine    Runtime = "machine" // systemd-nspawn, and what else systemd-machined knows
	RuntimePID        Runtime = "pid"
	RuntimeNetNS      Runtime = "netns"
)

// Runtimes lists them in the order in which a bare name is looked up.
func Runtimes() []Runtime {
	return []Runtime{RuntimeDocker, RuntimePodman, RuntimeContainerd, RuntimeLXC, RuntimeMachine, RuntimePID, RuntimeNetNS}
}

// ParseGuest reads RUNTIME:NAME, and reports false for a reference without a
// known runtime.
func ParseGuest(ref string) (Guest, bool, error) {
	prefix, name, _ := strings.Cut(ref, ":")
	for _, r := range Runtimes() {
		if string(r) != prefix {
			continue
		}
		g := Guest{Runtime: r, Name: name}
		if r == RuntimeNetNS {
			g.Name = path.Clean(name)
		}
		return g, true, g.check(ref)
	}
	return Guest{}, false, nil
}

func (g Guest) check(ref string) error {
	switch {
	case g.Runtime == RuntimeNetNS && !path.IsAbs(g.Name):
		return fmt.Errorf("%s: want an absolute path", ref)
	case g.Runtime == RuntimePID && (g.Name == "" || strings.Trim(g.Name, "0123456789") != ""):
		return fmt.Errorf("%s: want a process number", ref)
	case g.Name == "" || len(g.Name) > 4096 || !printable(g.Name):
		return fmt.Errorf("%q: want a container's name or ID after %s:", ref, g.Runtime)
	}
	return nil
}

// CheckAwaited returns an error if no container can come that the reference means: a
// process has its number by chance, and Docker and Podman give no such name.
func (g Guest) CheckAwaited() error {
	switch {
	case g.Runtime == RuntimePID:
		return fmt.Errorf("a process cannot be awaited")
	case (g.Runtime == RuntimeDocker || g.Runtime == RuntimePodman) && !containerName().MatchString(g.Name):
		return fmt.Errorf("%s gives no container that name: want letters, digits, _ . and -, a letter or digit first", g.Runtime)
	}
	return nil
}

var containerName = lazily("^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")

// String is the reference, "docker:web".
func (g Guest) String() string { return string(g.Runtime) + ":" + g.Name }

// Away reports whether the sandbox stands for a container that does not run: it
// keeps what it has, and there is nothing of it in the kernel.
func (s *Sandbox) Away() bool { return s.Guest != nil && s.NetNS == "" }

// Live reports whether the sandbox has a namespace, as far as is known.
func (s *Sandbox) Live() bool { return s.Exit == nil && !s.Away() }
