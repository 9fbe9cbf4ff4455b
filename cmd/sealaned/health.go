package main

import (
	"errors"
	"net"

	"github.com/sealane/sealane/internal/dockerplugin"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel/facts"
	"github.com/sealane/sealane/internal/runtime"
	"github.com/sealane/sealane/internal/serve/dns"
)

// health is how the engine's doctor looks at the host.
func (s settings) health(features *feature.Cache, guests *runtime.Finder) engine.Health {
	h := engine.Health{
		Vitals: func() facts.Vitals { return facts.ReadVitals(s.StateDir) }, Forwarding: facts.Forwarding,
		Features: features.All, Runtimes: guests.Served, Ask: dns.Ping,
	}
	if s.Docker != "" {
		h.Plugin = func() error {
			c, err := net.Dial("unix", s.Docker)
			if err != nil {
				return err
			}
			return errors.Join(c.Close(), dockerplugin.Found(s.Docker))
		}
	}
	return h
}
