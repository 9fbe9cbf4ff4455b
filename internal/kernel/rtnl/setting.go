package rtnl

import (
	"fmt"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/sysctl"
	"github.com/sealane/sealane/internal/kstate"
)

// writeSettings writes the settings of new far ends, now that they have their
// addresses. A link whose settings cannot be is taken back.
func (p *pass) writeSettings() {
	for i, op := range p.ops {
		l, ok := op.New.(kstate.Link)
		if l.Type.OnParent() || l.Type == kstate.TypeNIC {
			l.Peer = kstate.Peer{NS: l.NS, Sysctls: l.Sysctls}
		}
		if !ok || op.Old != nil || p.errs[i] != nil || l.Peer.Sysctls == "" && !l.Peer.Whole {
			continue
		}
		if p.errs[i] = p.set(l.Peer); p.errs[i] == nil {
			continue
		}
		remove := p.removeLink
		if l.Type == kstate.TypeNIC {
			remove = func(_ int, l kstate.Link) error { return p.returnNIC(i, l) }
		}
		if err := remove(noOp, l); err != nil {
			p.errs[i] = fmt.Errorf("%w; remove it again: %w", p.errs[i], err)
		}
		p.flush()
	}
}

// set writes the settings of a far end, inside its namespace.
func (p *pass) set(peer kstate.Peer) error {
	s, err := p.space(peer.NS)
	if err != nil {
		return err
	}
	return s.handle.Do(func() error {
		if peer.Whole {
			if err := SendWhole(peer.Name); err != nil {
				return err
			}
		}
		if peer.Sysctls == "" {
			return nil
		}
		for setting := range strings.SplitSeq(peer.Sysctls, "\n") {
			key, value, ok := strings.Cut(setting, "=")
			if !ok || !strings.HasPrefix(key, "net.") {
				return fmt.Errorf("setting %q is not one of a network namespace: %w", setting, kernel.ErrMissing)
			}
			if err := sysctl.Write(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}
