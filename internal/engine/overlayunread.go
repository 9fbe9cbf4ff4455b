package engine

import (
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// A record that an older version wrote may be one that this version refuses. What this host
// had before of the network or service goes on, until the record can be read or is removed.

// withUnread is a network with the services that this host had before and whose records
// cannot be read now; old is nil if it had no such network.
func withUnread(v *overlay.View, rec *overlay.Part, old *model.Network) *overlay.Part {
	if len(v.Unread) == 0 || old == nil || old.Overlay == nil {
		return rec
	}
	var kept []*overlay.Service
	for _, s := range old.Overlay.Services {
		k := overlay.Key{Kind: overlay.KindService, Network: rec.ID, Name: s.Key()}
		if !v.Unread[k] || slices.ContainsFunc(rec.Services, func(o *overlay.Service) bool { return o.Service.Key() == s.Key() }) {
			continue
		}
		was := &overlay.Service{Network: rec.ID, Service: *s}
		was.Backends, was.Publish = nil, slices.Clone(s.Publish)
		for i := range was.Publish {
			was.Publish[i].Taken = ""
		}
		kept = append(kept, was)
	}
	if len(kept) == 0 {
		return rec
	}
	out := *rec
	out.Services = slices.Concat(rec.Services, kept)
	slices.SortFunc(out.Services, orderServices)
	return &out
}

// unreadStatus says that the record of a network, or of something on it, cannot be read.
func unreadStatus(v *overlay.View, n *model.Network) (Status, bool) {
	for _, p := range v.Problems { // by key, which has the network's ID
		if !strings.Contains(p, string(n.ID)) {
			continue
		}
		for k := range v.Unread {
			if about(p, k) {
				p += ": this host goes on with what it was before; remove it and make it anew, or run the version that wrote it"
			}
		}
		return Status{StateDegraded, p, v.Since}, true
	}
	return Status{}, false
}

// checkRecords is about what the cluster has of networks that this host has not, and cannot
// be read.
func (e *Engine) checkRecords() (out []Check) {
	v := e.overlayView()
	if v == nil {
		return nil
	}
	all := e.Networks()
	for _, p := range v.Problems {
		if !slices.ContainsFunc(all, func(n *model.Network) bool { return strings.Contains(p, string(n.ID)) }) {
			c := Check{CheckWarn, "cluster", p, ""}
			for k := range v.Unread {
				if about(p, k) {
					c.Right = "the same version on all hosts; or remove it on a host that has it, and make it anew"
				}
			}
			out = append(out, c)
		}
	}
	return out
}

// about reports whether a problem of the view is with a record.
func about(problem string, k overlay.Key) bool { return strings.HasPrefix(problem, k.String()+": ") }
