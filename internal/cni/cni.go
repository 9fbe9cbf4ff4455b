// Package cni is the CNI plugin: it translates between what a container runtime
// says by the Container Network Interface, specification 0.3.1 to 1.1.0
// (https://www.cni.dev/docs/spec), and the API. It holds no state, makes no
// device and looks at no kernel.
//
//	runtime ── environment, stdin ──▶ env, config ──▶ request ──▶ daemon
//	   ◀───── stdout, exit status ─── result, error ◀──────────────┘
//
// The configuration's name is the network's. A network that is not there is
// made when the first container is put on it. The container is the namespace at
// CNI_NETNS under the name CNI_CONTAINERID.
package cni

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/sealane/sealane/internal/api"
)

// Console is what a runtime gives to the plugin.
type Console struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// patience is how long the daemon may take to answer.
const patience = 60 * time.Second

// newest is the newest version of the specification that we speak.
const newest = "1.1.0"

// versions are the versions of the specification that we speak.
func versions() []string { return []string{"0.3.1", "0.4.0", "1.0.0", newest} }

// command is one of the protocol's.
type command struct {
	name  string
	since string   // version of the specification
	needs []string // variables of the environment
	lax   bool     // only what it needs of the configuration is looked at
	do    func(context.Context, *request) (any, error)
}

func commands() []command {
	return []command{
		{"ADD", "", []string{envContainer, envNetNS, envIfName}, false, add},
		{"DEL", "", []string{envContainer, envIfName}, true, del},
		{"CHECK", "0.4.0", []string{envContainer, envNetNS, envIfName}, false, check},
		{"GC", newest, nil, true, collect},
		{"STATUS", newest, nil, false, status},
	}
}

// request is one call by a runtime.
type request struct {
	env    environment
	config *config
	client *api.Client
	log    io.Writer
}

// Run answers one call and returns the exit status: 0, or 1 with an error object
// on standard output.
func Run(ctx context.Context, c Console) int {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	spoken, answer, err := c.answer(ctx)
	if err != nil {
		answer = describe(spoken, err)
	}
	if answer != nil {
		if werr := json.NewEncoder(c.Out).Encode(answer); werr != nil {
			return 1
		}
	}
	if err != nil {
		return 1
	}
	return 0
}

// answer returns the version of the specification that was spoken, as far as
// that is known, and what there is to say.
func (c Console) answer(ctx context.Context) (string, any, error) {
	name := c.Getenv(envCommand)
	if name == "VERSION" {
		return c.version()
	}
	cmd, unknown := find(name)
	if name == "" && c.typed() {
		return newest, nil, unknown
	}
	conf, unread := readConfig(c.In, cmd.lax) // first: any error says its version
	env, bad := readEnvironment(c.Getenv, cmd)
	if err := cmp.Or(unknown, bad, unread); err != nil {
		return conf.spoken(), nil, err
	}
	if err := conf.allows(cmd); err != nil {
		return conf.version, nil, err
	}
	client := api.Dial(conf.socketOr(c.Getenv))
	defer client.Close()
	answer, err := cmd.do(ctx, &request{env, conf, client, c.Err})
	return conf.version, answer, err
}

// typed reports whether a person executes the plugin, who writes no configuration.
func (c Console) typed() bool {
	f, ok := c.In.(*os.File)
	if !ok {
		return false
	}
	is, err := f.Stat()
	return err == nil && is.Mode()&fs.ModeCharDevice != 0
}

func find(name string) (command, error) {
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	switch {
	case name == "":
		return command{}, errorf(codeEnvironment, "%s: missing: a container runtime sets it and executes this", envCommand)
	case i < 0:
		return command{}, errorf(codeEnvironment, "%s %q: not known", envCommand, name)
	}
	return all[i], nil
}

// versionAnswer answers VERSION.
type versionAnswer struct {
	Version   string   `json:"cniVersion"`
	Supported []string `json:"supportedVersions"`
}

// version answers in the version that was asked in, whatever it is.
func (c Console) version() (string, any, error) {
	text, err := io.ReadAll(io.LimitReader(c.In, maxConfig))
	if err != nil {
		return newest, nil, errorf(codeIO, "configuration: read: %w", err)
	}
	asked := struct {
		Version string `json:"cniVersion"`
	}{}
	if len(strings.TrimSpace(string(text))) > 0 {
		if err := json.Unmarshal(text, &asked); err != nil {
			return newest, nil, errorf(codeDecode, "configuration: %w", err)
		}
	}
	if asked.Version == "" {
		asked.Version = newest
	}
	return newest, versionAnswer{asked.Version, versions()}, nil
}

// allows refuses a command that is not in the configuration's version.
func (c *config) allows(cmd command) error {
	if cmd.since == "" {
		return nil
	}
	ok, err := version.GreaterThanOrEqualTo(c.version, cmd.since)
	if err != nil || !ok {
		return errorf(codeVersion, "%s: not in cniVersion %s, only since %s", cmd.name, c.version, cmd.since)
	}
	return nil
}
