package fake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// sysctl returns the value of a setting, or false if there is none of this name.
func (w *world) sysctl(name string) (string, bool) {
	def, ok := w.defaultValue(name)
	if v, set := w.sysctls[name]; set && ok {
		return v, true
	}
	return def, ok
}

// defaultValue knows the settings this system may want: forwarding, bridge
// netfilter, room for neighbours, and all that a device has.
func (w *world) defaultValue(name string) (string, bool) {
	hostWide := []string{
		"net.ipv4.ip_forward", "net.ipv4.ip_nonlocal_bind",
		"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
	}
	if slices.Contains(hostWide, name) {
		return "0", true
	}
	if strings.HasSuffix(name, ".neigh.default.gc_thresh3") {
		return "1024", true
	}
	rest, is4 := strings.CutPrefix(name, "net.ipv4.conf.")
	rest, is6 := strings.CutPrefix(rest, "net.ipv6.conf.")
	rest, near := strings.CutPrefix(rest, "net.ipv4.neigh.")
	dot := strings.LastIndexByte(rest, '.')
	if !is4 && !is6 && !near || dot < 0 {
		return "", false
	}
	dev, setting := rest[:dot], rest[dot+1:]
	if _, ok := w.device(kstate.NS{}, dev); !ok && dev != "all" && dev != "default" {
		return "", false
	}
	switch setting {
	case "accept_ra":
		return "1", true
	case "proxy_delay":
		return "80", true
	}
	return "0", true
}

func (k *Kernel) putSysctl(o kstate.Sysctl) error {
	v, ok := k.world.sysctl(o.Name)
	if !ok {
		return fmt.Errorf("setting %s %w", o.Name, kernel.ErrMissing)
	}
	// Also when the value is right already: what we want is ours to put back.
	return k.journaled("sysctl/"+o.Name, v, func() { k.world.sysctls[o.Name] = o.Value })
}

func (k *Kernel) removeSysctl(o kstate.Sysctl) error {
	entries, err := k.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	before, ok := entries["sysctl/"+o.Name]
	if !ok {
		return nil
	}
	return k.unjournaled("sysctl/"+o.Name, func() { k.world.sysctls[o.Name] = before })
}
