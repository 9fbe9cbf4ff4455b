package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// publish rewrites what came by a device, or "" for the host's own, to a port of the host
// that is a container's or a service's. It reports whether it did, or ended the way.
func (w *walk) publish(in string) bool {
	if _, local := w.is.local(kstate.NS{}, w.dst); !local || w.reply || w.dport == 0 || in != "" && w.is.rules.has("closed", in) {
		return false
	}
	d, port := digit(w.dst.Is6()), strconv.Itoa(int(w.dport))
	anywhere := w.proto + " . " + port
	if w.is.rules.has("near"+d, in, w.dst.String(), w.proto, port) {
		w.step(hostName, "", 0, "chain publish: the daemon's proxy serves port %s/%s for containers that are kept apart", port, w.proto)
		return false
	}
	for _, m := range [][2]string{{"ports_at" + d, w.dst.String() + " . " + anywhere}, {"ports" + d, anywhere}} {
		if value, ok := w.element("inet", m[0], m[1]); ok {
			w.turn("publish", target(value), in)
			return true
		}
	}
	if value, ok := w.is.rules.find("ranges"+d, w.proto, port); ok {
		if a, err := netip.ParseAddr(value); err == nil {
			w.turn("publish", netip.AddrPortFrom(a, w.dport), in)
			return true
		}
	}
	if w.offered(d, anywhere, in) {
		return true
	}
	if w.is.rules.has("proxy_at"+d, w.dst.String(), w.proto, port) || w.is.rules.has("proxy"+d, w.proto, port) || w.is.rules.has("proxy_ranges"+d, w.proto, port) {
		if in != "" && !w.admitted() {
			w.stop(hostName, "", "chain proxy: the daemon's proxy serves port %s/%s for such clients, but by from= not for %s: it ends what that begins", port, w.proto, w.src)
			return true
		}
		w.step(hostName, "", 0, "chain proxy: the daemon's proxy serves port %s/%s for such clients", port, w.proto)
	}
	return false
}

// admitted reports whether the port of the host that is asked for is published for the
// source. Those of services are for everybody.
func (w *walk) admitted() bool {
	limited := false
	for _, sb := range w.Intent.Sandboxes {
		for _, m := range sb.Ports {
			if !sb.Live() || m.Proto != w.proto || w.dport < m.HostPort || m.HostLast() < w.dport || !model.Meet(m.HostIP, w.dst) {
				continue
			}
			if m.From.Allows(w.src) {
				return true
			}
			limited = true
		}
	}
	return !limited
}

// offered chooses a backend of the service that is asked for at a port of the host. It
// reports whether there is one that publishes it.
func (w *walk) offered(d, anywhere, in string) bool {
	s, p := w.publisher()
	at := flowKey(w.dst, w.proto, w.dport)
	verdict, ok := w.element("inet", "published_at"+d, at)
	from := pool{set: "target_at" + d, key: at, mark: overlay.ChoiceMark, port: p.Target}
	if !ok {
		verdict, ok = w.element("inet", "published"+d, anywhere)
		from.set, from.key = "target"+d, anywhere
	}
	switch {
	case !ok && s == nil:
		return false
	case !ok && p.Taken != "":
		w.problem(hostName, "", "%s publishes port %s, but here %s: it goes there", s.Ref(), model.ServicePort{Port: p.Port, Proto: p.Proto}, p.Taken)
		return false
	case !ok:
		w.resting(hostName, s, w.dst.Is6())
		w.stop(hostName, "", "chain publish: %s, and on the host nobody listens: refused at once", w.unoffered(s, p, d))
		return true
	case s == nil:
		s = &model.Service{Name: "unknown"}
	}
	from.chain = strings.TrimPrefix(verdict, "goto ")
	w.step(hostName, "", 0, "chain publish: port %s is published by %s: %s", model.ServicePort{Port: w.dport, Proto: w.proto}, s.Ref(), verdict)
	if w.sound("inet", "publish", from.chain, "rewrite") {
		w.choice(s, from, in)
	}
	return true
}

// publisher returns the service that publishes the port that is asked for, or nil.
func (w *walk) publisher() (*model.Service, model.Publish) {
	for _, n := range w.Intent.Networks {
		for i := 0; n.Overlay != nil && i < len(n.Overlay.Services); i++ {
			for _, p := range n.Overlay.Services[i].Publish {
				if p.Port == w.dport && p.Proto == w.proto && (len(p.Addrs) == 0 || slices.Contains(p.Addrs, w.dst)) {
					return n.Overlay.Services[i], p
				}
			}
		}
	}
	return nil, model.Publish{}
}

// unoffered is why this host does not answer at a port that a service publishes.
func (w *walk) unoffered(s *model.Service, p model.Publish, d string) string {
	at := flowKey(w.dst, w.proto, w.dport)
	_, anywhere := w.lacks(elemKey("inet", "published"+d, strings.TrimPrefix(at, w.dst.String()+" . ")))
	_, here := w.lacks(elemKey("inet", "published_at"+d, at))
	switch {
	case anywhere || here:
		return fmt.Sprintf("nothing says how many backends %s has", s.Ref())
	case p.Local:
		return s.Ref() + " has no backend that is ready on this host, and mode=host asks no other"
	}
	return s.Ref() + " has no backend that is ready and reached from here"
}

// fromOutside takes in what somebody beyond the host's devices sends. A destination that
// was not given is the host's address there.
func (w *walk) fromOutside() {
	r, ok := w.is.route(kstate.NS{}, w.src)
	if !ok || r.Blackhole {
		w.stop(hostName, "", "no route to %s: by which device it would come is not known", w.src)
		return
	}
	if !w.dst.IsValid() {
		w.dst = w.is.source(kstate.Route{Dst: r.Dst, Via: r.Via, Dev: r.Dev}, w.src)
		w.way.Dst = w.dst
	}
	if !w.dst.IsValid() {
		w.stop(hostName, r.Dev, "has no %s address to be asked at", family(w.src.Is6()))
		return
	}
	w.way.Src = w.src
	if sb, n := w.child(r.Dev, w.dst); sb != nil {
		w.step(hostName, r.Dev, w.linkMTU(r.Dev), "%s, driver %s: %s has %s, past the host's routes and firewall", n.Ref(), n.Driver, sb.Ref(), w.dst)
		w.vanish()
		return
	}
	w.step(hostName, r.Dev, w.linkMTU(r.Dev), "what %s sends to %s comes in by it, if the others' routes lead here", w.src, w.dst)
	w.received(r.Dev)
}
