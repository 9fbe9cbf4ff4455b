package dockerplugin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/sealane/sealane/internal/model"
)

// Docker tells a driver neither what a network is called, nor which container an
// endpoint is for, nor, if the driver was away, what has gone. All that Docker's
// API says.

// How often Docker is asked: soon after a container came, for Docker itself
// knows of it only when we have answered, and now and then in any case.
const (
	askFirst = 50 * time.Millisecond
	askLast  = 5 * time.Second
	askIdle  = 30 * time.Second
)

// grace is how long Docker may not know an endpoint before it is taken for gone:
// Docker notes one after it has told us.
const grace = 20 * time.Second

// Directory asks Docker for names.
type Directory struct {
	plugin *Plugin
	docker *client.Client
	named  map[model.ID]bool      // networks, and endpoints whose container has been asked for
	missed map[model.ID]time.Time // networks, endpoints and addresses that Docker did not know, since when
}

// NewDirectory returns one for the dockerd that the environment names
// (DOCKER_HOST), or that of this host.
func NewDirectory(p *Plugin) (*Directory, error) {
	c, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	return &Directory{plugin: p, docker: c, named: map[model.ID]bool{}, missed: map[model.ID]time.Time{}}, nil
}

// Follow keeps names as Docker has them until ctx is done. What goes wrong, other
// than that Docker is not there, is told to report.
func (d *Directory) Follow(ctx context.Context, report func(error)) {
	defer d.docker.Close()
	for wait := askFirst; ; {
		nameless, err := d.look(ctx)
		if err != nil && !client.IsErrConnectionFailed(err) && ctx.Err() == nil {
			report(err)
		}
		next := wait
		if !nameless {
			next = askIdle
		} else if wait *= 2; wait > askLast {
			wait = askLast
		}
		select {
		case <-ctx.Done():
			return
		case <-d.plugin.joined:
			wait = askFirst
			time.Sleep(wait)
		case <-time.After(next):
		}
	}
}

// look compares what we have of Docker's with what Docker says, once. It reports
// whether it is to be asked again soon: somebody is still without a name, or
// perhaps gone.
func (d *Directory) look(ctx context.Context) (nameless bool, err error) {
	for _, n := range d.plugin.engine.Networks() {
		if n.Origin != model.OriginDocker || n.Driver == model.DriverPool {
			continue
		}
		seen, failed := d.docker.NetworkInspect(ctx, string(n.ID), client.NetworkInspectOptions{})
		switch {
		case errdefs.IsNotFound(failed):
			failed = d.networkGone(ctx, n)
		case failed == nil:
			d.named[n.ID] = true
			failed = errors.Join(d.plugin.engine.NameNetwork(ctx, n.ID, seen.Network.Name, model.OriginDocker), d.containers(ctx, n, seen.Network.Containers))
		}
		err = errors.Join(err, failed)
		nameless = nameless || !d.named[n.ID]
		if client.IsErrConnectionFailed(failed) {
			return nameless, failed
		}
	}
	return d.forget() || nameless, err
}

// forget drops what was noted of those that went. It reports whether some of the
// others have no name, or are missed.
func (d *Directory) forget() (waiting bool) {
	there := map[model.ID]bool{}
	for _, n := range d.plugin.engine.Networks() {
		there[n.ID] = true
		for _, s := range n.Subnets {
			for _, a := range s.Lent {
				there[model.ID(a.String())] = true
			}
		}
	}
	for _, sb := range d.plugin.engine.Sandboxes() {
		for _, ep := range sb.Endpoints {
			there[ep.ID] = true
			waiting = waiting || ep.Handed && !d.named[ep.ID]
		}
	}
	maps.DeleteFunc(d.named, func(id model.ID, _ bool) bool { return !there[id] })
	maps.DeleteFunc(d.missed, func(id model.ID, _ time.Time) bool { return !there[id] })
	return waiting || len(d.missed) > 0
}

