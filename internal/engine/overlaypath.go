package engine

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"

	driver "github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/pathmtu"
)

// The paths to the other hosts of overlay networks, and of the mesh, are measured as those
// of fabrics are, up to what the uplink takes: once for all networks that go by one.

// survey is which paths of overlay networks are measured, and what that follows from. They
// are not listed again as long as that is the same.
type survey struct {
	seat  *seat
	peers string
	of    map[model.ID]reach
	paths []pathmtu.Path
}

// reach is which hosts a network reaches, as the list that it has of them.
type reach struct {
	hosts *netip.Addr
	n     int
	mesh  *model.Mesh
	used  bool
}

func reachOf(o *model.Overlay) reach {
	r := reach{n: len(o.Hosts), mesh: o.Mesh, used: o.Used}
	if r.n > 0 {
		r.hosts = &o.Hosts[0]
	}
	return r
}

// survey lists the paths of all overlay networks, each once. The caller holds work.
func (e *Engine) survey() []pathmtu.Path {
	now := survey{seat: e.overlays.seat, peers: e.meta[metaCipher], of: map[model.ID]reach{}}
	for id, n := range e.intent.Networks {
		if n.Overlay != nil {
			now.of[id] = reachOf(n.Overlay)
		}
	}
	was := &e.overlays.survey
	if was.seat == now.seat && was.peers == now.peers && maps.Equal(was.of, now.of) {
		return was.paths
	}
	paths, peers := map[pathmtu.Path]bool{}, e.cipherPeers()
	for id := range now.of {
		for _, way := range e.overlayPaths(e.intent.Networks[id], peers) {
			paths[way] = true
		}
	}
	now.paths = slices.SortedFunc(maps.Keys(paths), func(a, b pathmtu.Path) int { return a.Remote.Compare(b.Remote) })
	e.overlays.survey = now
	return now.paths
}

// cipherPeers are the other hosts that have keys, as this host knew them last.
func (e *Engine) cipherPeers() (peers []cipherPeer) {
	if text := e.meta[metaCipher]; text != "" && json.Unmarshal([]byte(text), &peers) != nil {
		return nil // which settleCipher wrote
	}
	return peers
}

// overlayPaths lists the paths from a network to other hosts, by where it finds them. The
// caller holds work.
func (e *Engine) overlayPaths(n *model.Network, peers []cipherPeer) map[netip.Addr]pathmtu.Path {
	here, o := e.overlays.seat, n.Overlay
	if here == nil || n.Absent() && o.Mesh == nil {
		return nil
	}
	public := map[netip.Addr]netip.Addr{}
	for _, p := range peers {
		public[p.Inner] = p.At.Addr()
	}
	ways := map[netip.Addr]pathmtu.Path{}
	add := func(at netip.Addr) {
		to := at
		if n.Options.Encrypted {
			to = public[at]
		}
		if to.IsValid() {
			via, led := here.by(to)
			ways[at] = pathmtu.Path{Local: here.from(to), Remote: to, Size: here.mtu, Near: led && !via.IsValid()}
		}
	}
	if !n.Absent() {
		for _, at := range o.Hosts {
			add(at)
		}
	}
	for i := 0; o.Mesh != nil && i < len(o.Mesh.Hosts); i++ {
		add(driver.MeshWay(&o.Mesh.Hosts[i], n.Options.Encrypted))
	}
	return ways
}

// narrowPaths lists those that are narrower than the uplink. What was known before stays
// while nothing else is found. The caller holds work.
func (e *Engine) narrowPaths(n *model.Network, peers []cipherPeer, before *model.Network) []model.NarrowPath {
	here := e.overlays.seat
	if e.cfg.Paths == nil || here == nil {
		return n.Overlay.Narrow
	}
	known := map[netip.Addr]int{}
	for i := 0; before != nil && i < len(before.Overlay.Narrow); i++ {
		known[before.Overlay.Narrow[i].To] = before.Overlay.Narrow[i].MTU
	}
	var out []model.NarrowPath
	for at, way := range e.overlayPaths(n, peers) {
		mtu, found := e.cfg.Paths.MTU(way)
		if !found {
			mtu = known[way.Remote]
		}
		if mtu == 0 || mtu >= way.Size {
			continue
		}
		p := model.NarrowPath{At: at, To: way.Remote, MTU: mtu, Full: way.Size}
		if via, led := here.by(way.Remote); led {
			p.Dev, p.Via = here.uplink, via
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b model.NarrowPath) int { return a.At.Compare(b.At) })
	return out
}

// NarrowPathTo returns the path to where an overlay network finds another host, if it is
// narrower than the network's MTU asks for.
func NarrowPathTo(n *model.Network, at netip.Addr) (PathMTU, bool) {
	p, ok := n.Overlay.PathTo(at)
	fits := 0
	if ok {
		fits = driver.Fits(p, false)
	}
	return PathMTU{p.To, p.MTU, fits}, ok && fits < n.Options.MTU
}
