package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/spf13/cobra"
)

func (a *app) eventsCommand() *cobra.Command {
	q := api.EventQuery{From: -1}
	var f format
	c := &cobra.Command{
		Use:   "events [FLAGS]",
		Short: "Say what is made, changed and removed, as it happens",
		Long: `A FILTER is type=network|sandbox, event=ACTION, network=NETWORK or sandbox=REF.
The daemon remembers the last 1,024, until it ends.`,
		Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := f.check(c, false); err != nil {
				return err
			}
			for client := a.client(); ; {
				got, err := client.Events(c.Context(), q)
				if c.Context().Err() != nil {
					return nil // the user has seen enough
				}
				if err == nil {
					err = tell(c, &f, got.Events)
				}
				if err != nil || got.Done {
					return err
				}
				q.From = got.Next
			}
		},
	}
	c.Flags().StringVar(&q.Since, "since", "", "those that are remembered since `TIME` first, as 2006-01-02T15:04:05, or how long ago, as 10m")
	c.Flags().StringVar(&q.Until, "until", "", "go on to `TIME` only; 0s is now")
	c.Flags().StringArrayVarP(&q.Filters, "filter", "f", nil, "only what passes `FILTER`; may be repeated")
	f.flags(c)
	return c
}

// tell prints events, one a line.
func tell(c *cobra.Command, f *format, list []api.Event) error {
	if f.output == "json" {
		f.output, f.template = "", "{{json .}}"
	}
	return show(c, f, list, func(w io.Writer) {
		for _, ev := range list {
			var about []string
			for _, k := range slices.Sorted(maps.Keys(ev.Attributes)) {
				about = append(about, k+"="+ev.Attributes[k])
			}
			fmt.Fprintf(w, "%s %s %s %s (%s)\n", ev.Time.Format(time.RFC3339Nano), ev.Type, ev.Action, ev.ID, strings.Join(about, ", "))
		}
	})
}
