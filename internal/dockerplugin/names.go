package dockerplugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// network gives a network the name that it has in Docker, and leaves to Docker the
// addresses that it gives out.
func (d *Directory) network(ctx context.Context, n *model.Network, seen network.Inspect) error {
	err := d.engine.NameNetwork(ctx, n.ID, seen.Name, model.OriginDocker)
	return errors.Join(err, d.engine.Yield(ctx, n.ID, ranges(seen.IPAM)))
}

// naming is who is to be named, by container.
type naming map[string]*model.Sandbox

// containers finds those containers on a network that have another name than in
// Docker.
func (d *Directory) containers(n *model.Network, there map[string]network.EndpointResource, naming *naming) {
	type owner struct{ container, name string }
	owners := map[model.ID]owner{}
	for container, e := range there {
		if id, err := short(e.EndpointID); err == nil {
			owners[id] = owner{container, e.Name}
		}
	}
	for _, sb := range d.engine.Sandboxes() {
		for ep := range sb.On(n.ID) {
			if o, known := owners[ep.ID]; known && ep.Handed && (d.named[ep.ID] != o.name || sb.Name != o.name) {
				naming.add(o.container, sb)
			}
		}
	}
}

func (n *naming) add(container string, sb *model.Sandbox) {
	if *n == nil {
		*n = map[string]*model.Sandbox{}
	}
	(*n)[container] = sb
}

// name gives sandboxes their containers' names. One that another has may be free
// once that has its new one: as long as there is progress all are tried again.
func (d *Directory) name(ctx context.Context, left naming) (err error) {
	for progress := true; progress && len(left) > 0; {
		progress = false
		for container, sb := range left {
			got, failed := d.nameOne(ctx, sb, container)
			err = errors.Join(err, failed)
			if failed != nil || got {
				delete(left, container)
			}
			progress = progress || got
		}
	}
	return err
}

// nameOne gives a sandbox its container's name, and its endpoints the container's
// other names on each network. It reports whether nobody else has that name.
func (d *Directory) nameOne(ctx context.Context, sb *model.Sandbox, container string) (bool, error) {
	c, err := d.docker.ContainerInspect(ctx, container, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return false, nil // Docker knows whose the endpoint is a moment later
	}
	if err != nil {
		return false, err
	}
	aliases, linkLocal := map[model.ID][]string{}, map[model.ID][]netip.Addr{}
	for _, on := range c.Container.NetworkSettings.Networks {
		if id, err := short(on.EndpointID); err == nil {
			aliases[id] = on.Aliases
			if on.IPAMConfig != nil {
				linkLocal[id] = on.IPAMConfig.LinkLocalIPs
			}
		}
	}
	name := strings.TrimPrefix(c.Container.Name, "/")
	for _, ep := range sb.Endpoints {
		if c.Container.State != nil && c.Container.State.Running { // its namespace is there
			d.named[ep.ID] = name // also if it cannot be: that is said once
		}
	}
	services, err := labelled(c.Container.Config.Labels)
	if err != nil {
		err = fmt.Errorf("container %s: %w", name, err)
	}
	if err := errors.Join(err, d.engine.NameSandbox(ctx, sb.ID, engine.ContainerNames{
		ID: c.Container.ID, Name: name, Hostname: c.Container.Config.Hostname, Aliases: aliases, LinkLocal: linkLocal, Services: services,
	})); err != nil {
		return false, err
	}
	now := d.engine.ByEndpoint(sb.Endpoints[0].ID)
	return now != nil && now.Name == name, nil
}

// labelled are the services that a container's label names, of which its endpoints on
// overlay networks are backends that name none themselves.
func labelled(labels map[string]string) ([]model.Membership, error) {
	text, has := labels[optionService]
	if !has {
		return nil, nil
	}
	all, err := model.ParseMemberships(text)
	if err != nil {
		return nil, fmt.Errorf("label %s: %w", optionService, err)
	}
	return all, nil
}
