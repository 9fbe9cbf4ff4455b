package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/sealane/sealane/internal/lab/dockerd"
)

// docker is a host with Debian's dockerd and an image whose program waits.
type docker struct {
	*host
	*dockerd.Daemon
	cmd *exec.Cmd
	log bytes.Buffer // what the daemon said
}

// idle is the image, and what its containers do: nothing that we measure.
// Servers are threads of ours in their namespaces, as in the sandboxes.
const idle = "idle"

func idleCommand() []string { return []string{"/echo", "serve", "-tcp", "1", "-udp", "1"} }

// noFirewall keeps dockerd from the packet filter.
const noFirewall = "--iptables=false"

// newDocker starts a host with dockerd. Without arguments it is set as Docker
// is by default, and the host as dockerd makes it.
func (b *bench) newDocker(args ...string) (*docker, error) {
	if _, err := exec.LookPath("dockerd"); err != nil {
		return nil, fmt.Errorf("dockerd: install Debian's package docker.io: %w", err)
	}
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	d := &docker{host: h}
	if err := d.filterBridged(!slices.Contains(args, noFirewall)); err != nil {
		d.close()
		return nil, err
	}
	start := func(cmd *exec.Cmd) error {
		d.cmd = cmd
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &d.log, &d.log, h.attr()
		return h.do(cmd.Start)
	}
	if d.Daemon, err = dockerd.Start(b.ctx, start, args...); err == nil {
		err = d.Import(b.ctx, idle, map[string]string{"echo": filepath.Join(b.bin, "echo")})
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("%w\n%s", err, d.log.Bytes())
	}
	return d, nil
}

// close ends dockerd, its containers and its host.
func (d *docker) close() {
	if d.Daemon != nil {
		d.Daemon.Close()
	}
	d.host.kill()
	if d.cmd != nil && d.cmd.Process != nil {
		_ = d.cmd.Wait() // it was killed
	}
	d.host.close()
}

// idleContainer runs one and returns the path of its network namespace.
func (d *docker) idleContainer(b *bench, name, network string, publish ...string) (string, error) {
	c := dockerd.Container{Name: name, Image: idle, Cmd: idleCommand(), Network: network, Publish: publish}
	if err := d.Run(b.ctx, c); err != nil {
		return "", fmt.Errorf("%w\n%s", err, d.log.Bytes())
	}
	i, err := d.Inspect(b.ctx, name)
	return fmt.Sprintf("/proc/%d/ns/net", i.State.Pid), err
}

// networks makes bridge networks.
func (d *docker) networks(b *bench, names ...string) error {
	for i, name := range names {
		if err := d.CreateNetwork(b.ctx, name, nthSubnet(i)); err != nil {
			return err
		}
	}
	return nil
}

// nthSubnet is that of the nth network, in either's host.
func nthSubnet(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(80 + n), 0, 0}), 16)
}
