package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
)

// cniDir is where Debian's containernetworking-plugins are.
const cniDir = "/usr/lib/cni"

// cni is a host without a daemon: a runtime that executes plugins.
type cni struct {
	*host
	masquerade bool
}

func newCNI(masquerade bool) (*cni, error) {
	h, err := newHost()
	if err != nil {
		return nil, err
	}
	return &cni{h, masquerade}, nil
}

// conf is the configuration of the bridge plugin, as in its documentation.
func (c *cni) conf() map[string]any {
	return map[string]any{
		"cniVersion": "0.4.0", "name": network, "type": "bridge", "bridge": "cni0",
		"isGateway": true, "ipMasq": c.masquerade,
		"ipam": map[string]any{
			"type": "host-local", "ranges": [][]map[string]string{{{"subnet": "10.88.0.0/16"}}},
			"routes": []map[string]string{{"dst": "0.0.0.0/0"}},
		},
	}
}

// attach executes ADD and returns its result.
func (c *cni) attach(netns string) (json.RawMessage, error) {
	return c.exec("ADD", netns, c.conf())
}

func (c *cni) detach(netns string) error {
	_, err := c.exec("DEL", netns, c.conf())
	return err
}

// exec executes a plugin. The caller is inside the host.
func (c *cni) exec(command, netns string, conf map[string]any) (json.RawMessage, error) {
	in, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(cniDir, conf["type"].(string)))
	cmd.Stdin = bytes.NewReader(in)
	cmd.Env = cniEnv(command, netns)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cni %s %s: %w: %s", conf["type"], command, err, out)
	}
	return out, nil
}

// cniEnv is what a runtime tells a plugin.
func cniEnv(command, netns string) []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CNI_COMMAND=" + command, "CNI_NETNS=" + netns,
		"CNI_CONTAINERID=" + filepath.Base(netns), "CNI_IFNAME=eth0", "CNI_PATH=" + cniDir}
}

// publish executes ADD of the portmap plugin for one port of a namespace that
// bridge has attached.
func (c *cni) publish(netns string, result json.RawMessage, hostPort, port int) error {
	_, err := c.exec("ADD", netns, c.portmap(result, hostPort, port))
	return err
}

func (c *cni) unpublish(netns string, result json.RawMessage, hostPort, port int) error {
	_, err := c.exec("DEL", netns, c.portmap(result, hostPort, port))
	return err
}

func (c *cni) portmap(result json.RawMessage, hostPort, port int) map[string]any {
	return map[string]any{
		"cniVersion": "0.4.0", "name": network, "type": "portmap", "prevResult": result,
		"capabilities":  map[string]bool{"portMappings": true},
		"runtimeConfig": portMappings(hostPort, port),
	}
}

// portMappings is what a runtime says of one published port.
func portMappings(hostPort, port int) map[string]any {
	return map[string]any{"portMappings": []map[string]any{{"hostPort": hostPort, "containerPort": port, "protocol": "tcp"}}}
}
