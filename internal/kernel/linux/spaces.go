package linux

import (
	"fmt"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kernel/rtnl"
	"github.com/sealane/sealane/internal/kstate"
)

// spaces makes and removes namespaces of ours.
type spaces struct {
	dir   netns.Dir
	links *rtnl.Conn
}

// Apply makes and removes namespaces. Devices that lead into a namespace go
// with it.
func (s spaces) Apply(ops []kstate.Op) error {
	return each(ops, func(op kstate.Op) error {
		o, ok := op.Object().(kstate.NetNS)
		switch {
		case !ok:
			return fmt.Errorf("not a namespace: %w", kernel.ErrUnsupported)
		case o.Other:
			return fmt.Errorf("%s is not ours: %w", o.NS, kernel.ErrInUse)
		case op.New != nil:
			return s.dir.Make(o.NS.Path, o.Sysctls)
		}
		if s.dir.Ours(o.NS.Path) {
			if err := s.links.Doom(o.NS.Path); err != nil {
				return err
			}
		}
		return s.dir.Remove(o.NS.Path)
	})
}
