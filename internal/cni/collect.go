package cni

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// collect takes every container off the network that a runtime put there and
// that is not among its valid ones, and goes on where that fails (GC).
func collect(ctx context.Context, r *request) (any, error) {
	if r.config.valid == nil {
		return nil, errorf(codeConfig, "%svalid-attachments: missing", reserved)
	}
	name := r.config.network.Name
	n, err := r.client.Network(ctx, name)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, ep := range n.Endpoints {
		if ep.Container == "" || slices.Contains(*r.config.valid, attachment{ep.Container, ep.IfName}) {
			continue
		}
		if err := r.client.Detach(ctx, name, api.Detach{Container: ep.Container, IfName: ep.IfName}); err != nil && !gone(err) {
			failed = append(failed, err)
		}
	}
	return nil, errors.Join(failed...)
}

// joinable says what hinders this host to make or join a network over hosts.
func (r *request) joinable(ctx context.Context) error {
	n, err := r.client.ClusterNetwork(ctx, r.config.network.Name)
	if err != nil {
		return errorf(codeUnavailable, "%w", err)
	}
	if n.Problem != "" {
		return errorf(codeUnavailable, "%s", n.Problem)
	}
	return nil
}

// alone reports whether the store of a network over hosts does not answer, and nothing
// else is wrong.
func alone(n api.Network) bool {
	return n.Fabric != nil && !n.Fabric.InTouch && n.Fabric.Error != "" && n.Status.Message == n.Fabric.Error
}

// full reports whether no subnet of some family has an address left to give.
func full(subnets []api.Subnet) bool {
	return slices.ContainsFunc(subnets, func(s api.Subnet) bool {
		return !slices.ContainsFunc(subnets, func(o api.Subnet) bool { return o.Prefix.Addr().Is6() == s.Prefix.Addr().Is6() && o.Usage.Free > 0 })
	})
}

// status says whether ADD would work: the daemon answers, and the network, where
// there is one, is as intended and has addresses left. A network that others interfere with still takes
// containers; that is a line of the log. So does one over hosts while the store that
// these share is away. Where there is none over hosts, this host has to be able to join.
func status(ctx context.Context, r *request) (any, error) {
	n, err := r.client.Network(ctx, r.config.network.Name)
	switch {
	case gone(err) && (r.config.network.Driver == model.DriverFabric || r.config.network.Driver == model.DriverOverlay):
		return nil, r.joinable(ctx)
	case gone(err):
		return nil, nil
	case err != nil:
		return nil, errorf(codeUnavailable, "%w", err)
	case n.Status.State == "degraded" && !alone(n), n.Fabric != nil && n.Fabric.Lost:
		return nil, errorf(codeLimited, "network %s: %s: %s", n.Name, n.Status.State, n.Status.Message)
	case full(n.Subnets):
		return nil, errorf(codeUnavailable, "network %s: no address is left", n.Name)
	case n.Status.State != "ready":
		fmt.Fprintf(r.log, "sealane-cni: network %s: %s: %s\n", n.Name, n.Status.State, n.Status.Message)
	}
	return nil, nil
}
