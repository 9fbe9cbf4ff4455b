package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

func (a *app) psCommand() *cobra.Command {
	var all, quiet, whole bool
	var filters []string
	var f format
	c := &cobra.Command{
		Use:   "ps",
		Short: "List sandboxes",
		Long: `A FILTER is id=, name= (a part of it, or a regular expression), network=, status=running|away|exited|lost|degraded,
publish=PORT[-END][/PROTOCOL] for ports of the host, or expose= for the sandbox's own.`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, quiet); err != nil {
				return err
			}
			list, err := a.client().Sandboxes(c.Context(), all, filters...)
			if err != nil {
				return err
			}
			if quiet {
				for _, sb := range list {
					fmt.Fprintln(a.Out, sb.ID)
				}
				return nil
			}
			return show(c, &f, list, func(w io.Writer) { sandboxTable(w, list, time.Now(), whole) })
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "IDs only")
	c.Flags().StringArrayVarP(&filters, "filter", "f", nil, "show only what passes `FILTER`; may be repeated")
	c.Flags().BoolVar(&whole, "no-trunc", false, "do not cut commands")
	f.flags(c)
	return c
}

func sandboxTable(w io.Writer, list []api.Sandbox, now time.Time, whole bool) {
	fmt.Fprintln(w, "ID\tNAME\tSTATUS\tNETWORKS\tPORTS\tCOMMAND")
	for _, sb := range list {
		var ports []string
		for _, p := range sb.Ports {
			ports = append(ports, p.String())
		}
		command := commandText(sb.Command, whole)
		if sb.Guest != nil {
			command = sb.Guest.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", sb.ID, sb.Name, statusText(sb, now), networksText(sb), dash(strings.Join(ports, ", ")), dash(command))
	}
}

func statusText(sb api.Sandbox, now time.Time) string {
	text := sb.Status.State
	if sb.Exit != nil && !sb.Exit.Lost {
		text = fmt.Sprintf("exited (%d)", sb.Exit.Code)
	}
	return text + " " + age(now.Sub(sb.Status.Since))
}

// age is a duration in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func networksText(sb api.Sandbox) string {
	var parts []string
	for _, ep := range sb.Endpoints {
		var addrs []string
		for _, p := range ep.Addresses {
			addrs = append(addrs, p.Addr().String())
		}
		part := ep.Network
		if len(addrs) > 0 {
			part += "=" + strings.Join(addrs, ",")
		}
		parts = append(parts, part)
	}
	if len(parts) == 0 && (sb.Mode == "host" || sb.Mode == "shared") {
		return map[string]string{"host": "host", "shared": containerPrefix + sb.Donor}[sb.Mode]
	}
	return dash(strings.Join(parts, " "))
}

// commandText is a command as a shell would take it, cut to fit a table unless
// the whole is wanted.
func commandText(command []string, whole bool) string {
	var words []string
	for _, w := range command {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$`*?[]{}()<>|&;~#") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words = append(words, strings.Join(strings.Fields(w), " "))
	}
	text := []rune(model.Printable(strings.Join(words, " ")))
	if len(text) > 40 && !whole {
		text = append(text[:39], '…')
	}
	return string(text)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) rmCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "rm REF…",
		Short: "Remove sandboxes",
		Args:  args(1, -1),
		RunE: func(c *cobra.Command, refs []string) error {
			client := a.client()
			return a.each(refs, func(ref string) error { return client.RemoveSandbox(c.Context(), ref, force) })
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "end a command that still runs")
	return c
}

// each does something with every reference, prints those where it worked and
// returns the errors of the others.
func (a *app) each(refs []string, do func(ref string) error) error {
	var errs []error
	for _, ref := range refs {
		if err := do(ref); err != nil {
			errs = append(errs, err)
		} else {
			fmt.Fprintln(a.Out, ref)
		}
	}
	return errors.Join(errs...)
}

func (a *app) inspectCommand() *cobra.Command {
	return inspect("inspect REF…", "Show sandboxes as JSON", func(c *cobra.Command, ref string) (api.Sandbox, error) {
		return a.client().Sandbox(c.Context(), ref)
	})
}

// inspect makes a command that prints things as a JSON array, those that are
// there even if others are not.
func inspect[T any](use, short string, get func(*cobra.Command, string) (T, error)) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:   use,
		Short: short,
		Long:  "The output is always a JSON array, as with docker.",
		Args:  args(1, -1),
		RunE: func(c *cobra.Command, refs []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			if f.template == "" {
				f.output = "json"
			}
			found, errs := []T{}, []error{}
			for _, ref := range refs {
				item, err := get(c, ref)
				if err != nil {
					errs = append(errs, err)
					continue
				}
				found = append(found, item)
			}
			return errors.Join(append([]error{show(c, &f, found, nil)}, errs...)...)
		},
	}
	f.register(c, "f")
	return c
}
