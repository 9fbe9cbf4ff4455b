package cni

import (
	"context"

	"github.com/sealane/sealane/internal/api"
)

// add puts a container on the network, making that if it is not there.
func add(ctx context.Context, r *request) (any, error) {
	prev, err := r.config.previous()
	if err != nil {
		return nil, err
	}
	want := api.Attach{Container: r.env.container, Name: r.env.args.name(), NetNS: r.env.netns, Resolver: r.config.resolves()}
	if want.EndpointOptions, err = r.endpoint(); err != nil {
		return nil, err
	}
	if want.Ports, err = r.config.runtime.published(); err != nil {
		return nil, err
	}
	got, err := r.attach(ctx, want)
	if err != nil {
		return nil, err
	}
	return r.result(prev, got.Endpoint).GetAsVersion(r.config.version)
}

// attach tries, and where the daemon misses something that may be the network,
// makes that and tries again. Somebody else may make it at the same time, also
// between any two of the calls.
func (r *request) attach(ctx context.Context, want api.Attach) (api.Connection, error) {
	spec := r.config.network
	got, err := r.client.Attach(ctx, spec.Name, want)
	if !gone(err) {
		return got, err
	}
	var made error
	if _, there := r.client.Network(ctx, spec.Name); gone(there) {
		if _, made = r.client.CreateNetwork(ctx, spec); made != nil && !taken(made) {
			return got, made
		}
	}
	got, err = r.client.Attach(ctx, spec.Name, want)
	if made != nil && gone(err) {
		return got, made
	}
	return got, err
}

// del takes a container off the network. What is gone is what was wanted.
func del(ctx context.Context, r *request) (any, error) {
	err := r.client.Detach(ctx, r.config.network.Name, api.Detach{Container: r.env.container, IfName: r.env.ifname})
	if gone(err) {
		return nil, nil
	}
	return nil, err
}
