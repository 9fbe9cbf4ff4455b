package engine

import (
	"errors"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/model"
)

// limits gives an endpoint the rates that it is to keep to, which the kernel must
// be able to. Where it could not be asked, it will say so when it has to.
func (d *draft) limits(ep *model.Endpoint, l model.Limits) error {
	if err := l.Validate(); err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	ep.Limits = l
	if l == (model.Limits{}) || d.e.cfg.Limits == nil {
		return nil
	}
	if err := d.e.cfg.Limits(); errors.Is(err, kernel.ErrUnsupported) {
		return d.errorf(model.Unsupported, "%w", err)
	}
	return nil
}
