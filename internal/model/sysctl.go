package model

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// placeholder stands for the interface's name in the settings of an endpoint.
const placeholder = "IFNAME"

// Compiled when they are needed, as hostRE is.
var (
	// sysctlRE are settings of a network namespace; a slash is a dot inside a
	// device's name (sysctl.d(5)).
	sysctlRE = lazily(`^net(\.[A-Za-z0-9_][A-Za-z0-9_/-]*)+$`)
	// interfaceRE are settings of one interface.
	interfaceRE = lazily(`^net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh)\.([^.]+)\.`)
	// endpointRE are settings of an endpoint's interface, as Docker has them.
	endpointRE = lazily(`^net\.(ipv4|ipv6|mpls)\.[A-Za-z0-9_]+\.` + placeholder + `\.[A-Za-z0-9_]+$`)
)

// lazily compiles an expression at the first call of what it returns.
func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// checkSysctl reports why a sandbox cannot have a setting. One of an interface
// that will be made later belongs to its endpoint.
func checkSysctl(key, value string) error {
	switch m := interfaceRE().FindStringSubmatch(key); {
	case !sysctlRE().MatchString(key) || strings.Contains(key, "//"):
		return fmt.Errorf("sysctl %q: want a setting of the network, as net.core.somaxconn", key)
	case m != nil && !slices.Contains([]string{"all", "default", "lo"}, m[1]):
		return fmt.Errorf("sysctl %s: is about one interface: want it at the network, as --network name=N,sysctl=%s=%s", key,
			strings.Replace(key, "."+m[1]+".", "."+placeholder+".", 1), value)
	case value == "":
		return fmt.Errorf("sysctl %s: want a value, as %s=1", key, key)
	case !printable(value) || len(value) > maxSetting:
		return fmt.Errorf("sysctl %s: value %q: want one line of at most %d bytes", key, value, maxSetting)
	}
	return nil
}

// maxSetting is how much of a setting's value the kernel reads, in bytes; what is more it
// leaves out without a word (do_proc_dointvec in kernel/sysctl.c).
const maxSetting = 4095

// CheckEndpointSysctls reports the first setting that is none of an endpoint's
// interface: "net.ipv4.conf.IFNAME.key=value", with the word IFNAME.
func CheckEndpointSysctls(settings []string) error {
	seen := map[string]bool{}
	for _, s := range settings {
		key, value, ok := strings.Cut(s, "=")
		switch {
		case !ok || !endpointRE().MatchString(key):
			return fmt.Errorf("sysctl %q: want net.ipv4|ipv6|mpls.GROUP.%s.KEY=VALUE, with the word %s", s, placeholder, placeholder)
		case value == "" || !printable(value) || len(value) > maxSetting:
			return fmt.Errorf("sysctl %s: value %q: want one line of at most %d bytes", key, value, maxSetting)
		case seen[key]:
			return fmt.Errorf("sysctl %s: is there twice", key)
		}
		seen[key] = true
	}
	return nil
}

// InterfaceSysctls returns the endpoint's settings under its interface's name,
// one "key=value" a line. The dots of a name are not the dots of the path (sysctl(8)).
func (e *Endpoint) InterfaceSysctls() string {
	if len(e.Sysctls) == 0 {
		return ""
	}
	name := "." + strings.ReplaceAll(e.IfName, ".", "/") + "."
	var lines []string
	for _, s := range e.Sysctls {
		lines = append(lines, strings.Replace(s, "."+placeholder+".", name, 1))
	}
	return strings.Join(lines, "\n")
}

// printable reports whether s is one line of printable text, tabs allowed.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && !strconv.IsPrint(r) })
}
