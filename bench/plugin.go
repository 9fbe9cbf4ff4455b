package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

// pluginRows measures what a container runtime does by executing CNI plugins: a
// container with one published port comes and goes. The reference is bridge, with
// host-local and a masquerade, and portmap after it; ours is one plugin.
func pluginRows(b *bench) error {
	ours, err := b.newSealane()
	if err != nil {
		return err
	}
	defer ours.close()
	peer, err := newCNI(true)
	if err != nil {
		return err
	}
	defer peer.close()
	n := b.times(41)
	a, z := plugged{host: ours.host, do: ours.plugin(b)}, plugged{host: peer.host, do: peer.plugins()}
	for _, p := range []*plugged{&a, &z} {
		if p.spaces, err = p.host.spaces("plugged", 2*n+2); err != nil {
			return err
		}
	}
	add, err := b.contest(n, a.block("ADD"), z.block("ADD"))
	if err != nil {
		return err
	}
	b.table.compared("CNI ADD with a port, bridge+portmap / ours", add, millis, add.ratio(), atLeast(10, times))
	del, err := b.contest(n, a.block("DEL"), z.block("DEL"))
	if err != nil {
		return err
	}
	b.table.compared("CNI DEL, the same", del, millis, del.ratio(), atLeast(20, times))
	return nil
}

// pluginName is the plugin's.
const pluginName = "sealane-cni"

// pluggedPort is the container's published port; the host's are counted from here.
const pluggedPort = 20000

// plugged is a host whose namespaces come and go by a function that does a CNI
// command for the nth of them.
type plugged struct {
	*host
	spaces []string
	added  int // of spaces, from the first on
	do     func(command, netns string, n int) error
}

// block returns a run of one command for the next namespace. What is to go came
// before.
func (p *plugged) block(command string) block {
	n := 0
	return func() (took float64, err error) {
		if n == len(p.spaces) {
			return 0, fmt.Errorf("cni: %d namespaces are not enough", n)
		}
		n++
		err = p.host.do(func() (err error) {
			if command == "DEL" && n > p.added {
				if err := p.do("ADD", p.spaces[n-1], n); err != nil {
					return err
				}
			}
			took, err = timed(func() error { return p.do(command, p.spaces[n-1], n) })
			return err
		})
		p.added = max(p.added, n)
		return took, err
	}
}

// plugin executes ours.
func (s *sealane) plugin(b *bench) func(string, string, int) error {
	return func(command, netns string, n int) error {
		in, err := json.Marshal(map[string]any{
			"cniVersion": "0.4.0", "name": network, "type": pluginName,
			"capabilities":  map[string]bool{"portMappings": true},
			"runtimeConfig": portMappings(pluggedPort+n, 80),
		})
		if err != nil {
			return err
		}
		cmd := exec.Command(filepath.Join(b.bin, pluginName))
		cmd.Stdin, cmd.Env = bytes.NewReader(in), cniEnv(command, netns)
		if out, err := cmd.Output(); err != nil {
			return fmt.Errorf("%s %s: %w: %s\n%s", pluginName, command, err, out, s.log.Bytes())
		}
		return nil
	}
}

// plugins executes the reference plugins: in the other order on the way out.
func (c *cni) plugins() func(string, string, int) error {
	results := map[string]json.RawMessage{}
	return func(command, netns string, n int) (err error) {
		if command == "ADD" {
			if results[netns], err = c.attach(netns); err != nil {
				return err
			}
			return c.publish(netns, results[netns], pluggedPort+n, 80)
		}
		if err := c.unpublish(netns, results[netns], pluggedPort+n, 80); err != nil {
			return err
		}
		return c.detach(netns)
	}
}
