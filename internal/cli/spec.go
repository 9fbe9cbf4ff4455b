package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// place is where a sandbox is to live: its mode, and networks if it has its
// own namespace.
type place struct {
	mode     model.Mode
	donor    string
	networks []api.EndpointSpec
}

// parsePlace reads all --network SPECs of a command line. Without one it is
// the default network.
func parsePlace(specs []string) (place, error) {
	if len(specs) == 0 {
		specs = []string{model.NetworkBridge}
	}
	p := place{mode: model.ModeOwn}
	for _, text := range specs {
		ep, err := parseSpec(text)
		if err != nil {
			return place{}, err
		}
		donor, shared := strings.CutPrefix(ep.Network, containerPrefix)
		alone := shared || ep.Network == model.NetworkHost || ep.Network == model.NetworkNone
		switch {
		case alone && len(specs) > 1:
			return place{}, fmt.Errorf("network %s: cannot be combined with others", ep.Network)
		case shared:
			return place{mode: model.ModeShared, donor: donor}, nil
		case ep.Network == model.NetworkHost:
			return place{mode: model.ModeHost}, nil
		case ep.Network == model.NetworkNone:
			return p, nil
		}
		p.networks = append(p.networks, ep)
	}
	return p, nil
}

// containerPrefix begins a SPEC that names another sandbox's namespace.
const containerPrefix = "container:"

// parseSpec reads one SPEC: a network's name, container:REF, or
// name=N,ip=A,ip6=A,alias=A,mac-address=M,ifname=I,gw-priority=N.
func parseSpec(text string) (api.EndpointSpec, error) {
	var ep api.EndpointSpec
	bad := func(format string, args ...any) (api.EndpointSpec, error) {
		return api.EndpointSpec{}, fmt.Errorf("network %q: %s", text, fmt.Sprintf(format, args...))
	}
	if donor, ok := strings.CutPrefix(text, containerPrefix); ok {
		if donor == "" {
			return bad("want container:REF")
		}
		ep.Network = text
		return ep, nil
	}
	if !strings.Contains(text, "=") {
		if err := model.CheckName(text); err != nil {
			return bad("want a network's name, host, none, container:REF, or name=N,KEY=VALUE,…")
		}
		ep.Network = text
		return ep, nil
	}
	single := map[string]*string{"name": &ep.Network, "ip": &ep.IP, "ip6": &ep.IP6, "mac-address": &ep.MAC, "ifname": &ep.IfName}
	for part := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(part, "=")
		to := single[k]
		switch {
		case !ok || v == "":
			return bad("%q: want KEY=VALUE", part)
		case k == "alias":
			ep.Aliases = append(ep.Aliases, v)
		case k == "gw-priority":
			n, err := strconv.Atoi(v)
			if err != nil {
				return bad("gw-priority %q: want a number", v)
			}
			ep.GwPriority = n
		case to == nil:
			known := slices.Sorted(maps.Keys(single))
			return bad("key %q: not known (known: alias, gw-priority, %s)", k, strings.Join(known, ", "))
		case *to != "":
			return bad("%s: is there twice", k)
		default:
			*to = v
		}
	}
	if err := model.CheckName(ep.Network); err != nil {
		return bad("name=: %v", err)
	}
	if ep.Network == model.NetworkHost || ep.Network == model.NetworkNone {
		if text != "name="+ep.Network {
			return bad("%s takes no settings", ep.Network)
		}
	}
	return ep, nil
}
