package overlay

import (
	"time"

	"github.com/sealane/sealane/internal/model"
)

// View is what a host knows of all overlay networks. It and all that it leads to never
// changes; what has not changed since the View before is shared with it.
type View struct {
	Networks map[model.ID]*Part
	Hosts    map[string]Peer // by ID, this host too
	Problems []string        // what could not be read or kept, each "key: cause", in order
	Copied   string          // that another host has this one's ID, and where; "": none has
	Unread   map[Key]bool    // records that could not be read: what they were before goes on

	Known     bool      // the store was read once: what is not here is not there
	InTouch   bool      // with the store
	Since     time.Time // that it is so
	Restored  time.Time // when the store was last found older than it had been, or another
	LastError string    // of the store, in a line; "": none, or it is over
}

// Part is a network with what is on it.
type Part struct {
	Network
	Endpoints []*Endpoint // of all hosts, by ID, then by host
	Services  []*Service  // by name
	Rev       int64       // of the Part: another one, another Part. It means nothing to other hosts
}

// Peer is a host.
type Peer struct {
	Host
	Alive bool // its daemon was in touch with the store lately
}
