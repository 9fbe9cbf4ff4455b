package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// maxDraining is how many backends of a service may be told to drain.
const maxDraining = 4096

// Service is a service of an overlay network, the same for all hosts. It has no
// backends: endpoints say that they are some.
type Service struct {
	Network model.ID `json:"-"` // from the key

	model.Service

	others map[string]json.RawMessage // fields of newer versions
}

// Key is where the service's record is. Names that differ in case only are one.
func (s *Service) Key() Key { return serviceKey(s.Network, s.Name) }

func serviceKey(network model.ID, name string) Key {
	return Key{Kind: KindService, Network: network, Name: strings.ToLower(name)}
}

// Claim is the claim of the service's addresses.
func (s *Service) Claim() Claim { return Claim{Service: strings.ToLower(s.Name)} }

// holder is the key without which a claim is worth nothing.
func (c Claim) holder(network model.ID) Key {
	if c.Service != "" {
		return Key{Kind: KindService, Network: network, Name: c.Service}
	}
	return Key{Kind: KindHost, Host: c.Host}
}

// Validate reports the first thing that makes the service impossible.
func (s *Service) Validate() error {
	if err := s.Service.Validate(); err != nil {
		return errors.Unwrap(err) // without its words of a creation
	}
	if !isID(string(s.ID)) {
		return fmt.Errorf("id %q: want letters, digits or '-'", s.ID)
	}
	for _, p := range s.Ports {
		if q, err := model.ParseServicePort(p.String()); err != nil || p != q {
			return fmt.Errorf("port %s: want 1 to 65535/tcp, udp or sctp", p)
		}
	}
	if b, err := model.ParseBalance(string(s.Balance)); err != nil || b != s.Balance {
		return fmt.Errorf("lb %q: want round-robin, hash or nothing", s.Balance)
	}
	if err := s.fits(); err != nil {
		return err
	}
	if slices.ContainsFunc(s.Draining, func(id model.ID) bool { return !isID(string(id)) }) {
		return errors.New("draining: want IDs of endpoints")
	}
	return s.checkVIPs()
}

// checkVIPs wants an address of one family or both, or with DNSRR none.
func (s *Service) checkVIPs() error {
	if s.DNSRR != (len(s.VIPs) == 0) || len(s.VIPs) > 2 {
		return fmt.Errorf("vips: there are %d, dnsrr %t", len(s.VIPs), s.DNSRR)
	}
	for i, a := range s.VIPs {
		if err := checkAddr(a); err != nil {
			return err
		}
		if i > 0 && a.Is6() == s.VIPs[0].Is6() {
			return fmt.Errorf("vip %s: the second of its address family", a)
		}
	}
	return nil
}

// Marshal writes the service, without what its key says and without backends, with the
// fields that a newer version gave it.
func (s *Service) Marshal() ([]byte, error) {
	c := *s
	c.Backends, c.Publish = nil, untaken(s.Publish)
	text, err := json.Marshal(c)
	if err != nil || len(s.others) == 0 {
		return text, err
	}
	all := maps.Clone(s.others)
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// ParseService reads the service under a key, and says why it is none.
func ParseService(k Key, text []byte) (*Service, error) {
	s, err := decodeService(text)
	if err != nil {
		return nil, err
	}
	if s.Network, s.Backends, s.Publish = k.Network, nil, untaken(s.Publish); strings.ToLower(s.Name) != k.Name {
		return nil, fmt.Errorf("name %q: its key says %q", s.Name, k.Name)
	}
	return s, s.Validate()
}

// decodeService reads what a service says, with the fields that a newer version gave it. Most
// have none, and are read once.
func decodeService(text []byte) (*Service, error) {
	s := &Service{}
	d := json.NewDecoder(bytes.NewReader(text))
	if d.DisallowUnknownFields(); bytes.HasPrefix(text, []byte("{")) && d.Decode(s) == nil && int(d.InputOffset()) == len(text) {
		return s, nil
	}
	s = &Service{}
	if err := decode(text, s); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &s.others); err != nil {
		return nil, err
	}
	maps.DeleteFunc(s.others, func(k string, _ json.RawMessage) bool {
		return slices.ContainsFunc(serviceFields(), func(f string) bool { return strings.EqualFold(f, k) })
	})
	return s, nil
}

func serviceFields() []string {
	return []string{"id", "name", "ports", "vips", "dnsrr", "balance", "draining", "publish", "nearby", "health", "labels", "created", "backends"}
}

func (s *seen) takeService(r reading) {
	h := s.shelf(r.key.Network)
	if r.Gone {
		delete(h.offers, r.key)
		delete(s.stray, r.key)
	} else if r.err == nil {
		h.offers[r.key] = r.value.(*Service)
	}
	if r.err == nil {
		h.offered[r.key] = true
	}
}
