package overlay

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// A port of the cluster's hosts is one service's, whatever the addresses of hosts that it
// is published at: that is a claim, which is worth nothing without the service.

// PortClaim is whose a published port is.
type PortClaim struct {
	Network model.ID `json:"network"`
	Service string   `json:"service"` // its name in lower case, as its key has it
}

// Marshal writes the claim.
func (c PortClaim) Marshal() ([]byte, error) { return json.Marshal(c) }

// Key is where the service's record is, without which the claim is worth nothing.
func (c PortClaim) Key() Key {
	return Key{Kind: KindService, Network: c.Network, Name: c.Service}
}

// ParsePortClaim reads a claim of a port, and says why it is none.
func ParsePortClaim(text []byte) (c PortClaim, err error) {
	if err := decode(text, &c); err != nil {
		return PortClaim{}, err
	}
	if k, ok := ParseKey(c.Key().String()); !ok || k != c.Key() {
		return PortClaim{}, fmt.Errorf("network %q, service %q: want a network's ID and a service in lower case", c.Network, c.Service)
	}
	return c, nil
}

// PortClaim is the claim of the service's published ports.
func (s *Service) PortClaim() PortClaim {
	return PortClaim{Network: s.Network, Service: strings.ToLower(s.Name)}
}

// PortKey is where the claim of a published port is.
func PortKey(p model.Publish) Key { return Key{Kind: KindPort, Port: p.Port, Proto: p.Proto} }

// Publishes reports whether the service publishes the port of a claim's key.
func (s *Service) Publishes(k Key) bool {
	return slices.ContainsFunc(s.Publish, func(p model.Publish) bool { return PortKey(p) == k })
}

// port is "port 8080/tcp".
func (k Key) port() string { return "port " + model.ServicePort{Port: k.Port, Proto: k.Proto}.String() }

// fits reports what does not fit into a record.
func (s *Service) fits() error {
	if len(s.Ports) > model.MaxServicePorts || len(s.Draining) > maxDraining {
		return fmt.Errorf("%d ports, %d draining: up to %d and %d fit", len(s.Ports), len(s.Draining), model.MaxServicePorts, maxDraining)
	}
	for _, p := range s.Publish {
		if len(p.Addrs) > maxAddrs {
			return fmt.Errorf("publish %s: up to %d addresses fit", p, maxAddrs)
		}
	}
	return nil
}

// untaken are published ports without what is of one host only.
func untaken(all []model.Publish) []model.Publish {
	out := slices.Clone(all)
	for i := range out {
		out[i].Taken = ""
	}
	return out
}

// publish adds to a unit the claims of a service's published ports, and has those go that
// it has no more. What was published before is not asked for anew.
func (d *Directory) publish(ctx context.Context, u *unit, s *Service, was []model.Publish, internal bool, op string) error {
	bad := func(kind model.Kind, format string, args ...any) error {
		return model.Errorf(kind, s.Ref(), op, format, args...)
	}
	if len(s.Publish)+len(was) == 0 {
		return nil
	}
	if internal && len(s.Publish) > 0 {
		return bad(model.Invalid, "publish %s: its network is internal: nothing outside reaches it", s.Publish[0])
	}
	r, err := d.read(ctx, "ports/", "held/", "hosts/")
	if err != nil {
		return fault(s.Ref(), op, err)
	}
	for _, p := range s.Publish {
		who, err := d.publishOne(ctx, u, r, s, p)
		if old := slices.ContainsFunc(was, func(o model.Publish) bool { return same(o, p) }); who == "" && !old {
			who = d.heldBy(r, p)
		}
		switch {
		case err != nil:
			return fault(s.Ref(), op, err)
		case who != "":
			return bad(model.Conflict, "%s: %s has it", PortKey(p).port(), who)
		}
	}
	d.unpublish(u, r, s, s.Publish)
	return nil
}

// same reports whether two are of the same port at the same addresses.
func same(a, b model.Publish) bool {
	return PortKey(a) == PortKey(b) && slices.Equal(a.Addrs, b.Addrs)
}

// publishOne adds the claim of one port to a unit, or says which service has it.
func (d *Directory) publishOne(ctx context.Context, u *unit, r stock, s *Service, p model.Publish) (who string, err error) {
	k := PortKey(p)
	if i := r.items[k]; i != nil {
		c, err := ParsePortClaim(i.entry.Value)
		if err == nil && c == s.PortClaim() && i.entry.Lasting {
			u.ifs[k] = i.entry.Rev
			return "", nil
		}
		if err == nil && c != s.PortClaim() {
			if who, err := d.publisher(ctx, u, k, c); who != "" || err != nil {
				return who, err
			}
		}
	}
	text, err := s.PortClaim().Marshal()
	u.put(k, r.rev(k), text, 0)
	u.delete = slices.DeleteFunc(u.delete, func(gone Key) bool { return gone == k })
	return "", err
}

// publisher names the service that has a port by a claim. If it has not, a unit happens
// only if that stays so, or gives it up itself.
func (d *Directory) publisher(ctx context.Context, u *unit, port Key, c PortClaim) (string, error) {
	if v, changes := u.puts[c.Key()]; changes {
		if s, err := ParseService(c.Key(), v.text); err == nil && !s.Publishes(port) {
			return "", nil
		}
	}
	r, err := d.read(ctx, c.Key().String(), "networks/"+string(c.Network))
	if err != nil {
		return "", err
	}
	i := r.items[c.Key()]
	if i == nil {
		u.ifs[c.Key()] = 0
		return "", nil
	}
	s, err := ParseService(c.Key(), i.entry.Value)
	if err != nil || !s.Publishes(port) {
		u.ifs[c.Key()] = i.entry.Rev
		return "", nil
	}
	network := string(c.Network)
	if n := r.items[Key{Kind: KindNetwork, Network: c.Network}]; n != nil && n.err == nil {
		network = n.net.Name
	}
	return fmt.Sprintf("service %s of network %s", s.Name, network), nil
}

// unpublish has claims of a service's go, but of some ports, and of those that another one gets.
func (d *Directory) unpublish(u *unit, r stock, s *Service, but []model.Publish) {
	for k, i := range r.items {
		if _, passed := u.puts[k]; passed || k.Kind != KindPort || slices.ContainsFunc(but, func(p model.Publish) bool { return PortKey(p) == k }) {
			continue
		}
		if c, err := ParsePortClaim(i.entry.Value); err == nil && c == s.PortClaim() {
			u.ifs[k] = i.entry.Rev
			u.delete = append(u.delete, k)
		}
	}
}

// republish adds to a unit the claims of a service that is put again, and takes from it
// what somebody else has by now.
func (d *Directory) republish(ctx context.Context, u *unit, s *Service) error {
	if len(s.Publish) == 0 {
		return nil
	}
	r, err := d.read(ctx, "ports/")
	if err != nil {
		return err
	}
	var left []model.Publish
	for _, p := range s.Publish {
		_, twice := u.puts[PortKey(p)]
		if twice {
			continue
		}
		who, err := d.publishOne(ctx, u, r, s, p)
		if err != nil {
			return err
		}
		if who == "" {
			left = append(left, p)
		} else {
			d.o.Log.Warn("overlay: a service comes back without a port", "service", s.Name, "publish", p.String(), "taken by", who)
		}
	}
	s.Publish = left
	return nil
}
