package cli

import (
	"encoding/csv"
	"fmt"
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
		case ep.Network == model.NetworkDefault:
			ep.Network = model.NetworkBridge
		}
		p.networks = append(p.networks, ep)
	}
	return p, nil
}

// containerPrefix begins a SPEC that names another sandbox's namespace.
const containerPrefix = "container:"

// parseSpec reads one SPEC: a network's name, container:REF, or fields.
func parseSpec(text string) (api.EndpointSpec, error) {
	bad := func(format string, args ...any) (api.EndpointSpec, error) {
		return api.EndpointSpec{}, fmt.Errorf("network %q: %w", text, fmt.Errorf(format, args...))
	}
	if donor, ok := strings.CutPrefix(text, containerPrefix); ok {
		if donor == "" {
			return bad("want container:REF")
		}
		return api.EndpointSpec{Network: text}, nil
	}
	if !strings.Contains(text, "=") {
		if err := model.CheckName(text); err != nil {
			return bad("want a network's name, host, none, container:REF, or name=N,KEY=VALUE,…")
		}
		return api.EndpointSpec{Network: text}, nil
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return bad("want name=N,KEY=VALUE,…")
	}
	var s specReader
	for _, field := range fields {
		if err := s.field(field); err != nil {
			return bad("%w", err)
		}
	}
	if s.ep.Network == "" {
		return bad("name: missing")
	}
	if err := model.CheckName(s.ep.Network); err != nil {
		return bad("name=: %w", err)
	}
	if s.ep.Network == model.NetworkHost || s.ep.Network == model.NetworkNone {
		if text != "name="+s.ep.Network {
			return bad("%s takes no settings", s.ep.Network)
		}
	}
	return s.ep, nil
}

// checkAliases refuses aliases on the default network, which nobody would find.
func checkAliases(network string, aliases []string) error {
	if len(aliases) > 0 && (network == model.NetworkBridge || network == model.NetworkDefault) {
		return fmt.Errorf("alias %s: network %s has no names: want a network made by network create", aliases[0], model.NetworkBridge)
	}
	return nil
}

// specReader reads name=N,ip=A,ip6=A,link-local-ip=A,alias=A,mac-address=M,
// ifname=I,gw-priority=N,service=S,sysctl=K=V,driver-opt=K=V. Values stay as they are
// written; quotes as in CSV keep a comma in one, as with docker.
type specReader struct {
	ep       api.EndpointSpec
	priority bool // is there
}

// specKeys are the keys of a SPEC.
func specKeys() []string {
	return []string{"alias", "driver-opt", "gw-priority", "ifname", "ip", "ip6", "link-local-ip", "mac-address", "name", "service", "sysctl"}
}

func (s *specReader) field(text string) error {
	k, v, ok := strings.Cut(text, "=")
	if !ok || v == "" {
		return fmt.Errorf("%q: want KEY=VALUE", text)
	}
	switch k {
	case "name":
		return once(&s.ep.Network, k, v)
	case "ip":
		return once(&s.ep.IP, k, v)
	case "ip6":
		return once(&s.ep.IP6, k, v)
	case "mac-address":
		return once(&s.ep.MAC, k, v)
	case "ifname":
		return once(&s.ep.IfName, k, v)
	case "gw-priority":
		return s.gwPriority(v)
	case "driver-opt":
		return s.driverOption(v)
	case "service":
		return addService(&s.ep, v)
	case "alias":
		s.ep.Aliases = append(s.ep.Aliases, v)
	case "link-local-ip":
		s.ep.LinkLocalIPs = append(s.ep.LinkLocalIPs, v)
	case "sysctl":
		s.ep.Sysctls = append(s.ep.Sysctls, v)
	default:
		return fmt.Errorf("key %q: not known (known: %s)", k, strings.Join(specKeys(), ", "))
	}
	return nil
}

// addService makes an endpoint a backend of one more service.
func addService(ep *api.EndpointSpec, text string) error {
	if _, err := model.ParseMembership(text); err != nil {
		return err
	}
	if ep.Options == nil {
		ep.Options = map[string]string{}
	}
	if old := ep.Options[optService]; old != "" {
		text = old + "," + text
	}
	ep.Options[optService] = text
	return nil
}

// optService is the option of endpoints that says of which services they are.
const optService = "service"

// once sets what may be there once.
func once(to *string, key, value string) error {
	if *to != "" {
		return fmt.Errorf("%s: is there twice", key)
	}
	*to = value
	return nil
}

func (s *specReader) gwPriority(v string) error {
	n, err := strconv.Atoi(v)
	switch {
	case err != nil:
		return fmt.Errorf("gw-priority %q: want a number", v)
	case s.priority:
		return fmt.Errorf("gw-priority: is there twice")
	}
	s.ep.GwPriority, s.priority = n, true
	return nil
}

func (s *specReader) driverOption(v string) error {
	k, value, ok := strings.Cut(v, "=")
	_, twice := s.ep.Options[k]
	switch {
	case !ok || k == "":
		return fmt.Errorf("driver-opt %q: want KEY=VALUE", v)
	case twice:
		return fmt.Errorf("driver-opt %s: is there twice", k)
	case s.ep.Options == nil:
		s.ep.Options = map[string]string{}
	}
	s.ep.Options[k] = value
	return nil
}
