package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Publish is a port of the cluster's hosts at which a service is asked for.
type Publish struct {
	Port   uint16       `json:"port"`   // of the hosts
	Target uint16       `json:"target"` // of the service: one of its ports
	Proto  string       `json:"protocol"`
	Addrs  []netip.Addr `json:"addrs,omitempty"` // of hosts; none: all they have
	Local  bool         `json:"local,omitempty"` // mode=host: only hosts with backends answer, and only by those

	// Taken, where this host does not answer at the port, says why not. It is of this
	// host, and in no record.
	Taken string `json:"taken,omitempty"`
}

// String is "8080:80/tcp", "192.0.2.1:8080:80/tcp" or "8080:80/tcp,mode=host".
func (p Publish) String() string {
	text := fmt.Sprintf("%d:%d/%s", p.Port, p.Target, p.Proto)
	if len(p.Addrs) == 1 {
		host := p.Addrs[0].String()
		if p.Addrs[0].Is6() {
			host = "[" + host + "]"
		}
		text = host + ":" + text
	}
	if p.Local {
		text += ",mode=host"
	}
	return text
}

// ParsePublish reads [ADDR:]PORT[:TARGET][/PROTO][,mode=host|ingress], TARGET as PORT if
// it is missing, as `docker service create --publish` has it with an address besides.
func ParsePublish(text string) (p Publish, err error) {
	bad := func() (Publish, error) {
		return Publish{}, fmt.Errorf("publish %q: want [ADDR:]PORT[:TARGET][/tcp, /udp or /sctp][,mode=host]", text)
	}
	rest, mode, has := strings.Cut(text, ",")
	if has && mode != "mode=host" && mode != "mode=ingress" {
		return bad()
	}
	p.Local = mode == "mode=host"
	rest, proto, has := strings.Cut(rest, "/")
	if p.Proto = "tcp"; has {
		p.Proto = strings.ToLower(proto)
	}
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, p.Proto) {
		return bad()
	}
	if host, after, has := cutHost(rest); has {
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return bad()
		}
		if rest = after; !a.IsUnspecified() {
			p.Addrs = []netip.Addr{a}
		}
	}
	port, target, has := strings.Cut(rest, ":")
	if !has {
		target = port
	}
	for _, n := range []struct {
		text string
		into *uint16
	}{{port, &p.Port}, {target, &p.Target}} {
		v, err := strconv.ParseUint(n.text, 10, 16)
		if err != nil || v == 0 {
			return bad()
		}
		*n.into = uint16(v)
	}
	return p, nil
}

// cutHost cuts an address from before ports: "[::1]:80:80", "192.0.2.1:80".
func cutHost(text string) (host, rest string, has bool) {
	if strings.HasPrefix(text, "[") {
		host, rest, has = strings.Cut(text[1:], "]:")
		return host, rest, has
	}
	host, rest, has = strings.Cut(text, ":")
	return host, rest, has && strings.Contains(host, ".")
}

// CheckPublish reports what a service cannot publish.
func (s *Service) CheckPublish() error {
	for i, p := range s.Publish {
		if !slices.Contains(s.Ports, ServicePort{Port: p.Target, Proto: p.Proto}) {
			return fmt.Errorf("publish %s: the service has no port %d/%s", p, p.Target, p.Proto)
		}
		if slices.ContainsFunc(s.Publish[:i], func(o Publish) bool { return o.Port == p.Port && o.Proto == p.Proto }) {
			return fmt.Errorf("publish %s: port %d/%s is there twice", p, p.Port, p.Proto)
		}
		if s.DNSRR && !p.Local {
			return fmt.Errorf("publish %s: a service without an address of its own (dnsrr) publishes with mode=host only", p)
		}
		for _, a := range p.Addrs {
			if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || a.Is4In6() {
				return fmt.Errorf("publish %s: address %s: want one of a host", p, a)
			}
		}
	}
	return nil
}
