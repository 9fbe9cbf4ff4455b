package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// swarmFlags are what docker network create has for its Swarm and for others'
// management of addresses. What they ask for is so already, has a name of its own
// here, or is done otherwise.
type swarmFlags struct {
	ingress, configOnly     bool
	configFrom, scope, ipam string
	ipamOptions             []string
}

func (f *swarmFlags) register(s *pflag.FlagSet) {
	s.Bool("attachable", true, "has no effect: any container may be put on any network")
	s.StringVar(&f.scope, "scope", "", "`SCOPE` that the driver has: local, or global (or swarm) with overlay and fabric")
	s.StringVar(&f.ipam, "ipam-driver", "default", "`DRIVER` of addresses: default, or null for -o ipam=none")
	s.StringArrayVar(&f.ipamOptions, "ipam-opt", nil, "`KEY=VALUE` of Docker's: com.docker.network.ipam.serial=true is so anyway")
	for name, to := range map[string]*bool{"ingress": &f.ingress, "config-only": &f.configOnly} {
		s.BoolVar(to, name, false, "")
	}
	s.StringVar(&f.configFrom, "config-from", "", "")
	for _, name := range []string{"ingress", "config-only", "config-from"} {
		s.Lookup(name).Hidden = true // only to be refused with what is there instead
	}
}

// serial has addresses given one after the other, as all are.
const serial = "com.docker.network.ipam.serial=true"

// add adds what the flags mean to a network.
func (f *swarmFlags) add(spec *api.NetworkSpec) error {
	spans := spec.Driver == model.DriverOverlay || spec.Driver == model.DriverFabric
	switch {
	case f.ingress:
		return fmt.Errorf("--ingress: every host answers at ports of services without such a network: want service create --publish")
	case f.configOnly || f.configFrom != "":
		return fmt.Errorf("--config-only and --config-from: networks have no settings from elsewhere: want them in a file, for apply -f")
	case f.scope != "" && f.scope != "local" && f.scope != "global" && f.scope != "swarm":
		return fmt.Errorf("--scope %q: want local, global or swarm", f.scope)
	case f.scope != "" && (f.scope == "local") == spans:
		return fmt.Errorf("--scope %s: driver %s decides: overlay and fabric span hosts, others do not", f.scope, spec.Driver)
	case f.ipam != "default" && f.ipam != "null":
		return fmt.Errorf("--ipam-driver %q: want default, or null for no addresses (from DHCP: network connect --ip dhcp)", f.ipam)
	}
	for _, text := range f.ipamOptions {
		if text != serial {
			return fmt.Errorf("--ipam-opt %q: not known: want none, or %s", text, serial)
		}
	}
	if f.ipam == "null" {
		if spec.Options == nil {
			spec.Options = map[string]string{}
		}
		spec.Options["ipam"] = "none"
	}
	return nil
}
