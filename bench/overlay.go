package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// overlayRows measures networks that are one link over two hosts, against those that are
// routed between them by vxlan; a service's address against a container's own; and many
// services and hosts.
func overlayRows(b *bench) error {
	for _, rows := range []func(*bench) error{acrossRows, crowdedServiceRows, seenRows} {
		if err := rows(b); err != nil {
			return err
		}
	}
	return nil
}

// The names of paths by an overlay network, and by a service of it.
const (
	byOverlay = model.DriverOverlay
	byService = "a service"
)

// stretched is a network over hosts.
const stretched = "stretched"

func acrossRows(b *bench) error {
	return b.twoHosts(func(_ *hub, hosts []*sealane) error { return stretchedRows(b, hosts) })
}

// twoHosts runs fn with two daemons that know of one store. Its error comes with their logs.
func (b *bench) twoHosts(fn func(x *hub, hosts []*sealane) error) error {
	x, err := newHub()
	if err != nil {
		return err
	}
	defer x.close()
	var hosts []*sealane
	for i := range 2 {
		s, err := x.daemon(b, i+2)
		if err != nil {
			return err
		}
		defer s.close()
		hosts = append(hosts, s)
	}
	if err := fn(x, hosts); err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, hosts[0].log.Bytes(), hosts[1].log.Bytes())
	}
	return nil
}

// stretchedRows compares what crosses two hosts.
func stretchedRows(b *bench, hosts []*sealane) error {
	p := paths{}
	for by, spec := range map[string]api.NetworkSpec{
		backendVXLAN: {Name: "beside", Driver: "fabric", Subnets: []api.SubnetSpec{{Prefix: "10.6.0.0/16"}}, Options: map[string]string{"backend": backendVXLAN}},
		byOverlay:    {Name: stretched, Driver: model.DriverOverlay, Subnets: []api.SubnetSpec{{Prefix: "10.7.0.0/16"}}},
	} {
		if _, err := hosts[0].client.CreateNetwork(context.Background(), spec); err != nil {
			return err
		}
		if err := p.add(hosts, by, spec.Name); err != nil {
			return fmt.Errorf("%s: %w", by, err)
		}
	}
	if err := p.rows(b, byOverlay, backendVXLAN, atLeast(0.95, times), limit{}); err != nil {
		return err
	}
	var err error
	if p[byService], err = p.served(hosts); err != nil {
		return err
	}
	if err := p.connectionRow(b); err != nil {
		return err
	}
	return p.rows(b, byService, byOverlay, atLeast(0.98, times), limit{})
}

// served makes a service with one backend, on the second host, and is the way to it. The
// backend is not who is asked directly: where it serves its service, who asks it directly
// goes by the host too. But its namespace is made as theirs, with their congestion control
// and no rules of a resolver.
func (p paths) served(hosts []*sealane) (path, error) {
	ports := []string{fmt.Sprintf("%d/tcp", bulkPort), fmt.Sprintf("%d/tcp", answerPort), fmt.Sprintf("%d/udp", answerPort)}
	made, err := hosts[0].client.CreateService(context.Background(), api.ServiceSpec{Name: "served", Network: stretched, Ports: ports})
	if err != nil {
		return path{}, err
	}
	spaces, err := hosts[1].spaces("backend", 1)
	if err != nil {
		return path{}, err
	}
	on := api.EndpointOptions{Options: map[string]string{"service": made.Name}}
	_, err = hosts[1].client.Connect(context.Background(), stretched, api.Connect{Sandbox: "netns:" + spaces[0], EndpointOptions: on})
	return path{p[byOverlay].from, spot{hosts[1].host, spaces[0]}, made.VIPs[0]}, err
}

// connectionRow compares how many connections there are by a service and directly.
func (p paths) connectionRow(b *bench) error {
	s, o := p[byService], p[byOverlay]
	return answering([]spot{s.into, o.into}, false, func() error {
		if _, err := s.from.asked(s.to, true, time.Millisecond); err != nil {
			return err
		}
		o, err := b.contest(b.times(21), s.from.client(s.to).connections(), o.from.client(o.to).connections())
		if err != nil {
			return err
		}
		b.table.judged(fmt.Sprintf("new TCP connections to another host's by %s / %s", byService, byOverlay), o, perSecond, o.ratio().inverse(), atLeast(0.85, times))
		return nil
	})
}

// client is a place from which an address is asked.
func (s spot) client(to netip.Addr) place {
	return place{host: s.host, client: s.space, to: to, port: answerPort}
}

// answering runs fn while servers answer, before all other threads or as they.
func answering(at []spot, first bool, fn func() error) (err error) {
	for _, s := range at {
		server, failed := s.serve(s.space, first)
		if failed != nil {
			return errors.Join(err, failed)
		}
		defer func() { err = errors.Join(err, server.close()) }()
	}
	return fn()
}

// asked makes connections to a service, at a pace, until one is answered, or refused if
// that is what is to be, and says when.
func (s spot) asked(vip netip.Addr, up bool, pace time.Duration) (end time.Time, err error) {
	client := s.client(vip)
	err = s.within(s.space, 0, func() error {
		last := errors.New("answered")
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(pace) {
			err := client.greeted()
			if end = time.Now(); up && err == nil || !up && errors.Is(err, unix.ECONNREFUSED) {
				return nil
			}
			if err != nil {
				last = err
			}
		}
		return fmt.Errorf("service at %s: is not as it is to be: %w", vip, last)
	})
	return end, err
}
