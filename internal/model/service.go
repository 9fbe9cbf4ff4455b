package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Service is one name, and one address of each family, for several endpoints of an
// overlay network: its backends. It is the same on all hosts of the cluster.
type Service struct {
	ID       ID                `json:"id"`
	Name     string            `json:"name"`
	Ports    []ServicePort     `json:"ports"`          // it is asked for at
	VIPs     []netip.Addr      `json:"vips,omitempty"` // of the network's subnets; none with DNSRR
	DNSRR    bool              `json:"dnsrr,omitempty"`
	Balance  Balance           `json:"balance,omitempty"`  // "" is BalanceRandom
	Draining []ID              `json:"draining,omitempty"` // endpoints that are to get nothing new, in order
	Publish  []Publish         `json:"publish,omitempty"`
	Nearby   bool              `json:"nearby,omitempty"` // what is asked for at a published port goes to backends of that host, if it has any
	Health   *Health           `json:"health,omitempty"` // nil: backends are not checked
	Labels   map[string]string `json:"labels,omitempty"`
	Created  time.Time         `json:"created,omitzero"`
	Backends []Member          `json:"backends,omitempty"` // by endpoint
}

// Ref names the service in errors.
func (s *Service) Ref() string { return "service " + s.Name }

// Service returns a network's service by its name, whose case is of no consequence, or
// nil.
func (o *Overlay) Service(name string) *Service {
	i := slices.IndexFunc(o.Services, func(s *Service) bool { return strings.EqualFold(s.Name, name) })
	if i < 0 {
		return nil
	}
	return o.Services[i]
}

// ServicePort is where a service is asked for.
type ServicePort struct {
	Port  uint16 `json:"port"`
	Proto string `json:"protocol"` // "tcp", "udp" or "sctp"
}

// String is "80/tcp".
func (p ServicePort) String() string { return fmt.Sprintf("%d/%s", p.Port, p.Proto) }

// MaxServicePorts is how many ports a service is asked for at, at most.
const MaxServicePorts = 256

// ParseServicePort reads "80", which is TCP, or "53/udp".
func ParseServicePort(text string) (p ServicePort, err error) {
	all, err := ParseServicePorts(text)
	if err != nil || strings.Contains(text, "-") {
		return p, fmt.Errorf("port %q: want PORT or PORT/tcp, udp or sctp, PORT from 1 to 65535", text)
	}
	return all[0], nil
}

// ParseServicePorts reads what ParseServicePort does, and FIRST-LAST in the place of the
// port, which is all of them.
func ParseServicePorts(text string) (out []ServicePort, err error) {
	number, proto, has := strings.Cut(text, "/")
	first, last, err := parseSpan(number)
	if proto = strings.ToLower(proto); !has {
		proto = "tcp"
	}
	switch count := int(last-first) + 1; {
	case err != nil || !isProto(proto):
		return nil, fmt.Errorf("port %q: want PORT or FIRST-LAST, from 1 to 65535, and /tcp, /udp or /sctp if any", text)
	case count > MaxServicePorts:
		return nil, fmt.Errorf("port %q: %d ports: a service has up to %d", text, count, MaxServicePorts)
	}
	for i := range last - first + 1 {
		out = append(out, ServicePort{first + i, proto})
	}
	return out, nil
}

// Balance is how a backend is chosen for a new flow.
type Balance string

// The ways to choose.
const (
	BalanceRandom Balance = "random"      // by chance, by the backends' weights
	BalanceRound  Balance = "round-robin" // one after the other
	BalanceHash   Balance = "hash"        // by the client's address: a client gets the same as long as the backends are the same
)

// ParseBalance reads one; "" is BalanceRandom.
func ParseBalance(text string) (Balance, error) {
	switch b := Balance(text); b {
	case "", BalanceRandom:
		return "", nil
	case BalanceRound, BalanceHash:
		return b, nil
	}
	return "", fmt.Errorf("lb %q: want random, round-robin or hash", text)
}

// MemberState is how a backend is.
type MemberState string

// The states of backends. New flows go to those that are ready, and flows that there
// are go on to all that there are.
const (
	MemberReady     MemberState = "ready"
	MemberDraining  MemberState = "draining"  // somebody asked for it
	MemberStopped   MemberState = "stopped"   // it has no container now
	MemberAway      MemberState = "away"      // its host was not heard of lately
	MemberStarting  MemberState = "starting"  // it is checked, and has not served yet
	MemberUnhealthy MemberState = "unhealthy" // its checks fail
)

// Member is an endpoint's part in a service.
type Member struct {
	Endpoint ID           `json:"endpoint"`
	Sandbox  string       `json:"sandbox"` // its name, for people
	Host     string       `json:"host"`    // its name, for people
	Local    bool         `json:"local,omitempty"`
	Node     int          `json:"node,omitempty"` // its host's number; 0: not known
	Addrs    []netip.Addr `json:"addrs"`
	Port     uint16       `json:"port,omitempty"`   // where it serves; 0: at the port that was asked for
	Weight   int          `json:"weight,omitempty"` // of how many backends it takes the place; 0 is 1
	State    MemberState  `json:"state"`
	Health   HealthState  `json:"health,omitempty"` // as its host found it; of a service that is checked
	Since    time.Time    `json:"since,omitzero"`   // of Health
}

