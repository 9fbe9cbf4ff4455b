package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) stackCommand() *cobra.Command {
	c := &cobra.Command{Use: "stack", Short: "List and remove stacks: the networks and services of one file"}
	c.AddCommand(a.stackLs(), a.stackRm())
	return c
}

func (a *app) stackLs() *cobra.Command {
	var quiet bool
	var f format
	c := &cobra.Command{
		Use:   "ls",
		Short: "List stacks",
		Args:  args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, quiet); err != nil {
				return err
			}
			list, err := a.client().Stacks(c.Context())
			if err != nil {
				return err
			}
			if quiet {
				for _, s := range list {
					fmt.Fprintln(a.Out, s.Name)
				}
				return nil
			}
			return show(c, &f, list, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tNETWORKS\tSERVICES")
				for _, s := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, dash(strings.Join(s.Networks, ", ")), dash(strings.Join(s.Services, ", ")))
				}
			})
		},
	}
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "names only")
	f.flags(c)
	return c
}

func (a *app) stackRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME…",
		Short: "Remove the services and networks of stacks; containers stay",
		Args:  args(1, -1),
		RunE: func(c *cobra.Command, names []string) error {
			client := a.client()
			return a.each(names, func(name string) error { return client.RemoveStack(c.Context(), name) })
		},
	}
}
