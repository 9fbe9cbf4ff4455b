package member

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sealane/sealane/internal/cluster/overlay"
)

// Published ports are their services', which are no host's: any host claims one for a
// service that publishes it, with the record that says so.

// publishes says whether the service of a claim publishes a port once a bid was done.
func (b bid) publishes(s scene, c overlay.PortClaim, port overlay.Key) bool {
	o, err := overlay.ParseService(c.Key(), b.then(s, c.Key()))
	return err == nil && o.Publishes(port)
}

// judgePort judges whose a published port is.
func (b bid) judgePort(w wish, s scene) error {
	var c overlay.PortClaim
	if w.put != nil {
		var err error
		if c, err = overlay.ParsePortClaim(w.put.Value); err != nil {
			return err
		}
		if !b.publishes(s, c, w.shared) {
			return fmt.Errorf("service %s does not publish it", c.Service)
		}
	}
	now := s.keys[w.key]
	if now == nil {
		return nil
	}
	was, err := overlay.ParsePortClaim(now.Value)
	if err != nil || w.put != nil && was == c {
		return nil // no host reads it, or it stays
	}
	if _, pinned := b.pins[b.domain.shared(was.Key())]; !pinned {
		return fmt.Errorf("whether service %s publishes it is no condition", was.Service)
	}
	if b.publishes(s, was, w.shared) {
		return fmt.Errorf("it is that of service %s", was.Service)
	}
	return nil
}

// checkPublished wants the published ports of a service to be its own.
func (b bid) checkPublished(o *overlay.Service, s scene) error {
	n, _ := b.network(s, o.Network)
	if n.Internal && len(o.Publish) > 0 {
		return errors.New("nothing outside reaches an internal network")
	}
	for _, p := range o.Publish {
		k := overlay.PortKey(p)
		if c, err := overlay.ParsePortClaim(b.then(s, k)); err != nil || c != o.PortClaim() {
			return fmt.Errorf("%s is not claimed by it", k)
		}
	}
	return nil
}

// judgeNumber judges which number a host has.
func (b bid) judgeNumber(host Record, w wish, s scene) error {
	if now := s.keys[w.key]; now != nil && string(now.Value) != host.ID && b.lives(s, string(now.Value)) {
		return fmt.Errorf("it is that of host %s", now.Value)
	}
	if w.put == nil {
		return b.checkUnsaid(host, w.shared.Number, s)
	}
	if string(w.put.Value) != host.ID {
		return fmt.Errorf("it names another host, %s", w.put.Value)
	}
	for _, key := range s.under(string(b.domain) + sharedRoot + "numbers/") {
		k, ok := overlay.ParseKey(strings.TrimPrefix(key, string(b.domain)+sharedRoot))
		if ok && key != w.key && string(b.then(s, k)) == host.ID {
			return fmt.Errorf("it has %s already", k)
		}
	}
	for _, o := range b.wishes {
		if o.shared.Kind == overlay.KindNumber && o.put != nil && o.key != w.key {
			return errors.New("one is enough")
		}
	}
	return nil
}

// checkNumber wants the number that a host says to be its own.
func (b bid) checkNumber(h overlay.Host, s scene) error {
	k := overlay.Key{Kind: overlay.KindNumber, Number: h.Number}
	if h.Number != 0 && string(b.then(s, k)) != h.ID {
		return fmt.Errorf("%s is not its own", k)
	}
	return nil
}

// checkUnsaid wants a number that goes not to be said any more.
func (b bid) checkUnsaid(host Record, number int, s scene) error {
	h, err := overlay.ParseHost(b.then(s, overlay.Key{Kind: overlay.KindHost, Host: host.ID}))
	if err == nil && h.Number == number {
		return errors.New("the host says it")
	}
	return nil
}

// judgeHeld judges what hosts say of the ports that their containers have.
func judgeHeld(host Record, w wish) error {
	if w.shared.Host != host.ID {
		return fmt.Errorf("it is that of %s", w.shared.Host)
	}
	if w.put == nil {
		return nil
	}
	_, err := overlay.ParseHeld(w.put.Value)
	return err
}
