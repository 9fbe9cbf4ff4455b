package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/vishvananda/netlink"
)

// barePlugin is a network driver for dockerd that does nothing: it has Docker move a
// device that was made ahead into the container, or not even that. What Docker takes
// with it is Docker's own, with any driver.
type barePlugin struct {
	devices []string     // the next container's first
	next    atomic.Int32 // of devices
	server  http.Server
}

// bareNetwork makes a network of a bare plugin for so many containers, each with a
// device or each without.
func (d *docker) bareNetwork(b *bench, name, subnet string, containers int, device bool) (*barePlugin, error) {
	p := &barePlugin{}
	if device {
		if err := d.do(func() error { return p.makeDevices(containers) }); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", d.path("/run/docker/plugins/"+name+".sock"))
	if err != nil {
		return nil, err
	}
	p.server.Handler = p.handler()
	go p.server.Serve(l) // until close
	err = d.Call(b.ctx, "POST", "/networks/create", map[string]any{
		"Name": name, "Driver": name, "IPAM": map[string]any{"Config": []map[string]string{{"Subnet": subnet}}},
	}, nil)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *barePlugin) close() error { return p.server.Close() }

func (p *barePlugin) makeDevices(n int) error {
	for i := range n {
		name := fmt.Sprintf("bare%d", i)
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "h"}); err != nil {
			return fmt.Errorf("veth %s: %w", name, err)
		}
		p.devices = append(p.devices, name)
	}
	return nil
}

// handler answers as little as libnetwork's remote drivers may.
func (p *barePlugin) handler() http.Handler {
	answers := map[string]string{
		"/Plugin.Activate":                `{"Implements":["NetworkDriver"]}`,
		"/NetworkDriver.GetCapabilities":  `{"Scope":"local"}`,
		"/NetworkDriver.EndpointOperInfo": `{"Value":{}}`,
		"/NetworkDriver.CreateEndpoint":   `{"Interface":{}}`,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		switch {
		case r.URL.Path == "/NetworkDriver.Join":
			answer = p.join()
		case !ok:
			answer = `{}`
		}
		fmt.Fprintln(w, answer)
	})
}

func (p *barePlugin) join() string {
	if len(p.devices) == 0 {
		return `{"DisableGatewayService":true}`
	}
	name := p.devices[int(p.next.Add(1)-1)%len(p.devices)]
	return fmt.Sprintf(`{"InterfaceName":{"SrcName":%q,"DstPrefix":"eth"},"DisableGatewayService":true}`, name)
}
