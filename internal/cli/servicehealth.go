package cli

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// health is how the backends of a service are to be checked.
type health api.HealthWish

func (h *health) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.Check, "health", "", "`CHECK` of backends by their hosts: tcp, http:/PATH, which wants 2xx or 3xx, or none")
	f.StringVar(&h.Interval, "health-interval", "", "`TIME` between two, 100ms to 1h (default 2s)")
	f.StringVar(&h.Timeout, "health-timeout", "", "`TIME` that one may take (default 1s)")
	f.Func("health-retries", "`N` failures in a row make a backend unhealthy, 1 to 100 (default 3)", func(v string) (err error) {
		h.Retries, err = model.ParseHealthRetries(v)
		return err
	})
}

// wish is what was said, or nil. It refuses here what the daemon would refuse as checks of a
// service: a new one, or one that may have some.
func (h *health) wish(c *cobra.Command, isNew bool) (*api.HealthWish, error) {
	empty := map[string]bool{"health": h.Check == "", "health-interval": h.Interval == "", "health-timeout": h.Timeout == "", "health-retries": h.Retries == 0}
	said := false
	for _, flag := range slices.Sorted(maps.Keys(empty)) {
		if !c.Flags().Changed(flag) {
			continue
		}
		if said = true; empty[flag] {
			return nil, fmt.Errorf("--%s: is empty", flag)
		}
	}
	if !said {
		return nil, nil
	}
	wish, err := model.ParseHealthWish(h.Check, h.Interval, h.Timeout, h.Retries)
	have := &model.Health{Interval: model.MaxHealthInterval, Timeout: 1, Retries: 1} // whose limits are the widest
	if isNew {
		have = nil
	}
	if err == nil {
		_, err = wish.Of(have)
	}
	return (*api.HealthWish)(h), err
}
