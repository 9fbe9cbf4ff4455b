package ovsdb

import (
	"fmt"

	"github.com/sealane/sealane/internal/kernel"
)

// A bridge has the lowest hardware address of its ports', unless other_config:hwaddr says
// which (ovs-vswitchd.conf.db(5)). heldKey, in external_ids, has the one that we said: if
// that is not what other_config has, somebody else said so.
const (
	hwaddrKey = "hwaddr"
	heldKey   = "sealane.hwaddr"
)

// HardwareAddr returns the hardware address that a bridge is told to have, "" for none, and
// whether HoldAddr told it.
func (c *Conn) HardwareAddr(name string) (mac string, ours bool, err error) {
	t, err := c.look(false)
	b := t.bridges[name]
	return b.hwaddr, b.held != "" && b.hwaddr == b.held, err
}

// HoldAddr has a bridge keep a hardware address whatever ports it gets, or no longer if it
// is "". One that somebody else has told it stays. It returns when that is done, if
// ovs-vswitchd runs.
func (c *Conn) HoldAddr(name, mac string) error {
	c.busy.Add(1)
	defer c.busy.Add(-1)
	return c.with(func(s *session) error {
		t, err := s.look(false)
		if err != nil {
			return err
		}
		b, there := t.bridges[name]
		switch {
		case !there && mac != "":
			return fmt.Errorf("bridge %s %w", name, kernel.ErrMissing)
		case !there, b.held == mac && (mac == "" || b.hwaddr == mac):
			return nil
		case mac != "" && b.hwaddr != "" && b.hwaddr != b.held:
			return nil
		}
		running, err := c.switching(s)
		if err != nil {
			return err
		}
		config, _, err := s.commit(b.hold(mac))
		if err != nil || !running {
			return err
		}
		return s.settle(config, 0)
	})
}

// hold replaces the address that we said, by none if it is "". An insertion leaves what
// somebody has said meanwhile.
func (b bridge) hold(mac string) []operation {
	at := []any{is("_uuid", uuid(b.uuid))}
	ops := []operation{
		mutate("Bridge", at, "other_config", "delete", mapOf(map[string]string{hwaddrKey: b.held})),
		mutate("Bridge", at, "external_ids", "delete", setOf(heldKey)),
	}
	if mac == "" {
		return ops
	}
	return append(ops,
		mutate("Bridge", at, "other_config", "insert", mapOf(map[string]string{hwaddrKey: mac})),
		mutate("Bridge", at, "external_ids", "insert", mapOf(map[string]string{heldKey: mac})))
}
