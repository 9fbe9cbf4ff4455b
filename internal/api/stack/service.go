package stack

import (
	"cmp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// service is an entry of services.
type service struct {
	value
	spec     api.ServiceSpec
	networks []pair // by key
	publish  []publish
	targets  []model.ServicePort
	affine   string // what affinity says
}

// publish is a published port with where it is said.
type publish struct {
	value
	model.Publish
}

// readServices reads services.
func (f *file) readServices(v value) error {
	all, err := v.pairs()
	if err != nil {
		return err
	}
	for _, p := range all {
		if extension(p.key) {
			continue
		}
		if err := model.CheckName(p.key); err != nil {
			return p.name.fail("%w", err)
		}
		if err := f.readService(p); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) readService(v pair) error {
	s := service{value: v.name, spec: api.ServiceSpec{Name: v.key}}
	all, err := v.pairs()
	if err != nil {
		return err
	}
	var left []string
	for _, p := range all {
		switch {
		case slices.Contains(ofContainers, p.key):
			if !p.empty() {
				left = append(left, p.key)
			}
		case p.key == "deploy":
			var more []string
			more, err = s.deploy(p.value)
			left = append(left, more...)
		default:
			err = s.take(p)
		}
		if err != nil {
			return err
		}
	}
	if len(left) > 0 {
		f.note(v.name, "%s: of its containers, left to their engine", strings.Join(left, ", "))
	}
	if err := s.settle(); err != nil {
		return err
	}
	if len(s.spec.Ports) == 0 {
		f.note(v.name, "no ports and no expose: no service is made; its containers are found by their own names")
	}
	f.services = append(f.services, s)
	return nil
}

// take reads one key of a service.
func (s *service) take(p pair) (err error) {
	if extension(p.key) || p.empty() && slices.Contains(serviceKeys, p.key) {
		return nil
	}
	switch p.key {
	case "expose":
		err = s.exposed(p.value)
	case "labels":
		err = s.label(p.value)
	case "networks":
		err = s.places(p.value)
	case "ports":
		err = s.published(p.value)
	case extensionOfOurs:
		err = s.ours(p.value)
	default:
		err = p.unknown(refusedOfService, slices.Concat(serviceKeys, ofContainers))
	}
	return err
}

// deploy reads what deploy says of the service, and returns what it says of containers.
func (s *service) deploy(v value) (left []string, err error) {
	all, err := v.pairs()
	for _, p := range all {
		switch {
		case p.empty() || extension(p.key):
		case p.key == "endpoint_mode":
			s.spec.Mode, err = p.choice("vip", "dnsrr")
		case p.key == "labels":
			err = s.label(p.value)
		case slices.Contains(ofTasks, p.key):
			left = append(left, "deploy."+p.key)
		default:
			err = p.unknown(nil, slices.Concat(deployKeys, ofTasks))
		}
		if err != nil {
			return nil, err
		}
	}
	return left, err
}

// label adds labels; those of the service and of deploy are the same here.
func (s *service) label(v value) error {
	more, err := v.labels()
	for k, text := range more {
		if was, has := s.spec.Labels[k]; has && was != text {
			return v.fail("%s: is there with another value", k)
		}
		if s.spec.Labels == nil {
			s.spec.Labels = map[string]string{}
		}
		s.spec.Labels[k] = text
	}
	return err
}

// places reads the networks of a service: a list of keys, or a mapping.
func (s *service) places(v value) error {
	if v.node().Kind != yaml.MappingNode {
		items, err := v.list()
		for _, item := range items {
			var key string
			if key, err = item.text(); err != nil {
				return err
			}
			if slices.ContainsFunc(s.networks, func(p pair) bool { return p.key == key }) {
				return item.fail("%q: is there twice", key)
			}
			s.networks = append(s.networks, pair{key: key, name: item, value: item})
		}
		return err
	}
	all, err := v.pairs()
	for _, p := range all {
		if err := s.endpoint(p); err != nil {
			return err
		}
		s.networks = append(s.networks, p)
	}
	return err
}

// endpoint reads what a service says of its place on a network.
func (s *service) endpoint(v pair) error {
	all, err := v.pairs()
	for _, p := range all {
		switch {
		case p.empty() || extension(p.key) || slices.Contains(ofEndpoints, p.key):
		case p.key == "aliases":
			err = s.aliases(p.value)
		default:
			err = p.unknown(refusedOfEndpoint, append([]string{"aliases"}, ofEndpoints...))
		}
		if err != nil {
			return err
		}
	}
	return err
}

// aliases takes none but the service's own name.
func (s *service) aliases(v value) error {
	items, err := v.list()
	for _, item := range items {
		text, err := item.text()
		if err != nil {
			return err
		}
		if !strings.EqualFold(text, s.spec.Name) {
			return item.fail("%q: a service has one name: make another service of it, or give it to containers as their alias", text)
		}
	}
	return err
}

// ours reads what Compose has no words for.
func (s *service) ours(v value) error {
	all, err := v.pairs()
	for _, p := range all {
		switch p.key {
		case "lb":
			s.spec.LB, err = p.choice(string(model.BalanceRandom), string(model.BalanceRound), string(model.BalanceHash))
		case "affinity":
			s.affine, err = p.choice("client-ip", "none")
		case "publish-local-first":
			s.spec.Nearby, err = p.truth()
		case "health", "health-interval", "health-retries", "health-timeout":
			err = s.checks(p)
		default:
			err = p.unknown(nil, extensionKeys)
		}
		if err != nil {
			return err
		}
	}
	hash := s.spec.LB == string(model.BalanceHash)
	switch {
	case s.affine == "client-ip" && s.spec.LB != "" && !hash || s.affine == "none" && hash:
		return v.fail("affinity: %s: lb %s is something else", s.affine, s.spec.LB)
	case s.affine == "client-ip":
		s.spec.LB = string(model.BalanceHash)
	}
	return s.settleHealth(v)
}

// settle checks what the keys of a service say together.
func (s *service) settle() error {
	if s.spec.Mode == "dnsrr" && s.spec.LB != "" {
		return s.fail("lb: %s: endpoint_mode dnsrr leaves it to who asks for the name", s.spec.LB)
	}
	all := model.Service{DNSRR: s.spec.Mode == "dnsrr"}
	for _, p := range s.publish {
		all.Ports = append(all.Ports, model.ServicePort{Port: p.Target, Proto: p.Proto})
		all.Publish = model.JoinPublish(append(all.Publish, p.Publish))
		if err := all.CheckPublish(); err != nil {
			return p.fail("%w", err)
		}
		s.spec.Publish = append(s.spec.Publish, p.String())
	}
	for _, p := range append(all.Ports, s.targets...) {
		if !slices.Contains(s.spec.Ports, p.String()) {
			s.spec.Ports = append(s.spec.Ports, p.String())
		}
	}
	return s.checkable()
}

// place gives every service its network, and every network its name.
func (f *file) place() error {
	for i := range f.services {
		s := &f.services[i]
		if len(s.networks) == 0 {
			s.networks = []pair{{key: defaultNetwork, name: s.value, value: s.value}}
			if f.networks[defaultNetwork] == nil {
				f.networks[defaultNetwork] = &network{value: s.value, spec: api.NetworkSpec{Driver: model.DriverOverlay}}
				f.order = append(f.order, defaultNetwork)
			}
		}
	}
	for key, n := range f.networks {
		name := key
		if key == defaultNetwork {
			name = f.name + "_" + defaultNetwork
		}
		n.spec.Name = cmp.Or(n.spec.Name, name)
		if err := model.CheckName(n.spec.Name); err != nil {
			return n.fail("%w", err)
		}
	}
	for i := range f.services {
		if err := f.seat(&f.services[i]); err != nil {
			return err
		}
	}
	return nil
}

// seat finds the network of a service.
func (f *file) seat(s *service) error {
	for _, p := range s.networks {
		n := f.networks[p.key]
		switch {
		case n == nil:
			return p.name.fail("%q: no such network in networks", p.key)
		case len(s.spec.Ports) == 0:
		case !n.external && n.spec.Driver != model.DriverOverlay:
			return p.name.fail("network %s: driver %s: services are of overlay networks", p.key, n.spec.Driver)
		case s.spec.Network != "":
			return p.name.fail("network %s: the second one: a service is on one network; its containers may be on more", p.key)
		case n.spec.Internal && len(s.publish) > 0:
			return s.publish[0].fail("network %s: is internal: nothing outside reaches it", p.key)
		default:
			s.spec.Network = n.spec.Name
		}
	}
	return nil
}

// distinct refuses what two networks or services cannot both have.
func (f *file) distinct() error {
	names, ports := map[string]string{}, map[string]string{}
	for _, key := range f.order {
		n := f.networks[key]
		if other, twice := names[n.spec.Name]; twice {
			return n.fail("name %s: networks.%s has it", n.spec.Name, other)
		}
		names[n.spec.Name] = key
	}
	for i := range f.services {
		s := &f.services[i]
		name := strings.ToLower(s.spec.Name)
		if other, twice := names["/"+name]; twice {
			return s.fail("name %s: services.%s has it; names are the same whatever their case", s.spec.Name, other)
		}
		names["/"+name] = s.spec.Name
		for _, p := range s.publish {
			port := model.ServicePort{Port: p.Port, Proto: p.Proto}.String()
			if other, twice := ports[port]; twice {
				return p.fail("port %s: services.%s publishes it", port, other)
			}
			ports[port] = s.spec.Name
		}
	}
	return nil
}
