// Package podman is test-only: it furnishes a host of package lab, or another with
// an empty /run and /var/lib, for Debian's podman. What that stores ends with the
// host.
package podman

import "strings"

// Programs are what has to be installed, with spaces between them.
const Programs = "podman conmon runc"

// Furnish is a shell script that writes Podman's configuration, and makes an image
// echo whose only file is lab-echo. The hosts of the lab lack the controller for a
// limit of processes, and crun wants to set one of memory.
const Furnish = `set -e
mkdir -p /run/etc/up /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work overlay /etc
mkdir -p /etc/containers
cat >/etc/containers/containers.conf <<'END'
[network]
network_backend = "cni"
[containers]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >/etc/containers/policy.json
echo=$(command -v lab-echo)
tar -C $(dirname $echo) -c lab-echo | ` + Command + ` import - echo
`

// Command begins a command line: storage on overlays is not to be had in a host.
const Command = "podman --storage-driver vfs"

// Args returns the arguments of a command line, options before them.
func Args(args ...string) []string { return append(strings.Fields(Command)[1:], args...) }

// Containers is where a host has the list of containers.
const Containers = "/var/lib/containers/storage/vfs-containers/containers.json"
