package overlay

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// VNIs: MaxVNI is the highest (RFC 7348, 24 bits); from FirstVNI on they are given out
// to networks that ask for none, so that low ones are left for who does.
const (
	MaxVNI   = 1<<24 - 1
	FirstVNI = 4096
)

// Limits of what other hosts are believed.
const (
	maxText  = 255 // bytes of a name
	maxNames = 256 // of an endpoint
	maxAddrs = 16  // of an endpoint
)

// Network is an overlay network, the same for all hosts.
type Network struct {
	ID       model.ID          `json:"id"`
	Name     string            `json:"name"`
	Subnets  []model.Subnet    `json:"subnets"` // one of a family; Lent and Theirs are not kept
	VNI      int               `json:"vni"`     // 1 to MaxVNI; 0: Create finds one
	Internal bool              `json:"internal,omitempty"`
	Options  map[string]string `json:"options,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Created  time.Time         `json:"created,omitzero"`

	// leaving says that somebody is about to remove it, if nobody comes to it. Who
	// does takes the mark away, and with it the removal's condition.
	leaving bool
	others  map[string]json.RawMessage // fields of newer versions
}

// networkText is a network as it is written.
type networkText struct {
	Network
	Leaving bool `json:"leaving,omitempty"`
}

// Ref names the network in errors.
func (n *Network) Ref() string { return "network " + n.Name }

// Subnet returns the subnet that an address is of, or false.
func (n *Network) Subnet(a netip.Addr) (model.Subnet, bool) {
	i := slices.IndexFunc(n.Subnets, func(s model.Subnet) bool { return s.Prefix.Contains(a) })
	if i < 0 {
		return model.Subnet{}, false
	}
	return n.Subnets[i], true
}

// Validate reports the first thing that makes the network impossible.
func (n *Network) Validate() error {
	if !isID(string(n.ID)) {
		return fmt.Errorf("id %q: want letters, digits or '-'", n.ID)
	}
	if err := model.CheckName(n.Name); err != nil {
		return err
	}
	if n.VNI < 1 || n.VNI > MaxVNI {
		return fmt.Errorf("vni %d: want 1 to %d", n.VNI, MaxVNI)
	}
	if len(n.Subnets) == 0 {
		return errors.New("subnet: missing")
	}
	is6 := map[bool]bool{}
	for _, s := range n.Subnets {
		if err := s.Validate(); err != nil {
			return err
		}
		if is6[s.Prefix.Addr().Is6()] {
			return fmt.Errorf("subnet %s: the second of its address family", s.Prefix)
		}
		is6[s.Prefix.Addr().Is6()] = true
	}
	return nil
}

// Marshal writes the network with the fields that a newer version gave it.
func (n *Network) Marshal() ([]byte, error) {
	c := *n
	c.Subnets = slices.Clone(n.Subnets)
	for i := range c.Subnets {
		c.Subnets[i].Lent, c.Subnets[i].Theirs = nil, netip.Prefix{}
	}
	text, err := json.Marshal(networkText{c, n.leaving})
	if err != nil || len(n.others) == 0 {
		return text, err
	}
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	for k, v := range n.others {
		if _, ours := all[k]; !ours {
			all[k] = v
		}
	}
	return json.Marshal(all)
}

// ParseNetwork reads a network, and says why it is none.
func ParseNetwork(text []byte) (Network, error) {
	var t networkText
	if err := decode(text, &t); err != nil {
		return Network{}, err
	}
	n := t.Network
	n.leaving = t.Leaving
	if err := json.Unmarshal(text, &n.others); err != nil {
		return Network{}, err
	}
	maps.DeleteFunc(n.others, func(k string, _ json.RawMessage) bool {
		return slices.ContainsFunc(networkFields(), func(f string) bool { return strings.EqualFold(f, k) })
	})
	for i := range n.Subnets {
		n.Subnets[i].Lent, n.Subnets[i].Theirs = nil, netip.Prefix{}
	}
	return n, n.Validate()
}

func networkFields() []string {
	return []string{"id", "name", "subnets", "vni", "internal", "options", "labels", "created", "leaving"}
}

// Host is what a host says of itself. Fields of newer versions go: who reads them is
// that version, and writes them again.
type Host struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`             // for people
	Public4 netip.Addr `json:"public4,omitzero"` // where others find it; zero: not by IPv4
	Public6 netip.Addr `json:"public6,omitzero"`
	// Key is the public key, in base64, that the host's packets of encrypted networks are
	// known by, and Inner its address inside the tunnel, see InnerOf; "": it has none yet.
	Key   string     `json:"key,omitempty"`
	Inner netip.Addr `json:"inner,omitzero"`
	// Number is the host's in the cluster, 1 to model.MaxHostNumber; 0: it has none yet.
	// It is the host's if it is claimed: in a View only those are that are.
	Number int `json:"number,omitempty"`
}

