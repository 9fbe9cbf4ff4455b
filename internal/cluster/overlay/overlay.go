// Package overlay is what the hosts of a cluster tell each other of overlay networks,
// in a store that all of them see: one VNI and one subnet of a family for all hosts.
//
//	networks/ID                 Network
//	names/NAME, vnis/N          the ID of the network whose they are
//	order                       put with each change of those: one after the other
//	hosts/HOST                  Host: its own
//	alive/HOST                  its own, with an end, which it puts off: which run of its daemon, and where
//	addresses/ID/ADDR           Claim: first come, first served
//	endpoints/ID/HOST/ENDPOINT  Endpoint: its host's own
//	services/ID/NAME            Service: no host's, and its addresses neither
//	numbers/N                   the ID of the host whose number it is: first come, first served
//	ports/PROTO/PORT            PortClaim: the service that publishes it
//	held/HOST                   which ports of it its containers have published: its own
//
// Values are JSON. It knows no kernel and no engine: who uses it says what this host
// has (Set), and is told what all have (Report).
package overlay

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster"
)

// Times of a Directory.
const (
	// TTL is how long a host counts as alive after it was last in touch.
	TTL = 15 * time.Second
	// Rest is how long nobody else gets an address that was given back.
	Rest = time.Minute
	// Hold is how long a claim that no Set knows of is kept.
	Hold = time.Minute
)

// Options are what a Directory needs to know.
type Options struct {
	Store  cluster.Store
	Prefix string // of the keys, without a slash at its end
	ID     string // of this host
	// Host says what this host is to the others, at the beginning and after Refresh.
	// Its ID is of no consequence.
	Host func() (Host, error)
	Log  *slog.Logger // nil: none

	TTL, Rest, Hold time.Duration // 0: as the constants

	// Report is told of each change, by one goroutine. It does not wait; what it is
	// told last counts.
	Report func(*View)
}

// Directory is one host's part in the overlay networks of a cluster. It never ends by
// itself: while the store is away it goes on with what it knew, and tries again. Its
// methods may be called concurrently.
type Directory struct {
	o    Options
	tap  *tap
	seen *seen
	keep *keeper
}

// New returns a Directory that does nothing before Run.
func New(o Options) *Directory {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Prefix = strings.TrimRight(o.Prefix, "/")
	o.TTL, o.Rest, o.Hold = cmp.Or(o.TTL, TTL), cmp.Or(o.Rest, Rest), cmp.Or(o.Hold, Hold)
	d := &Directory{o: o, seen: newSeen()}
	d.tap = newTap(o)
	d.keep = newKeeper(o, d.tap)
	d.tap.changed = func(ours bool) {
		d.seen.poke()
		if ours {
			d.keep.poke()
		}
	}
	d.keep.told, d.keep.restore, d.keep.claim = d.seen.poke, d.restore, d.claimNumber
	return d
}

// Run follows the store and tends this host's keys until ctx is done. The keys stay in
// the store then; that this host is alive ends by itself.
func (d *Directory) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	mirror := cluster.Follow(ctx, d.tap, d.o.Prefix+"/", d.o.Log, d.seen.deliver(d.o.Prefix+"/"))
	d.tap.follow(mirror)
	var keeping sync.WaitGroup
	keeping.Go(func() { d.keep.run(ctx) })
	defer func() { cancel(); keeping.Wait(); <-mirror.Done() }()
	for {
		if v := d.seen.view(d.tap.status(), d.keep.problems(), d.keep.copied()); v != nil && d.o.Report != nil {
			d.o.Report(v)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.seen.poked:
		}
	}
}

// Refresh has Options.Host asked again.
func (d *Directory) Refresh() { d.keep.refresh() }

// Set says what this host has, on all networks: Run keeps the store so. It puts what is
// missing there or differs, also what was lost when the store was restored from a
// copy, and removes what is not in own; the addresses of that rest for Options.Rest.
// Before the first Set nothing is removed. Of two endpoints that have one address on
// one network, the first has it. Endpoints' Host is of no consequence.
func (d *Directory) Set(own []Endpoint) { d.keep.set(own) }
