package model

import (
	"fmt"
	"slices"
	"strings"
)

// longKeys are the keys of the long form of -p. mode is Docker's and means
// nothing on one host.
var longKeys = []string{"published", "target", "protocol", "host-ip", "from", "mode"}

// parseLongPort reads published=8080,target=80,protocol=tcp,host-ip=A,from=CIDR;CIDR.
func parseLongPort(text string) (PortMapping, error) {
	bad := func(format string, args ...any) (PortMapping, error) {
		return PortMapping{}, fmt.Errorf("port %q: %w", text, fmt.Errorf(format, args...))
	}
	kv := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		k, v, ok := strings.Cut(part, "=")
		switch {
		case !ok || v == "":
			return bad("%q: want KEY=VALUE", part)
		case !slices.Contains(longKeys, k):
			return bad("key %q: not known (known: %s)", k, strings.Join(longKeys, ", "))
		case kv[k] != "":
			return bad("%s: is there twice", k)
		}
		kv[k] = v
	}
	switch m := kv["mode"]; {
	case kv["target"] == "":
		return bad("target: missing")
	case strings.Contains(kv["published"], ":"):
		return bad("published %q: want a number from 1 to 65535, or FIRST-LAST", kv["published"])
	case m != "" && m != "host" && m != "ingress":
		return bad("mode %q: want host or ingress", m)
	}
	m, err := ParsePort(shorten(kv))
	if err == nil && kv["from"] != "" {
		m.From, err = ParseClients(kv["from"])
	}
	if err == nil && m.From != "" && m.HostIP.IsValid() && len(m.From.Prefixes(m.HostIP.Is6())) == 0 {
		return bad("from: no client has an address of the family of %s", m.HostIP)
	}
	if err != nil {
		return bad("%w", err)
	}
	return m, nil
}

// shorten puts the parts of the long form together as the short one.
func shorten(kv map[string]string) string {
	short := kv["target"]
	if kv["published"] != "" || kv["host-ip"] != "" {
		short = kv["published"] + ":" + short
	}
	if ip := kv["host-ip"]; ip != "" {
		if strings.Contains(ip, ":") {
			ip = "[" + strings.Trim(ip, "[]") + "]"
		}
		short = ip + ":" + short
	}
	if kv["protocol"] != "" {
		short += "/" + kv["protocol"]
	}
	return short
}