// innerNet is what the addresses inside the tunnel of encrypted networks are of: a
// prefix of Sealane's own among those that are nobody's (RFC 4193).
var innerNet = netip.MustParsePrefix("fd5e:a1ae:5ea1::/48")

// InnerOf returns the address of a host inside the tunnel of encrypted networks. It is
// made of the host's ID, so everybody knows whose it is: 80 bits of its SHA-256.
func InnerOf(id string) netip.Addr {
	a, sum := innerNet.Addr().As16(), sha256.Sum256([]byte("sealane overlay "+id))
	copy(a[6:], sum[:10])
	return netip.AddrFrom16(a)
}

// checkKey says what is wrong with what a host is known by in encrypted networks.
func (h Host) checkKey() error {
	key, err := base64.StdEncoding.Strict().DecodeString(h.Key)
	switch {
	case h.Key == "" && !h.Inner.IsValid():
		return nil
	case err != nil || len(key) != 32 || [32]byte(key) == [32]byte{}:
		return errors.New("key: 32 bytes in base64, not all zero, belong there")
	case h.Inner != InnerOf(h.ID):
		return fmt.Errorf("inner %s: that of host %s is %s", h.Inner, h.ID, InnerOf(h.ID))
	}
	return nil
}

// Marshal writes the host.
func (h Host) Marshal() ([]byte, error) { return json.Marshal(h) }

// ParseHost reads a host, and says why it is none.
func ParseHost(text []byte) (h Host, err error) {
	if err := decode(text, &h); err != nil {
		return Host{}, err
	}
	switch {
	case !isID(h.ID):
		return Host{}, fmt.Errorf("id %q: want letters, digits or '-'", h.ID)
	case !isText(h.Name):
		return Host{}, fmt.Errorf("name %q: want up to %d printable bytes", h.Name, maxText)
	case h.Number < 0 || h.Number > model.MaxHostNumber:
		return Host{}, fmt.Errorf("number %d: want 1 to %d", h.Number, model.MaxHostNumber)
	case h.Public4.IsValid() && (!h.Public4.Is4() || checkAddr(h.Public4) != nil):
		return Host{}, fmt.Errorf("public4 %s: want an IPv4 address", h.Public4)
	case h.Public6.IsValid() && (!h.Public6.Is6() || checkAddr(h.Public6) != nil):
		return Host{}, fmt.Errorf("public6 %s: want an IPv6 address", h.Public6)
	}
	if err := h.checkKey(); err != nil {
		return Host{}, err
	}
	return h, nil
}

// Claim is whose an address is: an endpoint's of a host, or a service's, which is no
// host's. Without either it rests: it was that host's until lately, neighbours may still
// remember, and it goes by itself.
type Claim struct {
	Host     string   `json:"host,omitempty"`
	Endpoint model.ID `json:"endpoint,omitempty"`
	Service  string   `json:"service,omitempty"` // its name in lower case, as its key has it
}

// Marshal writes the claim.
func (c Claim) Marshal() ([]byte, error) { return json.Marshal(c) }

// ParseClaim reads a claim, and says why it is none.
func ParseClaim(text []byte) (c Claim, err error) {
	if err := decode(text, &c); err != nil {
		return Claim{}, err
	}
	if c.Service != "" {
		if c.Host != "" || c.Endpoint != "" || model.CheckName(c.Service) != nil || strings.ToLower(c.Service) != c.Service {
			return Claim{}, fmt.Errorf("service %q, host %q, endpoint %q: want a service in lower case, and nothing else", c.Service, c.Host, c.Endpoint)
		}
		return c, nil
	}
	if !isID(c.Host) || c.Endpoint != "" && !isID(string(c.Endpoint)) {
		return Claim{}, fmt.Errorf("host %q, endpoint %q: want letters, digits or '-'", c.Host, c.Endpoint)
	}
	return c, nil
}

// Endpoint is a container's place on a network.
type Endpoint struct {
	Network model.ID `json:"-"` // from the key
	Host    string   `json:"-"` // from the key: the host's ID

	ID       model.ID     `json:"id"`
	Addrs    []netip.Addr `json:"addrs,omitempty"`
	MAC      string       `json:"mac"` // as model.CheckMAC writes it
	Sandbox  Sandbox      `json:"sandbox"`
	Names    []string     `json:"names,omitempty"`    // by which DNS knows it: its name and aliases
	Services []Membership `json:"services,omitempty"` // that it is of
	Stopped  bool         `json:"stopped,omitempty"`  // it has no container now, and keeps its addresses
}

