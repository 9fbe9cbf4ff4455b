package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// The names of paths to a published port of a service.
const (
	byMesh    = "a host without a backend"
	byBackend = "the backend's host"
)

// meshRows measures a published port of a service: at a host without a backend, against
// that of the backend. Who asks is a third machine.
func meshRows(b *bench) error {
	return b.twoHosts(func(x *hub, hosts []*sealane) error {
		client, err := newHost()
		if err != nil {
			return err
		}
		defer client.close()
		if err := x.plug(client, nthHost(4)); err != nil {
			return err
		}
		p, err := publishedPaths(hosts, spot{client, hostSpace})
		if err != nil {
			return err
		}
		return p.rows(b, byMesh, byBackend, atLeast(0.65, times), limit{})
	})
}

// publishedPaths makes a service with a backend on the second host, and is the ways to it.
func publishedPaths(hosts []*sealane, from spot) (paths, error) {
	ctx := context.Background()
	if _, err := hosts[0].client.CreateNetwork(ctx, api.NetworkSpec{Name: stretched, Driver: model.DriverOverlay, Subnets: []api.SubnetSpec{{Prefix: "10.7.0.0/16"}}}); err != nil {
		return nil, err
	}
	var publish []string
	for _, proto := range []string{"tcp", "udp"} {
		publish = append(publish, fmt.Sprintf("%d:%[1]d/%s", bulkPort, proto), fmt.Sprintf("%d:%[1]d/%s", answerPort, proto))
	}
	made, err := hosts[0].client.CreateService(ctx, api.ServiceSpec{Name: "open", Network: stretched, Publish: publish})
	if err != nil {
		return nil, err
	}
	on := api.EndpointSpec{Network: stretched, EndpointOptions: api.EndpointOptions{Options: map[string]string{"service": made.Name}}}
	var backend api.Sandbox
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the network may be news there
		if backend, err = hosts[1].client.CreateSandbox(ctx, api.SandboxSpec{Name: "backend", Networks: []api.EndpointSpec{on}}); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	p, into := paths{}, spot{hosts[1].host, backend.NetNS}
	for i, by := range []string{byMesh, byBackend} {
		p[by] = path{from, into, netip.MustParseAddr(nthHost(i + 2))}
	}
	return p, answering([]spot{into}, false, func() (err error) {
		for _, way := range p {
			_, failed := from.asked(way.to, true, time.Millisecond)
			err = errors.Join(err, failed)
		}
		return err
	})
}
