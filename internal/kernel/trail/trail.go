// Package trail sends a packet from a network namespace and says what nftables did with
// it and with the answer, there, on the host and where it arrived.
package trail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kernel/nft"
	"github.com/sealane/sealane/internal/kstate"
)

// Follow sends a probe and waits for an answer until ctx is done; it returns before if there
// is an answer, or word that there will be none. Of what it sets up nothing is left when it
// returns, or when the process ends. That the probe is lost is no error.
func Follow(ctx context.Context, p kernel.Probe) (out kernel.Trail, err error) {
	places, err := open(p)
	defer func() { err = errors.Join(err, places.close()) }()
	if err != nil {
		return out, err
	}
	s := &shot{probe: p}
	defer s.close()
	err = places[0].handle.Do(s.prepare)
	if way, ok := errors.AsType[*noRoute](err); ok {
		out.Dst, out.Why = p.To, way.Error()
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Src, out.Dst = s.src, p.To
	for i := range places {
		if err := places[i].listen(s, places.hosts(i)); err != nil {
			return out, err
		}
	}
	s.send(ctx, &out)
	for i := range places {
		seen, err := places[i].seen()
		if err != nil {
			return out, err
		}
		out.Seen = append(out.Seen, seen...)
	}
	return out, nil
}

// place is a namespace in which a probe is looked for.
type place struct {
	ns     kstate.NS
	handle *netns.Handle
	trail  *nft.Trail
}

// places are the sender's first, then the host's, then that of whom the probe is for, each
// once.
type places []place

func open(p kernel.Probe) (list places, err error) {
	for _, ns := range []kstate.NS{p.From, {}, p.Near} {
		if len(list) > 0 && ns.IsHost() && list[0].ns.IsHost() || slices.ContainsFunc(list, func(o place) bool { return o.ns == ns }) {
			continue
		}
		o := place{ns: ns}
		if ns.IsHost() {
			o.handle, err = netns.Current()
		} else {
			o.handle, err = netns.Open(ns)
		}
		if err != nil {
			return list, err
		}
		list = append(list, o)
	}
	return list, nil
}

// hosts reports whether a place is the host's.
func (l places) hosts(i int) bool { return l[i].ns.IsHost() }

func (l places) close() error {
	var errs []error
	for i := range l {
		if l[i].trail != nil {
			errs = append(errs, l[i].trail.Close())
		}
		errs = append(errs, l[i].handle.Close())
	}
	return errors.Join(errs...)
}

// listen begins to look for a probe.
func (o *place) listen(s *shot, host bool) (err error) {
	o.trail, err = nft.OpenTrail(o.handle.FD(), nft.Marks{Proto: s.probe.Proto, Src: s.src.Addr(), Port: s.mark, Whole: host})
	if err != nil {
		return fmt.Errorf("nftables: trace: %w", err)
	}
	return nil
}

// seen returns what was seen, with the names of devices.
func (o *place) seen() (list []kernel.Sighting, err error) {
	err = o.handle.Do(func() error {
		list, err = o.trail.Sightings(deviceName)
		return err
	})
	for i := range list {
		list[i].NS = o.ns
	}
	return list, err
}

// deviceName is a device of the calling thread's namespace by its index.
func deviceName(index uint32) string {
	if dev, err := net.InterfaceByIndex(int(index)); err == nil {
		return dev.Name
	}
	return fmt.Sprintf("device %d, which is gone", index)
}