// Sandbox is whose an endpoint is, for people.
type Sandbox struct {
	ID   model.ID `json:"id"`
	Name string   `json:"name"`
}

// Membership is an endpoint's wish to be a backend of a service, which need not be there.
type Membership struct {
	Name   string `json:"name"`
	Port   int    `json:"port,omitempty"`   // 0: as the service's
	Weight int    `json:"weight,omitempty"` // 0 is 1
	// Health is what checks of the endpoint's host say, if the service wants some, since
	// when; another one is written when it changes.
	Health model.HealthState `json:"health,omitempty"`
	Since  time.Time         `json:"since,omitzero"`
}

// Key is where the endpoint's record is.
func (e *Endpoint) Key() Key {
	return Key{Kind: KindEndpoint, Network: e.Network, Host: e.Host, Endpoint: e.ID}
}

// title is how people call it.
func (e *Endpoint) title() string {
	if e.Sandbox.Name != "" {
		return e.Sandbox.Name
	}
	return string(e.ID)
}

// Validate reports the first thing that makes the endpoint impossible.
func (e *Endpoint) Validate() error {
	hw, err := model.CheckMAC(e.MAC)
	switch {
	case !isID(string(e.ID)):
		return fmt.Errorf("id %q: want letters, digits or '-'", e.ID)
	case err != nil:
		return err
	case hw != e.MAC:
		return fmt.Errorf("mac %q: want it as %s", e.MAC, hw)
	case len(e.Addrs) > maxAddrs || len(e.Names) > maxNames || len(e.Services) > maxNames:
		return fmt.Errorf("%d addresses, %d names, %d services: up to %d, %d and %d fit", len(e.Addrs), len(e.Names), len(e.Services), maxAddrs, maxNames, maxNames)
	case e.Sandbox.ID != "" && !isID(string(e.Sandbox.ID)):
		return fmt.Errorf("sandbox %q: want letters, digits or '-'", e.Sandbox.ID)
	case !isText(e.Sandbox.Name):
		return fmt.Errorf("sandbox %q: want up to %d printable bytes", e.Sandbox.Name, maxText)
	}
	for i, a := range e.Addrs {
		if err := checkAddr(a); err != nil {
			return err
		}
		if slices.Contains(e.Addrs[:i], a) {
			return fmt.Errorf("address %s: is in it twice", a)
		}
	}
	for _, name := range e.Names {
		if name == "" || !isText(name) {
			return fmt.Errorf("name %q: want 1 to %d printable bytes", name, maxText)
		}
	}
	for _, s := range e.Services {
		if err := s.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (s Membership) validate() error {
	if s.Name == "" || !isText(s.Name) {
		return fmt.Errorf("service %q: want a name of 1 to %d printable bytes", s.Name, maxText)
	}
	if s.Port < 0 || s.Port > 65535 || s.Weight < 0 || s.Weight > 65535 {
		return fmt.Errorf("service %q: port %d, weight %d: want up to 65535", s.Name, s.Port, s.Weight)
	}
	if !s.Health.Known() {
		return fmt.Errorf("service %q: health %q: want starting, healthy, unhealthy or nothing", s.Name, s.Health)
	}
	return nil
}

// Marshal writes the endpoint, without what its key says.
func (e *Endpoint) Marshal() ([]byte, error) { return json.Marshal(e) }

// ParseEndpoint reads the endpoint under a key, and says why it is none.
func ParseEndpoint(k Key, text []byte) (*Endpoint, error) {
	e := &Endpoint{}
	if err := decode(text, e); err != nil {
		return nil, err
	}
	if e.Network, e.Host = k.Network, k.Host; e.ID != k.Endpoint {
		return nil, fmt.Errorf("id %q: its key says %q", e.ID, k.Endpoint)
	}
	return e, e.Validate()
}

// checkAddr says what is wrong with an address of a container or a host.
func checkAddr(a netip.Addr) error {
	if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return fmt.Errorf("address %s: is no container's", a)
	}
	return nil
}

// isText says whether a text can be shown as it is.
func isText(s string) bool { return len(s) <= maxText && model.Printable(s) == s }

// decode reads a JSON object into a value, and says in a line what is wrong with it.
func decode(text []byte, into any) error {
	if t := bytes.TrimSpace(text); len(t) == 0 || t[0] != '{' {
		return errors.New("no JSON object")
	}
	err := json.Unmarshal(text, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: a JSON %s does not belong there", wrong.Field, wrong.Value)
	}
	if err != nil {
		return errors.New(model.Printable(err.Error()))
	}
	return nil
}