// MaxWeight is the highest weight of a backend.
const MaxWeight = 16

// Addr returns the backend's address of a family, or the zero address.
func (b *Member) Addr(is6 bool) netip.Addr {
	for _, a := range b.Addrs {
		if a.Is6() == is6 {
			return a
		}
	}
	return netip.Addr{}
}

// Membership is an endpoint's wish to be a backend, as --service NAME[:PORT] says.
type Membership struct {
	Service string `json:"service"`          // its name
	Port    uint16 `json:"port,omitempty"`   // 0: as the service's
	Weight  int    `json:"weight,omitempty"` // 0 is 1
}

// String is "web:8080*2".
func (m Membership) String() string {
	text := m.Service
	if m.Port != 0 {
		text += fmt.Sprintf(":%d", m.Port)
	}
	if m.Weight != 0 {
		text += fmt.Sprintf("*%d", m.Weight)
	}
	return text
}

// CheckMemberships reports what nobody can wish: to be a service's backend twice.
func CheckMemberships(all []Membership) error {
	for i, m := range all {
		if slices.ContainsFunc(all[:i], func(o Membership) bool { return strings.EqualFold(o.Service, m.Service) }) {
			return fmt.Errorf("service %s: is there twice", m.Service)
		}
	}
	return nil
}

// ParseMemberships reads several, with commas between them.
func ParseMemberships(text string) ([]Membership, error) {
	var all []Membership
	for part := range strings.SplitSeq(text, ",") {
		m, err := ParseMembership(part)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, CheckMemberships(all)
}

// ParseMembership reads NAME[:PORT][*WEIGHT].
func ParseMembership(text string) (m Membership, err error) {
	rest, weight, weighs := strings.Cut(text, "*")
	name, port, has := strings.Cut(rest, ":")
	if err := CheckName(name); err != nil {
		return m, err
	}
	m.Service = name
	if has {
		n, err := number(port, 1, 65535, "")
		if err != nil {
			return m, fmt.Errorf("service %q: want NAME[:PORT][*WEIGHT], PORT from 1 to 65535", text)
		}
		m.Port = uint16(n)
	}
	if weighs {
		n, err := number(weight, 1, MaxWeight, "")
		if err != nil {
			return m, fmt.Errorf("service %q: want NAME[:PORT][*WEIGHT], WEIGHT from 1 to %d", text, MaxWeight)
		}
		m.Weight = n
	}
	return m, nil
}

// maxLabel is how long a part of a name between dots may be, in bytes (RFC 1035, 2.3.4).
const maxLabel = 63

// numeric are names that programs take for IPv4 addresses, of one to four numbers (inet_aton(3)).
var numeric = lazily(`(?i)^(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}$`)

// checkAsked refuses names that nobody can ask a resolver for, or that mean another
// service's backends.
func checkAsked(name string) error {
	if of, has := strings.CutPrefix(strings.ToLower(name), "tasks."); has {
		return fmt.Errorf("name %q: means the backends of service %s", name, of)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > maxLabel {
			return fmt.Errorf("name %q: want 1 to %d characters between dots", name, maxLabel)
		}
	}
	return nil
}

// CheckNew is Validate for a service that is to be made: it has no name that programs do not
// ask a resolver for. One that was made by an older version may.
func (s *Service) CheckNew() error {
	bad := func(format string, args ...any) error { return Errorf(Invalid, s.Ref(), "create", format, args...) }
	switch low := strings.ToLower(s.Name); {
	case low == "localhost" || strings.HasSuffix(low, ".localhost"):
		return bad("name %q: means the one who asks, whoever that is (RFC 6761): want another", s.Name)
	case numeric().MatchString(s.Name):
		return bad("name %q: is an address to whom it is said, and asked of nobody: want a letter in it", s.Name)
	}
	return s.Validate()
}

// Validate reports the first thing that makes the service impossible.
func (s *Service) Validate() error {
	bad := func(format string, args ...any) *Error { return Errorf(Invalid, s.Ref(), "create", format, args...) }
	if err := CheckName(s.Name); err != nil {
		return bad("%w", err)
	}
	if err := checkAsked(s.Name); err != nil {
		return bad("%w", err)
	}
	if len(s.Ports) == 0 {
		return bad("port: missing: where it is asked for, as --port 80")
	}
	for i, p := range s.Ports {
		if slices.Contains(s.Ports[:i], p) {
			return bad("port %s: is there twice", p)
		}
	}
	if err := s.CheckPublish(); err != nil {
		return bad("%w", err)
	}
	if err := s.checkHealth(); err != nil {
		return bad("%w", err)
	}
	return nil
}
