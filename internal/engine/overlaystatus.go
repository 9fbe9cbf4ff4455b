package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	driver "github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/model"
)

// overlayStatus says what is wrong with a network's part of the cluster, or false.
func (e *Engine) overlayStatus(n *model.Network) (Status, bool) {
	if n.Overlay == nil {
		return Status{}, false
	}
	o := &e.overlays
	o.mu.Lock()
	defer o.mu.Unlock()
	if failed, ok := o.failed[n.ID]; ok {
		return Status{StateDegraded, failed.text, failed.since}, true
	}
	if o.dir == nil {
		return Status{StateDegraded, "this host is in no cluster any more: what it knew of the others stays", n.Created}, true
	}
	if o.view != nil && !o.view.InTouch {
		return Status{StateDegraded, "the cluster's store is away: going on with what is known", o.view.Since}, true
	}
	if o.view != nil && o.view.Copied != "" {
		return Status{StateConflict, o.view.Copied, o.view.Since}, true
	}
	if o.view != nil {
		if st, wrong := unreadStatus(o.view, n); wrong {
			return st, true
		}
	}
	if err := e.cipherTrouble(n); err != nil {
		return Status{StateDegraded, err.Error(), n.Created}, true
	}
	for i := range n.Overlay.Far {
		if f := n.Overlay.Far[i]; n.Options.Encrypted && !f.At.IsValid() && !f.Stopped {
			return Status{StateDegraded, fmt.Sprintf("endpoint %s on host %s: that host says no key of its own, or no address of this host's family: nothing is sent there", f.ID, f.Host), n.Created}, true
		} else if !f.At.IsValid() && !f.Stopped {
			return Status{StateDegraded, fmt.Sprintf("endpoint %s on host %s: that host has no address of the family of %s", f.ID, f.Host, n.Overlay.Local), n.Created}, true
		}
	}
	return Status{}, false
}

// noteStrict notes whether the host drops what comes in by a device that its source is not
// reached by.
func (e *Engine) noteStrict(strict bool) {
	o := &e.overlays
	o.mu.Lock()
	defer o.mu.Unlock()
	if !strict {
		o.strict = time.Time{}
	} else if o.strict.IsZero() {
		o.strict = e.cfg.Now().UTC()
	}
}

// strictStatus says that the host drops what the mesh brings for published ports of some of
// the services, which are a network's, or false.
func (e *Engine) strictStatus(n *model.Network, services ...*model.Service) (Status, bool) {
	e.overlays.mu.Lock()
	since := e.overlays.strict
	e.overlays.mu.Unlock()
	if since.IsZero() || !slices.ContainsFunc(services, func(s *model.Service) bool { return meshes4(n, s) }) {
		return Status{}, false
	}
	return Status{StateDegraded, "net.ipv4.conf.all.rp_filter is 1: this host drops what other hosts pass on to published ports, and the answers: it should be 2, or 0", since}, true
}

// meshes4 reports whether IPv4 packets for a service's published ports go between this host
// and others.
func meshes4(n *model.Network, s *model.Service) bool {
	if _, has := n.Subnet(false); !has || n.Internal || n.Overlay.Mesh == nil {
		return false
	}
	far := slices.ContainsFunc(n.Overlay.Mesh.Hosts, func(h model.MeshHost) bool { return driver.MeshWay(&h, n.Options.Encrypted).IsValid() })
	return far && slices.ContainsFunc(s.Publish, func(p model.Publish) bool {
		return !p.Local && (len(p.Addrs) == 0 || slices.ContainsFunc(p.Addrs, netip.Addr.Is4))
	})
}
