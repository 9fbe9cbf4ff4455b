package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

const declarationHelp = `FILE is YAML, or JSON if its name ends in .json; - is standard input:

  networks:
  - name: app
    subnets: [{prefix: 10.1.0.0/16, gateway: 10.1.0.1}]
    options: {mtu: 1400}
  endpoints:
  - {network: app, sandbox: "netns:/run/netns/vm1", ip: 10.1.0.7, ports: ["8080:80"]}

`

const stackHelp = `All of it is made, or nothing. What the file does not mention is left alone.

FILE may also be a stack, of Compose's format: networks and services as mappings. What
the stack had and has no more is removed, and services change in place:

  name: shop
  networks: {app: {driver: overlay}}
  services:
    web: {networks: [app], ports: ["8080:80"]}

`

func (a *app) applyCommand() *cobra.Command {
	return a.declarationCommand("apply -f FILE", "Make what a file says and is not there yet", declarationHelp+stackHelp+
		"What was done is printed, a line each.", (*api.Client).Apply)
}

func (a *app) planCommand() *cobra.Command {
	return a.declarationCommand("plan -f FILE", "Say what apply would do",
		declarationHelp+stackHelp+"Nothing is changed. + adds, ~ changes and - removes.", (*api.Client).Plan)
}

func (a *app) declarationCommand(use, short, long string, do func(*api.Client, context.Context, api.File) (api.Ops, error)) *cobra.Command {
	var file string
	var f api.File
	c := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage("%s: want -f FILE", path(c))
			}
			var err error
			if f.Text, err = a.read(file); err != nil {
				return err
			}
			if f.ContentType = "application/yaml"; strings.HasSuffix(file, ".json") {
				f.ContentType = "application/json"
			}
			if file != "-" {
				f.Name = filepath.Base(file)
			}
			f.Variables = mentioned(string(f.Text))
			ops, err := do(a.client(), c.Context(), f)
			if e, ok := errors.AsType[*model.UnfinishedError](err); ok {
				ops.Ops = e.Done
			}
			a.printOps(ops)
			return err
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "`FILE` to read, - for standard input")
	c.Flags().StringVar(&f.Stack, "stack", "", "`NAME` of the stack, instead of the file's")
	return c
}

// mentioned is what is set of the variables that a text mentions, as NAME=VALUE.
func mentioned(text string) []string {
	var out []string
	for {
		_, after, found := strings.Cut(text, "$")
		if !found {
			slices.Sort(out)
			return slices.Compact(out)
		}
		text = after
		name := strings.TrimPrefix(after, "{")
		if i := strings.IndexFunc(name, func(c rune) bool {
			return c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9')
		}); i >= 0 {
			name = name[:i]
		}
		if value, set := os.LookupEnv(name); set && name != "" {
			out = append(out, name+"="+value)
		}
	}
}

func (a *app) read(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.In)
	}
	return os.ReadFile(file)
}

func (a *app) printOps(ops api.Ops) {
	for _, op := range ops.Ops {
		fmt.Fprintln(a.Out, op)
	}
	for _, note := range ops.Notes {
		fmt.Fprintln(a.Err, "sealane: note:", note)
	}
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff",
		Short: "Say what in the kernel is not as intended",
		Long:  "It prints what the daemon would do about it, and nothing when all is well.",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			ops, err := a.client().Diff(c.Context())
			a.printOps(ops)
			return err
		},
	}
}