// containers names the containers on a network, and drops the endpoints of those
// that are gone.
func (d *Directory) containers(ctx context.Context, n *model.Network, there map[string]network.EndpointResource) error {
	delete(d.missed, n.ID)
	err := d.addresses(ctx, n, there)
	owner := map[model.ID]string{}
	for container, e := range there {
		if id, err := short(e.EndpointID); err == nil {
			owner[id] = container
		}
	}
	for _, sb := range d.plugin.engine.Sandboxes() {
		ep := sb.Endpoint(n.ID)
		if ep == nil || !ep.Handed {
			continue
		}
		container, known := owner[ep.ID]
		if known {
			delete(d.missed, ep.ID)
		}
		switch {
		case !known:
			err = errors.Join(err, d.endpointGone(ctx, ep))
		case !d.named[ep.ID]:
			err = errors.Join(err, d.name(ctx, sb, container))
		}
	}
	return err
}

// addresses takes back those that are lent and that nobody has in Docker: it could
// not tell us, or has forgotten them, as 20.10 does with a container's IPv4 address
// when there is none of IPv6.
func (d *Directory) addresses(ctx context.Context, n *model.Network, there map[string]network.EndpointResource) error {
	has := map[netip.Addr]bool{}
	for _, e := range there {
		has[e.IPv4Address.Addr()], has[e.IPv6Address.Addr()] = true, true
	}
	var err error
	for _, s := range n.Subnets {
		for _, a := range s.Lent {
			if has[a] {
				delete(d.missed, model.ID(a.String()))
			} else if d.missing(model.ID(a.String())) {
				err = errors.Join(err, d.plugin.engine.ReleaseAddress(ctx, s.Prefix, a))
			}
		}
	}
	return err
}

// name gives a sandbox its container's name, and its endpoints the container's
// other names on each network.
func (d *Directory) name(ctx context.Context, sb *model.Sandbox, container string) error {
	c, err := d.docker.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return nil // Docker knows whose the endpoint is a moment later
	}
	if err != nil {
		return err
	}
	aliases := map[model.ID][]string{}
	for _, on := range c.Container.NetworkSettings.Networks {
		if id, err := short(on.EndpointID); err == nil {
			aliases[id] = on.Aliases
		}
	}
	name := c.Container.Name
	if len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	if err := d.plugin.engine.NameSandbox(ctx, sb.ID, name, c.Container.Config.Hostname, aliases); err != nil {
		return err
	}
	for _, ep := range sb.Endpoints {
		d.named[ep.ID] = true
	}
	return nil
}

// endpointGone drops an endpoint that Docker has not known for a while: it could
// not reach us when the container ended or left the network.
func (d *Directory) endpointGone(ctx context.Context, ep *model.Endpoint) error {
	if !d.missing(ep.ID) {
		return nil
	}
	delete(d.missed, ep.ID)
	delete(d.named, ep.ID)
	return d.plugin.engine.Part(ctx, ep.ID)
}

// networkGone drops a network that Docker removed while it could not reach us.
func (d *Directory) networkGone(ctx context.Context, n *model.Network) error {
	if !d.missing(n.ID) {
		return nil
	}
	for _, sb := range d.plugin.engine.Sandboxes() {
		ep := sb.Endpoint(n.ID)
		if ep == nil {
			continue
		}
		if !ep.Handed {
			return nil // it goes when none of ours is on it
		}
		if err := d.plugin.engine.Part(ctx, ep.ID); err != nil {
			return err
		}
	}
	delete(d.missed, n.ID)
	return d.plugin.engine.RemoveNetworkOf(ctx, model.OriginDocker, string(n.ID))
}

// missing notes that Docker does not know an object, and reports whether that
// has been so for long enough.
func (d *Directory) missing(id model.ID) bool {
	since, ok := d.missed[id]
	if !ok {
		d.missed[id] = time.Now()
	}
	return ok && time.Since(since) > grace
}
