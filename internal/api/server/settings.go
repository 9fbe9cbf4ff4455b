package server

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// settings checks the rest of a request for a sandbox: its mode, and what is
// written into files and settings, where a stray line break would say
// something else.
func settings(req api.SandboxSpec, spec *engine.SandboxSpec) error {
	if err := checkMode(req); err != nil {
		return err
	}
	for _, m := range spec.Expose {
		if m.HostPort != 0 || m.HostIP.IsValid() {
			return fmt.Errorf("expose %s: want PORT[-END][/tcp|udp]", m)
		}
	}
	if p := req.Process; p != nil && p.PID <= 0 {
		return fmt.Errorf("process: pid %d: want the number of a process", p.PID)
	}
	if req.Domain != "" {
		if err := model.CheckHostname(req.Domain); err != nil {
			return fmt.Errorf("domainname: %w", err)
		}
	}
	if err := checkSysctls(req.Sysctls); err != nil {
		return err
	}
	for _, h := range req.Hosts {
		if err := model.CheckHostname(h.Name); err != nil {
			return fmt.Errorf("add-host: %w", err)
		}
		a, err := parseAddr("add-host "+h.Name, h.Address)
		if err != nil {
			return err
		}
		spec.Hosts = append(spec.Hosts, model.HostEntry{Name: h.Name, Addr: a})
	}
	return resolver(req.DNS, &spec.DNS)
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
	case req.NetNS != "" && (!path.IsAbs(req.NetNS) || path.Clean(req.NetNS) != req.NetNS):
		return fmt.Errorf("netns %q: want a clean absolute path", req.NetNS)
	}
	return nil
}

// sysctlRE are settings of a network namespace; a slash is a dot inside a
// device's name (sysctl.d(5)).
var sysctlRE = regexp.MustCompile(`^net(\.[A-Za-z0-9_][A-Za-z0-9_/-]*)+$`)

func checkSysctls(kv map[string]string) error {
	for _, k := range sortedKeys(kv) {
		if !sysctlRE.MatchString(k) || strings.Contains(k, "//") {
			return fmt.Errorf("sysctl %q: want a setting of the network, as net.core.somaxconn", k)
		}
		if !plain(kv[k]) {
			return fmt.Errorf("sysctl %s: value %q: want one line", k, kv[k])
		}
	}
	return nil
}

func resolver(req api.DNS, dns *model.DNS) error {
	for _, text := range req.Servers {
		a, err := parseAddr("dns", text)
		if err != nil {
			return err
		}
		dns.Servers = append(dns.Servers, a)
	}
	for _, d := range req.Search {
		if err := model.CheckHostname(strings.TrimSuffix(d, ".")); err != nil && d != "." {
			return fmt.Errorf("dns-search: %w", err)
		}
	}
	for _, o := range req.Options {
		if o == "" || !plain(o) || strings.ContainsAny(o, " \t") {
			return fmt.Errorf("dns-option %q: want one word, as ndots:2", o)
		}
	}
	dns.Search, dns.Options = req.Search, req.Options
	return nil
}

// plain reports whether s is one line of printable text, tabs allowed.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
