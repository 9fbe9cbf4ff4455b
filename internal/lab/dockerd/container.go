package dockerd

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
)

// Import makes an image of files of the machine, which have to be static
// programs or all that they load: its path in the image → the file's path.
func (d *Daemon) Import(ctx context.Context, image string, files map[string]string) error {
	archive, err := pack(files)
	if err != nil {
		return fmt.Errorf("image %s: %w", image, err)
	}
	return d.Call(ctx, "POST", "/images/create?fromSrc=-&repo="+url.QueryEscape(image)+"&tag=latest", archive, nil)
}

// ImportEcho makes the image echo, whose only file is the lab-echo of our PATH.
func (d *Daemon) ImportEcho(ctx context.Context) error {
	echo, err := exec.LookPath("lab-echo")
	if err != nil {
		return fmt.Errorf("image echo: %w", err)
	}
	return d.Import(ctx, "echo", map[string]string{"lab-echo": echo})
}

func pack(files map[string]string) (*bytes.Buffer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		// Errors of a writer to memory show at the end.
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))})
		_, _ = w.Write(content)
	}
	return &b, w.Close()
}

// Container is what to run.
type Container struct {
	Name    string // two characters or more
	Image   string
	Cmd     []string
	Network string   // "" is Docker's default bridge
	Publish []string // PORT/PROTOCOL: the same port of host and container
	HostIP  string   // where published ports answer; "" is everywhere
}

// binding is one port of the host, in Docker's words.
type binding struct {
	HostIP   string `json:"HostIp,omitempty"`
	HostPort string
}

// request is the container in Docker's words.
func (c Container) request() any {
	exposed, bindings := map[string]struct{}{}, map[string][]binding{}
	for _, p := range c.Publish {
		exposed[p] = struct{}{}
		var port uint16
		_, _ = fmt.Sscanf(p, "%d/", &port) // Docker says what is wrong with it
		bindings[p] = []binding{{c.HostIP, fmt.Sprint(port)}}
	}
	network := c.Network
	if network == "" {
		network = "default"
	}
	return map[string]any{
		"Image": c.Image, "Cmd": c.Cmd, "ExposedPorts": exposed,
		"HostConfig": map[string]any{"PortBindings": bindings, "NetworkMode": network},
	}
}

// Run creates and starts a container, as docker run does.
func (d *Daemon) Run(ctx context.Context, c Container) error {
	err := d.Call(ctx, "POST", "/containers/create?name="+url.QueryEscape(c.Name), c.request(), nil)
	if err != nil {
		return err
	}
	return d.Call(ctx, "POST", "/containers/"+c.Name+"/start", nil, nil)
}

// Remove kills a container and removes it.
func (d *Daemon) Remove(ctx context.Context, name string) error {
	return d.Call(ctx, "DELETE", "/containers/"+name+"?force=true", nil, nil)
}

// Inspection is how a container is, as far as it is asked here.
type Inspection struct {
	State struct {
		Running bool
		Pid     int // in the host's pid namespace; its /proc has the namespaces
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

// Inspect says how a container is.
func (d *Daemon) Inspect(ctx context.Context, name string) (i Inspection, err error) {
	err = d.Call(ctx, "GET", "/containers/"+name+"/json", nil, &i)
	return i, err
}

// CreateNetwork makes a bridge network.
func (d *Daemon) CreateNetwork(ctx context.Context, name string, subnet netip.Prefix) error {
	return d.Call(ctx, "POST", "/networks/create", map[string]any{
		"Name": name, "Driver": "bridge", "CheckDuplicate": true,
		"IPAM": map[string]any{"Config": []map[string]string{{"Subnet": subnet.String()}}},
	}, nil)
}

// Connect puts a container on a network, as docker network connect does.
func (d *Daemon) Connect(ctx context.Context, network, container string) error {
	return d.Call(ctx, "POST", "/networks/"+network+"/connect", map[string]any{"Container": container}, nil)
}

// Disconnect takes a container off a network.
func (d *Daemon) Disconnect(ctx context.Context, network, container string) error {
	return d.Call(ctx, "POST", "/networks/"+network+"/disconnect", map[string]any{"Container": container}, nil)
}
