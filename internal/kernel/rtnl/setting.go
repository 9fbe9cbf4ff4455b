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
		if !ok || op.Old != nil || p.errs[i] != nil || l.Peer.Sysctls == "" {
			continue
		}
		if p.errs[i] = p.set(l.Peer); p.errs[i] == nil {
			continue
		}
		if err := p.removeLink(noOp, l); err != nil {
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
