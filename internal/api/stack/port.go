package stack

import (
	"cmp"
	"net/netip"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/model"
)

const (
	wantShort  = `"PUBLISHED:TARGET", as "8080:80", "53:53/udp" or "192.0.2.1:8080:80"`
	wantExpose = `PORT or PORT/tcp, udp or sctp, PORT from 1 to 65535`
)

// maxPorts is how many ports a service of a file has at most, those of ranges each.
const maxPorts = 4096

// exposed reads the ports that a service is asked for at.
func (s *service) exposed(v value) error {
	items, err := v.list()
	for _, item := range items {
		text, err := item.text()
		if err != nil {
			return err
		}
		ports, proto, _ := strings.Cut(text, "/")
		first, last, ok := portRange(ports)
		if !ok {
			return item.want(wantExpose)
		}
		for port := first; port <= last; port++ {
			p, err := model.ParseServicePort(strconv.Itoa(port) + "/" + cmp.Or(proto, "tcp"))
			if err != nil {
				return item.want(wantExpose)
			}
			s.targets = append(s.targets, p)
		}
		if len(s.targets) > maxPorts {
			return item.fail("more than %d ports", maxPorts)
		}
	}
	return err
}

// published reads the ports of a service that hosts publish.
func (s *service) published(v value) error {
	items, err := v.list()
	for _, item := range items {
		read := s.short
		if item.node().Kind == yaml.MappingNode {
			read = s.long
		}
		if err := read(item); err != nil {
			return err
		}
		if len(s.publish) > maxPorts {
			return item.fail("more than %d ports", maxPorts)
		}
	}
	return err
}

// short reads [ADDR:]PUBLISHED:TARGET[/PROTO], both of which may be ranges.
func (s *service) short(v value) error {
	text, err := v.text()
	if err != nil {
		return err
	}
	rest, proto, _ := strings.Cut(text, "/")
	host := ""
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		if j := strings.LastIndexByte(rest[:i], ':'); j >= 0 {
			host, rest = rest[:j], rest[j+1:]
		}
	}
	from, to, both := strings.Cut(rest, ":")
	if !both && host == "" {
		if _, _, ok := portRange(rest); ok {
			return v.fail("%q: no port is chosen here: want %s, or expose: for one that no host publishes", text, wantShort)
		}
	}
	return s.add(v, wantShort, parts{host: strings.Trim(host, "[]"), from: from, to: to, proto: proto})
}

// long reads a port as a mapping.
func (s *service) long(v value) error {
	var p parts
	all, err := v.pairs()
	for _, k := range all {
		switch k.key {
		case "published":
			p.from, err = k.text()
		case "target":
			p.to, err = k.text()
		case "protocol":
			p.proto, err = k.choice("tcp", "udp", "sctp")
		case "host_ip":
			p.host, err = k.text()
		case "mode":
			p.mode, err = k.choice("ingress", "host")
		case "name", "app_protocol": // which say nothing about where it leads
		default:
			if !extension(k.key) {
				err = k.unknown(nil, portKeys)
			}
		}
		if err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case p.to == "":
		return v.fail("target: missing")
	case p.from == "":
		return v.fail("published: missing: no port is chosen here; expose: is for one that no host publishes")
	}
	return s.add(v, "published: and target: from 1 to 65535, and host_ip: an address if there is one", p)
}

// parts are the texts of a published port.
type parts struct{ host, from, to, proto, mode string }

// add publishes a port, or as many as two ranges of the same length have.
func (s *service) add(v value, want string, p parts) error {
	bad := func() error {
		if v.node().Kind == yaml.MappingNode {
			return v.fail("want %s", want)
		}
		return v.want(want)
	}
	first, last, ok := portRange(p.from)
	to, end, also := portRange(p.to)
	var host netip.Addr
	if p.host != "" {
		var err error
		if host, err = netip.ParseAddr(p.host); err != nil || host.Is4In6() {
			return bad()
		}
	}
	addrs, unfit := model.HostAddrs(host)
	port, err := model.ParseServicePort(strconv.Itoa(first) + "/" + cmp.Or(p.proto, "tcp"))
	switch {
	case !ok || !also || err != nil:
		return bad()
	case unfit != nil:
		return v.fail("%w", unfit)
	case last-first != end-to:
		return v.fail("%q: want two ranges of the same length", p.from+":"+p.to)
	case last-first >= maxPorts:
		return v.fail("more than %d ports", maxPorts)
	}
	for i := range last - first + 1 {
		s.publish = append(s.publish, publish{v, model.Publish{Port: uint16(first + i), Target: uint16(to + i), Proto: port.Proto, Addrs: addrs, Local: p.mode == "host"}})
	}
	return nil
}

// portRange reads N or N-M.
func portRange(text string) (first, last int, ok bool) {
	from, to, both := strings.Cut(text, "-")
	if !both {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 16)
	b, also := strconv.ParseUint(to, 10, 16)
	return int(a), int(b), err == nil && also == nil && a > 0 && a <= b
}
