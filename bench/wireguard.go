package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/feature"
)

// The names of paths that are encrypted: by backend wireguard, which the daemons serve,
// and by wireguard-go's own program between hosts that have nothing else.
const (
	backendWireGuard = "wireguard"
	byWireGuardGo    = "wireguard-go"
)

// wireguardRows compares the two, of the same topology: a namespace on a bridge, a route
// to the other host, and WireGuard in user space. Where the kernel has WireGuard nobody
// has it there.
func wireguardRows(b *bench) error {
	if feature.Check(feature.WireGuard) == nil {
		return nil
	}
	return b.twoHosts(func(x *hub, hosts []*sealane) error { return encryptedRows(b, x, hosts) })
}

func encryptedRows(b *bench, x *hub, hosts []*sealane) error {
	p := paths{}
	spec := api.NetworkSpec{Name: "encrypted", Driver: "fabric", Subnets: []api.SubnetSpec{{Prefix: "10.8.0.0/16"}}, Options: map[string]string{"backend": backendWireGuard}}
	if _, err := hosts[0].client.CreateNetwork(context.Background(), spec); err != nil {
		return err
	}
	if err := p.add(hosts, backendWireGuard, spec.Name); err != nil {
		return err
	}
	var plain []*guardedHost
	for i := range 2 {
		h, err := b.newGuarded(x, byte(i+1))
		if err != nil {
			return err
		}
		defer h.close()
		plain = append(plain, h)
	}
	for i, h := range plain {
		if err := h.configure(plain[1-i]); err != nil {
			return fmt.Errorf("wireguard-go: configure: %w\n%s", err, h.log.Bytes())
		}
	}
	p[byWireGuardGo] = path{plain[0].spot, plain[1].spot, plain[1].inside()}
	if err := p[byWireGuardGo].open(); err != nil {
		return fmt.Errorf("wireguard-go: %w\n%s", err, plain[0].log.Bytes())
	}
	return p.rows(b, backendWireGuard, byWireGuardGo, atLeast(1, times), limit{})
}

// guardedHost is a plain host with wireguard-go, by which it leads to the others:
//
//	namespace ── br0 ── wg0 ── eth0 ── hub
type guardedHost struct {
	*plainHost
	key wgtypes.Key
	cmd *exec.Cmd
	log bytes.Buffer
}

func (b *bench) newGuarded(x *hub, n byte) (*guardedHost, error) {
	plain, err := newPlain(x, n, tunnelMTU)
	if err != nil {
		return nil, err
	}
	h := &guardedHost{plainHost: plain}
	if err := errors.Join(h.start(filepath.Join(b.bin, "wireguard")), h.do(h.tunnel)); err != nil {
		h.close()
		return nil, fmt.Errorf("wireguard-go: %w\n%s", err, h.log.Bytes())
	}
	return h, nil
}

// start starts the program and waits until it answers.
func (h *guardedHost) start(program string) (err error) {
	if h.key, err = wgtypes.GeneratePrivateKey(); err != nil {
		return err
	}
	h.cmd = &exec.Cmd{Path: program, Args: []string{byWireGuardGo, "-f", "wg0"}, Env: append(os.Environ(), "WG_PROCESS_FOREGROUND=1"),
		Stdout: &h.log, Stderr: &h.log, SysProcAttr: h.attr()}
	if err := h.do(h.cmd.Start); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err = os.Stat(h.path("/run/wireguard/wg0.sock")); err == nil {
			return nil
		}
	}
	return err
}

// tunnel leads to the others. The caller is in the host.
func (h *guardedHost) tunnel() error {
	wg, err := netlink.LinkByName("wg0")
	if err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetMTU(wg, tunnelMTU), configure("wg0", h.subnet().Addr().String()+"/32"),
		netlink.RouteAdd(&netlink.Route{LinkIndex: wg.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("10.9.0.0/16"))}))
}

// tunnelMTU is that of what goes by WireGuard, as flanneld has it.
const tunnelMTU = bareMTU - 80

// configure tells the program of the other host.
func (h *guardedHost) configure(o *guardedHost) error {
	port := 51820
	peer := wgtypes.PeerConfig{PublicKey: o.key.PublicKey(), Endpoint: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(fmt.Sprintf("%s:%d", o.outside(), port))),
		AllowedIPs: []net.IPNet{*ipNet(o.subnet())}}
	return h.do(func() error {
		c, err := wgctrl.New()
		if err != nil {
			return err
		}
		defer c.Close()
		return c.ConfigureDevice("wg0", wgtypes.Config{PrivateKey: &h.key, ListenPort: &port, Peers: []wgtypes.PeerConfig{peer}})
	})
}

func (h *guardedHost) close() {
	if h.cmd != nil && h.cmd.Process != nil {
		h.cmd.Process.Kill()
		_ = h.cmd.Wait() // it was killed
	}
	h.host.close()
}
