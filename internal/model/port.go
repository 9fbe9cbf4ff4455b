package model

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// PortMapping publishes container ports on the host: host port HostPort+i goes
// to container port Port+i, for i below Count.
type PortMapping struct {
	Proto    string     `json:"protocol"`        // "tcp" or "udp"
	HostIP   netip.Addr `json:"hostIP,omitzero"` // zero: every address of the host
	HostPort uint16     `json:"hostPort"`        // 0 until one is allocated
	Port     uint16     `json:"port"`            // in the container
	Count    uint16     `json:"count"`           // at least 1
	// HostEnd, when set, offers HostPort..HostEnd to choose one port from. It
	// is zero once a port is allocated.
	HostEnd uint16 `json:"hostEnd,omitempty"`
}

// String is the mapping as `-p` takes it, with the protocol.
func (m PortMapping) String() string {
	span := func(first uint16) string {
		if m.Count > 1 {
			return fmt.Sprintf("%d-%d", first, first+m.Count-1)
		}
		return strconv.Itoa(int(first))
	}
	host := ""
	if m.HostIP.IsValid() {
		host = m.HostIP.String() + ":"
		if m.HostIP.Is6() {
			host = "[" + m.HostIP.String() + "]:"
		}
	}
	switch {
	case m.HostEnd != 0:
		host += fmt.Sprintf("%d-%d:", m.HostPort, m.HostEnd)
	case m.HostPort != 0:
		host += span(m.HostPort) + ":"
	case host != "":
		host += ":"
	}
	return host + span(m.Port) + "/" + m.Proto
}

// HostLast returns the last host port.
func (m PortMapping) HostLast() uint16 { return m.HostPort + m.Count - 1 }

// Meet reports whether two host addresses of mappings have an address in
// common: an unset one is every address, [::] every IPv6 address.
func Meet(a, b netip.Addr) bool {
	return a == b || !a.IsValid() || !b.IsValid() ||
		a.Is6() == b.Is6() && (a.IsUnspecified() || b.IsUnspecified())
}

// Validate reports the first thing that makes m impossible. What ParsePort
// returns is valid.
func (m PortMapping) Validate() error {
	switch {
	case m.Proto != "tcp" && m.Proto != "udp":
		return fmt.Errorf("port %s: protocol %q: want tcp or udp", m, m.Proto)
	case m.Port == 0 || m.Count == 0 || int(m.Port)+int(m.Count)-1 > 65535 || int(m.HostPort)+int(m.Count)-1 > 65535:
		return fmt.Errorf("port %s: want ports from 1 to 65535", m)
	case m.HostEnd != 0 && (m.Count != 1 || m.HostPort == 0 || m.HostEnd < m.HostPort):
		return fmt.Errorf("port %s: want one container port and a range FIRST-LAST to choose from", m)
	case m.HostIP.IsMulticast(), m.HostIP.Zone() != "", m.HostIP.Is4In6(), m.HostIP.Is4() && m.HostIP.IsUnspecified():
		return fmt.Errorf("port %s: host address %s: want one of this host's, or none for every address", m, m.HostIP)
	}
	return nil
}

// Matches reports whether m, as a user writes it, means the published mapping
// p: the same protocol and container ports, and the same host address and port
// where m has them.
func (m PortMapping) Matches(p PortMapping) bool {
	return m.Proto == p.Proto && m.Port == p.Port && m.Count == p.Count &&
		(!m.HostIP.IsValid() || m.HostIP == p.HostIP) && (m.HostPort == 0 || m.HostPort == p.HostPort)
}

// ParsePort reads Docker's short form of -p:
//
//	[HOSTIP:][HOSTPORT[-END]]:PORT[-END][/tcp|udp]
//	PORT[-END][/tcp|udp]
//
// An IPv6 host address stands in brackets. Without a host port a free one is
// chosen; a host range with a single container port offers the range to choose
// from.
func ParsePort(s string) (PortMapping, error) {
	m := PortMapping{Proto: "tcp"}
	bad := func(format string, args ...any) (PortMapping, error) {
		return PortMapping{}, fmt.Errorf("port %q: %s", s, fmt.Sprintf(format, args...))
	}
	rest := s
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		rest, m.Proto = rest[:i], strings.ToLower(rest[i+1:])
		if m.Proto != "tcp" && m.Proto != "udp" {
			return bad("protocol %q: want tcp or udp", m.Proto)
		}
	}
	target := rest
	host := ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, target = rest[:i], rest[i+1:]
	}
	first, last, err := parseSpan(target)
	if err != nil {
		return bad("container port %v", err)
	}
	m.Port, m.Count = first, last-first+1
	if host == "" && target == rest {
		return m, nil
	}
	hostPort := host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		ip := host[:i]
		hostPort = host[i+1:]
		bare, bracketed := strings.CutPrefix(ip, "[")
		if bracketed {
			bare, bracketed = strings.CutSuffix(bare, "]")
		}
		if m.HostIP, err = netip.ParseAddr(bare); err != nil || m.HostIP.Is6() != bracketed || m.HostIP.Zone() != "" {
			return bad("host address %q: want an IPv4 address, or an IPv6 address in brackets", ip)
		}
		m.HostIP = m.HostIP.Unmap()
		if m.HostIP.IsUnspecified() && m.HostIP.Is4() {
			m.HostIP = netip.Addr{} // 0.0.0.0 is every address, as in Docker
		}
		if m.HostIP.IsMulticast() {
			return bad("host address %s: not an address of a host", m.HostIP)
		}
	}
	if hostPort == "" {
		return m, nil
	}
	hf, hl, err := parseSpan(hostPort)
	if err != nil {
		return bad("host port %v", err)
	}
	m.HostPort = hf
	switch n := hl - hf + 1; {
	case n == m.Count:
	case m.Count == 1:
		m.HostEnd = hl
	default:
		return bad("%d host ports for %d container ports: want as many, or one container port", n, m.Count)
	}
	return m, nil
}

// parseSpan reads "N" or "N-M" with 1 <= N <= M <= 65535.
func parseSpan(s string) (first, last uint16, err error) {
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		b = a
	}
	x, errA := strconv.ParseUint(a, 10, 16)
	y, errB := strconv.ParseUint(b, 10, 16)
	if errA != nil || errB != nil || x == 0 || y < x {
		return 0, 0, fmt.Errorf("%q: want a number from 1 to 65535, or FIRST-LAST", s)
	}
	return uint16(x), uint16(y), nil
}
