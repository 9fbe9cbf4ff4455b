package model

import (
	"cmp"
	"fmt"
	"net/netip"
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
	case m != "" && m != "host" && m != "ingress":
		return bad("mode %q: want host or ingress", m)
	}
	m := PortMapping{Proto: cmp.Or(strings.ToLower(kv["protocol"]), "tcp")}
	if !isProto(m.Proto) {
		return bad("protocol %q: %s", m.Proto, wantProto)
	}
	first, last, err := parseSpan(kv["target"])
	if err != nil {
		return bad("target %w", err)
	}
	m.Port, m.Count = first, last-first+1
	if err := m.publishAt(kv["published"], "published"); err != nil {
		return bad("%w", err)
	}
	ip := kv["host-ip"]
	if a, err := netip.ParseAddr(ip); err == nil && a.Is6() {
		ip = "[" + ip + "]"
	}
	if m.HostIP, err = parsePortIP(ip); err != nil {
		return bad("host-ip %w", err)
	}
	if kv["from"] == "" {
		return m, nil
	}
	if m.From, err = ParseClients(kv["from"]); err != nil {
		return bad("%w", err)
	}
	if m.From != "" && m.HostIP.IsValid() && len(m.From.Prefixes(m.HostIP.Is6())) == 0 {
		return bad("from: no client has an address of the family of %s", m.HostIP)
	}
	return m, nil
}
