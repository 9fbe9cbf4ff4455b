package model

import (
	"fmt"
	"net/netip"
	"slices"
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

// String is "8080:80/tcp", "192.0.2.1:8080:80/tcp" or "8080:80/tcp,mode=host"; of several
// addresses one after the other.
func (p Publish) String() string {
	text := fmt.Sprintf("%d:%d/%s", p.Port, p.Target, p.Proto)
	if p.Local {
		text += ",mode=host"
	}
	if len(p.Addrs) == 0 {
		return text
	}
	var all []string
	for _, a := range p.Addrs {
		host := a.String()
		if a.Is6() {
			host = "[" + host + "]"
		}
		all = append(all, host+":"+text)
	}
	return strings.Join(all, ", ")
}

// JoinPublish makes one of what is published at one port of several addresses, and leads to the
// same. What is published twice stays so, see [Service.CheckPublish].
func JoinPublish(all []Publish) []Publish {
	var out []Publish
	for _, p := range all {
		i := slices.IndexFunc(out, func(o Publish) bool {
			return o.Port == p.Port && o.Target == p.Target && o.Proto == p.Proto && o.Local == p.Local && len(o.Addrs) > 0 && len(p.Addrs) > 0 &&
				!slices.ContainsFunc(p.Addrs, func(a netip.Addr) bool { return slices.Contains(o.Addrs, a) })
		})
		if i < 0 {
			out = append(out, p)
			continue
		}
		out[i].Addrs = slices.SortedFunc(slices.Values(slices.Concat(out[i].Addrs, p.Addrs)), netip.Addr.Compare)
	}
	return out
}

// published is what a user says of ports to publish: the first, and the last of those in a row.
type published struct {
	Publish
	host      netip.Addr // as it is written
	last, end uint16     // of hosts, and of the service
}

// ParsePublish reads [ADDR:]PORT[:TARGET][/PROTO][,mode=host|ingress], TARGET as PORT if
// it is missing, as `docker service create --publish` has it with an address besides; and
// its long form published=PORT,target=PORT[,protocol=PROTO][,mode=host|ingress]. PORT and
// TARGET may be FIRST-LAST, of as many ports each.
func ParsePublish(text string) ([]Publish, error) {
	p := published{Publish: Publish{Proto: "tcp"}}
	ok := false
	if strings.Contains(strings.Split(text, ",")[0], "=") {
		ok = p.long(text)
	} else {
		short, rest, _ := strings.Cut(text, ",")
		ok = p.short(short) && (rest == "" && short == text || p.field(rest) && strings.HasPrefix(rest, "mode="))
	}
	addrs, err := HostAddrs(p.host)
	p.Addrs = addrs
	switch count := int(p.last-p.Port) + 1; {
	case !ok:
		return nil, fmt.Errorf("publish %q: want [ADDR:]PORT[:TARGET][/tcp, /udp or /sctp][,mode=host], or published=PORT,target=PORT[,protocol=udp][,mode=host]", Printable(text))
	case p.last-p.Port != p.end-p.Target:
		return nil, fmt.Errorf("publish %q: want two ranges of the same length", Printable(text))
	case err != nil:
		return nil, fmt.Errorf("publish %q: %w", Printable(text), err)
	case count > MaxPublish:
		return nil, fmt.Errorf("publish %q: %d ports: a service has up to %d", Printable(text), count, MaxPublish)
	}
	out := []Publish{p.Publish}
	for one := p.Publish; one.Port < p.last; {
		one.Port, one.Target = one.Port+1, one.Target+1
		out = append(out, one)
	}
	return out, nil
}

// HostAddrs are the addresses of hosts at which a port is published for which a user named
// one: none are all they have, as of no address, 0.0.0.0 and ::. It refuses what records of
// older daemons may have, see [Service.CheckPublish].
func HostAddrs(a netip.Addr) ([]netip.Addr, error) {
	const instead = "leave it out (then all hosts answer), or give one that others reach a host by"
	switch {
	case !a.IsValid() || a.IsUnspecified() && a.Zone() == "":
		return nil, nil
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return nil, fmt.Errorf("address %s: is no host's: %s", Printable(a.String()), instead)
	case a.Zone() != "" || a.Is6() && a.IsLinkLocalUnicast():
		return nil, fmt.Errorf("address %s: is of one link: no answer of a container's leads there: %s", Printable(a.String()), instead)
	}
	return []netip.Addr{a}, nil
}

// long reads fields with commas between them, each once.
func (p *published) long(text string) bool {
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
func (p *published) field(text string) bool {
	key, value, _ := strings.Cut(text, "=")
	switch key {
	case "published":
		return span(value, &p.Port, &p.last)
	case "target":
		return span(value, &p.Target, &p.end)
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
func (p *published) short(text string) bool {
	rest, proto, has := strings.Cut(text, "/")
	if has {
		p.Proto = strings.ToLower(proto)
	}
	if host, after, has := cutHost(rest); has {
		var err error
		if p.host, err = netip.ParseAddr(host); err != nil || p.host.Is4In6() {
			return false
		}
		rest = after
	}
	port, target, has := strings.Cut(rest, ":")
	if !has {
		target = port
	}
	return isProto(p.Proto) && span(port, &p.Port, &p.last) && span(target, &p.Target, &p.end)
}

// span reads PORT or FIRST-LAST, from 1 to 65535.
func span(text string, first, last *uint16) bool {
	var err error
	*first, *last, err = parseSpan(text)
	return err == nil
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

// MaxPublish is how many ports a service publishes at most: it is claimed in the cluster with
// them at once.
const MaxPublish = 32

// CheckPublish reports what a service cannot publish.
func (s *Service) CheckPublish() error {
	count := 0
	for _, p := range s.Publish {
		count += max(1, len(p.Addrs))
	}
	if count > MaxPublish {
		return fmt.Errorf("%d published ports: a service has up to %d", count, MaxPublish)
	}
	for i, p := range s.Publish {
		if p.Port == 0 {
			return fmt.Errorf("publish %s: want a port from 1 on", p)
		}
		if !slices.Contains(s.Ports, ServicePort{Port: p.Target, Proto: p.Proto}) {
			return fmt.Errorf("publish %s: the service has no port %d/%s", p, p.Target, p.Proto)
		}
		if at := slices.IndexFunc(s.Publish[:i], func(o Publish) bool { return o.Port == p.Port && o.Proto == p.Proto }); at >= 0 {
			return fmt.Errorf("publish %s: port %d/%s is published already, as %s: give another, or take that one away first", p, p.Port, p.Proto, s.Publish[at])
		}
		if s.DNSRR && !p.Local {
			return fmt.Errorf("publish %s: a service without an address of its own (dnsrr) publishes with mode=host only", p)
		}
		for _, a := range p.Addrs {
			if a.IsLoopback() {
				return fmt.Errorf("publish %s: address %s: each host has it, and nobody else reaches it: leave it out (then all hosts answer, also there), or give one that others reach a host by", p, a)
			}
			if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || a.Is4In6() {
				return fmt.Errorf("publish %s: address %s: want one of a host", p, a)
			}
		}
	}
	return nil
}
