package runtime

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"
)

// Config says where the runtimes of this host are. What is empty is where they
// are by default, or where their own configuration says.
type Config struct {
	Docker          string   // where dockerd answers; DOCKER_HOST, or unix:///run/docker.sock
	PodmanStorage   string   // graphroot of storage.conf; /var/lib/containers/storage
	PodmanRun       string   // runroot of storage.conf; /run/containers/storage
	Containerd      string   // containerd's socket; /run/containerd/containerd.sock
	ContainerdState string   // its state directory; /run/containerd
	LXC             []string // directories with one per container; lxc.lxcpath of lxc.conf or /var/lib/lxc, and those of Incus and LXD
	Cgroup          []string // where cgroups are mounted; /sys/fs/cgroup and, for version 1, those in it that LXC always uses
	Machines        string   // what systemd-machined knows; /run/systemd/machines
	Images          string   // images of machines; /var/lib/machines
	NSpawn          []string // .nspawn files; /etc/systemd/nspawn, /run/systemd/nspawn
}

func (c *Config) fill() {
	c.Docker = cmp.Or(c.Docker, os.Getenv("DOCKER_HOST"), "unix:///run/docker.sock")
	storage := func(key string) string {
		return cmp.Or(configured("/etc/containers/storage.conf", key), configured("/usr/share/containers/storage.conf", key))
	}
	c.PodmanStorage = cmp.Or(c.PodmanStorage, storage("graphroot"), "/var/lib/containers/storage")
	c.PodmanRun = cmp.Or(c.PodmanRun, storage("runroot"), "/run/containers/storage")
	c.Containerd = cmp.Or(c.Containerd, "/run/containerd/containerd.sock")
	c.ContainerdState = cmp.Or(c.ContainerdState, "/run/containerd")
	c.Machines = cmp.Or(c.Machines, "/run/systemd/machines")
	c.Images = cmp.Or(c.Images, "/var/lib/machines")
	if c.Cgroup == nil {
		c.Cgroup = []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/devices"}
	}
	if c.LXC == nil {
		path := cmp.Or(configured("/etc/lxc/lxc.conf", "lxc.lxcpath"), "/var/lib/lxc")
		c.LXC = []string{path, "/var/lib/incus/containers", "/var/lib/lxd/containers", "/var/snap/lxd/common/lxd/containers"}
	}
	if c.NSpawn == nil {
		c.NSpawn = []string{"/etc/systemd/nspawn", "/run/systemd/nspawn"}
	}
}

// configured returns the path that a runtime's configuration has for a key.
func configured(file, key string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return "" // it need not be there
	}
	return pathOf(data, key)
}

// pathOf returns the absolute path of the first line KEY = PATH, in quotation marks
// or not, and nothing if there is none.
func pathOf(config []byte, key string) string {
	for line := range bytes.Lines(config) {
		name, value, ok := strings.Cut(string(line), "=")
		if !ok || strings.TrimSpace(name) != key {
			continue
		}
		value, _, _ = strings.Cut(value, "#")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		if filepath.IsAbs(value) {
			return filepath.Clean(value)
		}
		return ""
	}
	return ""
}
