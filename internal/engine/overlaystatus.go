package engine

import (
	"fmt"
	"strings"

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
	if o.view != nil {
		for _, p := range o.view.Problems { // by key, which has the network's ID
			if strings.Contains(p, string(n.ID)) {
				return Status{StateDegraded, p, o.view.Since}, true
			}
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
