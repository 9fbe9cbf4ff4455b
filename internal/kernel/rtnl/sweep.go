package rtnl

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// sweep erases the journal's entries of addresses that are not there, and of
// devices that are not up because of us, and
// of bridges that do not sort because of us. A crash
// leaves such an entry between writing it and adding the address, and between
// removing the address and erasing it; should the device's owner add that
// address himself one day, it must not count as ours.
func (c *Conn) sweep() error {
	entries, err := c.journal.Entries()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	p := newPass(c, nil)
	defer p.leave()
	for key, value := range entries {
		if err := p.sweepRaised(key, value); err != nil {
			return fmt.Errorf("journal: %s: %w", key, err)
		}
		if err := p.sweepNIC(key); err != nil {
			return fmt.Errorf("journal: %s: %w", key, err)
		}
		if err := p.sweepSorting(key, value); err != nil {
			return fmt.Errorf("journal: %s: %w", key, err)
		}
		a, ok := parseEntry(key)
		if !ok {
			continue
		}
		there, err := p.there(a)
		if err == nil && !there {
			err = c.journal.Erase(key)
		}
		if err != nil {
			return fmt.Errorf("journal: %s: %w", key, err)
		}
	}
	return nil
}

// there reports whether an address is on its device.
func (p *pass) there(a kstate.Addr) (bool, error) {
	s, err := p.space(a.NS)
	if errors.Is(err, kernel.ErrNoNamespace) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d, err := s.device(a.Dev)
	if errors.Is(err, kernel.ErrMissing) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return s.has(d.index, a.Prefix)
}

// parseEntry takes a journal's key apart, see entry. A device's name has no
// slash and no blank.
func parseEntry(key string) (a kstate.Addr, ok bool) {
	rest, ok := strings.CutPrefix(key, "addr/")
	if !ok {
		return a, false
	}
	if i := strings.LastIndexByte(rest, ' '); i >= 0 {
		a.NS.Path, rest = rest[:i], rest[i+1:]
	}
	dev, prefix, _ := strings.Cut(rest, "/")
	p, err := netip.ParsePrefix(prefix)
	a.Dev, a.Prefix = dev, p
	return a, err == nil
}
