package engine

import (
	"cmp"

	"github.com/sealane/sealane/internal/model"
)

// noted are those of a network's services that ask more of a host than that it finds them:
// few of many. They are found by what is not the same in the services, without a look at
// all of them.
type noted struct {
	of        []*model.Service // that these are of, in the same order
	published []*model.Service // at ports of hosts
	checked   []*model.Service
}

// notedOf returns them for a state of a network. The caller holds work.
func (e *Engine) notedOf(n *model.Network) *noted {
	was := e.published.noted[n.ID]
	if was == nil {
		was = &noted{}
	}
	published, checked := map[string]*model.Service{}, map[string]*model.Service{}
	for old, s := range model.Changes(was.of, n.Overlay.Services, (*model.Service).Order) {
		key := cmp.Or(s, old).Key()
		sift(published, key, old, s, func(s *model.Service) bool { return len(s.Publish) > 0 })
		sift(checked, key, old, s, func(s *model.Service) bool { return s.Health != nil })
	}
	now := &noted{
		of:        n.Overlay.Services,
		published: model.Revise(was.published, (*model.Service).Key, published),
		checked:   model.Revise(was.checked, (*model.Service).Key, checked),
	}
	e.published.noted[n.ID] = now
	return now
}

// sift notes how a service that became another one changes those that are meant.
func sift(changes map[string]*model.Service, key string, was, is *model.Service, meant func(*model.Service) bool) {
	switch {
	case is != nil && meant(is):
		changes[key] = is
	case was != nil && meant(was):
		changes[key] = nil
	}
}
