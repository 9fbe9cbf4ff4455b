package engine

import (
	"context"
	"net/netip"
	"reflect"
	"slices"

	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/pathmtu"
)

// Paths finds how large packets to other hosts may be. *pathmtu.Prober is one. What it
// finds is noted in intent, so that it is known as soon as a daemon starts:
//
//	wantPaths ─▶ Paths … changed ─▶ settlePaths ─▶ Peer.PathMTU, Overlay.Narrow ─▶ a route with that MTU
type Paths interface {
	Start(changed func())
	Want([]pathmtu.Path)
	MTU(pathmtu.Path) (bytes int, known bool)
}

// paths are those that are measured.
type paths struct {
	want []pathmtu.Path
	news chan struct{} // readable when there is something to note
}

// startPaths notes what is found from now on.
func (e *Engine) startPaths() {
	if e.cfg.Paths == nil {
		return
	}
	news := make(chan struct{}, 1)
	e.paths.news = news
	e.cfg.Paths.Start(e.reviewPaths)
	e.background.Go(func() {
		for {
			select {
			case <-e.ctx.Done():
				return
			case <-news:
			}
			if err := e.settlePaths(e.ctx); err != nil && e.ctx.Err() == nil {
				e.cfg.Log.Error("note the MTU of paths", "err", err)
			}
		}
	})
}

// reviewPaths has notes of paths be made anew. It does not wait.
func (e *Engine) reviewPaths() {
	select {
	case e.paths.news <- struct{}{}:
	default:
	}
}

// wantPaths says which paths are of use. The caller holds work.
func (e *Engine) wantPaths() {
	if e.cfg.Paths == nil {
		return
	}
	list := slices.Clone(e.survey())
	for _, n := range e.intent.Networks {
		if n.Fabric == nil || !fabric.Routed(n.Fabric) {
			continue
		}
		for i := range n.Fabric.Peers {
			for _, is6 := range []bool{false, true} {
				if path, ok := pathOf(n.Fabric, &n.Fabric.Peers[i], is6); ok {
					list = append(list, path)
				}
			}
		}
	}
	if !slices.Equal(list, e.paths.want) {
		e.paths.want = list
		e.cfg.Paths.Want(list)
	}
}

// pathOf is what packets of a family go by to a peer, or false.
func pathOf(f *model.Fabric, p *model.Peer, is6 bool) (path pathmtu.Path, ok bool) {
	if _, in := f.Of(is6); !in {
		return path, false
	}
	if _, has := p.Subnet(is6); !has || fabric.Unreached(f, p, is6) != "" {
		return path, false
	}
	by6 := fabric.Carrier(f, p, is6)
	return pathmtu.Path{Local: f.Public(by6), Remote: p.Public(by6), Size: fabric.Full(f, p, is6), Near: p.OnLink}, true
}

// settlePaths has networks send no larger packets to a peer than its path was found to
// take.
func (e *Engine) settlePaths(ctx context.Context) error {
	e.work.Lock()
	defer e.work.Unlock()
	d, peers := e.draft("networks over hosts", "note paths"), e.cipherPeers()
	for id, n := range e.intent.Networks {
		if n.Overlay != nil {
			if _, err := d.ownSeat(ctx); err != nil {
				continue // and all of it stays
			}
			c, o := *n, *n.Overlay
			if o.Narrow = e.narrowPaths(n, peers, n); !slices.Equal(o.Narrow, n.Overlay.Narrow) {
				c.Overlay = &o
				d.networks[id] = &c
			}
			continue
		}
		if n.Fabric == nil {
			continue
		}
		f := *n.Fabric
		f.Peers = slices.Clone(f.Peers)
		if e.measure(&f, n); reflect.DeepEqual(f.Peers, n.Fabric.Peers) {
			continue
		}
		c := *n
		c.Fabric = &f
		d.networks[id] = &c
	}
	if len(d.networks) == 0 {
		return nil
	}
	return d.commit(ctx)
}

// measure notes what is known of the paths to peers. What was known before stays while
// nothing else is found.
func (e *Engine) measure(f *model.Fabric, before *model.Network) {
	if e.cfg.Paths == nil || !fabric.Routed(f) {
		return
	}
	known := map[pathmtu.Path]int{}
	if before != nil && fabric.Routed(before.Fabric) {
		known = widths(before.Fabric)
	}
	for i := range f.Peers {
		p := &f.Peers[i]
		p.PathMTU4, p.PathMTU6 = 0, 0
		for _, is6 := range []bool{false, true} {
			if path, ok := pathOf(f, p, is6); ok {
				e.noteMTU(p, path, known[widthOf(path)])
			}
		}
	}
}

// widths are those of paths that a network was told of.
func widths(f *model.Fabric) map[pathmtu.Path]int {
	known := map[pathmtu.Path]int{}
	for i := range f.Peers {
		p := &f.Peers[i]
		for _, is6 := range []bool{false, true} {
			if path, ok := pathOf(f, p, is6); ok {
				known[widthOf(path)] = p.PathMTU(path.Remote.Is6())
			}
		}
	}
	return known
}

// widthOf leaves out of a path what does not make it another.
func widthOf(path pathmtu.Path) pathmtu.Path {
	path.Near = false
	return path
}

// noteMTU notes what is known of one path, or was.
func (e *Engine) noteMTU(p *model.Peer, path pathmtu.Path, was int) {
	mtu, known := e.cfg.Paths.MTU(path)
	switch {
	case !known:
		mtu = was
	case mtu >= path.Size:
		mtu = 0
	}
	if path.Remote.Is6() {
		p.PathMTU6 = mtu
	} else {
		p.PathMTU4 = mtu
	}
}

// PathMTU is of a peer whose path takes less than the network's full packets.
type PathMTU struct {
	To   netip.Addr
	MTU  int // of the path, bytes
	Fits int // of a container's packets, bytes
}

// NarrowPaths returns the paths to a peer that are narrower than its network's MTU asks for.
func NarrowPaths(f *model.Fabric, p *model.Peer) []PathMTU {
	var out []PathMTU
	for _, is6 := range []bool{false, true} {
		path, ok := pathOf(f, p, is6)
		if fits := fabric.Fits(f, p, is6); ok && fits != 0 {
			narrow := PathMTU{path.Remote, p.PathMTU(path.Remote.Is6()), fits}
			if !slices.Contains(out, narrow) {
				out = append(out, narrow)
			}
		}
	}
	return out
}
