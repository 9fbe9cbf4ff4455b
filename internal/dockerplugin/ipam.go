package dockerplugin

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// A pool's ID is its subnet: those of all networks are apart.

func (p *Plugin) requestPool(ctx context.Context, req poolRequest) (any, error) {
	if len(req.Options) > 0 {
		return nil, fmt.Errorf("ipam-opt %s: not known, there are none", slices.Sorted(maps.Keys(req.Options))[0])
	}
	want := model.Subnet{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if req.V6 {
		want.Prefix = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	var err error
	if req.Pool != "" {
		if want.Prefix, err = netip.ParsePrefix(req.Pool); err != nil {
			return nil, fmt.Errorf("subnet %q: want one like 10.8.0.0/24", req.Pool)
		}
	}
	if req.SubPool != "" {
		if want.Range, err = netip.ParsePrefix(req.SubPool); err != nil || req.Pool == "" {
			return nil, fmt.Errorf("ip-range %q: want a part of the subnet, like 10.8.0.128/25", req.SubPool)
		}
	}
	var got netip.Prefix
	err = p.insist(ctx, func() (err error) {
		got, err = p.engine.RequestPool(ctx, want)
		return err
	}, want.Prefix)
	if err == nil {
		p.follow()
	}
	return poolAnswer{PoolID: got.String(), Pool: got.String()}, err
}

func (p *Plugin) releasePool(ctx context.Context, req addressRequest) (any, error) {
	pool, err := poolByID(req.PoolID)
	if err != nil {
		return nil, err
	}
	return struct{}{}, p.engine.ReleasePool(ctx, pool)
}

func (p *Plugin) requestAddress(ctx context.Context, req addressRequest) (any, error) {
	pool, want, err := req.read()
	if err != nil {
		return nil, err
	}
	var got netip.Prefix
	err = p.insist(ctx, func() (err error) {
		got, err = p.engine.RequestAddress(ctx, pool, want)
		return err
	}, netip.PrefixFrom(want, want.BitLen()))
	return addressAnswer{Address: got.String()}, err
}

func (p *Plugin) releaseAddress(ctx context.Context, req addressRequest) (any, error) {
	pool, addr, err := req.read()
	if err != nil {
		return nil, err
	}
	return struct{}{}, p.engine.ReleaseAddress(ctx, pool, addr)
}

func (r addressRequest) read() (pool netip.Prefix, addr netip.Addr, err error) {
	if pool, err = poolByID(r.PoolID); err == nil && r.Address != "" {
		addr, err = address(r.Address)
	}
	return pool, addr, err
}

func poolByID(id string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(id)
	if err != nil {
		return p, fmt.Errorf("pool %q: not one of ours", id)
	}
	return p, nil
}
