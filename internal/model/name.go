package model

import (
	"fmt"
	"slices"
	"strings"
)

// ID names an object for ever: twelve lower-case hex digits, as Docker's short
// IDs. Device names are made from it, and twelve digits fit beside a prefix in
// the 15 bytes the kernel allows.
type ID string

// IDLen is the length of an ID in characters.
const IDLen = 12

// Reserved network names exist from the start and cannot be made or removed.
const (
	NetworkBridge = "bridge" // the default network, an ordinary bridge network
	NetworkHost   = "host"   // the host's own namespace
	NetworkNone   = "none"   // only lo

	NetworkDefault = "default" // Docker's other word for bridge, where a container is run
)

// Builtin reports whether name is one of the networks that always exist, or a word
// for one.
func Builtin(name string) bool {
	return slices.Contains([]string{NetworkBridge, NetworkHost, NetworkNone, NetworkDefault}, name)
}

// maxName is the longest name in bytes.
const maxName = 128

// isName is Docker's rule for names of containers and networks.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || strings.IndexByte("_.-", c) < 0) {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// CheckName reports why name cannot name a network or sandbox.
func CheckName(name string) error {
	if !isName(name) {
		return fmt.Errorf("name %q: want letters, digits, '_', '.' or '-', starting with a letter or digit, at most 128", name)
	}
	return nil
}

// MaxIfName is the longest device name in bytes (IFNAMSIZ-1, linux/if.h).
const MaxIfName = 15

// CheckIfName reports why name cannot name a network device: the kernel's
// rules (dev_valid_name in net/core/dev.c, sysctl_dev_name_is_allowed in
// include/linux/inetdevice.h), and no signs that mean something in
// the text of a firewall rule.
func CheckIfName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("interface name %q: empty or a path", name)
	case name == "all" || name == "default":
		return fmt.Errorf("interface name %q: the kernel keeps it for settings of all interfaces", name)
	case len(name) > MaxIfName:
		return fmt.Errorf("interface name %q: %d bytes, at most %d", name, len(name), MaxIfName)
	}
	for _, c := range name {
		if c <= ' ' || c >= 0x7f || strings.ContainsRune(`/:%"*;{}#,\`, c) {
			return fmt.Errorf("interface name %q: character %q is not allowed", name, c)
		}
	}
	return nil
}

// CheckIfPrefix reports why prefix and a number cannot name a network device.
func CheckIfPrefix(prefix string) error {
	if err := CheckIfName(prefix); err != nil {
		return err
	}
	if len(prefix) > MaxIfName-3 {
		return fmt.Errorf("interface prefix %q: at most %d bytes, so that a number fits behind", prefix, MaxIfName-3)
	}
	return nil
}

// hostRE is a DNS name: labels of letters, digits and inner hyphens (RFC 1123), and of
// underscores, which names of Compose have.
// It takes a quarter of a millisecond to compile, which the client, executed once
// per container, spends only where it needs it.
var hostRE = lazily(`^[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*$`)

// CheckHostname reports why name cannot be a host name or alias.
func CheckHostname(name string) error {
	if len(name) > 253 || !hostRE().MatchString(name) {
		return fmt.Errorf("host name %q: want DNS labels of letters, digits, '-' and '_', at most 63 each", name)
	}
	return nil
}
