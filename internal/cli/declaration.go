package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
)

const declarationHelp = `FILE is YAML, or JSON if its name ends in .json; - is standard input:

  networks:
  - name: app
    subnets: [{prefix: 10.1.0.0/16, gateway: 10.1.0.1}]
    options: {mtu: 1400}
  endpoints:
  - {network: app, sandbox: "netns:/run/netns/vm1", ip: 10.1.0.7, ports: ["8080:80"]}

`

func (a *app) applyCommand() *cobra.Command {
	return a.declarationCommand("apply -f FILE", "Make what a file says and is not there yet",
		declarationHelp+"All of it is made, or nothing. What was done is printed, a line each.", (*api.Client).Apply)
}

func (a *app) planCommand() *cobra.Command {
	return a.declarationCommand("plan -f FILE", "Say what apply would do",
		declarationHelp+"Nothing is changed. + adds, ~ changes and - removes.", (*api.Client).Plan)
}

func (a *app) declarationCommand(use, short, long string, do func(*api.Client, context.Context, []byte, string) (api.Ops, error)) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				return usage("%s: want -f FILE", path(c))
			}
			text, err := a.read(file)
			if err != nil {
				return err
			}
			contentType := "application/yaml"
			if strings.HasSuffix(file, ".json") {
				contentType = "application/json"
			}
			ops, err := do(a.client(), c.Context(), text, contentType)
			a.printOps(ops)
			return err
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "`FILE` to read, - for standard input")
	return c
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
