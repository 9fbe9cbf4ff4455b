package server

import (
	"fmt"
	"path"
	"slices"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// settings reads and checks the rest of a request for a sandbox. What is
// written into files and settings, package model checks.
func settings(req api.SandboxSpec, spec *engine.SandboxSpec) error {
	if err := checkMode(req); err != nil {
		return err
	}
	if p := req.Process; p != nil && p.PID <= 0 {
		return fmt.Errorf("process: pid %d: want the number of a process", p.PID)
	}
	for _, h := range req.Hosts {
		entry := model.HostEntry{Name: h.Name, Gateway: h.Address == api.HostGateway}
		if !entry.Gateway {
			var err error
			if entry.Addr, err = parseAddr("add-host "+h.Name, h.Address); err != nil {
				return err
			}
		}
		spec.Hosts = append(spec.Hosts, entry)
	}
	spec.DNS = model.DNS{Search: req.DNS.Search, Options: req.DNS.Options}
	for _, text := range req.DNS.Servers {
		a, err := parseAddr("dns", text)
		if err != nil {
			return err
		}
		spec.DNS.Servers = append(spec.DNS.Servers, a)
	}
	return nil
}

// checkMode demands what a mode needs and refuses what belongs to others.
func checkMode(req api.SandboxSpec) error {
	modes := []model.Mode{"", model.ModeOwn, model.ModeHost, model.ModeShared, model.ModeOther}
	switch mode := model.Mode(req.Mode); {
	case !slices.Contains(modes, mode):
		return fmt.Errorf("mode %q: want own, host, shared or other", mode)
	case (mode == model.ModeShared) != (req.Donor != ""):
		return fmt.Errorf("donor %q: mode shared needs one, others take none", req.Donor)
	case (mode == model.ModeOther) != (req.NetNS != ""):
		return fmt.Errorf("netns %q: mode other needs one, others take none", req.NetNS)
	case req.Origin != "" && req.Origin != model.OriginCNI:
		return fmt.Errorf("origin %q: want cni, or none", req.Origin)
	case req.NetNS != "" && (!path.IsAbs(req.NetNS) || path.Clean(req.NetNS) != req.NetNS):
		return fmt.Errorf("netns %q: want a clean absolute path", req.NetNS)
	}
	return nil
}
