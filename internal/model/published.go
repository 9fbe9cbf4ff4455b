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
// it is missing, as `docker service create --publish` has it with an address besides; and
// its long form published=PORT,target=PORT[,protocol=PROTO][,mode=host|ingress].
func ParsePublish(text string) (p Publish, err error) {
	p.Proto = "tcp"
	ok := false
	if strings.Contains(strings.Split(text, ",")[0], "=") {
		ok = p.long(text)
	} else {
		short, rest, _ := strings.Cut(text, ",")
		ok = p.short(short) && (rest == "" && short == text || p.field(rest) && strings.HasPrefix(rest, "mode="))
	}
	if !ok {
		return Publish{}, fmt.Errorf("publish %q: want [ADDR:]PORT[:TARGET][/tcp, /udp or /sctp][,mode=host], or published=PORT,target=PORT[,protocol=udp][,mode=host]", Printable(text))
	}
	return p, nil
}

// long reads fields with commas between them, each once.
func (p *Publish) long(text string) bool {
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		key, _, _ := strings.Cut(part, "=")
		if seen[key] || !p.field(part) {
			return false
		}
		seen[key] = true
	}
	return seen["published"] && seen["target"]
}

// field reads KEY=VALUE.
func (p *Publish) field(text string) bool {
	key, value, _ := strings.Cut(text, "=")
	switch key {
	case "published":
		return parsePortNumber(value, &p.Port)
	case "target":
		return parsePortNumber(value, &p.Target)
	case "protocol":
		p.Proto = strings.ToLower(value)
		return isProto(p.Proto)
	case "mode":
		p.Local = value == "host"
		return p.Local || value == "ingress"
	}
	return false
}

// short reads [ADDR:]PORT[:TARGET][/PROTO].
func (p *Publish) short(text string) bool {
	rest, proto, has := strings.Cut(text, "/")
	if has {
		p.Proto = strings.ToLower(proto)
	}
	if host, after, has := cutHost(rest); has {
		a, err := netip.ParseAddr(host)
		if err != nil || a.Zone() != "" || a.Is4In6() {
			return false
		}
		if rest = after; !a.IsUnspecified() {
			p.Addrs = []netip.Addr{a}
		}
	}
	port, target, has := strings.Cut(rest, ":")
	if !has {
		target = port
	}
	return isProto(p.Proto) && parsePortNumber(port, &p.Port) && parsePortNumber(target, &p.Target)
}

// parsePortNumber reads 1 to 65535.
func parsePortNumber(text string, into *uint16) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	*into = uint16(n)
	return err == nil && n != 0
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

// At is where it is published, as "port 8080/tcp" or "port 192.0.2.1:8080/tcp".
func (p Publish) At() string {
	text := "port "
	if len(p.Addrs) == 1 {
		text += strings.TrimSuffix(netip.AddrPortFrom(p.Addrs[0], 0).String(), "0")
	}
	return text + ServicePort{Port: p.Port, Proto: p.Proto}.String()
}

// Mappings are the host's ports that it takes, as those of containers are told.
func (p Publish) Mappings() []PortMapping {
	m := PortMapping{Proto: p.Proto, HostPort: p.Port, Port: p.Target, Count: 1}
	if len(p.Addrs) == 0 {
		return []PortMapping{m}
	}
	var out []PortMapping
	for _, a := range p.Addrs {
		m.HostIP = a
		out = append(out, m)
	}
	return out
}

// CheckPublish reports what a service cannot publish.
func (s *Service) CheckPublish() error {
	for i, p := range s.Publish {
		if p.Port == 0 {
			return fmt.Errorf("publish %s: want a port from 1 on", p)
		}
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
